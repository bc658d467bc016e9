"""What a slice asks, with its CPU called "here" and all that is not followed called "open": slices that ask the same are one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from kernelmodel.cells import CELLS, owner
from kernelmodel.graphs.automaton import CUT, DONE, Edge, Graph, Node
from kernelmodel.graphs.folded_graph import terms_of
from kernelmodel.terms import Cell, Term, atoms
from properties.property import Check
from verify.bmc.contract import TaskGraph


class Signatures:
    """Signatures of one model's slices; a task's graph is rendered once for all slices that see the same of it."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._rendered: dict[tuple[int, int, frozenset[Cell]], int] = {}
        self._mentioned: dict[int, tuple[Graph, frozenset[Cell]]] = {}
        self._terms: dict[Hashable, tuple[int, tuple[str, ...]]] = {}

    def of(
        self, cpu: int, cells: frozenset[Cell], tasks: Sequence[TaskGraph], checks: Sequence[Sequence[Check]]
    ) -> Hashable:  # fmt: skip
        """Equal for slices that differ in the number of the CPU only; ``checks`` are those of steps and those of states."""
        asked = tuple(
            tuple((_named(c.premise.key, cells), _named(c.violation.key, cells)) for c in some) for some in checks
        )  # fmt: skip
        return tuple((t.spec.kind.name, self._number(t.graph, cpu, cells)) for t in tasks), asked

    def _number(self, graph: Graph, cpu: int, cells: frozenset[Cell]) -> int:
        """One number for each way in which a graph may look."""
        # the graph is kept with them, or another one might get its place
        _, mentioned = self._mentioned.setdefault(id(graph), (graph, _cells(graph)))
        key = (id(graph), cpu, mentioned & cells)
        if key not in self._rendered:
            self._rendered[key] = self._one(self._graph(graph, cpu, cells))
        return self._rendered[key]

    def _one(self, thing: Hashable) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def _graph(self, graph: Graph, cpu: int, cells: frozenset[Cell]) -> Hashable:
        order = _in_flow_order(graph)
        rank = {**{n.number: i for i, n in enumerate(order)}, DONE: DONE, CUT: CUT}

        def said(term: Term) -> Hashable:
            return self._term(term, rank, cells)

        def edges(found: Sequence[Edge]) -> Hashable:
            return tuple((tuple(said(c) for c in e.conditions), rank[e.target]) for e in found)

        nodes = [
            (
                (n.op.tag, n.op.does.tries, n.op.does.hangs, n.op.external),
                (_where(n.op.does.acquires, cpu), _where(n.op.does.releases, cpu)),
                said(n.op.guard),
                tuple((_named(c, cells), said(u)) for c, u in n.op.updates if c in cells),
                # a returned constant, such as the CPU's number, has gone into the text that follows
                tuple(said(r) for r in n.op.returns if r.op != "const"),
                said(n.op.where),
                edges(n.edges),
            )
            for n in order
        ]
        return edges(graph.entry), tuple(nodes)

    def _term(self, term: Term, rank: Mapping[int, int], cells: frozenset[Cell]) -> Hashable:
        """A term, made once for all graphs that have it, and the places of the nodes that gave its registers."""
        key = (term.number, *[a.args[0] in cells for a in atoms(term, "cell")])
        if key not in self._terms:
            names = tuple(dict.fromkeys(a.args[0] for a in atoms(term, "reg")))
            self._terms[key] = self._one(_named(_with_holes(term.key, names), cells)), names
        form, names = self._terms[key]
        return form, tuple(_place(n, rank) for n in names)


def _cells(graph: Graph) -> frozenset[Cell]:
    """All cells that a graph speaks of."""
    terms = [c for e in (*graph.entry, *(e for n in graph.nodes for e in n.edges)) for c in e.conditions]
    terms += [t for n in graph.nodes for t in terms_of(n.op)]
    return frozenset(
        [*(a.args[0] for t in terms for a in atoms(t, "cell")), *(c for n in graph.nodes for c, _ in n.op.updates)]
    )


def _named(key: Any, cells: frozenset[Cell]) -> Any:
    if isinstance(key, Cell):
        if owner(key) is not None:
            if key not in cells:
                return "open"
            place = CELLS[key.name].position("cpu")
            return (key.name, *("here" if i == place else x for i, x in enumerate(key.index)))
        return key if key in cells else ("constant", key.name)
    if not isinstance(key, tuple):
        return key
    parts = [_named(k, cells) for k in key]
    if parts and parts[0] in ("and", "or", "+"):
        # the order of a sum or a conjunction over all CPUs says nothing
        same = [p[2:] if isinstance(p, tuple) and p[:1] == (parts[0],) else (p,) for p in parts[2:]]
        parts[2:] = sorted((q for group in same for q in group), key=repr)
    return tuple(parts)


def _with_holes(key: Any, names: Sequence[str]) -> Any:
    """A term's key in which registers have numbers."""
    if isinstance(key, tuple) and len(key) == 3 and key[0] == "reg":
        return ("reg", key[1], names.index(key[2]))
    return tuple(_with_holes(k, names) for k in key) if isinstance(key, tuple) and not isinstance(key, Cell) else key


def _place(register: str, rank: Mapping[int, int]) -> Hashable:
    node, _, index = register.partition(".")
    # a parameter is called after its task
    return (rank[int(node)] if node.isdigit() and int(node) in rank else "parameter", index)


def _where(exclusion: Cell | None, cpu: int) -> Any:
    return exclusion and (exclusion.name, owner(exclusion) == cpu)


def _in_flow_order(graph: Graph) -> list[Node]:
    by_number = {n.number: n for n in graph.nodes}
    seen: dict[int, Node] = {}
    queue = [e.target for e in graph.entry]
    while queue:
        number = queue.pop(0)
        if number >= 0 and number not in seen:
            seen[number] = by_number[number]
            queue += [e.target for e in by_number[number].edges]
    return list(seen.values())
