"""--infer: Houdini finds lemmas from which everything follows; what it keeps is inductive, what it drops is not."""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest
import z3

from kernelmodel.kernels import mutant
from kernelmodel.terms import TRUE
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import find
from properties.lemmas import LEMMAS
from properties.vocabulary import Atom, vocabulary
from verify.prove.__main__ import main
from verify.prove.engine import PROVABLE
from verify.prove.infer import Houdini, candidates, implied, infer, proof_from, reached_rows
from verify.prove.obligations import Prover

ATOMS = [Atom("a", TRUE), Atom("b", TRUE), Atom("c", TRUE), Atom("all", TRUE, forall=True)]


def prover_of(chosen: type[KernelText]) -> Prover:
    return Prover(chosen, [find(name) for name in PROVABLE])


@functools.cache
def v5_11() -> Prover:
    return prover_of(V5_11)


def number(name: str) -> int:
    names = [a.name for a in vocabulary(v5_11().system.config, v5_11().system.zone, v5_11().system.cpu)]
    return names.index(name) + 1


def rows(*lines: str) -> np.ndarray:
    return np.array([[x == "1" for x in line] for line in lines])


def test_candidates_are_the_shortest_clauses_that_are_true_in_every_row() -> None:
    # a is always true; b implies c; the last is a "for all" predicate, which is never denied
    found = candidates(ATOMS, rows("1000", "1010", "1111"), 2)
    assert (1,) in found and (-2, 3) in found
    assert not any(1 in c and len(c) > 1 for c in found), "a shorter clause says it already"
    assert not any(-4 in c for c in found)
    assert all(any((line[abs(x) - 1] == "1") == (x > 0) for x in c) for c in found for line in ("1000", "1010", "1111"))


def test_a_clause_that_one_row_refutes_is_no_candidate() -> None:
    assert (-2, 3) not in candidates(ATOMS, rows("1000", "1100", "1111"), 2)


def test_what_was_dropped_is_lengthened_and_what_was_kept_is_not() -> None:
    seen = rows("1000", "1010", "1111")
    found = candidates(ATOMS, seen, 2, dropped=[(1,)])
    assert (1,) not in found and (1, 2) in found
    assert candidates(ATOMS, seen, 2, kept=[(1,)]) == [c for c in candidates(ATOMS, seen, 2) if c != (1,)]


@pytest.mark.deep
def test_houdini_drops_what_is_not_inductive_and_all_that_needs_it() -> None:
    """Interrupts exclude; that the section's owner is known needs it; that nobody ever has them off is false."""
    off, section, owner, one = (number(n) for n in (
        "interrupts on", "section", "interrupts are the section's", "section.one",
    ))  # fmt: skip
    atoms = vocabulary(v5_11().system.config, v5_11().system.zone, v5_11().system.cpu)
    good = [(-section, -off), (section, off), (-section, owner), (one,)]
    wrong = [(off,), (-section,)]
    houdini = Houdini(v5_11(), atoms, [*good, *wrong])
    result = houdini.run()
    assert result.clauses == good
    assert result.dropped_at
    # without the one that says who it is, the others fall as well
    assert Houdini(v5_11(), atoms, [(section, off), (-section, owner)]).run().clauses != [
        (section, off),
        (-section, owner),
    ]
    assert dict(implied(v5_11(), houdini.formula()))["interrupts_off_exclude"]
    assert not dict(implied(v5_11(), houdini.formula()))["pages_conserved"]


def test_out_of_time_is_told() -> None:
    atoms = vocabulary(v5_11().system.config, v5_11().system.zone, v5_11().system.cpu)
    with pytest.raises(TimeoutError, match="1 of 1 candidates"):
        Houdini(v5_11(), atoms, [(number("section.one"),)]).run(time.monotonic() - 1)


@pytest.mark.deep
def test_all_hand_written_lemmas_and_all_properties_follow_from_what_is_inferred() -> None:
    prover = v5_11()
    found = infer(prover, reached_rows(V5_11))
    assert {name for name, follows in implied(prover, found.formula()) if follows} == set(LEMMAS)
    proof = proof_from(prover, found.formula())
    assert all(proof.proves(p.name) for p in prover.properties) and not proof.all_failed
    # and it is inductive, asked in another way than Houdini does: formulas in the place of names
    formula = found.formula()
    for t in prover.transitions:
        solver = z3.Solver()
        pairs = [(prover.system.variables[n], e) for n, e in t.changes.items()]
        solver.add(prover.predicates.instance(formula, t), prover.system.worker_id > 0, *t.needs)
        solver.add(z3.Not(z3.substitute(formula, *pairs)))
        assert solver.check() == z3.unsat, t.label


@pytest.mark.deep
@pytest.mark.parametrize("name", ["no-drain", "no-force-all-cpus", "refill-not-counted", "batch-left-old"])
def test_nothing_is_inferred_that_proves_a_mutant(name: str) -> None:
    prover = prover_of(mutant(name))
    found = infer(prover, reached_rows(mutant(name)))
    proof = proof_from(prover, found.formula())
    assert found.alive and not proof.proves("no_stray_page")


@pytest.mark.deep
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--infer"]) == 0
    said = capsys.readouterr().out
    assert "does not follow" not in said and said.count(" follows") == len(LEMMAS)
    assert "    queued => drain to come or clean\n" in said and "    flushed => clean\n" in said


def test_the_command_out_of_time_is_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--infer", "--timeout", "0.01"]) == 3
    assert "out of time: " in capsys.readouterr().err
