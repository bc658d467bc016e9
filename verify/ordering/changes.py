"""What memory models do to an operation: loads that find something else, and locks that are tried in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernelmodel.cells import CELLS
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, ite, land, load, substitute_cells


def finding(op: Op, found: Mapping[Cell, Term], picks: Sequence[Term]) -> Op:
    """An operation that finds these values instead of what is in the cells; ``picks`` are the choices in them."""

    def through(term: Term) -> Term:
        return substitute_cells(term, found)

    return replace(
        op, updates=tuple((c, through(t)) for c, t in op.updates), returns=tuple(map(through, op.returns)),
        counted_returns=tuple(map(through, op.counted_returns)), where=through(op.where), choices=(*op.choices, *picks),
    )  # fmt: skip


def if_taken(op: Op, taken: Term, pick: Term) -> Op:
    """An operation that tries to take a lock and does not have it unless ``taken``, in which ``pick`` is a choice."""
    updates = tuple((c, ite(taken, t, load(c, CELLS[c.name].sort))) for c, t in op.updates)
    returns = tuple(land(taken, t) for t in op.returns)
    return replace(op, updates=updates, returns=returns, choices=(*op.choices, pick))
