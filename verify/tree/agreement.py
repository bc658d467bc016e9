"""Whether a routine's C does the same as the model's text of its era: the same control graph, or the first difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph, FoldedNode, op_key
from kernelmodel.graphs.matching import matched
from kernelmodel.mmzone import MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Routine
from kernelmodel.terms import reg
from kernelmodel.text import KernelText, has_routine

#: a small machine: what differs on it differs
MACHINE = Config(nr_cpus=2, block_types=(MigrateType.MOVABLE,) * 2)

#: what a routine of the model is called with, by the name of its parameter
GIVEN: dict[str, Any] = {
    "page": Page(-1, reg("given.block"), Zone()), "zone": Zone(), "cpu": 1, "migratetype": reg("given.type"),
    "work_cpu": 1, "high": reg("given.high"), "batch": reg("given.batch"),
    "force_all_cpus": True, "page_range": PageRange(1, 1), "cpu_online=0": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the two part: what the C does there, and what the text does; both empty where they do not."""

    c: str = ""
    text: str = ""
    reason: str = ""

    @property
    def none(self) -> bool:
        """Whether there is no difference."""
        return not (self.c or self.text or self.reason)


def compared(tree: type[KernelText], era: type[KernelText], routine: str, parameters: str) -> Difference:
    """A routine of the model, as a tree has it and as the era's text does."""
    if not has_routine(era, routine):
        return Difference(reason=f"{era.name} has no such routine")
    given = [GIVEN[p.strip()] for p in parameters.split(",")]
    try:
        one, other = (_graph(kernel, routine, given) for kernel in (tree, era))
    except ModelError as error:
        return Difference(reason=str(error))
    cpus = {n.cpu: n.cpu for g in (one, other) for n in g.nodes}
    if matched(one, other, cpus, lambda n: op_key(n.op), lambda k: k, lambda k: k) is not None:
        return Difference()
    return _first(one, other)


def _graph(kernel: type[KernelText], routine: str, given: Sequence[Any]) -> FoldedGraph:
    made = kernel(MACHINE)

    def begin() -> Routine:
        start: Callable[..., Routine] = getattr(made, routine)
        return start(*given)

    return fold(made, begin, (0,), {}, calls=False)


def _first(one: FoldedGraph, other: FoldedGraph) -> Difference:
    """Walk both together from their entries to the first place where they do something else."""
    todo: list[tuple[list[Any], list[Any]]] = [(list(one.entry), list(other.entry))]
    seen: set[tuple[int, int]] = set()
    while todo:
        a, b = todo.pop(0)
        mine, theirs = _next(one, a), _next(other, b)
        for kind in {**mine, **theirs}:
            if kind not in mine or kind not in theirs:
                left = [n for k, n in mine.items() if k not in theirs]
                right = [n for k, n in theirs.items() if k not in mine]
                return Difference(_words(left), _words(right))
            x, y = mine[kind], theirs[kind]
            if x is None or y is None or (x.number, y.number) in seen:
                continue
            seen.add((x.number, y.number))
            todo.append((list(x.edges), list(y.edges)))
    return Difference(reason="the same operations, under other conditions or with other values")


def _next(graph: FoldedGraph, edges: Sequence[Any]) -> dict[Any, FoldedNode | None]:
    found: dict[Any, FoldedNode | None] = {}
    for _, location in edges:
        if location == RETURNED:
            found["returns"] = None
        else:
            for number in graph.locations[location]:
                node = graph.nodes[number]
                found[_kind(node)] = node
    return found


def _kind(node: FoldedNode) -> Any:
    op = node.op
    return (
        op.kind, tuple(sorted(str(c) for c, _ in op.updates)), len(op.returns), tuple(sorted(c.key[2] for c in op.choices)),
        node.cpu,
    )  # fmt: skip


def _words(nodes: Sequence[FoldedNode | None]) -> str:
    texts = sorted({"it returns" if n is None else n.op.text.replace("{0}", "…").replace("{1}", "…") for n in nodes})
    return ", or ".join(texts) or "nothing"
