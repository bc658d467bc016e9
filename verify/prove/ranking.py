"""Ranks: why a task that is never held up comes to its end, for any number of CPUs.

The control graph of a kind of task is extracted for a few CPUs, with loops over CPUs unrolled.  Steps that differ in
nothing but the CPU are one *place*; a task at a place has ``k`` CPUs left to visit.  The rank of (place, k) is the triple
(phase, k, position), compared in this order: a loop over CPUs lowers ``k`` with each round, all else lowers the phase or
the position.  That each step lowers the rank is asked of Z3 for every number ``n`` of CPUs; a loop that nothing bounds
has no such rank, and the step that closes it is named.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import z3

from kernelmodel.cells import cpu_position
from kernelmodel.terms import Cell, Term, atoms
from verify.prove.roles import OVER, Program, Step
from verify.prove.system import conj, disj
from verify.smt import Expr

#: how the number of CPUs left changes: not at all; a later CPU; a loop begins anew; a step that is no loop's
SAME, NEXT, ANEW, OPEN = "the same CPU", "a later CPU", "the first CPU again", "no loop over CPUs"

#: a place in a kind of task's text: the kind, the call stack, and the operation, its CPU called c
Place = tuple[Any, ...]
#: an edge that is not taken, as (step, conditions, target)
Skipped = Callable[[Step, tuple[Term, ...], int], bool]


@dataclass(frozen=True, slots=True)
class Move:
    """One way from a place to another."""

    source: Place
    target: Place
    how: str

    def __str__(self) -> str:
        return f"{_words(self.source)} -> {_words(self.target)}"


class Ranking:
    """The places of some kinds of tasks, the moves between them, and a rank for each."""

    def __init__(self, program: Program, kinds: Iterable[str], skipped: Skipped = lambda *_: False) -> None:
        """``skipped``: edges that are shown elsewhere not to be taken, or after which a rank begins anew."""
        names = set(kinds)
        self.steps = {u: s for u, s in program.steps.items() if s.kind.name in names}
        self.cpu = _cpus(self.steps)
        self.place = self._places()
        self.moves: dict[Move, Step] = {}
        for u, s in self.steps.items():
            for conditions, t in s.edges:
                if t != OVER and not skipped(s, conditions, t):
                    self.moves.setdefault(Move(self.place[u], self.place[t], _how(self.cpu[u], self.cpu[t])), s)

    def _places(self) -> dict[int, Place]:
        """A name for each step, told apart by what follows it in the same round of a loop, as far as that goes."""
        named = {u: _place(s, self.cpu[u]) for u, s in self.steps.items()}
        found = dict.fromkeys(named, "")
        while True:
            follows = {
                u: sorted(
                    {(*named[t], found[t]) for _, t in s.edges if t != OVER and self.cpu[t] == self.cpu[u]}, key=repr
                )
                for u, s in self.steps.items()
            }
            new = {u: hashlib.sha256(repr((found[u], f)).encode()).hexdigest()[:12] for u, f in follows.items()}
            if len({(named[u], n) for u, n in new.items()}) == len({(named[u], n) for u, n in found.items()}):
                return {u: (*named[u], n) for u, n in found.items()}
            found = new

    @property
    def places(self) -> set[Place]:
        """All places."""
        return set(self.place.values())

    @cached_property
    def ranks(self) -> Mapping[Place, tuple[int, int]]:
        """Phase and position of each place: phases are numbered from the end of the text."""
        after: dict[Place, list[Place]] = {p: [] for p in self.places}
        within: dict[Place, list[Place]] = {p: [] for p in self.places}
        for m in self.moves:
            after[m.source].append(m.target)
        phase = _components(after)
        for m in self.moves:
            if m.how != NEXT and phase[m.source] == phase[m.target]:
                within[m.source].append(m.target)
        position = _components(within)
        return {p: (phase[p], position[p]) for p in self.places}

    def failing(self) -> list[tuple[Move, Step]]:
        """The moves that do not lower the rank, for some number of CPUs; each is put to Z3."""
        n, k, left = z3.Ints("n k left")
        solver = z3.SimpleSolver()
        solver.add(n >= 1, k >= 1, k <= n, left >= 1, left <= n)
        return [(m, s) for m, s in self.moves.items() if self._check(solver, m, n, k, left) != z3.unsat]

    def _check(self, solver: z3.Solver, move: Move, n: Expr, k: Expr, left: Expr) -> z3.CheckSatResult:
        """Whether a move from ``k`` CPUs of ``n`` to ``left`` can leave the rank as high as it was: unsat if it cannot."""
        solver.push()
        solver.add({SAME: left == k, NEXT: left < k, ANEW: left == n, OPEN: z3.BoolVal(True)}[move.how])
        (phase, position), (phase2, position2) = self.ranks[move.source], self.ranks[move.target]
        lower = disj(
            z3.IntVal(phase2) < phase,
            conj(z3.IntVal(phase2) == phase, disj(left < k, conj(left == k, z3.IntVal(position2) < position))),
        )
        solver.add(z3.Not(lower))
        answer = solver.check()
        solver.pop()
        return answer


def cpus_of(step: Step) -> set[int]:
    """The CPUs of whose cells an operation speaks."""
    op = step.op
    cells = {c for c, _ in op.updates}
    cells |= {
        a.args[0] for t in (op.guard, op.where, *op.returns, *(t for _, t in op.updates)) for a in atoms(t, "cell")
    }
    found = {int(c.index[p]) for c in cells if (p := cpu_position(c.name)) >= 0}
    return found | ({int(op.info["cpu"])} if "cpu" in op.info else set())


def _cpus(steps: Mapping[int, Step]) -> dict[int, int | None]:
    """The CPU that each step is about; what speaks of none, inside a loop over CPUs, is about that of what follows."""
    found: dict[int, int | None] = {}
    times: dict[Any, int] = {}
    for u, s in steps.items():
        cpus = cpus_of(s)
        found[u] = next(iter(cpus)) if len(cpus) == 1 else None
        times[_plain(s)] = times.get(_plain(s), 0) + 1
    silent = [u for u, s in steps.items() if found[u] is None and times[_plain(s)] > 1]
    for _ in silent:
        for u in silent:
            after = {found[t] for _, t in steps[u].edges if t != OVER}
            if found[u] is None and len(after) == 1:
                found[u] = next(iter(after))
    return found


def _plain(step: Step) -> Any:
    return (step.kind.name, step.stack, step.op.text, step.op.tag)


def _place(step: Step, cpu: int | None) -> Place:
    """The name of a step without its CPU: the same for each round of a loop over CPUs."""

    def cell(c: Cell) -> str:
        p = cpu_position(c.name)
        here = "all" if cpu is None else "c"
        return f"{c.name}{[here if i == p and cpu in (None, x) else x for i, x in enumerate(c.index)]}"

    op = step.op
    written = tuple(sorted({cell(c) for c, _ in op.updates}))
    terms = (op.guard, op.where, *op.returns, *(t for _, t in op.updates))
    read = tuple(sorted({cell(a.args[0]) for t in terms for a in atoms(t, "cell")}))
    text = op.text if cpu is None else re.sub(rf"(?<=\[){cpu}(?=\])|(?<=cpu ){cpu}\b|(?<=\(){cpu}(?=,)", "c", op.text)
    return (step.kind.name, step.stack, text, op.tag, written, read)


def _words(place: Place) -> str:
    kind, stack, text = place[:3]
    return f"{text}{f' in {stack[-1]}()' if stack else ''} [{kind}]"


def _how(cpu: int | None, after: int | None) -> str:
    if cpu is None or after is None:
        return OPEN
    return SAME if cpu == after else NEXT if cpu < after else ANEW


def _components(after: Mapping[Place, list[Place]]) -> dict[Place, int]:
    """The strongly connected components, numbered so that each edge to another leads to a smaller number (Tarjan)."""
    index: dict[Place, int] = {}
    low: dict[Place, int] = {}
    found: dict[Place, int] = {}
    stack: list[Place] = []
    number = 0
    for root in sorted(after, key=repr):
        if root in index:
            continue
        work = [(root, iter(after[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            place, rest = work[-1]
            child = next((c for c in rest if c not in found), None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[place])
                if low[place] == index[place]:
                    while True:
                        member = stack.pop()
                        found[member] = number
                        if member == place:
                            break
                    number += 1
            elif child in index:
                low[place] = min(low[place], index[child])
            else:
                index[child] = low[child] = len(index)
                stack.append(child)
                work.append((child, iter(after[child])))
    return found
