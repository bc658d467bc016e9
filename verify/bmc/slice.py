"""What of a scenario matters for one check: the tasks' graphs as seen from one CPU, and the cone of influence.

A *slice* follows one CPU.  All freeing and allocating tasks that may be there are put there, and each may stop at any
point or never start, so every placement of them on CPUs is covered as far as this CPU can tell.  What belongs to other
CPUs alone is open: a read of it gives any value.  ``interference`` computes what the tasks left out could write that
this slice reads; the caller must have an answer for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kernelmodel.automaton import DONE, Edge, Graph, Node, extract
from kernelmodel.cells import initial, is_derived, layout
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms
from kernelmodel.text import KernelText
from properties.property import Check, Property
from verify.scenario import Scenario, TaskSpec

#: cells that belong to one CPU, and the place of that CPU in their index
PER_CPU = {"pcp.nr": 1, "pcp.count": 1, "pcp.high": 1, "pcp.batch": 1, "irqs_off": 0, "isolated_at_irqs_off": 0}
#: sums over all CPUs: what a section on another CPU adds and takes back is left out of a slice
AGGREGATES = frozenset(("held", "misplaced"))
#: only compared with 0, and never 0 here, for pageblock 0 stays online: whatever is written, the answer is the same
NEVER_ZERO = frozenset(("zone.present_pages",))
#: cells whose value at the start is open
OPEN_AT_START = frozenset(
    ("pcp.nr", "pcp.count", "pcp.high", "pcp.batch", "zone.pageset_high", "zone.pageset_batch", "held")
    + ("pageblock.migratetype",)
)


@dataclass(frozen=True, slots=True)
class TaskGraph:
    """A task of the scenario with its control graph and the CPU on which the slice has it."""

    spec: TaskSpec
    cpu: int
    graph: Graph


@dataclass(frozen=True, slots=True)
class StepCheck:
    """A check of a step property at one operation of one task."""

    task: TaskGraph
    node: Node
    check: Check


@dataclass(frozen=True, slots=True)
class Slice:
    """The tasks that matter for one check (or one property's step checks), and the cells that are followed."""

    scenario: Scenario
    cpu: int
    tasks: tuple[TaskGraph, ...]
    cells: frozenset[Cell]
    state_check: Check | None = None
    step_checks: tuple[StepCheck, ...] = ()

    @property
    def has_cpu_tasks(self) -> bool:
        """Whether any freeing or allocating task matters."""
        return any(t.spec.kind in ("free", "alloc") for t in self.tasks)


class Model:
    """A kernel and a scenario: control graphs are extracted once and shared by all slices."""

    def __init__(self, kernel: type[KernelText], scenario: Scenario, zeros: Sequence[str] = ()) -> None:
        """``zeros`` names cells that are known to be 0 in every reachable state (a lemma proved before)."""
        self.kernel, self.scenario, self.config = kernel, scenario, scenario.config
        self.instance = kernel(self.config)
        self.specs = scenario.tasks()
        self._known: dict[Cell, int] = {}
        writers = {c for s in self.specs for n in self.graph(s, s.cpu or 0).nodes for c, _ in n.op.updates}
        self._known = {c: 0 for c in layout(self.config) if c.name in zeros}
        self._known |= {c: initial(self.config, c) for c in layout(self.config) if c.name in NEVER_ZERO}
        self._known |= {
            c: initial(self.config, c)
            for c in layout(self.config)
            if c not in writers and c.name not in PER_CPU and c.name not in OPEN_AT_START and not is_derived(c)
        }
        self.graph.cache_clear()

    @functools.cache  # noqa: B019 - a Model lives as long as its command
    def graph(self, spec: TaskSpec, cpu: int) -> Graph:
        """The control graph of a task that stays on ``cpu``."""
        visits = self.scenario.visits
        if spec.kind == "worker":
            runs = self._runs_of_worker(cpu)
            visits = lambda _: runs  # noqa: E731 - a worker runs as often as its work can be queued
        return extract(self.kernel, lambda: spec.make(self.instance), cpu, self._known, visits)

    def _runs_of_worker(self, cpu: int) -> int:
        graphs = [self.graph(s, s.cpu or 0) for s in self.specs if s.kind != "worker"]
        return sum(
            _most_on_a_path(g, lambda op: op.tag == "queue_work" and op.info["cpu"] == cpu) for g in graphs
        )  # fmt: skip

    def task_graphs(self, cpu: int) -> list[TaskGraph]:
        """All tasks that may be on ``cpu``, and those that belong to no CPU or to another one by their nature."""
        found = []
        for spec in self.specs:
            if spec.kind in ("free", "alloc") and spec.cpu not in (None, cpu):
                continue
            where = spec.cpu if spec.cpu is not None else cpu
            found.append(TaskGraph(spec, where, self.graph(spec, where)))
        return found

    @property
    def known(self) -> Mapping[Cell, int]:
        """Cells that keep one value throughout."""
        return self._known

    def slices(self, prop: Property) -> list[Slice]:
        """The slices that together decide ``prop``."""
        found: list[Slice] = []
        for cpu in self.config.cpus:
            tasks = self.task_graphs(cpu)
            checks: list[tuple[Check | None, tuple[StepCheck, ...]]] = [
                (c, ()) for c in prop.state_checks(self.config) if c.cpu in (None, cpu)
            ]
            steps = tuple(
                StepCheck(t, n, c)
                for t in tasks
                if t.spec.kind != "worker" or t.cpu == cpu
                for n in t.graph.nodes
                for c in prop.step_checks(self.config, n.op)
                if c.cpu in (None, cpu)
            )
            if prop.step:
                checks.append((None, steps))
            for state_check, step_checks in checks:
                piece = self._cone(cpu, tasks, state_check, step_checks)
                # without tasks of a CPU, the slices of different CPUs ask the same question
                everywhere = state_check is None or state_check.cpu is None
                if cpu == 0 or piece.has_cpu_tasks or not everywhere:
                    found.append(piece)
        return found

    def _cone(
        self, cpu: int, tasks: list[TaskGraph], state_check: Check | None, step_checks: tuple[StepCheck, ...]
    ) -> Slice:
        terms = [t for s in step_checks for t in (s.check.premise, s.check.violation)]
        if state_check:
            terms += [state_check.premise, state_check.violation]
        cells = self._follow(cpu, terms)
        chosen = {t.spec.number for s in step_checks for t in (s.task,)}
        while True:
            for t in tasks:
                if t.spec.number not in chosen and any(c in cells for n in t.graph.nodes for c, _ in n.op.updates):
                    chosen.add(t.spec.number)
            new = set(cells)
            for t in tasks:
                if t.spec.number in chosen:
                    new |= self._follow(cpu, _needed_terms(t.graph, new))
            if new == cells:
                break
            cells = new
        judged = {(s.task.spec.number, s.node.number) for s in step_checks}
        kept = tuple(
            TaskGraph(t.spec, t.cpu, contract(t.graph, functools.partial(_matters, t, frozenset(cells), judged)))
            for t in tasks
            if t.spec.number in chosen
        )
        return Slice(self.scenario, cpu, kept, frozenset(cells), state_check, step_checks)

    def _follow(self, cpu: int, terms: Sequence[Term]) -> set[Cell]:
        found = {a.args[0] for t in terms for a in atoms(t, "cell")}
        return {
            c for c in found if c not in self._known and (c.name not in PER_CPU or self._mine(c, cpu))
        }  # fmt: skip

    def _mine(self, cell: Cell, cpu: int) -> bool:
        # limits of other CPUs are shared variables that a check may compare; lists and counts are not
        return cell.name in ("pcp.high", "pcp.batch") or cell.index[PER_CPU[cell.name]] == cpu

    def interference(self, piece: Slice) -> set[Cell]:
        """Cells that the slice reads and that a freeing or allocating task on another CPU could write."""
        read = {
            a.args[0]
            for t in piece.tasks
            for n in t.graph.nodes
            for term in (n.op.guard, n.op.where, *n.op.returns, *(u for c, u in n.op.updates if c in piece.cells))
            for a in atoms(term, "cell")
        } & piece.cells
        other = (piece.cpu + 1) % self.config.nr_cpus
        if other == piece.cpu:
            return set()
        written = {
            c
            for spec in self.specs
            if spec.kind in ("free", "alloc")
            for n in self.graph(spec, other).nodes
            for c, _ in n.op.updates
        }
        return read & written


def _matters(task: TaskGraph, cells: frozenset[Cell], judged: set[tuple[int, int]], node: Node) -> bool:
    op = node.op
    return (
        op.tag in ("irq_save", "irq_restore")
        or op.guard.op != "const"
        or not op.guard.args[0]
        or any(t.op != "const" for t in op.returns)
        or any(c in cells for c, _ in op.updates)
        or (task.spec.number, node.number) in judged
    )


def _needed_terms(graph: Graph, cells: set[Cell]) -> list[Term]:
    """Guards, the updates of followed cells with their choices, and the returned values that decide any of them."""
    terms = [n.op.guard for n in graph.nodes if n.op.tag not in ("irq_save", "irq_restore")]
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


def _most_on_a_path(graph: Graph, counted: Callable[[Op], bool]) -> int:
    """How many counted operations one path of an acyclic graph can have at most."""

    @functools.cache
    def most(number: int) -> int:
        node = graph.nodes[number]
        after = max((most(e.target) for e in node.edges if e.target >= 0), default=0)
        return after + counted(node.op)

    return max((most(e.target) for e in graph.entry if e.target >= 0), default=0)


def contract(graph: Graph, matters: Callable[[Node], bool]) -> Graph:
    """``graph`` without the operations that do not matter and decide nothing: they leave their place to the next."""

    def follow(target: int) -> int:
        while target >= 0 and not matters(graph.nodes[target]):
            edges = graph.nodes[target].edges
            if len(edges) != 1 or edges[0].conditions:
                break
            target = edges[0].target
        return target

    def rewired(edges: list[Edge]) -> list[Edge]:
        return [Edge(e.conditions, follow(e.target)) for e in edges]

    kept: dict[int, Node] = {}
    entry = rewired(graph.entry)
    queue = [e.target for e in entry if e.target >= 0]
    while queue:
        number = queue.pop()
        if number not in kept:
            node = graph.nodes[number]
            kept[number] = Node(number, node.op, node.stack, rewired(node.edges))
            queue += [e.target for e in kept[number].edges if e.target >= 0]
    return Graph(entry, [kept[n] for n in sorted(kept)])


def finishes(graph: Graph) -> list[tuple[int | None, tuple[Term, ...]]]:
    """The edges on which the routine returns: (node, conditions); node None where it returns at once."""
    found: list[tuple[int | None, tuple[Term, ...]]] = [(None, e.conditions) for e in graph.entry if e.target == DONE]
    return found + [(n.number, e.conditions) for n in graph.nodes for e in n.edges if e.target == DONE]
