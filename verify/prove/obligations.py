"""The proof obligations: each lemma at the start, each lemma at each transition, and each property from the lemmas."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import z3

from kernelmodel.cells import CELLS, cpu_position
from kernelmodel.config import Config
from kernelmodel.terms import Cell, Term, atoms, load, substitute_cells
from kernelmodel.text import KernelText
from properties.lemmas import LEMMAS, initially
from properties.property import Check, Property
from verify.prove.population import Size
from verify.prove.predicates import Predicates
from verify.prove.system import System, Transition, disj
from verify.smt import Expr

#: how much is asked: all goals of a transition at once; each, with the lemmas it rests on; and what fails without each
TOGETHER, EACH, WITHOUT = range(3)
PROVED, FAILED, UNKNOWN, UNTOUCHED = "proved", "failed", "unknown", "untouched"
#: the obligation beside the lemmas: mutexes exclude for tasks that play no part, too
LOCKS_KEPT = "locks_kept"
START, ALWAYS = "the start", "always"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one obligation: ``uses`` are the lemmas that it rests on, ``needs`` those it fails without."""

    where: str
    goal: str
    result: str
    uses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(slots=True)
class Proof:
    """All answers for one kernel.

    ``vacuous`` are transitions that no state of the lemmas allows; ``differs`` says why the projection is not sound.
    """

    answers: list[Answer] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    differs: str = ""
    transitions: int = 0
    seconds: float = 0.0

    @property
    def all_failed(self) -> list[Answer]:
        """The obligations that were not proved."""
        return [a for a in self.answers if a.result in (FAILED, UNKNOWN)]

    def failed(self, goal: str) -> list[Answer]:
        """The obligations of a goal that were not proved."""
        return [a for a in self.answers if a.goal == goal and a.result in (FAILED, UNKNOWN)]

    def rests_on(self, goal: str) -> set[str]:
        """The lemmas that a goal rests on, directly or through others."""
        found: set[str] = set()
        todo = [goal]
        while todo:
            name = todo.pop()
            new = {u for a in self.answers if a.goal == name for u in a.uses} - found
            found |= new
            todo += new
        return found - {goal} if goal not in LEMMAS else found

    def proves(self, goal: str) -> bool:
        """Whether a goal and all that it rests on were proved."""
        goals = {goal, LOCKS_KEPT} | self.rests_on(goal)
        return not any(a.result in (FAILED, UNKNOWN) for a in self.answers if a.goal in goals)


def constants(expression: Expr) -> set[str]:
    """The names of the variables in an expression."""
    found: set[str] = set()
    seen: set[int] = set()
    todo = [expression]
    while todo:
        e = todo.pop()
        if e.get_id() in seen:
            continue
        seen.add(e.get_id())
        if z3.is_const(e) and e.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            found.add(e.decl().name())
        todo += e.children()
    return found


class Prover:
    """Builds and checks the obligations of one kernel."""

    def __init__(self, kernel: type[KernelText], properties: Sequence[Property], deadline: float | None = None) -> None:
        self.kernel, self.deadline = kernel, deadline
        self.properties = [p for p in properties if p.applies_to(kernel)]
        self.system = System(kernel, Size())
        self.predicates = Predicates(self.system)
        self.lemmas = self.predicates.lemmas()
        self.mentions = {name: constants(f) for name, f in self.lemmas.items()}
        self.use = {name: z3.Bool(f"use {name}") for name in self.lemmas}

    @property
    def transitions(self) -> list[Transition]:
        """The transitions of the kernel."""
        return self.system.transitions

    # --- solving ---

    def solver(self, transition: Transition | None) -> z3.Solver:
        """A solver that knows the lemmas before a transition, each under its own assumption, and the transition."""
        solver = z3.Solver()
        at = self._at(transition)
        for name, formula in self.lemmas.items():
            known = formula if transition is None else self.predicates.instance(formula, transition)
            solver.add(z3.Implies(self.use[name], self._simple(known, at)))
        solver.add(self.system.worker_id > 0)
        if transition is not None:
            solver.add(*transition.needs)
        return solver

    def _at(self, transition: Transition | None) -> list[tuple[Expr, Expr]]:
        """Where the part that moves stands: a constant, which makes the lemmas small."""
        if transition is None:
            return []
        return [
            (e.arg(0), e.arg(1))
            for e in transition.needs[:1]
            if z3.is_eq(e) and e.arg(0).decl().name().endswith(".at") and z3.is_int_value(e.arg(1))
        ]

    @staticmethod
    def _simple(formula: Expr, at: Sequence[tuple[Expr, Expr]]) -> Expr:
        return z3.simplify(z3.substitute(formula, *at)) if at else formula

    def check(self, solver: z3.Solver, *assumptions: Expr) -> z3.CheckSatResult:
        """The solver's answer; unknown when time is up."""
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return z3.unknown
            solver.set("timeout", max(1, int(left * 1000)))
        return solver.check(*assumptions)

    # --- goals ---

    def goals(self, transition: Transition) -> Iterator[tuple[str, Expr]]:
        """What has to hold after a transition, and what properties ask of it; untouched lemmas are left out."""
        pairs = [(self.system.variables[name], e) for name, e in transition.changes.items()]
        at = [p for p in self._at(transition) if p[0].decl().name() not in transition.changes]
        for name, formula in self.lemmas.items():
            if self.mentions[name] & transition.changes.keys():
                yield name, z3.substitute(self._simple(formula, at), *pairs)
        if any(name.startswith("mutex[") for name in transition.changes):
            yield LOCKS_KEPT, self.system.locks_after(transition)
        for prop in self.properties:
            violations = list(self._step_violations(prop, transition))
            if violations:
                yield prop.name, z3.Not(disj(violations))

    def _step_violations(self, prop: Property, transition: Transition) -> Iterator[Expr]:
        """The violations of a step property at a transition; other zones have proofs of their own."""
        v = self.system.variables
        for check in prop.step_checks(self.system.config, transition.step.op):
            found = [a.args[0] for a in atoms(check.violation, "cell")]
            if check.violation.op != "const" and all(str(c) in v for c in found):
                yield self._with_me(check.violation, transition)

    def _with_me(self, term: Term, transition: Transition) -> Expr:
        return z3.substitute(self.predicates.formula_with(term, {"me": z3.Int("me!")}), (z3.Int("me!"), transition.me))

    def state_violations(self, prop: Property) -> list[Expr]:
        """The violations of a state property for the tracked CPU and zone."""
        one = Config(nr_cpus=1, nr_zones=self.system.config.nr_zones, block_types=self.system.config.block_types)
        found = []
        for check in prop.state_checks(one):
            named = {a.args[0] for a in atoms(check.violation, "cell")}
            here = {c: load(self._moved(c), CELLS[c.name][0]) for c in named}
            if any(str(t.args[0]) in self.system.variables for t in here.values()) and self._of_zone(check):
                found.append(self.predicates.formula(substitute_cells(check.violation, here)))
        return found

    def _moved(self, cell: Cell) -> Cell:
        """The cell of the tracked CPU for that of CPU 0."""
        place = cpu_position(cell.name)
        if place < 0:
            return cell
        return Cell(cell.name, tuple(self.system.cpu if i == place else x for i, x in enumerate(cell.index)))

    def _of_zone(self, check: Check) -> bool:
        zones = {
            a.args[0].index[0] for a in atoms(check.violation, "cell") if a.args[0].name.startswith(("pcp", "zone"))
        }
        return zones <= {self.system.zone}

    # --- obligations ---

    def step(self, number: int, depth: int) -> tuple[list[Answer], bool | None]:
        """The answers for one transition, and whether it can be taken when the lemmas hold."""
        transition = self.transitions[number]
        goals = list(self.goals(transition))
        touched = {name for name, _ in goals}
        answers = [Answer(transition.label, name, UNTOUCHED) for name in self.lemmas if name not in touched]
        taken = self._possible(transition)
        if depth == TOGETHER and goals:
            solver = self.solver(transition)
            solver.add(disj([z3.Not(g) for _, g in goals]))
            if self.check(solver, *self.use.values()) == z3.unsat:
                uses = self._core(solver)
                answers += [Answer(transition.label, name, PROVED, uses) for name, _ in goals]
                return answers, taken
        solver = self.solver(transition)
        answers += [self.answer(solver, transition.label, name, goal, depth) for name, goal in goals]
        return answers, taken

    def _possible(self, transition: Transition) -> bool | None:
        """Whether a transition can be taken in some state of the lemmas; None if the solver cannot tell."""
        if self._witness(transition):
            return True
        answer = self.check(self.solver(transition), *self.use.values())
        return None if answer == z3.unknown else bool(answer == z3.sat)

    def _witness(self, transition: Transition) -> bool:
        """Whether the transition can be taken in a state of the lemmas in which the other parts are idle."""
        v = self.system.variables
        idle = {"holder.at": 0, "section.at": 0, "worker.at": self.system.worker_idle}
        moving = [p[0].decl().name() for p in self._at(transition)]
        at = self._at(transition) + [(v[name], z3.IntVal(n)) for name, n in idle.items() if name not in moving]
        solver = z3.Solver()
        solver.add(*(self._simple(f, at) for f in self.lemmas.values()), self.system.worker_id > 0)
        solver.add(*(self._simple(e, at) for e in transition.needs))
        return bool(self.check(solver) == z3.sat)

    def answer(self, solver: z3.Solver, where: str, name: str, goal: Expr, depth: int) -> Answer:
        """One obligation; ``depth`` WITHOUT also tells without which lemmas it fails."""
        solver.push()
        solver.add(z3.Not(goal))
        result = self.check(solver, *self.use.values())
        uses = self._core(solver) if result == z3.unsat else ()
        needs: tuple[str, ...] = ()
        if depth == WITHOUT and uses:
            needs = tuple(
                n for n in uses if self.check(solver, *(u for m, u in self.use.items() if m != n)) != z3.unsat
            )  # fmt: skip
        solver.pop()
        word = PROVED if result == z3.unsat else FAILED if result == z3.sat else UNKNOWN
        return Answer(where, name, word, uses, needs)

    def _core(self, solver: z3.Solver) -> tuple[str, ...]:
        named = {str(e) for e in solver.unsat_core()}
        return tuple(n for n, u in self.use.items() if str(u) in named)

    def start(self) -> list[Answer]:
        """Each lemma where everything begins."""
        answers = []
        term = initially(self.system.config, self.system.zone, self.system.cpu)
        solver = z3.Solver()
        solver.add(self.predicates.formula(term), self.system.worker_id > 0)
        for name, formula in self.lemmas.items():
            answers.append(replace(self.answer(solver, START, name, formula, EACH), uses=()))
        return answers

    def starts(self) -> bool:
        """Whether the start is possible at all."""
        solver = z3.Solver()
        term = initially(self.system.config, self.system.zone, self.system.cpu)
        solver.add(self.predicates.formula(term), self.system.worker_id > 0)
        return bool(self.check(solver) == z3.sat)

    def conclusions(self, depth: int) -> list[Answer]:
        """Each state property from the lemmas."""
        solver = self.solver(None)
        answers = []
        for prop in self.properties:
            violations = self.state_violations(prop)
            if violations:
                answers.append(self.answer(solver, ALWAYS, prop.name, z3.Not(disj(violations)), depth))
        return answers

    def counterexample(self, answer: Answer) -> tuple[Transition | None, z3.ModelRef | None, Mapping[str, Expr]]:
        """The states before and after where an obligation fails: the transition, a model, and the values after."""
        transition = next((t for t in self.transitions if t.label == answer.where), None)
        solver = self.solver(transition)
        if transition is None:
            goal = z3.Not(disj(self.state_violations(next(p for p in self.properties if p.name == answer.goal))))
        else:
            goal = dict(self.goals(transition))[answer.goal]
        solver.add(z3.Not(goal))
        model = solver.model() if self.check(solver, *self.use.values()) == z3.sat else None
        return transition, model, transition.changes if transition else {}
