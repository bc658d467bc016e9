"""Which nodes of two control graphs correspond: for equal CPUs and tasks, and for two readings of one text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph, FoldedNode
from kernelmodel.terms import Cell


def matched(
    graph: FoldedGraph, other: FoldedGraph, cpu_of: Mapping[int, int], key: Callable[[FoldedNode], Any],
    rename: Callable[[Any], Any], normal: Callable[[Any], Any],
) -> dict[int, int] | None:  # fmt: skip
    """The nodes of ``other`` that correspond to those of ``graph`` when CPUs are renamed; None if the graphs differ.

    ``key`` tells what a node does, with the normal forms of the keys of terms in it; ``rename`` renames the CPUs in
    such a key and brings it into its normal form.
    """
    found: dict[int, int] = {}
    alike: list[tuple[dict[int, int], dict[int, int]]] = []

    def looks_alike(a: int, b: int) -> bool:
        """Whether what may follow is the same; asked where an operation alone does not tell two nodes apart."""
        if not alike:
            alike.append(_classes(graph, other, cpu_of, key, rename, normal))
        return alike[0][0].get(a) == alike[0][1].get(b)

    def registers(k: Any) -> Any:
        return _with_registers(k, lambda number, i: f"{found.get(number, number)}.{i}")

    def same(a: int, b: int) -> bool:
        one, two = graph.nodes[a], other.nodes[b]
        if cpu_of.get(one.cpu, -1) != two.cpu or one.stack != two.stack:
            return False
        return bool(registers(rename(key(one))) == key(two))

    def partner_of(n: int, theirs: Sequence[int]) -> int | None:
        fit = [m for m in theirs if same(n, m)]
        if len(fit) > 1:
            fit = [m for m in fit if looks_alike(n, m)]
        return fit[0] if fit else None

    def match(a: Sequence[Any], b: Sequence[Any], queue: list[tuple[int, int]]) -> bool:
        if len(a) != len(b):
            return False
        left = list(b)
        for conditions, location in a:
            wanted = frozenset(registers(rename(c.key)) for c in conditions)
            partner = next(
                (e for e in left if frozenset(normal(c.key) for c in e[0]) == wanted and _both(location, e[1])), None
            )
            if partner is None:
                return False
            left = [e for e in left if e is not partner]
            if location == RETURNED:
                continue
            ours, theirs = graph.locations[location], list(other.locations[partner[1]])
            if len(ours) != len(theirs):
                return False
            for n in sorted(ours, key=lambda n: n not in found):
                candidate = found[n] if n in found else partner_of(n, theirs)
                if candidate is None or candidate not in theirs:
                    return False
                theirs.remove(candidate)
                if n not in found:
                    found[n] = candidate
                    queue.append((n, candidate))
        return True

    queue: list[tuple[int, int]] = []
    if not match(graph.entry, other.entry, queue):
        return None
    while queue:
        a, b = queue.pop()
        if not match(graph.nodes[a].edges, other.nodes[b].edges, queue):
            return None
    return found if len(set(found.values())) == len(found) else None


def _classes(
    graph: FoldedGraph, other: FoldedGraph, cpu_of: Mapping[int, int], key: Callable[[FoldedNode], Any],
    rename: Callable[[Any], Any], normal: Callable[[Any], Any],
) -> tuple[dict[int, int], dict[int, int]]:  # fmt: skip
    """A number for each node of two graphs, equal where operations and all that may follow are, whatever registers are called.

    Partition refinement, as for the minimal automaton (Moore 1956).
    """
    sides: tuple[tuple[FoldedGraph, Callable[[FoldedNode], Any], Callable[[Any], Any]], ...] = (
        (graph, lambda n: (cpu_of.get(n.cpu, -1), n.stack, _nameless(rename(key(n)))), lambda k: _nameless(rename(k))),
        (other, lambda n: (n.cpu, n.stack, _nameless(key(n))), lambda k: _nameless(normal(k))),
    )
    ways = [
        {n.number: [(frozenset(term(c.key) for c in cs), t) for cs, t in n.edges] for n in g.kept}
        for g, _, term in sides
    ]
    numbers: dict[Any, int] = {}
    colours = [{n.number: numbers.setdefault(mark(n), len(numbers)) for n in g.kept} for g, mark, _ in sides]
    while True:
        finer: dict[Any, int] = {}
        fresh: list[dict[int, int]] = []
        for (g, _, _), colour, way in zip(sides, colours, ways, strict=True):

            def after(location: int, g: FoldedGraph = g, colour: dict[int, int] = colour) -> Any:
                return location if location == RETURNED else frozenset(colour[m] for m in g.locations[location])

            told = {n: (c, frozenset((cs, after(t)) for cs, t in way[n])) for n, c in colour.items()}
            fresh.append({n: finer.setdefault(picture, len(finer)) for n, picture in told.items()})
        if len(finer) == len(numbers):
            return fresh[0], fresh[1]
        numbers, colours = finer, fresh


def _nameless(k: Any) -> Any:
    """A key without the numbers of the nodes whose values it reads."""
    return _with_registers(k, lambda _, i: i)


def _with_registers(k: Any, name: Callable[[int, str], str]) -> Any:
    """A key with another name for each register, made from the number of its node and its place there."""
    if isinstance(k, frozenset):
        return frozenset(_with_registers(x, name) for x in k)
    if not isinstance(k, tuple) or isinstance(k, Cell):
        return k
    if len(k) == 3 and k[0] == "reg":
        number, _, i = k[2].partition(".")
        return ("reg", k[1], name(int(number), i)) if number.isdigit() else k
    return tuple(_with_registers(x, name) for x in k)


def _both(a: int, b: int) -> bool:
    return (a == RETURNED) == (b == RETURNED)
