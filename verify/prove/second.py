"""A second opinion: cvc5 checks every obligation again, from the same SMT-LIB text that --smt2 writes."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from typing import Any

from kernelmodel.errors import ModelError
from verify.prove.export import scripts
from verify.prove.obligations import PROVED, UNKNOWN, Proof, Prover
from verify.verdict import Exit


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the second solver says, in words, and the exit code that it calls for."""

    words: str
    code: Exit


def recheck(prover: Prover, proof: Proof, deadline: float | None = None) -> Opinion:
    """Check all obligations with cvc5 and compare with what Z3 found."""
    cvc5 = available()
    began = time.monotonic()
    answers = {(a.where, a.goal): a.result for a in proof.answers}
    confirmed, unknown = 0, 0
    differing: list[str] = []
    for where, goal, script in scripts(prover, proof):
        if deadline is not None and time.monotonic() > deadline:
            return Opinion(f"cvc5: out of time after {confirmed} obligations", Exit.UNDECIDED)
        answer, found = ask(cvc5, script), answers.get((where, goal), UNKNOWN)
        if answer == "unknown" or found == UNKNOWN:
            unknown += 1
        elif (answer == "unsat") != (found == PROVED):
            differing.append(f"{where}: {goal} (cvc5: {answer}, Z3: {found})")
        else:
            confirmed += 1
    spent = f"cvc5 {cvc5.__version__}, {time.monotonic() - began:.1f} s"
    if differing:
        return Opinion(f"{spent}: DISAGREES with Z3 on {len(differing)}, first {differing[0]}", Exit.DISAGREE)
    if unknown:
        return Opinion(
            f"{spent}: agrees on {confirmed} obligations; of {unknown} one of the two cannot tell", Exit.UNDECIDED
        )
    return Opinion(f"{spent}: agrees with Z3 on all {confirmed} obligations", Exit.OK)


def available() -> Any:
    """The module of the second solver; an error that says how to get it."""
    try:
        return importlib.import_module("cvc5")
    except ImportError as error:
        raise ModelError("--second-opinion needs cvc5: pip install 'straypage[cvc5]'") from error


def ask(cvc5: Any, script: str) -> str:
    """cvc5's answer to one script: sat, unsat or unknown."""
    solver = cvc5.Solver()
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "obligation")
    symbols = parser.getSymbolManager()
    while True:
        command = parser.nextCommand()
        if command.isNull():
            return "unknown"
        answer = command.invoke(solver, symbols).strip()
        if answer in ("sat", "unsat", "unknown"):
            return str(answer)
