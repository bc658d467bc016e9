"""One exhibit against the engines: what is found in its faulty text, and what holds of its mended one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kernelmodel.museum.collection import EXHIBITS, Exhibit
from kernelmodel.tasks import options
from kernelmodel.text import KernelText
from properties.catalogue import NO_DEADLOCK, find
from verify.bmc.solve import Engine
from verify.explore.finite import DEFAULT, Finite, default_pages
from verify.explore.solve import Explorer
from verify.forked import mapped
from verify.prove.engine import BOUND, ENGINE, prove, settled
from verify.prove.obligations import Prover
from verify.scenario import Scenario, option_of
from verify.verdict import Result, Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one exhibit: the verdicts of each engine on each text, and whether that is as it should be."""

    name: str
    faulty: tuple[Verdict, ...]
    mended: tuple[Verdict, ...]
    seconds: float

    @property
    def missed(self) -> bool:
        """A bug that an engine does not find, or cannot replay."""
        return any(v.result is not Result.VIOLATED or v.replayed is False for v in self.faulty)

    @property
    def broken(self) -> bool:
        """A mend that is violated."""
        return any(v.result is Result.VIOLATED for v in self.mended)

    @property
    def undecided(self) -> bool:
        """Whether an engine does not know."""
        every = (*self.faulty, *self.mended)
        return any(v.result not in (Result.VIOLATED, Result.HOLDS, Result.PROVED) for v in every)


def scenario(exhibit: Exhibit) -> Scenario:
    """The smallest machine that shows an exhibit."""
    for kernel in (exhibit.faulty, exhibit.mended):
        if kernel is not None:
            # a kernel may have tasks of its own
            kernel.sized(DEFAULT.scenario.config)
    return Scenario(cpus=2, counts=tuple(exhibit.tasks.items()))


def finite(exhibit: Exhibit) -> Finite:
    """What is searched for it."""
    bound = scenario(exhibit)
    return Finite(bound, default_pages(bound), exhibit.high, exhibit.batch)


def judge(name: str) -> Row:
    """The verdicts on an exhibit; none on one that the model cannot express."""
    exhibit = EXHIBITS[name]
    began = time.monotonic()
    faulty = _verdicts(exhibit, exhibit.faulty)
    mended = (*_verdicts(exhibit, exhibit.mended), *_proved(exhibit))
    return Row(name, faulty, mended, time.monotonic() - began)


def _verdicts(exhibit: Exhibit, kernel: type[KernelText] | None) -> tuple[Verdict, ...]:
    if kernel is None or exhibit.missing:
        return ()
    prop, bound = find(exhibit.prop), scenario(exhibit)
    searched = [] if prop is NO_DEADLOCK else [prop]
    found = Explorer(kernel, finite(exhibit)).decide(searched, deadlock=prop is NO_DEADLOCK)
    solved = [Engine(kernel, bound).decide(prop)] if exhibit.bounded else []
    return (*found, *solved)


def _proved(exhibit: Exhibit) -> tuple[Verdict, ...]:
    if not exhibit.proved or exhibit.mended is None:
        return ()
    kernel, prop = exhibit.mended, find(exhibit.prop)
    proof = prove(Prover(kernel, [prop]), jobs=1)
    found = settled(kernel, prop, proof)
    return (found or Verdict.on(kernel, prop.name, ENGINE, BOUND, Result.UNDECIDED, reason="not proved"),)


def typed(exhibit: Exhibit) -> str:
    """What a reviewer types to see it."""
    kernel = exhibit.faulty or exhibit.mended
    assert kernel is not None
    scenario(exhibit)
    own = {kind.option: kind.name for kind in options().values()}
    usual = dict(DEFAULT.scenario.counts)
    words = [f"python -m verify.explore --kernel {kernel.name} --property {exhibit.prop}"]
    words += [f"{option_of(o)} {n}" for o, n in exhibit.tasks.items() if o in usual and usual[o] != n]
    others = [f"{own[o]}={n}" for o, n in exhibit.tasks.items() if o not in usual]
    words += [f"--tasks {','.join(others)}"] if others else []
    words += [f"--high {exhibit.high}"] if exhibit.high != DEFAULT.high else []
    words += [f"--batch {exhibit.batch}"] if exhibit.batch != DEFAULT.batch else []
    return " ".join(words)


def visit(names: Sequence[str], jobs: int, scheduler: str = "") -> Iterator[Row]:
    """The rows of some exhibits, in their order, worked out by so many processes, or by the workers of a scheduler."""
    return mapped(judge, names, jobs, scheduler)
