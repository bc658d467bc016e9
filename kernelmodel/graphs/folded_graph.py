"""Cyclic control graphs: what :func:`kernelmodel.graphs.folded.fold` makes of a routine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from kernelmodel.ops import Op
from kernelmodel.terms import Term, atoms

#: the location of a task that has returned
RETURNED = -1


@dataclass(slots=True, eq=False)
class FoldedNode:
    """An operation at one place of the control flow; its returned values are the registers ``<number>.<i>``.

    ``cpu`` is the CPU that it is bound to, -1 if it may be performed on any; ``irqs_off`` says that the task has
    interrupts off there.  ``edges`` are (conditions over registers, location).
    """

    number: int
    op: Op
    stack: tuple[str, ...]
    cpu: int
    irqs_off: bool
    edges: list[tuple[tuple[Term, ...], int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoldedGraph:
    """The control graph of a routine that runs for ever or returns: ``entry`` leads to the first location."""

    entry: tuple[tuple[tuple[Term, ...], int], ...]
    nodes: tuple[FoldedNode, ...]
    locations: tuple[tuple[int, ...], ...]

    @property
    def kept(self) -> list[FoldedNode]:
        """The nodes at which a task can be; the others were merged with them."""
        return [self.nodes[n] for n in sorted({n for numbers in self.locations for n in numbers})]


def copied(graph: FoldedGraph) -> FoldedGraph:
    """The same graph with nodes of its own."""
    return replace(graph, nodes=tuple(replace(n, edges=list(n.edges)) for n in graph.nodes))


def terms_of(op: Op) -> list[Term]:
    """Every term of an operation that a register may stand in."""
    return [op.guard, op.where, op.counted, *op.returns, *op.counted_returns, *(t for _, t in op.updates)]


def op_key(op: Op) -> Any:
    """What an operation does, as nested tuples: equal keys, equal operations."""
    updates = frozenset((c, t.key) for c, t in op.updates)
    return (
        op.tag, op.does, op.guard.key, updates, tuple(t.key for t in op.returns), frozenset(c.key for c in op.choices),
        op.where.key, op.counted.key, tuple(t.key for t in op.counted_returns),
    )  # fmt: skip


def registers_of(terms: Iterable[Term]) -> set[str]:
    """Names of the registers in some terms."""
    return {a.args[0] for t in terms for a in atoms(t, "reg")}
