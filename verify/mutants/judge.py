"""One systematic mutant against the engines: killed, by what; the same as the original; or a survivor."""

from __future__ import annotations

import dataclasses
import functools
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded_graph import FoldedGraph, op_key
from kernelmodel.graphs.matching import matched
from kernelmodel.text import KernelText
from kernelmodel.variants.booting import check_boots
from kernelmodel.versions.systematic import Mutation, build
from properties.catalogue import PROPERTIES
from properties.property import Property
from verify.bmc.solve import Engine
from verify.explore.beside import beside
from verify.explore.finite import DEFAULT
from verify.explore.model import Model
from verify.explore.solve import NO_DEADLOCK, Explorer
from verify.prove.engine import PROVABLE, prove
from verify.prove.obligations import Prover
from verify.prove.population import texts
from verify.prove.roles import ProjectionError
from verify.scenario import Scenario
from verify.verdict import Result

#: in the order in which they are asked
ENGINES = ("explore", "bmc", "prove")
#: what may come of a mutant
KILLED, SAME, UNREACHED, REFUSED, SURVIVES, UNDECIDED, DISAGREE, CRASHED = (
    "killed", "same graph", "not reached", "refused", "survives", "undecided", "disagreement", "crashed",
)  # fmt: skip
#: the bound of bmc, and the same with more rounds of offline_pages()'s loop, which explore does not bound
BOUND, MORE_ROUNDS = Scenario(), Scenario(rounds=3)
#: what explore searches where a mutant is not killed otherwise: offline_pages() alone, with a page that it migrates
MOVES = replace(DEFAULT, scenario=Scenario(cpus=2, frees=0, allocs=0, updates=0, offlines=1, migrations=1), pages=3)


@dataclass(frozen=True, slots=True)
class Record:
    """What came of one mutant.  ``by`` is the engine, ``breaks`` the property, ``steps`` the length of its trace."""

    name: str
    digest: str
    diff: str
    status: str
    why: str = ""
    by: str = ""
    breaks: str = ""
    steps: int | None = None
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return dataclasses.asdict(self)


def judge(kernel: type[KernelText], mutation: Mutation, engines: Sequence[str], seconds: float) -> Record:
    """The record of one mutant; it gives up after so many seconds.  Never raises but for KeyboardInterrupt."""
    began = time.monotonic()
    try:
        with _alarm(seconds):
            found = _judged(kernel, mutation, engines, began + seconds)
    except _TimeUpError:
        found = _record(mutation, UNDECIDED, f"out of time after {seconds:g} s")
    except ModelError as error:
        found = _record(mutation, REFUSED, str(error))
    except KeyboardInterrupt:
        raise
    except Exception as error:
        found = _record(mutation, CRASHED, f"{type(error).__name__}: {error}")
    return dataclasses.replace(found, seconds=round(time.monotonic() - began, 2))


def _record(
    mutation: Mutation, status: str, why: str = "", by: str = "", breaks: str = "", steps: Any = None
) -> Record:
    return Record(mutation.name, mutation.digest, mutation.diff, status, why, by, breaks, steps)


class _TimeUpError(KeyboardInterrupt):
    """An interrupt, for who runs a text takes whatever else goes wrong there for an error of the text."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _judged(kernel: type[KernelText], mutation: Mutation, engines: Sequence[str], deadline: float) -> Record:
    changed = build(kernel, mutation)
    check_boots(changed)
    reached: list[bool] = []
    routine = vars(changed)[mutation.routine]

    @functools.wraps(routine)
    def watched(*args: Any, **named: Any) -> Any:
        reached.append(True)
        return routine(*args, **named)

    setattr(changed, mutation.routine, watched)
    same = unchanged(kernel, changed, engines)
    # asked after the other, for they share what was noted of the routine
    moves = "explore" in engines and not unchanged(kernel, changed, engines, moves=True)
    if not reached:
        return _record(mutation, UNREACHED, f"no task of {' and '.join(engines)} comes to it")
    if same and not moves:
        return _record(mutation, SAME, "the control graphs of all tasks are those of the original")
    doubts: list[str] = []
    if "explore" in engines and not same:
        explorer = Explorer(changed, DEFAULT, beside=beside(changed, DEFAULT, altered=True))
        found = _by_explore(explorer, mutation, engines, deadline)
        if found is not None:
            return found
    if moves:
        found = _by_explore(Explorer(changed, MOVES), mutation, (), deadline)
        if found is not None:
            return found
    if same:
        return _record(mutation, SURVIVES)
    if "bmc" in engines:
        found = _by_bmc(changed, mutation, engines, deadline, doubts)
        if found is not None:
            return found
    if "prove" in engines:
        doubts += [f"prove does not prove {p}" for p in PROVABLE if p not in proved(changed)]
    return _record(mutation, SURVIVES, "; ".join(doubts))


def unchanged(kernel: type[KernelText], changed: type[KernelText], engines: Sequence[str], moves: bool = False) -> bool:
    """Whether all tasks of the engines have the control graphs that they had: then no verdict can differ.

    ``moves``: those of the configuration in which a page is migrated instead.
    """
    which = "moves" if moves else "proofs" if "prove" in engines else ""
    return all(_equal(a, b) for a, b in zip(_original(kernel, which), _graphs(changed, which), strict=True))


#: the last kernel asked for, and what was found of it
_originals: dict[tuple[type, str], list[FoldedGraph]] = {}
_proved: dict[type, frozenset[str]] = {}


def _original(kernel: type[KernelText], which: str) -> list[FoldedGraph]:
    if any(known is not kernel for known, _ in _originals):
        _originals.clear()
    if (kernel, which) not in _originals:
        _originals[kernel, which] = _graphs(kernel, which)
    return _originals[kernel, which]


def _graphs(kernel: type[KernelText], which: str) -> list[FoldedGraph]:
    """The graphs of the tasks of explore and bmc, and with "proofs" of those that only prove has; or those of MOVES."""
    finites = (MOVES,) if which == "moves" else (DEFAULT, *beside(kernel, DEFAULT, altered=True))
    every = [t.graph for f in finites for t in Model(kernel, f, list(PROPERTIES.values())).tasks]
    return [*every, *(t.graph for t in texts(kernel))] if which == "proofs" else every


def _equal(graph: FoldedGraph, other: FoldedGraph) -> bool:
    cpus = {n.cpu: n.cpu for g in (graph, other) for n in g.nodes}
    return matched(graph, other, cpus, lambda n: op_key(n.op), lambda k: k, lambda k: k) is not None


# --- the engines ---


def _by_explore(explorer: Explorer, mutation: Mutation, engines: Sequence[str], deadline: float) -> Record | None:
    changed = explorer.kernel
    groups = explorer.search_all(list(PROPERTIES.values()))
    answers = [(p.name, g, g.verdict(p)[0]) for p in PROPERTIES.values() for g in groups if p.name in g.names]
    for name, group, result in answers:
        if result is Result.VIOLATED:
            there = explorer.within(group.finite)
            verdict = there.demonstrate(PROPERTIES[name]) or there.decide([PROPERTIES[name]], False)[0]
            if verdict.result is not Result.VIOLATED:
                continue
            if not verdict.replayed:
                return _record(mutation, DISAGREE, "a trace of explore does not replay", "explore", name)
            against = _contradicts(changed, PROPERTIES[name], engines, deadline)
            if against:
                return _record(mutation, DISAGREE, against, "explore", name)
            return _record(mutation, KILLED, verdict.found, "explore", name, verdict.statistics.get("steps"))
    if any(g.dead_end for g in groups):
        stuck = next((g.found.stuck for g in groups if g.found.stuck), "a task unlocks what it does not hold")
        return _record(mutation, KILLED, stuck, "explore", NO_DEADLOCK)
    seen = {n for n, _, r in answers if r is not Result.VACUOUS}
    vacuous = [n for n in dict.fromkeys(n for n, _, _ in answers) if n not in seen]
    if vacuous:
        return _record(mutation, KILLED, f"vacuous: {', '.join(vacuous)}", "explore", vacuous[0])
    return None


def _contradicts(changed: type[KernelText], prop: Property, engines: Sequence[str], deadline: float) -> str:
    """What another engine says that cannot be true if the property is violated; empty if nothing."""
    if "prove" in engines and prop.name in PROVABLE and prop.name in proved(changed):
        return f"explore has a trace that violates {prop.name}, and prove proves it"
    if "bmc" in engines:
        results = [Engine(changed, bound, deadline).decide(prop).result for bound in (BOUND,)]
        if results[0] is Result.HOLDS and Engine(changed, MORE_ROUNDS, deadline).decide(prop).result is Result.HOLDS:
            return f"explore has a trace that violates {prop.name}, and bmc holds it within a larger bound"
    return ""


def _by_bmc(
    changed: type[KernelText], mutation: Mutation, engines: Sequence[str], deadline: float, doubts: list[str]
) -> Record | None:
    engine = Engine(changed, BOUND, deadline)
    for prop in PROPERTIES.values():
        verdict = engine.decide(prop)
        if verdict.replayed is False:
            return _record(mutation, DISAGREE, "a trace of bmc does not replay", "bmc", prop.name)
        if verdict.result is Result.VIOLATED:
            if "prove" in engines and prop.name in PROVABLE and prop.name in proved(changed):
                return _record(mutation, DISAGREE, "bmc has a trace, and prove proves it", "bmc", prop.name)
            return _record(mutation, KILLED, verdict.found, "bmc", prop.name, len(verdict.schedule) - 1)
        if verdict.result is Result.VACUOUS:
            return _record(mutation, KILLED, f"vacuous: {prop.name}", "bmc", prop.name)
        if verdict.result is Result.UNDECIDED:
            doubts.append(f"bmc cannot decide {prop.name}")
    return None


def proved(kernel: type[KernelText]) -> frozenset[str]:
    """The properties that verify.prove proves of a kernel; none where its text cannot be projected."""
    if kernel not in _proved:
        _proved.clear()
        _proved[kernel] = _prove(kernel)
    return _proved[kernel]


def _prove(kernel: type[KernelText]) -> frozenset[str]:
    try:
        prover = Prover(kernel, [PROPERTIES[n] for n in PROVABLE])
        proof = prove(prover, jobs=1)
    except (ProjectionError, ModelError):
        return frozenset()
    if proof.differs or proof.vacuous:
        return frozenset()
    return frozenset(n for n in PROVABLE if proof.proves(n))
