"""A second user of zone_pcp_disable() that does not take cpus_read_lock(), with CPUs coming and going around it.

``get_hwpoison_page()`` relies on the same guarantee as ``offline_pages()``, but nothing keeps CPUs online meanwhile: the
limits are written for every possible CPU, the drain visits those that are online, and a CPU's lists are drained by
``page_alloc_cpu_dead()`` only after it has left cpu_online_mask.
"""

from __future__ import annotations

import pytest

from kernelmodel import V5_11, Config, Machine, MigrateType, PageRange
from kernelmodel.machine import Task
from kernelmodel.memory.state import Place
from kernelmodel.terms import Cell
from properties.catalogue import PROPERTIES
from properties.monitor import Monitor

MOVABLE = MigrateType.MOVABLE
LIMITS = (4, 2)
DISABLED = "get_any_page()"  # what the caller does between disable and enable


def booted(nr_cpus: int = 2) -> tuple[Machine, Monitor]:
    machine = Machine(V5_11, Config(nr_cpus), limits=LIMITS)
    return machine, Monitor(machine, PROPERTIES.values())


def cell(machine: Machine, name: str, *index: int | str) -> int:
    return machine.state.load(Cell(name, index))


def until(machine: Machine, task: Task, text: str) -> None:
    """Step ``task``, and a drain worker where the task has to wait for one, until it is about to do ``text``."""
    while text not in machine.operation(task).text:
        machine.step(next(t for t in (task, *machine.workers) if not machine.why_not(t)))


def hwpoison(machine: Machine, cpu: int = 0) -> Task:
    return machine.spawn("hwpoison", machine.kernel.get_hwpoison_page(machine.zone()), cpu)


def cpu_down(machine: Machine, cpu: int) -> Task:
    return machine.spawn(f"cpu_down{cpu}", machine.kernel.cpu_down(cpu))


def offline(machine: Machine) -> Task:
    limits = {"new_high": LIMITS[0], "new_batch": LIMITS[1]}  # what zone_pcp_update() finds at its end
    return machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)), environment=limits)


def texts(machine: Machine) -> list[str]:
    return [s.text for s in machine.history]


def restored(machine: Machine) -> bool:
    limits = [(cell(machine, "pcp.high", 0, c), cell(machine, "pcp.batch", 0, c)) for c in machine.config.cpus]
    return limits == [LIMITS] * machine.config.nr_cpus and machine.state.audit() == []


def test_it_takes_neither_cpus_read_lock_nor_mem_hotplug_lock() -> None:
    machine, _ = booted()
    machine.settle(hwpoison(machine))
    assert not [t for t in texts(machine) if "cpus_read_lock" in t or "mem_hotplug_lock" in t]
    until(machine, task := offline(machine), "signal_pending")
    assert cell(machine, "cpu_hotplug_readers") == 1
    down = cpu_down(machine, 1)
    assert machine.why_not(down)  # offline_pages() keeps CPUs where they are
    machine.settle(task, down)
    assert restored(machine)


def test_a_cpu_goes_down_while_pcplists_are_disabled() -> None:
    machine, monitor = booted()
    machine.put_on_pcplist(1, 1)
    poison = hwpoison(machine)
    until(machine, poison, DISABLED)
    machine.run(cpu_down(machine, 1))
    assert not cell(machine, "cpu_online", 1)
    machine.settle(poison)
    assert monitor.violations == []
    # the CPU that is down has its limits back too: they are written for every possible CPU
    assert restored(machine)


def test_a_cpu_that_comes_up_while_pcplists_are_disabled_has_them_disabled() -> None:
    machine, monitor = booted()
    page = machine.allocate(0)
    machine.run(cpu_down(machine, 1))
    poison = hwpoison(machine)
    until(machine, poison, DISABLED)
    machine.run(machine.spawn("cpu_up", machine.kernel.cpu_up(1)))
    assert (cell(machine, "pcp.high", 0, 1), cell(machine, "pcp.batch", 0, 1)) == (0, 1)
    machine.run(machine.free("free", page, cpu=1))
    machine.run(machine.spawn("alloc", machine.kernel.rmqueue_pcplist(machine.zone(), MOVABLE), cpu=1))
    assert cell(machine, "pcp.count", 0, 1) == 0
    machine.settle(poison)
    assert monitor.violations == []
    assert restored(machine)


#: what the task is about to do in zone_pcp_disable() when CPU 1 goes down
MOMENTS = [
    "mutex_lock(&pcp_batch_high_lock)", "pcp[0]->batch = ", "pcp[1]->high = ", "mutex_trylock(&pcpu_drain_mutex)",
    "cpu_online[1]", "cpus_with_pcps[1] = ", "queue_work_on(1", "flush_work(cpu 0)", "flush_work(cpu 1)",
    "mutex_unlock(&pcpu_drain_mutex)",
]  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("dead_at_once", [True, False], ids=["dead-at-once", "dead-later"])
def test_a_cpu_goes_down_in_the_middle_of_zone_pcp_disable(moment: str, dead_at_once: bool) -> None:
    """Whatever the moment, and whenever page_alloc_cpu_dead() runs: what is online is empty afterwards."""
    machine, monitor = booted(3)
    for cpu in (1, 2):
        machine.put_on_pcplist(cpu, 1)
    poison, down = hwpoison(machine), cpu_down(machine, 1)
    until(machine, poison, moment)
    until(machine, down, "local_irq_save")  # CPU 1 is out of cpu_online_mask, its lists are not drained yet
    if dead_at_once:
        machine.run(down)
    until(machine, poison, DISABLED)
    assert [cell(machine, "pcp.count", 0, c) for c in (0, 2)] == [0, 0]
    machine.settle(poison, down)
    assert cell(machine, "pcp.count", 0, 1) == 0
    assert monitor.violations == []
    assert restored(machine)


def test_work_that_was_queued_on_a_cpu_that_has_gone_drains_another_one() -> None:
    """It is flushed all the same, so zone_pcp_disable() does not hang; the dead CPU's lists are cpu_dead's business."""
    machine, monitor = booted()
    machine.put_on_pcplist(1, 1)
    poison, down = hwpoison(machine), cpu_down(machine, 1)
    until(machine, poison, "flush_work(cpu 0)")
    until(machine, down, "local_irq_save")
    machine.history.clear()
    until(machine, poison, DISABLED)
    drained = [(s.task, s.cpu) for s in machine.history if s.tag == "irq_save"]
    assert drained == [("kworker/0", 0), ("kworker/1", 0)]
    assert cell(machine, "pcp.count", 0, 1) == 1
    machine.settle(poison, down)
    assert monitor.violations == []


def test_a_dying_cpu_has_pages_after_zone_pcp_disable_until_cpu_dead_has_run() -> None:
    """Why no_stray_page speaks of online CPUs: the guarantee does not reach further, and this is the trace."""
    machine, monitor = booted()
    pfn = machine.put_on_pcplist(1, 1)
    down, poison = cpu_down(machine, 1), hwpoison(machine)
    until(machine, down, "local_irq_save")
    until(machine, poison, DISABLED)
    assert cell(machine, "pcp_disabled_by", 0) == poison.number  # zone_pcp_disable() has returned
    assert cell(machine, "pcp.count", 0, 1) == 1
    assert machine.state.place[pfn] is Place.PCP  # so whoever looks for this page finds it neither in use nor free
    assert monitor.violations == []
    assert [f"{s.task}: {s.text}" for s in machine.history if s.task != "kworker/0"] == TRACE
    machine.run(down)
    assert machine.state.place[pfn] is Place.BUDDY
    machine.settle(poison)
    assert monitor.violations == []
    assert restored(machine)


#: CPU 1's pcplist has a page; without the steps of CPU 0's worker, which drains its empty lists
TRACE = [
    "cpu_down1: cpus_write_lock()",
    "cpu_down1: take_cpu_down(cpu 1)",
    "cpu_down1: zone->present_pages",
    "hwpoison: pcp_batch_high_lock: asked for",
    "hwpoison: mutex_lock(&pcp_batch_high_lock)",
    "hwpoison: pcp[0]->batch = 1",
    "hwpoison: pcp[0]->high = 0",
    "hwpoison: pcp[1]->batch = 1",  # for each possible CPU
    "hwpoison: pcp[1]->high = 0",
    "hwpoison: mutex_trylock(&pcpu_drain_mutex)",
    "hwpoison: cpu_online[0]",
    "hwpoison: cpus_with_pcps[0] = True",
    "hwpoison: cpu_online[1]",  # not online: left out, and page_alloc_cpu_dead(1) has not drained it yet
    "hwpoison: cpus_with_pcps[0]",
    "hwpoison: drain.zone[0] = 0",
    "hwpoison: queue_work_on(0, drain_local_pages_wq)",
    "hwpoison: cpus_with_pcps[1]",
    "hwpoison: cpus_with_pcps[0]",
    "hwpoison: flush_work(cpu 0)",
    "hwpoison: cpus_with_pcps[1]",
    "hwpoison: mutex_unlock(&pcpu_drain_mutex)",
    "hwpoison: zone_pcp_disable() has returned",
]


def test_a_task_with_interrupts_off_delays_the_cpus_going_not_the_guarantee() -> None:
    """stop_machine() waits until nobody has interrupts off there; the free that it waits for has read the old high."""
    machine, monitor = booted()
    free = machine.free("free", machine.allocate(0), cpu=1)
    until(machine, free, "local_irq_restore")
    down, poison = cpu_down(machine, 1), hwpoison(machine)
    until(machine, down, "take_cpu_down")
    assert "take_cpu_down" in machine.why_not(down)
    until(machine, poison, "flush_work(cpu 1)")
    assert "process_one_work" in machine.operation(machine.workers[1]).text
    assert machine.why_not(poison) and machine.why_not(machine.workers[1])
    machine.run(free)
    assert cell(machine, "pcp.count", 0, 1) == 1
    machine.run(down)
    assert cell(machine, "pcp.count", 0, 1) == 0
    until(machine, poison, DISABLED)
    machine.settle(poison)
    assert monitor.violations == []


def test_a_free_that_is_moved_off_a_dying_cpu_flushes_where_it_lands() -> None:
    """Preempted between reading the migratetype and disabling interrupts, it finds high 0 on its new CPU."""
    machine, monitor = booted()
    free = machine.free("free", machine.allocate(0), cpu=1)
    until(machine, free, "local_irq_save")
    poison = hwpoison(machine)
    until(machine, poison, DISABLED)
    machine.run(cpu_down(machine, 1))
    assert free.cpu == 0
    machine.run(free)
    assert [cell(machine, "pcp.count", 0, c) for c in (0, 1)] == [0, 0]
    machine.settle(poison)
    assert monitor.violations == []


def test_two_users_take_turns_and_each_has_the_guarantee() -> None:
    machine, monitor = booted()
    machine.put_on_pcplist(1, 1)
    offliner = offline(machine)
    poison = hwpoison(machine, cpu=1)
    until(machine, poison, DISABLED)
    # offline_pages() cannot go on before zone_pcp_enable(): there is one pcp_batch_high_lock
    while not machine.why_not(offliner):
        machine.step(offliner)
    assert machine.why_not(offliner) == "offline waits at mutex_lock(&pcp_batch_high_lock)"
    machine.settle(poison, offliner)
    assert offliner.result == 0
    assert monitor.violations == []
    assert restored(machine)
