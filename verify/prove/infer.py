"""Finding lemmas: clauses over a vocabulary, thinned out by what small machines reach, then by Houdini.

A candidate is a disjunction of a few literals; a literal is an *atom*, one of the predicates that the hand-written lemmas
are made of, or its negation.  Which disjunctions are lemmas is not given.  Candidates that some reached state refutes, or
that follow from a shorter one, are left out; of the others Houdini keeps the largest inductive set: it drops what some
operation does not preserve, given all that are left, until nothing has to go.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import z3

from kernelmodel.text import KernelText
from properties.lemmas import LEMMAS, initially
from properties.vocabulary import Atom, vocabulary
from verify.explore.finite import Finite
from verify.prove.obligations import ALWAYS, FAILED, PROVED, UNKNOWN, Answer, Proof, Prover
from verify.prove.population import ZONE
from verify.prove.reached import Reached
from verify.prove.system import Transition, conj, disj
from verify.prove.uniform import differing
from verify.scenario import Scenario
from verify.smt import Expr, constants

#: a literal: the atom's number from 1, negative if it is denied
Clause = tuple[int, ...]
#: at most so many literals
LONGEST = 3


# --- candidates ---


def candidates(
    atoms: Sequence[Atom], seen: npt.NDArray[np.bool_], longest: int = LONGEST,
    kept: Iterable[Clause] = (), dropped: Iterable[Clause] = (),
) -> list[Clause]:  # fmt: skip
    """The clauses that are true in all rows of ``seen`` (a column for each atom) and that no shorter one implies.

    Of clauses that were tried before, those ``kept`` imply what they are part of; what was ``dropped`` is lengthened.
    """
    packed = {}
    for i, atom in enumerate(atoms, 1):
        packed[i] = np.packbits(~seen[:, i - 1])
        if not atom.forall:
            packed[-i] = np.packbits(seen[:, i - 1])
    found: list[Clause] = []
    # clauses that are to be lengthened, with the rows in which they are false
    open_: list[tuple[Clause, npt.NDArray[np.uint8]]] = [((), np.packbits(np.ones(len(seen), dtype=bool)))]
    literals = sorted(packed, key=lambda x: (abs(x), x))
    known = {frozenset(c) for c in kept}
    failed = {frozenset(c) for c in dropped}
    for _ in range(longest):
        longer = []
        for clause, false in open_:
            last = abs(clause[-1]) if clause else 0
            for x in literals:
                new = (*clause, x)
                if abs(x) <= last or any(s in known for s in _parts(new)):
                    continue
                still = false & packed[x]
                if frozenset(new) in failed or still.any():
                    longer.append((new, still))
                else:
                    known.add(frozenset(new))
                    found.append(new)
        open_ = longer
    return found


def _parts(clause: Clause) -> Iterator[frozenset[int]]:
    for n in range(1, len(clause) + 1):
        yield from map(frozenset, itertools.combinations(clause, n))


def valuations(found: Reached, atoms: Sequence[Atom]) -> npt.NDArray[np.bool_]:
    """The truth values of atoms in the states that are reached, each combination once."""
    rows = list(found.seen)
    table = np.ones((len(rows), len(atoms)), dtype=bool)
    for j, atom in enumerate(atoms):
        formula = found.predicates.formula(atom.term)
        if found.counterexample(formula) is not None:
            table[:, j] = list(found.truths(formula, rows))
    return np.unique(table, axis=0)


# --- Houdini ---


@dataclass(slots=True)
class Inferred:
    """What Houdini kept of the candidates, and how it went."""

    atoms: Sequence[Atom]
    clauses: list[Clause]
    candidates: int
    rounds: int = 0
    checks: int = 0
    seconds: float = 0.0
    dropped_at: dict[str, int] = field(default_factory=dict)

    def words(self, clause: Clause) -> str:
        """A clause as a rule: what is denied implies what is asserted."""
        names = {x: self.atoms[abs(x) - 1].name for x in clause}
        given = " and ".join(names[x] for x in clause if x < 0)
        then = " or ".join(names[x] for x in clause if x > 0) or "never"
        return f"{given} => {then}" if given else then


class Houdini:
    """The largest inductive subset of some clauses."""

    def __init__(self, prover: Prover, atoms: Sequence[Atom], clauses: Iterable[Clause]) -> None:
        self.prover, self.atoms = prover, atoms
        self.formulas = [prover.predicates.formula(a.term) for a in atoms]
        self.mentions = [constants(f) for f in self.formulas]
        self.alive = list(clauses)
        self.result = Inferred(atoms, [], len(self.alive))

    def run(self, deadline: float | None = None) -> Inferred:
        """Drop clauses until those that are left are inductive; TimeoutError if time is up before."""
        began = time.monotonic()
        self._drop("the start", *self._start())
        solvers = [self._solver(t) for t in self.prover.transitions]
        changed = True
        while changed:
            changed = False
            self.result.rounds += 1
            for transition, solver in zip(self.prover.transitions, solvers, strict=True):
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"{len(self.alive)} of {self.result.candidates} candidates are left")
                changed |= self._drop(transition.label, solver, self._touched(transition))
        self.result.clauses = self.alive
        self.result.seconds = time.monotonic() - began
        return self.result

    def _start(self) -> tuple[z3.Solver, set[int]]:
        system = self.prover.system
        solver = z3.SimpleSolver()
        solver.add(self.prover.predicates.formula(initially(system.config, system.zone, system.cpu)))
        solver.add(system.worker_id > 0)
        solver.add(*(self._after(i) == f for i, f in enumerate(self.formulas, 1)))
        return solver, set(range(1, len(self.atoms) + 1))

    def _solver(self, transition: Transition) -> z3.Solver:
        solver = z3.SimpleSolver()
        solver.add(self.prover.system.worker_id > 0, *transition.needs)
        pairs = [(self.prover.system.variables[n], e) for n, e in transition.changes.items()]
        touched = self._touched(transition)
        for i, f in enumerate(self.formulas, 1):
            solver.add(self._before(i) == self.prover.predicates.instance(f, transition))
            if i in touched:
                solver.add(self._after(i) == z3.substitute(f, *pairs))
        return solver

    def _touched(self, transition: Transition) -> set[int]:
        return {i for i, m in enumerate(self.mentions, 1) if m & transition.changes.keys()}

    @staticmethod
    def _before(i: int) -> Expr:
        return z3.Bool(f"p{i}")

    @staticmethod
    def _after(i: int) -> Expr:
        return z3.Bool(f"q{i}")

    def _drop(self, where: str, solver: z3.Solver, touched: set[int]) -> bool:
        """Drop what fails at one operation; whether anything did."""
        goals = [c for c in self.alive if any(abs(x) in touched for x in c)]
        dropped = False
        while goals:
            solver.push()
            if where != "the start":
                solver.add(*(self._clause(c, set()) for c in self.alive))
            solver.add(disj([z3.Not(self._clause(c, touched)) for c in goals]))
            answer = self.prover.check(solver)
            self.result.checks += 1
            model = solver.model() if answer == z3.sat else None
            solver.pop()
            if answer == z3.unsat:
                break
            # what the solver cannot tell is not kept
            bad = set(goals) if model is None else {c for c in goals if not self._holds(c, touched, model)}
            self.result.dropped_at[where] = self.result.dropped_at.get(where, 0) + len(bad)
            self.alive = [c for c in self.alive if c not in bad]
            goals = [c for c in goals if c not in bad]
            dropped = True
        return dropped

    def _clause(self, clause: Clause, after: set[int]) -> Expr:
        return disj([self._literal(x, after) for x in clause])

    def _literal(self, x: int, after: set[int]) -> Expr:
        atom = self._after(abs(x)) if abs(x) in after else self._before(abs(x))
        return atom if x > 0 else z3.Not(atom)

    def _holds(self, clause: Clause, after: set[int], model: z3.ModelRef) -> bool:
        return any(z3.is_true(model.eval(self._literal(x, after), model_completion=True)) for x in clause)

    def formula(self) -> Expr:
        """The conjunction of the clauses that are left, over the state."""
        return conj([
            disj([self.formulas[x - 1] if x > 0 else z3.Not(self.formulas[-x - 1]) for x in c]) for c in self.alive
        ])  # fmt: skip


# --- all of it ---

#: (CPUs, frees, allocs, updates, pages): the machines whose reachable states thin the candidates out
MACHINES = ((1, 1, 1, 0, 2), (2, 1, 0, 1, 1))


def reached_rows(kernel: type[KernelText], deadline: float | None = None) -> npt.NDArray[np.bool_]:
    """The truth values of the vocabulary in all states that the MACHINES reach; TimeoutError if time is up before."""
    found = []
    for cpus, frees, allocs, updates, pages in MACHINES:
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError("the states that small machines reach are not all known yet")
        scenario = Scenario(cpus=cpus, frees=frees, allocs=allocs, updates=updates, offlines=1, spread=True)
        reached = Reached(kernel, Finite(scenario, pages=pages))
        found.append(valuations(reached, vocabulary(scenario.config, ZONE, reached.cpu)))
    return np.unique(np.concatenate(found), axis=0)


def infer(
    prover: Prover, seen: npt.NDArray[np.bool_], say: Callable[[str], None] = lambda _: None,
    deadline: float | None = None,
) -> Houdini:  # fmt: skip
    """The largest inductive set of short clauses; TimeoutError if time is up before.

    First those of two literals alone.  Then again with what was dropped of them lengthened to two literals, and with
    those of LONGEST literals where no shorter clause is true in all that is reached: lengthening all that was dropped to
    LONGEST gives thousands.  What was dropped is tried again, for it may be inductive together with the longer ones.
    """
    system = prover.system
    atoms = vocabulary(system.config, system.zone, system.cpu)
    short = candidates(atoms, seen, 2)
    found = Houdini(prover, atoms, short)
    _tell(found.run(deadline), say, "2 literals")
    more = candidates(atoms, seen, 2, found.alive, set(short) - set(found.alive))
    more += [c for c in candidates(atoms, seen) if len(c) == LONGEST]
    found = Houdini(prover, atoms, [*short, *more])
    _tell(found.run(deadline), say, f"and what was dropped lengthened, and {LONGEST} literals")
    return found


def _tell(result: Inferred, say: Callable[[str], None], what: str) -> None:
    say(
        f"{what}: {result.candidates} candidates, {len(result.clauses)} inductive; {result.rounds} rounds,"
        f" {result.checks} checks, {result.seconds:.1f} s"
    )


def implied(prover: Prover, formula: Expr) -> Iterator[tuple[str, bool]]:
    """For each hand-written lemma whether it follows from what was inferred."""
    for name, lemma in prover.lemmas.items():
        solver = z3.Solver()
        solver.add(formula, prover.system.worker_id > 0, z3.Not(lemma))
        yield name, bool(prover.check(solver) == z3.unsat)


def proof_from(prover: Prover, formula: Expr) -> Proof:
    """What follows from inferred lemmas alone: properties, and that mutexes are kept and ghosts justified."""
    found = Proof(transitions=len(prover.transitions))

    def ask(where: str, goal: str, *parts: Expr) -> None:
        solver = z3.SimpleSolver()
        solver.add(*parts, prover.system.worker_id > 0)
        answer = prover.check(solver)
        word = PROVED if answer == z3.unsat else FAILED if answer == z3.sat else UNKNOWN
        found.answers.append(Answer(where, goal, word))

    for transition in prover.transitions:
        goals = [(n, g) for n, g in prover.goals(transition) if n not in LEMMAS]
        before = prover.predicates.instance(formula, transition) if goals else formula
        for name, goal in goals:
            ask(transition.label, name, before, *transition.needs, z3.Not(goal))
    for prop in prover.properties:
        if violations := prover.state_violations(prop):
            ask(ALWAYS, prop.name, formula, disj(violations))
    found.differs = differing(prover.kernel, prover.system)
    return found
