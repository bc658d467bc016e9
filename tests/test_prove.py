"""verify.prove: every obligation by name, every mutant refused, and the lemmas true of what really happens."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import z3

from kernelmodel.cells import CELLS, value
from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel, mutant
from kernelmodel.ops import Routine, happens, mark, read, write
from kernelmodel.terms import TRUE, Cell, lnot, reg
from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from properties.lemmas import CLOSED, GHOSTS, LEMMAS, PROTECTED_BY, Ghost, cell_of
from verify.prove.describe import failure
from verify.prove.engine import PROVABLE, prove, weakened
from verify.prove.explain import explanation
from verify.prove.export import write_all
from verify.prove.obligations import (
    ALWAYS,
    EACH,
    FAILED,
    GHOSTS_JUSTIFIED,
    PROVED,
    START,
    TOGETHER,
    UNTOUCHED,
    WITHOUT,
    Answer,
    Proof,
    Prover,
)
from verify.prove.parts import Parts
from verify.prove.population import Size, texts
from verify.prove.roles import ProjectionError, registers
from verify.prove.scope import ASSUMPTIONS
from verify.prove.system import conj
from verify.prove.uniform import differing, shapes
from verify.smt import constants

REAL = [m for m in MUTANTS.values() if m.breaks != EQUIVALENT]
CONTROLS = [m for m in MUTANTS.values() if m.breaks == EQUIVALENT]


def prover_of(chosen: type[KernelText]) -> Prover:
    return Prover(chosen, [find(name) for name in PROVABLE])


@functools.cache
def v5_11() -> Prover:
    return prover_of(V5_11)


@functools.cache
def step(number: int) -> tuple[list[Answer], bool | None]:
    """The answers for one transition of v5.11, with what fails without each lemma, and whether it can be taken."""
    return v5_11().step(number, WITHOUT)


def answers(number: int) -> dict[str, Answer]:
    """The answers for one transition of v5.11, by lemma."""
    found, taken = step(number)
    assert taken, f"{v5_11().transitions[number].label} is never possible when the lemmas hold"
    return {a.goal: a for a in found}


@functools.cache
def thorough() -> Proof:
    """The proof of v5.11, put together from its transitions."""
    steps = [step(n) for n in range(len(v5_11().transitions))]
    found = [*v5_11().start(), *v5_11().conclusions(WITHOUT), *(a for answers, _ in steps for a in answers)]
    return Proof(found, transitions=len(steps))


@functools.cache
def proof_of(name: str, depth: int = TOGETHER) -> Proof:
    """The proof of a mutant, in one go: goals are taken one by one only at operations where some fail."""
    return prove(prover_of(mutant(name)), depth)


#: a mutant of each kind of failure: a lemma of the drain, of the lock, of the count, and of the limits
QUICK = ("no-force-all-cpus", "no-mutex", "refill-not-counted")


def quick(names: Iterable[str], among: Collection[str] = QUICK) -> list[Any]:
    """Parameters of which all but some are left to `make deep`."""
    return [n if n in among else pytest.param(n, marks=pytest.mark.deep) for n in names]


@pytest.mark.parametrize("number", [pytest.param(n, id=t.label) for n, t in enumerate(v5_11().transitions)])
def test_every_lemma_is_preserved(number: int) -> None:
    found = answers(number)
    assert found.keys() >= LEMMAS.keys()
    assert {goal: a.result for goal, a in found.items() if a.result not in (PROVED, UNTOUCHED)} == {}


def test_every_lemma_holds_at_the_start_and_the_properties_follow() -> None:
    found = [*v5_11().start(), *v5_11().conclusions(EACH)]
    assert v5_11().starts()
    assert {a.result for a in found} == {PROVED}
    assert {a.goal for a in found} == {
        *LEMMAS, "no_stray_page", "no_isolated_page_left", "limits_restored", "pages_conserved",
    }  # fmt: skip


def test_limits_exclusive_is_judged_wherever_limits_are_written() -> None:
    numbers = [
        n for n, t in enumerate(v5_11().transitions)
        if any(c.name in CLOSED and c.index == (0, v5_11().system.cpu) for c, _ in t.step.op.updates)
    ]  # fmt: skip
    assert numbers
    assert all(answers(n)["limits_exclusive"].result == PROVED for n in numbers)


# --- twins: each check fails where it must ---


@pytest.mark.parametrize("name", quick((m.name for m in REAL if m.breaks in PROVABLE), ("no-mutex",)))
def test_no_mutant_is_proved_of_what_it_breaks(name: str) -> None:
    proof = proof_of(name)
    assert not proof.proves(MUTANTS[name].breaks)
    assert proof.all_failed


@pytest.mark.deep
@pytest.mark.parametrize("name", [m.name for m in REAL if m.breaks in PROVABLE])
def test_dropping_the_lemmas_that_fail_does_not_prove_a_mutant(name: str) -> None:
    prover = prover_of(mutant(name))
    left = weakened(prover, prove(prover, EACH))
    assert left.dropped and not left.proves(MUTANTS[name].breaks)


#: controls that break nothing, and what the lemmas cannot prove of them all the same
NOT_PROVED_OF = {
    # that the range may be enabled is known from test_pages_isolated(), whose pages no lemma follows
    "enable-before-offline-isolated": {"no_isolated_page_left"},
}


@pytest.mark.parametrize("name", quick((m.name for m in CONTROLS), ()))
def test_controls_are_proved(name: str) -> None:
    prover = prover_of(mutant(name))
    proof = prove(prover, EACH)
    assert not proof.vacuous and not proof.differs
    lost = NOT_PROVED_OF.get(name, set())
    left = weakened(prover, proof)
    assert {p for p in PROVABLE if not left.proves(p)} == lost
    # the other lemmas do not rest on the one that fails
    assert left.dropped == (["isolated_while_disabled"] if lost else [])


GUILTY = {
    "no-force-all-cpus": ("zone_pcp_disable() has returned", "disabled_means_drained"),
    "drain-before-high": ("queue_work_on(c, drain_local_pages_wq)", "limits_closed_first"),
    "batch-left-old": ("queue_work_on(c, drain_local_pages_wq)", "limits_closed_first"),
    "no-mutex": ("pcp[c]->high", "limits_exclusive"),
    "high-read-irqs-on": ("local_irq_save(flags)", "drained_stays_empty"),
    "no-drain": ("zone_pcp_disable() has returned", "disabled_means_drained"),
    "no-flush": ("zone_pcp_disable() has returned", "disabled_means_drained"),
    "refill-not-counted": ("rmqueue_pcplist(): local_irq_save(flags)", "pages_conserved"),
    "enable-without-restore": ("mutex_unlock(&pcp_batch_high_lock)", "limits_restored"),
}


@pytest.mark.parametrize("name", quick(GUILTY, ("no-force-all-cpus",)))
def test_a_failed_proof_names_the_operation(name: str) -> None:
    text, goal = GUILTY[name]
    assert any(text in a.where for a in proof_of(name).failed(goal))


@pytest.mark.parametrize("lemma", LEMMAS)
def test_a_lemma_that_is_false_is_noticed(lemma: str) -> None:
    """The twin of each obligation: deny a lemma at the start."""
    prover = v5_11()
    solver = z3.Solver()
    solver.add(prover.lemmas[lemma])
    assert solver.check() == z3.sat
    solver.add(z3.Not(prover.lemmas[lemma]))
    assert solver.check() == z3.unsat
    deny = z3.Solver()
    deny.add(z3.Not(prover.lemmas[lemma]))
    assert deny.check() == z3.sat, "a lemma that is always true says nothing"


def test_dropping_a_needed_lemma_breaks_an_obligation() -> None:
    proof = thorough()
    needed = {n for a in proof.answers for n in a.needs if n != a.goal}
    assert {"mutexes_exclude", "interrupts_off_exclude", "stale_readers_are_drained", "drained_stays_empty"} <= needed
    # consequences of others, kept because they are what a reader understands and a failed proof names
    assert set(LEMMAS) - needed == {"disabled_means_drained", "limits_closed_first"}


@pytest.mark.deep
def test_transitions_that_cannot_happen_are_told() -> None:
    assert any("mutex_lock" in label for label in proof_of("update-inside-window").vacuous)


# --- the projection ---


@pytest.mark.parametrize("name", ["v5.10", "base", "v5.11"])
def test_the_text_does_the_same_for_the_tracked_cpu_whatever_the_number_of_cpus(name: str) -> None:
    chosen = kernel(name)
    parts = Parts(chosen)
    assert len(shapes(parts)) > 10
    assert differing(chosen, parts) == ""


class FirstCpuOnly(V5_11):
    """Only the first CPU has its limits set: CPUs are not alike."""

    def set_pageset_high_and_batch(self, zone, high, batch):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: __zone_set_pageset_high_and_batch()."""
        for cpu in self.for_each_cpu():
            if cpu != 0:
                yield from self.pageset_update(zone, cpu, high, batch)


class StopsAtIdleCpu(V5_11):
    """The drain stops at the first CPU that reads as empty: a round for one CPU decides about the next."""

    def _drain_all_pages(self, zone, force_all_cpus):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """mm/page_alloc.c: __drain_all_pages()."""
        yield from self.mutex_lock("pcpu_drain_mutex")
        for cpu in self.for_each_cpu():
            yield read("cpu_online", cpu)
            count = yield read("pcp.count", 0 if zone is None else zone.index, cpu)
            if count == 0:
                break
            yield from self.queue_work_on(cpu)
            yield from self.flush_work(cpu)
        yield from self.mutex_unlock("pcpu_drain_mutex")


@pytest.mark.parametrize("chosen", [FirstCpuOnly, StopsAtIdleCpu])
def test_a_text_that_treats_cpus_differently_is_not_proved(chosen: type[KernelText]) -> None:
    assert differing(chosen, Parts(chosen)) != ""


class TryLock(V5_11):
    """zone_pcp_update() gives up where the lock is taken."""

    def zone_pcp_update(self, zone):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: zone_pcp_update()."""
        if (yield from self.mutex_trylock("pcp_batch_high_lock")):
            yield from self.zone_set_pageset_high_and_batch(zone)
            yield from self.mutex_unlock("pcp_batch_high_lock")


def test_what_cannot_be_followed_is_said() -> None:
    with pytest.raises(ProjectionError, match="pcp_batch_high_lock"):
        prover_of(TryLock)


class Sneaky(V5_11):
    """A free raises high on its way out, under no lock."""

    def free_unref_page(self, page):  # type: ignore[no-untyped-def]
        """mm/page_alloc.c: free_unref_page()."""
        yield from super().free_unref_page(page)
        yield mark("sneaky", "write", [(Cell("pcp.high", (page.zone.index, c)), reg("high")) for c in self.config.cpus])


@pytest.mark.deep
def test_a_write_outside_the_lock_is_a_transition_of_anybody() -> None:
    proof = prove(prover_of(type("S", (Sneaky,), {"name": "s", "free_unref_page": _raises_high})))
    assert any("sneaky" in a.where for a in proof.failed("limits_closed_first"))
    assert not proof.proves("no_stray_page")


def _raises_high(self, page):  # type: ignore[no-untyped-def]
    """mm/page_alloc.c: free_unref_page()."""
    yield from V5_11.free_unref_page(self, page)
    yield mark("sneaky", "write", [(Cell("pcp.high", (page.zone.index, c)), TRUE * 0 + 7) for c in self.config.cpus])


def test_lemmas_speak_of_known_cells() -> None:
    assert all(cell_of(name, 0, 1).name in CELLS for name in PROTECTED_BY)


@pytest.mark.parametrize("name", ["mutex", "held"])
def test_a_lemma_about_a_cell_that_nobody_follows_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="which the proof does not follow"):
        v5_11().predicates.atom(f"text:{name}")
    assert v5_11().predicates.atom("text:pcp.high") is not None


def test_ghosts_are_read_by_nobody_and_hold_nobody_up() -> None:
    """No guard, choice, returned value or written cell of an operation depends on a ghost."""
    ghosts = {f"holder.{g.name}" for g in GHOSTS}
    for t in v5_11().transitions:
        op = t.step.op
        terms = [
            op.guard,
            op.where,
            *op.returns,
            *(u for _, u in op.updates),
            *(c for cs, _ in t.step.edges for c in cs),
        ]
        assert not ghosts & set(registers(terms))
        read = {n for e in (*t.needs, *(e for n, e in t.changes.items() if n not in ghosts)) for n in constants(e)}
        assert not ghosts & read, t.label
    # the twin: what the ghosts become does read them, and this way of looking sees it
    assert any(ghosts & constants(e) for t in v5_11().transitions for n, e in t.changes.items() if n in ghosts)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("queued", {"rises": GHOSTS[1].rises}),
        ("flushed", {"rises": lambda _, c: lnot(value("cpu_online", c))}),
        ("queued", {"falls": ("pcp.count",)}),
        ("flushed", {"falls": ("work.pending",)}),
    ],
)
def test_a_ghost_that_does_not_mean_what_it_says_is_refused(name: str, changes: dict[str, Any]) -> None:
    ghost = next(g for g in GHOSTS if g.name == name)
    assert FAILED not in justifications(ghost)
    assert FAILED in justifications(replace(ghost, **changes))


def justifications(ghost: Ghost) -> set[str]:
    """What comes of the obligations that a ghost means what it says, at all operations."""
    prover = v5_11()
    found = set()
    for t in prover.transitions:
        if parts := list(prover.justified(ghost, t)):
            found.add(prover.answer(prover.solver(t), t.label, GHOSTS_JUSTIFIED, conj(parts), EACH).result)
    return found


def test_what_assumptions_name_exists() -> None:
    root = Path(__file__).parent.parent
    named = {test for a in ASSUMPTIONS for test in a.tests}
    assert len(named) > 10
    assert {test for test in named if not _exists(root, test)} == set()
    assert not _exists(root, "tests/test_machine.py::test_that_nobody_has_written")


def _exists(root: Path, test: str) -> bool:
    file, _, name = test.partition("::")
    return f"def {name}(" in (root / file).read_text()


@pytest.mark.parametrize(
    ("where", "goal", "said"),
    [
        (START, "limits_closed_first", "not so where everything begins"),
        (ALWAYS, "no_stray_page", "the lemmas do not imply no_stray_page"),
    ],
)
def test_a_failed_obligation_at_no_operation_is_told(where: str, goal: str, said: str) -> None:
    lines = failure(v5_11(), Answer(where, goal, FAILED)).splitlines()
    assert lines[0] == said
    assert lines[-1].startswith("the solver gave no state"), "it does hold here"


# --- the argument ---


def test_explain_says_what_it_rests_on() -> None:
    said = explanation(v5_11(), thorough())
    assert all(f"  {name}: " in said for name in LEMMAS)
    for words in (
        "phase by phase",
        "high 0 and batch 1; its drain is queued and flushed; the pcplists are disabled",
        "backed by",
        "redundant",
    ):
        assert words in said


def test_explain_rests_an_obligation_on_no_lemma_that_it_does_without() -> None:
    prover, spared = v5_11(), 0
    by_label = {t.label: t for t in prover.transitions}
    told = [a for a in thorough().answers if a.result == PROVED and a.where in by_label and len(a.uses) > 1]
    assert len(told) > 20
    for answer in told[::10]:
        solver = prover.solver(by_label[answer.where])
        solver.add(z3.Not(dict(prover.goals(by_label[answer.where]))[answer.goal]))
        assert prover.check(solver, *(prover.use[n] for n in answer.uses)) == z3.unsat
        for name in answer.uses:
            assert prover.check(solver, *(prover.use[n] for n in answer.uses if n != name)) != z3.unsat
        # its twin: what the solver says at once it has looked at is more, here or there
        (quick_one,) = [a for a in prover.again(answer.where, [answer.goal]) if a.goal == answer.goal]
        spared += len(quick_one.uses) > len(answer.uses)
    assert spared


@pytest.mark.deep
def test_smt2_files_are_unsat(tmp_path: Path) -> None:
    number = write_all(v5_11(), thorough(), tmp_path)
    files = sorted(tmp_path.glob("*.smt2"))
    assert len(files) == number > len(LEMMAS) * 10
    for file in files[:: len(files) // 10]:
        solver = z3.Solver()
        solver.from_file(str(file))
        assert solver.check() == z3.unsat, file.name


def test_provable_properties_are_in_the_catalogue() -> None:
    assert set(PROVABLE) <= set(PROPERTIES)


class Long(V5_11):
    """A sysctl handler with so many harmless steps at its start that its numbers, were they 1000 a kind, meet the next."""

    def harmless(self) -> Routine:
        yield happens("a")
        yield happens("b")
        yield happens("c")
        yield happens("d")
        yield happens("e")
        yield happens("f")
        yield happens("g")
        yield happens("h")
        yield happens("i")
        yield happens("j")
        yield happens("k")
        yield happens("l")

    def percpu_pagelist_fraction_sysctl_handler(self, fraction: int) -> Routine:
        for _ in range(84):
            yield from self.harmless()
        yield from self.then(fraction)

    def then(self, fraction: int) -> Routine:
        yield from super().percpu_pagelist_fraction_sysctl_handler(fraction)


class LongWithoutLock(Long):
    """The limits of every CPU are then written without the mutex."""

    def then(self, fraction: int) -> Routine:  # noqa: ARG002
        for cpu in self.for_each_cpu():
            yield write(5, "pcp.high", 0, cpu)


@pytest.mark.parametrize(
    ("chosen", "proved"),
    [pytest.param(c, p, marks=pytest.mark.deep) for c, p in ((Long, True), (LongWithoutLock, False))],
)
def test_a_routine_of_more_than_a_thousand_steps(chosen: type[KernelText], proved: bool) -> None:
    sizes = [len(t.graph.nodes) for t in texts(chosen, Size()) if t.kind.name == "sysctl"]
    assert sizes and min(sizes) > 1000
    assert prove(prover_of(chosen)).proves("limits_restored") is proved
