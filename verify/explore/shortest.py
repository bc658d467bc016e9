"""The shortest trace to a violation, and among the shortest the one with the fewest context switches.

A* over single operations, without any reduction, gives the length; then a pass over the layers that can still be part
of a trace of that length counts context switches and keeps, for each state and last task, the way with the fewest.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernelmodel.graphs.folded_graph import RETURNED
from verify.explore.distance import FAR, Distance
from verify.explore.model import Model, TaskModel
from verify.explore.rows import Rows
from verify.explore.search import Limits, initial_rows
from verify.explore.seen import Seen
from verify.explore.table import Index, Table, Transitions

#: steps by one table: parents, outcomes, and which violate the property
Step = tuple[Table, Index, Index, npt.NDArray[np.bool_]]


class GaveUpError(Exception):
    """The search for a trace ran out of time or memory; the message says of which."""


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a trace: who does what where, with which choices."""

    task: TaskModel
    location: int
    which: int
    choices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """A shortest trace: its first state and its steps, the last of which violates the property."""

    first: list[int]
    moves: tuple[Move, ...]
    switches: int


class Shortest:
    """A search for the shortest violation of one property of a model that has no reductions."""

    def __init__(self, model: Model, prop: int, limits: Limits, progress: Callable[[str], None] | None = None) -> None:
        """``prop``: the position of the property in the model."""
        checks = [i for i, c in enumerate(model.state_checks) if c.prop == prop]
        self.model, self.bit, self.limits, self.progress = model, 1 << prop, limits, progress
        self.transitions = Transitions(model, None, True, checks)
        self.distance = Distance(model, prop)
        self.first = initial_rows(model, True)
        #: for each check the values of the columns that it reads, and whether they violate it
        self._judged: dict[int, dict[tuple[int, ...], bool]] = {}
        self._earlier = {
            t.number: [o for o in model.tasks if o.spec.kind is t.spec.kind and o.number < t.number]
            for t in model.tasks
            if t.spec.kind.equal
        }

    def find(self, most: int = FAR) -> Path | None:
        """The shortest trace of at most ``most`` steps; None if there is none."""
        length = self._length(most)
        return None if length is None else self._fewest_switches(length)

    # --- A* ---

    def _length(self, most: int) -> int | None:
        rows = self.first
        hashes = self.transitions.hashes(rows)[0]
        bound = self.distance.of(rows)
        open_: dict[tuple[int, int], list[tuple[Rows, npt.NDArray[np.uint64]]]] = {}
        heap: list[tuple[int, int]] = []
        self._insert(open_, heap, 0, rows, hashes, bound)
        seen = Seen()
        best = most + 1
        states = 0
        while heap:
            f, g = heapq.heappop(heap)
            if f >= best:
                break
            self._check(f"A*: {f} steps at least, {states:,} states")
            batch = open_.pop((f, g))
            rows = np.concatenate([r for r, _ in batch], axis=1)
            prints, first = np.unique(np.concatenate([h for _, h in batch]), return_index=True)
            new = seen.unknown(prints)
            prints, first = prints[new], first[new]
            if not len(prints):
                continue
            seen.add(prints)
            states += len(prints)
            rows = rows[:, first]
            steps = self._steps(rows)
            if any(bad.any() for *_, bad in steps):
                best = min(best, g + 1)
            if steps:
                after = np.concatenate([self._after(rows, t, p, o) for t, p, o, _ in steps], axis=1)
                new_hashes = np.concatenate([prints[p] + t.delta[0, o] for t, p, o, _ in steps])
                self._insert(open_, heap, g + 1, after, new_hashes, self.distance.of(after), best)
        return best if best <= most else None

    def _insert(
        self, open_: dict[tuple[int, int], list[tuple[Rows, npt.NDArray[np.uint64]]]], heap: list[tuple[int, int]], g: int,
        rows: Rows, hashes: npt.NDArray[np.uint64], bound: npt.NDArray[np.int16], best: int = FAR,
    ) -> None:  # fmt: skip
        for h in np.unique(bound).tolist():
            if h >= FAR or g + h >= best:
                continue
            mine = bound == h
            key = (g + h, g)
            if key not in open_:
                open_[key] = []
                heapq.heappush(heap, key)
            open_[key].append((rows[:, mine], hashes[mine]))

    def _check(self, text: str) -> None:
        why = self.limits.exceeded()
        if why:
            raise GaveUpError(why)
        if self.progress is not None:
            self.progress(text)

    # --- steps ---

    def _steps(self, rows: Rows) -> list[Step]:
        """All single steps of some rows."""
        t = self.transitions
        found: list[Step] = []
        for task in self.model.tasks:
            locations = rows[task.location]
            for location in np.unique(locations).tolist():
                if location == RETURNED:
                    continue
                index = self._first_of_equals(rows, task, np.flatnonzero(locations == location))
                for table in t.tables(task, location):
                    parents, outcomes = table.successors(rows, index)
                    if len(parents):
                        found.append((table, parents, outcomes, (table.bad[outcomes] & self.bit) != 0))
        self._judge_late(rows, found)
        return found

    def _first_of_equals(self, rows: Rows, task: TaskModel, index: Index) -> Index:
        mine = np.array([task.location, *sorted(set(task.slots.values()))])[:, None]
        for other in self._earlier.get(task.number, ()):
            theirs = np.array([other.location, *sorted(set(other.slots.values()))])[:, None]
            index = index[~(rows[mine, index] == rows[theirs, index]).all(axis=0)]
        return index

    def _after(self, rows: Rows, table: Table, parents: Index, outcomes: Index) -> Rows:
        after = rows[:, parents]
        after[table.written] = table.new[:, outcomes]
        return after

    def _judge_late(self, rows: Rows, found: Sequence[Step]) -> None:
        """Note which steps come to a state that violates a check, each check once for the steps of all tables."""
        waiting: dict[int, list[int]] = {}
        for i, (table, _, _, bad) in enumerate(found):
            if table.late and not bad.all():
                for check in table.late:
                    waiting.setdefault(check, []).append(i)
        after = {i: self._after(rows, *found[i][:3]) for some in waiting.values() for i in some}
        for check, some in waiting.items():
            columns = sorted(self.transitions.check_columns[check])
            judged = self._violate(check, columns, np.concatenate([after[i][columns] for i in some], axis=1))
            ends = np.cumsum([len(found[i][3]) for i in some])
            for i, part in zip(some, np.split(judged, ends[:-1]), strict=True):
                found[i][3][:] |= part

    def _violate(self, check: int, columns: list[int], values: Rows) -> npt.NDArray[np.bool_]:
        """Which values of the columns that a check reads violate it."""
        known, predicate = self._judged.setdefault(check, {}), self.transitions.predicates[check]
        hashes = self.transitions.hash_of(values, columns)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        judged = []
        for column in map(tuple, values[:, first].T.tolist()):
            if column not in known:
                known[column] = self.transitions.holds(predicate, columns, column)
            judged.append(known[column])
        return np.array(judged, bool)[inverse]

    # --- context switches ---

    def _fewest_switches(self, length: int) -> Path:
        """A trace of exactly ``length`` steps, the shortest there is, with the fewest changes of task."""
        rows = self.first
        last = np.zeros(rows.shape[1], np.int64)
        cost = np.zeros(rows.shape[1], np.int64)
        hashes = self.transitions.hashes(rows)[0]
        layers: list[tuple[Rows, npt.NDArray[np.int64]]] = [(rows, np.zeros(rows.shape[1], np.int64))]
        end: tuple[int, int, int] | None = None
        for g in range(length):
            self._check(f"fewest context switches: step {g + 1} of {length}, {rows.shape[1]:,} states")
            found: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64], Index]] = []
            afters: list[Rows] = []
            for table, parents, outcomes, bad in self._steps(rows):
                number = table.task.number
                switches = cost[parents] + ((last[parents] != number) & (last[parents] != 0))
                if g == length - 1:
                    for i in np.flatnonzero(bad).tolist():
                        if end is None or switches[i] < end[0]:
                            end = (int(switches[i]), int(parents[i]), number)
                    continue
                afters.append(self._after(rows, table, parents, outcomes))
                found.append(
                    (hashes[parents] + table.delta[0, outcomes], np.full(len(parents), number), switches, parents)
                )
            if g == length - 1:
                break
            rows = np.concatenate(afters, axis=1)
            keep = self.distance.of(rows) + (g + 1) <= length
            rows = rows[:, keep]
            hashes, last, cost, parent = (np.concatenate([f[i] for f in found])[keep] for i in range(4))
            # of the ways to one state by one last task, the one with the fewest switches
            key = hashes + last.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            order = np.lexsort((cost, key))
            first = order[np.concatenate(([True], key[order][1:] != key[order][:-1]))]
            rows, hashes, last, cost = rows[:, first], hashes[first], last[first], cost[first]
            layers.append((rows, parent[first]))
        assert end is not None, "a trace of that length was found before"
        return self._path(layers, end)

    def _path(self, layers: list[tuple[Rows, npt.NDArray[np.int64]]], end: tuple[int, int, int]) -> Path:
        switches, at, _ = end
        states: list[list[int]] = []
        for rows, parent in reversed(layers):
            states.append(rows[:, at].tolist())
            at = int(parent[at])
        states.reverse()
        moves = [self._move(a, b) for a, b in itertools.pairwise(states)]
        moves.append(self._last_move(states[-1], end[2]))
        return Path(states[0], tuple(moves), switches)

    def _options(self, state: list[int]) -> list[tuple[Move, list[int], int]]:
        found = []
        for task in self.model.tasks:
            location = state[task.location]
            if location == RETURNED:
                continue
            for which, function in enumerate(self.transitions.functions(task, location)):
                raw: list[tuple[list[int], int, int, int, tuple[int, ...]]] = []
                function(state + [0] * (self.transitions.extent - len(state)), raw)
                for w, _, bad, _, choices in raw:
                    for i in self.transitions.checks:
                        if self.transitions.predicates[i](w):
                            bad |= 1 << self.model.state_checks[i].prop
                    found.append((Move(task, location, which, choices), w[: self.model.width], bad))
        return found

    def _move(self, state: list[int], after: list[int]) -> Move:
        return next(move for move, w, _ in self._options(state) if w == after)

    def _last_move(self, state: list[int], number: int) -> Move:
        return next(move for move, _, bad in self._options(state) if bad & self.bit and move.task.number == number)
