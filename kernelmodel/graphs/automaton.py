"""A routine as an acyclic control graph: its loops unrolled, as often as a bound says.

Two runs are at the same node if nothing that follows can tell them apart: the same continuation (everything that their
frames hold, see :mod:`kernelmodel.graphs.continuation`) and the same operation, all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kernelmodel.calls import call_stack
from kernelmodel.errors import ModelError
from kernelmodel.graphs.continuation import continuation, op_picture
from kernelmodel.graphs.extraction import ENTRY, MOST_ROUNDS, Extraction, Targets
from kernelmodel.graphs.twice import DIFFERS, same_unrolled
from kernelmodel.ops import CpuOp, Op, Routine
from kernelmodel.running import bound_to
from kernelmodel.terms import Cell, Term, atoms
from kernelmodel.text import KernelText, from_a_file

#: where each generator of a ``yield from`` chain stands in its code
Positions = tuple[tuple[int, int], ...]
#: targets of edges that leave the graph: the routine returns, or the bound on a loop cuts it off
DONE, CUT = -1, -2


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one operation to the next: taken when all ``conditions`` (over registers) hold."""

    conditions: tuple[Term, ...]
    target: int


@dataclass(slots=True)
class Node:
    """An operation at one place of the control flow; its returned values are the registers ``<number>.<i>``."""

    number: int
    op: Op
    stack: tuple[str, ...]
    edges: list[Edge]


@dataclass(frozen=True, slots=True)
class Graph:
    """The control graph of a routine: ``entry`` leads to the first operation.

    ``asked``: the cells that its operations return; it is the same for all constants that agree on these.
    """

    entry: list[Edge]
    nodes: list[Node]
    asked: frozenset[Cell] = frozenset()


def duplicate(graph: Graph) -> Graph:
    """The same graph with nodes of its own."""
    return replace(graph, entry=list(graph.entry), nodes=[replace(n, edges=list(n.edges)) for n in graph.nodes])


@dataclass(slots=True)
class Loops:
    """Where paths come back to, learned while they are unrolled; positions in the code stay the same all along.

    ``heads``: how often a path has come to these is counted, and nothing else tells two rounds of a loop apart.
    ``inside``: from these a path may come to a head again; past them the count is forgotten.
    """

    heads: set[Positions] = field(default_factory=set)
    inside: set[Positions] | None = None


class _HeadFoundError(Exception):
    """A loop that was not known before: the graph is begun anew."""


def extract(
    kernel: type[KernelText],
    make: Callable[[], Routine],
    cpu: int,
    constants: Mapping[Cell, int] | None = None,
    visits: Callable[[Op], int] = lambda _: 1,
    loops: Loops | None = None,
    twice: bool | None = None,
) -> Graph:
    """Unroll the routine that ``make`` starts, as run by a task that stays on ``cpu``, into an acyclic graph.

    ``constants`` are cells that nobody writes, with their value: reading them forks nothing.  ``visits(op)`` bounds how
    often a path may come to the same place of a loop; the path is cut where it would come once more, and no other path
    is: what a path may still do depends on how often it has come to the loops that it is in, so that is part of its
    place.  ``loops`` hands on what was learned of the same routine.  A text that is not ours is run through ``twice``,
    in different orders: ModelError if that makes a difference.
    """
    loops = Loops() if loops is None else loops
    if twice is None:
        twice = from_a_file(kernel)
    graph = _unrolled(kernel, make, cpu, constants or {}, visits, loops, twice, False)
    if twice:
        known = set(loops.heads)
        again = _unrolled(kernel, make, cpu, constants or {}, visits, loops, twice, True)
        if loops.heads != known:
            graph = _unrolled(kernel, make, cpu, constants or {}, visits, loops, twice, False)
        if not same_unrolled(graph, again):
            raise ModelError(DIFFERS)
    return graph


def _unrolled(
    kernel: type[KernelText], make: Callable[[], Routine], cpu: int, constants: Mapping[Cell, int],
    visits: Callable[[Op], int], loops: Loops, twice: bool, other_way: bool,
) -> Graph:  # fmt: skip
    while True:
        extraction = _Unrolling(kernel, make, cpu, constants, visits, loops, twice, other_way)
        try:
            graph = extraction.graph()
        except _HeadFoundError:
            loops.inside = None
            continue
        inside, known = extraction.inside(), loops.inside or set()
        if inside <= known:
            return graph
        loops.inside = inside | known


class _Unrolling(Extraction):
    def __init__(
        self,
        kernel: type[KernelText],
        make: Callable[[], Routine],
        cpu: int,
        constants: Mapping[Cell, int],
        visits: Callable[[Op], int],
        loops: Loops,
        twice: bool,
        other_way: bool,
    ) -> None:
        super().__init__(kernel, make, constants, twice, other_way)
        self.cpu, self.visits, self.loops = cpu, visits, loops
        #: the cells that operations return, so far: no other constants have a part in what is walked
        self.asked: set[Cell] = set()
        self.stacks: list[tuple[str, ...]] = []
        self.numbers: dict[Any, int] = {}
        self.places: list[int] = []
        self.positions: list[Positions] = []
        self.heads: set[int] = set()
        self.place_numbers: dict[Any, int] = {}

    def graph(self) -> Graph:
        self.walk_all()

        def edges(number: int) -> list[Edge]:
            return [Edge(conditions, targets[0] if targets else DONE) for conditions, targets in self.ways[number]]

        nodes = [Node(n, op, stack, edges(n)) for n, (op, stack) in enumerate(zip(self.ops, self.stacks, strict=True))]
        return Graph(edges(ENTRY), nodes, frozenset(self.asked))

    def is_left(self, targets: Targets) -> bool:
        return targets == (CUT,)

    def known(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> Targets | None:
        number = self.numbers.get(self._key(generator, yielded, path)[0])
        return None if number is None else (number,)

    def come_to(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[Targets, bool]:
        key, op, positions = self._key(generator, yielded, path)
        before = sum(self.places[n] == key[0] for n in path)
        is_head = positions in self.loops.heads
        if before >= self.visits(op):
            if not is_head:
                self._found(positions)
            return (CUT,), False
        if key in self.numbers:
            number = self.numbers[key]
            if number in path:
                self._found(positions)
            return (number,), False
        if len(path) > MOST_ROUNDS and sum(self.positions[n] == positions for n in path) > MOST_ROUNDS:
            raise ModelError(
                f"{op.text}: a loop in which values grow without end; bound it, or keep less from round to round"
            )
        number = self.numbers[key] = len(self.ops)
        self.places.append(key[0])
        self.positions.append(positions)
        if is_head:
            self.heads.add(number)
        self.ops.append(op)
        self.stacks.append(call_stack(self.text, generator))
        self.ways[number] = []
        return (number,), True

    def _key(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[Any, Op, Positions]:
        op = bound_to(yielded, self.cpu)
        self.asked.update(a.args[0] for t in op.returns for a in atoms(t, "cell"))
        op = self.with_constants(op)
        here = continuation(generator, self.waiting)
        place = self.place_numbers.setdefault((here.positions, here.held, op_picture(op)), len(self.place_numbers))
        return (place, self._rounds(here.positions, path)), op, here.positions

    def _rounds(self, positions: Positions, path: list[int]) -> frozenset[tuple[int, int]]:
        """How often the path has come to the heads of loops, where that matters for what follows."""
        if self.loops.inside is not None and positions not in self.loops.inside:
            return frozenset()
        return frozenset(Counter(self.places[n] for n in path if n in self.heads).items())

    def _found(self, head: Positions) -> None:
        self.loops.heads.add(head)
        raise _HeadFoundError

    def inside(self) -> set[Positions]:
        """The positions from which a path may come to the head of a loop."""
        before: dict[int, list[int]] = {}
        for number, ways in self.ways.items():
            for _, targets in ways:
                if targets:
                    before.setdefault(targets[0], []).append(number)
        # a path is cut at heads only
        queue = [CUT, *self.heads]
        found = set(queue)
        while queue:
            for number in before.get(queue.pop(), ()):
                if number not in found and number != ENTRY:
                    found.add(number)
                    queue.append(number)
        return {self.positions[n] for n in found if n >= 0}
