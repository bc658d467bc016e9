"""Lower bounds on the number of steps to a violation, from the control graphs alone.

For a violation to be true each of its conjuncts must be.  One that is false now has to be made true by an operation that
writes one of its cells, and some task has to walk to such an operation.  If on every way there it has to wait for a work
item, that CPU's worker has steps to make as well.  Steps of different tasks add up; of several needs that the same tasks
can meet the largest counts, and a worker meets a need with the steps that it has to make anyway, if it can.  The sum is at
most the number of steps that are left, so A* finds a shortest trace with it (Hart, Nilsson, Raphael 1968; a state may come
again by a shorter way, and is then expanded again).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernelmodel.does import Work
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms, const, substitute, substitute_cells
from verify.explore.model import LOCATION, Model, TaskModel
from verify.explore.movers import Movers
from verify.explore.rows import Rows
from verify.explore.values import conjuncts

Steps = npt.NDArray[np.int16]
#: for each location of a task its operations and where they may lead
Ways = list[list[tuple[FoldedNode, list[int]]]]
#: more steps than any trace has
FAR = 10_000


@dataclass(frozen=True, slots=True)
class _Walk:
    """A task's steps to an operation that it has to perform, and the workers for which it has to wait on the way."""

    task: TaskModel
    far: Steps
    flushes: dict[int, npt.NDArray[np.bool_]]
    queues: dict[int, npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class _Need:
    """A conjunct: true where ``met``; else one of ``walks`` has to be made."""

    columns: tuple[int, ...]
    value: int
    equal: bool
    walks: tuple[_Walk, ...]

    def met(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Where the conjunct is true: the one column has (not) the value, or some column of several is not 0."""
        found: npt.NDArray[np.bool_] = (rows[list(self.columns)] != 0).any(axis=0)
        if len(self.columns) == 1:
            found = (rows[self.columns[0]] == self.value) == self.equal
        return found


@dataclass(frozen=True, slots=True)
class _Group:
    """Needs that some tasks can meet, of which none can meet one of another group; each with what has to follow."""

    tasks: frozenset[int]
    needs: list[tuple[_Need | _Walk, int]]


class Distance:
    """A lower bound on the steps from a row to a violation of one property."""

    def __init__(self, model: Model, prop: int) -> None:
        """``prop``: the position of the property in the model."""
        self.model = model
        self.constants = {
            c: Term("const", (v,), "int") for c in model.initial_values if (v := model.analysis.constant(c)) is not None
        }
        facts = Movers(model, (), only_facts=True)
        self.ways = {
            t.number: [
                [(n, [x for c, x in n.edges if x != RETURNED and facts.way(t, location, n, c)]) for n in t.at(location)]
                for location in range(len(t.graph.locations))
            ]
            for t in model.tasks
        }
        self._walks: dict[object, tuple[_Walk, ...]] = {}
        self.workers = {int(t.spec.cpu or 0): t for t in model.tasks if t.spec.kind.serves}
        work = {w.cpu: w for t in self.workers.values() for n in t.graph.kept if (w := n.op.does.begins)}
        #: the column that says whether a CPU's work is queued, if there is one
        self._queued = {cpu: model.address.get(w.pending) for cpu, w in work.items()}
        self._cycle = {c: self._to_end(t) for c, t in self.workers.items()}
        #: each goal: needs in groups that different tasks meet, and one step more if an operation has to follow
        self.goals: list[list[_Group]] = []
        for check in model.state_checks:
            if check.prop == prop:
                self._add(check.check.violation, None, None)
        for task in model.tasks:
            for node in task.graph.kept:
                for i, step in model.step_checks(node.op):
                    if i == prop:
                        self._add(step.violation, task, node)

    def of(self, rows: Rows) -> Steps:
        """The bound for each row; FAR where no violation can be reached."""
        best = np.full(rows.shape[1], FAR, np.int16)
        for groups in self.goals:
            waits: dict[int, npt.NDArray[np.int64]] = {}
            sums = []
            for group in groups:
                most = np.zeros(rows.shape[1], np.int64)
                for need, after in group.needs:
                    if isinstance(need, _Walk):
                        steps, waiting = self._steps(rows, (need,))
                        met = np.zeros(rows.shape[1], bool)
                    else:
                        met = need.met(rows)
                        steps, waiting = self._steps(rows, need.walks)
                    most = np.maximum(most, np.where(met, 0, steps + after))
                    for cpu, wait in waiting.items():
                        waits[cpu] = np.maximum(waits.get(cpu, 0), np.where(met, 0, wait))
                sums.append(most)
            total = np.zeros(rows.shape[1], np.int64)
            for group, most in zip(groups, sums, strict=True):
                mine = [cpu for cpu in waits if self.workers[cpu].number in group.tasks]
                total += np.maximum(most, sum((waits.pop(cpu) for cpu in mine), np.zeros(rows.shape[1], np.int64)))
            for wait in waits.values():
                total += wait
            best = np.minimum(best, np.minimum(total, FAR).astype(np.int16))
        return best

    def _steps(
        self, rows: Rows, walks: tuple[_Walk, ...]
    ) -> tuple[npt.NDArray[np.int64], dict[int, npt.NDArray[np.int64]]]:
        """The least steps of any walk, and what workers have to do if there is only one that can be made."""
        least = np.full(rows.shape[1], FAR, np.int64)
        for walk in walks:
            least = np.minimum(least, walk.far[rows[walk.task.location]])
        waiting: dict[int, npt.NDArray[np.int64]] = {}
        if len(walks) == 1:
            walk = walks[0]
            here = rows[walk.task.location]
            for cpu, must in walk.flushes.items():
                worker = self.workers[cpu]
                to_end, first = self._cycle[cpu]
                at = rows[worker.location]
                pending = self._pending(rows, cpu)
                queued = walk.queues[cpu][here] if cpu in walk.queues else np.zeros(len(here), bool)
                now = np.where(at == worker.graph.entry[0][1], 0, to_end[at])
                steps = now + np.where(pending | queued, first, 0)
                waiting[cpu] = np.where(must[here], steps, 0)
        return least, waiting

    def _pending(self, rows: Rows, cpu: int) -> npt.NDArray[np.bool_]:
        column = self._queued.get(cpu)
        return np.zeros(rows.shape[1], bool) if column is None else rows[column] != 0

    # --- goals ---

    def _add(self, violation: Term, task: TaskModel | None, node: FoldedNode | None) -> None:
        if task is not None:
            violation = substitute(violation, {"me": const(task.number)})
        violation = substitute_cells(violation, self.constants)
        if violation.op == "const" and not violation.args[0]:
            return
        found: list[tuple[_Need | _Walk, int]] = []
        if task is not None and node is not None:
            found.append((self._walk(task, _is(node)), 0))
        for part in conjuncts(violation):
            need = self._need(part)
            if need is not None:
                found.append((need, 0 if task is None else 1))
        self.goals.append(_disjoint(found))

    def _need(self, part: Term) -> _Need | None:
        literal = _literal(part)
        if literal is not None and literal[0].name == LOCATION:
            return self._return(*literal)
        if literal is not None:
            cells, value, equal = [literal[0]], literal[1], literal[2]
        else:
            cells, value, equal = _any_of(part), 0, False
        columns = tuple(self.model.address[c] for c in cells if c in self.model.address)
        if not columns or any(c >= self.model.width for c in columns):
            return None
        wanted = _makes(cells, value, equal)
        key = (tuple(cells), value, equal)
        if key not in self._walks:
            self._walks[key] = tuple(
                self._walk(t, wanted) for t in self.model.tasks if any(wanted(n) for n in t.graph.kept)
            )
        return _Need(columns, value, equal, self._walks[key])

    def _return(self, location: Cell, value: int, equal: bool) -> _Need | None:
        """What it takes for a task to return; daemons only come to rest, which costs nothing that is known."""
        task = next(t for t in self.model.tasks if t.spec.name == location.index[0])
        if value != RETURNED or not equal:
            return None
        key = ("return", task.number)
        if key not in self._walks:
            self._walks[key] = (self._walk(task, lambda n: any(t == RETURNED for _, t in n.edges)),)
        return _Need((task.location,), value, equal, self._walks[key])

    def _walk(self, task: TaskModel, wanted: Callable[[FoldedNode], bool]) -> _Walk:
        far = _far(self.ways[task.number], wanted)
        flushes, queues = {}, {}
        for cpu in self.workers:
            must = _must_pass(self.ways[task.number], wanted, _gate(lambda op: op.does.awaits, cpu))
            if must.any():
                flushes[cpu] = must
                # what is queued after the last flush is waited for by nobody
                queues[cpu] = _must_pass(self.ways[task.number], wanted, _gate(lambda op: op.does.queues, cpu, must))
        return _Walk(task, far, flushes, queues)

    def _to_end(self, worker: TaskModel) -> tuple[Steps, int]:
        """For each location of a worker the least steps to the end of its work item; and from its beginning."""
        far = _far(self.ways[worker.number], lambda n: n.op.does.ends is not None)
        return far, int(far[worker.graph.entry[0][1]])


def _disjoint(found: list[tuple[_Need | _Walk, int]]) -> list[_Group]:
    """The needs in groups such that no task can meet needs of two groups."""
    groups: list[tuple[set[int], list[tuple[_Need | _Walk, int]]]] = []
    for need, after in found:
        walks = (need,) if isinstance(need, _Walk) else need.walks
        tasks = {w.task.number for w in walks}
        members = [(need, after)]
        rest = []
        for numbers, others in groups:
            if numbers & tasks:
                tasks |= numbers
                members = [*others, *members]
            else:
                rest.append((numbers, others))
        groups = [*rest, (tasks, members)]
    # an operation that has to follow is one step for all groups together
    return [
        _Group(frozenset(tasks), members if i == 0 else [(need, 0) for need, _ in members])
        for i, (tasks, members) in enumerate(groups)
    ]


def _far(ways: Ways, wanted: Callable[[FoldedNode], bool]) -> Steps:
    """For each location, and last for a task that has returned, the least steps that end with a wanted operation."""
    far = np.full(len(ways) + 1, FAR, np.int16)
    changed = True
    while changed:
        changed = False
        for location in range(len(ways) - 1, -1, -1):
            for node, targets in ways[location]:
                steps = 1 if wanted(node) else 1 + min((int(far[t]) for t in targets), default=FAR)
                if steps < far[location]:
                    far[location] = steps
                    changed = True
    return far


def _must_pass(
    ways: Ways, wanted: Callable[[FoldedNode], bool], gate: Callable[[FoldedNode, list[int]], bool]
) -> npt.NDArray[np.bool_]:
    """For each location whether every way to a wanted operation goes through a gate first.

    A gate is known by its operation and where that may lead.
    """
    around = np.zeros(len(ways) + 1, bool)
    changed = True
    while changed:
        changed = False
        for location in range(len(ways) - 1, -1, -1):
            if not around[location] and any(
                wanted(node) or (not gate(node, targets) and any(around[t] for t in targets))
                for node, targets in ways[location]
            ):
                around[location] = changed = True
    return ~around


def _gate(
    work: Callable[[Op], Work | None], cpu: int, leads_to: npt.NDArray[np.bool_] | None = None
) -> Callable[[FoldedNode, list[int]], bool]:
    """Operations that have to do with a CPU's work; with ``leads_to`` those that lead to nothing but such locations."""

    def gate(node: FoldedNode, targets: list[int]) -> bool:
        there = leads_to is None or all(leads_to[t] for t in targets)
        mine = work(node.op)
        return mine is not None and mine.cpu == cpu and there

    return gate


def _is(node: FoldedNode) -> Callable[[FoldedNode], bool]:
    return lambda other: other is node


def _makes(cells: Iterable[Cell], value: int, equal: bool) -> Callable[[FoldedNode], bool]:
    """Whether an operation may give one of the cells the value (or another one than it)."""
    wanted = set(cells)

    def makes(node: FoldedNode) -> bool:
        return any(c in wanted and _may_be(node.op, c, t, value, equal) for c, t in node.op.updates)

    return makes


def _may_be(op: Op, cell: Cell, new: Term, value: int, equal: bool) -> bool:
    if new.op == "const":
        return (int(new.args[0]) == value) == equal
    if new.op == "reg" and new.args[0] == "me" and value == 0:
        return not equal
    lowered = new.op == "-" and new.args[0].op == "cell" and new.args[0].args[0] == cell
    # choices and registers that are subtracted are numbers of pages, so this makes nothing larger
    return not (lowered and value == 0 and not equal and op.does.takes)


def _literal(part: Term) -> tuple[Cell, int, bool] | None:
    """(cell, value, whether equal) for a conjunct about one cell and a constant."""
    if part.op == "cell":
        return part.args[0], 0, False
    if part.op == "==" and part.args[0].op == "cell" and part.args[1].op == "const":
        return part.args[0].args[0], int(part.args[1].args[0]), True
    if part.op == "not":
        inner = _literal(part.args[0])
        return None if inner is None else (inner[0], inner[1], not inner[2])
    return None


def _any_of(part: Term) -> list[Cell]:
    """The cells of a conjunct that says that some of them, none of which is below 0, is not 0; none for others."""
    cells = [a.args[0] for a in atoms(part, "cell")]
    if part.op == "<" and part.args[0].op == "const" and part.args[0].args[0] == 0 and _is_sum(part.args[1]):
        return cells
    if part.op == "not" and part.args[0].op == "and":
        parts = part.args[0].args
        zero = [
            p.op == "==" and p.args[1].op == "const" and p.args[1].args[0] == 0 and _is_sum(p.args[0]) for p in parts
        ]
        return cells if all(zero) else []
    return []


def _is_sum(term: Term) -> bool:
    return term.op in ("cell", "const") or (term.op == "+" and all(_is_sum(a) for a in term.args))
