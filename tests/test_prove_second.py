"""--second-opinion: cvc5 checks every obligation again, and what it says otherwise is a contradiction."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import find
from verify.prove import second
from verify.prove.__main__ import main
from verify.prove.engine import PROVABLE
from verify.prove.export import scripts
from verify.prove.obligations import EACH, FAILED, PROVED, UNKNOWN, Answer, Proof, Prover
from verify.verdict import Exit

VALID = "(set-logic ALL)\n(declare-fun x () Int)\n(assert (> x x))\n(check-sat)\n"
INVALID = "(set-logic ALL)\n(declare-fun x () Int)\n(assert (> x 0))\n(check-sat)\n"
#: beyond any solver
HARD = """(set-logic ALL)
(set-option :rlimit 50)
(declare-fun a () Int) (declare-fun b () Int) (declare-fun c () Int)
(assert (and (> a 0) (> b 0) (> c 0) (= (+ (* a a a) (* b b b) (* c c c)) 114)))
(check-sat)
"""


def opinion(monkeypatch: pytest.MonkeyPatch, said: dict[str, tuple[str, str]]) -> second.Opinion:
    """The second opinion on obligations given by their scripts and what Z3 has found."""
    pytest.importorskip("cvc5")

    def given(*_: object) -> Iterator[tuple[str, str, str]]:
        yield from ((name, "goal", script) for name, (script, _) in said.items())

    monkeypatch.setattr(second, "scripts", given)
    proof = Proof([Answer(name, "goal", result) for name, (_, result) in said.items()])
    return second.recheck(None, proof)  # type: ignore[arg-type]


def test_agreement_on_what_holds_and_on_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opinion(monkeypatch, {"a": (VALID, PROVED), "b": (INVALID, FAILED)})
    assert found.code is Exit.OK and "agrees with Z3 on all 2 obligations" in found.words


@pytest.mark.parametrize(("script", "result"), [(VALID, FAILED), (INVALID, PROVED)])
def test_a_disagreement_is_a_contradiction(monkeypatch: pytest.MonkeyPatch, script: str, result: str) -> None:
    found = opinion(monkeypatch, {"a": (VALID, PROVED), "b": (script, result)})
    assert found.code is Exit.DISAGREE
    assert "DISAGREES with Z3 on 1, first b: goal" in found.words


@pytest.mark.parametrize(("script", "result"), [(HARD, PROVED), (VALID, UNKNOWN)])
def test_what_one_of_them_cannot_tell_is_undecided(monkeypatch: pytest.MonkeyPatch, script: str, result: str) -> None:
    found = opinion(monkeypatch, {"a": (VALID, PROVED), "b": (script, result)})
    assert found.code is Exit.UNDECIDED and "agrees on 1 obligations; of 1" in found.words


def test_cvc5_confirms_real_obligations_and_refutes_them_without_what_they_rest_on() -> None:
    """The scripts say what they must: a few of v5.11, and the twins that lack the lemmas."""
    cvc5 = pytest.importorskip("cvc5")
    prover = Prover(V5_11, [find(name) for name in PROVABLE])
    numbers = [n for n, t in enumerate(prover.transitions) if "flush_work(c" in t.step.op.text or t.part == "section"][
        :4
    ]
    answers = [a for n in numbers for a in prover.step(n, EACH)[0] if a.result == PROVED]
    labels = {a.where for a in answers}
    found = [second.ask(cvc5, script) for *_, script in scripts(prover, Proof(answers), labels)]
    assert len(found) > 10 and set(found) == {"unsat"}
    without = [replace(a, uses=()) for a in answers]
    assert "sat" in {second.ask(cvc5, script) for *_, script in scripts(prover, Proof(without), labels)}


@pytest.mark.deep
def test_the_second_solver_agrees_on_all(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cvc5")
    assert main(["--second-opinion"]) == 0
    assert "agrees with Z3 on all" in capsys.readouterr().out


def test_a_missing_second_solver_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cvc5", None)
    with pytest.raises(SystemExit) as stop:
        main(["--second-opinion"])
    assert stop.value.code == int(Exit.USAGE)
    assert capsys.readouterr().err == (
        "python -m verify.prove: --second-opinion needs cvc5: pip install 'straypage[cvc5]'\n"
    )
