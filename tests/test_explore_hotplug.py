"""verify.explore with a CPU that goes down and comes up: nothing is lost, traces replay, default runs have it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernelmodel.cells import value
from kernelmodel.config import Config
from kernelmodel.does import Does
from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel, mutant
from kernelmodel.machine import Machine
from kernelmodel.mmzone import MigrateType, Zone
from kernelmodel.ops import Op, Routine
from kernelmodel.terms import Cell, const, land
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.explore.__main__ import main
from verify.explore.beside import beside, in_words
from verify.explore.finite import DEFAULT, Finite
from verify.explore.solve import Explorer
from verify.runs import Values, check
from verify.scenario import Scenario
from verify.verdict import Result

#: a free and an offline_pages() while CPU 1 goes down and comes up
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0, hotplugs=1), 1)
STAY, DRAINED, STRAY = (PROPERTIES[n] for n in ("cpus_stay", "dead_cpu_drained", "no_stray_page"))


class LowersOnline(V5_11):
    """zone_pcp_disable() lowers the limits of the CPUs that are online, and others may come meanwhile."""

    name = "lowers online CPUs only"

    def mem_hotplug_begin(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_begin()."""
        yield from self.mutex_lock("mem_hotplug_lock")

    def mem_hotplug_done(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_done()."""
        yield from self.mutex_unlock("mem_hotplug_lock")

    def set_pageset_high_and_batch(self, zone: Zone, high: int, batch: int) -> Routine:
        """mm/page_alloc.c: __zone_set_pageset_high_and_batch()."""
        from kernelmodel.ops import read

        for cpu in self.for_each_cpu():
            if (yield read("cpu_online", cpu)):
                yield from self.pageset_update(zone, cpu, high, batch)


class TakesDownUnlocked(V5_11):
    """A CPU goes down without cpus_write_lock(), so that drain work may be queued on it and be executed elsewhere."""

    name = "takes a CPU down unlocked"

    def cpu_down(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_down()."""
        yield from self.take_cpu_down(cpu)

    def cpus_write_lock(self) -> Routine:
        """kernel/cpu.c: cpus_write_lock()."""
        return
        yield

    def cpus_write_unlock(self) -> Routine:
        """kernel/cpu.c: cpus_write_unlock()."""
        return
        yield


def found(made, finite, reduce):
    explorer = Explorer(made, finite, reduce)
    verdicts = explorer.decide(list(PROPERTIES.values()))
    return {v.property: v.result for v in verdicts}, verdicts


@pytest.mark.parametrize(
    "made",
    [
        V5_11,
        pytest.param(kernel("base"), marks=pytest.mark.deep),
        mutant("no-cpus-read-lock"),
        mutant("dead-cpu-not-drained"),
        pytest.param(LowersOnline, marks=pytest.mark.deep),
        pytest.param(TakesDownUnlocked, marks=pytest.mark.deep),
    ],
    ids=lambda k: k.name,
)
def test_reductions_change_no_verdict_where_cpus_come_and_go(made):
    none, verdicts = found(made, SMALL, "none")
    for reduce in ("movers", "full"):
        assert found(made, SMALL, reduce)[0] == none
    assert all(v.replayed for v in verdicts if v.result is Result.VIOLATED)


@pytest.mark.deep
def test_a_cpu_that_comes_while_memory_goes_offline_has_its_old_limits():
    (verdict,) = Explorer(LowersOnline, SMALL).decide([STRAY], deadlock=False)
    assert verdict.result is Result.VIOLATED and verdict.replayed
    steady = replace(SMALL, scenario=replace(SMALL.scenario, hotplugs=0))
    assert Explorer(LowersOnline, steady).decide([STRAY], deadlock=False)[0].result is Result.HOLDS


def test_drain_work_of_a_cpu_that_has_gone_drains_another_cpu():
    """As v5.11's comment on drain_local_pages_wq() says: the workqueue may run it anywhere once the CPU is gone."""
    (verdict,) = Explorer(TakesDownUnlocked, SMALL).decide([STRAY], deadlock=False)
    assert verdict.result is Result.VIOLATED and verdict.replayed
    assert "take_cpu_down" in verdict.trace


@pytest.mark.deep
def test_random_runs_of_the_text_find_what_the_search_finds():
    made = mutant("dead-cpu-not-drained")
    assert check(made, SMALL.scenario, [DRAINED], Values(SMALL.new_limits, 1), 400, 60.0).contradictions
    for prop in (STRAY, STAY, DRAINED):
        assert not check(V5_11, SMALL.scenario, [prop], Values(SMALL.new_limits, 1), 200, 60.0).contradictions


def test_a_default_run_has_a_cpu_that_comes_and_goes(capsys):
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(["--property", "cpus_stay", "--property", "dead_cpu_drained"]))
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert "and 2 CPUs, 1 page, 1 free, 1 offline_pages(), CPU 1 goes down and comes up" in out.replace("\n", " ")
    assert "dead_cpu_drained              holds" in out
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(["--property", "dead_cpu_drained", "--hotplugs", "0"]))
    assert "it speaks of hotplugs, of which this bound has none" in capsys.readouterr().out


def test_a_violation_beside_is_told_with_its_own_bound_and_trace(capsys):
    assert main(["--mutant", "dead-cpu-not-drained", "--property", "all"]) == 1
    out = capsys.readouterr().out
    assert "take_cpu_down(cpu 1)" in out and "1 page left on the pcplist of CPU1, which has gone" in out


def test_hotplugs_needs_another_cpu(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["--hotplugs", "1", "--cpus", "1"])
    assert refusal.value.code == 2 and "--hotplugs 1 needs another CPU" in capsys.readouterr().err


def test_what_is_searched_beside():
    (shipped,) = beside(V5_11, DEFAULT, altered=False)
    assert shipped.scenario.hotplugs == 1 and shipped.scenario.offlines == 1
    assert "CPU 1 goes down" in in_words(shipped)
    again, drains, locks = beside(V5_11, DEFAULT, altered=True)
    assert again == shipped
    assert "1 direct reclaim" in in_words(drains) and "1 get_hwpoison_page()" in in_words(locks)
    assert not any(f.scenario.hwpoisons for f in beside(kernel("base"), DEFAULT, altered=True))
    for scenario in (replace(DEFAULT.scenario, cpus=1), replace(DEFAULT.scenario, offlines=0), SMALL.scenario):
        assert beside(V5_11, replace(DEFAULT, scenario=scenario), altered=True) == ()


def test_a_worker_leaves_a_cpu_that_goes_and_returns_when_it_may():
    """kernel/workqueue.c: unbind_workers(), rebind_workers(): a pinned worker returns when it may be moved."""
    machine = Machine(V5_11, Config(nr_cpus=3, block_types=(MigrateType.MOVABLE,)), (2, 2))
    worker = machine.workers[2]
    with pytest.raises(ModelError, match="bound to its CPU"):
        machine.migrate(worker, 0)
    queue = machine.spawn("queue", machine.kernel.queue_work_on(2))
    machine.run(queue)
    down = machine.spawn("down", machine.kernel.cpu_down(2))
    machine.settle(down)
    assert worker.cpu != 2
    machine.migrate(worker, 1)
    while machine.history[-1].tag != "preempt_disable":
        machine.step(worker)
    machine.run(machine.spawn("up", machine.kernel.cpu_up(2)))
    assert worker.cpu == 1
    while machine.history[-1].tag != "preempt_enable":
        machine.step(worker)
    assert worker.cpu == 2


class NeverLeaves(V5_11):
    """take_cpu_down() leaves the CPU in cpu_online_mask: whoever waits for it to be gone waits for ever."""

    def take_cpu_down(self, cpu: int) -> Routine:
        """kernel/cpu.c: take_cpu_down()."""
        yield Op(
            f"take_cpu_down(cpu {cpu})", does=Does(takes_down=cpu),
            guard=land(value("cpu_online", cpu), value("irqs_off", cpu) == 0, value("preempt_count", cpu) == 0),
            updates=((Cell("cpu_online", (cpu,)), const(True)),), tag="cpu_down", info={"cpu": cpu},
        )  # fmt: skip


@pytest.mark.deep
def test_who_is_where_follows_from_what_is_written_not_from_what_is_said() -> None:
    """A trace puts tasks on CPUs that are there, and here the one that "goes down" still is."""
    small = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0, hotplugs=1, reclaims=1), 1)
    found = Explorer(NeverLeaves, small).decide(list(PROPERTIES.values()))
    broken = {v.property: v.replayed for v in found if v.result is Result.VIOLATED}
    # the lists of a CPU that is there are drained from another one
    assert broken["guarded_writes"] and all(broken.values())
