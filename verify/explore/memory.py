"""What a memory model makes of the graphs of a finite configuration: store buffers, or loads that find anything."""

from __future__ import annotations

import functools
from collections.abc import Callable

from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph
from kernelmodel.memory_model import WIDER, Memory
from verify.explore.model import Change, Model
from verify.explore.movers import Movers
from verify.ordering.buffers import declare_buffers, with_buffers
from verify.ordering.edges import Edge, take_away
from verify.ordering.relaxed import Relaxed
from verify.ordering.robust import relaxed
from verify.ordering.weak import declare_doubts, weak, weaken
from verify.scenario import TaskSpec


def changed(memory: Memory, model: Callable[..., Model], without: frozenset[Edge] = frozenset()) -> Change:
    """The change of each task's graph; ModelError where the memory model cannot be followed.

    ``model(change=…)`` makes the model under sequential consistency.  ``without``: synchronisations to do without.
    """

    def taken(_: TaskSpec, graph: FoldedGraph) -> None:
        take_away(graph, without)

    if memory == "sc":
        return taken
    movers = Movers(model(change=taken), (), only_facts=True)
    if memory in WIDER:
        what = weak(movers, without, compiler=memory == "compiler")
        declare_doubts(what.doubted)
        model_it: Change = lambda spec, graph: weaken(spec.name, graph.kept, what)  # noqa: E731
    else:
        found = relaxed(movers)
        if found.refused:
            raise ModelError(found.refused)
        declare_buffers(found.cells)
        model_it = functools.partial(_buffer, what=found)

    def both(spec: TaskSpec, graph: FoldedGraph) -> None:
        taken(spec, graph)
        model_it(spec, graph)

    return both


def _buffer(spec: TaskSpec, graph: FoldedGraph, what: Relaxed) -> None:
    kept = graph.kept
    position = {n.number: i for i, n in enumerate(kept)}
    order = []
    for i, node in enumerate(kept):
        after: list[int | None] = []
        for _, target in node.edges:
            after += [None] if target == RETURNED else [position[n] for n in graph.locations[target]]
        order.append((i, after))
    with_buffers(spec.name, kept, order, what)
