"""Evaluates properties on a running machine: the second opinion on every trace, and the invariants of the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from kernelmodel.cells import CELLS
from kernelmodel.config import Config
from kernelmodel.errors import BugError
from kernelmodel.machine import Machine, Step, Task
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms, evaluate
from properties.property import Check, Property

#: the cell on which, beside where the pages are, the concrete sentences depend
BLOCK_TYPE = "pageblock.migratetype"


@dataclass(frozen=True, slots=True)
class Violation:
    """A property found broken: by which step, in kernel words, and which concrete sentences say so."""

    name: str
    found: str
    step: int
    check: Check | None = None


def at_rest(machine: Machine) -> bool:
    """Whether a run has ended: there were tasks, all have returned, and no drain worker has work."""
    tasks = [t for t in machine.tasks if t not in machine.workers]
    if not tasks or not all(t.done for t in tasks):
        return False
    # the workers of a kernel that has no work items have returned
    idle = [w for w in machine.workers if w.done or (isinstance(w.pending, Op) and w.pending.does.begins)]
    return len(idle) == len(machine.workers) and not any(map(machine.can_step, machine.workers))


@dataclass(frozen=True, slots=True)
class _Plan:
    """The checks of some properties on machines of one size, and which of the state checks each cell matters to."""

    states: list[tuple[Property, Check]]
    rests: list[tuple[Property, Check]]
    of_cell: dict[Cell, list[int]]


def _plan(properties: tuple[Property, ...], config: Config) -> _Plan:
    # some properties speak of every cell that there is, and kernels declare more
    return _plan_of(properties, config, frozenset(CELLS))


@lru_cache(maxsize=32)
def _plan_of(properties: tuple[Property, ...], config: Config, _cells: frozenset[str]) -> _Plan:
    states = [(p, c) for p in properties for c in p.state_checks(config)]
    of_cell: dict[Cell, list[int]] = {}
    for i, (_, check) in enumerate(states):
        for cell in {a.args[0] for t in (check.premise, check.violation) for a in atoms(t, "cell")}:
            of_cell.setdefault(cell, []).append(i)
    return _Plan(states, [(p, c) for p in properties for c in p.rest_checks(config)], of_cell)


def deadlocks(machine: Machine, prop: Property) -> list[Violation]:
    """The violation of ``prop`` if nobody can go on, though not every task has returned."""
    if machine.ready() or at_rest(machine):
        return []
    waiting = [_waits(machine, t) for t in machine.tasks if not t.done and t not in machine.workers]
    return [Violation(prop.name, f"deadlock: {'; '.join(waiting)}", len(machine.history))]


def _waits(machine: Machine, task: Task) -> str:
    """Who waits for what, and who has it."""
    holders = ["itself" if name == task.name else name for name in machine.holders(task)]
    return machine.why_not(task) + (f", held by {' and '.join(holders)}" if holders else "")


class Monitor:
    """A watcher of a machine that evaluates properties at every step and remembers which premises were reached."""

    def __init__(self, machine: Machine, properties: Iterable[Property], concrete: bool = True) -> None:
        """Watch ``machine`` from now on; properties that say nothing about its kernel are left out.

        Without ``concrete`` the cells alone are judged, as engines do.
        """
        self.properties = [p for p in properties if p.applies_to(type(machine.kernel))]
        self.config = machine.config
        self.violations: list[Violation] = []
        self.reached: set[str] = set()
        plan = _plan(tuple(self.properties), machine.config)
        self._states, self._rests, self._of_cell = plan.states, plan.rests, plan.of_cell
        self._concrete = [p for p in self.properties if p.concrete and concrete]
        self._steps = [p for p in self.properties if p.step]
        self._stuck = [p for p in self.properties if p.stuck]
        self._due: dict[str, tuple[Property, Check]] = {}
        machine.watchers.append(self)
        self._look(machine, range(len(self._states)), True)

    def terms(self, task: Task, op: Op) -> Mapping[str, Term]:
        """The premises and violations of the step properties that ``op`` calls for."""
        del task
        self._due = {}
        for p in self._steps:
            for i, check in enumerate(p.step_checks(self.config, op)):
                self._due[f"{p.name}/{i}"] = (p, check)
        if not self._due:
            return {}
        pairs = [(key, check) for key, (_, check) in self._due.items()]
        return {f"{k}/p": c.premise for k, c in pairs} | {f"{k}/v": c.violation for k, c in pairs}

    def stepped(self, machine: Machine, task: Task, op: Op, values: Mapping[str, int]) -> None:
        """Judge the step that has just been made and the state after it, as far as the step may have changed it."""
        for key, (p, check) in self._due.items():
            self._note(machine, p, check, bool(values[f"{key}/p"]), bool(values[f"{key}/v"]))
        changed = sorted({i for cell, _ in op.updates for i in self._of_cell.get(cell, ())})
        self._look(machine, changed, op.effect is not None or any(c.name == BLOCK_TYPE for c, _ in op.updates))
        if self._rests and (task.done or task in machine.workers) and at_rest(machine):
            for p, check in self._rests:
                self._judge(machine, p, check)

        for p in self._stuck:
            self.violations += deadlocks(machine, p)

    def stopped(self, machine: Machine, bug: BugError, broken: Iterable[Property] | None = None) -> None:
        """The machine has come to what cannot be done, its last step, which breaks what is watched, or ``broken`` of it."""
        last: Step = bug.step
        machine.history.append(last)
        found = f"{last.text} cannot be done: {bug}"
        self.violations += [
            Violation(p.name, found, last.number) for p in (self.properties if broken is None else broken)
        ]

    def _look(self, machine: Machine, checks: Iterable[int], pages_moved: bool) -> None:
        for i in checks:
            self._judge(machine, *self._states[i])
        if pages_moved:
            for p in self._concrete:
                for sentence in p.concrete(machine.state) if p.concrete else ():
                    self.violations.append(Violation(p.name, sentence, len(machine.history)))

    def _judge(self, machine: Machine, p: Property, check: Check) -> None:
        premise, violation = (evaluate(t, machine.state.load, {}) for t in (check.premise, check.violation))
        self._note(machine, p, check, bool(premise), bool(violation))

    def _note(self, machine: Machine, p: Property, check: Check, premise: bool, violated: bool) -> None:
        if premise or violated:
            self.reached.add(p.name)
        if violated:
            words = check.found
            if check.amount is not None:
                n = evaluate(check.amount, machine.state.load, {})
                words = words.format(n=f"{n} page{'' if n == 1 else 's'}")
            self.violations.append(Violation(p.name, words, len(machine.history), check))
