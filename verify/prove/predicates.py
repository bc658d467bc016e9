"""The control predicates of the lemmas, computed from the text, and the lemmas as Z3 formulas over the state.

``ends`` is what makes a section's future a formula: however the section goes on from a step, a condition holds when it
turns interrupts on.  Its choices and what it reads of the limits are free constants: the formula is meant for all their
values, so a goal leaves them free and a hypothesis may be taken for any (see ``instance``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import z3

from kernelmodel.cells import CELLS, in_pages, stops_others
from kernelmodel.errors import ModelError
from kernelmodel.terms import Cell, Term, atoms
from properties.lemmas import DRAIN_LOCK, Lemma, cell_of
from verify.prove.facts import Facts, Item, computed_item, registers_in, term_of
from verify.prove.roles import ENDS, ProjectionError, Step, hangs, registers
from verify.prove.system import NOBODY, Opener, System, Transition, _no_cell, conj, disj
from verify.smt import Expr, translate, variable


class Predicates:
    """Formulas over the variables of a system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.v = system.variables
        #: the lists, by their names
        self._lists = {str(c): c for c in system.private if CELLS[c.name].where == "pcplist"}
        self.closed, self.least = system.argument.closed, system.argument.least
        #: the sections of the holder of pcp_batch_high_lock itself, where the pcplist has a lock
        self._own = {u: s for u, s in system.holder_steps.items() if system.lock and s.inside}
        self._steps = {**system.section_steps, **system.worker_steps, **self._own}
        self._inside = {u: s for u, s in self._steps.items() if (s.inside if system.lock else s.irqs_off)}
        self._atoms: dict[str, Expr] = {}
        self._ended: dict[Any, Expr] = {}
        self._ending: set[Any] = set()
        self.draining = self._draining()

    # --- sections ---

    def ends(self, uid: int, after: Callable[[Mapping[str, Expr]], Expr], limits: Mapping[str, int] | None) -> Expr:
        """However the section goes on from step ``uid``: ``after`` holds of the private cells at its end."""
        key = uid, after, limits is None
        if key not in self._ended:
            if key in self._ending:
                raise ProjectionError(f"{self._steps[uid].name}: a loop with interrupts off")
            self._ending.add(key)
            self._ended[key] = self._ends(uid, after, limits)
            self._ending.remove(key)
        return self._ended[key]

    def _ends(
        self, uid: int, after: Callable[[Mapping[str, Expr]], Expr], limits: Mapping[str, int] | None
    ) -> Expr:  # fmt: skip
        step, regs = self._steps[uid], self.v
        op = step.op
        private = {str(c): self.v[str(c)] for c in self.system.private}
        if self.system.leaves(op):
            return self._left(step, private, regs, after)
        opener = Opener(f"w{uid}")

        def cell(c: Cell) -> Expr:
            if str(c) in private:
                return private[str(c)]
            if c.name in self.closed and c in self.system.followed:
                if limits is not None:
                    return z3.IntVal(limits[c.name])
                opener.constraints.append(self.read(uid, c) >= self.least[c.name])
                return self.read(uid, c)
            return opener.cell(c)

        def expr(t: Term) -> Expr:
            me = self.v["holder.id" if uid in self._own else "section.id"]
            return translate(t, cell, lambda n: me if n == "me" else regs[n], opener.choice)

        if hangs(op):
            # it hangs here: it does not end
            return z3.BoolVal(False)
        returned = {name: expr(t) for name, t in zip(step.returned, op.returns, strict=True)}
        new_regs = {**regs, **returned}
        # what follows is the same from wherever it is come to, but for what this step has made of the state
        made = {str(c): expr(t) for c, t in op.updates if str(c) in private} | returned
        pairs = [(self.v[name], new) for name, new in made.items() if name in self.v]
        needs = [expr(op.guard), expr(op.where)]
        ways = []
        for conditions, target in step.edges:
            if target in ENDS:
                raise ProjectionError(f"{step.name}: a section ends without turning interrupts on")
            taken = [translate(c, _no_cell, lambda n: new_regs[n], opener.choice) for c in conditions]
            rest = z3.substitute(self.ends(target, after, limits), *pairs)
            ways.append(z3.Implies(conj(taken), rest) if taken else rest)
        needs += opener.constraints
        return z3.Implies(conj(needs), conj(ways))

    def _left(
        self,
        step: Step,
        private: Mapping[str, Expr],
        regs: Mapping[str, Expr],
        after: Callable[[Mapping[str, Expr]], Expr],
    ) -> Expr:
        """``after``, or for the drain's loop: that holds where it is left."""
        if after != self._exits:
            return after(private)
        ways = []
        for conditions, target in step.edges:
            if target in self.system.holder_steps and self.system.enters(self.system.holder_steps[target].op):
                continue
            taken = [translate(c, _no_cell, lambda n: regs[n], _no_choice) for c in conditions]
            ways.append(z3.Implies(conj(taken), self.empty(private)))
        return conj(ways)

    def _exits(self, private: Mapping[str, Expr]) -> Expr:
        return self.empty(private)

    @staticmethod
    def read(uid: int, cell: Cell) -> Expr:
        """The limit that a section reads at a step, whatever it is."""
        return variable(f"w{uid}.any.{cell}", CELLS[cell.name].sort)

    def instance(self, formula: Expr, transition: Transition) -> Expr:
        """A hypothesis for the very limits that a transition reads."""
        u = transition.step.uid
        pairs = [
            (self.read(u, c), self.v[str(c)]) for c in self.system.followed if c.name in self.closed and u in self._inside
        ]  # fmt: skip
        return z3.substitute(formula, *pairs) if pairs else formula

    def length(self, private: Mapping[str, Expr]) -> Expr:
        """Number of pages on the lists."""
        lists = [(self._lists[name], e) for name, e in private.items() if name in self._lists]
        return z3.Sum([in_pages(self.system.config, cell, e) for cell, e in lists])

    def count(self, private: Mapping[str, Expr]) -> Expr:
        """pcp->count."""
        return next(e for name, e in private.items() if name not in self._lists)

    def counted(self, private: Mapping[str, Expr]) -> Expr:
        """count == pages on the lists."""
        return conj(
            self.count(private) == self.length(private),
            *(e >= 0 for name, e in private.items() if name in self._lists),
        )

    def empty(self, private: Mapping[str, Expr]) -> Expr:
        """No page on the lists, and count 0."""
        return conj(self.length(private) == 0, self.count(private) == 0)

    def _everywhere(self, steps: Mapping[int, Step], what: Callable[[int], Expr]) -> Expr:
        return conj([z3.Implies(self._at(u), what(u)) for u in steps])

    def _at(self, uid: int) -> Expr:
        name = "worker.at" if uid in self.system.worker_steps else "holder.at" if uid in self._own else "section.at"
        return self.v[name] == uid

    def _draining(self) -> set[int]:
        """Steps of the worker's, or the holder's, sections that leave empty lists where they are left for good.

        Whatever the limits, if they begin with a right count.
        """
        worker = {**self.system.worker_steps, **(self.system.holder_steps if self.system.lock else {})}
        what = self._exits if self.system.lock else self.empty
        found: dict[int, bool] = {}
        for s in worker.values():
            if not self.system.enters(s.op):
                continue
            first = [t for _, t in s.edges if t in self._steps]
            private = {str(c): self.v[str(c)] for c in self.system.private}
            solver = z3.Solver()
            solver.add(self.counted(private), z3.Not(conj([self.ends(t, what, None) for t in first])))
            drains = solver.check() == z3.unsat
            todo = list(first)
            seen: set[int] = set()
            while todo:
                u = todo.pop()
                if u not in seen:
                    seen.add(u)
                    found[u] = found.get(u, True) and drains
                    if not self.system.leaves(worker[u].op):
                        todo += [t for _, t in worker[u].edges]
        return {u for u, drains in found.items() if drains}

    # --- the worker ---

    def _will_drain(self, uid: int, regs: Mapping[str, Expr], seen: frozenset[int]) -> Expr:
        """On each way on from a step, before the end of the item, a draining section begins."""
        step = self.system.worker_steps[uid]
        if uid in seen or step.op.does.ends or step.op.does.begins:
            return z3.BoolVal(False)
        if stops_others(step.op.does.acquires) and all(t in self.draining for _, t in step.edges):
            return z3.BoolVal(True)
        returned = {}
        for name, t in zip(step.returned, step.op.returns, strict=True):
            private = any(
                c in self.system.private or c.name in self.closed for c in (a.args[0] for a in atoms(t, "cell"))
            )
            returned[name] = variable(f"w{uid}.any.{name}", t.sort) if private else self._plain(t, regs)
        new = {**regs, **returned}
        ways = []
        for conditions, target in step.edges:
            taken = [translate(c, _no_cell, lambda n: new[n], _no_choice) for c in conditions]
            ways.append(z3.Implies(conj(taken), self._will_drain(target, new, seen | {uid})))
        return conj(ways)

    def _plain(self, term: Term, regs: Mapping[str, Expr]) -> Expr:
        opener = Opener("any")

        def cell(c: Cell) -> Expr:
            found = self.system.cell(c)
            return opener.cell(c) if found is None else found

        return translate(term, cell, lambda n: regs[n], opener.choice)

    # --- the holder ---

    def _text_says(self, wanted: Callable[[Facts], Expr]) -> Expr:
        """At each step of the holder: what each way to it gives, if it is the way that was taken."""
        cases = []
        for uid, ways in self.system.facts.items():
            at = self.v["holder.at"] == uid
            for split, facts in ways.items():
                said = wanted(facts)
                if not z3.is_true(said):
                    cases.append(z3.Implies(conj(at, self._split(split)), said))
        return conj(cases)

    def _progress(self) -> Expr:
        """The holder is at a step of its text, and has come there on one of the ways."""
        at = self.v["holder.at"]
        ways = [conj(at == uid, disj([self._split(s) for s in ways])) for uid, ways in self.system.facts.items()]
        nothing = conj([z3.Not(self.v[f"holder.{g}"]) for g in self.system.ghosts])
        return disj(conj(at == NOBODY, nothing), *ways)

    def _split(self, split: tuple[int | bool | None, ...]) -> Expr:
        names = [f"holder.{g}" for g in self.system.ghosts] + [f"cpu_online[{self.system.cpu}]"]
        return conj([self.v[n] == bool(s) for n, s in zip(names, split, strict=True) if s is not None])

    def _equal(self, facts: Facts, wanted: Callable[[Item], bool]) -> Expr:
        """The equalities of the wanted items with others."""
        parts = []
        for group in facts.groups():
            # a known value says it all; else a lemma would speak of cells that happen to have the same
            values = [i for i in group if i[0] in ("const", "me")]
            others = sorted(values or group, key=str)
            for item in sorted((i for i in group if wanted(i)), key=str):
                parts += [self._item(item) == self._item(o) for o in others if o != item and self._known(o)]
        return conj(parts) if parts else z3.BoolVal(True)

    def _known(self, item: Item) -> bool:
        if item[0] == "reg":
            return item[1] in self.v
        if item[0] == "computed":
            return all(name in self.v for name in registers_in(item))
        return item[0] != "cell" or item[1] in self.system.followed

    def _item(self, item: Item) -> Expr:
        term = term_of(item, self._sort)
        return translate(
            term, lambda c: self.v[str(c)], lambda n: self.v["holder.id"] if n == "me" else self.v[n], _no_choice
        )

    def _sort(self, item: Item) -> str:
        if isinstance(item[1], Cell):
            return CELLS[item[1].name].sort
        return "bool" if z3.is_bool(self.v[str(item[1])]) else "int"

    def _ranges(self, facts: Facts) -> Expr:
        written: dict[Item, int] = {}
        for s in self.system.holder_steps.values():
            for c, t in s.op.updates:
                if c in self.system.followed and c.name in self.least:
                    for item in filter(self._known, _chosen(t)):
                        written[item] = max(written.get(item, 0), self.least[c.name])
        return conj([self._item(i) >= low for i, low in written.items() if _defined(i, facts)])

    # --- all of them ---

    def atom(self, name: str) -> Expr:
        """A control predicate, ghost or task of the lemmas by name."""
        if name not in self._atoms:
            self._atoms[name] = self._make(name)
        return self._atoms[name]

    def _make(self, name: str) -> Expr:
        system, v = self.system, self.v
        busy = [u for u, s in system.worker_steps.items() if s.irqs_off]
        in_worker = disj([v["worker.at"] == u for u in busy])
        in_own = disj([v["holder.at"] == u for u in self._own])
        if name in v and name not in ("section.id",):
            return v[name]
        if name.startswith("text:"):
            return self._text(name.removeprefix("text:"))
        made: dict[str, Callable[[], Expr]] = {
            "holder": lambda: v["holder.at"] != NOBODY,
            "section": lambda: disj(v["section.at"] != NOBODY, in_worker, in_own),
            "section.id": lambda: z3.If(
                in_worker, system.worker_id, z3.If(in_own, v["holder.id"], v["section.id"])
            ),
            "section.one": lambda: conj(
                disj(v["section.at"] == NOBODY, z3.Not(disj(in_worker, in_own))),
                self._somewhere("section.at", system.section_steps),
                self._somewhere("worker.at", system.worker_steps, False) if system.argument.worker else z3.BoolVal(True),
                z3.Implies(conj(v["holder.at"] != NOBODY, v["section.at"] != NOBODY), v["section.id"] != v["holder.id"])
                if system.lock else z3.BoolVal(True),
                z3.Implies(v["section.at"] != NOBODY, v["section.id"] > 0),
            ),
            "section.leaves_counted": lambda: self._everywhere(self._inside, lambda u: self.ends(u, self.counted, None)),
            "section.leaves_empty": lambda: self._everywhere(self._inside, lambda u: self.ends(u, self.empty, self.closed)),
            "drain.exits_empty": lambda: self._everywhere(
                {u: s for u, s in self._own.items() if u in self.draining}, lambda u: self.ends(u, self._exits, None)
            ),
            "worker.busy": lambda: v["worker.at"] != system.worker_idle,
            "worker.will_drain": lambda: disj([
                conj(v["worker.at"] == u, self._will_drain(u, v, frozenset()))
                for u, s in system.worker_steps.items() if not s.irqs_off and u != system.worker_idle
            ]),
            "worker.draining": lambda: disj([v["worker.at"] == u for u in sorted(self.draining)]),
            "worker.leaves_empty": lambda: self._everywhere(
                {u: system.worker_steps[u] for u in sorted(self.draining)}, lambda u: self.ends(u, self.empty, None)
            ),
        }  # fmt: skip
        return made[name]()

    def _somewhere(self, name: str, steps: Mapping[int, Step], nobody: bool = True) -> Expr:
        return disj([self.v[name] == u for u in steps] + ([self.v[name] == NOBODY] if nobody else []))

    def _text(self, what: str) -> Expr:
        if what == "progress":
            return self._progress()
        if what == "ranges":
            return self._text_says(self._ranges)
        if what == "drain lock":
            held = [u for u, s in self.system.holder_steps.items() if DRAIN_LOCK in s.locks]
            drain = self.v[f"mutex[{DRAIN_LOCK}]"]
            at = self.v["holder.at"]
            return z3.Implies(disj([at == u for u in held]), drain == self.v["holder.id"])
        if what == "registers":
            return self._text_says(lambda f: self._equal(f, lambda i: i[0] == "reg" and i[1] in self.v))
        cell = cell_of(what, self.system.zone, self.system.cpu)
        if cell not in self.system.followed:
            # it would say nothing, and a lemma would be weaker than it reads
            raise ModelError(f"a lemma speaks of what a text knows of {cell}, which the proof does not follow")
        return self._text_says(lambda f: self._equal(f, lambda i: i == ("cell", cell)))

    def formula(self, term: Term) -> Expr:
        """A term of the lemmas, or of a property, over the state."""
        return self.formula_with(term, {})

    def formula_with(self, term: Term, given: Mapping[str, Expr]) -> Expr:
        """A term over the state, with the values of some registers."""
        opener = Opener("state")

        def cell(c: Cell) -> Expr:
            found = self.system.cell(c)
            return opener.cell(c) if found is None else found

        sorts = registers([term])

        def register(name: str) -> Expr:
            if name in given:
                return given[name]
            if name in self.system.program.defined_by and name not in self.v:
                # a value that nobody follows may be any
                return variable(f"open.{name}", sorts[name])
            return self.atom(name)

        return translate(term, cell, register, opener.choice)

    def lemma(self, lemma: Lemma) -> Expr:
        """A lemma over the state."""
        return self.formula(lemma.term(self.system.config, self.system.zone, self.system.cpu))

    def lemmas(self) -> dict[str, Expr]:
        """All lemmas over the state."""
        return {name: self.lemma(lemma) for name, lemma in self.system.argument.lemmas.items()}


def _no_choice(term: Term) -> Expr:
    raise TypeError(f"{term!r}: a condition chooses")


def _chosen(term: Term) -> list[Item]:
    """The numbers of which a term is one."""
    if term.op == "ite":
        return [*_chosen(term.args[1]), *_chosen(term.args[2])]
    item: Item | None = ("reg", term.args[0]) if term.op == "reg" else computed_item(term)
    return [] if item is None else [item]


def _defined(item: Item, facts: Facts) -> bool:
    """Whether the holder has come to where the registers of an item get their values."""
    names = [item[1]] if item[0] == "reg" else registers_in(item)
    return all(("reg", n) in facts.classes for n in names)
