"""Obligations as SMT-LIB files: each holds the lemmas that it rests on, the transition, and the goal denied: unsat."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import z3

from verify.prove.obligations import ALWAYS, PROVED, START, Proof, Prover
from verify.prove.system import disj
from verify.smt import Expr


def scripts(prover: Prover, proof: Proof, only: Collection[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(where, goal, script) of every obligation that is not discharged because the transition leaves the lemma alone.

    ``only``: just those of some transitions, by label, of START and of ALWAYS.
    """
    axioms = [prover.system.worker_id > 0]
    uses = {(a.where, a.goal): a.uses for a in proof.answers if a.result == PROVED}

    def lemmas(where: str, goal: str) -> list[tuple[str, Expr]]:
        """All of them where the obligation is not proved."""
        return [(n, prover.lemmas[n]) for n in uses.get((where, goal), tuple(prover.lemmas))]

    for transition in (t for t in prover.transitions if only is None or t.label in only):
        for name, goal in prover.goals(transition):
            known = [prover.predicates.instance(f, transition) for _, f in lemmas(transition.label, name)]
            yield transition.label, name, _script([*known, *axioms, *transition.needs], goal)
    term = prover.system.argument.initially(prover.system.config, prover.system.zone, prover.system.cpu)
    for name, formula in prover.lemmas.items() if only is None or START in only else ():
        yield START, name, _script([prover.predicates.formula(term), *axioms], formula)
    for prop in prover.properties:
        violations = prover.state_violations(prop)
        if violations and (only is None or ALWAYS in only):
            known = [f for _, f in lemmas(ALWAYS, prop.name)]
            yield ALWAYS, prop.name, _script([*known, *axioms], z3.Not(disj(violations)))


def _script(known: Sequence[Expr], goal: Expr) -> str:
    solver = z3.Solver()
    solver.add(*known, z3.Not(goal))
    text = solver.to_smt2()
    return "(set-logic ALL)\n" + "\n".join(t for t in text.splitlines() if not t.startswith((";", "(set-info")))


def write_all(prover: Prover, proof: Proof, directory: Path) -> int:
    """Write one file for each obligation; returns how many."""
    directory.mkdir(parents=True, exist_ok=True)
    number = 0
    for where, goal, script in scripts(prover, proof):
        number += 1
        name = re.sub(r"[^\w]+", "-", where)[:80].strip("-")
        head = f"; {where}\n; goal: {goal}; expected: unsat\n"
        (directory / f"{number:04}-{goal}-{name}.smt2").write_text(head + script + "\n")
    return number
