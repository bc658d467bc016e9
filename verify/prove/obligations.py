"""The proof obligations: each lemma at the start, each lemma at each transition, and each property from the lemmas."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import z3

from kernelmodel.cells import CELLS, cpu_position, on_other_cpu
from kernelmodel.memory_model import Memory
from kernelmodel.ops import Op
from kernelmodel.terms import FALSE, Term, atoms, load, lor, substitute_cells
from kernelmodel.text import KernelText
from properties.lemmas import Ghost, cell_of
from properties.property import Property
from verify.ordering.loosened import loose
from verify.prove.cases import Cases
from verify.prove.population import ZONE, Size
from verify.prove.predicates import Predicates
from verify.prove.shared import IDLE, NOWHERE, Shared
from verify.prove.system import NOBODY, System, Transition, conj, disj
from verify.smt import Expr, constants

#: how much is asked: all goals of a transition at once; each, with the lemmas it rests on; and what fails without each
TOGETHER, EACH, WITHOUT = range(3)
PROVED, FAILED, UNKNOWN, UNTOUCHED = "proved", "failed", "unknown", "untouched"
#: the obligation beside the lemmas: mutexes exclude for tasks that play no part, too
LOCKS_KEPT = "locks_kept"
#: and that the ghosts mean what they say, see ``Ghost``
GHOSTS_JUSTIFIED = "ghosts_justified"
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

    ``vacuous`` are transitions that no state of the lemmas allows, and ``open`` those of which it is not known whether one
    does; ``dropped`` are lemmas that are not inductive here and on which no other answer rests; ``differs`` says why the
    projection is not sound.
    """

    answers: list[Answer] = field(default_factory=list)
    vacuous: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    differs: str = ""
    #: the names of the lemmas
    lemmas: tuple[str, ...] = ()
    transitions: int = 0
    seconds: float = 0.0

    @property
    def possible(self) -> bool | None:
        """Whether each transition is possible where the lemmas hold; None if that is not known."""
        return False if self.vacuous else None if self.open else True

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
        return found - {goal} if goal not in self.lemmas else found

    def proves(self, goal: str) -> bool:
        """Whether a goal and all that it rests on were proved."""
        goals = {goal, LOCKS_KEPT, GHOSTS_JUSTIFIED}
        goals |= {name for g in sorted(goals) for name in self.rests_on(g)}
        judged = any(a.goal == goal for a in self.answers)
        return judged and not any(a.result in (FAILED, UNKNOWN) for a in self.answers if a.goal in goals)


def _disjuncts(term: Term) -> Sequence[Term]:
    return term.args if term.op == "or" else (term,)


def zones_of(term: Term) -> set[int]:
    """The zones of whose cells a term speaks; the tracked one if it speaks of none."""
    cells = [a.args[0] for a in atoms(term, "cell") if not CELLS[a.args[0].name].exclusion]
    found = {c.index[0] for c in cells if c.name.startswith(("pcp", "zone"))}
    return {int(z) for z in found} or {ZONE}


class Prover:
    """Builds and checks the obligations of one kernel."""

    def __init__(
        self, kernel: type[KernelText], properties: Sequence[Property], deadline: float | None = None,
        memory: Memory = "sc",
    ) -> None:  # fmt: skip
        """``memory``: under tso, loads that may miss a store find anything."""
        self.kernel, self.deadline = kernel, deadline
        self.properties = [p for p in properties if p.applies_to(kernel)]
        self.memory = memory
        open_loads = None if memory == "sc" else loose(kernel)
        self.system = System(kernel, Size(), judged=self._judged, loose=open_loads)
        self.predicates = Predicates(self.system)
        self.lemmas = self.predicates.lemmas()
        self.mentions = {name: constants(f) for name, f in self.lemmas.items()}
        self.use = {name: z3.Bool(f"use {name}") for name in self.lemmas}
        #: lemmas that are not assumed any more
        self.dropped: set[str] = set()
        self._names = {f"use {name}": name for name in self.lemmas}
        self._cases: dict[str, Cases] = {}
        self._shared = Shared([self.system.worker_id > 0], self._others_idle)

    def _asked(self, prop: Property, op: Op) -> Term:
        """How a step property may be violated at an operation, as far as the tracked CPU and zone go.

        Of a conjunction over CPUs and zones each part has to hold: those of other CPUs and zones are theirs to prove.
        """
        here = Size().of(self.kernel)
        config = self.kernel.sized(here.config)
        for cell, _ in op.updates:
            place = cpu_position(cell.name)
            if (place >= 0 and cell.index[place] != here.cpu) or (
                cell.name.startswith("pcp") and cell.index[0] != ZONE
            ):
                return FALSE
        found: list[Term] = []
        for check in prop.step_checks(config, op):
            if check.cpu in (None, here.cpu) and check.violation.op != "const":
                found += [p for p in _disjuncts(check.violation) if ZONE in zones_of(p)]
        return lor(*found)

    def _judged(self, op: Op) -> bool:
        """Whether a property is judged at an operation, which has to be a transition then, whatever it changes."""
        return any(self._asked(p, op).key != FALSE.key for p in self.properties)

    @property
    def transitions(self) -> list[Transition]:
        """The transitions of the kernel."""
        return self.system.transitions

    @property
    def late(self) -> bool:
        """Whether time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    # --- solving ---

    def assumed(self, but: str = "") -> list[Expr]:
        """The assumptions that stand for the lemmas, all or without one."""
        return [u for n, u in self.use.items() if n != but and n not in self.dropped]

    def solver(self, transition: Transition | None) -> z3.Solver:
        """A solver that knows the lemmas before a transition, each under its own assumption, and the transition."""
        solver = z3.SimpleSolver()
        for name, formula in self.there(transition).items():
            known = formula if transition is None else self.predicates.instance(formula, transition)
            solver.add(z3.Implies(self.use[name], known))
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

    def there(self, transition: Transition | None) -> Mapping[str, Expr]:
        """The lemmas where the part that moves stands."""
        at = self._at(transition)
        return self._sorted(at[0][0]).at(at[0][1]) if at else self.lemmas

    def _sorted(self, place: Expr) -> Cases:
        """The lemmas, cut down to what they say of the part whose place that is."""
        name = place.decl().name()
        if name not in self._cases:
            self._cases[name] = Cases(self.lemmas, place, self.mentions)
        return self._cases[name]

    def _others_idle(self, moving: str) -> list[Expr]:
        """That all parts but one are idle."""
        places = {"holder.at": NOBODY, "section.at": NOBODY, "worker.at": self.system.worker_idle}
        return [self.system.variables[n] == u for n, u in places.items() if n != moving]

    def _before(self, transition: Transition) -> AbstractContextManager[z3.Solver]:
        """A solver that knows the lemmas before a transition, and the transition, without telling which it uses."""
        at, there = self._at(transition), self.there(transition)
        # a lemma holds whatever a section reads of the limits, and so for what this transition reads
        read = [self.predicates.instance(f, transition) for f in there.values()]
        more = [f for f, known in zip(read, there.values(), strict=True) if not f.eq(known)]
        return self._shared.knowing(
            at[0][0].decl().name() if at else "", there, lambda: self._sorted(at[0][0]).at(NOWHERE) if at else there,
            [*more, *transition.needs],
        )  # fmt: skip

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
        touched = [name for name in self.lemmas if self.mentions[name] & transition.changes.keys()]
        after = self._after(transition, touched)
        # that it leads nowhere else is no assumption
        somewhere = disj([when for when, _ in after])
        for name in touched:
            yield name, conj(somewhere, *[z3.Implies(when, known[name]) for when, known in after])
        if any(name.startswith("mutex[") for name in transition.changes):
            yield LOCKS_KEPT, self.system.locks_after(transition)
        justified = [p for g in self.system.argument.ghosts for p in self.justified(g, transition)]
        if justified:
            yield GHOSTS_JUSTIFIED, conj(justified)
        for prop in self.properties:
            violation = self._asked(prop, transition.step.op)
            if violation.key != FALSE.key:
                yield prop.name, z3.Not(self._with_me(violation, transition))

    def _after(self, transition: Transition, names: Collection[str]) -> list[tuple[Expr, Mapping[str, Expr]]]:
        """Some lemmas after a transition, in each of the places to which it may lead: when that is so, and what they say."""
        v, changes = self.system.variables, transition.changes
        place, targets = transition.leads_to
        if place not in changes:
            known = self.there(transition)
            pairs = [(v[n], e) for n, e in changes.items()]
            return [(z3.BoolVal(True), {n: z3.substitute(known[n], *pairs) for n in names})]
        found: list[tuple[Expr, Mapping[str, Expr]]] = []
        for target in map(z3.IntVal, targets):
            known = self._sorted(v[place]).at(target)
            pairs = [(v[n], e) for n, e in changes.items() if n != place]
            found.append((changes[place] == target, {n: z3.substitute(known[n], *pairs) for n in names}))
        return found

    def justified(self, ghost: Ghost, transition: Transition) -> Iterator[Expr]:
        """What has to hold of a transition for a ghost to mean what it says; nothing if it leaves all that alone."""
        v, changes = self.system.variables, transition.changes
        name = f"holder.{ghost.name}"
        after = changes.get(name, v[name])
        if name in changes:
            pairs = [(v[n], e) for n, e in changes.items()]
            meant = self.predicates.formula(ghost.rises(self.system.zone, self.system.cpu))
            yield z3.Implies(conj(after, z3.Not(v[name])), z3.substitute(meant, *pairs))
        cells = [str(cell_of(n, self.system.zone, self.system.cpu)) for n in ghost.falls]
        for n in (*cells, "holder.id"):
            if n in changes:
                yield z3.Implies(changes[n] != v[n], z3.Not(after))

    def _with_me(self, term: Term, transition: Transition) -> Expr:
        return z3.substitute(self.predicates.formula_with(term, {"me": z3.Int("me!")}), (z3.Int("me!"), transition.me))

    def state_violations(self, prop: Property) -> list[Expr]:
        """The violations of a state property for the tracked CPU and zone."""
        one = replace(self.system.config, nr_cpus=1)
        found = []
        for check in prop.state_checks(one):
            for part in _disjuncts(check.violation):
                named = {a.args[0] for a in atoms(part, "cell")}
                here = {c: load(on_other_cpu(c, {0: self.system.cpu}), CELLS[c.name].sort) for c in named}
                if any(str(t.args[0]) in self.system.variables for t in here.values()) and zones_of(part) <= {ZONE}:
                    found.append(self.predicates.formula(substitute_cells(part, here)))
        return found

    # --- obligations ---

    def step(self, number: int, depth: int) -> tuple[list[Answer], bool | None]:
        """The answers for one transition, and whether it can be taken when the lemmas hold."""
        transition = self.transitions[number]
        if self.late:
            return [Answer(transition.label, name, UNKNOWN) for name in self.lemmas], None
        goals = list(self.goals(transition))
        touched = {name for name, _ in goals}
        answers = [Answer(transition.label, name, UNTOUCHED) for name in self.lemmas if name not in touched]
        with self._before(transition) as solver:
            taken = self._possible(solver)
            if depth == TOGETHER and goals:
                solver.add(disj([z3.Not(g) for _, g in goals]))
                if self.check(solver) == z3.unsat:
                    uses = tuple(self.lemmas)
                    answers += [Answer(transition.label, name, PROVED, uses) for name, _ in goals]
                    return answers, taken
        solver = self.solver(transition)
        answers += [self.answer(solver, transition.label, name, goal, depth) for name, goal in goals]
        return answers, taken

    def again(self, where: str, goals: Collection[str]) -> list[Answer]:
        """Some obligations once more, with the lemmas that are still assumed."""
        if where == ALWAYS:
            return [a for a in self.conclusions(EACH) if a.goal in goals]
        transition = next(t for t in self.transitions if t.label == where)
        solver = self.solver(transition)
        return [self.answer(solver, where, n, g, EACH) for n, g in self.goals(transition) if n in goals]

    def _possible(self, solver: z3.Solver) -> bool | None:
        """Whether a transition can be taken in some state of the lemmas; None if the solver cannot tell.

        Mostly it can where the other parts are idle, which is found sooner.
        """
        if self.check(solver, z3.Bool(IDLE)) == z3.sat:
            return True
        return self._is_possible(solver)

    def _is_possible(self, solver: z3.Solver) -> bool | None:
        answer = self.check(solver)
        return None if answer == z3.unknown else bool(answer == z3.sat)

    def answer(self, solver: z3.Solver, where: str, name: str, goal: Expr, depth: int) -> Answer:
        """One obligation; ``depth`` WITHOUT also tells without which lemmas it fails."""
        solver.push()
        solver.add(z3.Not(goal))
        result = self.check(solver, *self.assumed())
        uses = self._core(solver) if result == z3.unsat else ()
        needs: tuple[str, ...] = ()
        if depth == WITHOUT and uses:
            uses = self._minimal(solver, uses)
            needs = tuple(n for n in uses if self.check(solver, *self.assumed(n)) != z3.unsat)
        solver.pop()
        word = PROVED if result == z3.unsat else FAILED if result == z3.sat else UNKNOWN
        return Answer(where, name, word, uses, needs)

    def _minimal(self, solver: z3.Solver, uses: tuple[str, ...]) -> tuple[str, ...]:
        """Of lemmas from which an obligation follows, some from which it does, and from none fewer of them."""
        kept = list(uses)
        for name in uses:
            fewer = [self.use[n] for n in kept if n != name]
            if self.check(solver, *fewer) == z3.unsat:
                core = self._core(solver)
                kept = [n for n in kept if n in core]
        return tuple(kept)

    def _core(self, solver: z3.Solver) -> tuple[str, ...]:
        named = {self._names[e.decl().name()] for e in solver.unsat_core()}
        return tuple(n for n in self.lemmas if n in named)

    def _initially(self) -> Term:
        return self.system.argument.initially(self.system.config, self.system.zone, self.system.cpu)

    def start(self) -> list[Answer]:
        """Each lemma where everything begins."""
        answers = []
        solver = z3.Solver()
        solver.add(self.predicates.formula(self._initially()), self.system.worker_id > 0)
        for name, formula in self.lemmas.items():
            answers.append(replace(self.answer(solver, START, name, formula, EACH), uses=()))
        return answers

    def starts(self) -> bool | None:
        """Whether the start is possible at all; None if the solver cannot tell."""
        solver = z3.Solver()
        solver.add(self.predicates.formula(self._initially()), self.system.worker_id > 0)
        return self._is_possible(solver)

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
        if answer.where == START:
            solver = z3.Solver()
            solver.add(self.predicates.formula(self._initially()), self.system.worker_id > 0)
            goal = self.lemmas[answer.goal]
        elif transition is None:
            goal = z3.Not(disj(self.state_violations(next(p for p in self.properties if p.name == answer.goal))))
        else:
            goal = dict(self.goals(transition))[answer.goal]
        solver.add(z3.Not(goal))
        # all lemmas, also those that were dropped after this had failed: the states are then less odd
        model = solver.model() if self.check(solver, *self.use.values()) == z3.sat else None
        return transition, model, transition.changes if transition else {}
