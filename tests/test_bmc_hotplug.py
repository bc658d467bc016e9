"""CPUs that come and go in bounded proofs: drains of a CPU that has gone, and drain work that runs elsewhere."""

from __future__ import annotations

import pytest
from test_explore_hotplug import LowersOnline, TakesDownUnlocked

from kernelmodel.cells import value
from kernelmodel.kernels import mutant
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc.__main__ import main
from verify.bmc.slice import Model
from verify.bmc.solve import Engine
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result

SMALL = Scenario(cpus=2, frees=1, allocs=0, updates=0, hotplugs=1)
DEAD = PROPERTIES["dead_cpu_drained"]


class DrainsFirst(V5_11):
    """The CPU's lists are drained from elsewhere while it is still there."""

    def cpu_down(self, cpu):
        yield from self.cpus_write_lock()
        yield from self.page_alloc_cpu_dead(cpu)
        yield from self.take_cpu_down(cpu)
        yield from self.cpus_write_unlock()


class NeverDrained(V5_11):
    """A CPU goes, and its lists stay as they are."""

    def page_alloc_cpu_dead(self, cpu):
        yield from self.populated_zone(self.config.zones[cpu - cpu])


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(V5_11, marks=pytest.mark.deep),
        mutant("dead-cpu-not-drained"),
        pytest.param(mutant("no-cpus-read-lock"), marks=pytest.mark.deep),
        pytest.param(NeverDrained, marks=pytest.mark.deep),
        pytest.param(LowersOnline, marks=pytest.mark.deep),
        pytest.param(TakesDownUnlocked, marks=pytest.mark.deep),
        pytest.param(DrainsFirst, marks=pytest.mark.deep),
    ],
    ids=lambda k: k.name,
)
def test_engines_agree_where_cpus_come_and_go(made):
    explorer, engine = Explorer(made, Finite(SMALL, 1)), Engine(made, SMALL)
    applicable = [p for p in PROPERTIES.values() if not explorer.why_not(p) and not p.rest]
    for found in explorer.decide(applicable, deadlock=False):
        mine = engine.decide(PROPERTIES[found.property])
        assert mine.replayed is not False
        if found.result is Result.VIOLATED:
            assert mine.result in (Result.VIOLATED, Result.UNDECIDED), found.property
        if mine.result is Result.VIOLATED:
            assert found.result is Result.VIOLATED, found.property


def test_a_cpu_that_goes_without_a_drain_is_shown():
    verdict = Engine(NeverDrained, SMALL).decide(DEAD)
    assert verdict.result is Result.VIOLATED and verdict.replayed
    assert "take_cpu_down(cpu 1)" in verdict.trace


def test_lists_that_are_drained_from_elsewhere_while_their_cpu_is_there_are_followed_step_by_step():
    verdict = Engine(DrainsFirst, SMALL).decide(DEAD)
    assert verdict.result is Result.VIOLATED and verdict.replayed


def test_the_worker_of_a_cpu_that_has_gone_is_a_task_elsewhere_too():
    model = Model(V5_11, SMALL)
    on_cpu = {piece.cpu: {t.spec.name for t in piece.tasks} for piece in model.slices(PROPERTIES["pages_conserved"])}
    assert "kworker/1@0" in on_cpu[0] and "kworker/1" not in on_cpu[0]
    home, elsewhere = (next(s for s in model.specs if s.name == n) for n in ("kworker/1", "kworker/1@0"))
    guards = [
        str(n.op.guard) for s in (home, elsewhere) for n in model.graph(s, s.cpu).nodes if n.op.tag == "preempt_disable"
    ]
    assert guards and all(str(value("cpu_online", 1)) in g for g in guards) and len(set(guards)) == 2


def test_hotplugs_is_an_option(capsys):
    small = ["--cpus", "2", "--frees", "1", "--allocs", "0", "--migrations", "0", "--updates", "0"]
    assert main([*small, "--hotplugs", "1", "--property", "dead_cpu_drained", "--kernel", "v5.11"]) == 0
    out = capsys.readouterr().out
    assert "CPU 1 goes down and comes up" in out and "dead_cpu_drained              holds" in out
    with pytest.raises(SystemExit) as refusal:
        main(["--cpus", "1", "--hotplugs", "1"])
    assert refusal.value.code == 2
