"""A kernel and a finite configuration as a transition system: folded control graphs, columns, initial states.

A state is a row of small integers: one column for each cell that takes more than one value, and for each task one for
its location and some for its live registers.  Pages are counted per pageblock and place (the cells ``pcp.nr``,
``held`` and ``free``), or, with ``identities``, each page has a column that says where it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernelmodel.cells import CELLS, cpu_taken, cpu_there, initial, layout, names, stops_others, value
from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.folded_graph import RETURNED, FoldedGraph, FoldedNode, copied, registers_of
from kernelmodel.graphs.remembered import remembered
from kernelmodel.ops import Op, Routine
from kernelmodel.tasks import TaskKind
from kernelmodel.terms import TRUE, Cell, Term, atoms, const, ite, land, lnot, load, lor, substitute
from kernelmodel.text import KernelText
from properties.property import Check, Property
from verify.explore.finite import ALLOC_TYPE, Finite, limit
from verify.explore.forgotten import forget_when_sections_end
from verify.explore.values import ValueAnalysis, Values, possible
from verify.scenario import TaskSpec, tasks_of

#: what is done to the graph of a task, in place
Change = Callable[[TaskSpec, FoldedGraph], None]
#: cells that count pages; with identities they are computed from where each page is
COUNTS = names(lambda kind: kind.where not in ("", "anywhere"))
#: where a page is: free in the buddy, or held by the task with that number, or (PCPLIST + …) on a pcplist
BUDDY = 0
#: only compared with 0, and never 0 here: what is read may be the first value
NEVER_ZERO = names(lambda kind: kind.never_zero)
#: written by tasks that take a CPU down and up, and by no other
ONLINE = cpu_there(0).name
#: the name of what stands for a task's location where a term speaks of it; no cell of the kernel's
LOCATION = "location"


@dataclass(slots=True, eq=False)
class TaskModel:
    """A task: its graph, the column of its location, and its registers' columns (``slots``)."""

    spec: TaskSpec
    graph: FoldedGraph
    location: int
    slots: dict[str, int]
    live: tuple[frozenset[str], ...]
    parameters: dict[str, tuple[int, ...]]

    @property
    def number(self) -> int:
        """The task's identity in cells."""
        return self.spec.number

    def at(self, location: int) -> list[FoldedNode]:
        """The operations that the task may perform at a location."""
        return [self.graph.nodes[n] for n in self.graph.locations[location]]


@dataclass(frozen=True, slots=True)
class StateCheck:
    """A check of a state property, by the property's position; ``rest``: of one at rest, judged where a run has ended."""

    prop: int
    check: Check
    rest: bool = False


#: an operation, the checks that step properties make of it, each with its property's position, and the cells that both read
_Judged = tuple[Op, Sequence[tuple[int, Check]], frozenset[Cell]]


class Model:
    """The transition system of a kernel in a finite configuration."""

    def __init__(
        self,
        kernel: type[KernelText],
        finite: Finite,
        properties: list[Property],
        identities: bool = False,
        any_order: bool = False,
        rest_as_state: bool = False,
        change: Change | None = None,
    ) -> None:
        """``change``: what the memory model makes of each task's graph, in place.

        ``any_order``: loops over CPUs take them in every order, which makes CPUs interchangeable.

        ``rest_as_state``: properties at rest are state properties that say, in terms of locations, that a run has ended.
        """
        self.kernel, self.finite, self.identities = kernel, finite, identities
        self.properties = properties
        self.any_order = any_order
        self._known: dict[int, _Judged] = {}
        instance = kernel(finite.scenario.config)
        self.config = instance.config
        instance.migrates = finite.scenario.migrations > 0
        specs = tasks_of(finite.scenario, kernel)
        steady = NEVER_ZERO if finite.scenario.comes_and_goes else (*NEVER_ZERO, ONLINE)
        fixed = {c: initial(self.config, c) for c in layout(self.config) if c.name in steady}
        graphs = [
            remembered(
                kernel,
                s.kind.make,
                (self.config, instance.migrates, finite.scenario.comes_and_goes, s.key, any_order),
                functools.partial(
                    fold, instance, _maker(s, instance), self.cpus_of(s), fixed, any_order, functools.partial(self.present, s)
                ),
                copied,
            )
            for s in specs
        ]  # fmt: skip
        if change is not None:
            for spec, graph in zip(specs, graphs, strict=True):
                change(spec, graph)
        for node in (n for g in graphs for n in g.kept):
            if any(c in fixed and c.name == ONLINE for c, _ in node.op.updates):
                raise ModelError(
                    f"{node.stack[0]}() changes {node.op.text}: CPUs come and go with --hotplugs only, so give that"
                )
        checks = [c for p in properties for c in (*p.state_checks(self.config), *p.rest_checks(self.config))]
        watched = cells_in(t for c in checks for t in (c.premise, c.violation))
        forget_when_sections_end(self.config, graphs, watched, self._looked_at)
        self.state_checks = [StateCheck(i, c) for i, p in enumerate(properties) for c in p.state_checks(self.config)]
        self.state_checks += [
            StateCheck(i, c, True) for i, p in enumerate(properties) for c in p.rest_checks(self.config)
        ]
        self._analyse(specs, graphs)
        self.columns: list[Any] = []
        self.address: dict[Cell, int] = {}
        self._place_cells(graphs)
        self.tasks = [self._task(s, g) for s, g in zip(specs, graphs, strict=True)]
        self.kind_of = {t.number: t.spec.kind for t in self.tasks}
        self.width = len(self.columns)
        self._place_counts()
        if rest_as_state:
            ended = self._ended()
            self.state_checks = [
                StateCheck(s.prop, replace(s.check, violation=land(ended, s.check.violation))) if s.rest else s
                for s in self.state_checks
            ]
            for i, p in enumerate(properties):
                if p.stuck:
                    stuck = lor(land(lnot(ended), *map(self._waits, self.tasks)), *map(self._may_not, self.tasks))
                    self.state_checks.append(StateCheck(i, Check(TRUE, stuck, "deadlock")))

    def premise(self, prop: int, cpu: int | None) -> int:
        """The number of the premises of a property's checks for one CPU, or of those for none."""
        return prop * (self.config.nr_cpus + 1) + (0 if cpu is None else 1 + cpu)

    def premises(self) -> list[tuple[int, int | None]]:
        """For each number of premises the property and the CPU."""
        return [(i, c) for i in range(len(self.properties)) for c in (None, *self.config.cpus)]

    def spoken_of(self) -> set[tuple[int, int | None]]:
        """The properties, with each CPU for which they have a check somewhere."""
        found = {(s.prop, s.check.cpu) for s in self.state_checks}
        for node in (n for t in self.tasks for n in t.graph.kept):
            found |= {(i, c.cpu) for i, c in self.step_checks(node.op)}
        return found

    def step_checks(self, op: Op) -> Sequence[tuple[int, Check]]:
        """The checks that step properties make of an operation, each with its property's position."""
        return self._judged(op)[1]

    def _judged(self, op: Op) -> _Judged:
        known = self._known.get(id(op))
        # the operation is kept, so in this process no other one has its identity
        if known is None or known[0] is not op:
            checks = tuple((i, c) for i, p in enumerate(self.properties) for c in p.step_checks(self.config, op))
            looks = frozenset(cells_in((*_read(op), *(t for _, c in checks for t in (c.premise, c.violation)))))
            known = self._known[id(op)] = op, checks, looks
        return known

    # --- where tasks may be ---

    def cpus_of(self, spec: TaskSpec) -> list[int]:
        """The CPUs that a task may ever be on."""
        bound = spec.cpu is not None and spec.cpu not in self.finite.scenario.comes_and_goes
        return [spec.cpu] if bound and spec.cpu is not None else list(self.config.cpus)

    def present(self, spec: TaskSpec, cpu: int) -> Term:
        """When a task that is free to move may be on a CPU: an online one, and its own if that is online."""
        comes_and_goes = self.finite.scenario.comes_and_goes
        there = value(ONLINE, cpu) if cpu in comes_and_goes else TRUE
        if spec.cpu is None or spec.cpu == cpu or spec.cpu not in comes_and_goes:
            return there
        return land(there, lnot(value(ONLINE, spec.cpu)))

    def _may_not(self, task: TaskModel) -> Term:
        """That a task is at an operation that cannot be done there, such as the unlock of what it does not hold."""
        at = load(Cell(LOCATION, (task.spec.name,)), "int")
        found = []
        for location in range(len(task.graph.locations)):
            guards = [substitute(n.op.guard, {"me": const(task.number)}) for n in task.at(location) if n.op.must]
            found += [land(at == location, lnot(g)) for g in guards]
        return lor(*found)

    def _waits(self, task: TaskModel) -> Term:
        """That a task has returned, or is where all that it could do has to wait."""
        at = load(Cell(LOCATION, (task.spec.name,)), "int")
        parts = [at == RETURNED]
        for location in range(len(task.graph.locations)):
            nodes = task.at(location)
            guards = [substitute(n.op.guard, {"me": const(task.number)}) for n in nodes]
            if nodes and not any(n.op.must for n in nodes):
                parts.append(land(at == location, *(lnot(g) for g in guards)))
        return lor(*parts)

    def _ended(self) -> Term:
        """That a run has ended: no task is anywhere but at its end, and no daemon can begin."""
        parts = []
        for task in self.tasks:
            cell = Cell(LOCATION, (task.spec.name,))
            self.address[cell] = task.location
            daemon = task.spec.kind.serves
            parts.append(load(cell, "int") == (_only(task.graph.entry) if daemon else RETURNED))
            if daemon:
                parts += [lnot(node.op.guard) for node in task.at(_only(task.graph.entry))]
        return land(*parts)

    # --- cells ---

    def _looked_at(self, node: FoldedNode) -> frozenset[Cell]:
        """The cells that an operation, or a property that judges it, reads."""
        return self._judged(node.op)[2]

    def _analyse(self, specs: list[TaskSpec], graphs: list[FoldedGraph]) -> None:
        self.initial_values = {c: frozenset(self._initial(c)) for c in layout(self.config)}
        operations = []
        for spec, graph in zip(specs, graphs, strict=True):
            returned = {f"{n.number}.{i}": t for n in graph.kept for i, t in enumerate(n.op.returns)}
            known: dict[str, Values] = {n: frozenset(self.parameter(n, lo, hi)) for n, lo, hi in spec.parameters}
            known["me"] = frozenset((spec.number,))
            for node in graph.kept:
                used = registers_of(t for _, t in node.op.updates) | registers_of((node.op.where,))
                regs = {n: known[n] for n in used if n in known}
                # one level is enough for the registers that decide which list a page goes to
                regs |= {n: self._returned_values(returned[n]) for n in used if n in returned}
                operations.append((node.op, regs))
        self.analysis = ValueAnalysis(self.initial_values, operations, self.finite.pages)

    def _returned_values(self, term: Term) -> Values:
        types = {a.args[0].name for a in atoms(term, "cell")}
        if types and all(CELLS[name].values == "type" for name in types):
            # whatever a pageblock's type can become: it is itself part of the analysis, so be generous here
            return frozenset((ALLOC_TYPE, 4))
        return possible(term, lambda _: None, {}, {})

    def parameter(self, name: str, least: int, greatest: int) -> tuple[int, ...]:
        """The values of a task's open input."""
        return (ALLOC_TYPE,) if name.endswith(".migratetype") else tuple(range(least, greatest + 1))

    def _initial(self, cell: Cell) -> set[int]:
        f = self.finite
        kind = CELLS[cell.name]
        if kind.limit:
            return {limit(kind.limit, f.high, f.batch)}
        if kind.in_use == "unowned":
            return set(range(f.scenario.migrations + 1))
        if kind.in_use or kind.where in ("buddy", "anywhere"):
            return set(range(f.pages + 1))
        if kind.where == "pcplist" or kind.usually_zero:
            return {0}
        return {int(initial(self.config, cell))}

    def value_of(self, cell: Cell) -> Term | None:
        """The constant that the cell always is, if it is one."""
        found = self.analysis.constant(cell)
        return None if found is None else Term("const", (found,), CELLS[cell.name].sort)

    def _place_cells(self, graphs: list[FoldedGraph]) -> None:
        used: set[Cell] = set()
        for graph in graphs:
            for node in graph.kept:
                used |= self._looked_at(node)
        for s in self.state_checks:
            used |= {a.args[0] for t in (s.check.premise, s.check.violation) for a in atoms(t, "cell")}
        used |= {cpu_taken(c) for c in self.config.cpus}
        self._counts: list[Cell] = []
        for cell in layout(self.config):
            if self.analysis.constant(cell) is not None:
                continue
            if cell not in used and not (self.identities and cell.name in COUNTS):
                continue
            if self.identities and cell.name in COUNTS:
                self._counts.append(cell)
                continue
            self.address[cell] = len(self.columns)
            self.columns.append(cell)
        self.where: list[int] = []
        self.block: list[int] = []
        if self.identities:
            for page in range(self.finite.pages):
                self.where.append(len(self.columns))
                self.columns.append(("where", page))
            for page in range(self.finite.pages):
                self.block.append(len(self.columns))
                self.columns.append(("block", page))

    def _place_counts(self) -> None:
        """Counts that are computed from where pages are get addresses beyond the columns."""
        for cell in self._counts:
            self.address[cell] = self.width + self._counts.index(cell)
        self.virtual = {self.address[c]: c for c in self._counts}
        self.extent = self.width + len(self._counts)

    # --- tasks ---

    def _task(self, spec: TaskSpec, graph: FoldedGraph) -> TaskModel:
        location = len(self.columns)
        self.columns.append(("location", spec.name))
        live = live_registers(graph)
        slots: dict[str, int] = {}
        used: dict[int, set[str]] = {}
        conflicts: dict[str, set[str]] = {}
        for registers in live:
            for r in registers:
                conflicts.setdefault(r, set()).update(registers - {r})
        for r in sorted(conflicts, key=lambda r: (-len(conflicts[r]), r)):
            slot = next((s for s, names in used.items() if not names & conflicts[r]), None)
            if slot is None:
                slot = len(self.columns)
                self.columns.append(("register", spec.name, len(used)))
                used[slot] = set()
            used[slot].add(r)
            slots[r] = slot
        parameters = {n: self.parameter(n, lo, hi) for n, lo, hi in spec.parameters}
        return TaskModel(spec, graph, location, slots, tuple(live), parameters)

    def guard(self, task: TaskModel, node: FoldedNode, exact: bool) -> Term:
        """When the task may perform the operation; ``exact``: also, a CPU with interrupts on must be there for it."""
        if not exact or stops_others(node.op.does.acquires or node.op.does.releases):
            return node.op.guard
        if node.cpu >= 0:
            off = load(cpu_taken(node.cpu))
            return land(node.op.guard, lor(off == 0, off == task.number))
        free = [land(self.present(task.spec, c), load(cpu_taken(c)) == 0) for c in self.cpus_of(task.spec)]
        return land(node.op.guard, lor(*free))

    # --- initial states ---

    def initial_rows(self, symmetric: bool) -> Iterator[tuple[list[int], tuple[int, ...]]]:
        """Each initial state as a row, with the pageblock of each page."""
        frees = [t for t in self.tasks if t.spec.kind.holds_page]
        used = self.finite.scenario.migrations
        for blocks in self.finite.page_blocks(symmetric):
            cells = {c: min(v) for c, v in self.initial_values.items()}
            for cell in cells:
                there = self._pages_at_start(cell, blocks, len(frees), used)
                cells[cell] = cells[cell] if there is None else there
            row = [0] * self.width
            for cell, column in self.address.items():
                if column < self.width and cell.name != LOCATION:
                    row[column] = int(cells[cell])
            for page, column in enumerate(self.block):
                row[column] = blocks[page]
            for page, column in enumerate(self.where):
                row[column] = (
                    frees[page].number if page < len(frees) else self.pool if page < len(frees) + used else BUDDY
                )
            for task in self.tasks:
                row[task.location] = _only(task.graph.entry)
                for name, values in task.parameters.items():
                    if name in task.slots:
                        row[task.slots[name]] = blocks[frees.index(task)] if task.spec.kind.holds_page else values[0]
            yield row, blocks

    def _pages_at_start(self, cell: Cell, blocks: tuple[int, ...], frees: int, used: int) -> int | None:
        """How many pages a cell counts: of the pages in ``blocks`` tasks hold the first, and nobody's are in use next."""
        kind = CELLS[cell.name]
        if kind.in_use == "unowned":
            which = blocks[frees : frees + used]
        elif kind.in_use == "all":
            which = blocks[: frees + used]
        elif kind.where == "buddy":
            which = blocks[frees + used :]
        elif kind.where == "anywhere":
            which = blocks
        else:
            return None
        return sum(x == cell.index[0] for x in which)

    @property
    def pool(self) -> int:
        """The number of the task that stands for whoever has pages in use, where pages have identities."""
        return next((t.number for t in self.tasks if t.spec.kind.has_range), max(self.kind_of))

    def holder(self, task: int) -> int:
        """Who is said to hold the pages that a task takes or gives: what is in use may be migrated by another."""
        shared = self.finite.scenario.migrations and _takes_pages(self.kind_of[task])
        return self.pool if shared else task

    def on_list(self, cell: Cell) -> int:
        """The code of "on the pcplist of ``cell``" (a cell pcp.nr) in the column of a page."""
        _, cpu, kind, _ = (int(i) for i in cell.index)
        return 1 + max(self.kind_of) + cpu * 3 + kind


def _maker(spec: TaskSpec, kernel: KernelText) -> Callable[[], Routine]:
    return lambda: spec.make(kernel)


def _takes_pages(kind: TaskKind) -> bool:
    return kind.has_range or kind.asks_for_page


def _only(entry: tuple[tuple[tuple[Term, ...], int], ...]) -> int:
    return entry[0][1]


def _read(op: Op) -> list[Term]:
    """What an operation reads; what it adds to, or joins with, is not read by that."""
    return [op.guard, op.where, op.counted, *returns_of(op), *(_without_self(c, t) for c, t in op.updates)]


def _without_self(cell: Cell, term: Term) -> Term:
    if term.op in "+-" and len(term.args) == 2 and term.args[0].op == "cell" and term.args[0].args[0] == cell:
        return term.args[1]  # type: ignore[no-any-return]
    if term.op == "ite" and term.args[2].op == "cell" and term.args[2].args[0] == cell:
        return ite(term.args[0], term.args[1], const(False if term.sort == "bool" else 0))
    if term.op == "or":
        return lor(*(t for t in term.args if not (t.op == "cell" and t.args[0] == cell)))
    return term


def returns_of(op: Op) -> tuple[Term, ...]:
    """What the operation returns, by free pages where it can be told by them."""
    return op.counted_returns or op.returns


def live_registers(graph: FoldedGraph) -> list[frozenset[str]]:
    """For each location the registers that may be read before they are written again."""
    uses = [
        registers_of((n.op.guard, n.op.where, n.op.counted, *returns_of(n.op), *(t for _, t in n.op.updates))) - {"me"}
        for n in graph.nodes
    ]
    defined = [{f"{n.number}.{i}" for i in range(len(n.op.returns))} for n in graph.nodes]
    live: list[frozenset[str]] = [frozenset()] * len(graph.locations)
    changed = True
    while changed:
        changed = False
        for location in range(len(graph.locations) - 1, -1, -1):
            new: set[str] = set()
            for n in graph.locations[location]:
                after: set[str] = set()
                for conditions, target in graph.nodes[n].edges:
                    after |= registers_of(conditions)
                    if target != RETURNED:
                        after |= live[target]
                new |= uses[n] | (after - defined[n])
            if new != live[location]:
                live[location], changed = frozenset(new), True
    return live


def cells_in(terms: Iterable[Term]) -> set[Cell]:
    """The cells of some terms."""
    return {a.args[0] for t in terms for a in atoms(t, "cell")}
