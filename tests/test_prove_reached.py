"""Every state that verify.explore's small machines reach satisfies every lemma of the proof; wrong lemmas are refuted."""

from __future__ import annotations

import functools

import pytest

from kernelmodel.cells import pcp_list_length, value
from kernelmodel.config import Config
from kernelmodel.kernels import mutant
from kernelmodel.mmzone import PCPTYPES
from kernelmodel.terms import Term, implies, land, lnot, reg, show
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from properties.lemmas import DRAIN_LOCK, LEMMAS, Lemma, ghost
from verify.explore.finite import Finite
from verify.prove.reached import Reached
from verify.prove.roles import Step
from verify.scenario import Scenario

#: (CPUs, frees, allocs, updates, pages, the CPU that is followed)
MACHINES = {
    "one CPU: free, alloc": (1, 1, 1, 0, 2, 0),
    "two CPUs: free, update": (2, 1, 0, 1, 1, 0),
}
LARGER = {
    "two CPUs: free, update, from the idle CPU": (2, 1, 0, 1, 1, 1),
    "one CPU: free, alloc, update": (1, 1, 1, 1, 2, 0),
    "two CPUs: free, alloc": (2, 1, 1, 0, 2, 0),
    "two CPUs: free, alloc, update": (2, 1, 1, 1, 2, 0),
}


def machine(
    cpus: int, frees: int, allocs: int, updates: int, pages: int, cpu: int, kernel: type[KernelText]
) -> Reached:
    scenario = Scenario(cpus=cpus, frees=frees, allocs=allocs, updates=updates, offlines=1, spread=True)
    return Reached(kernel, Finite(scenario, pages=pages), cpu)


@functools.cache
def reached(name: str) -> Reached:
    return machine(*(MACHINES | LARGER)[name], V5_11)


def wrong(name: str, term: object) -> dict[str, Lemma]:
    return {name: Lemma(name, "wrong", "", term)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*MACHINES, *(pytest.param(n, marks=pytest.mark.deep) for n in LARGER)])
def test_every_state_that_is_reached_satisfies_every_lemma(name: str) -> None:
    found = reached(name)
    assert found.states > 1000 and len(found.seen) > 50
    assert found.refuted() == []


#: steps that this machine cannot reach, and why: all others must be, or the abstraction has lost something
NOT_REACHED = {
    # its blocks are MOVABLE or ISOLATE: HIGHATOMIC and CMA, which go to the list of MOVABLE, do not occur
    ("section.at", "free0", "list_add(page, &pcp[c]->lists[])"),
    # the hang that the clamp prevents, see test_the_hang_is_reached_without_the_clamp
    ("section.at", "free0", "the CPU hangs with interrupts off"),
    ("worker.at", "kworker/0", "the CPU hangs with interrupts off"),
    # nobody else drains: the trylock before it does not fail
    ("holder.at", "offline0", "mutex_lock(&pcpu_drain_mutex)"),
}


def unreached(found: Reached) -> list[tuple[str, Step]]:
    """The steps of each part at which no state stands."""
    parts = {
        "holder.at": found.system.holder_steps,
        "section.at": found.system.section_steps,
        "worker.at": found.system.worker_steps,
    }
    places = {n: {s[found.names.index(n)] for s in found.seen} for n in parts}
    assert all(0 in places[n] for n in ("holder.at", "section.at"))
    return [(n, s) for n, steps in parts.items() for u, s in steps.items() if u not in places[n]]


def test_all_parts_are_played_in_what_is_reached() -> None:
    found = reached("one CPU: free, alloc")
    # no work item of this machine is to drain all zones
    missing = [(n, s) for n, s in unreached(found) if "drain_pages" not in s.stack]
    assert len(missing) < len(unreached(found))
    assert {(n, s.kind.name, s.text) for n, s in missing} == NOT_REACHED
    assert len(missing) == len(NOT_REACHED)
    # of the two list_add() it is the one that is reserved for types beyond the pcplists' own
    (other,) = (s for n, s in missing if "list_add" in s.text)
    ways = [c for s in found.system.program.steps.values() for c, t in s.edges if t == other.uid]
    assert len(ways) == 1 and any(show(c).startswith(f"({PCPTYPES} <= ") for c in ways[0])
    flushed = found.names.index("holder.flushed")
    assert {s[flushed] for s in found.seen} == {False, True}


def test_the_hang_is_reached_without_the_clamp() -> None:
    """The twin: steps count as not reached because they are not, not because the abstraction cannot see them."""
    found = machine(*MACHINES["one CPU: free, alloc"], mutant("no-count-clamp"))
    assert not any("hangs" in s.text for n, s in unreached(found) if n == "section.at")


def _empty(config: Config, z: int, c: int) -> Term:
    return land(pcp_list_length(config, z, c) == 0, value("pcp.count", z, c) == 0)


WRONG = {
    # a free puts its page on the list and takes it off again within its section, even after the drain
    "drained_means_empty_at_every_instant": lambda config, z, c: implies(ghost("flushed"), _empty(config, z, c)),
    # a free that disabled interrupts before still has the old limits
    "queued_means_empty": lambda config, z, c: implies(ghost("queued"), _empty(config, z, c)),
    "count_is_right_even_with_interrupts_off": lambda config, z, c: (
        value("pcp.count", z, c) == pcp_list_length(config, z, c)
    ),
    # the refill is on the list before it is counted, but never the other way round
    "refill_never_uncounted": lambda config, z, c: implies(
        reg("section", "bool"), value("pcp.count", z, c) >= pcp_list_length(config, z, c)
    ),
    "batch_not_above_high": lambda _, z, c: value("pcp.batch", z, c) <= value("pcp.high", z, c),
    "limits_as_cached_whoever_holds_the_lock": lambda _, z, c: value("pcp.high", z, c) == value("zone.pageset_high", z),
    "drains_only_under_both_locks": lambda _, _z, c: implies(
        value("work.pending", c), lnot(value("mutex", DRAIN_LOCK) == 0) == lnot(reg("holder", "bool"))
    ),
    "never_flushed": lambda *_: lnot(ghost("flushed")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_lemma_is_refuted_by_a_state_that_is_reached(name: str) -> None:
    refuted = reached("one CPU: free, alloc").refuted(wrong(name, WRONG[name]))
    assert [r.lemma for r in refuted] == [name]
    assert refuted[0].state


@pytest.mark.parametrize(
    ("name", "lemma"),
    [
        pytest.param("no-flush", "disabled_means_drained", marks=pytest.mark.deep),
        ("refill-not-counted", "pages_conserved"),
        ("enable-without-restore", "limits_restored"),
        ("batch-left-old", "limits_closed_first"),
    ],
)
def test_what_a_mutant_reaches_refutes_a_lemma(name: str, lemma: str) -> None:
    """The lemmas are not true of whatever runs: the twin of the first test."""
    found = machine(*MACHINES["one CPU: free, alloc"], mutant(name))
    assert lemma in {r.lemma for r in found.refuted({lemma: LEMMAS[lemma]})}


def test_a_state_of_a_lemma_is_told_by_its_variables() -> None:
    found = reached("one CPU: free, alloc")
    state = found.refuted(wrong("w", WRONG["never_flushed"]))[0].state
    assert state["holder.flushed"] == 1
