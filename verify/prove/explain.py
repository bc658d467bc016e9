"""The proof as a reader's argument: the phases of the offliner, the lemmas and who needs them, and what is assumed."""

from __future__ import annotations

from collections.abc import Iterator

from kernelmodel.cells import disabler
from kernelmodel.ops import Kind
from kernelmodel.terms import show
from properties.arguments import OFFLINER
from properties.lemmas import cell_of
from verify import page
from verify.prove.facts import Facts, Split
from verify.prove.obligations import ALWAYS, GHOSTS_JUSTIFIED, LOCKS_KEPT, PROVED, START, Answer, Proof, Prover
from verify.prove.roles import Step
from verify.prove.scope import ASSUMPTIONS, NOT_PROVED
from verify.prove.uniform import SIZES


def explanation(prover: Prover, proof: Proof) -> str:
    """All of it as text."""
    parts = (
        _phases(prover),
        _lemmas(prover, proof),
        _beside(prover, proof),
        _conclusions(proof),
        _not_proved(),
        _assumptions(prover.kernel.pcp_order > 0),
    )
    return page.fit("\n\n".join("\n".join(part) for part in parts))


def _wrapped(text: str, indent: str, first: str | None = None) -> str:
    return page.paragraph(text, indent if first is None else first, indent)


# --- the phases of the offliner ---


def _phases(prover: Prover) -> Iterator[str]:
    system = prover.system
    yield "What holds of an online CPU c, phase by phase of offline_pages(), from taking pcp_batch_high_lock on:"
    for lock in system.lock_steps:
        if lock.kind.name != OFFLINER:
            continue
        seen: set[int] = set()
        said = ""
        queue = [t for _, t in system.holder.closure(lock)]
        yield f"  after mutex_lock(&pcp_batch_high_lock) in {lock.stack[-2]}():"
        while queue:
            uid = queue.pop(0)
            if uid in seen or uid not in system.holder_steps:
                continue
            seen.add(uid)
            step = system.holder_steps[uid]
            words = _words(prover, step)
            if words and words != said:
                yield _wrapped(f"{_moment(step)}, {words}.", "      ", "    ")
                said = words
            queue += [t for _, t in step.edges]
    yield from (f"  ({g.name}: {g.meaning})" for g in system.argument.ghosts)


def _words(prover: Prover, step: Step) -> str:
    """What the text says about the tracked CPU before a step, on the ways on which it is online."""
    system = prover.system
    ways = [(s, f) for s, f in system.facts.get(step.uid, {}).items() if s[-1] is not False]
    return " or ".join(dict.fromkeys(_way(prover, s, f) for s, f in ways))


def _way(prover: Prover, split: Split, facts: Facts) -> str:
    z, c = prover.system.zone, prover.system.cpu
    argument = prover.system.argument
    limits: dict[str, list[str]] = {}
    for name, of_zone in argument.when_unlocked:
        item = ("cell", cell_of(name, z, c))
        constant = facts.constant(item)
        cached = ("cell", cell_of(of_zone, z, c))
        if constant is not None:
            limits.setdefault("", []).append(f"{name[4:]} {show(constant)}")
        elif item in facts.classes and facts.classes[item] == facts.classes.get(cached):
            limits.setdefault("the zone's cached ", []).append(name[4:])
        else:
            limits.setdefault("the old ", []).append(name[4:])
    words = [f"CPU c has {' and '.join(whose + ' and '.join(names) for whose, names in limits.items())}"]
    ghosts = [g.name for g, value in zip(argument.ghosts, split, strict=False) if value]
    words += [f"its drain is {' and '.join(ghosts)}"] if ghosts else []
    by = facts.constant(("cell", disabler(z)))
    if by is not None and by.op == "reg":
        words.append("the pcplists are disabled")
    return "; ".join(words)


def _moment(step: Step) -> str:
    """The moment before a step, for the beginning of a sentence."""
    if step.op.does.computes_limits:
        return "Before the new limits are computed"
    if step.op.told.mark:
        return f"Until {step.text}"
    looks = step.op.returns and not step.op.updates and step.op.kind in (Kind.PLAIN, Kind.READ_ONCE)
    return f"Before it reads {step.text}" if looks else f"Before {step.text}"


# --- the lemmas ---


def _lemmas(prover: Prover, proof: Proof) -> Iterator[str]:
    yield "The lemmas, each preserved by every operation of every routine:"
    for lemma in prover.system.argument.lemmas.values():
        yield _wrapped(f"{lemma.name}: {lemma.says}", "      ", "  ")
        yield f"      formalises {lemma.source}"
        uses = sorted({u for a in proof.answers if a.goal == lemma.name for u in a.uses} - {lemma.name})
        yield _wrapped(f"rests on {', '.join(uses) or 'nothing but itself'}", "      ")
        needing = [a for a in proof.answers if lemma.name in a.needs and a.goal != lemma.name]
        if needing:
            yield _wrapped(
                f"needed, for {_obligations(len(needing))} without it, such as {_example(needing)}", "      "
            )
        else:
            yield "      redundant: every obligation but its own can be proved without it"


def _obligations(number: int) -> str:
    return "one obligation fails" if number == 1 else f"{number} obligations fail"


def _example(needing: list[Answer]) -> str:
    # the offliner's own steps tell a reader most
    best = min(needing, key=lambda a: ("offline:" not in a.where, a.where not in (ALWAYS, START)))
    where = "directly from the lemmas" if best.where == "always" else f"at {best.where}"
    return f"{best.goal} {where}"


def _beside(prover: Prover, proof: Proof) -> Iterator[str]:
    yield "Beside the lemmas:"
    for goal, what in (
        (LOCKS_KEPT, "whoever holds a mutex keeps it, and its text knows it, until it unlocks it"),
        (GHOSTS_JUSTIFIED, _meant(prover)),
    ):  # fmt: skip
        mine = [a for a in proof.answers if a.goal == goal]
        uses = sorted({u for a in mine for u in a.uses})
        proved = sum(a.result == PROVED for a in mine)
        rests = f", from {', '.join(uses)}" if uses else ""
        yield _wrapped(f"{goal}: {what}: proved at {proved} of {len(mine)} operations{rests}", "      ", "  ")
    possible = proof.transitions - len({*proof.vacuous, *proof.open} - {START})
    yield _wrapped(
        f"possible: {possible} of {proof.transitions} operations can be taken in a state in which all lemmas hold", "      ", "  "
    )  # fmt: skip


def _meant(prover: Prover) -> str:
    if prover.system.argument.worker:
        rises = "queued and flushed become true only where the work is queued for the zone, and where it is neither pending nor"
        rises += " running; and are"
    else:
        rises = (
            "flushed becomes true only where nobody is in a section of the pcplist, its count is 0 and the limits are"
        )
        rises += " closed; and is"
    return f"{rises} false again when the limits or the holder change"


def _conclusions(proof: Proof) -> Iterator[str]:
    yield "From the lemmas alone, at every moment:"
    for a in proof.answers:
        if a.where == "always":
            yield _wrapped(f"{a.goal}: {a.result}, from {', '.join(a.uses) or 'nothing'}", "      ", "  ")
    judged = [
        a
        for a in proof.answers
        if a.goal not in proof.lemmas
        and a.where not in (ALWAYS, START)
        and a.goal not in (LOCKS_KEPT, GHOSTS_JUSTIFIED)
    ]
    for goal in dict.fromkeys(a.goal for a in judged):
        mine = [a for a in judged if a.goal == goal]
        proved = sum(a.result == "proved" for a in mine)
        uses = sorted({u for a in mine for u in a.uses})
        yield _wrapped(f"{goal}: proved at {proved} of {len(mine)} operations, from {', '.join(uses)}", "      ", "  ")


def _not_proved() -> Iterator[str]:
    yield "What the lemmas do not decide, and why (verify.bmc and verify.explore do, within their bounds):"
    for name, why in NOT_PROVED.items():
        yield _wrapped(f"{name}: {why}", "      ", "  ")


def _assumptions(larger: bool) -> Iterator[str]:
    yield "What is assumed, and what backs it:"
    sizes = ", ".join(f"{s.cpus} CPU{'s' if s.cpus > 1 else ''}" for s in SIZES) + " and 3 CPUs"
    for assumption in (a for a in ASSUMPTIONS if larger or not a.larger):
        yield _wrapped(assumption.what, "    ", "  - ")
        yield _wrapped(f"backed by: {assumption.backed.format(sizes=sizes)}", "      ", "    ")
        yield from (f"      {test}" for test in assumption.tests)
