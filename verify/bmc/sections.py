"""Stretches of a control graph that hold one exclusion, such as interrupts off on a CPU, or a pcplist's lock.

Each begins at one place, and shares no operation with another: what follows two that end alike is one piece of graph
(:mod:`kernelmodel.graphs.automaton`), so two that begin apart may run into each other.  The encoding gives each the state that
it found, and needs them apart.  Where it does not show in the graph what a stretch is, as where nobody looks at what a
trylock returned before going on, there is an :class:`UnclearError`, and the exclusion has to be followed like any cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kernelmodel.cells import CELLS, owner, stops_others
from kernelmodel.errors import ModelError
from kernelmodel.graphs.automaton import Edge, Graph, Node
from kernelmodel.graphs.ways import told
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms, reg, substitute


class UnclearError(ModelError):
    """A graph does not show where an exclusion is held."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What lies from an acquiring operation to the releasing ones, all of them included."""

    first: int
    of: Cell
    nodes: tuple[int, ...]
    ends: tuple[int, ...]


def stretches(graph: Graph, names: Iterable[str]) -> list[Stretch]:
    """The stretches that hold exclusions of some names, in the order in which they begin in the graph."""
    chosen = frozenset(names)
    nodes = {n.number: n for n in graph.nodes}
    return [_from(nodes, n) for n in graph.nodes if n.op.does.acquires and n.op.does.acquires.name in chosen]


def _from(nodes: dict[int, Node], first: Node) -> Stretch:
    of = first.op.does.acquires
    assert of is not None
    found: dict[int, None] = {}
    ends: list[int] = []
    queue = [first.number]
    while queue:
        number = queue.pop()
        if number in found:
            continue
        found[number] = None
        if nodes[number].op.does.releases == of:
            ends.append(number)
            continue
        queue += [e.target for e in nodes[number].edges if e.target >= 0 and _enters(nodes[number], e, first)]
    return Stretch(first.number, of, tuple(found), tuple(ends))


def _enters(node: Node, edge: Edge, first: Node) -> bool:
    if node is not first or not node.op.does.tries:
        return True
    got = told(f"{node.number}.0", edge.conditions)
    if got is None:
        raise UnclearError(f"{node.op.text}: what follows does not tell whether it was successful")
    return got


def check_closed(graph: Graph, found: Iterable[Stretch]) -> None:
    """UnclearError where a stretch is entered otherwise than at its beginning: nobody knows then who is inside."""
    before: dict[int, set[int]] = {}
    for node in graph.nodes:
        for edge in node.edges:
            before.setdefault(edge.target, set()).add(node.number)
    entries = {e.target for e in graph.entry}
    for stretch in found:
        inside = set(stretch.nodes) - set(stretch.ends)
        for number in stretch.nodes:
            if number != stretch.first and (number in entries or before.get(number, set()) - inside):
                node = next(n for n in graph.nodes if n.number == number)
                raise UnclearError(
                    f"{node.op.text}: is done with and without {CELLS[stretch.of.name].in_c(*stretch.of)}"
                )


def in_stretches(graph: Graph, names: Iterable[str]) -> frozenset[int]:
    """The nodes of all stretches that hold exclusions of some names."""
    return frozenset(number for stretch in stretches(graph, names) for number in stretch.nodes)


def lists_of(graph: Graph, stretch: Stretch) -> frozenset[int]:
    """The CPUs of which a stretch is: whose cells it changes, if interrupts off are what it holds; else its lock's."""
    own = owner(stretch.of)
    assert own is not None
    if not stops_others(stretch.of):
        return frozenset({own})
    nodes = {n.number: n for n in graph.nodes}
    found = {
        cpu
        for n in stretch.nodes
        for c, _ in nodes[n].op.updates
        if (cpu := owner(c)) is not None and not CELLS[c.name].exclusion and not CELLS[c.name].silent
    }
    return frozenset(found or {own})


def works_on(graph: Graph, stretch: Stretch, gone: Iterable[int]) -> int:
    """The CPU of which a stretch is: its own, or one of ``gone``, for who drains that alone."""
    own = owner(stretch.of)
    assert own is not None
    lists = lists_of(graph, stretch)
    return next(iter(lists)) if len(lists) == 1 and lists <= set(gone) else own


def apart(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph with a copy of what stretches share for each of them; ModelError where a value leaves what is shared."""
    chosen = frozenset(names)
    made = Graph(list(graph.entry), [Node(n.number, n.op, n.stack, list(n.edges)) for n in graph.nodes])
    owned: set[int] = set()
    for first in [s.first for s in stretches(made, chosen)]:
        mine = _of(made, first)
        shared = [n for n in mine.nodes if n in owned]
        if shared:
            _no_value_leaves(made, shared, chosen)
            _copied(made, mine, shared)
            mine = _of(made, first)
        owned |= set(mine.nodes)
    return made


def _of(graph: Graph, first: int) -> Stretch:
    nodes = {n.number: n for n in graph.nodes}
    return _from(nodes, nodes[first])


def leading(edge: Edge, registers: Mapping[str, Term], target: int) -> Edge:
    """The edge with registers replaced, and to ``target``."""
    return Edge(tuple(substitute(c, registers) for c in edge.conditions), target)


def _copied(graph: Graph, mine: Stretch, shared: list[int]) -> None:
    numbers = {old: len(graph.nodes) + i for i, old in enumerate(shared)}
    for old in shared:
        node = graph.nodes[old]
        graph.nodes.append(Node(numbers[old], node.op, node.stack, list(node.edges)))
    moved = [numbers.get(n, n) for n in mine.nodes]
    registers = {
        f"{old}.{i}": reg(f"{new}.{i}", t.sort)
        for old, new in numbers.items()
        for i, t in enumerate(graph.nodes[old].op.returns)
    }
    for number in moved:
        node = graph.nodes[number]
        inside = node.op.does.releases != mine.of
        node.op = renamed(node.op, registers)
        node.edges = [
            leading(e, registers, numbers.get(e.target, e.target) if inside else e.target) for e in node.edges
        ]


def renamed(op: Op, registers: Mapping[str, Term]) -> Op:
    """The operation with registers replaced."""

    def new(term: Term) -> Term:
        return substitute(term, registers)

    return replace(
        op, guard=new(op.guard), where=new(op.where), counted=new(op.counted), returns=tuple(map(new, op.returns)),
        counted_returns=tuple(map(new, op.counted_returns)), shown=tuple(map(new, op.shown)),
        updates=tuple((c, new(t)) for c, t in op.updates),
    )  # fmt: skip


def _no_value_leaves(graph: Graph, shared: list[int], names: frozenset[str]) -> None:
    """ModelError if what a shared operation returns is used anywhere but in the stretches that have the operation."""
    every = list(stretches(graph, names))
    for number in shared:
        with_it = [s for s in every if number in s.nodes]
        mine = {n for s in with_it for n in s.nodes}
        over = {n for s in with_it for n in s.ends}
        registers = {f"{number}.{i}" for i in range(len(graph.nodes[number].op.returns))}
        for n in graph.nodes:
            terms = [t for e in n.edges for t in e.conditions] if n.number in over or n.number not in mine else []
            if n.number not in mine:
                terms += [n.op.guard, n.op.where, n.op.counted, *n.op.returns, *(t for _, t in n.op.updates)]
            if any(a.args[0] in registers for t in terms for a in atoms(t, "reg")):
                raise ModelError(
                    f"a value that {graph.nodes[number].op.text!r} gives in a critical section is used after two"
                    " sections that share it: store it in a cell"
                )
