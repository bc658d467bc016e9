"""The scheduler: determinism, misuse, and steps whose concrete half is not what they say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from machines import (
    ISOLATE,
    LIMITS,
    MOVABLE,
    Unchanged,
    booted,
    cell,
    settled,
    texts,
    until,
)

from kernelmodel import V5_11, Config, Machine, ModelError, PageRange, RefinementError
from kernelmodel.kernels import KERNELS
from kernelmodel.memory.state import Place
from kernelmodel.ops import Effect, Op
from kernelmodel.page_ops import free_to_buddy, list_add, list_del_bulk, refill
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText

# --- determinism ---


def busy(kernel: type[KernelText], seed: int) -> Machine:
    machine = booted(kernel, nr_cpus=3, block_types=(MOVABLE,) * 4)
    rng = random.Random(seed)
    for cpu in range(3):
        machine.put_on_pcplist(cpu, cpu)
    pages = [machine.allocate(b) for b in (0, 1, 1, 2)]
    for i, pfn in enumerate(pages[:3]):
        machine.free(f"free{i}", pfn, i)
    machine.spawn("alloc", machine.kernel.rmqueue_pcplist(machine.zone(), MOVABLE), 1)
    machine.spawn("alloc2", machine.kernel.rmqueue(machine.zone(), MOVABLE, 1), 2)
    machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)))
    machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone()))
    machine.spawn("reclaim", machine.kernel.direct_reclaim(), 2)
    for _ in range(400):
        ready = machine.ready()
        if not ready:
            break
        machine.step(rng.choice(ready))
    return machine


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("seed", range(5))
def test_the_same_schedule_gives_the_same_history_byte_for_byte(kernel: type[KernelText], seed: int) -> None:
    one, other = busy(kernel, seed), busy(kernel, seed)
    assert "\n".join(map(str, one.history)) == "\n".join(map(str, other.history))
    assert one.state.abstract() == other.state.abstract()
    assert one.state.audit() == []


def test_another_schedule_gives_another_history() -> None:
    assert texts(busy(V5_11, 1)) != texts(busy(V5_11, 2))


# --- misuse ---


def test_a_double_free_is_refused() -> None:
    machine = booted()
    pfn = machine.allocate(0)
    machine.run(machine.free("first", pfn))
    with Unchanged(machine, f"double free: page {pfn} is on a pcplist; free only a page that is in use"):
        machine.free("second", pfn)


def test_freeing_a_page_that_is_being_freed_is_refused() -> None:
    machine = booted()
    pfn = machine.allocate(0)
    machine.free("first", pfn)
    with Unchanged(machine, f"double free: page {pfn} is being freed"):
        machine.free("second", pfn)


@pytest.mark.parametrize("pfn", [-1, 8, 100])
def test_an_unknown_page_is_refused(pfn: int) -> None:
    machine = booted()
    with Unchanged(machine, f"page {pfn} does not exist: this machine has pages 0 to 7"):
        machine.free("free", pfn)


def test_freeing_the_tail_of_a_compound_page_is_refused_and_the_head_frees_all() -> None:
    machine = booted()
    page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MOVABLE, 2))
    assert [p.pfn for p in machine.pages_in_use()] == [page.pfn]
    with Unchanged(machine, f"page {page.pfn + 1} is the tail of a compound page: free its head"):
        machine.free("free", page.pfn + 1)
    machine.run(machine.free("free", page.pfn))
    assert machine.state.buddies[0].nr_free() == 8
    assert list(machine.pages_in_use()) == []


def test_enabling_without_disabling_is_refused_at_the_unlock() -> None:
    machine = booted()
    task = machine.spawn("enable", machine.kernel.zone_pcp_enable(machine.zone()))
    until(machine, task, "mutex_unlock")
    with Unchanged(machine, r"unlocked by a task that does not hold it \(an enable without a disable\?\)"):
        machine.step(task)


def test_enabling_what_another_task_has_disabled_is_refused() -> None:
    machine = booted()
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    task = machine.spawn("enable", machine.kernel.zone_pcp_enable(machine.zone()))
    until(machine, task, "mutex_unlock")
    with Unchanged(machine, "unlocked by a task that does not hold it"):
        machine.step(task)


@pytest.mark.parametrize("cpu", [-1, 2, 99])
def test_an_unknown_cpu_is_refused(cpu: int) -> None:
    machine = booted()
    task = machine.free("free", machine.allocate(0))
    with Unchanged(machine, f"unknown CPU {cpu}: this machine has CPUs 0 to 1"):
        machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone()), cpu)
    with Unchanged(machine, f"unknown CPU {cpu}"):
        machine.migrate(task, cpu)
    with Unchanged(machine, f"unknown CPU {cpu}"):
        machine.put_on_pcplist(cpu, 0)


def test_a_cpu_that_is_offline_is_refused() -> None:
    machine = booted()
    settled(machine, "down", machine.kernel.cpu_down(1))
    task = machine.free("free", machine.allocate(0))
    with Unchanged(machine, "CPU 1 is offline: bring it up first, or choose another"):
        machine.migrate(task, 1)
    with Unchanged(machine, "CPU 1 is offline"):
        machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone()), 1)


def test_freeing_on_an_unknown_cpu_leaves_the_page_in_use() -> None:
    machine = booted()
    pfn = machine.allocate(0)
    with Unchanged(machine, "unknown CPU 9"):
        machine.free("free", pfn, 9)


@pytest.mark.parametrize("block", [-1, 2, 99])
def test_an_unknown_block_is_refused(block: int) -> None:
    machine = booted()
    with Unchanged(machine, f"block {block}"):
        machine.allocate(block)


def test_a_step_of_a_task_that_waits_is_refused() -> None:
    machine = booted()
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    task = machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone()))
    machine.step(task)
    with Unchanged(machine, r"step not enabled: update waits at mutex_lock\(&pcp_batch_high_lock\)"):
        machine.step(task)
    assert task not in machine.ready()
    with Unchanged(machine, "nobody can step: update waits at"):
        machine.settle(task)


def test_a_step_of_a_task_that_has_finished_is_refused() -> None:
    machine = booted()
    task = machine.free("free", machine.allocate(0))
    machine.run(task)
    assert task.done
    with Unchanged(machine, "step not enabled: free has finished"):
        machine.step(task)
    with Unchanged(machine, "free has finished: it has no next step"):
        machine.operation(task)


def test_a_step_while_another_task_has_interrupts_off_on_that_cpu_is_refused() -> None:
    machine = booted()
    one, other = machine.free("one", machine.allocate(0)), machine.free("other", machine.allocate(0))
    until(machine, one, "list_add")
    with Unchanged(machine, "step not enabled: interrupts are off on CPU 0, where one runs"):
        machine.step(other)
    machine.migrate(other, 1)
    machine.step(other)
    machine.run(one)
    machine.migrate(other, 0)
    machine.run(other)


def test_a_task_with_interrupts_off_does_not_migrate() -> None:
    machine = booted()
    task = machine.free("free", machine.allocate(0))
    until(machine, task, "list_add")
    with Unchanged(machine, "free has interrupts off on CPU 0 and cannot migrate to CPU 1"):
        machine.migrate(task, 1)


def test_a_worker_does_not_migrate() -> None:
    machine = booted()
    with Unchanged(machine, "kworker/0 is bound to its CPU: the machine moves it when that goes down"):
        machine.migrate(machine.workers[0], 1)


@pytest.mark.parametrize("fraction", [3, 1, 7, -1])
def test_a_sysctl_fraction_below_8_is_refused(fraction: int) -> None:
    machine = booted()
    with Unchanged(machine, f"percpu_pagelist_fraction {fraction} is refused: give 0 or at least 8"):
        machine.spawn("sysctl", machine.kernel.percpu_pagelist_fraction_sysctl_handler(fraction))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.task("nobody"), "no task is called 'nobody': there are kworker/0, kworker/1"),
        (lambda m: m.zone(1), "unknown zone 1: this machine has zones 0 to 0"),
        (lambda m: m.zone(-1), "unknown zone -1"),
        (lambda m: m.allocate(0, order=1), r"allocate\(\) is for single pages: let a task run rmqueue\(\)"),
        (lambda m: m.put_on_pcplist(0, 0, ISOLATE), "migratetype 4 has no pcplist: give one below 3"),
        (lambda m: cell(m, "pcp.high", 0, 7), "this machine has no pcp.high"),
    ],
)
def test_other_misuse_is_refused(call: Callable[[Machine], object], message: str) -> None:
    machine = booted()
    with Unchanged(machine, message):
        call(machine)


def test_a_block_without_free_pages_is_refused() -> None:
    machine = booted()
    assert [machine.allocate(0) for _ in range(4)] == [0, 1, 2, 3]
    with Unchanged(machine, "block 0 has no free page left: give it more"):
        machine.allocate(0)


@pytest.mark.parametrize(
    "size", [{"nr_cpus": 0}, {"nr_zones": 0}, {"nr_zones": 3}, {"block_types": ()}, {"max_order": 2}]
)
def test_an_impossible_machine_is_refused(size: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Config(**size)


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-1, 0)])
def test_an_empty_or_negative_range_is_refused(first: int, last: int) -> None:
    with pytest.raises(ModelError, match="is empty or negative: give first <= last"):
        PageRange(first, last)


# --- the machine checks the concrete half against the abstract half ---


class NotAdded(V5_11):
    """Says list_add() and does not."""

    def free_unref_page_commit(self, page: Any, migratetype: Any, cpu: int) -> Iterator[Op]:  # type: ignore[override]
        yield replace(list_add(self.config, page, cpu, migratetype), effect=lambda *_: Effect())


class OneTooMany(V5_11):
    """Reports one page more than batch."""

    def rmqueue_bulk(self, zone: Any, count: Any, cpu: int, migratetype: Any) -> Any:
        return (yield replace(refill(self.config, zone, cpu, migratetype, count), effect=self.lie))

    def lie(self, *_: Any) -> Effect:
        return Effect({f"got{b}": 3 for b in range(self.config.nr_blocks)})


class OtherPage(V5_11):
    """Frees one page and, behind the abstract state's back, loses another."""

    def free_pcppages_bulk(self, zone: Any, count: Any, cpu: int) -> Any:
        op = free_to_buddy(self.config, zone, (yield from self.pages(zone, cpu, count)), reread=True)

        def effect(state: Any, wanted: Any) -> Effect:
            assert op.effect is not None
            state.place[state.place.index(Place.IN_USE)] = Place.LOST
            return op.effect(state, wanted)

        yield replace(op, effect=effect)

    def pages(self, zone: Any, cpu: int, count: Any) -> Any:
        return (yield list_del_bulk(self.config, zone, cpu, count))


class StoredBehind(V5_11):
    """Changes a stored cell that its operation does not name."""

    def free_unref_page_commit(self, page: Any, migratetype: Any, cpu: int) -> Iterator[Op]:  # type: ignore[override]
        del page, migratetype, cpu

        def effect(state: Any, _: Any) -> Effect:
            state.stored[Cell("zone.managed_pages", (0,))] -= 1
            return Effect()

        yield Op("harmless", effect=effect)


def free_on(kernel: type[KernelText], limits: tuple[int, int] = LIMITS, check: bool = True) -> None:
    machine = Machine(kernel, Config(), limits=limits, check=check)
    machine.allocate(1)
    machine.run(machine.free("free", machine.allocate(0)))


def test_a_step_whose_concrete_half_does_less_than_it_says_is_caught() -> None:
    with pytest.raises(RefinementError, match=r"list_add\(page.*pcp.nr\[0,0,1,0\] is 0, the operation allows 1"):
        free_on(NotAdded)
    free_on(NotAdded, check=False)


def test_a_step_whose_choices_break_its_own_constraint_is_caught() -> None:
    machine = Machine(OneTooMany, Config(), limits=LIMITS)
    with pytest.raises(RefinementError, match=r"rmqueue_bulk.*choices .*'got0': 3.* are not allowed"):
        machine.run(machine.spawn("alloc", machine.kernel.rmqueue_pcplist(machine.zone(), MOVABLE)))


def test_a_step_that_touches_another_page_is_caught() -> None:
    with pytest.raises(RefinementError, match=r"held\[1\] is 0, the operation allows 1"):
        free_on(OtherPage, limits=(0, 1))


def test_a_step_that_changes_a_stored_cell_behind_its_operations_back_is_caught() -> None:
    with pytest.raises(RefinementError, match=r"zone\.managed_pages"):
        free_on(StoredBehind)
