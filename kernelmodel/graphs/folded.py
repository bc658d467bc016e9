"""A routine as a cyclic control graph, for runs of any length: what :mod:`kernelmodel.graphs.automaton` unrolls is folded here.

A *location* is where a task stands between two operations: the operations that it may perform next, one for each CPU
that it may be on, and one for each CPU that a loop over CPUs may visit next if the order is left open.  A task whose
interrupts or preemption are off stays on its CPU; any other may be on any CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kernelmodel.calls import call_stack
from kernelmodel.cells import stops_others
from kernelmodel.errors import ModelError
from kernelmodel.graphs.continuation import Continuation, continuation, op_picture
from kernelmodel.graphs.extraction import ENTRY, MOST_ROUNDS, Extraction, Targets, Way
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph, FoldedNode, op_key, registers_of, terms_of
from kernelmodel.graphs.futures import futures
from kernelmodel.graphs.matching import matched
from kernelmodel.graphs.twice import DIFFERS
from kernelmodel.ops import CpuOp, Op, Routine
from kernelmodel.running import bound_to
from kernelmodel.terms import TRUE, Cell, Term, land
from kernelmodel.text import KernelText, from_a_file


class AnyOrder:
    """CPUs in an order that is left open: each visit is a fork of the extraction."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self.cpus = tuple(cpus)

    def __iter__(self) -> Iterator[int]:
        return _Visit(self.cpus)

    def picture(self) -> tuple[int, ...]:
        """It never changes."""
        return self.cpus


class _Visit:
    """One loop over CPUs."""

    def __init__(self, cpus: tuple[int, ...]) -> None:
        self.left = cpus

    def __iter__(self) -> Iterator[int]:
        return self

    def picture(self) -> tuple[int, ...]:
        """The CPUs that are still to be visited."""
        return self.left

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        for cpu in self.left[:-1]:
            # no condition but a free choice: the decider keeps it out of the edge
            if bool(Term("pick", (cpu, self.left), "bool")):
                break
        else:
            cpu = self.left[-1]
        self.left = tuple(c for c in self.left if c != cpu)
        return cpu


def fold(
    kernel: KernelText,
    make: Callable[[], Routine],
    cpus: Sequence[int],
    constants: Mapping[Cell, int],
    any_order: bool = False,
    present: Callable[[int], Term] = lambda _: TRUE,
    calls: bool = True,
    twice: bool | None = None,
) -> FoldedGraph:
    """The control graph of the routine that ``make`` starts with ``kernel``, as run by a task that may be on ``cpus``.

    With ``any_order`` loops over ``kernel.for_each_cpu()`` visit the CPUs in every order.  ``constants`` are cells that
    keep one value.
    Without ``calls`` no node tells in which calls it is, so that equal steps of different ones are one.
    ``present(cpu)`` says when a task that is free to move may be on that CPU.
    ModelError where a routine cannot be folded: a value from an earlier round of a loop is used in a later one.  A text
    that is not ours is run through ``twice``, in different orders: ModelError if that makes a difference.
    """
    if twice is None:
        twice = from_a_file(type(kernel))
    graph = _Folding(kernel, make, tuple(cpus), constants, any_order, present, twice, False, calls).run()
    if twice:
        again = _Folding(kernel, make, tuple(cpus), constants, any_order, present, twice, True, calls).run()
        if not _same(graph, again):
            raise ModelError(DIFFERS)
    return graph


def _same(graph: FoldedGraph, other: FoldedGraph) -> bool:
    cpus = {n.cpu: n.cpu for g in (graph, other) for n in g.nodes}
    return matched(graph, other, cpus, lambda n: op_key(n.op), lambda k: k, lambda k: k) is not None


class _Folding(Extraction):
    def __init__(
        self,
        kernel: KernelText,
        make: Callable[[], Routine],
        cpus: tuple[int, ...],
        constants: Mapping[Cell, int],
        any_order: bool,
        present: Callable[[int], Term],
        twice: bool,
        other_way: bool,
        calls: bool,
    ) -> None:
        super().__init__(type(kernel), make, constants, twice, other_way)
        self.calls = calls
        self.kernel, self.cpus, self.present = kernel, cpus, present
        self.any_order = any_order
        self.order = AnyOrder(kernel.config.cpus)
        self.nodes: list[FoldedNode] = []
        self.positions: list[Any] = []
        self.numbers: dict[Any, Targets] = {}
        #: the path that was looked at last, which only grows, how far, and what is known of its task there
        self._followed: tuple[list[int], int, tuple[int, bool, int]] = ([], 0, (-1, False, 0))

    def run(self) -> FoldedGraph:
        before = self.kernel.__dict__.get("for_each_cpu")
        if self.any_order:
            self.kernel.for_each_cpu = lambda: self.order  # type: ignore[method-assign]
        try:
            self.walk_all()
        finally:
            if self.any_order:
                if before is None:
                    del self.kernel.for_each_cpu
                else:
                    self.kernel.for_each_cpu = before  # type: ignore[method-assign]
        return self._graph()

    def is_left(self, targets: Targets) -> bool:
        del targets
        return False

    def known(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> Targets | None:
        return self.numbers.get(self._place(generator, yielded, path)[0])

    def _bound(self, yielded: Op | CpuOp, path: list[int]) -> list[tuple[Op, int]]:
        """The operation on each CPU on which it may be performed."""
        pinned, _ = self._pinned(path)
        if isinstance(yielded, CpuOp):
            if pinned >= 0:
                return [(bound_to(yielded, pinned), pinned)]
            return [(self._there(bound_to(yielded, cpu), cpu), cpu) for cpu in self.cpus]
        return [(yielded, pinned)]

    def _there(self, op: Op, cpu: int) -> Op:
        present = self.present(cpu)
        return op if present is TRUE else replace(op, guard=land(present, op.guard))

    def _place(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[Any, Continuation]:
        here = continuation(generator, self.waiting)
        ops = tuple(op_picture(op) for op, _ in self._bound(yielded, path))
        return (here.positions, here.held, *self._pinned(path), isinstance(yielded, CpuOp), ops), here

    def come_to(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[Targets, bool]:
        place, here = self._place(generator, yielded, path)
        known = self.numbers.get(place)
        if known is not None:
            self._check_registers(here, known)
            return known, False
        position = here.positions
        if len(path) > MOST_ROUNDS and sum(self.positions[n] == position for n in path) > MOST_ROUNDS:
            raise ModelError(
                f"the loop around {yielded.text!r} never comes back to where it was: a value of an earlier round of a loop "
                "is still used in a later one; store it in a cell"
            )
        numbers = []
        irqs_off = self._pinned(path)[1]
        for op, cpu in self._bound(yielded, path):
            number = len(self.nodes)
            stack = call_stack(self.text, generator) if self.calls else ()
            self.nodes.append(FoldedNode(number, op, stack, cpu, irqs_off))
            self.ops.append(op)
            self.ways[number] = []
            self.positions.append(position)
            numbers.append(number)
        self.numbers[place] = tuple(numbers)
        return tuple(numbers), True

    def _check_registers(self, here: Continuation, numbers: tuple[int, ...]) -> None:
        mine = {f"{n}." for n in numbers}
        for name in sorted(here.registers):
            if any(name.startswith(prefix) for prefix in mine):
                raise ModelError(
                    f"a value of an earlier round of a loop is still used where {self.nodes[numbers[0]].op.text!r} is "
                    "performed again: store it in a cell"
                )

    def _pinned(self, path: list[int]) -> tuple[int, bool]:
        """The CPU on which a task at the end of ``path`` has to stay, -1 if it may move; whether interrupts are off."""
        known, done, state = self._followed
        if known is not path or done > len(path):
            done, state = 0, (-1, False, 0)
        cpu, irqs_off, preempt = state
        for number in path[done:]:
            node = self.nodes[number]
            does = node.op.does
            if stops_others(does.acquires):
                irqs_off, cpu = True, node.cpu
            elif stops_others(does.releases):
                irqs_off = False
            elif does.pins:
                preempt += does.pins
                cpu = node.cpu if does.pins > 0 else cpu
        self._followed = (path, len(path), (cpu, irqs_off, preempt))
        if len(self.cpus) == 1:
            return self.cpus[0], irqs_off
        return cpu if irqs_off or preempt else -1, irqs_off

    def _graph(self) -> FoldedGraph:
        locations: dict[tuple[int, ...], int] = {}

        def joined(raw: Iterable[Way]) -> list[tuple[tuple[Term, ...], int]]:
            """Targets under the same conditions are one location: which of them comes is a free choice."""
            by_conditions: dict[Any, tuple[tuple[Term, ...], set[int], bool]] = {}
            for conditions, targets in raw:
                key = tuple(c.key for c in conditions)
                _, found, returned = by_conditions.setdefault(key, (conditions, set(), False))
                found.update(targets)
                by_conditions[key] = (conditions, found, returned or not targets)
            result = []
            for conditions, found, returned in by_conditions.values():
                if returned:
                    result.append((conditions, RETURNED))
                if found:
                    result.append((conditions, locations.setdefault(tuple(sorted(found)), len(locations))))
            return result

        entry = tuple(joined(self.ways[ENTRY]))
        for node in self.nodes:
            node.edges = joined(self.ways[node.number])
        return minimised(FoldedGraph(entry, tuple(self.nodes), tuple(locations)))


def minimised(graph: FoldedGraph) -> FoldedGraph:
    """The graph with nodes of equal futures merged: same operation, same edges, to nodes of equal futures."""
    keys = [(op_key(n.op), n.cpu, n.irqs_off, n.stack) for n in graph.nodes]
    ways = [[(tuple(c.key for c in conditions), t) for conditions, t in n.edges] for n in graph.nodes]
    return _merged(graph, futures(keys, ways, graph.locations))


def _merged(graph: FoldedGraph, classes: list[int]) -> FoldedGraph:
    first: dict[int, int] = {}
    for n, c in enumerate(classes):
        first.setdefault(c, n)
    locations: dict[tuple[int, ...], int] = {}

    def moved(location: int) -> int:
        if location == RETURNED:
            return RETURNED
        nodes = tuple(sorted({first[classes[n]] for n in graph.locations[location]}))
        return locations.setdefault(nodes, len(locations))

    entry = tuple((c, moved(t)) for c, t in graph.entry)
    nodes: dict[int, FoldedNode] = {}
    for numbers in iter_growing(locations):
        for n in numbers:
            if n not in nodes:
                old = graph.nodes[n]
                edges = [(c, moved(t)) for c, t in old.edges]
                nodes[n] = FoldedNode(n, old.op, old.stack, old.cpu, old.irqs_off, edges)
    used = {
        int(r.partition(".")[0])
        for n in nodes.values()
        for r in registers_of((*terms_of(n.op), *(c for e in n.edges for c in e[0])))
        if r.partition(".")[0].isdigit()
    }
    if not used <= nodes.keys():
        # a register outlives the node that would have to stand for its own: leave the graph as it is
        return graph
    return FoldedGraph(entry, tuple(nodes.get(n.number, n) for n in graph.nodes), tuple(locations))


def iter_growing(found: Mapping[tuple[int, ...], int]) -> Iterator[tuple[int, ...]]:
    """The keys of a dict that grows meanwhile."""
    done = 0
    while done < len(found):
        for key in list(found)[done:]:
            done += 1
            yield key
