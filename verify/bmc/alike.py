"""Tasks of a kind that are alike have one graph, but for the registers that hold their inputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from kernelmodel.graphs.automaton import Edge, Graph, Node
from kernelmodel.terms import Term, reg
from verify.bmc.sections import leading, renamed
from verify.scenario import TaskSpec


def first_like(spec: TaskSpec, specs: Sequence[TaskSpec]) -> TaskSpec:
    """The first task that is as ``spec`` is, wherever they may be; ``spec`` itself if there is none before it."""
    return next((s for s in specs if spec.kind.equal and _nature(s) == _nature(spec)), spec)


def as_of(graph: Graph, one: TaskSpec, other: TaskSpec) -> Graph:
    """The graph of ``one`` as that of ``other``, which is like it."""
    registers: Mapping[str, Term] = {
        old: reg(new, "int") for (old, *_), (new, *_) in zip(one.parameters, other.parameters, strict=True)
    }
    nodes = [Node(n.number, renamed(n.op, registers), n.stack, _edges(n.edges, registers)) for n in graph.nodes]
    return Graph(_edges(graph.entry, registers), nodes)


def _nature(spec: TaskSpec) -> Hashable:
    """What a task's graph follows from: its inputs count by what they are called after its name, and by what they may be."""
    inputs = tuple((register.removeprefix(spec.name), least, most) for register, least, most in spec.parameters)
    return (spec.kind, spec.cpu, spec.home, inputs)


def _edges(edges: Sequence[Edge], registers: Mapping[str, Term]) -> list[Edge]:
    return [leading(e, registers, e.target) for e in edges]
