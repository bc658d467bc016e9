"""A net under every "holds" and "proved" of a text that is not ours: runs of the Python text itself, under random schedules.

Engines run what they extracted from a text; the concrete machine runs the text.  A run that violates what an engine said
to hold is a contradiction: the text was misread.  Schedules are those of PCT (Burckhardt et al., ASPLOS 2010): tasks with
random priorities, of which the highest that can go on does, and few places, at operations that others can see, where the
running task falls behind all others; each run with few context switches has a known chance.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from kernelmodel.errors import BugError, ModelError, RefinementError
from kernelmodel.graphs.frames import frame_parts
from kernelmodel.machine import Machine, Task
from kernelmodel.memory.state import Place
from kernelmodel.memory_model import Memory
from kernelmodel.mmzone import MigrateType
from kernelmodel.ops import Kind, Op
from kernelmodel.text import KernelText, from_a_file
from properties.catalogue import PROPERTIES
from properties.monitor import Monitor, Violation, deadlocks
from properties.property import Property
from verify.counterexample import Counterexample
from verify.scenario import Scenario
from verify.trace import MismatchError, Start, TraceStep, boot, exact_steps, make_exactly, rerun
from verify.verdict import Result, Verdict

#: as many runs as are made where there is time
MOST = 400
#: seconds that they may take
SECONDS = 1.0
#: most places at which the running task falls behind
_SWITCHES = 5
#: how often what may happen does happen (a signal, an unmovable page), in one run or another
_HAPPENS = (0.03, 0.1, 0.4)
#: the migratetype that most allocations ask for; in a bound that names one, the only one
_MOVABLE = int(MigrateType.MOVABLE)
#: a task that makes so many steps on end lets the others go on
_PATIENCE = 60
#: a run is given up after so many steps
_LONGEST = 600


@dataclass(frozen=True, slots=True)
class Values:
    """What a verdict's bound says of numbers: the (high, batch) of the start and of an update, and how many pages.

    ``limits`` None: any; ``pages`` None: any number of pages, on the lists at the start too.  ``rounds``: no task comes to
    the same place more often than the scenario's rounds; ``any_size``: what a scenario leaves out happens too.
    """

    limits: tuple[tuple[int, int], ...] | None = None
    pages: int | None = None
    rounds: bool = False
    any_size: bool = False
    memory: Memory = "sc"


@dataclass(frozen=True, slots=True)
class Runs:
    """How many runs were made, and for each property that one of them violates, by name, the first that does."""

    number: int
    contradictions: Mapping[str, Counterexample] = field(default_factory=dict)


def check(
    kernel: type[KernelText], scenario: Scenario, properties: Sequence[Property], values: Values,
    most: int = MOST, seconds: float | None = None,
) -> Runs:  # fmt: skip
    """Run a kernel's text under random schedules, always the same ones, with ``properties`` watched."""
    began = time.monotonic()
    seconds = SECONDS if seconds is None else seconds
    left = list(properties)
    found: dict[str, Counterexample] = {}
    length, number = 1, 0
    while number < most and left and time.monotonic() - began < seconds:
        run = _Run(kernel, scenario, values, Random(number), length)
        run.go(left)
        number += 1
        length = max(length, run.shared)
        for violation in run.violations():
            prop = next((p for p in left if p.name == violation.name), None)
            contradiction = prop and run.shown(prop)
            if prop and contradiction:
                found[prop.name] = contradiction
                left.remove(prop)
    return Runs(number, found)


@dataclass(frozen=True, slots=True)
class Whole:
    """What runs of a whole scenario, in which every task finishes, have reached; else where the tasks wait."""

    number: int
    reached: bool
    waiting: str = ""


class WholeRuns:
    """Random runs of a whole scenario, always the same ones, each made when somebody asks for it and kept for who asks next."""

    def __init__(self, kernel: type[KernelText], scenario: Scenario, values: Values) -> None:
        self._kernel, self._scenario, self._values = kernel, scenario, values
        self._watched = [p for p in PROPERTIES.values() if p.applies_to(kernel) and not p.stuck and not p.rest]
        self._runs: list[_Run] = []

    def reaching(self, prop: Property, most: int) -> Whole:
        """The first of so many runs that reaches a property's premise, confirmed with every check."""
        waiting = ""
        for number in range(most):
            if number == len(self._runs):
                self._runs.append(self._made(number, self._watched))
            run = self._runs[number]
            if prop not in self._watched or run.violations():
                # it ended where another property is violated, and goes on for this one
                run = self._made(number, [prop])
            waiting = run.waiting() or waiting
            if not run.waiting() and run.reaches(prop):
                return Whole(number + 1, True)
        return Whole(most, False, waiting)

    def _made(self, number: int, properties: Sequence[Property]) -> _Run:
        length = max((r.shared for r in self._runs[:number]), default=1)
        run = _Run(self._kernel, self._scenario, self._values, Random(number), length)
        run.go(properties)
        return run


class Net:
    """The runs of one command's kernel, made when the first verdict that holds asks for them."""

    def __init__(
        self, kernel: type[KernelText], scenario: Scenario, properties: Sequence[Property], values: Values
    ) -> None:
        """``properties`` are those that may be asked about; a text that is not from a file needs no net."""
        self._kernel, self._scenario, self._values = kernel, scenario, values
        self._properties = [p for p in properties if p.applies_to(kernel)] if from_a_file(kernel) else []
        self._runs: Runs | None = None

    def held_against(self, verdict: Verdict) -> Verdict:
        """A verdict with what the runs say of it; exit code 70 if one of them violates what holds."""
        asked = verdict.property in [p.name for p in self._properties]
        if not asked or verdict.result not in (Result.HOLDS, Result.PROVED):
            return verdict
        if self._runs is None:
            self._runs = check(self._kernel, self._scenario, self._properties, self._values)
        verdict = replace(verdict, runs=self._runs.number)
        against = self._runs.contradictions.get(verdict.property)
        if against is None:
            return verdict
        reason = "CONTRADICTED by a run of the text itself: a bug of straypage, which has misread the text"
        return replace(verdict.with_trace(against), contradicted=True, replayed=verdict.replayed, reason=reason)


class _Run:
    """One run: a start, a schedule, and what came of it."""

    def __init__(
        self, kernel: type[KernelText], scenario: Scenario, values: Values, random: Random, length: int
    ) -> None:
        self.kernel, self.scenario, self.values, self.random = kernel, scenario, values, random
        self.start = self._start()
        self.shared = 0
        self.chance = random.choice(_HAPPENS)
        self.switches = {random.randrange(length) for _ in range(random.randint(1, _SWITCHES))}
        self.monitor: Monitor | None = None
        self.machine: Machine | None = None

    def _start(self) -> Start:
        r, s = self.random, self.scenario
        limits = self._limits()
        blocks = s.config.nr_blocks
        tasks = [t for t in s.tasks() if not t.kind.serves]
        return Start(
            limits=limits,
            block_types=tuple(int(t) for t in s.config.block_types),
            lists=tuple(
                (r.randrange(s.cpus), r.randrange(3) if r.random() < 0.3 else _MOVABLE, r.randrange(blocks), 1)
                for _ in range(r.randrange(3) if self.values.pages is None else 0)
            ),
            cpu_of={t.name: t.number % s.cpus if s.spread else r.randrange(s.cpus) for t in tasks},
            block_of={t.name: r.randrange(blocks) for t in tasks if t.kind.holds_page},
            type_of={
                t.name: r.randrange(3) if self.values.pages is None and r.random() < 0.2 else _MOVABLE
                for t in tasks
                if t.kind.asks_for_page
            },
            in_use=tuple(r.randrange(blocks) for _ in range(s.migrations)),
            memory=self.values.memory,
        )

    def _limits(self) -> tuple[int, int]:
        if self.values.limits is not None:
            return self.random.choice(self.values.limits)
        high = self.random.randrange(7)
        return high, self.random.randint(1, max(1, min(high, 4)))

    def go(self, properties: Sequence[Property]) -> None:
        """Boot, and step until nobody can."""
        machine, _ = boot(self.kernel, self.scenario, self.start)
        machine.check = False
        self.machine, self.monitor = machine, Monitor(machine, [p for p in properties if not p.stuck], concrete=False)
        for each in machine.tasks:
            each.environment = dict(zip(("new_high", "new_batch"), self._limits(), strict=True))
        order = list(machine.tasks)
        self.random.shuffle(order)
        running: Task | None = None
        patience = 0
        try:
            while len(machine.history) < _LONGEST and not self.monitor.violations:
                task = next((t for t in order if self._can(machine, t)), None)
                if task is None:
                    # asked at the end of a run only, for it takes a look at every task
                    self.monitor.violations += [v for p in properties if p.stuck for v in deadlocks(machine, p)]
                    break
                op = machine.operation(task)
                machine.step(task, self._choices(machine, task, op))
                patience = patience + 1 if task is running else 0
                running = task
                behind = patience > _PATIENCE
                if op.updates or op.kind is not Kind.LOCAL:
                    self.shared += 1
                    behind = behind or self.shared in self.switches
                if behind:
                    patience = 0
                    order.remove(task)
                    order.append(task)
                    self._elsewhere(machine, task)
        except BugError as bug:
            # the properties of the pages themselves say that this does not happen, the others do not
            self.monitor.stopped(machine, bug, [p for p in properties if p.concrete])
        except (ModelError, RefinementError):
            return

    def _can(self, machine: Machine, task: Task) -> bool:
        if not machine.can_step(task):
            return False
        return self.values.any_size or self.scenario.visits(machine.operation(task)) > 0

    def _choices(self, machine: Machine, task: Task, op: Op) -> dict[str, int]:
        r = self.random
        late: dict[str, int] = {name: r.random() < 0.5 for name in machine.may_miss(task)}
        return late | {c.args[0]: r.random() < self.chance for c in op.choices if c.sort == "bool"}

    def _elsewhere(self, machine: Machine, task: Task) -> None:
        """Now and then a preempted task goes on elsewhere."""
        cpu = self.random.randrange(self.scenario.cpus)
        if task not in machine.workers and not self.scenario.spread and self.random.random() < 0.5:
            try:
                machine.migrate(task, cpu)
            except ModelError:
                return

    def violations(self) -> list[Violation]:
        """What was found, if anything."""
        return self.monitor.violations if self.monitor is not None else []

    def waiting(self) -> str:
        """Who has not finished, and why; empty if every task has."""
        assert self.machine is not None
        machine = self.machine
        tasks = [t for t in machine.tasks if t not in machine.workers and not t.done]
        return "; ".join(machine.why_not(t) or f"{t.name} goes on" for t in tasks)

    def reaches(self, prop: Property) -> bool:
        """Whether the property's premise was reached, within the verdict's bound and confirmed with every check."""
        return self.monitor is not None and prop.name in self.monitor.reached and self.confirmed

    @functools.cached_property
    def confirmed(self) -> bool:
        """Whether the run is within the verdict's bound and goes through with every check."""
        try:
            return self._in_bound(self._steps())
        except (ModelError, RefinementError):
            return False

    def _steps(self) -> list[TraceStep]:
        assert self.machine is not None
        return exact_steps(self.machine.history)

    def shown(self, prop: Property) -> Counterexample | None:
        """The same run once more, fully checked and recorded; None if it leaves the verdict's bound."""
        steps = self._steps()
        try:
            if not self._in_bound(steps):
                return None
            again = rerun(self.kernel, self.scenario, self.start, steps, prop)
        except (ModelError, RefinementError, MismatchError):
            return None
        return Counterexample.of(self.start, again, again.about_cpu) if again.violations else None

    def _in_bound(self, steps: Sequence[TraceStep]) -> bool:
        machine, tasks = boot(self.kernel, self.scenario, self.start)
        seen: dict[object, int] = {}
        touched: set[int] = set()
        for step in steps:
            task = tasks[step.task]
            # a worker runs as often as its work is queued
            if self.values.rounds and task not in machine.workers:
                op = machine.operation(task)
                place = (task.number, _loops(task.routine), op.text, tuple(c for c, _ in op.updates))
                seen[place] = seen.get(place, 0) + 1
                if seen[place] > self.scenario.visits(op):
                    return False
            make_exactly(machine, task, step.cpu, step.choices)
            if self.values.pages is not None:
                touched |= {pfn for pfn, place in enumerate(machine.state.place) if place is not Place.BUDDY}
                if len(touched) > self.values.pages:
                    return False
        return True


def _loops(routine: Any) -> tuple[Any, ...]:
    """Where a routine stands, and how far each of its for loops has come: what rounds of one loop have in common."""
    found: list[Any] = []
    current = routine
    while getattr(current, "gi_frame", None) is not None:
        iterators = [x for x in frame_parts(current)[1] if hasattr(x, "__length_hint__")]
        found.append((current.gi_frame.f_lasti, current.gi_frame.f_code, *(operator.length_hint(x) for x in iterators)))
        current = current.gi_yieldfrom
    return tuple(found)
