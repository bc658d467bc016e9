"""Machines for tests: booted, run to where something happens, and looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kernelmodel import V5_11, Config, Machine, MigrateType, ModelError
from kernelmodel.machine import Task
from kernelmodel.ops import Routine
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText

MOVABLE, ISOLATE, HIGHATOMIC, UNMOVABLE = (
    MigrateType.MOVABLE, MigrateType.ISOLATE, MigrateType.HIGHATOMIC, MigrateType.UNMOVABLE,
)  # fmt: skip
LIMITS = (4, 2)
#: ghosts and leftovers that no caller relies on after a routine has returned
LEFT_OVER = ("lock_edge", "isolated_at_entry", "drain.zone", "cpus_with_pcps")


def booted(kernel: type[KernelText] = V5_11, limits: tuple[int, int] | None = LIMITS, **size: Any) -> Machine:
    return Machine(kernel, Config(**size), limits=limits)


def cell(machine: Machine, name: str, *index: int | str) -> int:
    return machine.state.load(Cell(name, index))


def until(machine: Machine, task: Task, text: str) -> None:
    """Step a task, and workers where it waits for them, until its next operation's text contains ``text``."""
    while text not in machine.operation(task).text:
        machine.step(next((t for t in (task, *machine.workers) if not machine.why_not(t)), task))


def texts(machine: Machine) -> list[str]:
    return [s.text for s in machine.history]


def settled(machine: Machine, name: str, routine: Routine, **keywords: Any) -> Any:
    task = machine.spawn(name, routine, **keywords)
    machine.settle(task)
    return task.result


def durable(machine: Machine) -> Mapping[Cell, int]:
    return {c: v for c, v in machine.state.abstract().items() if c.name not in LEFT_OVER}


class Unchanged:
    """The block raises a ModelError of one line that matches, and neither state nor history nor tasks have changed."""

    def __init__(self, machine: Machine, match: str) -> None:
        self.machine, self.raises = machine, pytest.raises(ModelError, match=match)

    def picture(self) -> tuple[Any, ...]:
        state = self.machine.state
        buddies = [(dict(b.free), {k: list(v) for k, v in b.free_list.items()}) for b in state.buddies]
        lists = [[[list(pages) for pages in pcp.lists] for pcp in zone] for zone in state.pcplists]
        tasks = [(t.name, t.cpu, t.pending, t.result) for t in self.machine.tasks]
        places = (list(state.place), list(state.stored_type), dict(state.order_in_use))
        return state.abstract(), buddies, lists, places, texts(self.machine), tasks

    def __enter__(self) -> None:
        self.before = self.picture()
        self.caught = self.raises.__enter__()

    def __exit__(self, *error: Any) -> bool:
        if not self.raises.__exit__(*error):
            return False
        assert "\n" not in str(self.caught.value)
        assert self.picture() == self.before
        return True
