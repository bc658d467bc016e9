"""The transition system of the proof: variables, and one transition for each operation of each part.

A state is: which step the holder, the section on the tracked CPU and the worker are at; the values they carry in
registers; the followed cells; the ghosts.  Everything else is open: a read of it gives any value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import z3

from kernelmodel import tasks
from kernelmodel.cells import CELLS, cpu_there, stops_on
from kernelmodel.mmzone import MigrateType
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, reg, visit
from kernelmodel.text import KernelText
from properties.lemmas import DRAIN_LOCK, LOCK, NOTHING_WHEN_UNLOCKED, cell_of
from verify.ordering.loosened import Loose
from verify.prove.facts import Facts, Item, Setting, Split, constant, holder_facts
from verify.prove.parts import Parts
from verify.prove.population import Size, Text
from verify.prove.roles import OVER, Step, cells, hangs, registers
from verify.smt import Expr, all_of, any_of, translate, variable

NOBODY = 0
HOLDER, SECTION, WORKER, OTHER = "holder", "section", tasks.WORKER.name, "other"


@dataclass(slots=True, eq=False)
class Transition:
    """One operation of one part: what it needs and what it changes, as Z3 expressions over the state.

    ``leads_to``: the variable that says where the part is, and the numbers that it may have afterwards.
    """

    part: str
    step: Step
    label: str
    me: Expr
    needs: list[Expr]
    changes: dict[str, Expr]
    leads_to: tuple[str, tuple[int, ...]] = ("", ())

    @property
    def test_id(self) -> str:
        """A name that stays the same as long as the text does."""
        return self.label


@dataclass(slots=True)
class Opener:
    """Names for what is open in one transition, with the constraints on it."""

    prefix: str
    constraints: list[Expr] = field(default_factory=list)

    def cell(self, cell: Cell) -> Expr:
        """The open value of a cell."""
        kind = CELLS[cell.name]
        made = variable(f"{self.prefix}.{cell}", kind.sort)
        if kind.values == "type":
            self.constraints += [made >= 0, made <= max(MigrateType)]
        elif kind.least < 0:
            self.constraints.append(made >= kind.least)
        return made

    def choice(self, term: Term) -> Expr:
        """The open value of a choice."""
        return variable(f"{self.prefix}.{term.args[0]}", term.sort)


class System(Parts):
    """Variables and transitions of one kernel."""

    def __init__(
        self, kernel: type[KernelText], size: Size | None = None, population: Sequence[Text] | None = None,
        judged: Callable[[Op], bool] = lambda _: False, loose: Loose | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel, size, population, judged, loose)
        self.judged = judged
        self.facts: dict[int, dict[Split, Facts]] = self._facts()
        self.variables: dict[str, Expr] = {}
        self._declare()
        self.transitions: list[Transition] = []
        self._labels: dict[str, int] = {}
        self._make()

    def _facts(self) -> dict[int, dict[Split, Facts]]:
        z, c = self.zone, self.cpu
        protected = {cell_of(name, z, c): m for name, m in self.argument.protected.items()}
        equal: list[tuple[Item, Item]] = [
            (("cell", cell_of(a, z, c)), ("cell", cell_of(b, z, c))) for a, b in self.argument.when_unlocked
        ]
        equal += [(("cell", cell_of(n, z, c)), constant(x)) for n, x in NOTHING_WHEN_UNLOCKED.items()]
        equal += [(("reg", f"holder.{g}"), constant(False)) for g in self.ghosts]
        ghosts: dict[str, Callable[[Step], Term | None]] = {
            f"holder.{g.name}": (lambda s, g=g: g.becomes(s.op, z, c))  # type: ignore[misc]
            for g in self.argument.ghosts
        }
        closed = {cell_of(name, z, c): v for name, v in self.argument.closed.items()}
        after = {f"holder.{g.name}" for g in self.argument.ghosts if g.after_section}
        first = [(t, s.locks) for s in self.lock_steps for _, t in self.holder.closure(s)]
        return holder_facts(
            self.holder_steps, first,
            Setting(protected, [cpu_there(c)], ghosts, equal, after, closed, self._ends_drain, self.enters),
        )  # fmt: skip

    def _ends_drain(self, step: Step) -> bool:
        """Whether a step of the holder ends a section of its own in which no page comes to the pcplist."""
        if self.lock is None or not self.leaves(step.op):
            return False
        before: dict[int, list[int]] = {}
        for s in self.holder_steps.values():
            for _, target in s.edges:
                before.setdefault(target, []).append(s.uid)
        queue, seen = [step.uid], {step.uid}
        while queue:
            for uid in before.get(queue.pop(), ()):
                does = self.holder_steps[uid].op.does
                if does.lists is not None and not does.takes:
                    return False
                if uid not in seen and not self.enters(self.holder_steps[uid].op):
                    queue.append(uid)
                seen.add(uid)
        return True

    def _drained(self, step: Step, target: Expr, ghost: str) -> Expr:
        """The ghost after a section of the holder's drain: true if that is not begun again, and the limits are closed."""
        again = [t for _, t in step.edges if t in self.holder_steps and self.enters(self.holder_steps[t].op)]
        limits = [self.variables[str(cell_of(n, self.zone, self.cpu))] == v for n, v in self.argument.closed.items()]
        return disj(self.variables[f"holder.{ghost}"], conj(*[target != t for t in again], *limits))

    def _brought_in(self, step: Step) -> list[str]:
        """What the section that the holder begins at a step uses and has from before: not followed up to there."""
        inside: dict[int, Step] = {}
        queue = [t for _, t in step.edges if t in self.holder_steps and self.holder_steps[t].inside]
        while queue:
            uid = queue.pop()
            if uid not in inside:
                inside[uid] = self.holder_steps[uid]
                if not self.leaves(inside[uid].op):
                    queue += [t for _, t in inside[uid].edges if t in self.holder_steps and self.holder_steps[t].inside]
        return self._from_before(inside.values(), step)

    # --- variables ---

    def _declare(self) -> None:
        v = self.variables
        for cell in sorted(self.followed, key=str):
            v[str(cell)] = variable(str(cell), CELLS[cell.name].sort)
        for name in ("holder.at", "holder.id", "section.at", "section.id", "worker.at"):
            v[name] = z3.Int(name)
        for g in self.ghosts:
            v[f"holder.{g}"] = z3.Bool(f"holder.{g}")
        for part in (self.holder, self.section, self.worker):
            for name, sort in sorted(part.needed.items()):
                v[name] = variable(name, sort)
        #: the tracked CPU's worker as a task
        self.worker_id = z3.Int("worker.id")

    def cell(self, cell: Cell) -> Expr | None:
        """The variable of a followed cell."""
        return self.variables.get(str(cell)) if cell in self.followed else None

    # --- transitions ---

    def _make(self) -> None:
        for s in self.section_entries:
            self._add_section_entry(s)
        for s in self.section_steps.values():
            self._add(SECTION, s, self.variables["section.id"], "section.at")
        for s in self.worker_steps.values():
            self._add(WORKER, s, self.worker_id, "worker.at")
        for s in self.holder_steps.values():
            self._add(HOLDER, s, self.variables["holder.id"], "holder.at")
        seen: set[Any] = set()
        for s in self.program.steps.values():
            self._add_other(s, seen)

    def _label(self, part: str, step: Step) -> str:
        text = f"{part}: {step.name}"
        self._labels[text] = n = self._labels.get(text, 0) + 1
        return text if n == 1 else f"{text} ({n})"

    def expressions(self, opener: Opener, me: Expr, known: Mapping[str, Expr]) -> Callable[[Term], Expr]:
        """Translates terms: followed cells and known registers by their variables, all else open."""

        def cell(c: Cell) -> Expr:
            found = self.cell(c)
            return opener.cell(c) if found is None else found

        def register(name: str) -> Expr:
            if name == "me":
                return me
            return known[name] if name in known else self.carried(name, opener, me)

        return lambda term: translate(term, cell, register, opener.choice)

    def carried(self, name: str, opener: Opener, me: Expr) -> Expr:
        """A register from before a part was taken up: the value that its operation gave at some time in the past."""
        key = f"{opener.prefix}~{name}"
        if name in self.program.inputs:
            low, high = self.program.inputs[name]
            made = z3.Int(key)
            opener.constraints += [made >= low, made <= high]
            return made
        step, term = self.program.defined_by[name]
        past = Opener(f"{key}@")
        if any(c in self.followed for c in cells([term])):
            past.constraints += self._past_ranges(term, past)

        def cell(c: Cell) -> Expr:
            return past.cell(c)

        def register(other: str) -> Expr:
            return me if other == "me" else self.carried(other, opener, me)

        value = translate(term, cell, register, past.choice)
        opener.constraints.append(translate(step.op.where, cell, register, past.choice))
        opener.constraints += past.constraints
        made = variable(key, term.sort)
        opener.constraints.append(made == value)
        return made

    def _past_ranges(self, term: Term, past: Opener) -> list[Expr]:
        least = self.argument.least
        return [past.cell(c) >= least[c.name] for c in cells([term]) if c.name in least]

    def _add_section_entry(self, step: Step) -> None:
        opener = Opener(f"e{step.uid}")
        me = z3.Int(f"{opener.prefix}.me")
        edges = self.section.closure(step)
        tr = self.expressions(opener, me, {})
        changes: dict[str, Expr] = {str(c): tr(t) for c, t in step.op.updates if c in self.followed}
        changes["section.id"] = me
        got = z3.BoolVal(True)
        if step.op.does.tries:
            # a try that fails changes nothing, and begins nothing
            got = tr(step.op.returns[0])
            edges = [
                (tuple(c for c in cs if c.key != reg(step.returned[0], "bool").key), t) for cs, t in edges if t != OVER
            ]
        for name in self._from_before(self.section.reachable(t for _, t in edges).values()):
            changes[name] = self.carried(name, opener, me)
        for conditions, _ in edges:
            for name in registers(conditions):
                changes.setdefault(name, self.carried(name, opener, me))
        regs = {**self.variables, **changes}
        changes["section.at"], taken, targets = self._next(
            edges, lambda t: translate(t, _no_cell, lambda n: regs[n], opener.choice)
        )
        needs = [me > 0, me != self.worker_id, tr(step.op.guard), got, taken, *opener.constraints]
        if self.lock:
            needs.append(z3.Implies(self.variables["holder.at"] != NOBODY, me != self.variables["holder.id"]))
        label = self._label(SECTION, step)
        self.transitions.append(Transition(SECTION, step, label, me, needs, changes, ("section.at", targets)))

    def _next(self, edges: Any, tr: Callable[[Term], Expr], over: int = NOBODY) -> tuple[Expr, Expr, tuple[int, ...]]:
        """Where the part goes, as a number, that one of the ways is open, and the numbers that the first may be then.

        Ways that nothing tells apart are chosen.
        """
        groups: dict[Any, list[int]] = {}
        terms: dict[Any, tuple[Term, ...]] = {}
        for conditions, target in edges:
            key = frozenset(c.key for c in conditions)
            groups.setdefault(key, []).append(over if target == OVER else target)
            terms[key] = conditions
        pick = z3.Int("pick")
        options = [
            conj(*(tr(c) for c in terms[key]), pick == t) for key, targets in groups.items() for t in targets
        ]  # fmt: skip
        if len(options) == 1 and not next(iter(groups)):
            only = next(iter(groups.values()))[0]
            return z3.IntVal(only), z3.BoolVal(True), (only,)
        return pick, disj(options), tuple(sorted({t for targets in groups.values() for t in targets}))

    def _add(self, part: str, step: Step, me: Expr, at: str) -> None:
        if hangs(step.op):
            return
        # what a section chooses has the names that the lemmas about its end give it
        inside = part in (SECTION, WORKER) or (self.lock is not None and step.inside)
        opener = Opener(f"w{step.uid}" if inside else f"t{step.uid}")
        tr = self.expressions(opener, me, self.variables)
        changes = {str(c): tr(t) for c, t in step.op.updates if c in self.followed}
        for name, t in zip(step.returned, step.op.returns, strict=True):
            if name in self.variables:
                changes[name] = tr(t)
        if part == HOLDER and self.lock is not None and self.enters(step.op):
            changes |= {name: self.carried(name, opener, me) for name in self._brought_in(step)}
        after = {**self.variables, **changes}
        changes[at], taken, targets = self._next(
            step.edges, lambda t: translate(t, _no_cell, lambda n: after[n], opener.choice)
        )
        needs = [self.variables[at] == step.uid, tr(step.op.guard), tr(step.op.where), taken, *opener.constraints]
        if part == HOLDER:
            for g in self.argument.ghosts:
                new = g.becomes(step.op, self.zone, self.cpu)
                if new is not None:
                    changes[f"holder.{g.name}"] = tr(new)
                elif g.after_section and self._ends_drain(step):
                    changes[f"holder.{g.name}"] = self._drained(step, changes[at], g.name)
            self._leaving(step, changes)
        self.transitions.append(Transition(part, step, self._label(part, step), me, needs, changes, (at, targets)))

    def _leaving(self, step: Step, changes: dict[str, Expr]) -> None:
        if any(t == OVER for _, t in step.edges):
            for g in self.argument.ghosts:
                changes[f"holder.{g.name}"] = conj(changes["holder.at"] != NOBODY, changes.get(
                    f"holder.{g.name}", self.variables[f"holder.{g.name}"]))  # fmt: skip

    def _add_other(self, step: Step, seen: set[Any]) -> None:
        if self.lock:
            if (
                step.uid in self.holder.inside
                or step.inside
                or self.lock in (step.op.does.acquires, step.op.does.releases)
            ):
                return
        elif LOCK in step.locks or step.kind.worker or step.irqs_off:
            own = step.uid in self.holder.inside or step.kind.worker or step.kind.cpu == self.cpu
            if own:
                return
        if not self.lock and stops_on(step.op.does.acquires or step.op.does.releases, self.cpu):
            return
        updates = [(c, t) for c, t in step.op.updates if c in self.followed]
        judged = not updates and self.judged(step.op)
        if not updates and not judged:
            return
        held = tuple(
            sorted((tuple(_nameless(c) for c in cs), tuple(sorted(self._locks(t)))) for cs, t in step.edges)
        )  # fmt: skip
        key = (tuple((str(c), _nameless(t)) for c, t in updates), step.locks, _nameless(step.op.guard), held,
               step.op.tag if judged else "")  # fmt: skip
        takes = step in self.lock_steps
        if not takes and key in seen:
            return
        seen.add(key)
        opener = Opener(f"o{step.uid}")
        me = z3.Int(f"{opener.prefix}.me")
        tr = self.expressions(opener, me, {})
        changes = {str(c): tr(t) for c, t in updates}
        v = self.variables
        needs = [me > 0, me != self.worker_id, z3.Implies(v["holder.at"] != NOBODY, me != v["holder.id"]), tr(step.op.guard),
                 tr(step.op.where)]  # fmt: skip
        needs += [v[f"mutex[{m}]"] == me for m in step.locks if f"mutex[{m}]" in v]
        if self.lock:
            # who is in a section does nothing else
            needs.append(z3.Implies(v["section.at"] != NOBODY, me != v["section.id"]))
        moves: tuple[str, tuple[int, ...]] = ("", ())
        if takes:
            changes["holder.id"] = me
            edges = self.holder.closure(step)
            entering = {n: self.carried(n, opener, me) for n in self._live_at_entry(edges)}
            changes |= entering
            after = {**v, **changes}
            changes["holder.at"], taken, targets = self._next(
                edges, lambda t: translate(t, _no_cell, lambda n: after[n], opener.choice)
            )
            moves = ("holder.at", targets)
            needs.append(taken)
            for g in self.argument.ghosts:
                changes[f"holder.{g.name}"] = z3.BoolVal(False)
        needs += opener.constraints
        self.transitions.append(Transition(OTHER, step, self._label(OTHER, step), me, needs, changes, moves))

    def _locks(self, uid: int) -> frozenset[str]:
        step = self.program.steps.get(uid)
        return step.locks if step else frozenset()

    def locks_after(self, transition: Transition) -> Expr:
        """Each mutex that another task holds stays its own; each that the text says to be held afterwards is."""
        step, me = transition.step, transition.me
        someone = z3.Int("someone")
        parts = []
        for m in (LOCK, DRAIN_LOCK):
            name = f"mutex[{m}]"
            new = transition.changes.get(name)
            if new is None:
                continue
            parts.append(z3.Implies(conj(self.variables[name] == someone, someone > 0, someone != me), new == someone))
            if transition.part == OTHER:
                opener = Opener(f"o{step.uid}")
                tr = self.expressions(opener, me, {})
                returned = {name: tr(t) for name, t in zip(step.returned, step.op.returns, strict=True)}

                def register(name: str, returned: Mapping[str, Expr] = returned) -> Expr:
                    return returned[name] if name in returned else variable(f"open.{name}", "bool")

                for conditions, target in step.edges:
                    if m in self._locks(target):
                        taken = [translate(c, _no_cell, register, opener.choice) for c in conditions]
                        parts.append(z3.Implies(conj(taken), new == me))
        return conj(parts)

    def _live_at_entry(self, edges: Any) -> list[str]:
        return self._from_before(self.holder.reachable(t for _, t in edges).values())

    def _from_before(self, inside: Iterable[Step], *beginning: Step) -> list[str]:
        """The variables that some steps use and none of them, nor the step that they begin with, has defined."""
        inside = list(inside)
        defined = {name for s in (*beginning, *inside) for name in s.returned}
        names = registers([t for s in inside for t in (*self._terms(s.op), *(c for cs, _ in s.edges for c in cs))])
        return sorted(n for n in names if n in self.variables and n not in defined)


def conj(*parts: Expr | Sequence[Expr]) -> Expr:
    """A conjunction, true when empty: what has no parts is no SMT-LIB."""
    flat = _flat(parts)
    return all_of(flat) if len(flat) > 1 else flat[0] if flat else z3.BoolVal(True)


def disj(*parts: Expr | Sequence[Expr]) -> Expr:
    """A disjunction, false when empty."""
    flat = _flat(parts)
    return any_of(flat) if len(flat) > 1 else flat[0] if flat else z3.BoolVal(False)


def _flat(parts: Sequence[Expr | Sequence[Expr]]) -> list[Expr]:
    return [e for part in parts for e in (part if isinstance(part, (list, tuple)) else [part])]


def _no_cell(cell: Cell) -> Expr:
    raise TypeError(f"a condition reads {cell}")


def _nameless(term: Term) -> str:
    """A term without the names of registers: two operations that differ in nothing else are open in the same way."""

    def leaf(atom: Term) -> str:
        return atom.sort if atom.op == "reg" and atom.args[0] != "me" else f"{atom.op}({atom.args[0]})"

    return visit(term, leaf, lambda t, parts: f"{t.op}({','.join(parts)})")
