"""Deciding a property within a scenario: lemmas, slices, vacuity, and a counterexample that was replayed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import get_args

import z3

from kernelmodel.cells import names
from kernelmodel.errors import ModelError
from kernelmodel.memory_model import MODELS, Memory
from kernelmodel.text import KernelText
from properties.catalogue import PROPERTIES
from properties.property import Check, Property
from verify.bmc.contract import AGGREGATES
from verify.bmc.counterexample import counterexample, witnessed
from verify.bmc.encode import Encoding
from verify.bmc.fewest import acting, one_of_each
from verify.bmc.handover import Handed
from verify.bmc.slice import Model, Slice
from verify.counterexample import Counterexample
from verify.ordering.relaxed import Relaxed
from verify.ordering.scenario import relaxed_in
from verify.runs import Values, WholeRuns
from verify.scenario import Scenario
from verify.smt import apart
from verify.verdict import Result, Verdict

ENGINE = "bmc"
OUT_OF_TIME = "out of time (--timeout)"
#: proved first, and then used in the proofs of the others: see docs/architecture.md
LEMMA_COUNTS, LEMMA_MISPLACED = "pages_conserved", "isolated_page_on_isolate_list"
LEMMAS = (LEMMA_MISPLACED, LEMMA_COUNTS)
#: cells that the first lemma says to be 0
USUALLY_ZERO = tuple(sorted(names(lambda kind: kind.usually_zero)))
#: how many of a slice's models are replayed before a property is called undecided
_MODELS = 32
#: how many random runs are made, before the solver's own is tried, to see a run of all tasks that reaches a premise
_RUNS = 8
#: and how many after it
_MORE_RUNS = 600


#: what sections hand over, in the order in which it is tried: less is more runs, and a simpler question
_STRENGTHS: tuple[Handed, ...] = get_args(Handed)
_WORKED_ON = "a CPU's lists are worked on from elsewhere while it may be online, which this engine does not follow"
_VACUOUS = "no run in which every task finishes reaches the property's premise"


class StoppedError(Exception):
    """The time given is over, or the solver gave up: nothing was decided."""


@dataclass(slots=True)
class Query:
    """A question that was put to the solver: its SMT-LIB text where that is wanted (--smt2), and the answer."""

    title: str
    script: str
    answer: str


@dataclass(slots=True)
class Outcome:
    """The answer for one property before it becomes a verdict."""

    result: Result
    reason: str = ""
    found: Counterexample | None = None
    events: int = 0
    queries: list[Query] = field(default_factory=list)
    seconds: float = 0.0
    #: that of the counterexample, if it is smaller than what was asked about
    scenario: Scenario | None = None


class Engine:
    """Decides properties of one kernel within one scenario; keeps lemmas and control graphs between properties."""

    def __init__(
        self,
        kernel: type[KernelText],
        scenario: Scenario,
        deadline: float | None = None,
        keep_queries: bool = False,
        progress: Callable[[str], None] = lambda _: None,
        memory: Memory = "sc",
        hunting: bool = False,
    ) -> None:
        """``deadline`` is a time.monotonic() after which nothing more is decided.

        ``hunting``: a violation is expected, and looked for first where there is one task of each kind that the scenario has.
        """
        self.hunting = hunting
        self.kernel, self.scenario, self.deadline = kernel, scenario, deadline
        self.keep_queries, self.progress, self.memory = keep_queries, progress, memory
        #: whether what is found is wanted with as few tasks as there can be
        self._fewest = False
        #: random runs of all tasks, the same for all properties
        self.whole = WholeRuns(kernel, scenario, Values(rounds=True, memory=memory))
        self._relaxed: Relaxed | None = None
        self._models: dict[tuple[bool, bool], Model] = {}
        self._no_witness = ""
        self._outcomes: dict[tuple[str, bool, bool], Outcome] = {}

    def decide(self, prop: Property) -> Verdict:
        """The verdict on ``prop``; never raises for a timeout."""
        return self.conclude(prop, self.quick(prop))

    def quick(self, prop: Property) -> Outcome:
        """The outcome under lemmas that may not be proved yet.

        What they let through is real, for it is replayed; that they stop nothing real is for conclude() to see.
        """
        if not prop.applies_to(self.kernel):
            missing = ", ".join(f"{r}()" for r in prop.needs)
            return Outcome(Result.NOT_APPLICABLE, f"{self.kernel.name} has no {missing}")
        if prop.rest:
            return Outcome(Result.NOT_APPLICABLE, "it is judged where a run has ended: verify.explore does")
        if prop.stuck:
            return Outcome(Result.NOT_APPLICABLE, "it is judged where nobody can go on: verify.explore does")
        absent = [t for t in prop.needs_tasks if not getattr(self.scenario, t)]
        if absent:
            return Outcome(Result.NOT_APPLICABLE, f"it speaks of {absent[0]}, of which this bound has none")
        if reason := self._cannot_follow():
            return Outcome(Result.UNDECIDED, reason)
        return self._decide(prop, counts=True, misplaced=prop.name != LEMMA_MISPLACED)

    def _cannot_follow(self) -> str:
        """Why the memory model cannot be followed here; empty if it can."""
        changed = self.relaxed()
        if changed is None:
            return ""
        try:
            if changed.refused:
                raise ModelError(changed.refused)
            self.model(misplaced=False)
        except ModelError as error:
            return f"under {MODELS[self.memory]}: {error}"
        return ""

    def conclude(self, prop: Property, quick: Outcome) -> Verdict:
        """The verdict: an outcome that rests on a lemma counts only if the lemma holds, else it is decided without."""
        outcome = quick
        if quick.result is Result.HOLDS:
            unproved = [name for name in LEMMAS if name != prop.name and not self.holds(name)]
            if unproved:
                misplaced = LEMMA_MISPLACED not in (*unproved, prop.name)
                outcome = self._decide(prop, LEMMA_COUNTS not in unproved, misplaced)
        return Verdict.on(
            self.kernel,
            prop.name,
            ENGINE,
            self.scenario.bound(self.kernel),
            outcome.result,
            memory_model=MODELS[self.memory],
            reason=outcome.reason,
            reachable={Result.HOLDS: True, Result.VIOLATED: True, Result.VACUOUS: False}.get(outcome.result),
            seconds=outcome.seconds,
            scenario=(outcome.scenario or self.scenario).numbers(),
            statistics={"events": outcome.events, "queries": len(outcome.queries), "z3": z3.get_version_string()},
        ).with_trace(outcome.found)

    def queries(self, prop: Property) -> list[Query]:
        """The questions that decided ``prop``, and those of the lemmas that it rests on (decide() came before)."""
        names = (prop.name, *LEMMAS)
        return [
            q for n in dict.fromkeys(names) for (name, *_), o in self._outcomes.items() if name == n for q in o.queries
        ]

    # --- lemmas ---

    def holds(self, lemma: str) -> bool:
        """Whether the lemma holds in this scenario; each may rest on the other up to its own first violation."""
        return self.quick(PROPERTIES[lemma]).result is Result.HOLDS

    def learn(self, prop: Property, outcome: Outcome) -> None:
        """Take over what quick() found elsewhere."""
        self._outcomes[prop.name, True, prop.name != LEMMA_MISPLACED] = outcome

    def model(self, misplaced: bool, exact: bool = True) -> Model:
        """The tasks' graphs; with ``misplaced``, under the lemma that no page is ever misplaced."""
        key = (misplaced, exact)
        if key not in self._models:
            self._models[key] = Model(
                self.kernel, self.scenario, USUALLY_ZERO if misplaced else [], exact, self.relaxed()
            )
        return self._models[key]

    def relaxed(self) -> Relaxed | None:
        """What the memory model changes in the scenario, for any property; None under sequential consistency."""
        if self.memory != "sc" and self._relaxed is None:
            self._relaxed = relaxed_in(self.kernel, self.scenario)
        return self._relaxed

    # --- one property ---

    def _decide(self, prop: Property, counts: bool, misplaced: bool) -> Outcome:
        key = (prop.name, counts, misplaced)
        if key not in self._outcomes:
            began = time.monotonic()
            try:
                outcome = self._hunted(prop, counts, misplaced) or self._decide_anew(
                    prop, counts, misplaced, exact=False
                )
                if outcome.result is Result.UNDECIDED and not self.model(misplaced, exact=False).exact:
                    # what is no run may have come from what was left out
                    outcome = self._decide_anew(prop, counts, misplaced, exact=True)
                outcome = self._in_fewest(prop, outcome, counts, misplaced)
            except StoppedError as stop:
                outcome = Outcome(Result.UNDECIDED, str(stop))
            self._outcomes[key] = replace(outcome, seconds=time.monotonic() - began)
        return self._outcomes[key]

    def _within(self, scenario: Scenario) -> Engine:
        """An engine that looks for a counterexample with as few tasks as there can be, in a smaller scenario."""
        alone = Engine(self.kernel, scenario, self.deadline, progress=self.progress, memory=self.memory)
        alone._fewest = True
        return alone

    def _hunted(self, prop: Property, counts: bool, misplaced: bool) -> Outcome | None:
        """A violation where there is one task of each kind, if one is expected and there is one."""
        small = one_of_each(self.scenario)
        # what is written to a file is what was asked about
        if not self.hunting or self.keep_queries or self._fewest or small == self.scenario:
            return None
        found = self._within(small)._decide(prop, counts, misplaced)
        return found if found.result is Result.VIOLATED and found.found is not None else None

    def _in_fewest(self, prop: Property, outcome: Outcome, counts: bool, misplaced: bool) -> Outcome:
        """A counterexample once more, where there is nobody but who acts in it, and two CPUs if they do."""
        if outcome.result is not Result.VIOLATED or outcome.found is None or self._fewest:
            return outcome
        small = acting(self.scenario, outcome.found.schedule)
        again = self._within(small)._decide(prop, counts, misplaced)
        if again.result is not Result.VIOLATED or again.found is None:
            return outcome
        few = acting(small, again.found.schedule)
        return replace(
            outcome, found=again.found, scenario=small, reason="" if few == self.scenario else few.suffices()
        )

    @apart()
    def _decide_anew(self, prop: Property, counts: bool, misplaced: bool, exact: bool) -> Outcome:
        model = self.model(misplaced, exact)
        outcome = Outcome(Result.HOLDS)
        reached: list[Slice] = []
        missed: list[Slice] = []
        unreal: Counterexample | None = None
        slices = model.slices(prop)
        for n, piece in enumerate(slices):
            others = {c for c in model.interference(piece) if c.name not in AGGREGATES}
            if others:
                names = ", ".join(sorted(map(str, others)))
                reason = f"tasks on other CPUs write {names}, which this engine follows on one CPU at a time"
                return Outcome(Result.UNDECIDED, reason)
            self.progress(f"{prop.name}: {piece.cpu_words} ({n + 1} of {len(slices)})")
            asked = functools.partial(self._encode, prop, model, piece, counts)
            encoding, solver = asked(_STRENGTHS[0 if counts and prop.name in LEMMAS else 1])
            if any(s.remote for s in encoding.alone):
                encoding, solver = asked("values")
                if self._check(solver, encoding.intruded)[0] == z3.sat:
                    return Outcome(Result.UNDECIDED, _WORKED_ON)
            here = self._reached(encoding, solver)
            if here and len(slices) > 1 and encoding.handed != "values":
                here = self._reached(*asked("values"))
            (reached if here else missed).append(piece)
            answer = self._violated(encoding, solver)
            for handed in _STRENGTHS[_STRENGTHS.index(encoding.handed) + 1 :]:
                if answer == z3.sat:
                    encoding, solver = asked(handed)
                    answer = self._violated(encoding, solver)
            outcome.events = max(outcome.events, len(encoding.events))
            script = solver.to_smt2() if self.keep_queries else ""
            outcome.queries.append(Query(f"{prop.name}, {piece.cpu_words}", script, str(answer)))
            if answer == z3.sat:
                found = self._real(encoding, solver, prop)
                if found.replayed:
                    return replace(outcome, result=Result.VIOLATED, found=found)
                # another slice may show what really happens
                unreal = unreal or found
        if unreal is not None:
            return replace(outcome, result=Result.UNDECIDED, found=unreal, reason=unreal.found)
        if not reached:
            return replace(outcome, result=Result.VACUOUS, reason=_VACUOUS)
        witnessed = self._witnessed(prop, model, reached, counts)
        if witnessed is not Result.HOLDS:
            reason = _VACUOUS if witnessed is Result.VACUOUS else self._no_witness
            return replace(outcome, result=witnessed, reason=reason)
        if missed:
            names = ", ".join(p.cpu_words for p in missed)
            return replace(outcome, reason=f"its premise is never reached for {names}")
        return outcome

    def _reached(self, encoding: Encoding, solver: z3.Solver) -> bool:
        """Whether a run of the slice in which all its tasks finish reaches the premise."""
        return bool(self._check(solver, encoding.reached, encoding.finished)[0] == z3.sat)

    def _violated(self, encoding: Encoding, solver: z3.Solver) -> z3.CheckSatResult:
        """Whether a run of the slice violates the property; the solver is asked that from now on."""
        solver.add(encoding.violated, encoding.until)
        return self._check(solver)[0]

    def _witnessed(self, prop: Property, model: Model, reached: list[Slice], counts: bool) -> Result:
        """HOLDS: a run of the whole scenario reaches the premise, for a slice follows one CPU only.

        VACUOUS: no slice has one where all is handed over; UNDECIDED: one has, and none of them is one of the whole.
        """
        whole = self.whole.reaching(prop, _RUNS)
        if whole.reached:
            return Result.HOLDS
        really = False
        for piece in reached:
            encoding, solver = self._encode(prop, model, piece, counts)
            solver.add(encoding.reached, encoding.finished)
            found = witnessed(self.kernel, self.scenario, encoding, solver, prop, self._check, self.memory)
            if found:
                return Result.HOLDS
            really = really or found is not None
        if not really:
            return Result.VACUOUS
        whole = self.whole.reaching(prop, _MORE_RUNS)
        if whole.reached:
            return Result.HOLDS
        where = f", in which {whole.waiting}" if whole.waiting else ""
        self._no_witness = (
            f"no run of all tasks is found that reaches its premise: neither the solver's nor {whole.number} random"
            f" ones{where}"
        )
        return Result.UNDECIDED

    def _real(self, encoding: Encoding, solver: z3.Solver, prop: Property) -> Counterexample:
        """A counterexample that replays; or what is wrong with the first, where other models do no better."""
        first: Counterexample | None = None
        for n in range(_MODELS):
            found = counterexample(
                self.kernel, self.scenario, encoding, solver, prop, self._check, self.memory, self._fewest
            )  # fmt: skip
            first = first or found
            if found.replayed:
                return found
            # what is open in a slice can be chosen as no run chooses it: see what other runs the slice has
            answer, model = self._check(solver)
            if answer != z3.sat or model is None:
                break
            runs = [e.happened == model.eval(e.happened, model_completion=True) for e in encoding.events]
            solver.add(z3.Not(z3.And(runs)))
            solver.set("random_seed", n + 1)
            if self._check(solver)[0] != z3.sat:
                break
        assert first is not None
        return first

    def _encode(
        self, prop: Property, model: Model, piece: Slice, counts: bool, handed: Handed = "values"
    ) -> tuple[Encoding, z3.Solver]:
        zero_before = USUALLY_ZERO if prop.name == LEMMA_MISPLACED else ()
        encoding = Encoding(piece, model.known, self._assumed(piece, counts), zero_before, handed)
        solver = self._solver()
        solver.add(*encoding.constraints)
        return encoding, solver

    def _assumed(self, piece: Slice, counts: bool) -> list[Check]:
        if not counts:
            return []
        return [c for c in PROPERTIES[LEMMA_COUNTS].state_checks(piece.config) if c.cpu == piece.cpu]

    def _solver(self) -> z3.Solver:
        solver = z3.Solver()
        solver.set("arith.solver", 2)
        return solver

    def _check(self, solver: z3.Solver, *assumptions: z3.ExprRef) -> tuple[z3.CheckSatResult, z3.ModelRef | None]:
        """The solver's answer under further assumptions, with a model if there is one."""
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise StoppedError(OUT_OF_TIME)
            solver.set("timeout", max(1, int(left * 1000)))
        solver.push()
        try:
            solver.add(*assumptions)
            answer = solver.check()
            if answer == z3.unknown:
                self._give_up(solver.reason_unknown())
            return answer, solver.model() if answer == z3.sat else None
        finally:
            solver.pop()

    def _give_up(self, why: str) -> None:
        if "timeout" in why or (self.deadline is not None and time.monotonic() >= self.deadline):
            raise StoppedError(OUT_OF_TIME)
        if "interrupt" in why or "cancel" in why:
            raise KeyboardInterrupt
        raise StoppedError(f"the solver gave up: {why}")
