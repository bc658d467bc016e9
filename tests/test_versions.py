"""The later kernels: what each violates and what holds, by exhaustive search, bounded proof, and runs of the text itself."""

from dataclasses import replace

import pytest

from kernelmodel import Config, Machine
from kernelmodel.kernels import KERNELS, kernel
from kernelmodel.text import has_routine
from properties.catalogue import NO_DEADLOCK, PROPERTIES, find
from properties.monitor import at_rest, deadlocks
from verify.bmc.solve import Engine
from verify.explore.finite import DEFAULT, Finite
from verify.explore.solve import Explorer
from verify.runs import Values, check
from verify.scenario import Scenario, usual
from verify.verdict import Result

LATER = ("v5.14", "v5.15", "v6.0", "v6.1", "v6.2", "v6.8", "v6.10", "v6.11", "v6.15")
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)
STRAY, AGAIN = PROPERTIES["no_stray_page"], PROPERTIES["isolated_page_not_allocated"]


def test_every_later_kernel_is_among_them():
    assert set(LATER) < set(KERNELS) and {n for n in KERNELS if n.startswith("v6")} < set(LATER)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.deep) if n in ("v6.2", "v6.8", "v6.10", "v5.14") else n for n in LATER]
)
def test_exhaustive_search_finds_what_each_kernel_violates_and_nothing_else(name):
    own = usual(kernel(name))
    small = replace(SMALL, scenario=SMALL.scenario.having(**own), pages=SMALL.pages + sum(own.values()))
    explorer = Explorer(kernel(name), small)
    asked = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
    verdicts = explorer.decide(asked, deadlock=True)
    # for a stray page to be allocated again it takes a second allocation, where it is an allocation that leaves it
    unseen = set() if own else {AGAIN.name}
    assert {v.property for v in verdicts if v.result is Result.VIOLATED} == set(kernel(name).breaks) - unseen
    assert {v.result for v in verdicts} <= {Result.VIOLATED, Result.HOLDS}
    assert all(v.replayed for v in verdicts if v.result is Result.VIOLATED)


@pytest.mark.parametrize(
    "name", ["v6.0", "v6.1", *(pytest.param(n, marks=pytest.mark.deep) for n in ("v6.8", "v6.10", "v6.11"))]
)
def test_a_stray_page_of_an_isolated_block_can_be_allocated_again(name):
    """What memory offlining is afraid of: found first by random histories of v6.2."""
    again = Finite(Scenario(cpus=2, frees=0, allocs=2, updates=0), 2)
    (verdict,) = Explorer(kernel(name), again).decide([AGAIN], deadlock=False)
    assert (verdict.result is Result.VIOLATED) is (AGAIN.name in kernel(name).breaks)
    assert verdict.replayed is (True if AGAIN.name in kernel(name).breaks else None)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.deep) if n in ("v5.14", "v6.1", "v6.2", "v6.8") else n for n in LATER]
)
def test_bounded_proofs_agree_on_stray_pages(name):
    verdict = Engine(kernel(name), Scenario(cpus=2, frees=1, allocs=1, updates=1, **usual(kernel(name)))).decide(STRAY)
    stray = "no_stray_page" in kernel(name).breaks
    assert verdict.result is (Result.VIOLATED if stray else Result.HOLDS)
    assert verdict.replayed is (True if stray else None)


@pytest.mark.parametrize("name", ["v6.0", "v6.10"])
def test_the_race_of_2024_is_the_refill_that_has_not_been_counted(name):
    trace = (
        Explorer(kernel(name), Finite(Scenario(cpus=2, frees=0, allocs=1, updates=0), 2))
        .decide([STRAY], False)[0]
        .trace
    )
    refill, counted = (trace.index(text) for text in ("rmqueue_bulk(", "pcp[0]->count +="))
    assert trace.index("zone_pcp_disable() has returned") < counted and refill < counted


@pytest.mark.parametrize("name", ["v5.15", "v6.1", "v6.11"])
def test_runs_of_the_text_itself_contradict_nothing(name):
    scenario = Scenario(cpus=2, frees=1, allocs=1, updates=1)
    for prop in (STRAY, PROPERTIES["pages_conserved"]):
        assert not check(kernel(name), scenario, [prop], Values(DEFAULT.new_limits, 3), 60, 30.0).contradictions


@pytest.mark.parametrize("name", ["v6.1", "v6.11"])
def test_reductions_change_no_verdict_where_a_lock_guards_the_lists(name):
    tiny = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1)
    asked = [find(n) for n in ("no_stray_page", "pages_conserved", "guarded_writes")]
    found = [
        [v.result for v in Explorer(kernel(name), tiny, reduce).decide(asked, deadlock=True)]
        for reduce in ("none", "full")
    ]
    assert found[0] == found[1] == [Result.HOLDS] * 4


def test_a_kernel_without_work_items_has_no_workers():
    machine = Machine(kernel("v6.1"), Config())
    assert all(w.done for w in machine.workers)
    assert not has_routine(kernel("v6.1"), "drain_worker") and has_routine(kernel("v5.15"), "drain_worker")
    (verdict,) = Explorer(kernel("v6.1"), SMALL).decide([STRAY], deadlock=False)
    assert "worker" not in verdict.bound


def test_the_bound_names_each_loop_that_is_not_followed_for_ever():
    assert "1 round of offline_pages()'s and drain_pages_zone()'s loop" in Scenario().bound(kernel("v6.11"))
    assert "drain_pages_zone" not in Scenario().bound(kernel("v6.0"))


def test_the_limits_of_v6_8_are_replayed_with_their_greatest_value():
    (verdict,) = (Engine(kernel("v6.8"), Scenario(cpus=2, frees=0, allocs=1, updates=0)).decide(STRAY),)
    assert verdict.result is Result.VIOLATED and verdict.replayed


@pytest.mark.parametrize("kind", ["soft_offline", "decay"])
def test_the_tasks_of_later_kernels_run(kind):
    made = kernel("v6.11")
    scenario = Scenario(cpus=2, frees=1, allocs=0, updates=0, **{f"{kind}s": 1})
    verdicts = Explorer(made, Finite(scenario, 1)).decide([STRAY, find("lock_order")], deadlock=True)
    assert [v.result for v in verdicts] == [Result.HOLDS] * 3
    assert verdicts[-1].property == NO_DEADLOCK.name


def test_a_kernel_without_work_items_comes_to_rest():
    """Its workers have returned, which is as good as having nothing to do."""
    machine = Machine(kernel("v6.1"), Config(nr_cpus=2))
    task = machine.free("free", machine.allocate(0))
    assert not at_rest(machine)
    machine.run(task)
    assert at_rest(machine) and not deadlocks(machine, NO_DEADLOCK)
