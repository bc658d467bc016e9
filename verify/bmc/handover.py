"""What a critical section of the followed CPU's pcplist finds in the cells that only such sections write.

They go from section to section: one finds what the one before it left.  How much of that is taken over can be chosen
(``Handed``).  To take over less only adds runs, so what holds then holds; and arithmetic over chains of sections is what a
solver takes longest for.  With "zeros" each section knows of what it finds only whether it is 0, which is what the
guarantees speak of: a predicate abstraction (Graf and Saidi, CAV 1997) of what is handed over, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import z3

from kernelmodel.cells import CELLS, cpu_there, quiet_cells
from kernelmodel.terms import Cell, atoms
from properties.property import Check
from verify.bmc.beginning import Beginning
from verify.bmc.contract import AGGREGATES
from verify.bmc.events import Event, Section, no_atom, topological
from verify.bmc.exclusion import Exclusion
from verify.smt import Expr, all_of, any_of, less, same, translate, variable

#: what a section takes over: nothing (but the sums over CPUs), for each cell whether it is 0, or its value
Handed = Literal["nothing", "zeros", "values"]
#: a value of each cell, as somebody left it
Values = Mapping[Cell, Expr]
#: conditions under which somebody was the last, and what that left in a cell
Way = tuple[list[Expr], Callable[[Cell], Expr]]


class HandOver(Exclusion):
    """The part of an encoding that has cells go from section to section, and that looks at them from outside."""

    handed: Handed
    beginning: Beginning
    #: cells that only sections of one exclusion of the followed CPU write, with that exclusion
    private: dict[Cell, Cell]
    _writers: dict[Cell, list[Event]]
    #: who looks at cells that sections of an exclusion hand over, when, and what is seen
    _looks: dict[tuple[str, Cell], tuple[Event | None, Expr, dict[Cell, Expr]]]

    def _here(self) -> dict[Cell, list[Section]]:
        """The critical sections of the followed CPU's lists, by their exclusion."""
        found: dict[Cell, list[Section]] = {}
        for s in self.sections:
            if s.cpu == self.piece.cpu:
                found.setdefault(s.of, []).append(s)
        return found

    def _private_cells(self) -> dict[Cell, Cell]:
        """The cells that only sections of one exclusion of the followed CPU write, with that exclusion."""
        found = {}
        for c, writers in self._writers.items():
            of = {w.section.of if w.section and w.section.cpu == self.piece.cpu else None for w in writers}
            exclusion = of.pop()
            if exclusion is not None and not of:
                found[c] = exclusion
        return found

    def _private_of(self, section: Section) -> list[Cell]:
        return sorted(c for c, of in self.private.items() if of == section.of) if section.cpu == self.piece.cpu else []

    def _hand_over(self) -> None:
        for mine in self._here().values():
            for s in mine:
                others = [o for o in mine if o is not s]
                entry = {c: v for c, v in s.entry.items() if self.handed != "nothing" or c.name in AGGREGATES}
                before = [o for o in others if not self._is_before(s, o)]
                ways = self._latest(before, partial(self._follows, s), partial(self.precedes, s))
                self.constraints.append(z3.Implies(s.entered, self._one_of(ways, entry, self._taken)))

    def _follows(self, s: Section, o: Section) -> Expr:
        return self.precedes(o, s)

    def _taken(self, found: Expr, left: Expr) -> Expr:
        """``found`` is what was left, as far as that is handed over."""
        if self.handed != "zeros" or not z3.is_int(found):
            return same(found, left)
        zero = z3.IntVal(0)
        return same(same(found, zero), same(left, zero))

    def _latest(
        self, sections: Sequence[Section], over: Callable[[Section], Expr], ahead: Callable[[Section], Expr]
    ) -> Iterator[Way]:
        """The ways in which one of some sections may be the last before a moment, or none.

        ``over`` says that a section that there is is over by then, ``ahead`` that it is still to come.
        """
        yield [self._absent_or(o, ahead(o)) for o in self.foremost(sections)] or [z3.BoolVal(True)], self.beginning
        for o in sections:
            yield [o.entered, over(o), *self._none_between(o, sections, ahead)], o.exit.__getitem__

    def _latest_by(self, sections: Sequence[Section], clock: Expr) -> Iterator[Way]:
        """The same for a moment of a clock."""
        return self._latest(sections, lambda s: self._over(s, clock), lambda s: less(clock, s.first.clock))

    def _one_of(self, ways: Iterable[Way], found: Values, taken: Callable[[Expr, Expr], Expr] = same) -> Expr:
        """One of the ways, and in cells is what it left there."""
        return any_of([all_of([*way, *(taken(v, left(c)) for c, v in found.items())]) for way, left in ways])

    def _none_between(
        self, o: Section, sections: Sequence[Section], ahead: Callable[[Section], Expr]
    ) -> Iterator[Expr]:  # fmt: skip
        rest = [k for k in sections if k is not o and not self._is_before(k, o)]
        after = [k for k in rest if self._is_before(o, k)]
        yield from (self._absent_or(k, ahead(k)) for k in self.foremost(after))
        yield from (self._absent_or(k, self.precedes(k, o), ahead(k)) for k in rest if k not in after)

    def _absent_or(self, s: Section, *ways: Expr) -> Expr:
        return any_of([z3.Not(s.entered), *ways])

    # --- what is assumed ---

    def _assume(self, checks: Sequence[Check]) -> None:
        """Checks over private cells alone, at the entry of each section of the followed CPU."""
        quiet = {c: z3.IntVal(0) for c in quiet_cells(self.config, max(self.piece.cpu, 0))}
        there = {cpu_there(self.piece.cpu): z3.BoolVal(True)}
        for s in self.sections:
            if s.cpu != self.piece.cpu:
                continue
            # what holds while a CPU is there need not hold once it has gone, nor while somebody has its other zone's lists
            gone = s.remote or (not s.stops and s.cpu in self.piece.scenario.comes_and_goes)
            known = {**dict.fromkeys(s.entry), **quiet, **there}
            for check in checks if not gone and set(quiet) == {s.of} else ():
                if {a.args[0] for a in atoms(check.violation, "cell")} <= set(known):
                    entry = {**s.entry, **quiet, **there}
                    holds = z3.Not(translate(check.violation, entry.__getitem__, no_atom, no_atom))
                    self.constraints.append(z3.Implies(s.entered, holds))
            for c, v in s.entry.items():
                if CELLS[c.name].counts_pages and CELLS[c.name].where:
                    self.constraints.append(v >= 0)

    # --- from outside ---

    def _look(self, cell: Cell, clock: Expr, reader: Event | None) -> Expr:
        """The value of a private cell as an operation outside such sections sees it, or the observer (None)."""
        name = "observed" if reader is None else f"{reader.name}.reads"
        seen = self._looks.setdefault((name, self.private[cell]), (reader, clock, {}))[2]
        if cell not in seen:
            seen[cell] = variable(f"{name}.{cell}", CELLS[cell.name].sort)
        return seen[cell]

    def _look_into_sections(self) -> None:
        """What is seen from outside: what the latest section has left, or has come to."""
        for (_, of), (reader, clock, seen) in self._looks.items():
            found = self._one_of(self._seen_ways(self._here().get(of, []), reader, clock, seen), seen)
            self.constraints.append(found if reader is None else z3.Implies(reader.happened, found))

    def _seen_ways(self, mine: Sequence[Section], reader: Event | None, clock: Expr, seen: Values) -> Iterator[Way]:
        yield from self._latest_by(mine, clock)
        for s in mine:
            if reader is None or s.first.task is not reader.task:
                inside = [s.entered, less(s.first.clock, clock), z3.Not(self._over(s, clock))]
                yield inside, self._come_to(s, reader, clock, seen).__getitem__

    def _over(self, s: Section, clock: Expr) -> Expr:
        return all_of([s.over, less(s.clock_end, clock)])

    def _come_to(self, s: Section, reader: Event | None, clock: Expr, seen: Values) -> dict[Cell, Expr]:
        """The cells as a section that is under way has left them so far."""
        now = {c: s.entry[c] for c in seen}
        for w in topological(self.by_task[s.first.task.spec.number]):
            if w.section is not s or not any(c in w.writes for c in seen):
                continue
            done = all_of([w.happened, less(w.clock, clock)])
            now = {c: v if w.after[c] is v else z3.If(done, w.after[c], v) for c, v in now.items()}
            if reader is not None:
                self._keep_apart(w, reader)
            else:
                self.constraints.append(any_of([z3.Not(w.happened), w.clock != clock]))
        return now

    def _keep_apart(self, a: Event, b: Event) -> None:
        """Two operations of different tasks do not happen at one time."""
        raise NotImplementedError
