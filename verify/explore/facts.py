"""What is known of a task at a location: values of cells that hold whenever it is there and that no other task changes then.

Such as "irqs_off[c] is me" in a section with interrupts off, or "the mutex is mine".  Tasks whose facts contradict each other
are never at these locations together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernelmodel.cells import CELLS
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.terms import Cell, Term, lor, substitute, substitute_cells
from verify.explore.footprints import ASSUMED_ZERO, Facts, Footprint, Footprints, literals
from verify.explore.model import Model, TaskModel, returns_of


class Known(Footprints):
    """The facts of each location of each task."""

    def __init__(self, model: Model, assumed_zero: Iterable[str] = ASSUMED_ZERO) -> None:
        """``assumed_zero``: names of cells that are taken to be 0 always."""
        super().__init__(model, assumed_zero)
        self._stable: dict[tuple[int, Cell, int], bool] = {}
        self._changing: dict[tuple[Footprint, Cell, int], bool] = {}
        #: task and location of which the facts say that nobody comes there
        self.unreached: set[tuple[int, int]] = set()
        self.facts = {t.number: self._facts(t) for t in model.tasks}

    def way(self, task: TaskModel, location: int, node: FoldedNode, conditions: tuple[Term, ...]) -> bool:
        """Whether a branch may be taken, as far as the facts of the location tell."""
        f = next(g for g in self.at[task.number, location] if g.node is node)
        return self._may(f, {**self.facts[task.number][location], **f.needs}, conditions)

    def _may(self, f: Footprint, known: Facts, conditions: tuple[Term, ...]) -> bool:
        own = {f"{f.node.number}.{i}": self._closed(t, f.task) for i, t in enumerate(returns_of(f.node.op))}
        constants = {c: Term("const", (v,), CELLS[c.name].sort) for c, v in known.items()}
        closed = [substitute_cells(self._closed(substitute(c, own), f.task), constants) for c in conditions]
        return not any(c.op == "const" and not c.args[0] for c in closed)

    def _facts(self, task: TaskModel) -> list[Facts]:
        """For each location the cells whose values are known whenever the task is there."""
        mine = {c for f in self.prints if f.task is task for c in f.writes}
        others = {c for f in self.prints if f.task is not task for c in f.writes}
        first: Facts = {}
        for c in mine - others:
            values = self.model.initial_values[c]
            if len(values) == 1:
                first[c] = next(iter(values))
        found: list[Facts | None] = [None] * len(task.graph.locations)
        start = task.graph.entry[0][1]
        found[start] = first
        todo = [start]
        while todo:
            location = todo.pop()
            before = found[location]
            assert before is not None
            for f in self.at[task.number, location]:
                for conditions, target in f.node.edges:
                    if target == RETURNED or not self._may(f, {**before, **f.needs}, conditions):
                        continue
                    after = self._after(f, {**before, **self._keep(task, f.needs)}, conditions)
                    old = found[target]
                    joined = after if old is None else {c: v for c, v in old.items() if after.get(c) == v}
                    if joined != old:
                        found[target] = joined
                        todo.append(target)
        self.unreached |= {(task.number, location) for location, f in enumerate(found) if f is None}
        return [f or {} for f in found]

    def _keep(self, task: TaskModel, facts: Mapping[Cell, int]) -> Facts:
        return {c: v for c, v in facts.items() if self.stable(task, c, v)}

    def _after(self, f: Footprint, before: Facts, conditions: tuple[Term, ...]) -> Facts:
        # what a branch says of a register says it of the cells that the register was read from, in the same step
        own = {f"{f.node.number}.{i}": self._closed(t, f.task) for i, t in enumerate(returns_of(f.node.op))}
        pre = dict(before)
        for condition in conditions:
            pre.update(literals(self._closed(substitute(condition, own), f.task)))
        written = {c: self._new(f, c) for c in f.writes}
        constants = {c: Term("const", (v,), CELLS[c.name].sort) for c, v in pre.items()}
        after = {c: v for c, v in pre.items() if c not in written}
        for c, term in written.items():
            new = substitute_cells(term, constants)
            if new.op == "const":
                after[c] = int(new.args[0])
        return self._keep(f.task, after)

    def _new(self, f: Footprint, cell: Cell) -> Term:
        """The value that an operation gives a cell."""
        old = Term("cell", (cell,), CELLS[cell.name].sort)
        if cell in f.adds:
            return old + f.adds[cell]
        return lor(old, f.joins[cell]) if cell in f.joins else f.sets[cell]

    def stable(self, task: TaskModel, cell: Cell, value: int) -> bool:
        """Whether no other task can change the cell while it has this value."""
        key = (task.number, cell, value)
        if key not in self._stable:
            self._stable[key] = all(
                f.task is task or not self._changes(f, cell, value) for f in self.writers.get(cell, ())
            )
        return self._stable[key]

    def _changes(self, f: Footprint, cell: Cell, value: int) -> bool:
        if f.needs.get(cell, value) != value:
            return False
        key = (f, cell, value)
        if key not in self._changing:
            new = substitute_cells(self._new(f, cell), {cell: Term("const", (value,), CELLS[cell.name].sort)})
            self._changing[key] = not (new.op == "const" and int(new.args[0]) == value)
        return self._changing[key]
