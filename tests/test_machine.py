"""The scheduler: determinism, misuse, exclusion, and the paths of the kernel's text that few schedules take."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from kernelmodel import V5_10, V5_11, Config, Machine, MigrateType, ModelError, PageRange, RefinementError
from kernelmodel.cells import CELLS, limits_of_cpus
from kernelmodel.kernels import KERNELS
from kernelmodel.machine import Task
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import EBUSY, EINTR, EINVAL, MEMORY_OFFLINE
from kernelmodel.ops import Effect, Op, Routine
from kernelmodel.page_ops import free_to_buddy, list_add, list_del_bulk, refill
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


# --- interrupts, work items, CPU hotplug ---


def test_nobody_else_runs_on_a_cpu_with_interrupts_off_while_other_cpus_go_on() -> None:
    machine = booted(nr_cpus=3)
    here = machine.free("here", machine.allocate(0), 1)
    until(machine, here, "list_add")
    same = machine.spawn("same", machine.kernel.zone_pcp_update(machine.zone()), 1)
    elsewhere = machine.spawn("elsewhere", machine.kernel.zone_pcp_update(machine.zone()), 2)
    assert same not in machine.ready()
    assert {here, elsewhere} <= set(machine.ready())
    machine.run(here)
    assert same in machine.ready()


def test_drain_work_waits_until_its_cpu_has_interrupts_on_and_then_takes_the_page() -> None:
    machine = booted()
    free = machine.free("free", machine.allocate(0), 1)
    until(machine, free, "list_add")
    disable = machine.spawn("disable", machine.kernel.zone_pcp_disable(machine.zone()))
    with pytest.raises(ModelError, match="nobody can step: disable waits at flush_work"):
        machine.settle(disable)
    machine.run(free)
    machine.settle(disable)
    assert disable.done
    assert cell(machine, "pcp.count", 0, 1) == 0
    assert machine.state.buddies[0].nr_free() == 8


def test_a_worker_runs_elsewhere_when_its_cpu_goes_down_and_returns_when_it_comes_up() -> None:
    machine = booted(nr_cpus=3)
    machine.put_on_pcplist(2, 0)
    drain = machine.spawn("drain", machine.kernel.drain_all_pages(machine.zone()))
    until(machine, drain, "flush_work(cpu 2)")
    settled(machine, "down", machine.kernel.cpu_down(2))
    worker = machine.task("kworker/2")
    assert worker.cpu == 0
    assert cell(machine, "pcp.count", 0, 2) == 0  # page_alloc_cpu_dead()
    machine.settle(drain)
    assert {s.cpu for s in machine.history if s.task == "kworker/2"} == {0}
    settled(machine, "up", machine.kernel.cpu_up(2))
    assert worker.cpu == 2
    assert machine.state.audit() == []


def test_a_cpu_with_interrupts_off_does_not_go_down() -> None:
    machine = booted()
    free = machine.free("free", machine.allocate(0), 1)
    until(machine, free, "list_add")
    down = machine.spawn("down", machine.kernel.cpu_down(1))
    machine.step(down)
    assert machine.why_not(down) == "down waits at take_cpu_down(cpu 1)"
    machine.run(free)
    machine.settle(down)
    assert down.done


def test_a_cpu_that_is_down_keeps_no_pages_and_its_tasks_go_on_elsewhere() -> None:
    machine = booted()
    machine.put_on_pcplist(1, 0)
    free = machine.free("free", machine.allocate(0), 1)
    settled(machine, "down", machine.kernel.cpu_down(1))
    assert free.cpu == 0
    machine.run(free)
    assert cell(machine, "pcp.count", 0, 1) == 0
    assert cell(machine, "pcp.count", 0, 0) == 1


def test_no_cpu_goes_down_while_memory_goes_offline() -> None:
    machine = booted(nr_cpus=3)
    offline = machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)))
    machine.step(offline)
    down = machine.spawn("down", machine.kernel.cpu_down(1))
    assert machine.why_not(down) == "down waits at cpus_write_lock()"
    machine.settle(offline)
    assert machine.why_not(down) == ""


def test_the_last_cpu_does_not_go_down() -> None:
    machine = booted(nr_cpus=1)
    down = machine.spawn("down", machine.kernel.cpu_down(0))
    with pytest.raises(ModelError):
        machine.settle(down)


def test_a_cpu_does_not_go_down_between_the_works_look_at_its_number_and_its_drain() -> None:
    machine = booted(nr_cpus=3)
    machine.put_on_pcplist(1, 0)
    drain = machine.spawn("drain", machine.kernel.drain_all_pages(machine.zone()), 2)
    until(machine, drain, "flush_work(cpu 1)")
    worker = machine.task("kworker/1")
    until(machine, worker, "smp_processor_id")
    machine.step(worker)
    down = machine.spawn("down", machine.kernel.cpu_down(1), 2)
    machine.step(down)
    assert machine.why_not(down).startswith("down waits at take_cpu_down")


def test_a_worker_with_interrupts_off_elsewhere_stays_there_when_its_cpu_comes_up() -> None:
    machine = booted(nr_cpus=3)
    machine.put_on_pcplist(2, 0)
    machine.put_on_pcplist(0, 0)
    drain = machine.spawn("drain", machine.kernel.drain_all_pages(machine.zone()))
    until(machine, drain, "flush_work(cpu 0)")
    settled(machine, "down", machine.kernel.cpu_down(2), cpu=1)
    worker = machine.task("kworker/2")
    until(machine, worker, "list_del")
    settled(machine, "up", machine.kernel.cpu_up(2), cpu=1)
    assert cell(machine, "irqs_off", worker.cpu) == worker.number


# --- draining ---


def test_drain_of_all_zones_gives_up_while_another_drain_runs_and_that_of_a_zone_waits() -> None:
    machine = booted()
    machine.put_on_pcplist(1, 0)
    first = machine.spawn("first", machine.kernel.drain_all_pages(machine.zone()))
    until(machine, first, "cpu_online")
    second = machine.spawn("second", machine.kernel.drain_all_pages(None))
    machine.run(second)
    assert [s.text for s in machine.history if s.task == "second"] == ["mutex_trylock(&pcpu_drain_mutex)"]
    third = machine.spawn("third", machine.kernel.drain_all_pages(machine.zone()))
    machine.step(third)
    machine.step(third)
    assert machine.why_not(third) == "third waits at mutex_lock(&pcpu_drain_mutex)"
    machine.settle(first, third)
    assert cell(machine, "pcp.count", 0, 1) == 0


def test_draining_all_zones_empties_every_zone_and_draining_one_only_that() -> None:
    for zone, left in ((None, [0, 0]), (1, [1, 0])):
        machine = booted(nr_zones=2)
        for block in (0, 1):
            machine.put_on_pcplist(1, block)
        settled(machine, "drain", machine.kernel.drain_all_pages(None if zone is None else machine.zone(zone)))
        assert [cell(machine, "pcp.count", z, 1) for z in (0, 1)] == left


def test_the_racy_check_skips_a_cpu_whose_count_reads_zero_and_force_does_not() -> None:
    machine = booted()
    machine.put_on_pcplist(1, 0)
    settled(machine, "drain", machine.kernel.drain_all_pages(machine.zone()))
    assert [t for t in texts(machine) if "queue_work_on" in t] == ["queue_work_on(1, drain_local_pages_wq)"]
    machine.history.clear()
    settled(machine, "force", machine.kernel._drain_all_pages(machine.zone(), True))
    assert len([t for t in texts(machine) if "queue_work_on" in t]) == 2


def test_after_disabling_each_free_and_each_allocation_leaves_the_lists_empty() -> None:
    machine = booted()
    pages = [machine.allocate(0) for _ in range(3)]
    machine.put_on_pcplist(1, 1)
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    for cpu, pfn in enumerate(pages[:2]):
        machine.run(machine.free(f"free{cpu}", pfn, cpu))
    settled(machine, "alloc", machine.kernel.rmqueue_pcplist(machine.zone(), MOVABLE), cpu=1)
    assert [cell(machine, "pcp.count", 0, c) for c in (0, 1)] == [0, 0]
    assert machine.state.audit() == []


def test_memory_failure_disables_and_enables_without_stopping_cpu_hotplug() -> None:
    machine = booted()
    before = durable(machine)
    task = machine.spawn("hwpoison", machine.kernel.get_hwpoison_page(machine.zone()))
    until(machine, task, "get_any_page")
    assert machine.why_not(machine.spawn("down", machine.kernel.cpu_down(1))) == ""
    machine.settle(task)
    assert durable(machine) == before


# --- the limits ---


def test_setting_limits_that_are_in_force_already_returns_early() -> None:
    machine = booted(limits=None)
    machine.run(machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone())))
    assert [s.kind.name for s in machine.history if "= " in s.text and "new_high" not in s.text] == []
    assert texts(machine)[-1] == "mutex_unlock(&pcp_batch_high_lock)"
    assert len(machine.history) == 6


@pytest.mark.parametrize("new", [(5, 2), (4, 3)])
def test_setting_limits_of_which_one_has_changed_writes_both_on_every_possible_cpu(new: tuple[int, int]) -> None:
    machine = booted()
    settled(machine, "down", machine.kernel.cpu_down(1))
    update = machine.spawn(
        "update", machine.kernel.zone_pcp_update(machine.zone()), environment={"new_high": new[0], "new_batch": new[1]}
    )
    machine.run(update)
    for cpu in (0, 1):
        assert (cell(machine, "pcp.high", 0, cpu), cell(machine, "pcp.batch", 0, cpu)) == new
    assert (cell(machine, "zone.pageset_high", 0), cell(machine, "zone.pageset_batch", 0)) == new


def test_v5_10_computes_anew_and_writes_batch_1_first_with_barriers() -> None:
    machine = booted(V5_10)
    limits = {"new_high": 8, "new_batch": 3}
    machine.run(machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone()), environment=limits))
    on_cpu_1 = [t for t in texts(machine) if "pcp[1]" in t or "wmb" in t][-5:]
    assert on_cpu_1 == ["pcp[1]->batch = 1", "smp_wmb()", "pcp[1]->high = 8", "smp_wmb()", "pcp[1]->batch = 3"]
    assert cell(machine, "zone.pageset_high", 0) == 0


def test_the_sysctl_sets_the_limits_of_each_populated_zone_from_its_size() -> None:
    machine = booted(limits=None, nr_zones=2, pageblock_order=4, max_order=5)
    machine.state.stored[Cell("zone.present_pages", (1,))] = 0
    machine.run(machine.spawn("sysctl", machine.kernel.percpu_pagelist_fraction_sysctl_handler(8)))
    assert [cell(machine, "pcp.high", z, 1) for z in (0, 1)] == [16 // 8, 0]
    assert cell(machine, "percpu_pagelist_fraction") == 8


def test_a_boot_pageset_flushes_each_free_at_once() -> None:
    machine = booted()
    pages = [machine.allocate(0) for _ in range(2)]
    for cpu in (0, 1):
        machine.run(machine.spawn(f"init{cpu}", machine.kernel.pageset_init(machine.zone(), cpu)))
        machine.run(machine.free(f"free{cpu}", pages[cpu], cpu))
        assert cell(machine, "pcp.count", 0, cpu) == 0
    assert machine.state.buddies[0].nr_free() == 8


def test_a_zone_boots_with_the_limits_of_its_size() -> None:
    machine = booted(limits=None)
    assert (cell(machine, "pcp.high", 0, 0), cell(machine, "pcp.batch", 0, 0)) == (0, 1)
    assert (cell(booted(), "pcp.high", 0, 1), cell(booted(), "pcp.batch", 0, 1)) == LIMITS


def test_resetting_a_pageset_goes_back_to_boot_values_and_loses_what_is_on_the_lists() -> None:
    machine = booted()
    pfn = machine.put_on_pcplist(1, 0)
    machine.run(machine.spawn("reset", machine.kernel.zone_pcp_reset(machine.zone())))
    for cpu in (0, 1):
        assert [cell(machine, f"pcp.{n}", 0, cpu) for n in ("high", "batch", "count")] == [0, 1, 0]
    assert machine.state.place[pfn] is Place.LOST
    assert machine.state.audit() == [f"page {pfn} should be lost, and is nowhere else"]


# --- freeing by type ---


def test_a_free_below_high_stays_on_the_list_and_one_that_reaches_high_flushes_batch() -> None:
    machine = booted()
    pages = [machine.allocate(0) for _ in range(4)]
    counts = []
    for i, pfn in enumerate(pages):
        machine.run(machine.free(f"free{i}", pfn))
        counts.append(cell(machine, "pcp.count", 0, 0))
    assert counts == [1, 2, 3, 2]  # high 4, batch 2
    assert machine.state.pcplists[0][0].lists[MOVABLE] == [3, 2]


def test_a_highatomic_page_goes_to_the_movable_list_and_back_to_its_own_free_list() -> None:
    machine = booted(block_types=(MOVABLE, HIGHATOMIC))
    pfn = machine.allocate(1)
    machine.run(machine.free("free", pfn))
    assert machine.state.pcplists[0][0].lists[MOVABLE] == [pfn]
    settled(machine, "drain", machine.kernel.drain_all_pages(machine.zone()))
    assert machine.state.buddies[0].free_type_of(pfn) == HIGHATOMIC


def test_a_page_of_an_isolated_block_goes_straight_to_the_buddy() -> None:
    machine = booted()
    pfn = machine.allocate(1)
    machine.run(
        machine.spawn("isolate", machine.kernel.start_isolate_page_range(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE))
    )
    machine.history.clear()
    machine.run(machine.free("free", pfn))
    assert not [t for t in texts(machine) if "list_add" in t or "count" in t]
    assert machine.state.buddies[0].free_type_of(pfn) == ISOLATE


def test_a_page_prepared_before_isolation_is_put_on_the_isolate_list_by_the_second_look() -> None:
    machine = booted()
    pfn = machine.allocate(1)
    free = machine.free("free", pfn)
    until(machine, free, "local_irq_save")
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    settled(machine, "isolate", machine.kernel.start_isolate_page_range(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE))
    machine.run(free)
    assert [s.text for s in machine.history if "list_add" in s.text]
    assert machine.state.buddies[0].free_type_of(pfn) == ISOLATE


# --- isolation ---


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_isolation_that_fails_in_the_middle_undoes_what_it_has_set(kernel: type[KernelText]) -> None:
    machine = booted(kernel, block_types=(MOVABLE,) * 4)
    settled(machine, "other", machine.kernel.start_isolate_page_range(PageRange(3, 3), MOVABLE, MEMORY_OFFLINE))
    before = durable(machine)
    assert (
        settled(machine, "isolate", machine.kernel.start_isolate_page_range(PageRange(1, 3), MOVABLE, MEMORY_OFFLINE))
        == -EBUSY
    )
    assert [s.text for s in machine.history if "move_freepages_block(), set" in s.text][-2:] == [
        f"spin_lock(&zone->lock): move_freepages_block(), set_pageblock_migratetype(block {b}, 1)" for b in (1, 2)
    ]
    assert durable(machine) == before
    assert machine.state.audit() == []


def test_a_block_with_unmovable_pages_in_use_is_not_isolated() -> None:
    machine = booted(block_types=(MOVABLE, UNMOVABLE))
    isolate = machine.kernel.start_isolate_page_range
    assert settled(machine, "free", isolate(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE)) == 0
    settled(machine, "undo", machine.kernel.undo_isolate_page_range(PageRange(1, 1), UNMOVABLE))
    machine.allocate(1)
    assert settled(machine, "used", isolate(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE)) == -EBUSY


def test_undoing_isolation_leaves_blocks_that_are_not_isolated_alone() -> None:
    machine = booted(block_types=(MOVABLE, UNMOVABLE))
    before = durable(machine)
    settled(machine, "undo", machine.kernel.undo_isolate_page_range(PageRange(0, 1), MOVABLE))
    assert durable(machine) == before


# --- offlining ---


def offline(machine: Machine, page_range: PageRange, at: Mapping[str, Mapping[str, int]], rounds: int = 1) -> int:
    """Run offline_pages(); ``at`` gives the environment's choices by operation text, in the n-th round of the loop."""
    task = machine.spawn("offline", machine.kernel.offline_pages(page_range))
    seen = 0
    for _ in range(3000):
        if task.done:
            return task.result  # type: ignore[no-any-return]
        ready = [t for t in (task, *machine.workers) if not machine.why_not(t)]
        text = machine.operation(task).text
        if ready[0] is task and text == "signal_pending(current)":
            seen += 1
        wanted = next((c for part, c in at.items() if part in text), {}) if ready[0] is task else {}
        machine.step(ready[0], wanted if seen in (0, rounds) else {})
    raise AssertionError("offline_pages() does not end")


FAULTS: dict[str, tuple[str, dict[str, int], int]] = {
    "range_invalid": ("walk_system_ram_range", {"range_invalid": True}, -EINVAL),
    "isolation": ("move_freepages_block()", {"unmovable": True}, -EBUSY),
    "notifier_fails": ("MEM_GOING_OFFLINE", {"notifier_fails": True}, -EBUSY),
    "signal": ("signal_pending", {"signal": True}, -EINTR),
    "unmovable": ("scan_movable_pages() != -ENOENT", {"scan_fails": True}, -EBUSY),
    "dissolve_fails": ("dissolve_free_huge_pages", {"dissolve_fails": True}, -EBUSY),
}


def limits_of(machine: Machine) -> tuple[int, ...]:
    """The limits of CPU 1, high (or its least value) and batch."""
    names = {CELLS[zone].limit: mine for mine, zone in limits_of_cpus(machine.config)}
    return tuple(cell(machine, names[which], 0, 1) for which in ("high", "batch"))


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_failing_exit_of_offline_pages_restores_the_zone(kernel: type[KernelText], fault: str) -> None:
    machine = booted(kernel, block_types=(MOVABLE,) * 4)
    text, choices, errno = FAULTS[fault]
    before = durable(machine)
    assert offline(machine, PageRange(1, 2), {text: choices}) == errno
    left = {c: v for c, v in durable(machine).items() if before[c] != v}
    # 946746d1ad92
    forgotten = kernel is KERNELS["v5.14"] and fault != "range_invalid"
    assert left == ({Cell("lru_disable_count"): 1} if forgotten else {})
    assert machine.state.audit() == []
    assert cell(machine, "cpu_hotplug_readers") == 0
    # and nothing is left that would hinder the next attempt
    assert offline(machine, PageRange(1, 2), {}) == 0


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("fault", ["range_invalid", "notifier_fails", "signal", "dissolve_fails"])
def test_a_task_can_be_given_its_faults_from_the_start(kernel: type[KernelText], fault: str) -> None:
    machine = booted(kernel)
    task = machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)), environment={fault: True})
    machine.settle(task)
    assert task.result == FAULTS[fault][2]


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_signal_in_a_later_round_of_the_loop_ends_it_too(kernel: type[KernelText]) -> None:
    machine = booted(kernel)
    # off the LRU, so the scan for movable pages does not find it, and the test for isolated pages fails for ever
    machine.state.place[machine.allocate(1)] = Place.FREEING
    assert offline(machine, PageRange(1, 1), {"signal_pending": {"signal": True}}, rounds=3) == -EINTR
    assert texts(machine).count("signal_pending(current)") == 3
    assert cell(machine, "pageblock.migratetype", 1) == MOVABLE
    assert limits_of(machine) == LIMITS


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_offlining_and_onlining_again_gives_the_zone_back(kernel: type[KernelText]) -> None:
    machine = booted(kernel, block_types=(MOVABLE,) * 4)
    before = durable(machine)
    assert offline(machine, PageRange(1, 2), {}) == 0
    assert [cell(machine, f"zone.{n}_pages", 0) for n in ("managed", "present")] == [8, 8]
    assert [p.name for p in machine.state.place] == ["BUDDY"] * 4 + ["OFFLINE"] * 8 + ["BUDDY"] * 4
    assert cell(machine, "zone.nr_isolate_pageblock", 0) == 0
    assert machine.state.audit() == []
    assert settled(machine, "online", machine.kernel.online_pages(PageRange(1, 2)), environment=limits_choice()) == 0
    assert durable(machine) == before
    assert machine.state.audit() == []


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_offlining_a_whole_zone_resets_its_pagesets_and_onlining_sets_them_up(kernel: type[KernelText]) -> None:
    machine = booted(kernel)
    machine.put_on_pcplist(1, 0)
    assert offline(machine, PageRange(0, 1), {}) == 0
    assert (*limits_of(machine), cell(machine, "pcp.count", 0, 1)) == (0, 1, 0)
    assert Place.LOST not in machine.state.place
    assert settled(machine, "online", machine.kernel.online_pages(PageRange(0, 1)), environment=limits_choice()) == 0
    # base and v5.11 cache the limits, and zone_pcp_reset() leaves them: nothing seems to have changed, pcplists stay off
    expected = LIMITS if kernel is KERNELS["v5.10"] else (0, 1)
    assert limits_of(machine) == expected
    assert machine.state.buddies[0].nr_free() == 8
    settled(
        machine, "update", machine.kernel.zone_pcp_update(machine.zone()), environment={"new_high": 7, "new_batch": 3}
    )
    assert limits_of(machine) == (7, 3)


def test_a_page_larger_than_a_pageblock_is_freed_block_by_block() -> None:
    machine = Machine(V5_11, Config(nr_cpus=1, block_types=(MigrateType.MOVABLE,) * 4, pageblock_order=2, max_order=5))
    page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MigrateType.MOVABLE, 3))
    blocks = (page.block, page.block + 1)
    assert [machine.state.load(Cell("held", (b,))) for b in blocks] == [4, 4]
    settled(
        machine,
        "isolate",
        machine.kernel.start_isolate_page_range(PageRange(blocks[1], blocks[1]), MigrateType.MOVABLE, MEMORY_OFFLINE),
    )
    machine.run(machine.free("free", page.pfn))
    assert [machine.state.load(Cell("held", (b,))) for b in range(4)] == [0] * 4
    assert [machine.state.load(Cell("misplaced", (b,))) for b in range(4)] == [0] * 4
    assert machine.state.audit() == []


def limits_choice() -> dict[str, int]:
    return {"new_high": LIMITS[0], "new_batch": LIMITS[1]}


def test_onlining_that_a_notifier_refuses_leaves_the_range_offline() -> None:
    machine = booted()
    assert offline(machine, PageRange(1, 1), {}) == 0
    before = durable(machine)
    online = machine.kernel.online_pages(PageRange(1, 1))
    assert settled(machine, "online", online, environment={"notifier_fails": True}) == -EBUSY
    assert durable(machine) == before


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_offlining_migrates_pages_in_use_and_drains_those_on_pcplists(kernel: type[KernelText]) -> None:
    machine = booted(kernel, nr_cpus=3)
    for _ in range(2):
        machine.allocate(1)
    for cpu in (1, 2):
        machine.put_on_pcplist(cpu, 1)
    assert offline(machine, PageRange(1, 1), {}) == 0
    assert [p.block for p in machine.pages_in_use()] == [0, 0]
    assert machine.state.place[4:] == [Place.OFFLINE] * 4
    assert machine.state.audit() == []


def test_two_offliners_of_one_range_exclude_each_other_and_the_second_fails() -> None:
    machine = booted(block_types=(MOVABLE,) * 3)
    offline_it = machine.kernel.offline_pages
    both = [machine.spawn(f"o{i}", offline_it(PageRange(1, 1)), environment=limits_choice()) for i in range(2)]
    until(machine, both[0], "signal_pending")
    machine.settle(*both)
    assert [t.result for t in both] == [0, -EBUSY]
    assert cell(machine, "pcp.high", 0, 0) == LIMITS[0]


def test_a_signal_ends_offlining_also_while_pages_cannot_be_migrated() -> None:
    machine = booted()
    for block in (0, 0, 0, 0, 1):
        machine.allocate(block)
    task = machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)))
    for _ in range(500):
        if task.done:
            break
        ready = [t for t in (task, *machine.workers) if not machine.why_not(t)]
        machine.step(ready[0], {"signal": any("rmqueue_bulk" in text for text in texts(machine))})
    assert task.result == -EINTR


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


# --- a list of pages, vmstat, and another isolator ---


def test_a_list_reads_every_type_before_it_commits_the_first_page() -> None:
    machine = booted(block_types=(MOVABLE,) * 3)
    pages = [machine.allocate(b) for b in (1, 1, 2)]
    task = machine.free_list("list", pages)
    for _ in pages:
        machine.step(task)
    assert [s.tag for s in machine.history[-3:]].count("irq_save") == 0
    # now the block is isolated: what was read is stale, and the commit believes it
    settled(machine, "isolate", machine.kernel.start_isolate_page_range(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE))
    machine.run(task)
    assert [machine.state.place[p] for p in pages] == [Place.PCP] * 3
    assert [s.tag for s in machine.history if s.task == "list"].count("irq_save") == 1
    assert machine.state.audit() == []


def test_a_long_list_lets_interrupts_in_between() -> None:
    machine = Machine(V5_11, Config(block_types=(MOVABLE,) * 2, pageblock_order=6, max_order=8), limits=(100, 3))
    machine.run(machine.free_list("list", [machine.allocate(1) for _ in range(33)]))
    assert [s.tag for s in machine.history if s.task == "list"].count("irq_save") == 2
    assert machine.state.load(Cell("pcp.count", (0, 0))) == 33


def test_vmstat_takes_a_batch_off_the_list() -> None:
    machine = booted(limits=(9, 2))
    for _ in range(3):
        machine.put_on_pcplist(0, 0)
    settled(machine, "vmstat", machine.kernel.drain_zone_pages(machine.zone()))
    assert machine.state.load(Cell("pcp.count", (0, 0))) == 1
    settled(machine, "vmstat", machine.kernel.drain_zone_pages(machine.zone()))
    settled(machine, "vmstat", machine.kernel.drain_zone_pages(machine.zone()))
    assert machine.state.load(Cell("pcp.count", (0, 0))) == 0 and machine.state.audit() == []


def test_another_isolator_takes_a_free_range_and_leaves_no_trace() -> None:
    machine = booted(block_types=(MOVABLE,) * 2)
    machine.put_on_pcplist(0, 1)
    assert settled(machine, "contig", machine.kernel.alloc_contig_range(PageRange(1, 1), MOVABLE)) == 0
    assert all(machine.state.place[p] is Place.IN_USE for p in machine.state.pfns(1))
    assert machine.state.load(Cell("zone.nr_isolate_pageblock", (0,))) == 0 and machine.state.audit() == []
    assert not machine.state.load(Cell("isolated", (1,)))


def test_another_isolator_gives_up_where_a_page_is_left() -> None:
    machine = booted(block_types=(MOVABLE,) * 2)
    machine.allocate(1)
    before = durable(machine)
    assert settled(machine, "contig", machine.kernel.alloc_contig_range(PageRange(1, 1), MOVABLE)) == -EBUSY
    assert durable(machine) == before


def test_of_two_isolators_the_second_backs_off() -> None:
    machine = booted(block_types=(MOVABLE,) * 2)
    contig = machine.spawn("contig", machine.kernel.alloc_contig_range(PageRange(1, 1), MOVABLE))
    machine.step(contig)
    assert settled(machine, "offline", machine.kernel.offline_pages(PageRange(1, 1))) == -EBUSY
    machine.settle(contig)
    assert contig.result == 0 and machine.state.audit() == []
