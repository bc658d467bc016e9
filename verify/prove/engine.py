"""Running a proof on two cores, and what comes of it: verdicts, or a real trace for a proof that fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import z3

from kernelmodel.errors import ModelError
from kernelmodel.memory_model import Memory
from kernelmodel.text import KernelText
from properties.property import Property
from verify.forked import can_fork, children
from verify.prove.obligations import PROVED, START, TOGETHER, UNKNOWN, Answer, Proof, Prover
from verify.prove.scope import NOT_PROVED
from verify.prove.uniform import differing
from verify.scenario import Scenario, usual
from verify.verdict import Result, Verdict

ENGINE = "prove"
BOUND = (
    "none: any number of CPUs, zones, pages and pageblocks; any number of tasks that free, allocate, offline memory, update"
    " the limits, handle poisoned pages and drain; any high >= 0 and batch >= 1; runs of any length"
)
#: what the lemmas can prove
PROVABLE = (
    "no_stray_page", "no_isolated_page_left", "limits_exclusive", "limits_restored", "pages_conserved",
    "enable_on_every_exit", "offline_progress",
)  # fmt: skip

#: set before the children are forked: what a prover is made of cannot be sent to them
_prover: list[Prover] = []

Chunk = list[tuple[list[Answer], bool | None]]
#: works out portions of transitions, by their numbers, at a depth
Elsewhere = Callable[[Sequence[Sequence[int]], int], Iterable[Chunk]]


#: so many transitions are handed to a child at a time
PORTION = 6
#: and to a worker of a scheduler, which has to read the kernel first
LARGE_PORTION = 48


def prove(
    prover: Prover, depth: int = TOGETHER, jobs: int | None = None, elsewhere: Elsewhere | None = None
) -> Proof:  # fmt: skip
    """All obligations of a kernel, by so many processes, or those of the transitions ``elsewhere``."""
    began = time.monotonic()
    proof = Proof(transitions=len(prover.transitions), lemmas=tuple(prover.lemmas))
    numbers = list(range(len(prover.transitions)))
    jobs = min(2, os.cpu_count() or 1) if jobs is None else jobs
    _prover[:] = [prover]
    if elsewhere is not None or jobs < 2 or not can_fork():
        proof.differs = _differs()
        chunks = (
            [_chunk(numbers, depth)] if elsewhere is None else [*elsewhere(_portions(numbers, LARGE_PORTION), depth)]
        )
        proof.answers += [*prover.start(), *prover.conclusions(depth)]
    else:
        with children(jobs) as pool:
            differs = pool.submit(_differs)
            futures = [pool.submit(_chunk, portion, depth) for portion in _portions(numbers, PORTION)]
            proof.answers += [*prover.start(), *prover.conclusions(depth)]
            chunks = [f.result() for f in futures]
            proof.differs = differs.result()
    for number, (answers, taken) in zip(numbers, (c for chunk in chunks for c in chunk), strict=True):
        proof.answers += answers
        _note(proof, prover.transitions[number].label, taken)
    _note(proof, START, prover.starts())
    proof.seconds = time.monotonic() - began
    return proof


def _note(proof: Proof, label: str, possible: bool | None) -> None:
    if not possible:
        (proof.open if possible is None else proof.vacuous).append(label)


def weakened(prover: Prover, proof: Proof) -> Proof:
    """What is left of a proof in which lemmas fail: they are dropped, and what rested on them is asked once more.

    Ends with the largest set of lemmas that is inductive, or with none: each round drops at least one.
    ``proof`` must tell what each answer rests on (depth EACH or WITHOUT).
    """
    began = time.monotonic()
    left = replace(proof, answers=list(proof.answers), dropped=list(proof.dropped))
    while failed := {a.goal for a in left.all_failed if a.goal in left.lemmas} - set(left.dropped):
        left.dropped += [n for n in left.lemmas if n in failed]
        prover.dropped |= failed
        todo: dict[str, set[str]] = {}
        for a in left.answers:
            if a.result == PROVED and failed & set(a.uses) and a.goal not in left.dropped:
                todo.setdefault(a.where, set()).add(a.goal)
        new = {(a.where, a.goal): a for where, goals in todo.items() for a in prover.again(where, goals)}
        left.answers = [new.get((a.where, a.goal), a) for a in left.answers]
    left.seconds += time.monotonic() - began
    return left


def _portions(numbers: Sequence[int], size: int) -> list[Sequence[int]]:
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def _chunk(numbers: Sequence[int], depth: int) -> Chunk:
    return [_prover[0].step(n, depth) for n in numbers]


def _differs() -> str:
    return differing(_prover[0].kernel, _prover[0].system)


def find_trace(
    kernel: type[KernelText], prop: Property, deadline: float | None = None, memory: Memory = "sc"
) -> Verdict:
    """A real trace that breaks the property: a shortest one of verify.explore, or else what verify.bmc has.

    Without a trace the verdict's bound tells where both have looked.
    """
    # a proof that succeeds needs no search, and its import takes a while
    from verify.bmc.solve import Engine
    from verify.explore.decide import others
    from verify.explore.finite import default
    from verify.explore.search import Limits, room_mb
    from verify.explore.solve import Explorer

    finite = default(kernel)
    explorer = Explorer(
        kernel, finite, limits=Limits(deadline, room_mb()), jobs=os.cpu_count() or 1,
        beside=others(kernel, finite), memory=memory,
    )  # fmt: skip
    try:
        explored = explorer.demonstrate(prop) or explorer.decide([prop], deadlock=False)[0]
    except ModelError:
        # not every text can be folded into a control graph
        explored = None
    if explored is not None and explored.result is Result.VIOLATED:
        return explored
    bounded = Engine(kernel, Scenario().having(**usual(kernel)), deadline, memory=memory, hunting=True).decide(prop)
    if explored is None or explored.result is Result.UNDECIDED:
        return bounded
    return replace(bounded, bound=f"{explored.bound}; nor within {bounded.bound}")


def inapplicable(kernel: type[KernelText], prop: Property) -> Verdict | None:
    """The verdict on a property that speaks of routines that the kernel does not have."""
    if prop.applies_to(kernel):
        return None
    missing = ", ".join(f"{r}()" for r in prop.needs)
    return Verdict.on(kernel, prop.name, ENGINE, BOUND, Result.NOT_APPLICABLE, reason=f"{kernel.name} has no {missing}")


def settled(kernel: type[KernelText], prop: Property, proof: Proof) -> Verdict | None:
    """The verdict on a property that is proved."""
    if proof.differs or not proof.proves(prop.name):
        return None
    counts = {"transitions": proof.transitions, "obligations": len(proof.answers), "z3": z3.get_version_string()}
    return Verdict.on(
        kernel, prop.name, ENGINE, BOUND, Result.PROVED, reachable=proof.possible, statistics=counts
    )  # fmt: skip


def searched(
    kernel: type[KernelText],
    prop: Property,
    proof: Proof | None,
    deadline: float | None,
    why: str = "",
    memory: Memory = "sc",
) -> Verdict:
    """The verdict on a property that is not proved: violated, with a real trace; or undecided."""
    if why:
        why = f"not projected: {why}"
    elif proof is not None and proof.differs:
        why = f"not projected: {proof.differs}"
    elif prop.name in PROVABLE:
        out_of_time = proof is not None and any(a.result == UNKNOWN for a in proof.all_failed)
        why = "out of time, or the solver gave up" if out_of_time else "not inductive"
    else:
        why = f"the lemmas do not decide it: {NOT_PROVED.get(prop.name, 'it is not among the properties that they prove')}"
    if deadline is not None and time.monotonic() >= deadline:
        return Verdict.on(
            kernel, prop.name, ENGINE, BOUND, Result.UNDECIDED, reason=f"{why}; no time is left to look for a trace"
        )  # fmt: skip
    found = find_trace(kernel, prop, deadline, memory)
    if found.result is Result.VIOLATED:
        return replace(found, engine=ENGINE, bound=BOUND, reason=f"{why}; the trace is from verify.{found.engine}")
    bound = found.reason if found.result is Result.UNDECIDED else f"no trace found within {found.bound}"
    return Verdict.on(
        kernel, prop.name, ENGINE, BOUND, Result.UNDECIDED, reason=f"{why}; {bound}", seconds=found.seconds
    )  # fmt: skip
