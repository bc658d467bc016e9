"""Two extractions of one routine in different orders must give one graph: else something outlived a path unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kernelmodel.graphs.continuation import op_picture

if TYPE_CHECKING:
    from kernelmodel.graphs.automaton import Edge, Graph

DIFFERS = (
    "the text does not run the same way twice: something that it keeps outside its locals (an attribute, a global, a"
    " cache) changes from one run to the next; keep it in a local or in a cell"
)


def same_unrolled(graph: Graph, other: Graph) -> bool:
    """Whether two unrolled graphs are equal but for the numbers of their nodes."""
    partner: dict[int, int] = {}

    def renamed(key: Any) -> Any:
        if not isinstance(key, tuple):
            return key
        if len(key) == 3 and key[0] == "reg" and isinstance(key[2], str):
            number, _, i = key[2].partition(".")
            if number.isdigit() and int(number) in partner:
                return ("reg", key[1], f"{partner[int(number)]}.{i}")
            return key
        return tuple(map(renamed, key)) if type(key) is tuple else key

    def match(a: Sequence[Edge], b: Sequence[Edge]) -> bool:
        theirs = {frozenset(c.key for c in e.conditions): e.target for e in b}
        if len(a) != len(b) or len(theirs) != len(b):
            return False
        for e in a:
            target = theirs.pop(frozenset(renamed(c.key) for c in e.conditions), None)
            if target is None or ((e.target < 0 or target < 0) and e.target != target):
                return False
            if e.target < 0:
                continue
            if e.target not in partner:
                partner[e.target] = target
                queue.append(e.target)
            elif partner[e.target] != target:
                return False
        return True

    queue: list[int] = []
    if not match(graph.entry, other.entry):
        return False
    while queue:
        number = queue.pop()
        one, two = graph.nodes[number], other.nodes[partner[number]]
        if one.stack != two.stack or renamed(op_picture(one.op, spelt=True)) != op_picture(two.op, spelt=True):
            return False
        if not match(one.edges, two.edges):
            return False
    return len(set(partner.values())) == len(partner)
