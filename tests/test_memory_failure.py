"""Pages that memory_failure() has marked: test_pages_isolated() lets them pass, wherever they are."""

from __future__ import annotations

from typing import Any

import pytest

from kernelmodel import V5_11, Base, Config, Machine, MigrateType, PageRange
from kernelmodel.machine import Task
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import EINTR
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText
from properties.catalogue import PROPERTIES
from properties.monitor import Monitor

MOVABLE = MigrateType.MOVABLE
LIMITS = (4, 2)
RANGE = PageRange(1, 1)
#: what zone_pcp_update() finds at the end of offline_pages()
FOUND = {"new_high": LIMITS[0], "new_batch": LIMITS[1]}


def booted(kernel: type[KernelText]) -> Machine:
    return Machine(kernel, Config(2, block_types=(MOVABLE,) * 2), limits=LIMITS)


def until(machine: Machine, task: Task, text: str) -> None:
    """Step ``task``, and a drain worker where the task has to wait for one, until it is about to do ``text``."""
    while text not in machine.operation(task).text:
        machine.step(next(t for t in (task, *machine.workers) if not machine.why_not(t)))


def finish(machine: Machine, task: Task) -> Any:
    while not task.done:
        machine.step(next(t for t in (task, *machine.workers) if not machine.why_not(t)))
    return task.result


def poison(machine: Machine) -> list[Any]:
    """memory_failure() of a page of block 1; returns whether it found one, whether in use, and the block."""
    task = machine.spawn("poison", machine.kernel.memory_failure(machine.zone()), environment={"block": 1})
    finish(machine, task)
    step = next(s for s in machine.history if s.task == "poison")
    return [dict(step.choices)[n] for n in ("found", "used", "block")]


def offline(machine: Machine, **environment: bool) -> Task:
    return machine.spawn("offline", machine.kernel.offline_pages(RANGE), environment={**FOUND, **environment})


def test_a_page_that_memory_failure_keeps_does_not_hold_offlining_up() -> None:
    machine = booted(V5_11)
    monitor = Monitor(machine, PROPERTIES.values())
    pfn = machine.allocate(1)
    assert poison(machine) == [True, True, 1]
    assert machine.state.place[pfn] is Place.POISONED
    assert finish(machine, offline(machine)) == 0
    assert all(machine.state.place[p] is Place.OFFLINE for p in machine.state.pfns(1))
    assert not monitor.violations and machine.state.audit() == []
    online = machine.spawn("online", machine.kernel.online_pages(RANGE), environment=FOUND)
    assert finish(machine, online) == 0
    assert machine.state.audit() == [] and machine.state.load(Cell("held", (1,))) == 0


def test_a_page_that_is_in_use_without_a_mark_does() -> None:
    machine = booted(V5_11)
    machine.allocate(1)
    task = offline(machine, found=False)
    until(machine, task, "__test_page_isolated_in_pageblock()")
    assert machine.step(task).returned == (False,)
    task.environment["signal"] = True
    assert finish(machine, task) == -EINTR


def a_page_escapes_to_a_pcplist(machine: Machine) -> Task:
    """offline_pages(), about to test the range, and a page that was freed with the type of before."""
    pfn = machine.allocate(1)
    free = machine.free("free", pfn, 1)
    machine.step(free)
    task = offline(machine, found=False)
    until(machine, task, "__test_page_isolated_in_pageblock()")
    machine.run(free)
    return task


def test_before_the_patch_a_marked_page_on_a_pcplist_goes_offline() -> None:
    machine = booted(Base)
    monitor = Monitor(machine, [PROPERTIES["pages_accounted"]])
    task = a_page_escapes_to_a_pcplist(machine)
    assert poison(machine) == [True, False, 1]
    assert machine.step(task).returned == (True,)
    assert finish(machine, task) == 0
    assert Place.PCP in {machine.state.place[p] for p in machine.state.pfns(1)}
    assert [v.found for v in monitor.violations] == ["block 1 is offline, and a page of it is in use or on a pcplist"]


def test_without_the_mark_the_test_sees_the_page() -> None:
    machine = booted(Base)
    task = a_page_escapes_to_a_pcplist(machine)
    assert machine.step(task).returned == (False,)


def test_with_the_patch_there_is_no_page_to_mark_on_a_pcplist() -> None:
    machine = booted(V5_11)
    task = a_page_escapes_to_a_pcplist(machine)
    step = machine.step(machine.spawn("poison", machine.kernel.memory_failure(machine.zone())))
    assert not dict(step.choices)["found"]
    assert finish(machine, task) == 0 and machine.state.audit() == []


def test_another_isolator_does_not_get_a_marked_page() -> None:
    machine = booted(V5_11)
    machine.allocate(1)
    poison(machine)
    task = machine.spawn("contig", machine.kernel.alloc_contig_range(RANGE, MOVABLE))
    assert finish(machine, task) != 0
    assert machine.state.load(Cell("poisoned", (1,))) == 1 and machine.state.audit() == []


@pytest.mark.parametrize("kernel", [Base, V5_11])
def test_a_mark_is_lost_in_the_buddy(kernel: type[KernelText]) -> None:
    machine = booted(kernel)
    machine.put_on_pcplist(0, 1)
    assert poison(machine)[0]
    finish(machine, machine.spawn("drain", machine.kernel.drain_all_pages(machine.zone())))
    assert not machine.state.hwpoison and machine.state.audit() == []
