"""The document: which kernel, which tasks, which property, the start, named steps, and what was found."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel, mutant, variant
from kernelmodel.tasks import SHARED, TASKS
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import nearest
from kernelmodel.versions.later_mutants import EVERY
from verify.scenario import Scenario
from verify.trace import Start, TraceStep

#: name and version of the format; a change that old readers would misread gets a new number
SCHEMA = "straypage-trace-1"
#: more pages than this at a time make a machine too large to look at
LARGEST_BATCH = 4096
#: kind of kernel -> what finds its class
_FINDERS = {"kernel": kernel, "mutant": mutant, "variant": variant}


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """A kernel as the command line names it: ``kind`` is kernel, mutant or variant, ``name`` what follows the option."""

    kind: str
    name: str

    def __post_init__(self) -> None:
        if self.kind not in _FINDERS:
            raise nearest("kind of kernel", self.kind, _FINDERS)

    @classmethod
    def of(cls, options: argparse.Namespace) -> KernelSpec:
        """The kernel that a command's options name, v5.11 if none."""
        for kind in _FINDERS:
            if name := getattr(options, kind):
                return cls(kind, name)
        return cls("kernel", "v5.11")

    def load(self) -> type[KernelText]:
        """The kernel's class; an error that suggests the nearest name if there is none."""
        return _FINDERS[self.kind](self.name)

    @property
    def options(self) -> str:
        """The option that names it on a command line."""
        if TreeSpec.is_one(self.name):
            return TreeSpec.parse(self.name).options
        return f"--{self.kind} {self.name}"

    @property
    def title(self) -> str:
        """The kernel's name for people."""
        if TreeSpec.is_one(self.name):
            return TreeSpec.parse(self.name).title
        return EVERY[self.name].title if self.kind == "mutant" else self.name


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One atomic operation of one task.

    ``calls`` is its call stack, outermost first, ``pc`` the line of the model's text; ``read`` and ``written`` are cells
    with their values.  What a replay needs is ``task``, ``cpu`` and ``choices``; ``operation`` must be what the task then
    does, and so must ``returned`` unless it is None (a file written by hand may leave it out).
    """

    task: str
    operation: str
    cpu: int | None = None
    calls: tuple[str, ...] = ()
    pc: str = ""
    choices: Mapping[str, int] = field(default_factory=dict)
    returned: tuple[int, ...] | None = None
    read: tuple[tuple[str, int], ...] = ()
    written: tuple[tuple[str, int], ...] = ()

    @property
    def exact(self) -> TraceStep:
        """The step for ``verify.trace.rerun``."""
        return TraceStep(self.task, self.operation, dict(self.choices), self.cpu)


@dataclass(frozen=True, slots=True)
class TraceViolation:
    """What is broken after which step, in kernel words."""

    found: str
    step: int


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace with all that is needed to run it again."""

    kernel: KernelSpec
    scenario: Scenario
    property: str
    engine: str
    start: Start
    steps: tuple[RecordedStep, ...]
    violation: TraceViolation | None = None
    memory_model: str = "sequential consistency"

    def __post_init__(self) -> None:
        check_start(self.start, self.scenario)
        known = [t.name for t in self.scenario.tasks()]
        for n, step in enumerate(self.steps, 1):
            if step.task not in known:
                raise ModelError(f"step {n}: {nearest('task', step.task, known)}")
            if step.cpu is not None and not 0 <= step.cpu < self.scenario.cpus:
                raise ModelError(f"step {n}: CPU {step.cpu} does not exist: the scenario has {self.scenario.cpus}")
        if self.violation and not 0 <= self.violation.step <= len(self.steps):
            raise ModelError(f"violation at step {self.violation.step}: the trace has {len(self.steps)} steps")

    def as_json(self) -> dict[str, Any]:
        """The document as JSON values."""
        return {
            "schema": SCHEMA,
            "kernel": asdict(self.kernel),
            "scenario": self.scenario.numbers(),
            "property": self.property,
            "engine": self.engine,
            "memory_model": self.memory_model,
            "start": self.start.as_json(),
            "steps": [_step_json(n, s) for n, s in enumerate(self.steps, 1)],
            "violation": None if self.violation is None else asdict(self.violation),
        }


def _step_json(number: int, step: RecordedStep) -> dict[str, Any]:
    made: dict[str, Any] = {
        "step": number, "task": step.task, "cpu": step.cpu, "calls": list(step.calls), "operation": step.operation,
        "pc": step.pc, "choices": dict(step.choices), "read": dict(step.read), "written": dict(step.written),
    }  # fmt: skip
    if step.returned is not None:
        made["returned"] = list(step.returned)
    return made


def check_start(start: Start, scenario: Scenario) -> None:
    """Refuse a start that does not go with the scenario: the message says what is wrong with what."""
    blocks, tasks = scenario.config.nr_blocks, {t.name: t.kind for t in scenario.tasks()}
    if len(start.limits) not in (2, 3) or start.limits[0] < 0 or start.limits[1] < 1:
        raise ModelError(
            f"start: limits {list(start.limits)}: give [high, batch], maybe with a greatest high, with high >= 0 and batch >= 1"
        )
    if start.limits[1] > LARGEST_BATCH:
        raise ModelError(f"start: batch {start.limits[1]} is more than a trace can show: give 1 to {LARGEST_BATCH}")
    if len(start.block_types) != blocks:
        raise ModelError(
            f"start: {len(start.block_types)} block_types, and {scenario.offlines} offlines need {blocks}: block 0 and "
            f"{'one' if scenario.blocks == 1 else scenario.blocks} for each"
        )
    for t in start.block_types:
        _in_range("start: block type", t, 5)
    for cpu, migratetype, block, pages in start.lists:
        _in_range("start: lists: CPU", cpu, scenario.cpus)
        _in_range("start: lists: migratetype", migratetype, 3)
        _in_range("start: lists: block", block, blocks)
        if not 0 <= pages <= LARGEST_BATCH:
            raise ModelError(f"start: lists: {pages} pages: give 0 to {LARGEST_BATCH}")
    if len(start.in_use) != scenario.migrations:
        raise ModelError(
            f"start: {len(start.in_use)} blocks of pages in_use: give one for each of the {scenario.migrations} migrations"
        )
    for block in start.in_use:
        _in_range("start: in_use: block", block, blocks)
    for field_name, values, largest in (
        ("cpu_of", start.cpu_of, scenario.cpus), ("block_of", start.block_of, blocks), ("type_of", start.type_of, 3)
    ):  # fmt: skip
        for task, v in values.items():
            if task not in tasks:
                raise ModelError(f"start: {field_name}: {nearest('task', task, tasks)}")
            _in_range(f"start: {field_name}: {task}", v, largest)
    for needed, values, what in (("block_of", start.block_of, "block"), ("type_of", start.type_of, "migratetype")):
        # a kind that another kernel has of its own is none here
        here = (k for k in TASKS.values() if k.name in SHARED or scenario.number_of(k))
        of = " or ".join(k.name for k in here if k.option and what in k.inputs)
        for task in (n for n, k in tasks.items() if (what in k.inputs) != (n in values)):
            cure = f"add {task}" if what in tasks[task].inputs else f"remove {task}, which is no {of}"
            raise ModelError(f"start: {needed} is for each {of} of the scenario: {cure}")


def _in_range(what: str, number: int, end: int) -> None:
    if not 0 <= number < end:
        raise ModelError(f"{what} {number} is out of range: give 0 to {end - 1}")
