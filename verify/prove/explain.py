"""The proof as a reader's argument: the phases of the offliner, the lemmas and who needs them, and what is assumed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kernelmodel.terms import show
from properties.lemmas import GHOSTS, LEMMAS, cell_of
from verify.prove.facts import Facts, Split
from verify.prove.obligations import Answer, Proof, Prover
from verify.prove.roles import Step
from verify.prove.uniform import SIZES

WIDTH = 118

#: what the proof does not show, and what backs it
ASSUMPTIONS = (
    ("mutex_lock() waits until the mutex is free, mutex_trylock() takes it if it is, and both in one step",
     "the operations' guards and updates; that then at most one task holds a mutex is proved (mutexes_exclude,"
     " locks_kept), and the concrete machine raises an error where a task unlocks what it does not hold"
     " (tests/test_machine.py)"),
    ("with interrupts off on a CPU nothing else runs there: neither a task nor the drain worker",
     "the guard of local_irq_save(); interrupts_off_exclude is proved from it, and the concrete machine runs nothing else"
     " there (tests/test_machine.py)"),
    ("a page is freed by one task, and a page on a list is on one list",
     "the concrete model refuses a double free, and each of its steps is compared with the operation's abstract half"
     " (RefinementError; tests/test_machine.py, tests/test_stateful.py)"),
    ("the buddy allocator is a set of pages: a refill gets any number up to batch, of any pageblock",
     "the buddy's contracts (make contracts) and the same comparison"),
    ("sequential consistency: every operation takes effect at once, in one order for all CPUs",
     "nothing yet: store buffers are not modelled (docs/not-modelled.md)"),
    ("one CPU and one zone, both arbitrary, stand for all: a task that is not followed may take any of its steps at any"
     " time, with any values in its registers",
     "allows more runs, never fewer; that loops over CPUs do the same for the tracked CPU however many others there are is"
     " computed on this kernel's text with {sizes} (verify/prove/uniform.py)"),
    ("a populated zone stays populated, CPUs do not come or go, and a task stays on its CPU while interrupts are off",
     "docs/not-modelled.md; CPU hotplug with pcplists: tests/test_hwpoison_hotplug.py"),
    ("where it starts: no lock held, interrupts on, no work queued, each CPU with the zone's cached limits, high >= 0,"
     " batch >= 1, and count equal to the pages on its lists",
     "the state after setup_zone_pageset() (tests/test_kernels.py); lists and limits are otherwise arbitrary"),
)  # fmt: skip


def explanation(prover: Prover, proof: Proof) -> str:
    """All of it as text."""
    return "\n".join([*_phases(prover), "", *_lemmas(proof), "", *_conclusions(proof), "", *_assumptions()])


def _wrapped(text: str, indent: str, first: str | None = None) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent if first is None else first, subsequent_indent=indent,
        break_on_hyphens=False,
    )  # fmt: skip


# --- the phases of the offliner ---


def _phases(prover: Prover) -> Iterator[str]:
    system = prover.system
    yield "What holds of an online CPU c, phase by phase of offline_pages(), from taking pcp_batch_high_lock on:"
    for lock in system.lock_steps:
        if lock.kind.name != "offline":
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
                yield _wrapped(f"before {step.text}: {words}", "      ", "    ")
                said = words
            queue += [t for _, t in step.edges]
    yield from (f"  ({g.name}: {g.meaning})" for g in GHOSTS)


def _words(prover: Prover, step: Step) -> str:
    """What the text says about the tracked CPU before a step, on the ways on which it is online."""
    system = prover.system
    ways = [(s, f) for s, f in system.facts.get(step.uid, {}).items() if s[-1] is not False]
    return " or ".join(dict.fromkeys(_way(prover, s, f) for s, f in ways))


def _way(prover: Prover, split: Split, facts: Facts) -> str:
    z, c = prover.system.zone, prover.system.cpu
    words = []
    for name in ("pcp.high", "pcp.batch"):
        item = ("cell", cell_of(name, z, c))
        constant = facts.constant(item)
        cached = ("cell", cell_of(name.replace("pcp.", "zone.pageset_"), z, c))
        if constant is not None:
            words.append(f"{name[4:]} {show(constant)}")
        elif item in facts.classes and facts.classes[item] == facts.classes.get(cached):
            words.append(f"{name[4:]} as cached")
        else:
            words.append(f"{name[4:]} as it was")
    words += [g.name for g, value in zip(GHOSTS, split, strict=False) if value]
    by = facts.constant(("cell", cell_of("pcp_disabled_by", z, c)))
    if by is not None and by.op == "reg":
        words.append("pcplists disabled")
    return ", ".join(words)


# --- the lemmas ---


def _lemmas(proof: Proof) -> Iterator[str]:
    yield "The lemmas, each preserved by every operation of every routine:"
    for lemma in LEMMAS.values():
        yield _wrapped(f"{lemma.name}: {lemma.says}", "      ", "  ")
        yield f"      formalises {lemma.source}"
        uses = sorted({u for a in proof.answers if a.goal == lemma.name for u in a.uses} - {lemma.name})
        yield _wrapped(f"rests on {', '.join(uses) or 'nothing but itself'}", "      ")
        needing = [a for a in proof.answers if lemma.name in a.needs and a.goal != lemma.name]
        if needing:
            yield _wrapped(
                f"needed, for {len(needing)} obligations fail without it, such as {_example(needing)}", "      "
            )
        else:
            yield "      redundant: every obligation but its own can be proved without it"


def _example(needing: list[Answer]) -> str:
    # the offliner's own steps tell a reader most
    best = min(needing, key=lambda a: ("offline:" not in a.where, a.where != "always"))
    where = "directly from the lemmas" if best.where == "always" else f"at {best.where}"
    return f"{best.goal} {where}"


def _conclusions(proof: Proof) -> Iterator[str]:
    yield "From the lemmas alone, at every moment:"
    for a in proof.answers:
        if a.where == "always":
            yield _wrapped(f"{a.goal}: {a.result}, from {', '.join(a.uses) or 'nothing'}", "      ", "  ")
    judged = [a for a in proof.answers if a.goal not in LEMMAS and a.where != "always" and a.goal != "locks_kept"]
    for goal in dict.fromkeys(a.goal for a in judged):
        mine = [a for a in judged if a.goal == goal]
        proved = sum(a.result == "proved" for a in mine)
        uses = sorted({u for a in mine for u in a.uses})
        yield _wrapped(f"{goal}: proved at {proved} of {len(mine)} operations, from {', '.join(uses)}", "      ", "  ")


def _assumptions() -> Iterator[str]:
    yield "What is assumed, and what backs it:"
    sizes = ", ".join(f"{s.cpus} CPU{'s' if s.cpus > 1 else ''}" for s in SIZES) + " and 3 CPUs"
    for what, backed in ASSUMPTIONS:
        yield _wrapped(what, "    ", "  - ")
        yield _wrapped(f"backed by: {backed.format(sizes=sizes)}", "      ", "    ")
