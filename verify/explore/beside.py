"""A second, small configuration beside the one that is asked for: one in which a CPU goes down and comes up.

CPUs that come and go multiply the states of a large configuration, and matter to few routines: to those that take
cpus_read_lock(), read cpu_online, or drain.  A small search of its own shows what they do for a tenth of the time.
"""

from __future__ import annotations

from dataclasses import replace

from kernelmodel.text import KernelText
from verify.explore.finite import Finite
from verify.scenario import count
from verify.verdict import Result, Verdict


def with_hotplug(kernel: type[KernelText], finite: Finite) -> Finite | None:
    """What is searched beside ``finite``; None if it has CPU hotplug itself, one CPU, or no offlining."""
    s = finite.scenario
    if s.hotplugs or s.cpus < 2 or not s.offlines or not hasattr(kernel, "cpu_down_and_up"):
        return None
    few = replace(
        s,
        cpus=2,
        frees=min(1, s.frees),
        allocs=0,
        updates=0,
        offlines=1,
        blocks=1,
        hotplugs=1,
        migrations=0,
        spread=False,
    )
    return replace(finite, scenario=few, pages=max(1, few.frees))


def in_words(finite: Finite) -> str:
    """The second configuration in a few words."""
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
    beside = {f"{name}_beside": other.statistics[name] for name in ("states", "transitions")}
    return replace(verdict, statistics={**verdict.statistics, **beside})
