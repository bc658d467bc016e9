"""The loop of offline_pages(): which of its ways back are shut once every page of the range is free, asked of Z3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import z3

from kernelmodel.cells import CELLS
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell, Term
from verify.prove.roles import OVER, Step, registers
from verify.smt import Expr, translate, variable

#: the value of a cell where it is known
Known = Callable[[Cell], Expr | None]


class Loop:
    """The text of one kind of task that offlines memory."""

    def __init__(self, steps: Mapping[int, Step]) -> None:
        self.steps = steps

    def testing(self) -> list[Step]:
        """The steps that ask whether the range is free."""
        return [s for s in self.steps.values() if s.op.does.tests]

    def scanning(self) -> list[Step]:
        """The steps that look for a page in use."""
        return [s for s in self.steps.values() if s.op.does.scans]

    @cached_property
    def range(self) -> frozenset[int]:
        """The pageblocks of its range, as far as it tests any."""
        return frozenset(b for s in self.steps.values() for b in s.op.does.tests)

    def free(self, cell: Cell) -> Expr | None:
        """What is known while every page of the range is free: nobody holds one."""
        return z3.IntVal(0) if CELLS[cell.name].in_use and cell.index[0] in self.range else None

    def settled(self, cell: Cell) -> Expr | None:
        """What is known if besides the range is isolated, and none of its pages is on a pcplist."""
        if CELLS[cell.name].where == "pcplist" and cell.index[3] in self.range:
            return z3.IntVal(0)
        if CELLS[cell.name].values == "type" and cell.index[0] in self.range:
            return z3.IntVal(int(MigrateType.ISOLATE))
        return self.free(cell)

    def can(self, step: Step, conditions: Sequence[Term], known: Known, unlike: tuple[Cell, int] | None = None) -> bool:
        """Whether an edge may be taken; with ``unlike`` so that a cell then has another value than the one given."""
        op = step.op
        new = dict(op.updates)
        terms = [op.guard, op.where, *op.returns, *new.values()]
        sorts = registers(terms)

        def cell(c: Cell) -> Expr:
            value = known(c)
            return variable(str(c), CELLS[c.name].sort) if value is None else value

        def term(t: Term) -> Expr:
            return translate(
                t, cell, lambda n: variable(n, sorts.get(n, "int")), lambda c: variable(str(c.args[0]), c.sort)
            )

        own = {name: term(t) for name, t in zip(step.returned, op.returns, strict=True)}
        solver = z3.Solver()
        solver.add(term(op.guard), term(op.where))
        for c in conditions:
            later = registers([c])
            solver.add(translate(c, cell, lambda n, s=later: own[n] if n in own else variable(n, s[n]), _no_choice))  # type: ignore[misc]
        if unlike is not None:
            solver.add(term(new[unlike[0]]) != unlike[1])
        # what the solver cannot tell may be taken
        return bool(solver.check() != z3.unsat)

    def isolated_at(self) -> dict[int, bool]:
        """Whether, on each way to a step, the last operation that could change the range's type has made it ISOLATE."""
        found: dict[int, bool] = {}
        entered = {t for s in self.steps.values() for _, t in s.edges}
        queue = [(u, False) for u in self.steps if u not in entered]
        while queue:
            u, flag = queue.pop()
            new = flag and found.get(u, True)
            if found.get(u) != new:
                found[u] = new
                s = self.steps[u]
                queue += [(t, self._after(s, conditions, new)) for conditions, t in s.edges if t != OVER]
        return found

    def _after(self, step: Step, conditions: Sequence[Term], before: bool) -> bool:
        written = [c for c, _ in step.op.updates if CELLS[c.name].values == "type" and c.index[0] in self.range]
        isolate = int(MigrateType.ISOLATE)
        return before if not written else not any(
            self.can(step, conditions, lambda _: None, (c, isolate)) for c in written
        )  # fmt: skip


def _no_choice(term: Term) -> Expr:
    raise TypeError(f"a condition depends on the choice {term.args[0]}")
