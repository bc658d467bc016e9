"""A routine as a control graph: the generator is run with symbolic registers, and each ``bool(term)`` forks.

Two runs are at the same node if nothing that follows can tell them apart: the same continuation (everything that their
frames hold, see :mod:`kernelmodel.graphs.continuation`) and the same operation, all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.graphs.continuation import continuation, op_picture
from kernelmodel.graphs.twice import DIFFERS, same_unrolled
from kernelmodel.machine import call_stack, packed
from kernelmodel.ops import CpuOp, Op, Routine, advance, bound_to
from kernelmodel.terms import Cell, Term, const, deciding, lnot, reg, substitute_cells
from kernelmodel.text import KernelText, from_a_file

#: where each generator of a ``yield from`` chain stands in its code
Positions = tuple[tuple[int, int], ...]
#: a path that comes to the same instruction more often, each time with other values, is taken for endless
MOST_ROUNDS = 130
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
    """The control graph of a routine: ``entry`` leads to the first operation."""

    entry: list[Edge]
    nodes: list[Node]


def duplicate(graph: Graph) -> Graph:
    """The same graph with nodes of its own."""
    return Graph(list(graph.entry), [replace(n, edges=list(n.edges)) for n in graph.nodes])


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
) -> Graph:
    """Unroll the routine that ``make`` starts, as run by a task that stays on ``cpu``, into an acyclic graph.

    ``constants`` are cells that nobody writes, with their value: reading them forks nothing.  ``visits(op)`` bounds how
    often a path may come to the same place of a loop; the path is cut where it would come once more, and no other path
    is: what a path may still do depends on how often it has come to the loops that it is in, so that is part of its
    place.  ``loops`` hands on what was learned of the same routine.  A text that is not ours is run through twice, in
    different orders: ModelError if that makes a difference.
    """
    loops = Loops() if loops is None else loops
    graph = _unrolled(kernel, make, cpu, constants or {}, visits, loops, False)
    if from_a_file(kernel):
        known = set(loops.heads)
        again = _unrolled(kernel, make, cpu, constants or {}, visits, loops, True)
        if loops.heads != known:
            graph = _unrolled(kernel, make, cpu, constants or {}, visits, loops, False)
        if not same_unrolled(graph, again):
            raise ModelError(DIFFERS)
    return graph


def _unrolled(
    kernel: type[KernelText], make: Callable[[], Routine], cpu: int, constants: Mapping[Cell, int],
    visits: Callable[[Op], int], loops: Loops, other_way: bool,
) -> Graph:  # fmt: skip
    while True:
        extraction = _Extraction(kernel, make, cpu, constants, visits, loops, other_way)
        try:
            graph = extraction.run()
        except _HeadFoundError:
            loops.inside = None
            continue
        inside, known = extraction.inside(), loops.inside or set()
        if inside <= known:
            return graph
        loops.inside = inside | known


class _Extraction:
    def __init__(
        self,
        kernel: type[KernelText],
        make: Callable[[], Routine],
        cpu: int,
        constants: Mapping[Cell, int],
        visits: Callable[[Op], int],
        loops: Loops,
        other_way: bool,
    ) -> None:
        self.kernel, self.make, self.cpu, self.loops, self.other_way = kernel, make, cpu, loops, other_way
        self.constants = {c: const(v) for c, v in constants.items()}
        self.visits, self.confirm = visits, from_a_file(kernel)
        self.nodes: list[Node] = []
        self.numbers: dict[Any, int] = {}
        self.places: list[int] = []
        self.positions: list[Positions] = []
        self.heads: set[int] = set()
        self.place_numbers: dict[Any, int] = {}
        self.entry: list[Edge] = []

    def run(self) -> Graph:
        # (path of nodes walked so far, decisions of each segment, decisions of the last segment)
        todo: list[tuple[list[int], list[list[bool]], list[bool]]] = [([], [], [])]
        while todo:
            path, script, last = todo.pop(0 if self.other_way else -1)
            generator = self.make()
            # for the attributes that the kernel begins with
            continuation(generator)
            try:
                self._walk(generator, self._again(generator, path, script), list(path), list(script), last, todo)
            finally:
                abandon(generator)
        return Graph(self.entry, self.nodes)

    def _again(self, generator: Routine, path: list[int], script: list[list[bool]]) -> Any:
        value = None
        for number, decisions in zip(path, script, strict=True):
            with deciding(Decider(decisions)):
                advance(generator, value)
            value = self._value(self.nodes[number])
        return value

    def _value(self, node: Node) -> Any:
        returned = tuple(
            t.args[0] if t.op == "const" else reg(f"{node.number}.{i}", t.sort) for i, t in enumerate(node.op.returns)
        )
        return packed(node.op, returned)

    def _walk(
        self,
        generator: Routine,
        value: Any,
        path: list[int],
        script: list[list[bool]],
        decisions: list[bool],
        todo: Any,
    ) -> None:
        while True:
            decider = Decider(decisions, not self.other_way)
            given = len(decisions)
            with deciding(decider):
                try:
                    yielded: Op | CpuOp | None = advance(generator, value)
                except StopIteration:
                    yielded = None
            for i in range(given, len(decider.made)):
                todo.append((list(path), list(script), [*decider.made[:i], not decider.made[i]]))
            edges = self.nodes[path[-1]].edges if path else self.entry
            conditions = tuple(decider.conditions)
            if yielded is None:
                edges.append(Edge(conditions, DONE))
                return
            number, fresh = self._node(generator, yielded, path)
            edges.append(Edge(conditions, number))
            if not fresh:
                if self.confirm and number != CUT:
                    self._confirm(generator, [*path, number])
                return
            path.append(number)
            script.append(list(decider.made))
            value, decisions = self._value(self.nodes[number]), []

    def _confirm(self, generator: Routine, path: list[int]) -> None:
        """Go on from a place that was met before: the routine must do what it did then."""
        while True:
            node = self.nodes[path[-1]]
            decider = Decider([], not self.other_way)
            with deciding(decider):
                try:
                    yielded: Op | CpuOp | None = advance(generator, self._value(node))
                except StopIteration:
                    yielded = None
            taken = [c.key for c in decider.conditions]
            edge = next((e for e in node.edges if [c.key for c in e.conditions] == taken), None)
            if edge is None or edge.target == CUT:
                # that way has not been walked yet, or no further
                return
            key = None if yielded is None else self._key(generator, yielded, path)[0]
            if self.numbers.get(key, DONE) != edge.target:
                raise ModelError(DIFFERS)
            if yielded is None:
                return
            path.append(edge.target)

    def _key(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[Any, Op, Positions]:
        op = bound_to(yielded, self.cpu)
        if self.constants:
            op = with_constants(op, self.constants)
        here = continuation(generator)
        place = self.place_numbers.setdefault((here.positions, here.held, op_picture(op)), len(self.place_numbers))
        return (place, self._rounds(here.positions, path)), op, here.positions

    def _rounds(self, positions: Positions, path: list[int]) -> frozenset[tuple[int, int]]:
        """How often the path has come to the heads of loops, where that matters for what follows."""
        if self.loops.inside is not None and positions not in self.loops.inside:
            return frozenset()
        return frozenset(Counter(self.places[n] for n in path if n in self.heads).items())

    def _node(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[int, bool]:
        key, op, positions = self._key(generator, yielded, path)
        before = sum(self.places[n] == key[0] for n in path)
        is_head = positions in self.loops.heads
        if before >= self.visits(op):
            if not is_head:
                self._found(positions)
            return CUT, False
        if key in self.numbers:
            number = self.numbers[key]
            if number in path:
                self._found(positions)
            return number, False
        if sum(self.positions[n] == positions for n in path) > MOST_ROUNDS:
            raise ModelError(
                f"{op.text}: a loop in which values grow without end; bound it, or keep less from round to round"
            )
        number = self.numbers[key] = len(self.nodes)
        self.places.append(key[0])
        self.positions.append(positions)
        if is_head:
            self.heads.add(number)
        self.nodes.append(Node(number, op, call_stack(self.kernel, generator), []))
        return number, True

    def _found(self, head: Positions) -> None:
        self.loops.heads.add(head)
        raise _HeadFoundError

    def inside(self) -> set[Positions]:
        """The positions from which a path may come to the head of a loop."""
        before: dict[int, list[int]] = {}
        for node in self.nodes:
            for edge in node.edges:
                before.setdefault(edge.target, []).append(node.number)
        # a path is cut at heads only
        queue = [CUT, *self.heads]
        found = set(queue)
        while queue:
            for number in before.get(queue.pop(), ()):
                if number not in found:
                    found.add(number)
                    queue.append(number)
        return {self.positions[n] for n in found if n >= 0}


class Decider:
    """Answers ``bool(term)``: first what was decided before, then always ``first``, noting that it could be otherwise.

    A term with the head ``pick`` is a free choice and no condition (see :mod:`kernelmodel.graphs.folded`).
    """

    def __init__(self, decisions: list[bool], first: bool = True) -> None:
        self.given, self.first = decisions, first
        self.made: list[bool] = []
        self.conditions: list[Term] = []
        self.known: dict[Any, bool] = {}

    def __call__(self, term: Term) -> bool:
        """The decision on ``term``."""
        if term.key in self.known:
            return self.known[term.key]
        decision = self.given[len(self.made)] if len(self.made) < len(self.given) else self.first
        self.made.append(decision)
        if term.op != "pick":
            self.conditions.append(term if decision else lnot(term))
        self.known[term.key] = decision
        return decision


def abandon(generator: Routine) -> None:
    """End a routine that is not run any further; what its ``finally`` blocks do then is nobody's business."""
    try:
        with deciding(lambda _: False):
            generator.close()
    except Exception:
        # a block that yields is told by a RuntimeError: the run is over all the same
        return


def with_constants(op: Op, constants: Mapping[Cell, Term]) -> Op:
    """``op`` returning the values of cells that keep one value as constants."""
    returns = tuple(substitute_cells(t, constants) for t in op.returns)
    if all(new.key == old.key for new, old in zip(returns, op.returns, strict=True)):
        return op
    return replace(op, returns=returns)
