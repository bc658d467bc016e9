"""Who works on another CPU's lists keeps nobody away there: no engine may say that he does."""

from __future__ import annotations

import pytest

from kernelmodel.ops import read
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc.slice import Model
from verify.bmc.solve import Engine
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result

#: with three CPUs a task that is elsewhere has more than one place to be
TWO, THREE = (Scenario(cpus=n, frees=1, allocs=1, updates=0) for n in (2, 3))
RACES = ("no_stray_page", "no_isolated_page_left", "bulk_free_terminates", "offline_progress")


class RemoteDrain(V5_11):
    """The drain works on each CPU's lists from where it is, with interrupts off there and nowhere else."""

    def drain_cpus_with_pcps(self, zone):
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield from self.drain_pages_zone(cpu, zone)


class FreesElsewhere(V5_11):
    """A free that puts its page on CPU 0's list, wherever it is."""

    def free_unref_page_commit(self, page, migratetype, cpu):
        yield from super().free_unref_page_commit(page, migratetype, cpu - cpu)


def test_the_race_of_a_remote_drain_is_real():
    explorer = Explorer(RemoteDrain, Finite(TWO, 3))
    groups = explorer.search_all([PROPERTIES[n] for n in RACES], deadlock=False)
    assert all(g.verdict(PROPERTIES[n])[0] is Result.VIOLATED for g in groups for n in RACES if n in g.names)
    verdict = explorer.demonstrate(PROPERTIES["bulk_free_terminates"])
    assert verdict is not None and verdict.replayed


@pytest.mark.parametrize("scenario", [TWO, pytest.param(THREE, marks=pytest.mark.deep)], ids=lambda s: f"{s.cpus} CPUs")
@pytest.mark.parametrize("name", RACES)
def test_bmc_finds_it_too(name, scenario):
    verdict = Engine(RemoteDrain, scenario).decide(PROPERTIES[name])
    assert verdict.result is Result.VIOLATED and verdict.replayed


def test_a_drain_that_is_always_where_the_free_is_would_hide_it(monkeypatch):
    monkeypatch.setattr(Model, "placements", lambda _, cpu: iter([{"offline0": cpu}]))
    verdict = Engine(RemoteDrain, TWO).decide(PROPERTIES["no_stray_page"])
    assert verdict.result is Result.HOLDS


def test_a_task_of_one_cpu_that_writes_to_anothers_lists_is_not_decided():
    verdict = Engine(FreesElsewhere, TWO).decide(PROPERTIES["pages_conserved"])
    assert verdict.result is not Result.HOLDS
