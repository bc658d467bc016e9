"""A routine as a control graph: the generator is run with symbolic registers, and each ``bool(term)`` forks.

Two runs that stand at the same continuation (same code position of the whole ``yield from`` chain, same live locals,
same operation) are the same node.  What a routine keeps in local variables is seen; what it keeps only in an unfinished
expression is not, so a ``yield`` belongs in a statement of its own or in an ``if``.
"""

from __future__ import annotations

import dis
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import CodeType
from typing import Any

from kernelmodel.machine import call_stack, packed
from kernelmodel.ops import CpuOp, Op, Routine, advance
from kernelmodel.terms import Cell, Term, const, deciding, lnot, reg, substitute_cells
from kernelmodel.text import KernelText

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


def extract(
    kernel: type[KernelText],
    make: Callable[[], Routine],
    cpu: int,
    constants: Mapping[Cell, int] | None = None,
    visits: Callable[[Op], int] = lambda _: 1,
) -> Graph:
    """Unroll the routine that ``make`` starts, as run by a task that stays on ``cpu``, into an acyclic graph.

    ``constants`` are cells that nobody writes, with their value: reading them forks nothing.  ``visits(op)`` bounds how
    often a path may come to the same place of a loop; the path is cut where it would come once more.
    """
    return _Extraction(kernel, make, cpu, constants or {}, visits).run()


class _Extraction:
    def __init__(
        self,
        kernel: type[KernelText],
        make: Callable[[], Routine],
        cpu: int,
        constants: Mapping[Cell, int],
        visits: Callable[[Op], int],
    ) -> None:
        self.kernel, self.make, self.cpu = kernel, make, cpu
        self.constants = {c: const(v) for c, v in constants.items()}
        self.visits = visits
        self.nodes: list[Node] = []
        self.numbers: dict[Any, int] = {}
        self.places: list[Any] = []
        self.entry: list[Edge] = []

    def run(self) -> Graph:
        # (path of nodes walked so far, decisions of each segment, decisions of the last segment)
        todo: list[tuple[list[int], list[list[bool]], list[bool]]] = [([], [], [])]
        while todo:
            path, script, last = todo.pop()
            generator, value = self._again(path, script)
            self._walk(generator, value, list(path), list(script), last, todo)
        return Graph(self.entry, self.nodes)

    def _again(self, path: list[int], script: list[list[bool]]) -> tuple[Routine, Any]:
        generator, value = self.make(), None
        for number, decisions in zip(path, script, strict=True):
            with deciding(Decider(decisions)):
                advance(generator, value)
            value = self._value(self.nodes[number])
        return generator, value

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
            decider = Decider(decisions)
            given = len(decisions)
            with deciding(decider):
                try:
                    yielded: Op | CpuOp | None = advance(generator, value)
                except StopIteration:
                    yielded = None
            for i in range(given, len(decider.made)):
                todo.append((list(path), list(script), [*decider.made[:i], False]))
            edges = self.nodes[path[-1]].edges if path else self.entry
            conditions = tuple(decider.conditions)
            if yielded is None:
                edges.append(Edge(conditions, DONE))
                return
            number, fresh = self._node(generator, yielded, path)
            edges.append(Edge(conditions, number))
            if not fresh:
                return
            path.append(number)
            script.append(list(decider.made))
            value, decisions = self._value(self.nodes[number]), []

    def _node(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[int, bool]:
        op = yielded.at(self.cpu) if isinstance(yielded, CpuOp) else yielded
        if self.constants:
            op = with_constants(op, self.constants)
        place = (continuation(generator), op.text, op.tag, tuple((c, t.key) for c, t in op.updates))
        before = sum(self.places[n] == place for n in path)
        if before >= self.visits(op):
            return CUT, False
        key = (place, before)
        if key in self.numbers:
            return self.numbers[key], False
        number = self.numbers[key] = len(self.nodes)
        self.places.append(place)
        self.nodes.append(Node(number, op, call_stack(self.kernel, generator), []))
        return number, True


class Decider:
    """Answers ``bool(term)``: first what was decided before, then always true, noting that it could be otherwise.

    A term with the head ``pick`` is a free choice and no condition (see :mod:`kernelmodel.folded`).
    """

    def __init__(self, decisions: list[bool]) -> None:
        self.given = decisions
        self.made: list[bool] = []
        self.conditions: list[Term] = []
        self.known: dict[Any, bool] = {}

    def __call__(self, term: Term) -> bool:
        """The decision on ``term``."""
        if term.key in self.known:
            return self.known[term.key]
        decision = self.given[len(self.made)] if len(self.made) < len(self.given) else True
        self.made.append(decision)
        if term.op != "pick":
            self.conditions.append(term if decision else lnot(term))
        self.known[term.key] = decision
        return decision


def with_constants(op: Op, constants: Mapping[Cell, Term]) -> Op:
    """``op`` returning the values of cells that keep one value as constants."""
    returns = tuple(substitute_cells(t, constants) for t in op.returns)
    if all(new.key == old.key for new, old in zip(returns, op.returns, strict=True)):
        return op
    return replace(op, returns=returns)


def continuation(generator: Routine) -> tuple[Any, ...]:
    """Where a suspended routine stands: code positions of the whole chain of calls, with their live locals."""
    chain = []
    current: Any = generator
    while current is not None and getattr(current, "gi_frame", None) is not None:
        frame = current.gi_frame
        live = live_locals(frame.f_code, frame.f_lasti)
        chain.append((frame.f_code, frame.f_lasti, tuple((n, _freeze(frame.f_locals.get(n))) for n in sorted(live))))
        current = current.gi_yieldfrom
    return tuple(chain)


def _freeze(value: Any) -> Any:
    """A hashable picture of a local variable."""
    if isinstance(value, Term):
        return value.key
    if isinstance(value, KernelText):
        return "self"
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(_freeze(getattr(value, f.name)) for f in fields(value)))
    if isinstance(value, (tuple, list)):
        return tuple(_freeze(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _freeze(v)) for k, v in value.items())
    if callable(value):
        return getattr(value, "__qualname__", repr(type(value)))
    return (type(value), value)


@functools.cache
def live_locals(code: CodeType, lasti: int) -> frozenset[str]:
    """Local variables of ``code`` that may still be read after the instruction at ``lasti``.

    Loop variables count as read, for they stand for the iterator, which is no local; so do variables of closures.  An
    instruction that is not understood counts as a read: more live variables only mean more nodes.
    """
    position, live = _live_after(code)
    return live[position.get(lasti, -1)]


@functools.cache
def _live_after(code: CodeType) -> tuple[dict[int, int], list[frozenset[str]]]:
    """The place of each instruction's offset; for each place, and last for the beginning, what is live after it."""
    instructions = list(dis.get_instructions(code))
    position = {ins.offset: i for i, ins in enumerate(instructions)}
    if any(ins.opname == "PUSH_EXC_INFO" for ins in instructions):
        # a handler may be entered from anywhere in its block, and may read anything
        anything = frozenset((*code.co_varnames, *code.co_cellvars, *code.co_freevars))
        return position, [anything] * (len(instructions) + 1)
    kept = frozenset((*_loop_variables(instructions), *code.co_cellvars, *code.co_freevars))
    follows = [_successors(instructions, i, position) for i in range(len(instructions))]
    accesses = [_reads_writes(ins) for ins in instructions]
    before: list[frozenset[str]] = [frozenset()] * (len(instructions) + 1)
    changed = True
    while changed:
        changed = False
        for i in range(len(instructions) - 1, -1, -1):
            reads, writes = accesses[i]
            new = (frozenset().union(*(before[s] for s in follows[i])) - writes) | reads
            if new != before[i]:
                before[i], changed = new, True
    after = [frozenset().union(*(before[s] for s in found)) | kept for found in (*follows, [0])]
    return position, after


def _loop_variables(instructions: list[dis.Instruction]) -> set[str]:
    found: set[str] = set()
    for ins, following in itertools.pairwise(instructions):
        if ins.opname == "FOR_ITER" and "STORE_FAST" in following.opname:
            found |= _names(following)
    return found


def _successors(instructions: list[dis.Instruction], i: int, position: dict[int, int]) -> list[int]:
    if i < 0:
        return [0]
    ins = instructions[i]
    found = []
    if ins.opcode in dis.hasjrel or ins.opcode in dis.hasjabs:
        found.append(position[ins.argval])
    ends = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
    unconditional = ins.opname.startswith(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_ABSOLUTE"))
    if ins.opname not in ends and not unconditional:
        found.append(i + 1)
    return found


def _names(ins: dis.Instruction) -> set[str]:
    return set(ins.argval) if isinstance(ins.argval, tuple) else {str(ins.argval)}


def _reads_writes(ins: dis.Instruction) -> tuple[set[str], set[str]]:
    if "FAST" not in ins.opname:
        return set(), set()
    if ins.opname in ("STORE_FAST", "DELETE_FAST", "STORE_FAST_STORE_FAST", "STORE_FAST_MAYBE_NULL"):
        return set(), _names(ins)
    if ins.opname == "STORE_FAST_LOAD_FAST" and isinstance(ins.argval, tuple):
        return {ins.argval[1]} - {ins.argval[0]}, {ins.argval[0]}
    return _names(ins), set()
