"""What keeps a proof short changes none of its questions: lemmas cut down to one place, and solvers that are shared."""

from __future__ import annotations

import functools

import pytest
import z3

from kernelmodel.kernels import kernel
from properties.catalogue import find
from verify.prove import shared
from verify.prove.cases import Cases
from verify.prove.engine import PROVABLE
from verify.prove.obligations import Prover
from verify.prove.shared import IDLE, NOWHERE
from verify.smt import Without, constants


@functools.cache
def prover() -> Prover:
    return Prover(kernel("v5.11"), [find(name) for name in PROVABLE])


def same(one: z3.BoolRef, other: z3.BoolRef) -> bool:
    solver = z3.Solver()
    solver.add(one != other)
    return bool(solver.check() == z3.unsat)


def places(name: str) -> list[z3.IntNumRef]:
    found = {t.needs[0].arg(1).as_long() for t in prover().transitions if prover()._at(t) and name in str(t.needs[0])}
    return [NOWHERE, *map(z3.IntVal, sorted(found)[:: max(1, len(found) // 4)])]


def cut_wrongly(place: z3.ArithRef) -> list[str]:
    """The lemmas that say something else where they are cut down."""
    p = prover()
    cases = Cases(p.lemmas, place, p.mentions)
    return [
        name
        for value in places(place.decl().name())
        for name, formula in cases.at(value).items()
        if not same(formula, z3.substitute(p.lemmas[name], (place, value)))
    ]


@pytest.mark.parametrize("name", ["holder.at", "section.at"])
def test_a_lemma_cut_down_says_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = prover().system.variables[name]
    assert len(places(name)) > 4
    assert not cut_wrongly(place)
    # the twin: parts that do speak of the place get names as well
    monkeypatch.setattr(Without, "largest", lambda _self, e, _least: list(e.children()))
    assert cut_wrongly(place)


def test_parts_without_a_variable_have_none() -> None:
    p = prover()
    for name, formula in p.lemmas.items():
        walk = Without("holder.at")
        parts = walk.largest(formula, 40)
        assert all("holder.at" not in constants(part) for part in parts)
        if "holder.at" not in p.mentions[name]:
            assert len(parts) <= 1
    assert any(Without("holder.at").largest(f, 40) for f in p.lemmas.values())


def known_otherwise() -> list[str]:
    """The transitions before which a shared solver knows more or less than the lemmas and the transition."""
    p = prover()
    p._shared = shared.Shared([p.system.worker_id > 0], p._others_idle)
    wrong = []
    for t in p.transitions[::16]:
        with p._before(t) as solver:
            said = z3.And(list(solver.assertions()))
        there = list(p.there(t).values())
        meant = z3.And(*there, *(p.predicates.instance(f, t) for f in there), *t.needs, p.system.worker_id > 0)
        if not same(z3.Implies(z3.Not(z3.Bool(IDLE)), said), z3.Implies(z3.Not(z3.Bool(IDLE)), meant)):
            wrong.append(t.label)
    return wrong


def test_a_shared_solver_knows_the_lemmas_and_the_transition(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not known_otherwise()
    assert 1 < len(prover()._shared._solvers) < len(prover().transitions[::16])

    # the twin: a conjunct of each lemma is forgotten
    whole = shared.Shared.parts

    def parts(self: shared.Shared, formula: z3.BoolRef) -> shared.Parts:
        return dict(list(whole(self, formula).items())[:-1])

    monkeypatch.setattr(shared.Shared, "parts", parts)
    assert known_otherwise()


def test_what_is_put_on_top_is_taken_away() -> None:
    p = prover()
    transition = next(t for t in p.transitions if p._at(t))
    with p._before(transition) as solver:
        before = len(solver.assertions())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), p._before(transition) as again:
            assert again is solver and len(again.assertions()) == before
            again.add(z3.BoolVal(False))
            raise KeyboardInterrupt
    assert solver.num_scopes() == 0
    with p._before(transition) as again:
        assert again.check() == z3.sat
