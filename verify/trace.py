"""A trace: a start, and named steps; it is replayed on the concrete machine before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.cells import cpu_taken, stops_others
from kernelmodel.config import Config
from kernelmodel.errors import BugError, ModelError, RefinementError
from kernelmodel.machine import Machine, Step, Task
from kernelmodel.memory_model import Memory
from kernelmodel.mmzone import MigrateType
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms
from kernelmodel.text import KernelText
from properties.monitor import Monitor, Violation
from properties.property import Property
from verify.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Start:
    """The state in which a trace begins: limits, pages on pcplists, and where and on what the tasks work.

    ``lists`` are (cpu, migratetype, block, how many); ``in_use`` are the blocks of the pages that nobody frees; ``memory``
    is the memory model under which it is run.
    """

    limits: tuple[int, ...]
    block_types: tuple[int, ...]
    lists: tuple[tuple[int, int, int, int], ...] = ()
    cpu_of: Mapping[str, int] = field(default_factory=dict)
    block_of: Mapping[str, int] = field(default_factory=dict)
    type_of: Mapping[str, int] = field(default_factory=dict)
    in_use: tuple[int, ...] = ()
    memory: Memory = "sc"

    def as_json(self) -> dict[str, Any]:
        """The start as JSON values; of the memory model the document speaks elsewhere."""
        return {
            "limits": list(self.limits), "block_types": list(self.block_types), "lists": [list(x) for x in self.lists],
            "cpu_of": dict(self.cpu_of), "block_of": dict(self.block_of), "type_of": dict(self.type_of),
            "in_use": list(self.in_use),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class TraceStep:
    """``task`` goes on until it performs the operation ``text`` (a name with ``{0}`` for values), then once more past it."""

    task: str
    text: str
    choices: Mapping[str, int] = field(default_factory=dict)
    cpu: int | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """Which cells a step of a replay looked at and wrote, for the order that it depends on."""

    reads: frozenset[Cell]
    writes: frozenset[Cell]


@dataclass(slots=True)
class Replay:
    """What the concrete machine made of a trace."""

    machine: Machine
    violations: list[Violation]
    accesses: list[Access]

    @property
    def steps(self) -> list[Step]:
        """The steps made."""
        return self.machine.history

    @property
    def about_cpu(self) -> int | None:
        """The CPU of which the first violation speaks, if of one."""
        check = self.violations[0].check
        return None if check is None else check.cpu


class _Recorder:
    """A watcher that notes each step's accesses."""

    def __init__(self) -> None:
        self.accesses: list[Access] = []

    def terms(self, task: Task, op: Op) -> Mapping[str, Term]:
        """Nothing is to be evaluated."""
        read = {
            a.args[0] for t in (op.guard, op.where, *op.returns, *(t for _, t in op.updates)) for a in atoms(t, "cell")
        }
        read.add(cpu_taken(task.cpu))
        self.accesses.append(Access(frozenset(read), frozenset(c for c, _ in op.updates)))
        return {}

    def stepped(self, machine: Machine, task: Task, op: Op, values: Mapping[str, int]) -> None:
        """Everything was noted before."""


#: pages that a refill may take, where a kernel asks for more than a batch (v6.8 on: up to batch << 5)
_REFILL = 40


class MismatchError(Exception):
    """The trace does not fit the concrete machine: a step that it names does not come or is not enabled."""


def boot(kernel: type[KernelText], scenario: Scenario, start: Start) -> tuple[Machine, dict[str, Task]]:
    """The machine at the start of a trace, and its tasks by name."""
    pages = [0] * scenario.config.nr_blocks
    for _, _, block, n in start.lists:
        pages[block] += n
    for block in (*start.block_of.values(), *start.in_use):
        pages[block] += 1
    spare = (_asking(scenario) + scenario.migrations) * max(start.limits[1], _REFILL)
    order = max(2, (max(pages) + spare).bit_length())
    types = tuple(MigrateType(t) for t in start.block_types)
    config = Config(nr_cpus=scenario.cpus, block_types=types, pageblock_order=order, max_order=order + 2)
    machine = Machine(kernel, config, start.limits, memory=start.memory)
    for cpu, migratetype, block, n in start.lists:
        for _ in range(n):
            machine.put_on_pcplist(cpu, block, migratetype)
    freed = {name: machine.allocate(block) for name, block in start.block_of.items()}
    for block in start.in_use:
        machine.allocate(block)
    tasks = {t.name: t for t in machine.workers}
    for spec in scenario.tasks():
        cpu = start.cpu_of.get(spec.name, 0)
        wanted = MigrateType(start.type_of[spec.name]) if spec.name in start.type_of else None
        if spec.kind.holds_page:
            page = machine.drop(freed[spec.name])
            tasks[spec.name] = machine.spawn(spec.name, spec.make(machine.kernel, wanted, page), cpu)
        elif not spec.kind.serves:
            tasks[spec.name] = machine.spawn(spec.name, spec.make(machine.kernel, wanted), cpu)
    return machine, tasks


def _asking(scenario: Scenario) -> int:
    return sum(t.kind.asks_for_page for t in scenario.tasks())


def replay(
    kernel: type[KernelText], scenario: Scenario, start: Start, steps: Sequence[TraceStep], prop: Property
) -> Replay:
    """Run a trace on the concrete machine, with the property evaluated there; MismatchError if it does not fit."""

    def run(machine: Machine, tasks: Mapping[str, Task], _: Monitor) -> None:
        for step in steps:
            _advance(machine, tasks[step.task], step, start.cpu_of.get(step.task))

    return _watched(kernel, scenario, start, prop, run)


def reaches(
    kernel: type[KernelText], scenario: Scenario, start: Start, steps: Sequence[TraceStep], prop: Property
) -> bool:
    """Whether a trace, after which every task goes on to its end, reaches the property's premise."""
    try:
        machine, tasks = boot(kernel, scenario, start)
        monitor = Monitor(machine, [prop])
        for step in steps:
            _advance(machine, tasks[step.task], step, start.cpu_of.get(step.task))
        machine.settle(*(t for t in tasks.values() if t not in machine.workers))
    except (ModelError, RefinementError, MismatchError):
        return False
    return prop.name in monitor.reached


def _watched(
    kernel: type[KernelText],
    scenario: Scenario,
    start: Start,
    prop: Property,
    run: Callable[[Machine, Mapping[str, Task], Monitor], None],
) -> Replay:
    try:
        machine, tasks = boot(kernel, scenario, start)
        recorder = _Recorder()
        machine.watchers.append(recorder)
        monitor = Monitor(machine, [prop])
        try:
            run(machine, tasks, monitor)
        except BugError as bug:
            monitor.stopped(machine, bug)
    except (ModelError, RefinementError) as error:
        raise MismatchError(str(error)) from error
    return Replay(machine, monitor.violations, recorder.accesses)


def _advance(machine: Machine, task: Task, step: TraceStep, home: int | None) -> None:
    for _ in range(1000):
        if task.done:
            raise MismatchError(f"{step.task} has finished before it came to {step.text}")
        _find_cpu(machine, task, home)
        here = machine.operation(task)
        if here.does.awaits and not machine.can_step(task):
            # an engine that follows one CPU leaves the others' workers to us: they run when somebody waits for them
            worker = machine.workers[here.does.awaits.cpu]
            while not machine.can_step(task):
                machine.step(worker)
        machine.step(task, step.choices)
        if here.text == step.text:
            return
    raise MismatchError(f"{step.task} never comes to {step.text}")


def _find_cpu(machine: Machine, task: Task, home: int | None) -> None:
    """A task with interrupts on leaves a CPU that somebody else has for himself, and disables them at home only."""
    if home is None or task in machine.workers:
        return
    busy = {c for c in machine.config.cpus if machine.state.load(cpu_taken(c)) not in (0, task.number)}
    if stops_others(machine.operation(task).does.acquires) and task.cpu != home:
        machine.migrate(task, home)
    elif task.cpu in busy:
        free = [c for c in machine.config.cpus if c not in busy]
        if free:
            machine.migrate(task, free[0])


def exact_steps(steps: Sequence[Step]) -> list[TraceStep]:
    """Every step of a history, one by one."""
    return [TraceStep(s.task, "", dict(s.choices), s.cpu) for s in steps]


def make_exactly(machine: Machine, task: Task, cpu: int | None, choices: Mapping[str, int]) -> Step:
    """Let a task make its next step on the CPU on which it was made before."""
    if cpu is not None and task.cpu != cpu:
        machine.migrate(task, cpu)
    return machine.step(task, choices)


def rerun(
    kernel: type[KernelText], scenario: Scenario, start: Start, steps: Sequence[TraceStep], prop: Property
) -> Replay:
    """Run steps of which each is exactly one operation, up to the first violation."""

    def run(machine: Machine, tasks: Mapping[str, Task], monitor: Monitor) -> None:
        for step in steps:
            make_exactly(machine, tasks[step.task], step.cpu, step.choices)
            if monitor.violations:
                break
        if prop.stuck and not monitor.violations:
            for task in tasks.values():
                machine.insist(task)

    return _watched(kernel, scenario, start, prop, run)
