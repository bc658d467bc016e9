"""Stretches that hold an exclusion in an event graph: which there are, and that those of one exclusion come one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import z3

from kernelmodel.cells import cpu_there, owner
from kernelmodel.config import Config
from kernelmodel.terms import Cell
from verify.bmc.contract import STOPS, TaskGraph
from verify.bmc.events import Event, Events, Section
from verify.bmc.sections import Stretch, stretches, works_on
from verify.bmc.slice import Slice
from verify.smt import Expr


class Exclusion:
    """The part of an encoding that says who keeps whom out."""

    piece: Slice
    config: Config
    constraints: list[Expr]
    events: list[Event]
    by_task: dict[int, Events]
    #: critical sections of pcplists, and stretches with a CPU for oneself; where interrupts off are both, the same ones
    sections: list[Section]
    alone: list[Section]
    #: of sections of tasks that are alike, the one that comes before another if there is the other; by the other's first event
    _twin: dict[Event, Section]
    #: whether one section comes before another, where that is not known
    _precedence: dict[tuple[Event, Event], Expr]

    def _read(self, cell: Cell, e: Event) -> Expr:
        """The value of a cell that an event reads."""
        raise NotImplementedError

    def _earlier(self, e: Event) -> set[int]:
        """Numbers of the nodes from which ``e`` can be reached."""
        raise NotImplementedError

    def _find_sections(self) -> None:
        lists = self.piece.lists
        for task in self.piece.tasks:
            events = self.by_task[task.spec.number]
            for stretch in stretches(task.graph, STOPS):
                self._section(task, events, stretch)
            for stretch in stretches(task.graph, [lists] if lists and lists not in STOPS else []):
                self._section(task, events, stretch)

    def _section(self, task: TaskGraph, events: Events, stretch: Stretch) -> None:
        cpu, of = owner(stretch.of), stretch.of
        assert cpu is not None
        if of.name in STOPS and (mine := self._works_on(task, stretch)) != cpu:
            cpu, of = mine, Cell(of.name, (mine,))
        section = Section(events[stretch.first], of, cpu, [events[n] for n in stretch.ends])
        for number in stretch.nodes:
            if of.name in STOPS:
                events[number].alone = section
            if of.name == self.piece.lists:
                events[number].section = section
        if of.name in STOPS:
            self.alone.append(section)
        if of.name == self.piece.lists:
            self.sections.append(section)
        section.entered = section.first.happened
        if section.first.node.op.does.tries:
            section.entered = z3.Bool(f"{section.first.name}.entered")
        over, end = z3.BoolVal(False), section.first.clock
        for last in section.ends:
            over = z3.Or(over, last.happened)
            end = z3.If(last.happened, last.clock, end)
        section.over, section.clock_end = over, end
        if len(section.ends) == 1:
            section.clock_end = section.ends[0].clock

    def _works_on(self, task: TaskGraph, stretch: Stretch) -> int:
        """The CPU whose lists a stretch with interrupts off works on: its own, but for whoever drains one that has gone.

        Such a section counts as one of that CPU, where nobody else has interrupts off; ``intruded`` is where that is not so.
        """
        return works_on(task.graph, stretch, self.piece.scenario.comes_and_goes)

    def _excludes_by_itself(self, e: Event) -> bool:
        """Whether the guard says nothing that the stretches of its exclusion do not say: it begins or ends one."""
        does = e.node.op.does
        if does.acquires is not None:
            return self._by_stretches(does.acquires)
        return any(e in s.ends for s in (e.alone, e.section) if s is not None)

    def _by_stretches(self, exclusion: Cell) -> bool:
        return exclusion.name in STOPS or exclusion.name == self.piece.lists

    def _every_stretch(self) -> list[Section]:
        return list({id(s): s for s in (*self.sections, *self.alone)}.values())

    def _intruded(self) -> Expr:
        """Some section works on the lists of another CPU while that is there: then it excludes nobody."""
        online = [
            z3.And(s.first.happened, self._read(cpu_there(s.cpu), s.first))
            for s in self.alone
            if s.remote and cpu_there(s.cpu) in self.piece.cells
        ]
        return z3.Or([z3.BoolVal(False), *online])

    def _sections_exclude(self) -> None:
        every = self._every_stretch()
        for a, b in combinations(every, 2):
            # of tasks that are elsewhere nobody knows whether they are at one place, if there are several
            somewhere = a.stops and a.cpu != self.piece.cpu and self.config.nr_cpus > 2
            if a.of == b.of and not (somewhere and a.first.task is not b.first.task):
                for one, other in ((a, b), (b, a)):
                    both = z3.And(one.entered, other.entered, self.precedes(one, other))
                    over = z3.And(one.over, one.clock_end < other.first.clock)
                    self.constraints.append(z3.Implies(both, over))

    def _order_twins(self) -> None:
        """Of tasks that are alike, one that has a later number does nothing before an earlier one has begun."""
        for kind in {t.spec.kind.name: t.spec.kind for t in self.piece.tasks if t.spec.kind.equal}.values():
            twins = [t for t in self.piece.tasks if t.spec.kind is kind]
            for a, b in pairwise(twins):
                one, other = self._beginning(a), self._beginning(b)
                if a.cpu == b.cpu and one is not None and other is not None and one.node.number == other.node.number:
                    begun = z3.And(one.happened, one.clock < other.clock)
                    self.constraints.append(z3.Implies(other.happened, begun))
                    for s in self._every_stretch():
                        if s.first is one:
                            self._twin[other] = s

    def _beginning(self, task: TaskGraph) -> Event | None:
        """An operation that orders a task among those that are alike: its only stretch's first, else its first."""
        events = self.by_task[task.spec.number]
        mine = [s for s in self.alone or self.sections if s.first.task is task]
        if len(mine) == 1:
            return mine[0].first
        entries = {e.target for e in task.graph.entry}
        return events[entries.pop()] if len(entries) == 1 and min(entries) >= 0 else None

    def precedes(self, a: Section, b: Section) -> Expr:
        """Whether ``a`` comes before ``b``, of one exclusion, if there are both: it is the other way round if it does not."""
        if self._is_before(a, b):
            return z3.BoolVal(True)
        if self._is_before(b, a):
            return z3.BoolVal(False)
        known = self._precedence.get((b.first, a.first))
        if known is not None:
            return z3.Not(known)
        key = (a.first, b.first)
        if key not in self._precedence:
            self._precedence[key] = z3.Bool(f"{a.first.name} before {b.first.name}")
        return self._precedence[key]

    def _is_before(self, a: Section, b: Section) -> bool:
        """Whether the tasks say that ``a`` comes before ``b`` if there are both."""
        if a.first.task is b.first.task:
            return a.first.node.number in self._earlier(b.first)
        return any(s is a for s in self._twins_before(b))

    def _twins_before(self, s: Section) -> Iterator[Section]:
        while (before := self._twin.get(s.first)) is not None:
            yield before
            s = before

    def foremost(self, sections: Sequence[Section]) -> list[Section]:
        """Those of some sections that may be the first of them in time: no twin that has to be there comes before them."""
        chosen = {s.first for s in sections if not s.first.node.op.does.tries}
        return [s for s in sections if not any(before.first in chosen for before in self._twins_before(s))]

    def _stay_outside(self) -> None:
        """Who belongs to a CPU does what it does with interrupts on outside the stretches of others there."""
        for e, s in self._beside_sections():
            if e.task.spec.kind.serves or self.config.nr_cpus == 1:
                self.constraints.append(self.outside(e, s))

    def _beside_sections(self) -> Iterator[tuple[Event, Section]]:
        """Operations with interrupts on, and the stretches of other tasks on the CPU where their task is.

        Of operations those that are told apart in time.
        A task that belongs to no CPU may always be on another one, unless there is none.
        """
        only = self.config.nr_cpus == 1
        for e in self.events:
            if e.timed and e.alone is None and (only or e.task.spec.kind.on_lists):
                yield from ((e, s) for s in self.alone if s.cpu == e.task.cpu and s.first.task is not e.task)

    def outside(self, e: Event, s: Section) -> Expr:
        """``e`` does not happen while section ``s`` has the CPU."""
        both = z3.And(e.happened, s.first.happened)
        return z3.Implies(both, z3.Or(e.clock < s.first.clock, z3.And(s.over, s.clock_end < e.clock)))

    def nobody_migrates(self) -> Expr:
        """Every task does what it does with interrupts on where it also disables them."""
        return z3.And([self.outside(e, s) for e, s in self._beside_sections()])
