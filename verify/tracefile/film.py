"""Running a trace on the concrete machine, with every state on the way kept: what replay, ITF and HTML look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kernelmodel.cells import cpu_taken
from kernelmodel.errors import BugError, ModelError, RefinementError
from kernelmodel.machine import Machine, Step, Task
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms
from kernelmodel.text import KernelText, has_routine
from properties.catalogue import find
from properties.monitor import Monitor, Violation
from properties.property import Property
from verify.scenario import Scenario
from verify.trace import Access, MismatchError, Start, TraceStep, boot, make_exactly
from verify.tracefile.location import location
from verify.tracefile.picture import Picture, take
from verify.tracefile.record import KernelSpec, RecordedStep, TraceFile, TraceViolation


@dataclass(frozen=True, slots=True)
class Frame:
    """The machine after a step (``step`` None: at the start); ``read`` are cells with the values that the step saw."""

    number: int
    step: Step | None
    read: tuple[tuple[Cell, int], ...]
    access: Access
    pc: str
    cells: Mapping[Cell, int]
    picture: Picture


@dataclass(slots=True)
class Film:
    """A trace as it was run: one frame for the start, one after each step, and where the property was broken."""

    trace: TraceFile
    kernel: type[KernelText]
    prop: Property
    machine: Machine
    frames: list[Frame]
    violations: list[Violation]

    @property
    def steps(self) -> list[Step]:
        """The steps made."""
        return self.machine.history

    @property
    def violation(self) -> Violation | None:
        """The first violation, if any."""
        return self.violations[0] if self.violations else None

    def recorded(self) -> TraceFile:
        """The trace with everything in it that this run has shown."""
        steps = tuple(_recorded(f) for f in self.frames if f.step is not None)
        first = self.violation
        violation = None if first is None else TraceViolation(first.found, first.step)
        return replace(self.trace, steps=steps, property=self.prop.name, violation=violation)


@dataclass(slots=True)
class _Eye:
    """A watcher that notes what each step reads and where in the text it stands."""

    machine: Machine
    read: tuple[tuple[Cell, int], ...] = ()
    access: Access = field(default_factory=lambda: Access(frozenset(), frozenset()))
    pc: str = ""

    def terms(self, task: Task, op: Op) -> Mapping[str, Term]:
        """Look, and ask for nothing to be evaluated."""
        looked = {a.args[0] for t in (op.guard, op.where, *op.returns) for a in atoms(t, "cell")}
        touched = looked | {a.args[0] for _, t in op.updates for a in atoms(t, "cell")}
        self.read = tuple((c, self.machine.state.load(c)) for c in sorted(looked, key=str))
        own = cpu_taken(task.cpu)
        self.access = Access(frozenset(touched | {own}), frozenset(c for c, _ in op.updates))
        self.pc = location(type(self.machine.kernel), task.routine)
        return {}

    def stepped(self, machine: Machine, task: Task, op: Op, values: Mapping[str, int]) -> None:
        """Everything was noted before."""


def play(trace: TraceFile, kernel: type[KernelText] | None = None, prop: Property | None = None) -> Film:
    """Run a trace step by step on the kernel that it names, or on ``kernel``.

    MismatchError if a step that it names is not what the task does, or cannot be taken.
    """
    kernel, prop = kernel or trace.kernel.load(), prop or find(trace.property)
    if not prop.applies_to(kernel):
        missing = ", ".join(f"{r}()" for r in prop.needs if not has_routine(kernel, r))
        raise ModelError(
            f"{prop.name} says nothing about {kernel.name}, which has no {missing}: choose with --property"
        )
    try:
        machine, tasks = boot(kernel, trace.scenario, trace.start)
    except (ModelError, RefinementError) as error:
        raise MismatchError(f"the start does not fit {kernel.name}: {error}") from error
    eye = _Eye(machine)
    machine.watchers.append(eye)
    monitor = Monitor(machine, [prop])
    frames = [_frame(machine, eye, None)]
    for number, wanted in enumerate(trace.steps, 1):
        try:
            step = _take(machine, tasks, number, wanted)
        except BugError as bug:
            monitor.stopped(machine, bug)
            frames.append(_frame(machine, eye, machine.history[-1]))
            break
        frames.append(_frame(machine, eye, step))
    return Film(trace, kernel, prop, machine, frames, monitor.violations)


def record(
    spec: KernelSpec, scenario: Scenario, prop: Property, engine: str, start: Start, steps: Iterable[TraceStep]
) -> TraceFile:
    """The trace file of exact steps (``verify.trace.exact_steps``) that an engine has found; it is run to fill it in."""
    bare = tuple(RecordedStep(s.task, "", s.cpu, choices=dict(s.choices)) for s in steps)
    film = play(TraceFile(spec, scenario, prop.name, engine, start, bare))
    return film.recorded()


def _take(machine: Machine, tasks: Mapping[str, Task], number: int, wanted: RecordedStep) -> Step:
    task = tasks[wanted.task]
    name = type(machine.kernel).name
    if task.done:
        raise MismatchError(f"step {number}: {wanted.task} has finished, and the trace has {wanted.operation}")
    try:
        step = make_exactly(machine, task, wanted.cpu, wanted.choices)
    except BugError:
        raise
    except (ModelError, RefinementError) as error:
        raise MismatchError(f"step {number}, {wanted.task}, {wanted.operation or 'next'}: {error}") from error
    if wanted.operation and step.text != wanted.operation:
        raise MismatchError(
            f"step {number}: {wanted.task} does {step.text} in {name}, the trace has {wanted.operation}"
        )
    if wanted.returned is not None and step.returned != tuple(wanted.returned):
        here, there = _values(step.returned), _values(wanted.returned)
        raise MismatchError(f"step {number}: {wanted.task}, {step.text}: gives {here} in {name}, the trace has {there}")
    return step


def _frame(machine: Machine, eye: _Eye, step: Step | None) -> Frame:
    cells = machine.state.abstract()
    number = len(machine.history)
    return Frame(number, step, eye.read, eye.access, eye.pc, cells, take(machine))


def _recorded(frame: Frame) -> RecordedStep:
    step = frame.step
    assert step is not None
    return RecordedStep(
        step.task, step.text, step.cpu, step.stack, frame.pc, dict(step.choices), step.returned,
        tuple((str(c), v) for c, v in frame.read), tuple((str(c), v) for c, v in step.written),
    )  # fmt: skip


def _values(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) or "nothing"
