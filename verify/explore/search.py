"""Breadth-first search over tabulated transitions: a level is one array, states already seen are known by fingerprint."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kernelmodel.folded import RETURNED
from verify.explore.model import DAEMONS, Model, cells_in
from verify.explore.table import Hashes, Index, Rows, Table, Transitions


class Seen:
    """A set of fingerprints: sorted runs, each at least twice as long as the next."""

    def __init__(self) -> None:
        """Empty."""
        self.runs: list[Hashes] = []

    def add(self, fresh: Hashes) -> None:
        """Add sorted fingerprints that are not in the set."""
        self.runs.append(fresh)
        while len(self.runs) > 1 and len(self.runs[-2]) < 2 * len(self.runs[-1]):
            b, a = self.runs.pop(), self.runs.pop()
            merged = np.concatenate([a, b])
            merged.sort(kind="stable")
            self.runs.append(merged)

    def unknown(self, sorted_hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of some sorted fingerprints are not in the set."""
        new = np.ones(len(sorted_hashes), bool)
        for run in self.runs:
            at = np.searchsorted(run, sorted_hashes)
            at[at == len(run)] = 0
            new &= run[at] != sorted_hashes
        return new

    def __len__(self) -> int:
        return sum(map(len, self.runs))


@dataclass(slots=True)
class Level:
    """The states found in one level: rows, hashes, and for each what it violates."""

    rows: Rows
    hashes: Hashes
    bad: npt.NDArray[np.int64]


@dataclass(slots=True)
class Found:
    """What a search covered and found.  ``violated`` are bits of properties, with a row that shows each."""

    states: int = 0
    transitions: int = 0
    levels: int = 0
    violated: int = 0
    reached: set[int] = field(default_factory=set)
    deadlocks: int = 0
    stuck: str = ""
    stopped: str = ""
    seconds: float = 0.0
    widest: int = 0


@dataclass(slots=True)
class Limits:
    """When to give up: a time (time.monotonic()), a peak of memory in MB."""

    deadline: float | None = None
    memory_mb: float | None = None

    def exceeded(self) -> str:
        """Why the search has to stop; empty if it need not."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "out of time"
        if self.memory_mb is not None and peak_mb() > self.memory_mb:
            return "out of memory (--memory-limit)"
        return ""


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


class Search:
    """One search."""

    def __init__(
        self, transitions: Transitions, limits: Limits, wanted: int, progress: Callable[[str], None] | None = None
    ) -> None:
        """``wanted``: stop as soon as a property of these bits is violated."""
        self.transitions, self.limits, self.wanted = transitions, limits, wanted
        self.model: Model = transitions.model
        self.progress = progress
        self.found = Found()
        self.seen = Seen()
        self._premises = {
            i: transitions.compiler.predicate(c.check.premise) for i, c in enumerate(self.model.state_checks)
        }
        self._premise_columns = {
            i: sorted(transitions.columns_of(cells_in([self.model.state_checks[i].check.premise])))
            for i in self._premises
        }
        self._late: dict[int, dict[int, bool]] = {i: {} for i in transitions.checks}

    def run(self, rows: Rows) -> Found:
        """Search from initial rows."""
        began = time.monotonic()
        t = self.transitions
        rows = self._settled(rows)
        hashes = t.hashes(rows)
        prints = t.fingerprint(hashes)
        prints, first = np.unique(prints, return_index=True)
        level = Level(rows[:, first], hashes[:, first], np.zeros(len(first), np.int64))
        self.seen.add(prints)
        self._judge_all(level)
        self.found.states = len(first)
        try:
            while level.rows.shape[1]:
                self.found.levels += 1
                self.found.widest = max(self.found.widest, level.rows.shape[1])
                if self.found.violated & self.wanted:
                    break
                self.found.stopped = self.limits.exceeded()
                if self.found.stopped:
                    break
                self._report(level, began)
                level = self.expand(level)
        except MemoryError:
            self.found.stopped = "out of memory"
        self.found.seconds = time.monotonic() - began
        return self.found

    def _report(self, level: Level, began: float) -> None:
        if self.progress is not None:
            seconds = max(time.monotonic() - began, 1e-9)
            self.progress(
                f"level {self.found.levels}, {self.found.states:,} states, {self.found.states / seconds:,.0f} states/s, "
                f"frontier {level.rows.shape[1]:,}, {peak_mb():,.0f} MB"
            )

    def _settled(self, rows: Rows) -> Rows:
        """Initial states after what each task does at once when it begins."""
        behind = [0] * (self.transitions.extent - self.model.width)
        states = [[*row, *behind] for row in rows.T.tolist()]
        for task in self.model.tasks:
            states = [w for v in states for w in self.transitions.settled(task, v)]
        return np.array([v[: self.model.width] for v in states], np.int16).T.copy()

    def expand(self, level: Level) -> Level:
        """The states that follow those of a level and were not seen before."""
        t = self.transitions
        rows, hashes = level.rows, level.hashes
        groups: list[tuple[Table, Index, Index]] = []
        prints: list[Hashes] = []
        alive = np.zeros(rows.shape[1], bool)
        for task in self.model.tasks:
            locations = rows[task.location]
            order = np.argsort(locations, kind="stable")
            ordered = locations[order]
            starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
            ends = np.append(starts[1:], len(ordered))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                location = int(ordered[start])
                if location == RETURNED:
                    continue
                for table in t.tables(task, location):
                    index = t.chosen(rows, hashes, table, order[start:end])
                    parents, outcomes = table.successors(rows, index)
                    if not len(parents):
                        continue
                    alive[parents] = True
                    self.found.transitions += len(parents)
                    self.found.violated |= int(np.bitwise_or.reduce(table.bad[outcomes]))
                    groups.append((table, parents, outcomes))
                    prints.append(t.fingerprint(hashes[:, parents] + table.delta[:, outcomes]))
        self._deadlocks(level, alive)
        return self._new_level(level, groups, prints)

    def _new_level(self, level: Level, groups: list[tuple[Table, Index, Index]], prints: list[Hashes]) -> Level:
        width = self.model.width
        if not groups:
            return Level(
                np.empty((width, 0), np.int16),
                np.empty((self.transitions.classes, 0), np.uint64),
                np.empty(0, np.int64),
            )
        together = np.concatenate(prints)
        fresh, first = np.unique(together, return_index=True)
        new = self.seen.unknown(fresh)
        fresh, first = fresh[new], np.sort(first[new])
        if len(fresh):
            self.seen.add(fresh)
        rows = np.empty((width, len(first)), np.int16)
        hashes = np.empty((self.transitions.classes, len(first)), np.uint64)
        bounds = np.cumsum([0, *(len(p) for p in prints)])
        cuts = np.searchsorted(first, bounds)
        late: dict[int, list[tuple[int, int]]] = {}
        for (table, parents, outcomes), offset, a, b in zip(groups, bounds[:-1], cuts[:-1], cuts[1:], strict=True):
            if a == b:
                continue
            mine = first[a:b] - offset
            p, o = parents[mine], outcomes[mine]
            np.take(level.rows, p, axis=1, out=rows[:, a:b])
            rows[table.written, a:b] = table.new[:, o]
            hashes[:, a:b] = level.hashes[:, p] + table.delta[:, o]
            for check in table.late:
                late.setdefault(check, []).append((int(a), int(b)))
        result = Level(rows, hashes, np.zeros(len(first), np.int64))
        self.found.states += len(first)
        for check, ranges in late.items():
            for a, b in ranges:
                self._judge(rows[:, a:b], check)
        self._look_for_premises(rows)
        return result

    # --- judging ---

    def _judge_all(self, level: Level) -> None:
        for check in self.transitions.checks:
            self._judge(level.rows, check)
        self._look_for_premises(level.rows)

    def _judge(self, rows: Rows, check: int) -> None:
        prop = 1 << self.model.state_checks[check].prop
        if not self.found.violated & prop and self._holds_somewhere(
            rows, sorted(self.transitions.check_columns[check]), self.transitions.predicates[check], self._late[check]
        ):
            self.found.violated |= prop

    def _holds_somewhere(
        self, rows: Rows, columns: list[int], predicate: Callable[[list[int]], int], known: dict[int, bool]
    ) -> bool:
        if not columns:
            return bool(predicate([0] * self.transitions.extent))
        values = rows[columns]
        hashes = (values.astype(np.uint64) * self.transitions.random[columns][:, None]).sum(axis=0, dtype=np.uint64)
        fresh, where = np.unique(hashes, return_index=True)
        for h, i in zip(fresh.tolist(), where.tolist(), strict=True):
            if h not in known:
                v = [0] * self.transitions.extent
                for column, x in zip(columns, values[:, i].tolist(), strict=True):
                    v[column] = x
                if self.transitions.identities is not None:
                    self.transitions.identities.fill(v)
                known[h] = bool(predicate(v))
            if known[h]:
                return True
        return False

    def _look_for_premises(self, rows: Rows) -> None:
        props = {self.model.state_checks[i].prop for i in self._premises} - self.found.reached
        for i, predicate in list(self._premises.items()):
            prop = self.model.state_checks[i].prop
            if prop not in props or prop in self.found.reached:
                continue
            if self._holds_somewhere(rows, self._premise_columns[i], predicate, {}):
                self.found.reached.add(prop)
        for i in range(len(self.model.properties)):
            if self.transitions.premises_seen >> i & 1:
                self.found.reached.add(i)

    def _deadlocks(self, level: Level, alive: npt.NDArray[np.bool_]) -> None:
        stuck = np.flatnonzero(~alive)
        if not len(stuck):
            return
        waiting = np.zeros(len(stuck), bool)
        for task in self.model.tasks:
            rest = task.graph.entry[0][1] if task.spec.kind in DAEMONS else RETURNED
            waiting |= level.rows[task.location, stuck] != rest
        self.found.deadlocks += int(waiting.sum())
        if waiting.any() and not self.found.stuck:
            row = level.rows[:, stuck[np.flatnonzero(waiting)[0]]]
            self.found.stuck = "; ".join(self._where(row))

    def _where(self, row: Rows) -> list[str]:
        """Who waits where, in words."""
        found = []
        for task in self.model.tasks:
            location = int(row[task.location])
            if location != RETURNED and not (task.spec.kind in DAEMONS and location == task.graph.entry[0][1]):
                found.append(f"{task.spec.name} waits at {task.at(location)[0].op.text}")
        return found


def initial_rows(model: Model, symmetric: bool) -> Rows:
    """All initial states as one array."""
    return np.array([row for row, _ in model.initial_rows(symmetric)], np.int16).T.copy()
