"""What of a scenario matters for one check: the tasks' graphs as seen from one CPU, and the cone of influence.

A *slice* follows one CPU, or none.  All freeing and allocating tasks that may be on the CPU are put there, and each may
stop at any point or never start, so every placement of them on CPUs is covered as far as this CPU can tell.  What
belongs to other CPUs alone is open: a read of it gives any value, and waiting for it may end at any time.  That makes
the slices of most CPUs the same but for the CPU's number; ``signature.py`` shows it, and one of them is asked.
``interference`` computes what the tasks left out could write that this slice reads; the caller must have an answer.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernelmodel.cells import cpu_there, quiet_cells, value
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.graphs.automaton import DONE, Graph, Loops, Node, duplicate, extract
from kernelmodel.graphs.remembered import remembered
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms, land, lnot
from kernelmodel.text import KernelText
from properties.property import Check, Property
from verify.bmc.alike import as_of, first_like
from verify.bmc.constants import base_of, steady
from verify.bmc.contract import STOPS, TaskGraph, contract, followed, stop_of, without_stops
from verify.bmc.kept import Named
from verify.bmc.sections import UnclearError, apart, check_closed, in_stretches, lists_of, stretches
from verify.bmc.signature import Signatures
from verify.keeping import files
from verify.keeping.written import Written
from verify.ordering.buffers import declare_buffers, with_buffers
from verify.ordering.relaxed import Relaxed
from verify.scenario import Scenario, TaskSpec, tasks_of, workers_elsewhere


@dataclass(frozen=True, slots=True)
class StepCheck:
    """A check of a step property at one operation of one task."""

    task: TaskGraph
    node: Node
    check: Check


@dataclass(frozen=True, slots=True)
class Slice:
    """The tasks that matter for some checks of one property, and the cells that are followed (``cpu`` -1: of no CPU)."""

    scenario: Scenario
    config: Config
    cpu: int
    tasks: tuple[TaskGraph, ...]
    cells: frozenset[Cell]
    state_checks: tuple[Check, ...] = ()
    step_checks: tuple[StepCheck, ...] = ()
    #: where the tasks are that disable interrupts and belong to no CPU
    places: tuple[tuple[str, int], ...] = ()
    #: the exclusion of a pcplist, if the tasks' graphs show who holds it; else it is followed like any cell
    lists: str = ""

    @property
    def cpu_words(self) -> str:
        """Which CPU the slice follows, for people."""
        return "no CPU" if self.cpu < 0 else f"CPU {self.cpu}"


class Model:
    """A kernel and a scenario: control graphs are extracted once and shared by all slices."""

    def __init__(
        self, kernel: type[KernelText], scenario: Scenario, zeros: Sequence[str] = (), exact: bool = True,
        relaxed: Relaxed | None = None,
    ) -> None:  # fmt: skip
        """``relaxed``: what the memory model changes, which goes into the graphs as store buffers.

        ``zeros`` names cells that are known to be 0 in every reachable state (a lemma proved before).

        Unless ``exact``, whoever has interrupts off keeps nobody away, where that is not what guards the pcplists: more
        runs, and fewer sections to put in order.
        """
        self.kernel, self.scenario, self.relaxed = kernel, scenario, relaxed
        if relaxed is not None:
            declare_buffers(relaxed.cells)
        self.instance = kernel(scenario.config)
        self.config = self.instance.config
        self.instance.migrates = scenario.migrations > 0
        self.exact = exact or self.config.section in STOPS
        self.specs = tasks_of(scenario, kernel)
        elsewhere = workers_elsewhere(scenario, len(scenario.tasks()) + 1)
        self.specs += [s for s in elsewhere if s.is_in(kernel)]
        #: why it does not show in the graphs who is in the critical section of a pcplist, if it does not
        self.unclear = ""
        self._loops: dict[str, Loops] = {}
        self._lean: dict[Hashable, Graph] = {}
        self._signatures = Signatures()
        self._known = self._known_of_its_base(zeros)
        if not self._known or not self._known.items() <= self._steady(zeros).items():
            self._known = {}
            self._forget_graphs()
            self._known = self._steady(zeros)
            self._forget_graphs()
        try:
            for s in self.specs:
                check_closed(self.graph(s, s.cpu or 0), stretches(self.graph(s, s.cpu or 0), [self.config.section]))
        except UnclearError as error:
            self.unclear = str(error)
        self._named = Named(self)

    def _known_of_its_base(self, zeros: Sequence[str]) -> dict[Cell, int]:
        """What is known in the kernel of ours that a user's is derived from: most changes change nothing about it.

        What is known there is known here if the graphs that take it for granted write to none of it: by induction over a run,
        for until the first such write it goes by these graphs.
        """
        base = base_of(self.kernel)
        if base is None or self.relaxed is not None:
            return {}
        try:
            model = Model(base, self.scenario, zeros, self.exact)
        except ModelError:
            # it may lack tasks that the user's kernel has
            return {}
        return dict(model.known) if model.config == self.config else {}

    def _steady(self, zeros: Sequence[str]) -> dict[Cell, int]:
        return steady(self.config, [self.graph(s, s.cpu or 0) for s in self.specs], zeros)

    def _forget_graphs(self) -> None:
        self.graph.cache_clear()
        self.unclear = ""

    @property
    def lists(self) -> str:
        """The exclusion of a pcplist, if the tasks' graphs show who holds it."""
        return "" if self.unclear else self.config.section

    @functools.cache  # noqa: B019 - a Model lives as long as its command
    def graph(self, spec: TaskSpec, cpu: int) -> Graph:
        """The control graph of a task that stays on ``cpu``."""
        like = self._like(spec)
        return as_of(self.graph(like, cpu), like, spec) if like is not spec else self._graph(spec, cpu)

    @functools.cache  # noqa: B019 - a Model lives as long as its command
    def _like(self, spec: TaskSpec) -> TaskSpec:
        return first_like(spec, self.specs)

    def _graph(self, spec: TaskSpec, cpu: int) -> Graph:
        visits: Callable[[Op], int] = self.scenario.visits
        runs = 0
        if spec.kind.serves:
            # a worker runs as often as its work can be queued
            runs = self._runs_of_worker(cpu if spec.home is None else spec.home)
            visits = functools.partial(_constant, runs)
        loops = self._loops.setdefault(spec.kind.name, Loops())
        found = remembered(
            self.kernel,
            spec.kind.make,
            (self.config, *self.scenario.turns.values(), runs, spec.key, cpu),
            functools.partial(extract, self.kernel, lambda: spec.make(self.instance), cpu, self._known, visits, loops),
            duplicate,
            self._known,
        )
        if self.relaxed is not None:
            with_buffers(spec.name, found.nodes, _following(found), self.relaxed)
        found = apart(found, STOPS) if self.exact else without_stops(found)
        if self.config.section not in STOPS and not self.unclear:
            try:
                found = apart(found, [self.config.section])
            except ModelError as error:
                self.unclear = str(error)
        return self._pinned_where_it_may_be(found, spec)

    def _pinned_where_it_may_be(self, graph: Graph, spec: TaskSpec) -> Graph:
        """A worker stays where it disables preemption: at home if its CPU is there, elsewhere if that has gone."""
        if spec.home not in self.scenario.comes_and_goes:
            return graph
        cell = cpu_there(spec.home)
        there = value(cell.name, *cell.index)
        guard = there if spec.cpu == spec.home else lnot(there)
        for node in graph.nodes:
            if node.op.does.pins > 0:
                node.op = replace(node.op, guard=land(node.op.guard, guard))
        return graph

    def _runs_of_worker(self, cpu: int) -> int:
        graphs = [self.graph(s, s.cpu or 0) for s in self.specs if not s.kind.serves]
        return sum(
            _most_on_a_path(g, lambda op: op.does.queues is not None and op.does.queues.cpu == cpu) for g in graphs
        )  # fmt: skip

    @property
    def known(self) -> Mapping[Cell, int]:
        """Cells that keep one value throughout."""
        return self._known

    def placements(self, cpu: int) -> Iterator[Mapping[str, int]]:
        """Where tasks of no CPU may be, as far as a slice of ``cpu`` can tell: there or elsewhere.

        That matters for those that disable interrupts: who is there keeps others away, and who is elsewhere does not.
        """
        gone = self.scenario.comes_and_goes
        ways = []
        for spec in self.specs:
            if not spec.kind.on_lists and in_stretches(self.graph(spec, 0), STOPS):
                steady = [c for c in self.config.cpus if c not in gone or not spec.kind.takes_down]
                here = [cpu] if cpu in steady else []
                ways.append([(spec.name, c) for c in (*here, *[c for c in steady if c != cpu][:1])])
        yield from (dict(places) for places in itertools.product(*ways))

    def slices(self, prop: Property) -> list[Slice]:
        """The slices that together decide ``prop``, without those that differ from another one in the CPU's number only."""
        place = self._named.place(prop) if _written.still() else None
        kept: list[Slice] | None = files.load(place, list)
        if kept is None:
            kept = self._slices(prop)
            files.keep(place, kept)
        return kept

    def _slices(self, prop: Property) -> list[Slice]:
        nobody = self._slice(prop, -1)
        if nobody is not None:
            return [nobody]
        found: dict[Any, Slice] = {}
        for cpu in self.config.cpus:
            for places in self.placements(cpu):
                piece = self._slice(prop, cpu, places)
                if piece is not None:
                    found.setdefault(self.signature(piece), piece)
        return list(found.values())

    def signature(self, piece: Slice) -> Hashable:
        """What the slice asks: equal for those that differ in the number of their CPU only."""
        checks = ([s.check for s in piece.step_checks], piece.state_checks)
        return self._signatures.of(piece.cpu, piece.cells, piece.tasks, checks)

    def _slice(self, prop: Property, cpu: int, places: Mapping[str, int] | None = None) -> Slice | None:
        """The slice of a CPU; that of no CPU (-1) only if the pcplists' tasks have no part in the property."""
        tasks = self._tasks(cpu, places or {})
        states = tuple(c for c in prop.state_checks(self.config) if c.cpu in (None, cpu) or cpu < 0)
        steps = tuple(
            StepCheck(t, n, c)
            for t in tasks
            for n in t.graph.nodes
            if self._judged_here(t, n, cpu)
            for c in prop.step_checks(self.config, n.op)
            if c.cpu in (None, cpu) or cpu < 0
        )
        if cpu < 0:
            cells = {a.args[0] for c in states for t in (c.premise, c.violation) for a in atoms(t, "cell")}
            cells |= {a.args[0] for s in steps for t in (s.check.premise, s.check.violation) for a in atoms(t, "cell")}
            lists = [n for s in self.specs for n in self._on_lists(s)]
            written = {c.name for n in lists for c, _ in n.op.updates}
            judged = any(prop.step_checks(self.config, n.op) for n in lists)
            if judged or any(c.name in written for c in cells):
                return None
        piece = self._cone(cpu, tasks, states, steps)
        return replace(piece, places=tuple((places or {}).items()), lists=self.lists)

    def _on_lists(self, spec: TaskSpec) -> list[Node]:
        """What a task does to the pcplists of the CPU on which it is."""
        graph = self.graph(spec, spec.cpu or 0)
        if spec.kind.on_lists:
            return graph.nodes
        if not self.lists:
            return graph.nodes
        inside = in_stretches(graph, [self.lists])
        return [n for n in graph.nodes if n.number in inside]

    def _tasks(self, cpu: int, places: Mapping[str, int]) -> list[TaskGraph]:
        found = []
        for spec in self.specs:
            mine = cpu in (spec.cpu, spec.home) or spec.cpu is None
            if spec.kind.on_lists and (cpu < 0 or not mine):
                continue
            anywhere = self._stays(cpu) if spec.kind.takes_down else max(cpu, 0)
            here = places.get(spec.name, anywhere) if spec.cpu is None else spec.cpu
            found.append(TaskGraph(spec, here, self.graph(spec, here)))
        return found

    def _judged_here(self, task: TaskGraph, node: Node, cpu: int) -> bool:
        """Whether a slice of ``cpu`` sees enough to judge a step: one of a critical section is of the CPU whose lists it has."""
        lists = self._lists(task.spec, task.cpu).get(node.number)
        mine = task.cpu == cpu if task.spec.kind.on_lists else lists is not None and cpu in lists
        return lists is None or mine

    @functools.cache  # noqa: B019 - a Model lives as long as its command
    def _lists(self, spec: TaskSpec, cpu: int) -> Mapping[int, frozenset[int]]:
        """For each operation in the critical section of a pcplist the CPUs on whose lists the section works."""
        graph = self.graph(spec, cpu)
        found = stretches(graph, [self.lists] if self.lists else [])
        return {n: lists for s in found for lists in [lists_of(graph, s)] for n in s.nodes}

    def _stays(self, cpu: int) -> int:
        """``cpu``, or another one if that comes and goes: who takes it down is not there."""
        steady = [c for c in self.config.cpus if c not in self.scenario.comes_and_goes]
        return cpu if cpu in steady else steady[0]

    def _cone(
        self, cpu: int, tasks: list[TaskGraph], states: tuple[Check, ...], steps: tuple[StepCheck, ...]
    ) -> Slice:  # fmt: skip
        checks = [*states, *(s.check for s in steps)]
        cells = self._follow(cpu, [t for c in checks for t in (c.premise, c.violation)])
        # who has interrupts off somewhere has to be there
        cells |= {cpu_there(c) for c in self.scenario.comes_and_goes if c == cpu}
        if cpu >= 0 and self.config.section not in STOPS:
            cells |= set(quiet_cells(self.config, cpu))
        judged = {(s.task.spec.number, s.node.number) for s in steps}
        chosen = {number for number, _ in judged}
        while True:
            for t in tasks:
                if any(c in cells for n in t.graph.nodes for c, _ in n.op.updates):
                    chosen.add(t.spec.number)
            kept = [t for t in tasks if t.spec.number in chosen]
            lean = [TaskGraph(t.spec, t.cpu, self._contracted(t, cells, judged, cpu)) for t in kept]
            new = cells | self._follow(cpu, [term for t in lean for term in _needed_terms(t.graph, cells)])
            if new == cells:
                there = {(t.spec.number, n.number) for t in lean for n in t.graph.nodes}
                steps = tuple(s for s in steps if (s.task.spec.number, s.node.number) in there)
                return Slice(self.scenario, self.config, cpu, tuple(lean), frozenset(cells), states, steps)
            cells = new

    def _contracted(self, task: TaskGraph, cells: set[Cell], judged: set[tuple[int, int]], cpu: int) -> Graph:
        """A task's graph made lean: once for all properties and tasks for which it comes to the same."""
        spec, like = task.spec, self._like(task.spec)
        written = self._written(like, task.cpu) & cells
        mine = frozenset(node for number, node in judged if number == spec.number)
        key = (spec, task.cpu, written, mine, cpu)
        if key not in self._lean:
            if like is spec:
                lean = self._lean_of(task, written, mine, cpu)
            else:
                first = TaskGraph(like, task.cpu, self.graph(like, task.cpu))
                lean = as_of(self._contracted(first, cells, {(like.number, n) for n in mine}, cpu), like, spec)
            self._lean[key] = lean
        return self._lean[key]

    def _lean_of(self, task: TaskGraph, cells: frozenset[Cell], judged: frozenset[int], cpu: int) -> Graph:
        elsewhere = self._elsewhere(task, cpu)
        most = frozenset(c for c in self._written(task.spec, task.cpu) if c not in self._known and followed(c, cpu))
        if cells < most:
            # what is lean if all is followed that may be is little, and all properties go on from it
            key = (task.spec, task.cpu, most, judged, cpu)
            if key not in self._lean:
                self._lean[key] = contract(task, most, judged, cpu, elsewhere)
            task = replace(task, graph=self._lean[key])
        return contract(task, cells, judged, cpu, elsewhere)

    @functools.cache  # noqa: B019 - a Model lives as long as its command
    def _written(self, spec: TaskSpec, cpu: int) -> frozenset[Cell]:
        return frozenset(c for n in self.graph(spec, cpu).nodes for c, _ in n.op.updates)

    def _elsewhere(self, task: TaskGraph, cpu: int) -> frozenset[int]:
        """The operations in critical sections of other CPUs' pcplists."""
        return frozenset(n for n, lists in self._lists(task.spec, task.cpu).items() if cpu >= 0 and cpu not in lists)

    def _follow(self, cpu: int, terms: Iterable[Term]) -> set[Cell]:
        found = {a.args[0] for t in terms for a in atoms(t, "cell")}
        return {c for c in found if c not in self._known and followed(c, cpu)}

    def interference(self, piece: Slice) -> set[Cell]:
        """Cells that the slice reads and that a pcplists' task which it leaves out could write."""
        read = {
            a.args[0]
            for t in piece.tasks
            for n in t.graph.nodes
            for term in (n.op.guard, n.op.where, *n.op.returns, *(u for c, u in n.op.updates if c in piece.cells))
            for a in atoms(term, "cell")
        } & piece.cells
        written: set[Cell] = set()
        for spec in self.specs:
            if spec.kind.on_lists and piece.cpu not in (spec.cpu, spec.home):
                others = [c for c in self.config.cpus if c != piece.cpu][:1] if spec.cpu is None else [spec.cpu]
                written |= {c for cpu in others for n in self.graph(spec, cpu).nodes for c, _ in n.op.updates}
        return read & written


#: as it is when it is imported, with all that it imports
_written = Written(__package__)


def _following(graph: Graph) -> list[tuple[int, list[int | None]]]:
    """For each node, by its place, those that may follow it; None where the routine returns."""
    position = {node.number: i for i, node in enumerate(graph.nodes)}
    return [
        (i, [None if e.target == DONE else position[e.target] for e in node.edges if e.target in position or e.target == DONE])
        for i, node in enumerate(graph.nodes)
    ]  # fmt: skip


def _constant(n: int, _: Op) -> int:
    return n


def _most_on_a_path(graph: Graph, counted: Callable[[Op], bool]) -> int:
    """How many counted operations one path of an acyclic graph can have at most."""

    @functools.cache
    def most(number: int) -> int:
        node = graph.nodes[number]
        after = max((most(e.target) for e in node.edges if e.target >= 0), default=0)
        return after + counted(node.op)

    return max((most(e.target) for e in graph.entry if e.target >= 0), default=0)


def _needed_terms(graph: Graph, cells: set[Cell]) -> list[Term]:
    """Guards, the updates of followed cells with their choices, and the returned values that decide any of them."""
    terms = [n.op.guard for n in graph.nodes if stop_of(n.op) is None]
    for n in graph.nodes:
        mine = [t for c, t in n.op.updates if c in cells]
        terms += mine
        if mine and n.op.choices:
            terms.append(n.op.where)
    edges = [*graph.entry, *(e for n in graph.nodes for e in n.edges)]
    terms += [c for e in edges for c in e.conditions]
    by_name = {f"{n.number}.{i}": (n, t) for n in graph.nodes for i, t in enumerate(n.op.returns)}
    seen: set[str] = set()
    queue = list(terms)
    while queue:
        for a in atoms(queue.pop(), "reg"):
            if a.args[0] in by_name and a.args[0] not in seen:
                seen.add(a.args[0])
                node, returned = by_name[a.args[0]]
                more = [returned, node.op.where] if node.op.choices else [returned]
                terms += more
                queue += more
    return terms


def finishes(graph: Graph) -> list[tuple[int | None, tuple[Term, ...]]]:
    """The edges on which the routine returns: (node, conditions); node None where it returns at once."""
    found: list[tuple[int | None, tuple[Term, ...]]] = [(None, e.conditions) for e in graph.entry if e.target == DONE]
    return found + [(n.number, e.conditions) for n in graph.nodes for e in n.edges if e.target == DONE]
