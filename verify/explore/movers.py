"""Which operations need no interleaving: Lipton's left movers, derived from what operations read, write and wait for.

A task that comes to an operation A may perform it at once, before anybody else moves, if A commutes to the left of
everything that the others can do before it: whoever performs B and then A could have performed A and then B, with the
same state after both, the same outcome of B, and no violation lost.  (Lipton 1975; as a persistent set of one task,
Godefroid 1996.)  Three things make the analysis precise enough:

- *facts*: values of cells that hold whenever a task is at a location and that no other task can change then, such as
  "irqs_off[c] is me" in a section with interrupts off, or "the mutex is mine".  Two tasks whose facts contradict each
  other are never at these locations together.  Locks are not named here: they are cells with guards like any other.
- *conditions*: where A commutes only if a cell has a certain value when A fires (no work is pending), the value is
  looked at in each state, and A waits its turn like any other operation where it is different.
- *preservation* instead of invisibility: an operation that can make a violation true, but never false again, may move;
  only whether one is reached matters here, and the order that is kept is one that the text allows as well.

Operations to which a loop comes back never move, so nobody is held up for ever.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kernelmodel.cells import CELLS
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.terms import Cell, Term, atoms, evaluate, substitute_cells
from verify.explore.facts import Known
from verify.explore.footprints import ASSUMED_ZERO, Facts, Footprint
from verify.explore.model import COUNTS, Model, TaskModel, cells_in
from verify.explore.moving import Condition
from verify.explore.values import Values, conjuncts, possible

#: more combinations of values than this are not tried: the operations then count as dependent
_MOST_COMBINATIONS = 4000


class Movers(Known):
    """For each location of each task: whether the task goes on at once there, and on what condition."""

    def __init__(self, model: Model, assumed_zero: Iterable[str] = ASSUMED_ZERO, only_facts: bool = False) -> None:
        """Analyse a model; ``only_facts``: nothing moves, but the facts are there."""
        super().__init__(model, assumed_zero)
        self._unchanged: dict[Any, bool] = {}
        self._right: dict[tuple[int, int, int], bool] = {}
        self._opposed: dict[tuple[int, int, int], list[tuple[Cell, int]]] = {}
        violations = [
            [self._closed(p, None) for p in conjuncts(c.check.violation)]
            for c in model.state_checks
            if not c.rest and self._closed(c.check.violation, None).op != "const"
        ]
        self._violations = [(parts, cells_in(parts)) for parts in violations]
        self.conditions: dict[tuple[int, int], Condition] = {}
        if only_facts:
            return
        for task in model.tasks:
            for location in range(len(task.graph.locations)):
                found = self._moves(task, location)
                if found is not None:
                    self.conditions[task.number, location] = found
            for location in self._circles(task):
                self.conditions.pop((task.number, location), None)

    def right(self, task: TaskModel, location: int, which: int) -> bool:
        """Whether an operation of a location moves to the right of all that the others can do after it."""
        return self._moves_right(self.at[task.number, location][which])

    def only_looks(self, task: TaskModel, location: int, which: int) -> bool:
        """Whether an operation changes no cell."""
        return not self.at[task.number, location][which].writes

    def may_be_right(self, task: TaskModel, node: FoldedNode) -> bool:
        """Whether an operation moves to the right at any of its locations."""
        return any(self._moves_right(f) for f in self._of_node[task.number, node.number])

    def _moves_right(self, f: Footprint) -> bool:
        key = (f.task.number, f.location, f.node.number)
        if key not in self._right:
            self._right[key] = self._is_right(f)
        return self._right[key]

    def _is_right(self, f: Footprint) -> bool:
        before = {**self.facts[f.task.number][f.location], **f.needs}
        if not self._preserves(f, before, True):
            return False
        touched = {g for c in f.writes for g in (*self.readers.get(c, ()), *self.writers.get(c, ()))}
        touched |= {g for c in f.watches for g in self.writers.get(c, ())}
        suspects = [g for g in touched if g.task is not f.task]
        for _, target in f.node.edges:
            after = {} if target == RETURNED else self.facts[f.task.number][target]
            if any(self._together(after, g) and self._depends(f, g, before, True) for g in suspects):
                return False
        return True

    # --- operations ---

    # --- movers ---

    def _moves(self, task: TaskModel, location: int) -> Condition | None:
        """The condition on which all operations of a location move to the left; None if there is none."""
        conditions: Facts = {}
        away: dict[int, set[int]] = {}
        for f in self.at[task.number, location]:
            if not self._move(f, conditions, away):
                return None
        tasks = {t.number: t for t in self.model.tasks}
        return Condition(
            tuple(sorted(conditions.items())), tuple((tasks[n], frozenset(bad)) for n, bad in sorted(away.items()))
        )

    def _move(self, f: Footprint, conditions: Facts, away: dict[int, set[int]]) -> bool:
        mine = self.facts[f.task.number][f.location]
        touched = {g for c in f.writes for g in (*self.readers.get(c, ()), *self.writers.get(c, ()))}
        touched |= {g for c in f.watches for g in self.writers.get(c, ())}
        suspects = [g for g in touched if g.task is not f.task]
        suspects.sort(key=lambda g: (g.task.number, g.location, g.node.number))
        while True:
            given = {**mine, **f.needs, **conditions}
            given = self._lasting(f, given, mine)
            clash = next(
                (
                    g
                    for g in suspects
                    if g.location not in away.get(g.task.number, ())
                    and self._together(given, g)
                    and self._depends(f, g, given)
                ),
                None,
            )
            if clash is None:
                return self._preserves(f, {**mine, **f.needs, **conditions})
            more = self._ruled_out(f, clash, given, mine, conditions)
            if more is not None:
                conditions.update(more)
                continue
            if not clash.task.spec.kind.few:
                return False
            number = clash.task.number
            bad = self._leads_to(clash.task, {clash.location, *away.get(number, ())}, given)
            if not self._elsewhere(clash.task, bad, given):
                return False
            away[number] = bad

    def _leads_to(self, task: TaskModel, goal: set[int], given: Facts) -> set[int]:
        """The locations from which the task can come to one of ``goal`` while ``given`` holds."""
        bad = set(goal)
        todo = list(goal)
        while todo:
            for location, g in self._before.get((task.number, todo.pop()), ()):
                if location not in bad and self._together(given, g):
                    bad.add(location)
                    todo.append(location)
        return bad

    def _elsewhere(self, task: TaskModel, bad: set[int], given: Facts) -> bool:
        """Whether the task can be at another location than ``bad`` while ``given`` holds, before it returns."""
        facts = self.facts[task.number]
        return any(
            location not in bad and all(given.get(c, v) == v for c, v in facts[location].items())
            for location in range(len(task.graph.locations))
        )

    def _circles(self, task: TaskModel) -> set[int]:
        """Locations at which a task must stop, or it would go round a loop for ever without letting others go on."""
        going_on: dict[int, list[int]] = {}
        for location in range(len(task.graph.locations)):
            for f in self.at[task.number, location]:
                for _, target in f.node.edges:
                    if target != RETURNED and (
                        (task.number, target) in self.conditions or self._moves_right(f)
                    ):  # fmt: skip
                        going_on.setdefault(location, []).append(target)
        heads: set[int] = set()
        state: dict[int, int] = {}
        for start in range(len(task.graph.locations)):
            if start in state:
                continue
            state[start] = 1
            stack = [(start, iter(going_on.get(start, ())))]
            while stack:
                location, targets = stack[-1]
                target = next(targets, RETURNED)
                if target == RETURNED:
                    state[location] = 2
                    stack.pop()
                elif state.get(target) == 1:
                    heads.add(target)
                    for f in self.at[task.number, location]:
                        self._right[f.task.number, f.location, f.node.number] = False
                elif target not in state:
                    state[target] = 1
                    stack.append((target, iter(going_on.get(target, ()))))
        return heads

    def _lasting(self, f: Footprint, given: Facts, mine: Facts) -> Facts:
        """The part of ``given`` that nobody else can change before the task moves on."""
        lasting = dict(given)
        while True:
            gone = [
                c
                for c, v in lasting.items()
                if c not in mine
                and any(
                    g.task is not f.task and self._changes(g, c, v) and self._together(lasting, g)
                    for g in self.writers.get(c, ())
                )
            ]
            if not gone:
                return lasting
            for c in gone:
                del lasting[c]

    def _together(self, given: Facts, g: Footprint) -> bool:
        """Whether ``g`` may be performed where ``given`` holds."""
        facts, needs = self.facts[g.task.number][g.location], g.needs
        return all(facts.get(c, v) == v and needs.get(c, v) == v for c, v in given.items())

    def _ruled_out(self, f: Footprint, g: Footprint, given: Facts, mine: Facts, conditions: Facts) -> Facts | None:
        """Values of cells at the start that last, and with which ``g`` cannot be performed."""
        for c, v in self._opposites(g, given):
            wanted = {c: v}
            lasting = self._lasting(f, {**mine, **f.needs, **conditions, **wanted}, mine)
            if c not in lasting:
                for h in self.writers.get(c, ()):
                    if h.task is not f.task and self._changes(h, c, v) and self._together(lasting, h):
                        wanted.update(itertools.islice(self._opposites(h, lasting), 1))
                lasting = self._lasting(f, {**mine, **f.needs, **conditions, **wanted}, mine)
            if c in lasting and not self._together(lasting, g):
                return wanted
        return None

    def _opposites(self, g: Footprint, given: Facts) -> Iterator[tuple[Cell, int]]:
        """Truth values that cells have at the start and not where ``g`` is performed."""
        key = (g.task.number, g.location, g.node.number)
        if key not in self._opposed:
            facts = {**self.facts[g.task.number][g.location], **g.needs}
            self._opposed[key] = [
                (c, int(not v))
                for c, v in facts.items()
                if CELLS[c.name].sort == "bool" and self.model.initial_values[c] == frozenset((int(not v),))
            ]
        for c, v in self._opposed[key]:
            if c not in given:
                yield c, v

    def changed_by(self, f: Footprint, g: Footprint, given: Facts) -> set[Cell]:
        """The cells that ``g`` writes of which ``f`` looks at something that this changes, where ``given`` holds."""
        there = {**given, **g.needs}
        terms = [t for t in (*f.seen, *f.accusing.values(), *f.violations) if not self._same(t, g, there, False)]
        return set(g.writes & cells_in(terms))

    def _depends(self, f: Footprint, g: Footprint, given: Facts, right: bool = False) -> bool:
        """Whether ``f`` after ``g`` may differ from ``f`` before ``g``; ``right``: the other way round."""
        both = f.writes & g.writes
        if not all(self._alike(f, g, c, right) for c in both):
            return True
        if g.writes & f.watches:
            there = {**given, **self.facts[g.task.number][g.location], **g.needs}
            if not all(self._same(t, g, there, False) for t in f.seen):
                return True
            if not all(self._same(t, g, there, True, not right) for c, t in f.accusing.items() if c not in both):
                return True
            # of what is judged it is enough that nothing is lost: in the order that is kept, it is judged without ``g``
            if not all(self._kept(v, g, there, not right) for v in f.violations):
                return True
        if f.writes & g.reads:
            if not all(self._same(t, f, given, False) for t in g.seen):
                return True
            if not all(self._same(t, f, given, True, right) for c, t in g.accusing.items() if c not in both):
                return True
        return not all(self._kept(v, f, given, right) for v in g.violations)

    def _alike(self, f: Footprint, g: Footprint, cell: Cell, right: bool) -> bool:
        """Whether a cell that both operations write is the same after either order of them, or then accuses the more."""
        if cell in f.sets and cell in g.sets:
            if cell in self.accusers:
                # of the order that is given up: it leaves the cell false
                first, last = (f, g) if right else (g, f)
                consts = {c: t for c, t in first.sets.items() if t.op == "const"}
                left = substitute_cells(last.sets[cell], consts)
                if left.op == "const" and not left.args[0]:
                    return True
            mine, other = f.sets[cell], g.sets[cell]
            return mine.op == other.op == "const" and int(mine.args[0]) == int(other.args[0])
        return (cell in f.adds and cell in g.adds) or (cell in f.joins and cell in g.joins)

    def _preserves(self, f: Footprint, given: Facts, right: bool = False) -> bool:
        """Whether no state property's violation that is true before ``f`` is false after it; ``right``: or after, before."""
        for parts, cells in self._violations:
            if f.writes.isdisjoint(cells):
                continue
            if not self._all_kept(parts, f, given, right):
                return False
        return True

    def _kept(self, violation: Term, f: Footprint, given: Facts, right: bool) -> bool:
        """Whether a violation that is true before ``f`` is so after it; ``right``: or after, before."""
        if f.writes.isdisjoint(cells_in([violation])):
            return True
        return self._all_kept(list(conjuncts(violation)), f, given, right)

    def _all_kept(self, parts: Sequence[Term], f: Footprint, given: Facts, right: bool) -> bool:
        constants = {c: Term("const", (v,), CELLS[c.name].sort) for c, v in given.items()}
        if not right and any(substitute_cells(p, constants).key == ("const", "bool", False) for p in parts):
            return True
        if right and any(self._false_after(p, f, given) for p in parts):
            return True
        return all(self._same(p, f, given, True, right) for p in parts)

    def _false_after(self, term: Term, f: Footprint, given: Facts) -> bool:
        after = {c: Term("const", (v,), CELLS[c.name].sort) for c, v in given.items() if c not in f.writes}
        after |= {c: t for c in f.writes if (t := self._new(f, c)).op == "const"}
        return substitute_cells(term, after).key == ("const", "bool", False)

    def _same(self, term: Term, f: Footprint, given: Facts, one_way: bool, right: bool = False) -> bool:
        """Whether ``term`` has the same value before and after ``f``; ``one_way``: if it is true, then so after.

        ``right``: if it is true after, then so before.
        """
        cells = cells_in([term])
        changed = cells & f.writes
        if not changed:
            return True
        known = frozenset((c, given[c]) for c in cells if c in given)
        key = (term.key, f.task.number, f.location, f.node.number, one_way, right, known)
        if key not in self._unchanged:
            constants = {c: Term("const", (v,), CELLS[c.name].sort) for c, v in known}
            self._unchanged[key] = self._try_all(term, f, constants, changed, one_way, right)
        return self._unchanged[key]

    def _try_all(
        self, term: Term, f: Footprint, constants: Mapping[Cell, Term], changed: set[Cell], one_way: bool, right: bool
    ) -> bool:  # fmt: skip
        before = substitute_cells(term, constants)
        if one_way and not right and before.key == ("const", "bool", False):
            return True
        cells = sorted(cells_in([term]) - {c for c in constants if c not in changed})
        names = sorted({a.args for a in atoms(term, "reg")} | {a.args for a in atoms(term, "choice")})
        domains = [(int(constants[c].args[0]),) if c in constants else self._domain(c) for c in cells]
        open_values = range(self._largest() + 1)
        if math.prod(map(len, domains)) * len(open_values) ** len(names) > _MOST_COMBINATIONS:
            return False
        fixed = {c: int(t.args[0]) for c, t in constants.items()}
        for assignment in itertools.product(*domains):
            old = fixed | dict(zip(cells, assignment, strict=True))
            afters = self._afters(old, f, sorted(changed))
            if afters is None:
                return False
            for after, extra in itertools.product(afters, itertools.product(open_values, repeat=len(names))):
                open_ones = {n[0]: x for n, x in zip(names, extra, strict=True)}
                x = bool(evaluate(term, old.__getitem__, open_ones, open_ones)) if one_way else None
                y = evaluate(term, after.__getitem__, open_ones, open_ones)
                if x is None:
                    if evaluate(term, old.__getitem__, open_ones, open_ones) != y:
                        return False
                elif (y and not x) if right else (x and not y):
                    return False
        return True

    def _afters(self, old: Mapping[Cell, int], f: Footprint, changed: list[Cell]) -> list[dict[Cell, int]] | None:
        """What ``f`` may make of some cells; None where that cannot be told."""

        def now(cell: Cell) -> Values:
            return frozenset((old[cell],)) if cell in old else self.model.analysis.of(cell)

        choices: list[list[int]] = []
        for c in changed:
            values = possible(f.adds[c] if c in f.adds else self._new(f, c), now, {}, {})
            if values is None:
                return None
            choices.append([old[c] + int(x) if c in f.adds else int(x) for x in values])
        found = []
        for picked in itertools.product(*choices):
            if all(x >= 0 for c, x in zip(changed, picked, strict=True) if c.name in COUNTS):
                found.append({**old, **dict(zip(changed, picked, strict=True))})
        return found

    def _largest(self) -> int:
        return self.model.finite.largest(CELLS[name].limit for name in self.model.config.limits)

    def _domain(self, cell: Cell) -> tuple[int, ...]:
        values = self.model.analysis.of(cell)
        if values is not None:
            return tuple(sorted(values))
        return tuple(range(max(self._largest(), *self.model.kind_of) + 1))
