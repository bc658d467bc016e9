"""verify.explore: how runs end: deadlocks, what cannot be done, and what a run leaves behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from configurations import TINY, UPDATED

from kernelmodel import ops, page_ops
from kernelmodel.kernels import kernel, mutant
from kernelmodel.mmzone import EBUSY, MigrateType
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import NO_DEADLOCK as NO_DEADLOCK_PROPERTY
from properties.catalogue import PROPERTIES
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.explore.search import Limits
from verify.explore.shortest import Shortest
from verify.explore.solve import NO_DEADLOCK, Explorer
from verify.scenario import Scenario
from verify.tracefile import from_verdicts, play
from verify.verdict import Result


class FreesTwice(V5_11):
    def free_one_page(self, zone, page, migratetype, order=0):
        for _ in "ab":
            yield from super().free_one_page(zone, page, migratetype, order)


class ListsWhatIsFree(V5_11):
    def free_one_page(self, zone, page, migratetype, order=0):
        yield from super().free_one_page(zone, page, migratetype, order)
        yield page_ops.list_add(self.config, page, 0, int(MigrateType.MOVABLE))


class TakesAnythingForIsolated(V5_11):
    def test_pages_isolated(self, page_range, isol_flags):  # noqa: ARG002
        yield ops.happens(f"every page of {len(page_range.blocks)} pageblocks is taken for isolated")
        return True


BUGS = {
    "double free": FreesTwice,
    "only a page that is being freed can be listed": ListsWhatIsFree,
    "not free in the buddy": TakesAnythingForIsolated,
}


@pytest.mark.parametrize("says", BUGS)
def test_what_cannot_be_done_ends_the_run_and_is_the_violation(says):
    """The kernel's bug that a property sees in the cells is where the concrete model stops, and the trace is confirmed."""
    chosen = BUGS[says]
    (verdict,) = Explorer(chosen, TINY).decide([PROPERTIES["pages_accounted"]], deadlock=False)
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    assert "cannot be done: " in verdict.found and says in verdict.found
    assert verdict.found.startswith(verdict.schedule[-1]["operation"])
    film = play(from_verdicts({"verdicts": [verdict.as_json()], "scenario": TINY.scenario.numbers()}), chosen)
    assert film.violations[0].found == verdict.found


class ForgetsFirstBlocks(V5_11):
    """start_isolate_page_range() that fails at a later pageblock leaves the first ones isolated."""

    def start_isolate_page_range(self, page_range, migratetype, flags):  # noqa: ARG002
        for block in page_range.blocks:
            if not (yield from self.set_migratetype_isolate(page_range.zone, block)):
                return -EBUSY
        return 0


def test_a_range_of_several_pageblocks_shows_what_is_not_undone():
    one, two = (Finite(replace(TINY.scenario, cpus=2, blocks=n), 1) for n in (1, 2))
    (alone,) = Explorer(ForgetsFirstBlocks, one).decide([PROPERTIES["isolation_undone"]], deadlock=False)
    (found,) = Explorer(ForgetsFirstBlocks, two).decide([PROPERTIES["isolation_undone"]], deadlock=False)
    assert (alone.result, found.result, found.replayed) == (Result.HOLDS, Result.VIOLATED, True)
    assert found.found == "every task has returned, and pageblock 1 is isolated and not offline"
    assert "offline_pages() of 2 pageblocks" in found.bound


def test_a_task_that_waits_for_itself_is_a_deadlock():
    explorer = Explorer(mutant("missed-enable-on-isolation-failure"), UPDATED)
    verdict = explorer.decide([PROPERTIES["limits_exclusive"]])[-1]
    assert (verdict.property, verdict.result) == (NO_DEADLOCK, Result.VIOLATED)
    assert verdict.found == "deadlock: update0 waits at mutex_lock(&pcp_batch_high_lock), held by offline0"
    assert verdict.replayed and verdict.trace.splitlines()[-1] == f"=> {verdict.found}"
    film = play(from_verdicts({"verdicts": [verdict.as_json()]}), explorer.kernel)
    assert [v.found for v in film.violations] == [verdict.found]


def test_a_deadlock_is_where_nobody_can_go_on_and_not_where_all_have_returned():
    model = Model(kernel("v5.11"), TINY, [NO_DEADLOCK_PROPERTY], rest_as_state=True)
    assert Shortest(model, 0, Limits()).find() is None


class WaitsForItself(V5_11):
    """The lock that a drain takes is asked for again under it: two tasks are not needed."""

    def drain_cpus_with_pcps(self, zone):
        yield from self.mutex_lock("pcpu_drain_mutex")
        yield from super().drain_cpus_with_pcps(zone)


class LocksInEitherOrder(V5_11):
    """A free takes pcp_batch_high_lock and then wants mem_hotplug_lock, which offline_pages() takes first."""

    def free_unref_page(self, page):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.mutex_lock("mem_hotplug_lock")
        yield from self.mutex_unlock("mem_hotplug_lock")
        yield from self.mutex_unlock("pcp_batch_high_lock")
        yield from super().free_unref_page(page)


class UnlocksTwice(V5_11):
    """mutex_unlock() by a task that does not hold the mutex: nothing that the cells of a property show."""

    def zone_pcp_enable(self, zone):
        yield from super().zone_pcp_enable(zone)
        yield from self.mutex_unlock("pcp_batch_high_lock")


def test_an_unlock_of_what_is_not_held_is_found():
    verdict = Explorer(UnlocksTwice, UPDATED).decide([PROPERTIES["limits_exclusive"]])[-1]
    assert (verdict.property, verdict.result, verdict.replayed) == (NO_DEADLOCK, Result.VIOLATED, True)
    assert verdict.found.startswith("mutex_unlock(&pcp_batch_high_lock) cannot be done: ")
    film = play(from_verdicts({"verdicts": [verdict.as_json()]}), UnlocksTwice)
    assert [v.found for v in film.violations] == [verdict.found]


@pytest.mark.parametrize(
    ("chosen", "waits"),
    [
        (WaitsForItself, ["offline0 waits at mutex_lock(&pcpu_drain_mutex), held by itself"]),
        (LocksInEitherOrder, ["offline0 waits at mutex_lock(&pcp_batch_high_lock), held by free0",
                              "free0 waits at mutex_lock(&mem_hotplug_lock), held by offline0"]),
    ],
)  # fmt: skip
def test_a_deadlock_says_who_waits_for_whom(chosen, waits):
    verdict = Explorer(chosen, UPDATED).decide([PROPERTIES["limits_exclusive"]])[-1]
    assert (verdict.property, verdict.result, verdict.replayed) == (NO_DEADLOCK, Result.VIOLATED, True)
    assert all(w in verdict.found for w in waits)


AT_REST = ("exits_give_back", "isolation_undone", "pages_accounted")
#: mutant -> (what it breaks, what is found)
LEFT = {
    "missed-done-on-failure": ("exits_give_back", "mem_hotplug_lock is still held"),
    "no-undo": ("isolation_undone", "pageblock 1 is isolated and not offline"),
    "page-never-freed": ("pages_accounted", "a page of block 1 is neither in use nor free"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_a_run_leaves_behind_is_found_where_it_ends(name: str) -> None:
    prop, found = LEFT[name]
    (verdict,) = Explorer(mutant(name), UPDATED).decide([PROPERTIES[prop]], deadlock=False)
    assert verdict.result is Result.VIOLATED and verdict.replayed
    assert found in verdict.found and "every task has returned" in verdict.found


@pytest.mark.parametrize("reduce", ["none", "movers", "full"])
def test_a_run_of_v5_11_leaves_nothing_behind(reduce: str) -> None:
    finite = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 2)
    for verdict in Explorer(V5_11, finite, reduce).decide([PROPERTIES[n] for n in AT_REST], deadlock=False):
        assert (verdict.result, verdict.reachable) == (Result.HOLDS, True)


class NeverReturns(V5_11):
    """offline_pages() waits for what never comes: no run ends."""

    def mem_hotplug_begin(self):  # type: ignore[no-untyped-def]
        """mm/memory_hotplug.c: mem_hotplug_begin()."""
        yield ops.never("waits for ever")


def test_where_no_run_ends_a_property_at_rest_is_vacuous() -> None:
    finite = Finite(Scenario(cpus=1, frees=1, allocs=0, updates=0), 1)
    found = Explorer(NeverReturns, finite).decide([PROPERTIES[n] for n in AT_REST], deadlock=False)
    assert {v.result for v in found} == {Result.VACUOUS}
