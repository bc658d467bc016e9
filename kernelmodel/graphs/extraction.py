"""A routine run with symbolic registers, each ``bool(term)`` a fork: the walk that both kinds of control graphs are made by.

A path is walked by a generator of its own, which is led to where it forks by the decisions made so far.  What is a place,
and whether a path ends there, is for the kind of graph to say: :mod:`kernelmodel.graphs.automaton` unrolls loops,
:mod:`kernelmodel.graphs.folded` folds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import is_
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.graphs.continuation import Waiting, continuation
from kernelmodel.graphs.twice import DIFFERS
from kernelmodel.machine import packed
from kernelmodel.ops import CpuOp, Op, Routine
from kernelmodel.running import advance
from kernelmodel.terms import Cell, Term, const, deciding, lnot, reg, substitute_cells
from kernelmodel.text import KernelText

#: a path that comes to the same instruction more often, each time with other values, is taken for endless
MOST_ROUNDS = 130
#: the number under which the ways into a graph are kept
ENTRY = -1
#: where a way leads: the nodes of which one is next (the CPU decides), none where the routine returns
Targets = tuple[int, ...]
#: a way from one operation to the next: taken when all conditions (over registers) hold
Way = tuple[tuple[Term, ...], Targets]
#: a path that is still to be walked: its nodes, the decisions between them, and the first ones after the last
Begun = tuple[list[int], list[list[bool]], list[bool]]


class Extraction:
    """The walk; ``ops`` are the operations of the nodes, ``ways`` what follows each, by its number."""

    def __init__(
        self, kernel: type[KernelText], make: Callable[[], Routine], constants: Mapping[Cell, int], twice: bool,
        other_way: bool,
    ) -> None:  # fmt: skip
        """``constants`` are cells that keep one value.

        ``twice``: the text is not trusted, and runs on for a while where it comes to what it has come to before;
        ``other_way`` takes branches and paths in another order.
        """
        self.text, self.make, self.other_way, self.confirms = kernel, make, other_way, twice
        self.constants = {c: const(v) for c, v in constants.items()}
        #: of the path that is walked: what its routine holds that waits for calls to return
        self.waiting: Waiting = {}
        self.ops: list[Op] = []
        self.ways: dict[int, list[Way]] = {ENTRY: []}

    # --- what a kind of graph says ---

    def come_to(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> tuple[Targets, bool]:
        """The nodes at which a path has come to an operation, and whether they are new and the path goes on."""
        raise NotImplementedError

    def known(self, generator: Routine, yielded: Op | CpuOp, path: list[int]) -> Targets | None:
        """The nodes at which a path comes to an operation if it has come there before."""
        raise NotImplementedError

    def is_left(self, targets: Targets) -> bool:
        """Whether a way leads out of what was walked: nothing more is known of it."""
        raise NotImplementedError

    # --- the walk ---

    def walk_all(self) -> None:
        """Walk every path."""
        todo: list[Begun] = [([], [], [])]
        while todo:
            path, script, last = todo.pop(0 if self.other_way else -1)
            generator = self.make()
            self.waiting = {}
            # for the attributes that the kernel begins with
            continuation(generator)
            try:
                self._walk(generator, list(path), list(script), last, todo)
            finally:
                abandon(generator)

    def _walk(
        self, generator: Routine, path: list[int], script: list[list[bool]], decisions: list[bool], todo: list[Begun]
    ) -> None:
        value = None
        for number, made in zip(path, script, strict=True):
            with deciding(Decider(made)):
                advance(generator, value)
            value = self._value(number)
        while True:
            decider = Decider(decisions, not self.other_way)
            given = len(decisions)
            yielded = self._next(generator, value, decider)
            for i in range(given, len(decider.made)):
                todo.append((list(path), list(script), [*decider.made[:i], not decider.made[i]]))
            ways = self.ways[path[-1] if path else ENTRY]
            conditions = tuple(decider.conditions)
            if yielded is None:
                ways.append((conditions, ()))
                return
            targets, fresh = self.come_to(generator, yielded, path)
            ways.append((conditions, targets))
            if not fresh:
                if self.confirms and not self.is_left(targets):
                    self._confirm(generator, [*path, targets[0]])
                return
            script.append(list(decider.made))
            for other in targets[1:]:
                todo.append(([*path, other], list(script), []))
            path.append(targets[0])
            value, decisions = self._value(targets[0]), []

    def _next(self, generator: Routine, value: Any, decider: Decider) -> Op | CpuOp | None:
        with deciding(decider):
            try:
                yielded: Op | CpuOp = advance(generator, value)
            except StopIteration:
                return None
        return yielded

    def _value(self, number: int) -> Any:
        op = self.with_constants(self.ops[number])
        returned = tuple(
            t.args[0] if t.op == "const" else reg(f"{number}.{i}", t.sort) for i, t in enumerate(op.returns)
        )
        return packed(op, returned)

    def with_constants(self, op: Op) -> Op:
        """``op`` returning the values of cells that keep one value as constants."""
        returns = tuple(substitute_cells(t, self.constants) for t in op.returns)
        if all(map(is_, returns, op.returns)):
            return op
        return replace(op, returns=returns)

    def _confirm(self, generator: Routine, path: list[int]) -> None:
        """Go on from a place that was met before: the routine must do what it did then."""
        met = {path[-1]}
        while True:
            decider = Decider([], not self.other_way)
            yielded = self._next(generator, self._value(path[-1]), decider)
            taken = [c.key for c in decider.conditions]
            walked = [t for conditions, t in self.ways[path[-1]] if [c.key for c in conditions] == taken]
            if not walked or self.is_left(walked[0]):
                # that way has not been walked yet, or no further
                return
            found = () if yielded is None else self.known(generator, yielded, path)
            if found not in walked:
                raise ModelError(DIFFERS)
            if not found or found[0] in met:
                return
            path.append(found[0])
            met.add(found[0])


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
