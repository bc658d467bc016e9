"""Sections with interrupts off in a control graph: each begins at one place, and shares no operation with another.

What follows two sections that end alike is one piece of graph (:mod:`kernelmodel.automaton`), so two that begin apart
may run into each other.  The encoding gives each section the state that it found, and needs them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernelmodel.automaton import Edge, Graph, Node
from kernelmodel.errors import ModelError
from kernelmodel.ops import Op
from kernelmodel.terms import Term, atoms, reg, substitute


def in_sections(graph: Graph) -> frozenset[int]:
    """The nodes from an irq_save to its irq_restore: what they do, they do on the CPU where the task then is."""
    saves = [n.number for n in graph.nodes if n.op.tag == "irq_save"]
    return frozenset(number for first in saves for number in section(graph, first))


def lists_of(graph: Graph, first: int, per_cpu: Mapping[str, int]) -> frozenset[int]:
    """The CPUs whose lists, or other cells of their own, the section that begins at ``first`` changes; else its own CPU."""
    nodes = {n.number: n for n in graph.nodes}
    found = {
        int(c.index[per_cpu[c.name]])
        for n in section(graph, first)
        for c, _ in nodes[n].op.updates
        if c.name in per_cpu and c.name not in ("irqs_off", "isolated_at_irqs_off")
    }
    return frozenset(found or {int(nodes[first].op.info["cpu"])})


def works_on(graph: Graph, first: int, per_cpu: Mapping[str, int], gone: Sequence[int]) -> int:
    """The CPU of which the section that begins at ``first`` is: its own, or one of ``gone``, for who drains that alone."""
    own = next(int(n.op.info["cpu"]) for n in graph.nodes if n.number == first)
    lists = lists_of(graph, first, per_cpu)
    return next(iter(lists)) if len(lists) == 1 and lists <= set(gone) else own


def section(graph: Graph, first: int) -> list[int]:
    """The nodes of the section that begins at ``first``, each once."""
    nodes = {n.number: n for n in graph.nodes}
    found: dict[int, None] = {}
    queue = [first]
    while queue:
        number = queue.pop()
        if number not in found:
            found[number] = None
            if nodes[number].op.tag != "irq_restore":
                queue += [e.target for e in nodes[number].edges if e.target >= 0]
    return list(found)


def apart(graph: Graph) -> Graph:
    """The graph with a copy of what sections share for each of them; ModelError where a value leaves what is shared."""
    made = Graph(list(graph.entry), [Node(n.number, n.op, n.stack, list(n.edges)) for n in graph.nodes])
    owned: set[int] = set()
    for first in [n.number for n in graph.nodes if n.op.tag == "irq_save"]:
        mine = section(made, first)
        shared = [n for n in mine if n in owned]
        if shared:
            _no_value_leaves(made, shared)
            mine = _copied(made, mine, shared)
        owned |= set(mine)
    return made


def _copied(graph: Graph, mine: list[int], shared: list[int]) -> list[int]:
    numbers = {old: len(graph.nodes) + i for i, old in enumerate(shared)}
    for old in shared:
        node = graph.nodes[old]
        graph.nodes.append(Node(numbers[old], node.op, node.stack, list(node.edges)))
    moved = [numbers.get(n, n) for n in mine]
    registers = {
        f"{old}.{i}": reg(f"{new}.{i}", t.sort)
        for old, new in numbers.items()
        for i, t in enumerate(graph.nodes[old].op.returns)
    }
    for number in moved:
        node = graph.nodes[number]
        inside = node.op.tag != "irq_restore"
        node.op = _renamed(node.op, registers)
        node.edges = [
            Edge(
                tuple(substitute(c, registers) for c in e.conditions),
                numbers.get(e.target, e.target) if inside else e.target,
            )
            for e in node.edges
        ]
    return moved


def _renamed(op: Op, registers: dict[str, Term]) -> Op:
    def new(term: Term) -> Term:
        return substitute(term, registers)

    return replace(
        op, guard=new(op.guard), where=new(op.where), counted=new(op.counted), returns=tuple(map(new, op.returns)),
        counted_returns=tuple(map(new, op.counted_returns)), shown=tuple(map(new, op.shown)),
        updates=tuple((c, new(t)) for c, t in op.updates),
    )  # fmt: skip


def _no_value_leaves(graph: Graph, shared: list[int]) -> None:
    """ModelError if what a shared operation returns is used anywhere but in the sections that have the operation."""
    sections = [set(section(graph, n.number)) for n in graph.nodes if n.op.tag == "irq_save"]
    for number in shared:
        mine = set[int]().union(*(s for s in sections if number in s))
        registers = {f"{number}.{i}" for i in range(len(graph.nodes[number].op.returns))}
        for n in graph.nodes:
            over = n.op.tag == "irq_restore"
            terms = [t for e in n.edges for t in e.conditions] if over or n.number not in mine else []
            if n.number not in mine:
                terms += [n.op.guard, n.op.where, n.op.counted, *n.op.returns, *(t for _, t in n.op.updates)]
            if any(a.args[0] in registers for t in terms for a in atoms(t, "reg")):
                raise ModelError(
                    f"a value that {graph.nodes[number].op.text!r} gives with interrupts off is used after two"
                    " sections that share it: store it in a cell"
                )
