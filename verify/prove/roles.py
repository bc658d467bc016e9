"""The parts that tasks can play for the tracked CPU, with control graphs contracted to what is followed.

*holder*: a task between taking and releasing pcp_batch_high_lock; *section*: a task with interrupts off on the CPU;
*worker*: the CPU's drain worker, sections included; *other*: any task that plays none of these parts.  A holder that
turns interrupts off on the CPU plays two parts at once; they are followed apart, each as if the other were somebody
else's, which allows more runs and never fewer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from kernelmodel.cells import CELLS, mutex_owner, stops_on, stops_others
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.graphs.ways import told
from kernelmodel.ops import Op
from kernelmodel.terms import ME, Cell, Sort, Term, atoms, reg, replaced, show, substitute
from properties.lemmas import LOCK
from verify.prove.population import Kind, Text

#: targets that leave a part: it is over; the task has returned in the midst of it
OVER, RETURNED_INSIDE = -1, -2
ENDS = (OVER, RETURNED_INSIDE)

Edges = list[tuple[tuple[Term, ...], int]]


class ProjectionError(Exception):
    """What a kernel does cannot be followed from one CPU: nothing is proved of it."""


@dataclass(slots=True, eq=False)
class Step:
    """An operation of a task that plays a part: its registers carry the name of the kind of task.

    ``uid`` tells which step of a :class:`Program` it is, and nothing else.
    """

    uid: int
    node: int
    kind: Kind
    op: Op
    stack: tuple[str, ...]
    locks: frozenset[str]
    irqs_off: bool
    edges: Edges = field(default_factory=list)
    #: the task is in its critical section of the tracked pcplist
    inside: bool = False

    text: str = ""

    @property
    def prefix(self) -> str:
        """What the names of its registers begin with."""
        return f"{self.kind.name}/{self.node}"

    @property
    def returned(self) -> list[str]:
        """The registers that hold what the operation returned."""
        return [f"{self.prefix}.{i}" for i in range(len(self.op.returns))]

    @property
    def name(self) -> str:
        """Kind of task and call stack, for people."""
        calls = " > ".join(f"{s}()" for s in self.stack)
        return ": ".join(part for part in (self.kind.name, calls, self.text) if part)


def hangs(op: Op) -> bool:
    """Whether a task never gets past the operation."""
    return op.guard.op == "const" and not op.guard.args[0]


class Program:
    """All operations of all kinds of tasks, with the mutexes that are held before each."""

    def __init__(self, texts: Iterable[Text], section: Cell | None = None) -> None:
        """``section``: the lock of the tracked pcplist; where there is none, interrupts off on its CPU are what guards it."""
        texts = list(texts)
        self.section = section
        #: the number of each step, by text and node: from 1 on, for Z3, in which 0 is nobody and ends are negative
        self._uids: dict[tuple[int, int], int] = {}
        for number, text in enumerate(texts):
            for node in text.graph.kept:
                self._uids[number, node.number] = 1 + len(self._uids)
        self.steps: dict[int, Step] = {}
        self.entries: list[int] = []
        self.defined_by: dict[str, tuple[Step, Term]] = {}
        self.inputs: dict[str, tuple[int, int]] = {}
        for number, text in enumerate(texts):
            self._add(number, text)

    def uid(self, number: int, node: int) -> int:
        """The step of a node of the ``number``-th text."""
        return self._uids[number, node]

    def _add(self, number: int, text: Text) -> None:
        named = _with_kind(text.kind.name)
        self.inputs |= {f"{text.kind.name}/{n}": r for n, r in text.kind.inputs.items()}

        def target(location: int) -> int:
            if location == RETURNED:
                return OVER
            nodes = text.graph.locations[location]
            if len(nodes) != 1:
                raise ProjectionError(f"{text.kind.name}: a step that may be on several CPUs")
            return self.uid(number, nodes[0])

        def renamed(edges: Iterable[tuple[tuple[Term, ...], int]]) -> Edges:
            return [(tuple(map(named, conditions)), target(t)) for conditions, t in edges]

        locks = locksets(text)
        inside = insides(text, self.section) if self.section else frozenset()
        for node in text.graph.kept:
            op = _renamed(node.op, named)
            step = Step(self.uid(number, node.number), node.number, text.kind, op, node.stack,
                        locks.get(node.number, frozenset()), node.irqs_off, renamed(node.edges),
                        inside=node.number in inside)  # fmt: skip
            self.steps[step.uid] = step
            self.defined_by |= {name: (step, t) for name, t in zip(step.returned, op.returns, strict=True)}
        self.entries += [t for _, t in renamed(text.graph.entry)]
        for step in self.steps.values():
            step.text = step.text or self._shown(step)

    def _shown(self, step: Step) -> str:
        """The text of an operation, its CPU called c, with what its values were read from."""
        cpu = step.kind.cpu
        text = step.op.text.replace(f"[{cpu}]", "[c]").replace(f"cpu {cpu}", "cpu c").replace(f"on({cpu},", "on(c,")
        names = {n: t for n in registers(step.op.shown) if (t := self.defined_by.get(n, (None, None))[1]) is not None}
        values = []
        for term in (substitute(t, names) for t in step.op.shown):
            looked = cells([term])
            said = show(term)
            for c in sorted(looked, key=str):
                said = said.replace(str(c), CELLS[c.name].in_c(c.name, c.index).replace(f"[{cpu}]", "[c]"))
            # a number of pages that are on lists says nothing before they are taken
            values.append("n" if any(CELLS[c.name].where == "pcplist" for c in looked) else said)
        return text.format(*values) if values else text

    def of(self, wanted: Callable[[Step], bool]) -> dict[int, Step]:
        """The steps for which ``wanted`` holds."""
        return {u: s for u, s in self.steps.items() if wanted(s)}


def _with_kind(kind: str) -> Callable[[Term], Term]:
    """What gives the registers of a term the name of their kind of task; ``me`` stays."""

    def leaf(term: Term) -> Term:
        if term.op != "reg" or term.args[0] == "me":
            return term
        return reg(f"{kind}/{term.args[0]}", term.sort)

    return functools.partial(replaced, leaf=leaf)


def _renamed(op: Op, named: Callable[[Term], Term]) -> Op:
    def new(terms: Iterable[Term]) -> tuple[Term, ...]:
        return tuple(map(named, terms))

    return Op(
        op.text, op.kind, named(op.guard), tuple((c, named(t)) for c, t in op.updates),
        new(op.returns), op.choices, named(op.where), shown=new(op.shown), must=op.must, does=op.does,
        told=op.told, tag=op.tag,
        info=op.info,
    )  # fmt: skip


def locksets(text: Text) -> dict[int, frozenset[str]]:
    """The mutexes that a task surely holds at each node; that it does is checked as part of the proof."""
    found: dict[int, frozenset[str]] = {}
    nodes = {n.number: n for n in text.graph.kept}
    queue: list[tuple[int, frozenset[str]]] = []

    def go(edges: Iterable[tuple[tuple[Term, ...], int]], after: Callable[[tuple[Term, ...]], frozenset[str]]) -> None:
        for conditions, location in edges:
            if location != RETURNED:
                queue.extend((n, after(conditions)) for n in text.graph.locations[location])

    go(text.graph.entry, lambda _: frozenset())
    while queue:
        number, locks = queue.pop()
        new = found[number] & locks if number in found else locks
        if found.get(number) != new:
            found[number] = new
            node = nodes[number]
            go(node.edges, lambda conditions, node=node, new=new: _after(node, new, conditions))  # type: ignore[misc]
    return found


def insides(text: Text, lock: Cell) -> frozenset[int]:
    """The nodes at which a task holds a spinlock; ProjectionError where that depends on how it has come there."""
    found: dict[int, bool] = {}
    nodes = {n.number: n for n in text.graph.kept}
    queue = [
        (n, False)
        for conditions, location in text.graph.entry
        if location != RETURNED
        for n in text.graph.locations[location]
    ]
    while queue:
        number, held = queue.pop()
        if number in found:
            if found[number] != held:
                raise ProjectionError(f"{text.kind.name}: {nodes[number].op.text} is done with and without the lock")
            continue
        found[number] = held
        node = nodes[number]
        does = node.op.does
        for conditions, location in node.edges:
            after = held
            if does.releases == lock:
                after = False
            elif does.acquires == lock:
                after = not does.tries or _got(node, conditions)
            if location != RETURNED:
                queue += [(n, after) for n in text.graph.locations[location]]
            elif after:
                raise ProjectionError(f"{text.kind.name}: returns with the lock of a pcplist")
    return frozenset(n for n, held in found.items() if held)


def _got(node: FoldedNode, conditions: tuple[Term, ...]) -> bool:
    """Whether a try has been successful where an edge goes on."""
    got = told(f"{node.number}.0", conditions)
    if got is None:
        raise ProjectionError(f"{node.op.text}: what follows does not tell whether it was successful")
    return got


def _after(node: FoldedNode, locks: frozenset[str], conditions: tuple[Term, ...]) -> frozenset[str]:
    for cell, term in node.op.updates:
        if not CELLS[cell.name].sleeps:
            continue
        mutex = str(cell.index[0])
        if term.op == "const":
            locks -= {mutex}
        elif term.key == ME.key or (term.op == "ite" and _succeeded(node, term.args[0], conditions)):
            locks |= {mutex}
    return locks


def _succeeded(node: FoldedNode, condition: Term, conditions: tuple[Term, ...]) -> bool:
    """Whether a branch is the one on which a trylock, which returns ``condition``, has been successful."""
    returned = [i for i, t in enumerate(node.op.returns) if t.key == condition.key]
    return any(told(f"{node.number}.{i}", conditions) for i in returned)


def registers(terms: Iterable[Term]) -> dict[str, Sort]:
    """The registers in some terms, with their sorts; not the task itself."""
    return {a.args[0]: a.sort for t in terms for a in atoms(t, "reg") if a.args[0] != "me"}


def cells(terms: Iterable[Term]) -> set[Cell]:
    """The cells in some terms."""
    return {a.args[0] for t in terms for a in atoms(t, "cell")}


class Part:
    """The steps of one part, contracted: silent steps are passed over, what they decide is open."""

    def __init__(self, program: Program, inside: Mapping[int, Step], followed: Collection[Cell],
                 passed: Callable[[Step], bool] = lambda _: False,
                 judged: Callable[[Op], bool] = lambda _: False) -> None:  # fmt: skip
        """``inside``: the steps at which the part is being played; ``passed``: those of them that are another part's.

        ``judged``: operations that are kept whatever they touch.
        """
        self.program, self.inside, self.followed, self.judged = program, inside, followed, judged
        self.visible, self.needed = self._visible(passed)
        self.steps: dict[int, Step] = {}
        for uid in self.visible:
            s = program.steps[uid]
            self.steps[uid] = replace(s, edges=self.closure(s))

    def _visible(self, passed: Callable[[Step], bool]) -> tuple[set[int], dict[str, Sort]]:
        mine = {u: s for u, s in self.inside.items() if not passed(s)}
        visible = {u for u, s in mine.items() if self._touches(s.op)}
        while True:
            needed: dict[str, Sort] = {}
            for u in visible:
                op = mine[u].op
                needed |= registers([t for c, t in op.updates if c in self.followed])
                needed |= registers([op.guard, op.where, *op.returns])
            defines = {name: u for u, s in mine.items() for name in s.returned}
            for s in self.inside.values():
                for conditions, _ in s.edges:
                    for c in conditions:
                        names = registers([c])
                        if names and all(n in needed or defines.get(n) in visible for n in names):
                            needed |= names
            new = visible | {defines[n] for n in needed if n in defines}
            if new == visible:
                return visible, needed
            visible = new

    def _touches(self, op: Op) -> bool:
        if any(c in self.followed for c, _ in op.updates) or cells([op.guard, *op.returns]) & set(self.followed):
            return True
        return hangs(op) or self.judged(op)

    def closure(self, step: Step) -> Edges:
        """The ways from a step to the next visible ones, with the conditions that are known."""
        found: dict[tuple[frozenset[object], int], tuple[tuple[Term, ...], int]] = {}
        seen: set[tuple[frozenset[object], int]] = set()
        queue: list[tuple[tuple[Term, ...], int]] = list(step.edges)
        while queue:
            conditions, target = queue.pop()
            kept = {c.key: c for c in conditions if all(n in self.needed for n in registers([c]))}
            key = (frozenset(kept), target)
            if key in seen:
                continue
            seen.add(key)
            known = tuple(kept.values())
            if target == OVER and self.inside and step.uid in self.inside and not self._ends(step):
                found[key] = (known, RETURNED_INSIDE)
            elif target not in self.inside:
                found[key] = (known, OVER)
            elif target in self.visible:
                found[key] = (known, target)
            else:
                queue += [((*known, *more), t) for more, t in self.inside[target].edges]
        ways = sorted(found.values(), key=lambda e: (e[1], [show(c) for c in e[0]]))
        if len(ways) > 1:
            # to hang is to stop, which a task may do anywhere; only a hang that something followed decides says more
            goes_on = {frozenset(c.key for c in e[0]) for e in ways if not self._hangs_at(e[1])}
            ways = [
                e
                for e in ways
                if not self._hangs_at(e[1]) or frozenset(c.key for c in e[0]) not in goes_on | {frozenset()}
            ]
        return ways

    def _hangs_at(self, uid: int) -> bool:
        return uid in self.inside and hangs(self.inside[uid].op)

    def _ends(self, step: Step) -> bool:
        """Whether the step itself ends the part, so that to return right after it is in order."""
        return any(
            (c == mutex_owner(LOCK) and t.op == "const") or stops_others(c) or c == self.program.section
            for c, t in step.op.updates
        )  # fmt: skip

    def reachable(self, first: Iterable[int]) -> dict[int, Step]:
        """The visible steps that can be reached from some."""
        found: dict[int, Step] = {}
        queue = [u for u in first if u in self.steps]
        while queue:
            u = queue.pop()
            if u not in found:
                found[u] = self.steps[u]
                queue += [t for _, t in self.steps[u].edges if t in self.steps]
        return dict(sorted(found.items()))


def entries(program: Program, cpu: int) -> Iterator[Step]:
    """The steps after which a task has a CPU for itself, or the pcplist's lock; not the worker's, nor the lock holder's own."""
    for s in program.steps.values():
        if program.section is not None:
            if s.op.does.acquires == program.section and LOCK not in s.locks:
                yield s
            continue
        if stops_on(s.op.does.acquires, cpu) and not s.kind.worker:
            yield s
