"""Readers and writers of the CPU hotplug lock in the lock order, and where a kernel says that isolation is complete."""

from __future__ import annotations

import pytest

from kernelmodel import ops
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import find
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result

ORDER = find("lock_order")


class UpdatesApart(V5_11):
    """offline_pages() leaves zone_pcp_update() to the task of that name, which then may take locks of its own."""

    def finish_offlining(self, page_range):
        yield from self.memory_notify("MEM_OFFLINE", page_range)


class MemoryFirst(UpdatesApart):
    """The order of 2017 (3f906ba23689): mem_hotplug_lock before the CPU hotplug lock in one place, after it in another."""

    def zone_pcp_update(self, zone):
        yield from self.mutex_lock("mem_hotplug_lock")
        yield from self.cpus_read_lock()
        yield from super().zone_pcp_update(zone)
        yield from self.cpus_read_unlock()
        yield from self.mutex_unlock("mem_hotplug_lock")


class LimitsOfTheDead(V5_11):
    """page_alloc_cpu_dead() wants pcp_batch_high_lock, and zone_pcp_update() wants to know that CPUs stay (1983184c22dd)."""

    def page_alloc_cpu_dead(self, cpu):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from super().page_alloc_cpu_dead(cpu)
        yield from self.mutex_unlock("pcp_batch_high_lock")

    def zone_set_pageset_high_and_batch(self, zone):
        yield from self.cpus_read_lock()
        yield from super().zone_set_pageset_high_and_batch(zone)
        yield from self.cpus_read_unlock()


class ReadsTwice(UpdatesApart):
    """Two readers in one task: a writer that waits in between stops both."""

    def zone_pcp_update(self, zone):
        yield from self.cpus_read_lock()
        yield from self.cpus_read_lock()
        yield from super().zone_pcp_update(zone)
        yield from self.cpus_read_unlock()
        yield from self.cpus_read_unlock()


class ReadsFirst(UpdatesApart):
    """As offline_pages() does: the CPU hotplug lock, then the others."""

    def zone_pcp_update(self, zone):
        yield from self.cpus_read_lock()
        yield from self.mutex_lock("mem_hotplug_lock")
        yield from super().zone_pcp_update(zone)
        yield from self.mutex_unlock("mem_hotplug_lock")
        yield from self.cpus_read_unlock()


def verdict(kernel, reduce="full", **tasks):
    scenario = Scenario(**{"cpus": 2, "frees": 0, "allocs": 0, "updates": 1, "offlines": 1, **tasks})
    (found,) = Explorer(kernel, Finite(scenario, 1), reduce).decide([ORDER], deadlock=False)
    return found


@pytest.mark.parametrize("reduce", ["none", "full"])
@pytest.mark.parametrize(
    ("kernel", "tasks", "cycle"),
    [
        (MemoryFirst, {}, "cpu_hotplug_lock -> mem_hotplug_lock -> cpu_hotplug_lock"),
        (
            LimitsOfTheDead,
            {"hotplugs": 1, "offlines": 0},
            "cpu_hotplug_lock -> pcp_batch_high_lock -> cpu_hotplug_lock",
        ),
        (ReadsTwice, {}, "cpu_hotplug_lock, which it holds"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_readers_and_writers_count(kernel, tasks, cycle, reduce):
    found = verdict(kernel, reduce, **tasks)
    assert found.result is Result.VIOLATED and found.replayed
    assert cycle in found.found


@pytest.mark.parametrize("kernel", [V5_11, ReadsFirst])
def test_an_order_without_a_cycle_holds(kernel):
    assert verdict(kernel, hotplugs=1).result is Result.HOLDS


def test_without_the_readers_the_cycle_is_not_seen(monkeypatch):
    plain = ops.lock_edges
    monkeypatch.setattr(
        ops, "lock_edges", lambda lock: tuple(e for e in plain(lock) if "cpu_hotplug_lock" not in e[0].index)
    )
    assert verdict(MemoryFirst).result is Result.HOLDS


def test_who_has_given_its_read_lock_back_holds_nothing():
    machine = Machine(V5_11, Config(nr_cpus=2))

    def reads_and_locks(kernel):
        yield from kernel.cpus_read_lock()
        yield from kernel.cpus_read_unlock()
        yield from kernel.mutex_lock("mem_hotplug_lock")
        yield from kernel.cpus_read_lock()

    machine.run(machine.spawn("task", reads_and_locks(machine.kernel)))
    edges = {c.index for c, v in machine.state.stored.items() if c.name == "lock_edge" and v}
    assert edges == {("mem_hotplug_lock", "cpu_hotplug_lock")}


# --- where isolation is complete ---


class DrainsAfter(V5_11):
    """Proposed in September 2020: the type is read with interrupts off; isolate, then drain every CPU once, no disable."""

    def free_unref_page(self, page):
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        migratetype = yield from self.free_unref_page_prepare(page)
        yield from self.free_unref_page_commit(page, migratetype, cpu)
        yield ops.local_irq_restore(cpu)

    def zone_pcp_disable(self, zone):
        del zone
        yield from self.mutex_lock("pcp_batch_high_lock")

    def zone_pcp_enable(self, zone):
        del zone
        yield from self.mutex_unlock("pcp_batch_high_lock")

    def start_isolate_page_range(self, page_range, migratetype, flags):
        ret = yield from self.isolate_blocks(page_range, migratetype, flags)
        if ret == 0:
            yield from self._drain_all_pages(page_range.zone, True)
        return ret

    def isolate_blocks(self, page_range, migratetype, flags):
        return (yield from super().start_isolate_page_range(page_range, migratetype, flags))


class TooEarly(DrainsAfter):
    """The same, and said to be complete before the drain."""

    isolation_complete = "isolate_blocks"


class NoSuchRoutine(V5_11):
    isolation_complete = "isolate_everything"


class AnotherWindow(V5_11):
    isolation_complete = "zone_pcp_disable"


@pytest.mark.parametrize(("kernel", "result"), [(DrainsAfter, Result.HOLDS), (TooEarly, Result.VIOLATED)])
def test_a_kernel_says_where_isolation_is_complete(kernel, result):
    scenario = Scenario(cpus=2, frees=1, allocs=1, updates=0, offlines=1)
    (found,) = Explorer(kernel, Finite(scenario, 2)).decide([find("isolated_page_not_allocated")], deadlock=False)
    assert found.result is result
    if result is Result.VIOLATED:
        assert found.replayed and "isolate_blocks() has returned" in found.trace


@pytest.mark.parametrize(("kernel", "why"), [(NoSuchRoutine, "no routine"), (AnotherWindow, "another window")])
def test_what_is_no_such_routine_is_refused(kernel, why):
    with pytest.raises(ModelError, match=why):
        kernel(Config())
