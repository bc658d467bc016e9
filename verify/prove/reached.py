"""What really happens, in the terms of the proof: every reachable state of a small machine, and the lemmas judged on it.

The machine is a finite configuration of verify.explore, searched without any reduction.  The control predicates of the
lemmas are computed from the very control graphs that are searched, by the code that computes them for the proof, and
``Reached.seen_as`` is the abstraction: a state of the machine, with its tasks at their places and the values that they
carry, as the states of the proof for one CPU that stand for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import z3

from kernelmodel.cells import CELLS, cpu_taken
from kernelmodel.config import Config
from kernelmodel.graphs.folded_graph import RETURNED
from kernelmodel.terms import TRUE, Cell, Term, evaluate, land, load
from kernelmodel.text import KernelText
from properties.lemmas import GHOSTS, LEMMAS, LOCK, Lemma
from properties.property import Check, Property
from verify.explore.finite import Finite
from verify.explore.model import Model, TaskModel, returns_of
from verify.explore.table import Transitions
from verify.prove.parts import followed_cells
from verify.prove.population import ZONE, Kind, Size, Text
from verify.prove.predicates import Predicates
from verify.prove.roles import OVER, Part, Step
from verify.prove.system import NOBODY, System, disj
from verify.smt import Expr, constants

#: values of the proof's variables in the order of ``Reached.names``; None where they are open
Seen = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Given(Size):
    """The size of a machine that is given."""

    machine: Config | None = None

    def of(self, kernel: type[KernelText]) -> Size:
        """As it is given: what ran in it had pages of order 0."""
        del kernel
        return self

    @property
    def config(self) -> Config:
        """The machine's size for the kernel's text."""
        assert self.machine is not None
        return self.machine


class _Instance(System):
    """The system of the proof for the tasks of one machine; a section is not taken for another that looks the same."""

    def _distinct(self, found: list[Step]) -> list[Step]:
        return found


class State(NamedTuple):
    """A state of the machine: a row of verify.explore, the ghosts, and what each register of the proof was last given."""

    values: tuple[int, ...]
    ghosts: tuple[bool, ...]
    registers: tuple[int | None, ...]


_NO_GHOST = tuple(False for _ in GHOSTS)


@dataclass(frozen=True, slots=True)
class Refuted:
    """A lemma that is false in a state that is reached."""

    lemma: str
    state: Mapping[str, int]


class Reached:
    """All states that a finite configuration reaches, as the proof sees them from one CPU."""

    def __init__(self, kernel: type[KernelText], finite: Finite, cpu: int = 0) -> None:
        self.cpu = cpu
        config = finite.scenario.config
        followed = followed_cells(config, ZONE, cpu)
        self.model = Model(kernel, finite, [_watching(followed)])
        texts = [Text(self._kind(t), t.graph) for t in self.model.tasks]
        self.system = _Instance(kernel, Given(config.nr_cpus, cpu, machine=config), texts)
        self.predicates = Predicates(self.system)
        self.names = (*self.system.variables, "worker.id")
        self.states = 0
        self._closures: dict[tuple[int, int], Any] = {}
        self._effects: dict[int, tuple[bool, bool, dict[str, Term]]] = {}
        self._footprints: dict[tuple[int, int], tuple[list[int], list[int], dict[Any, Any]]] = {}
        self._transitions = Transitions(self.model)
        registers = [n for n in self.system.variables if n in self.system.program.defined_by]
        self._register = {name: i for i, name in enumerate(registers)}
        self._nothing: tuple[int | None, ...] = (None,) * len(registers)
        self.seen: set[Seen] = set()
        for state in self._search():
            self.states += 1
            self.seen.update(self.seen_as(state))

    def _kind(self, task: TaskModel) -> Kind:
        spec = task.spec
        inputs = {name: (low, high) for name, low, high in spec.parameters}
        cpu = -1 if spec.cpu is None else spec.cpu
        return Kind(spec.name, spec.make, cpu, spec.kind.serves and cpu == self.cpu, inputs)

    # --- the search ---

    def _search(self) -> Iterator[State]:
        """All reachable states, without any reduction, with the ghosts and with registers that nobody reads again."""
        todo = [State(tuple(row), _NO_GHOST, self._nothing) for row, _ in self.model.initial_rows(False)]
        seen = set(todo)
        while todo:
            state = todo.pop()
            yield state
            for number, task in enumerate(self.model.tasks):
                if state.values[task.location] == RETURNED:
                    continue
                for after in self._after(number, task, state):
                    if after not in seen:
                        seen.add(after)
                        todo.append(after)

    def _after(self, number: int, task: TaskModel, state: State) -> Iterator[State]:
        v = state.values
        location = v[task.location]
        if (number, location) not in self._footprints:
            self._footprints[number, location] = _footprint(self._transitions, task, location)
        read, written, known = self._footprints[number, location]
        key = tuple([v[i] for i in read])
        if key not in known:
            known[key] = list(self._outcomes(number, task, location, list(v), written))
        for values, uid, target, returned in known[key]:
            new = list(v)
            for i, x in zip(written, values, strict=True):
                new[i] = x
            registers = state.registers
            if returned:
                now = list(registers)
                for i, x in returned:
                    now[i] = x
                registers = tuple(now)
            yield State(tuple(new), self._ghosts(number, task, uid, target, state), registers)

    def _outcomes(
        self, number: int, task: TaskModel, location: int, v: list[int], written: list[int]
    ) -> Iterator[tuple[list[int], int, int, list[tuple[int, int]]]]:
        """What a task may do: values written, the step, the next location, and what it returned, by register."""
        for which, function in enumerate(self._transitions.functions(task, location)):
            node = task.at(location)[which]
            outcomes: list[Any] = []
            function(v, outcomes)
            returns = [
                (self._register[name], term)
                for i, term in enumerate(returns_of(node.op))
                if (name := f"{task.spec.name}/{node.number}.{i}") in self._register
            ]
            for w, target, _, _, picked in outcomes:
                choices = {c.args[0]: x for c, x in zip(node.op.choices, picked, strict=True)}
                own = {r: v[task.slots[r]] for r in task.live[location] if r in task.slots} | {"me": task.number}
                returned = [
                    (i, int(evaluate(t, lambda c: self._cell(c, v), own, choices))) for i, t in returns
                ]  # fmt: skip
                yield [w[i] for i in written], self._uid(number, task, location, which), target, returned

    def _uid(self, number: int, task: TaskModel, location: int, which: int = 0) -> int:
        return self.system.program.uid(number, task.graph.locations[location][which])

    def _ghosts(self, number: int, task: TaskModel, uid: int, target: int, state: State) -> tuple[bool, ...]:
        """The ghosts after a step: what ``Ghost.becomes`` says of the holder's, evaluated on the state before it."""
        if uid not in self._effects:
            step = self.system.program.steps[uid]
            becomes = {g.name: t for g in GHOSTS if (t := g.becomes(step.op, ZONE, self.cpu)) is not None}
            self._effects[uid] = (step in self.system.lock_steps, uid in self.system.holder.inside, becomes)
        takes, holds, becomes = self._effects[uid]
        if not (takes or holds):
            return state.ghosts
        next_uid = OVER if target == RETURNED else self._uid(number, task, target)
        after = self.system.program.steps.get(next_uid)
        if takes or after is None or LOCK not in after.locks:
            return _NO_GHOST
        if not becomes:
            return state.ghosts
        now = {f"holder.{g.name}": x for g, x in zip(GHOSTS, state.ghosts, strict=True)}
        return tuple(
            bool(evaluate(becomes[g.name], lambda c: self._cell(c, state.values), now)) if g.name in becomes else x
            for g, x in zip(GHOSTS, state.ghosts, strict=True)
        )

    def _cell(self, cell: Cell, v: Sequence[int]) -> int:
        constant = self.model.analysis.constant(cell)
        return v[self.model.address[cell]] if constant is None else int(constant)

    # --- the abstraction ---

    def seen_as(self, state: State) -> Iterator[Seen]:
        """The states of the proof that stand for a state: several where the next followed step is not settled yet."""
        v = state.values
        values: dict[str, int] = {str(c): self._cell(c, v) for c in self.system.followed}
        values |= {f"holder.{g.name}": x for g, x in zip(GHOSTS, state.ghosts, strict=True)}
        values |= {name: x for name, i in self._register.items() if (x := state.registers[i]) is not None}
        values |= {"holder.at": NOBODY, "section.at": NOBODY}
        places: list[tuple[str, list[int]]] = []
        system = self.system
        for number, task in enumerate(self.model.tasks):
            location = v[task.location]
            if location == RETURNED:
                continue
            for name in task.parameters:
                if f"{task.spec.name}/{name}" in self.system.variables and name in task.live[location]:
                    values[f"{task.spec.name}/{name}"] = v[task.slots[name]]
            step = system.program.steps[self._uid(number, task, location)]
            if step.kind.worker:
                values["worker.id"] = task.number
                places.append(("worker.at", self._places(system.worker, step, values)))
                continue
            if step.uid in system.holder.inside:
                values["holder.id"] = task.number
                places.append(("holder.at", self._places(system.holder, step, values)))
            if step.uid in system.section.inside:
                values["section.id"] = task.number
                places.append(("section.at", self._places(system.section, step, values)))
        parts, options = [name for name, _ in places], [found for _, found in places]
        for chosen in itertools.product(*options):
            all_values = values | dict(zip(parts, chosen, strict=True))
            yield tuple([all_values.get(name) for name in self.names])

    def _places(self, part: Part, step: Step, values: Mapping[str, int]) -> list[int]:
        """Where a part is whose task is at ``step``: there, or at any followed step that it may come to next."""
        if step.uid in part.steps:
            return [step.uid]
        key = (id(part), step.uid)
        if key not in self._closures:
            self._closures[key] = part.closure(step)
        return [
            NOBODY if target == OVER else target
            for conditions, target in self._closures[key]
            if all(evaluate(c, _no_cell, values) for c in conditions)
        ]

    # --- judging ---

    def refuted(self, lemmas: Mapping[str, Lemma] = LEMMAS) -> list[Refuted]:
        """The lemmas that are false in some state, each with one."""
        found = []
        for name, lemma in lemmas.items():
            state = self.counterexample(self.predicates.lemma(lemma))
            if state is not None:
                found.append(Refuted(name, state))
        return found

    def counterexample(self, formula: Expr) -> Mapping[str, int] | None:
        """A state that is reached and in which a formula is false for some value of what is open in it."""
        mentioned = constants(formula)
        places = [i for i, name in enumerate(self.names) if name in mentioned]
        rows = {tuple([s[i] for i in places]) for s in self.seen}
        variables = [self._variable(self.names[i]) for i in places]
        solver = z3.SimpleSolver()
        solver.add(z3.Not(formula))
        solver.add(disj([_cube(variables, row) for row in rows]))
        if solver.check() == z3.unsat:
            return None
        model = solver.model()
        values = (model.eval(x, model_completion=True) for x in variables)
        return {self.names[i]: _number(x) for i, x in zip(places, values, strict=True)}

    def truths(self, formula: Expr, rows: Sequence[Seen]) -> Iterator[bool]:
        """Whether a formula is true in each of some states, for all values of what is open in it."""
        mentioned = constants(formula)
        places = [i for i, name in enumerate(self.names) if name in mentioned]
        variables = [self._variable(self.names[i]) for i in places]
        solver = z3.SimpleSolver()
        solver.add(z3.Not(formula))
        known: dict[Seen, bool] = {}
        for row in rows:
            key = tuple([row[i] for i in places])
            if key not in known:
                solver.push()
                solver.add(_cube(variables, key))
                known[key] = bool(solver.check() == z3.unsat)
                solver.pop()
            yield known[key]

    def _variable(self, name: str) -> Expr:
        return self.system.worker_id if name == "worker.id" else self.system.variables[name]


def _cube(variables: Iterable[Expr], row: Iterable[int | None]) -> Expr:
    parts = []
    for x, value in zip(variables, row, strict=True):
        if value is not None:
            parts.append(x == (bool(value) if z3.is_bool(x) else int(value)))
    return z3.And(parts)


def _number(value: Expr) -> int:
    return int(z3.is_true(value)) if z3.is_bool(value) else int(value.as_long())


def _no_cell(cell: Cell) -> int:
    raise TypeError(f"a condition reads {cell}")


def _watching(cells: Iterable[Cell]) -> Property:
    """A property that is never violated and looks at all cells, so that the search keeps them apart."""

    def checks(config: Config) -> list[Check]:
        looks = land(*(load(c, CELLS[c.name].sort) == load(c, CELLS[c.name].sort) for c in sorted(cells)))
        return [Check(TRUE, land(looks, load(cpu_taken(0)) < 0), "")]

    return Property("watching", "nothing", "", "always", "", state=checks)


def _footprint(
    transitions: Transitions, task: TaskModel, location: int
) -> tuple[list[int], list[int], dict[Any, Any]]:  # fmt: skip
    """The columns that the operations of a location read or write, those that they write, and a place for outcomes."""
    read: set[int] = set()
    written: set[int] = set()
    for which in range(len(task.graph.locations[location])):
        r, w, _ = transitions.footprint(task, location, which)
        read |= r
        written |= w
    return sorted(read | written), sorted(written), {}
