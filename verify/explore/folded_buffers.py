"""Store buffers in a folded control graph (see :mod:`verify.ordering.buffers`)."""

from __future__ import annotations

from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph
from verify.ordering.buffers import with_buffers
from verify.ordering.relaxed import Relaxed
from verify.scenario import TaskSpec


def buffer(spec: TaskSpec, graph: FoldedGraph, relaxed: Relaxed) -> None:
    """Put the store buffers that a scenario needs into the graph of one of its tasks, in place."""
    kept = graph.kept
    position = {n.number: i for i, n in enumerate(kept)}
    order = []
    for i, node in enumerate(kept):
        after: list[int | None] = []
        for _, target in node.edges:
            after += [None] if target == RETURNED else [position[n] for n in graph.locations[target]]
        order.append((i, after))
    with_buffers(spec.name, kept, order, relaxed)
