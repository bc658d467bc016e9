"""What the text of the holder says: equalities between cells, registers and constants at each of its steps.

The text is followed from the moment at which pcp_batch_high_lock is taken; where ways meet, what holds on all of them
is kept, apart for each value of the holder's ghosts and of cpu_online.  Nothing here is trusted: the equalities become lemmas,
and the solver checks them at every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kernelmodel.ops import Op
from kernelmodel.terms import ME, Cell, Term, atoms, const, lnot, load, rebuild, reg
from properties.lemmas import LOCK
from verify.prove.roles import OVER, RETURNED_INSIDE, Step, cells

#: a cell, a register's name, a constant, the task itself, or the key of a number that is computed from registers
Item = tuple[str, object]

ME_ITEM: Item = ("me", 0)
#: the terms of items that are computed, by their key
_computed: dict[object, Term] = {}


class Facts:
    """An equivalence relation on items; unknown items are equal to nothing but themselves."""

    def __init__(self, classes: Mapping[Item, int] | None = None, fresh: int = 0) -> None:
        self.classes = dict(classes or {})
        self.fresh = fresh

    def copy(self) -> Facts:
        """An independent copy."""
        return Facts(self.classes, self.fresh)

    def class_of(self, item: Item) -> int:
        """The class of an item, a new one if nothing is known of it."""
        if item not in self.classes:
            self.fresh += 1
            self.classes[item] = self.fresh
        return self.classes[item]

    def merge(self, a: Item, b: Item) -> bool:
        """Note that two items are equal; false if they cannot be."""
        x, y = self.class_of(a), self.class_of(b)
        if x != y:
            for item, k in self.classes.items():
                if k == y:
                    self.classes[item] = x
        return self._consistent(x)

    def _consistent(self, k: int) -> bool:
        known = {i for i, n in self.classes.items() if n == k and i[0] in ("const", "me")}
        return len(known) <= 1

    def assign(self, target: Item, class_: int | None) -> None:
        """``target`` gets a new value: that of a class, or an unknown one."""
        self.fresh += 1
        self.classes[target] = self.fresh if class_ is None else class_

    def forget(self, wanted: Callable[[Item], bool]) -> None:
        """Drop items."""
        self.classes = {i: k for i, k in self.classes.items() if not wanted(i)}

    def constant(self, item: Item) -> Term | None:
        """The constant that an item is known to equal."""
        k = self.classes.get(item)
        found = [i for i, n in self.classes.items() if n == k and i[0] in ("const", "me")]
        if k is None or not found:
            return None
        return ME if found[0] == ME_ITEM else const(found[0][1][1])  # type: ignore[index]

    def simplified(self, term: Term) -> Term:
        """``term`` with what is known put in."""
        item = item_of(term)
        if item is not None:
            known = self.constant(item)
            return term if known is None else known
        if term.op == "==":
            a, b = (item_of(t) for t in term.args)
            if a is not None and b is not None and self.class_of(a) == self.class_of(b):
                return const(True)
        if term.op == "choice":
            return term
        new = rebuild(term, [self.simplified(a) for a in term.args])
        if new.op == "==":
            a, b = (item_of(t) for t in new.args)
            if a is not None and a == b:
                return const(True)
            if {a, b} == {ME_ITEM, constant(0)}:
                return const(False)
        return new

    def value(self, term: Term) -> int | None:
        """The class of a term's value, if it is that of an item."""
        simple = self.simplified(term)
        item = item_of(simple) or computed_item(simple)
        return None if item is None else self.class_of(item)

    def changes(self, registers: Collection[str]) -> None:
        """What was computed from registers that now get a new value is computed from them no more."""
        self.forget(lambda i: i[0] == "computed" and any(a.args[0] in registers for a in atoms(_computed[i[1]], "reg")))

    def meet(self, other: Facts) -> Facts:
        """What both know."""
        pairs = {i: (k, other.classes[i]) for i, k in self.classes.items() if i in other.classes}
        numbers = {p: n for n, p in enumerate(sorted(set(pairs.values())), 1)}
        return Facts({i: numbers[p] for i, p in pairs.items()}, len(numbers))

    def groups(self) -> frozenset[frozenset[Item]]:
        """The classes, as sets of items."""
        by: dict[int, set[Item]] = {}
        for i, k in self.classes.items():
            by.setdefault(k, set()).add(i)
        return frozenset(frozenset(g) for g in by.values())


def item_of(term: Term) -> Item | None:
    """The item that a term is, if it is one."""
    if term.key == ME.key:
        return ME_ITEM
    if term.op == "const":
        return constant(term.args[0])
    if term.op in ("cell", "reg"):
        return (term.op, term.args[0])
    return None


def computed_item(term: Term) -> Item | None:
    """The item of a number that is computed from registers only; None for another term."""
    if term.sort != "int" or atoms(term, "cell") or atoms(term, "choice") or not atoms(term, "reg"):
        return None
    _computed[term.key] = term
    return ("computed", term.key)


def registers_in(item: Item) -> set[str]:
    """The registers of a computed item."""
    return {str(a.args[0]) for a in atoms(_computed[item[1]], "reg")}


def constant(value: int | bool) -> Item:
    """The item of a constant: True is not 1."""
    return ("const", ("bool" if isinstance(value, bool) else "int", value))


def term_of(item: Item, sort: Callable[[Item], str]) -> Term:
    """The item as a term."""
    if item == ME_ITEM:
        return ME
    if item[0] == "const":
        return const(item[1][1])  # type: ignore[index]
    if item[0] == "computed":
        return _computed[item[1]]
    if item[0] == "cell":
        assert isinstance(item[1], Cell)
        return load(item[1], sort(item))  # type: ignore[arg-type]
    return reg(str(item[1]), sort(item))  # type: ignore[arg-type]


#: what tells apart facts at the same step: the values of the ghosts and of the cells that split
Split = tuple[int | bool | None, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What of the holder's world is tracked: protected cells with their mutexes, constants, ghosts."""

    protected: Mapping[Cell, str]
    constant: Sequence[Cell]
    ghosts: Mapping[str, Callable[[Step], Term | None]]
    at_lock: Sequence[tuple[Item, Item]]
    #: ghosts that are true where the holder leaves its section of the pcplist for good while the limits are closed
    after_section: Collection[str] = ()
    closed: Mapping[Cell, int] = field(default_factory=dict)
    leaves: Callable[[Step], bool] = lambda _: False
    enters: Callable[[Op], bool] = lambda _: False


def holder_facts(
    steps: Mapping[int, Step], entries: Iterable[tuple[int, frozenset[str]]], setting: Setting
) -> dict[int, dict[Split, Facts]]:
    """The facts at each step of the holder, for each split; ``entries`` are first steps with the mutexes held there."""
    start = Facts()
    for a, b in setting.at_lock:
        start.merge(a, b)
    for c in setting.constant:
        start.class_of(("cell", c))
    known: dict[int, dict[Split, Facts]] = {}
    queue: list[tuple[int, Facts]] = [(uid, start.copy()) for uid, _ in entries]
    while queue:
        uid, facts = queue.pop()
        if uid not in steps and uid != RETURNED_INSIDE:
            continue
        split = _split(facts, setting)
        before = known.setdefault(uid, {}).get(split)
        new = facts if before is None else before.meet(facts)
        if before is not None and new.groups() == before.groups():
            continue
        known[uid][split] = new
        if uid in steps:
            queue += [(t, f) for t, f in _after(steps[uid], new, setting, steps) if t != OVER]
    return known


def _split(facts: Facts, setting: Setting) -> Split:
    items: list[Item] = [("reg", g) for g in setting.ghosts] + [("cell", c) for c in setting.constant]
    found = []
    for item in items:
        value = facts.constant(item)
        found.append(None if value is None else value.args[0])
    return tuple(found)


def _after(step: Step, facts: Facts, setting: Setting, steps: Mapping[int, Step]) -> list[tuple[int, Facts]]:
    result = []
    op = step.op
    for conditions, target in step.edges:
        tracked = {*setting.protected, *setting.constant}
        returned = [
            (name, facts.value(t) if cells([t]) <= tracked else None)
            for name, t in zip(step.returned, op.returns, strict=True)
        ]
        written = [(c, facts.value(t)) for c, t in op.updates if c in setting.protected]
        ghosts = [(g, facts.value(t)) for g, becomes in setting.ghosts.items() if (t := becomes(step)) is not None]
        new = facts.copy()
        new.changes({name for name, _ in (*returned, *ghosts)})
        for name, class_ in returned:
            new.assign(("reg", name), class_)
        for cell, class_ in written:
            new.assign(("cell", cell), class_)
        for name, class_ in ghosts:
            new.assign(("reg", name), class_)
        if setting.leaves(step) and _for_good(facts, target, setting, steps):
            for name in setting.after_section:
                new.assign(("reg", name), new.class_of(constant(True)))
        if target != OVER:
            held = steps[target].locks if target in steps else {LOCK}
            lost = {c for c, m in setting.protected.items() if m not in held}
            new.forget(lambda i, lost=lost: i[0] == "cell" and i[1] in lost)  # type: ignore[misc]
        if all(_refine(new, c) for c in conditions):
            result.append((target, new))
    return result


def _for_good(facts: Facts, target: int, setting: Setting, steps: Mapping[int, Step]) -> bool:
    """Whether a section of the holder is not begun again where it goes on, and the limits are closed."""
    closed = all((v := facts.constant(("cell", c))) is not None and v.args[0] == x for c, x in setting.closed.items())
    return closed and not (target in steps and setting.enters(steps[target].op))


def _refine(facts: Facts, condition: Term) -> bool:
    """Put in what a condition says; false if it cannot be true."""
    term = facts.simplified(condition)
    if term.op == "const":
        return bool(term.args[0])
    positive = term.op != "not"
    inner = term if positive else term.args[0]
    item = item_of(inner)
    if item is not None and inner.sort == "bool":
        return facts.merge(item, constant(positive))
    if positive and inner.op == "==":
        a, b = (item_of(t) or computed_item(t) for t in inner.args)
        if a is not None and b is not None:
            return facts.merge(a, b)
    if positive and inner.op == "and":
        return all(_refine(facts, t) for t in inner.args)
    return lnot(inner).key != const(True).key
