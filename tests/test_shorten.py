"""Counterexamples of bmc: as few tasks, CPUs, context switches and steps as there can be, by what each of these costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmodel.kernels import kernel, mutant
from kernelmodel.terms import Cell
from properties.catalogue import find
from verify import shorten
from verify.bmc.fewest import acting
from verify.bmc.solve import Engine
from verify.scenario import Scenario
from verify.trace import Access, TraceStep, rerun
from verify.tracefile import of_verdict, play

X, Y = Cell("x"), Cell("y")


def access(reads: Sequence[Cell] = (), writes: Sequence[Cell] = ()) -> Access:
    return Access(frozenset(reads), frozenset(writes))


def switches(tasks: Sequence[str]) -> int:
    return sum(a != b for a, b in itertools.pairwise(tasks))


ACCESSES = st.sampled_from([access(), access([X]), access([], [X]), access([Y]), access([], [Y])])


@given(st.lists(st.tuples(st.sampled_from("abc"), ACCESSES), min_size=1, max_size=7))
def test_no_order_that_keeps_what_was_seen_has_fewer_switches(drawn: list[tuple[str, Access]]) -> None:
    steps = [TraceStep(task, "") for task, _ in drawn]
    accesses = [a for _, a in drawn]
    waits = shorten._waits(steps, accesses, range(len(steps)))
    best = min(
        switches([steps[i].task for i in order])
        for order in itertools.permutations(range(len(steps)))
        if all(waits[i] <= set(order[:n]) for n, i in enumerate(order))
    )
    order = shorten._fewest_switches(steps, accesses, range(len(steps)))
    assert all(waits[i] <= set(order[:n]) for n, i in enumerate(order)) and sorted(order) == list(range(len(steps)))
    assert switches([steps[i].task for i in order]) == best
    assert switches([steps[i].task for i in shorten._staying(steps, range(len(steps)), waits)]) >= best


def test_who_stays_while_it_can_may_switch_more() -> None:
    steps, accesses = [TraceStep(t, "") for t in "bcb"], [access([X]), access([X]), access([], [X])]
    waits = shorten._waits(steps, accesses, range(3))
    orders = shorten._fewest(steps, range(3), waits), shorten._staying(steps, range(3), waits)
    assert [switches([steps[i].task for i in order]) for order in orders] == [1, 2]


@pytest.mark.parametrize(
    ("name", "prop", "tasks"),
    [
        ("no-mutex", "limits_exclusive", "1 offline_pages(), 1 zone_pcp_update()"),
        ("no-force-all-cpus", "no_stray_page", "1 alloc, 1 offline_pages()"),
    ],
)
def test_a_counterexample_has_nobody_to_spare(name: str, prop: str, tasks: str) -> None:
    chosen, scenario = mutant(name), Scenario()
    verdict = Engine(chosen, scenario).decide(find(prop))
    assert verdict.scenario["cpus"] == 2 and verdict.bound.startswith("3 CPUs")
    film = play(of_verdict(verdict))
    small = acting(film.trace.scenario, verdict.schedule)
    assert film.violation is not None and verdict.reason == small.suffices() == f"2 CPUs, {tasks} suffice"
    alone = [
        Engine(chosen, small.having(**{option: n - 1})).decide(find(prop)).result.value
        for option, n in small.counts
        if n and option != "offlines"
    ]
    assert "violated" not in alone


def test_the_end_of_a_task_that_nobody_needs_is_left_out() -> None:
    verdict = Engine(kernel("v6.8"), Scenario(cpus=2, frees=0, allocs=1, updates=0)).decide(find("no_stray_page"))
    film = play(of_verdict(verdict))
    steps = [s.exact for s in film.trace.steps]
    last = max(i for i, s in enumerate(steps) if s.task == "offline0")
    # its twin: one step more of the offliner is not needed, and one fewer is
    shorter = rerun(film.kernel, film.trace.scenario, film.trace.start, [*steps[:last], *steps[last + 1 :]], film.prop)
    assert film.violations and not shorter.violations


def test_the_same_question_has_the_same_answer_whatever_was_asked_before() -> None:
    scenario = Scenario(cpus=2, frees=1, allocs=1, updates=0)

    def asked() -> list[tuple[object, ...]]:
        found = []
        for name in ("no-force-all-cpus", "no-drain"):
            verdict = Engine(mutant(name), scenario).decide(find("no_stray_page"))
            found.append((verdict.result, verdict.trace, verdict.reason))
        return found

    first = asked()
    assert asked() == first
    assert [row[0].value for row in first] == ["violated", "violated"]  # type: ignore[attr-defined]
