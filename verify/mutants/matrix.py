"""The kill matrix: each mutant against random histories, exhaustive search and bounded proofs."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.kernels import mutant
from kernelmodel.tasks import options as task_options
from kernelmodel.versions.later_mutants import EVERY
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from verify.bmc.solve import Engine
from verify.explore.beside import beside
from verify.explore.finite import Finite
from verify.explore.solve import Explorer, Group
from verify.forked import mapped
from verify.scenario import Scenario
from verify.verdict import Result, Verdict

ENGINES = ("random", "explore", "bmc")
#: the configuration of explore
FINITE = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=1), 3)
#: the same of a later kernel, at most
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)
#: the bound of bmc
BOUND = Scenario()
#: random histories in which a mutant is looked for, and those that a control is to survive; of the mutants that they come
#: upon at all, the rarest shows in one of a hundred
HISTORIES, CONTROL_HISTORIES = 500, 50
#: after which bmc leaves a mutant undecided
BMC_SECONDS = 60.0
#: the same of a later kernel
SMALL_BOUND = Scenario(cpus=2, frees=1, allocs=1, updates=1)


@dataclass(frozen=True, slots=True)
class Kill:
    """What one engine made of one mutant; ``steps`` and ``switches`` are of its trace, if it has one.

    ``killed`` is None where it could not tell, and where it does not judge such a property at all (``judges``).
    """

    engine: str
    killed: bool | None
    seconds: float
    steps: int | None = None
    switches: int | None = None
    note: str = ""
    judges: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One mutant: what it is expected to break, what it does break (by exhaustive search), and who killed it."""

    mutant: str
    summary: str
    function: str
    expected: str
    breaks: tuple[str, ...]
    deadlock: bool
    kills: tuple[Kill, ...]
    evidence: tuple[str, ...] = ()
    undecided: str = ""

    @property
    def killed(self) -> bool:
        """Whether some engine killed it."""
        return any(k.killed for k in self.kills)

    @property
    def survives(self) -> bool:
        """Whether it should have died and did not."""
        return self.expected != EQUIVALENT and not self.killed

    @property
    def wrongly_killed(self) -> bool:
        """Whether it should have survived and did not."""
        return self.expected == EQUIVALENT and (self.killed or bool(self.breaks))

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {**dataclasses.asdict(self), "killed": self.killed, "survives": self.survives}


@dataclass(slots=True)
class Matrix:
    """All rows, and the reverse: which mutants only one property kills."""

    rows: list[Row] = field(default_factory=list)

    def alone(self) -> dict[str, list[str]]:
        """For each property the mutants that break it and no other."""
        return {p: [r.mutant for r in self.rows if r.breaks == (p,)] for p in PROPERTIES}

    def breaking(self) -> dict[str, list[str]]:
        """For each property the mutants that break it."""
        return {p: [r.mutant for r in self.rows if p in r.breaks] for p in PROPERTIES}


def collect(
    names: Sequence[str], engines: Sequence[str], jobs: int, timeout: float | None = None, scheduler: str = ""
) -> Iterator[Row]:
    """The rows of some mutants, in their order, as they come; after ``timeout`` seconds TimeoutError."""
    deadline = None if timeout is None else time.monotonic() + timeout
    return mapped(functools.partial(row_of, engines=tuple(engines)), names, jobs, scheduler, deadline, _is_long)


def _is_long(name: str) -> bool:
    """Whether a row takes much longer than most: no history finds it, and each has the most tasks."""
    return bool(EVERY[name].needs.get("reclaims"))


def row_of(name: str, engines: Sequence[str]) -> Row:
    """One mutant against the engines."""
    m = EVERY[name]
    explorer = _explorer(name)
    groups = explorer.search_all(list(PROPERTIES.values()))
    breaks, deadlock, undecided = _broken(groups)
    judges: dict[str, Callable[[], Kill]] = {
        "random": lambda: _random(name, m.breaks),
        "explore": lambda: _explore(explorer, groups, m.breaks, breaks),
        "bmc": lambda: _bmc(name, m.breaks),
    }
    kills = []
    for engine in engines:
        began = time.monotonic()
        kill = judges[engine]()
        kills.append(dataclasses.replace(kill, seconds=round(time.monotonic() - began, 2)))
    evidence = _evidence(name, breaks, undecided)
    return Row(name, m.summary, m.function, m.breaks, breaks, deadlock, tuple(kills), evidence, undecided)


def configuration(name: str) -> Finite:
    """What explore searches: of a later kernel, which has more to read and more locks, the tasks that the mutant takes."""
    m = EVERY[name]
    if name in MUTANTS:
        return FINITE
    if m.breaks == EQUIVALENT:
        return SMALL
    more: dict[str, Any] = {task: n for task, n in m.needs.items() if task in ("allocs", "updates")}
    # somebody has to put pages on lists
    frees = m.needs.get("frees", 0 if more.get("updates") else 1)
    return dataclasses.replace(SMALL, scenario=SMALL.scenario.having(**{"allocs": 0, **more, "frees": frees}))


def _explorer(name: str) -> Explorer:
    kernel, finite = mutant(name), configuration(name)
    if name not in MUTANTS and (finite.scenario.allocs or finite.scenario.updates):
        return Explorer(kernel, finite)
    return Explorer(kernel, finite, beside=beside(kernel, finite, altered=True))


def _broken(groups: Sequence[Group]) -> tuple[tuple[str, ...], bool, str]:
    """The properties that complete searches find violated, whether there is a deadlock, and why they stopped, if so."""
    violated = tuple(p.name for p in PROPERTIES.values() if any(g.violates(p) for g in groups))
    stopped = next((g.found.stopped for g in groups if g.found.stopped), "")
    return violated, any(g.found.deadlocks for g in groups), stopped


def _random(name: str, breaks: str) -> Kill:
    # an extra: whoever does not ask for random histories need not have it
    from hypothesis import HealthCheck, settings

    from properties.hunt import hunt
    from properties.profiles import FINDING, RACE_RULES
    from properties.stateful import hunter_of

    machine = hunter_of(EVERY[name])
    chosen = settings(
        max_examples=CONTROL_HISTORIES if breaks == EQUIVALENT else HISTORIES, stateful_step_count=RACE_RULES, phases=FINDING,
        derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        hunt(machine, chosen)
    except AssertionError as error:
        return Kill("random", True, 0.0, note=str(error).split("\n", 1)[0])
    return Kill("random", False, 0.0, note=f"{chosen.max_examples} random histories")


def _explore(explorer: Explorer, groups: Sequence[Group], breaks: str, broken: Sequence[str]) -> Kill:
    if breaks == EQUIVALENT:
        return Kill("explore", bool(broken), 0.0, note="every property, every interleaving")
    (verdict,) = explorer.concluded([PROPERTIES[breaks]], groups)
    return _kill("explore", verdict)


def _bmc(name: str, breaks: str) -> Kill:
    needs = EVERY[name].needs
    wanted: dict[str, Any] = {o: needs.get(o, 0) for o, kind in task_options().items() if not kind.always_told}
    # CPUs that come and go cost a solver much: few tasks beside them
    bound = BOUND if name in MUTANTS else SMALL_BOUND
    bound = bound.having(cpus=2, frees=1, allocs=0, updates=0) if wanted["hotplugs"] else bound
    engine = Engine(
        mutant(name), dataclasses.replace(bound, **wanted), time.monotonic() + BMC_SECONDS, hunting=breaks != EQUIVALENT
    )
    if breaks == EQUIVALENT:
        verdicts = [engine.decide(p) for p in PROPERTIES.values()]
        wrong = [v for v in verdicts if v.result is not Result.HOLDS]
        return Kill("bmc", any(v.result is Result.VIOLATED for v in wrong), 0.0, note="every property")
    return _kill("bmc", engine.decide(PROPERTIES[breaks]))


def _kill(engine: str, verdict: Verdict) -> Kill:
    killed = {Result.VIOLATED: True, Result.HOLDS: False}.get(verdict.result)
    if killed and not verdict.replayed:
        return Kill(engine, None, 0.0, note="the trace does not replay")
    if not killed:
        judges = verdict.result is not Result.NOT_APPLICABLE
        return Kill(engine, killed, 0.0, note=f"{verdict.result.value}: {verdict.reason}".rstrip(": "), judges=judges)
    steps = verdict.statistics.get("steps", len(verdict.schedule) - 1)
    return Kill(engine, True, 0.0, steps, verdict.statistics.get("context_switches"), verdict.found)


def _evidence(name: str, breaks: Sequence[str], undecided: str) -> tuple[str, ...]:
    """What else is known of it: that a control changes nothing, or what it takes for a mutant to show."""
    m = EVERY[name]
    if m.breaks == EQUIVALENT:
        if breaks or undecided:
            return ()
        return ("explore: every property holds, in every interleaving of its configuration",)
    found = []
    for task, options in (("allocs", "--allocs 0 --migrations 0"), ("updates", "--updates 0")):
        if m.needs.get(task):
            counts: dict[str, Any] = {task: 0}
            finite = configuration(name)
            finite = dataclasses.replace(finite, scenario=finite.scenario.having(**counts))
            prop = PROPERTIES[m.breaks]
            explorer = Explorer(mutant(name), finite)
            if explorer.why_not(prop):
                continue
            (verdict,) = explorer.decide([prop], deadlock=False)
            found.append(f"explore {options}: {prop.name} {verdict.result.value}")
    return tuple(found)


def default_jobs() -> int:
    """One process for each core."""
    return os.cpu_count() or 1
