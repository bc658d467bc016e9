"""verify.ordering --explain-order: which synchronisation is found in a kernel, and what breaks without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelmodel.kernels import kernel
from verify import page
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.ordering.__main__ import main
from verify.ordering.edges import LOCK, ORDERS, WORK, Edge, edges, take_away
from verify.ordering.explain import Explanation
from verify.scenario import Scenario

SMALL = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=1), 2)


def found(name: str) -> dict[str, Edge]:
    """The edges of a kernel, by the first of their words."""
    model = Explorer(kernel(name), SMALL).model(SMALL, [])
    return {e.words.partition(":")[0]: e for e in edges(t.graph for t in model.tasks)}


def test_edges_are_what_the_operations_do() -> None:
    """Two eras have different ones; no order is named that a kernel has not."""
    mutexes = {"mem_hotplug_lock", "pcp_batch_high_lock", "pcpu_drain_mutex"}
    assert found("v5.11").keys() == {WORK.words, "interrupts that are off", "flush_work()", *mutexes}
    assert found("v6.11").keys() == {LOCK.words, "pcp->lock", *mutexes}
    assert len(found("v6.11")["pcp->lock"].exclusions) == 2


@pytest.mark.parametrize("name", ["v5.11", "v6.11"])
def test_what_is_taken_away_is_gone_and_nothing_else(name: str) -> None:
    """After it no operation acquires, releases or waits for it; all others are as they were."""
    for edge in found(name).values():
        for task in Explorer(kernel(name), SMALL).model(SMALL, []).tasks:
            before = [n.op for n in task.graph.kept]
            take_away(task.graph, [edge])
            for old, new in zip(before, (n.op for n in task.graph.kept), strict=True):
                touched = {old.does.acquires, old.does.releases} & edge.exclusions
                touched |= {old.does.awaits} - {None} if edge.waits else set()
                assert (new is not old) == bool(touched)
                assert not {new.does.acquires, new.does.releases, *(c for c, _ in new.updates)} & edge.exclusions
                assert not (edge.waits and new.does.awaits)


def test_a_lock_that_excludes_nobody_breaks_what_rests_on_it() -> None:
    """By runs of any machine: disabling without the lock, and a drain that is not waited for; one mutex is not needed here."""
    explained = Explanation(kernel("v5.11"))
    here = {e.words.partition(":")[0]: e for e in explained.edges}
    assert "no_stray_page" in explained.without(here["pcp_batch_high_lock"]).broken
    assert "no_stray_page" in explained.without(here["flush_work()"]).broken
    spared = explained.without(here["pcpu_drain_mutex"])
    assert spared.holds and not spared.broken
    # a property that asks for the lock itself is not asked then
    assert "guarded_writes" not in explained.without(here["mem_hotplug_lock"]).broken


def test_a_section_without_its_lock_may_break_and_it_says_why() -> None:
    """Nobody is in a section then, so only the weak model is asked; it refuses stores that race."""
    explained = Explanation(kernel("v5.11"))
    left = explained.without(next(e for e in explained.edges if e.words.startswith("interrupts")))
    assert not left.holds and not left.broken and "others may store to pcp[0]->count" in left.why


def test_a_kernel_that_it_does_not_carry_is_undecided_and_one_without_the_api_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--mutant", "no-force-all-cpus", "--explain-order"]) == 3
    assert "it may break with all synchronisation in place" in capsys.readouterr().out
    assert main(["--kernel", "base", "--explain-order"]) == 0
    assert "it says nothing of base" in capsys.readouterr().out


@pytest.mark.deep
def test_a_task_that_is_a_kernel_s_own_and_breaks_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kernel", "v6.15", "--explain-order"]) == 3
    assert "1 free_pages_nolock()" in " ".join(capsys.readouterr().out.split())


@pytest.mark.deep
@pytest.mark.parametrize(("name", "order"), [("v5.11", WORK), ("v6.1", LOCK), ("v6.11", LOCK)])
def test_an_explanation_names_what_is_needed(name: str, order: Edge, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kernel", name, "--explain-order"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    needed = said.partition("needed: ")[2]
    assert order.words in needed and "pcp_batch_high_lock" in needed and "pcpu_drain_mutex" not in needed
    assert set(ORDERS) - {order} and not any(o.words in said for o in ORDERS if o is not order)


@pytest.mark.deep
def test_the_page_says_what_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(page, "_chosen", [80])
    assert main(["--explain-order"]) == 0
    assert capsys.readouterr().out in (Path(__file__).parents[1] / "docs" / "memory-models.md").read_text()
