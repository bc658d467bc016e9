"""The machine: interrupts, work items, CPU hotplug, draining, and the limits."""

from __future__ import annotations

import pytest
from machines import (
    LIMITS,
    MOVABLE,
    booted,
    cell,
    durable,
    settled,
    texts,
    until,
)

from kernelmodel import V5_10, ModelError, PageRange
from kernelmodel.memory.state import Place
from kernelmodel.terms import Cell

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
