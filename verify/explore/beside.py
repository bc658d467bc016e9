"""Small configurations beside the one that is asked for: with tasks that multiply the states of a large one.

CPUs that come and go, direct reclaim and memory_failure() matter to few routines: to those that take locks, read
cpu_online, or drain.  Small searches of their own show what they do for a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelmodel.text import KernelText, has_routine
from verify.explore.finite import Finite
from verify.scenario import Scenario, count
from verify.verdict import Result, Verdict


def beside(kernel: type[KernelText], finite: Finite, altered: bool) -> tuple[Finite, ...]:
    """What is searched beside ``finite``; nothing if it has CPU hotplug itself, one CPU, or no offlining.

    A shipped kernel gets a search in which a CPU goes down and comes up.  One that somebody has ``altered`` gets two more:
    one with a second drain meanwhile, and one in which everybody takes his locks.
    """
    s = finite.scenario
    if s.comes_and_goes or s.cpus < 2 or not s.offlines or not has_routine(kernel, "cpu_down_and_up"):
        return ()
    few = Scenario(cpus=2, frees=min(1, s.frees), allocs=0, updates=0, offlines=1, hotplugs=1)
    if not altered:
        return (replace(finite, scenario=few, pages=1),)
    drains = few.having(allocs=min(1, s.allocs), hotplugs=0, reclaims=1)
    locks = few.having(frees=0, updates=1, reclaims=1, hwpoisons=int(has_routine(kernel, "zone_pcp_disable")))
    return tuple(replace(finite, scenario=each, pages=1 + each.allocs) for each in (few, drains, locks))


def with_all(scenario: Scenario, others: Sequence[Finite]) -> Scenario:
    """A scenario with as many tasks of each kind as it has, or one of those beside it."""
    every = [dict(s.counts) for s in (scenario, *(o.scenario for o in others))]
    return replace(scenario, counts=tuple((n, max(counts[n] for counts in every)) for n in every[0]))


def in_words(finite: Finite) -> str:
    """A configuration beside another in a few words."""
    s = finite.scenario
    return f"; and {count(s.cpus, 'CPU')}, {count(finite.pages, 'page')}, {s.tasks_in_words(absent=False)}"


def together(verdict: Verdict, other: Verdict) -> Verdict:
    """One verdict of that in a configuration, and of the one in that beside it; the bound is of both."""
    if verdict.result is Result.VIOLATED or other.result is Result.NOT_APPLICABLE:
        return verdict
    other = replace(other, bound=verdict.bound)
    if verdict.result is Result.NOT_APPLICABLE or other.result in (Result.VIOLATED, Result.UNDECIDED):
        return other
    if verdict.result is Result.VACUOUS and other.result is Result.HOLDS:
        return other
    sums = {f"{n}_beside": verdict.statistics.get(f"{n}_beside", 0) + other.statistics[n] for n in _ADDED}
    return replace(verdict, statistics={**verdict.statistics, **sums})


#: what is added up of the searches beside the first
_ADDED = ("states", "transitions")
