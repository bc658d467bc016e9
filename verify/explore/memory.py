"""What a memory model makes of the graphs of a finite configuration: store buffers, or loads that find anything."""

from __future__ import annotations

from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph
from kernelmodel.memory_model import WIDER, Memory
from verify.explore.model import Change, Model
from verify.explore.movers import Movers
from verify.ordering.buffers import declare_buffers, with_buffers
from verify.ordering.relaxed import Relaxed
from verify.ordering.robust import relaxed
from verify.ordering.weak import declare_doubts, weak, weaken
from verify.scenario import TaskSpec


def changed(memory: Memory, model: Model, without: frozenset[str] = frozenset()) -> Change:
    """The change of each task's graph, from a model under sequential consistency; ModelError where it cannot be followed.

    ``without``: synchronisations that the weak model is to do without.
    """
    movers = Movers(model, (), only_facts=True)
    if memory in WIDER:
        what = weak(movers, without, compiler=memory == "compiler")
        declare_doubts(what.doubted)
        return lambda spec, graph: weaken(spec.name, graph.kept, what)
    found = relaxed(movers)
    if found.refused:
        raise ModelError(found.refused)
    declare_buffers(found.cells)
    return lambda spec, graph: _buffer(spec, graph, found)


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
