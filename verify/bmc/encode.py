"""A slice as an event graph in Z3: one clock and one truth value ("it happened") per operation, reads from writes.

Every task is a prefix of a path through its control graph.  An operation happens after its predecessor; stretches that
hold one exclusion, interrupts off on a CPU or the lock of a pcplist, exclude each other; a read takes the value of the
latest write before it.  Cells that only critical sections of the followed CPU's pcplist write are handed from section to
section; the rest goes from event to event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import combinations

import z3

from kernelmodel.cells import CELLS, cpu_there, quiet_cells
from kernelmodel.terms import Cell, Term, atoms
from properties.property import Check
from verify.bmc.beginning import Beginning, typed
from verify.bmc.contract import AGGREGATES, TaskGraph
from verify.bmc.events import Event, Events, no_atom, topological
from verify.bmc.handover import Handed, HandOver
from verify.bmc.slice import Slice, finishes
from verify.smt import Expr, all_of, any_of, less, literal, same, translate, variable


class Encoding(HandOver):
    """The constraints of a slice.  ``violated`` is what must be unsatisfiable with them, ``reached`` what must not be."""

    def __init__(
        self, piece: Slice, known: Mapping[Cell, int], assumed: Sequence[Check] = (), zero_before: Collection[str] = (),
        handed: Handed = "values",
    ) -> None:  # fmt: skip
        """Build all constraints; nothing is solved here.

        ``assumed`` are checks of this CPU that hold whenever its interrupts are on, so also when a section begins.  A
        check may be assumed for its own proof: the first moment at which it fails comes after sections that began well.
        ``zero_before`` names cells that operations read as 0, for the proof that they never are anything else: up to the
        first operation that changes this, it is.  ``handed``: what a section takes over from the one before it; less is
        more runs, and a simpler question.
        """
        self.piece, self.known, self.zero_before, self.handed = piece, known, zero_before, handed
        self.config = piece.config
        self.constraints = []
        self.events = []
        self.by_task = {}
        self.sections = []
        self.alone = []
        self.parameters: dict[str, Expr] = {}
        self.elsewhere: dict[tuple[str, Cell], Expr] = {}
        self._writers = {}
        self._apart: set[tuple[int, int]] = set()
        self._order: dict[tuple[int, int], Expr] = {}
        self._looks = {}
        self._twin = {}
        self._precedence = {}
        self._incoming_ways: dict[int, dict[int, list[tuple[Event | None, tuple[Term, ...]]]]] = {}
        self._ancestors: dict[int, dict[int, set[int]]] = {}
        self.beginning = Beginning(piece, self.parameters, self.constraints)
        self.time = z3.Int("T")
        for task in piece.tasks:
            self._events_of(task)
        self._find_sections()
        self._find_writers()
        self.private = self._private_cells()
        self.local = self._task_local_cells()
        self._order_twins()
        self._sections_exclude()
        for events in self.by_task.values():
            for e in topological(events):
                self._values(e)
            self._control(events)
        for s in self.sections:
            cells = self._private_of(s)
            s.exit = {c: self._pick([(e, e.after[c]) for e in s.ends]) if s.ends else s.entry[c] for c in cells}
        self._hand_over()
        self._assume(assumed)
        self.violated, self.reached = self._judge()
        self.intruded = self._intruded()
        self._define_written()
        self._look_into_sections()
        self._stay_outside()
        self._order_tasks()
        # a run may stop anywhere, so what comes after the moment of the violation need not happen
        self.until = z3.And([z3.Implies(e.happened, e.moment <= self.time) for e in self.events if e.timed])
        self.finished = z3.And([self._finish(t) for t in piece.tasks if not t.spec.kind.serves] or [True])

    # --- tasks and their order ---

    def _events_of(self, task: TaskGraph) -> None:
        events = {}
        for node in task.graph.nodes:
            name = f"{task.spec.name}.{node.number}"
            events[node.number] = Event(task, node, z3.Bool(f"{name}.happened"), z3.Int(f"{name}.clock"))
        for register, least, greatest in task.spec.parameters:
            p = self.parameters[register] = z3.Int(register)
            self.constraints.append(z3.And(least <= p, p <= greatest))
        self.by_task[task.spec.number] = events
        self.events += events.values()

    def _incoming(self, events: Events) -> dict[int, list[tuple[Event | None, tuple[Term, ...]]]]:
        task = next(iter(events.values())).task
        incoming: dict[int, list[tuple[Event | None, tuple[Term, ...]]]] = {n: [] for n in events}
        for edge in task.graph.entry:
            if edge.target >= 0:
                incoming[edge.target].append((None, edge.conditions))
        for e in events.values():
            for edge in e.node.edges:
                if edge.target >= 0:
                    incoming[edge.target].append((e, edge.conditions))
        return incoming

    def _control(self, events: Events) -> None:
        if not events:
            return
        task = next(iter(events.values())).task.spec.number
        for number, ways in self._ways(task).items():
            e = events[number]
            reasons = []
            for before, conditions in ways:
                parts = [self._term(t, e, None) for t in conditions]
                if before is not None:
                    parts.append(before.happened)
                reasons.append(all_of(parts) if parts else z3.BoolVal(True))
            self.constraints.append(z3.Implies(e.happened, z3.Or(reasons)))
            cells = [a.args[0] for a in atoms(e.node.op.guard, "cell")]
            is_open = cells and not any(c in self.piece.cells or c in self.known for c in cells)
            if e.alone is not None and e is e.alone.first and not e.alone.remote:
                there = cpu_there(e.alone.cpu)
                if e.alone.cpu in self.piece.scenario.comes_and_goes and there in self.piece.cells:
                    self.constraints.append(z3.Implies(e.happened, self._read(there, e)))
            if not self._excludes_by_itself(e) and not is_open:
                guard = self._term(e.node.op.guard, e, e)
                self.constraints.append(z3.Implies(e.happened, guard))

    def _order_tasks(self) -> None:
        """A task's operations happen in the order of its graph, as far as anything asks when they do.

        What nobody asks the time of touches nothing that others see, so it can come right after what was before it.
        """
        for number, events in self.by_task.items():
            for place, e in enumerate(topological(events)):
                ways = self._ways(number)[e.node.number]
                before = list(dict.fromkeys(b for p, _ in ways if p is not None for b in p.since))
                self.constraints += [less(b.moment, e.moment) for b in before if e.timed]
                e.since, e.place = [e] if e.timed else before, place

    def _finish(self, task: TaskGraph) -> Expr:
        events = self.by_task[task.spec.number]
        ways = []
        for number, conditions in finishes(task.graph):
            e = next(iter(events.values())) if number is None else events[number]
            parts = [self._term(t, e, None) for t in conditions]
            ways.append(z3.And(parts if number is None else [*parts, e.happened]))
        return z3.Or(ways)

    def _pick(self, options: Sequence[tuple[Event, Expr]]) -> Expr:
        value = options[-1][1]
        for e, v in reversed(options[:-1]):
            value = z3.If(e.happened, v, value)
        return value

    # --- values ---

    def _find_writers(self) -> None:
        for e in self.events:
            elsewhere = e.section is not None and e.section.cpu != self.piece.cpu
            for cell, _ in e.node.op.updates:
                if cell in self.piece.cells and not self._by_stretches(cell) and not (
                    elsewhere and cell.name in AGGREGATES
                ):  # fmt: skip
                    self._writers.setdefault(cell, []).append(e)

    def _task_local_cells(self) -> dict[int, set[Cell]]:
        """For each task, the cells that no other task and no check looks at: they are variables of its own."""
        users: dict[Cell, set[int]] = {}
        for e in self.events:
            op = e.node.op
            cells = {c for c, _ in op.updates}
            for t in (op.guard, op.where, *op.returns, *(t for _, t in op.updates)):
                cells |= {a.args[0] for a in atoms(t, "cell")}
            for c in cells:
                users.setdefault(c, set()).add(e.task.spec.number)
        checks = [*(s.check for s in self.piece.step_checks), *self.piece.state_checks]
        judged = {a.args[0] for c in checks for t in (c.premise, c.violation) for a in atoms(t, "cell")}
        local: dict[int, set[Cell]] = {number: set() for number in self.by_task}
        for c, numbers in users.items():
            if len(numbers) == 1 and c in self._writers and c not in judged and c not in self.private:
                local[next(iter(numbers))].add(c)
        return local

    def _values(self, e: Event) -> None:
        self._local_before(e)
        if e.section is not None and self._private_of(e.section):
            self._private_before(e)
        for c in e.node.op.choices:
            e.choices[c.args[0]] = variable(f"{e.name}.{c.args[0]}", c.sort)
        here = e.section is None or e.section.cpu == self.piece.cpu
        if e.node.op.choices and (here or not e.task.spec.kind.on_lists):
            self.constraints.append(z3.Implies(e.happened, self._term(e.node.op.where, e, e)))
        for i, t in enumerate(e.node.op.returns):
            term = self._term(t, e, e)
            if term.num_args():
                value = variable(f"{e.name}.returns{i}", t.sort)
                self.constraints.append(z3.Implies(e.happened, value == term))
                term = value
            e.returned.append(term)
        self._tries(e)
        e.after = dict(e.before)
        for cell, term in e.node.op.updates:
            if e in self._writers.get(cell, ()):
                e.writes[cell] = self._term(term, e, e)
                if (e.section is not None and self.private.get(cell) == e.section.of) or cell in self.local[
                    e.task.spec.number
                ]:
                    e.after[cell] = e.writes[cell]

    def _tries(self, e: Event) -> None:
        """A try begins a stretch if it gets what it tries to get, which the first value that it returns says."""
        for s in self._every_stretch() if e.node.op.does.tries else ():
            if s.first is e:
                self.constraints.append(s.entered == z3.And(e.happened, e.returned[0]))

    def _local_before(self, e: Event) -> None:
        cells = sorted(self.local[e.task.spec.number])
        if not cells:
            return
        ways = self._ways(e.task.spec.number)[e.node.number]
        for c in cells:
            options = [(p, self.beginning(c) if p is None else p.after[c]) for p, _ in ways]
            e.before[c] = self._merge(e, options)

    def _private_before(self, e: Event) -> None:
        assert e.section is not None
        cells = self._private_of(e.section)
        if e is e.section.first:
            e.section.entry = {c: variable(f"{e.name}.in.{c}", CELLS[c.name].sort) for c in cells}
            e.before |= e.section.entry
            return
        inside = [p for p, _ in self._ways(e.task.spec.number)[e.node.number] if p and p.section is e.section]
        e.before |= {c: self._merge(e, [(p, p.after[c]) for p in inside]) for c in cells}

    def _ways(self, number: int) -> dict[int, list[tuple[Event | None, tuple[Term, ...]]]]:
        if number not in self._incoming_ways:
            self._incoming_ways[number] = self._incoming(self.by_task[number])
        return self._incoming_ways[number]

    def _merge(self, e: Event, options: Sequence[tuple[Event | None, Expr]]) -> Expr:
        """The value that comes with the way on which ``e`` was reached."""
        value = options[-1][1]
        for p, v in reversed(options[:-1]):
            if v is value or v.eq(value):
                continue
            edges = e.task.graph.entry if p is None else p.node.edges
            taken = [
                z3.And([*([] if p is None else [p.happened]), *(self._term(t, e, None) for t in edge.conditions)])
                for edge in edges
                if edge.target == e.node.number
            ]
            value = z3.If(z3.Or(taken), v, value)
        return value

    def _term(self, term: Term, e: Event, reads_of: Event | None) -> Expr:
        """``term`` over the registers of ``e``'s task and, if given, the cells as event ``reads_of`` sees them."""
        number = e.task.spec.number

        def register(name: str) -> Expr:
            if name == "me":
                return z3.IntVal(number)
            if name in self.parameters:
                return self.parameters[name]
            node, index = name.split(".")
            return self.by_task[number][int(node)].returned[int(index)]

        def cell(c: Cell) -> Expr:
            assert reads_of is not None
            return self._read(c, reads_of)

        return translate(term, cell, register, lambda c: e.choices[c.args[0]])

    @property
    def start(self) -> dict[Cell, Expr]:
        """The open values at the beginning."""
        return self.beginning.values

    def shown(self, e: Event) -> Expr:
        """The first value that the text of ``e`` shows."""
        return self._term(e.node.op.shown[0], e, e)

    def _read(self, cell: Cell, e: Event) -> Expr:
        if cell in self.known or cell.name in self.zero_before:
            return literal(typed(cell, self.known.get(cell, 0)))
        if cell in e.before:
            return e.before[cell]
        if cell not in e.reads:
            if cell in self.private:
                e.reads[cell] = value = self._look(cell, e.clock, e)
            else:
                e.reads[cell] = value = variable(f"{e.name}.reads.{cell}", CELLS[cell.name].sort)
                if cell in self.piece.cells:
                    self.constraints.append(z3.Implies(e.happened, self._latest_write(cell, e.clock, value, e)))
            if cell in self.piece.cells:
                if CELLS[cell.name].in_use == "all" or (CELLS[cell.name].in_use and self._somebody_allocates()):
                    # what tasks on other CPUs hold just now
                    others = self.elsewhere[e.name, cell] = z3.Int(f"{e.name}.elsewhere.{cell}")
                    self.constraints.append(others >= 0)
                    e.reads[cell] = value + others
            elif CELLS[cell.name].counts_pages:
                self.constraints.append(value >= 0)
        return e.reads[cell]

    def _somebody_allocates(self) -> bool:
        return any(t.kind.asks_for_page for t in self.piece.scenario.tasks())

    def _latest_write(self, cell: Cell, clock: Expr, value: Expr, reader: Event | None) -> Expr:
        """``value`` is what the latest write before ``clock`` left, or the initial value."""
        if self._by_stretches(cell):
            open_now = [
                z3.And(s.entered, s.first.clock < clock, z3.Not(z3.And(s.over, s.clock_end < clock)))
                for s in self._every_stretch()
                if s.of == cell
            ]
            mine = [s.first.task.spec.number for s in self._every_stretch() if s.of == cell]
            holder = [z3.Implies(now, value == number) for now, number in zip(open_now, mine, strict=True)]
            return z3.And(z3.Or(*open_now, value == 0), *holder) if open_now else value == 0
        writers = [w for w in self._writers.get(cell, ()) if w is not reader]
        if reader is not None:
            for w in writers:
                self._keep_apart(w, reader)
            writers = [w for w in writers if w.task is not reader.task or w.node.number in self._earlier(reader)]
        for a, b in combinations(writers, 2):
            self._keep_apart(a, b)
        # those of the reader's own task come before it
        own = [w for w in writers if reader is not None and w.task is reader.task]
        after = {w: [] if w in own else [less(clock, w.clock)] for w in writers}
        first = [any_of([z3.Not(w.happened), *after[w]]) for w in writers]
        ways = [all_of([same(value, self.beginning(cell)), *first])]
        for w in writers:
            rest = [o for o in writers if o is not w and (o.task is not w.task or w.node.number in self._earlier(o))]
            between = [any_of([self._gone_by(o, w), *after[o]]) for o in rest]
            before = [] if w in own else [less(w.clock, clock)]
            ways.append(all_of([w.happened, *before, *between, same(value, self._written(w, cell))]))
        return any_of(ways)

    def _gone_by(self, o: Event, w: Event) -> Expr:
        """``o`` does not happen, or does before ``w``; kept, for every reader of what both write asks."""
        key = (id(o), id(w))
        if key not in self._order:
            gone = z3.Not(o.happened)
            self._order[key] = gone if o.task is w.task else any_of([gone, less(o.clock, w.clock)])
        return self._order[key]

    def _written(self, w: Event, cell: Cell) -> Expr:
        """The value that ``w`` writes, as a variable: it may be needed before it is built."""
        if cell not in w.written:
            w.written[cell] = variable(f"{w.name}.writes.{cell}", CELLS[cell.name].sort)
        return w.written[cell]

    def _define_written(self) -> None:
        for w in self.events:
            for cell, v in w.written.items():
                self.constraints.append(z3.Implies(w.happened, v == w.writes[cell]))

    def _keep_apart(self, a: Event, b: Event) -> None:
        key = (min(id(a), id(b)), max(id(a), id(b)))
        if a.task is not b.task and key not in self._apart:
            self._apart.add(key)
            self.constraints.append(a.clock != b.clock)

    def _earlier(self, e: Event) -> set[int]:
        """Numbers of the nodes from which ``e`` can be reached."""
        number = e.task.spec.number
        if number not in self._ancestors:
            events = self.by_task[number]
            ancestors: dict[int, set[int]] = {n: set() for n in events}
            for n in topological(events):
                for edge in n.node.edges:
                    if edge.target >= 0:
                        ancestors[edge.target] |= ancestors[n.node.number] | {n.node.number}
            self._ancestors[number] = ancestors
        return self._ancestors[number][e.node.number]

    # --- the start, and what is asked ---

    def _judge(self) -> tuple[Expr, Expr]:
        """Where a check's violation is true, and where its premise is."""
        violated, reached = [z3.BoolVal(False)], [z3.BoolVal(False)]
        for s in self.piece.step_checks:
            e = self.by_task[s.task.spec.number][s.node.number]
            now = z3.And(e.happened, e.clock == self.time)
            violated.append(z3.And(now, self._term(s.check.violation, e, e)))
            reached.append(z3.And(e.happened, self._term(s.check.premise, e, e)))
        if self.zero_before:
            for check in self.piece.state_checks:
                violated += [
                    z3.And(w.happened, w.clock == self.time, self._just_after(check, w)) for w in self._changing(check)
                ]
        if self.piece.state_checks:
            observed: dict[Cell, Expr] = {}
            quiet = any(c.cpu is not None for c in self.piece.state_checks)
            extra = [self._observe_quiet(observed)] if quiet else []
            look = partial(self._observe, observed)
            for check in self.piece.state_checks:
                if not self.zero_before:
                    violated.append(z3.And(translate(check.violation, look, no_atom, no_atom), *extra))
                reached.append(z3.And(translate(check.premise, look, no_atom, no_atom), *extra))
        return z3.Or(violated), z3.Or(reached)

    def _changing(self, check: Check) -> list[Event]:
        cells = {a.args[0] for a in atoms(check.violation, "cell")}
        found = [w for c in sorted(cells) for w in self._writers.get(c, ())]
        return list(dict.fromkeys(found))

    def _just_after(self, check: Check, w: Event) -> Expr:
        """The violation, as it is right after ``w``: it becomes true for the first time at some such moment."""
        return translate(
            check.violation, lambda c: w.writes[c] if c in w.writes else self._read(c, w), no_atom, no_atom
        )  # fmt: skip

    def _observe_quiet(self, observed: dict[Cell, Expr]) -> Expr:
        """The observer of a CPU whose lists nobody has in a critical section looks between sections, as if it were one."""
        for c in sorted(self.private):
            observed[c] = variable(f"observed.{c}", CELLS[c.name].sort)
        here = self._here()
        parts = []
        for cell in quiet_cells(self.config, self.piece.cpu):
            if not self._by_stretches(cell):
                continue
            observed[cell] = z3.IntVal(0)
            mine = here.get(cell, [])
            values = {c: observed[c] for c in sorted(self.private) if self.private[c] == cell}
            outside = [
                z3.Implies(s.entered, z3.Or(self.time < s.first.clock, z3.And(s.over, s.clock_end < self.time)))
                for s in mine
            ]
            parts += [self._one_of(self._latest_by(mine, self.time), values), *outside]
        return z3.And(parts or [z3.BoolVal(True)])

    def _observe(self, observed: dict[Cell, Expr], cell: Cell) -> Expr:
        if cell in self.known:
            return literal(typed(cell, self.known[cell]))
        if cell not in observed:
            if cell in self.private:
                observed[cell] = self._look(cell, self.time, None)
                return observed[cell]
            observed[cell] = variable(f"observed.{cell}", CELLS[cell.name].sort)
            self.constraints.append(self._latest_write(cell, self.time, observed[cell], None))
            for w in self._writers.get(cell, ()):
                self.constraints.append(z3.Or(z3.Not(w.happened), w.clock != self.time))
        return observed[cell]
