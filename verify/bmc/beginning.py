"""What cells hold where a trace begins: one value, or any that what is known of the cell allows."""

from __future__ import annotations

from collections.abc import Mapping

import z3

from kernelmodel.cells import CELLS, in_pages, initial, is_derived, layout
from kernelmodel.terms import Cell
from verify.bmc.slice import Slice
from verify.smt import Expr, literal


class Beginning:
    """The first values of a slice's cells; ``values`` are the open ones, ``constraints`` what is said of them."""

    def __init__(self, piece: Slice, parameters: Mapping[str, Expr], constraints: list[Expr]) -> None:
        """``parameters`` are the tasks' inputs; ``constraints`` grow as cells are asked for."""
        self.piece, self.parameters, self.constraints = piece, parameters, constraints
        self.values: dict[Cell, Expr] = {}
        self._unowned = [c for c in layout(piece.config) if CELLS[c.name].in_use == "unowned"]

    def __call__(self, cell: Cell) -> Expr:
        """The first value of a cell."""
        if cell in self.values:
            return self.values[cell]
        kind = CELLS[cell.name]
        if not kind.open_at_start:
            return literal(typed(cell, 0 if is_derived(cell) else initial(self.piece.config, cell)))
        if kind.starts_as:
            return self(Cell(kind.starts_as, (cell.index[kind.position("zone")],)))
        v = self.values[cell] = z3.Int(f"start.{cell}")
        self.constraints.append(self._open(cell, v))
        return v

    def _open(self, cell: Cell, v: Expr) -> Expr:
        kind, migrations = CELLS[cell.name], self.piece.scenario.migrations
        if kind.starts_as_sum:
            parts = [c for c in layout(self.piece.config) if c.name == kind.starts_as_sum and _same_place(c, cell)]
            return v == z3.Sum([in_pages(self.piece.config, x, self(x)) for x in parts])
        if kind.in_use == "all":
            blocks = [t.spec.register("block") for t in self.piece.tasks if t.spec.kind.holds_page]
            mine = [z3.If(self.parameters[register] == cell.index[0], 1, 0) for register in blocks]
            mine += [self(c) for c in self._unowned if migrations and c.index == cell.index]
            return v == z3.Sum([z3.IntVal(0), *mine])
        if kind.in_use == "unowned":
            every = [self(c) for c in self._unowned]
            return z3.And(v >= 0, z3.Sum(every) == migrations) if cell == self._unowned[-1] else v >= 0
        least = [v >= kind.least, *([v >= self(Cell(kind.starts_above, cell.index))] if kind.starts_above else [])]
        return z3.And(*least) if kind.most is None else z3.And(*least, v <= kind.most)


def typed(cell: Cell, value: int) -> int:
    """A number as a value of the cell's sort."""
    return bool(value) if CELLS[cell.name].sort == "bool" else int(value)


def _same_place(a: Cell, b: Cell) -> bool:
    """Whether two cells are of one zone and CPU."""
    places = [[c.index[CELLS[c.name].position(axis)] for axis in ("zone", "cpu")] for c in (a, b)]
    return places[0] == places[1]
