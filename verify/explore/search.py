"""Breadth-first search over tabulated transitions: a level is one array, states already seen are known by fingerprint."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kernelmodel.graphs.folded_graph import RETURNED
from verify.explore.model import Model, cells_in
from verify.explore.rows import Rows, rows_of
from verify.explore.seen import Seen, distinct
from verify.explore.table import Hashes, Index, Table, Transitions

#: successors are told apart in batches of this size: few enough for a place in the low bits of a fingerprint
_BATCH = 1 << 22


@dataclass(slots=True)
class Level:
    """The states found in one level: rows and hashes."""

    rows: Rows
    hashes: Hashes

    @property
    def states(self) -> int:
        """How many."""
        return int(self.rows.shape[1])


@dataclass(slots=True)
class Successors:
    """What follows some states of a level by one table: the state that each comes from, the outcome, the fingerprint."""

    table: Table
    parents: Index
    outcomes: Index
    prints: Hashes


@dataclass(slots=True)
class Found:
    """What a search covered and found.  ``violated`` are bits of properties, with a row that shows each."""

    states: int = 0
    transitions: int = 0
    levels: int = 0
    violated: int = 0
    #: the properties whose premises are reached, each with the CPU that the check is for
    reached_on: set[tuple[int, int | None]] = field(default_factory=set)
    deadlocks: int = 0
    stuck: str = ""
    stopped: str = ""
    seconds: float = 0.0
    widest: int = 0
    loop: str = ""
    #: what was written to disk
    disk_mb: float = 0.0

    @property
    def reached(self) -> set[int]:
        """The properties whose premises are reached somewhere."""
        return {prop for prop, _ in self.reached_on}


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


def now_mb() -> float:
    """The memory that this process has now, in MB; where that is not told, the most that it has had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)
    except (OSError, ValueError, IndexError):
        return peak_mb()


def room_mb() -> float | None:
    """Nine tenths of what this process may use now, in MB: of the free memory, or of the container's; None if unknown."""
    room = []
    for path, pattern in (
        ("/proc/meminfo", r"MemAvailable: *([0-9]+) kB"),
        ("/sys/fs/cgroup/memory.max", r"^([0-9]+)$"),
    ):
        try:
            found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            room.append(int(found[1]) / (1024 if "kB" in pattern else 1024 * 1024))
    return 0.9 * min(room) if room else None


class Search:
    """One search, with NumPy."""

    #: what its inner loop is made of
    loop = "NumPy"

    def __init__(
        self, transitions: Transitions, limits: Limits, wanted: int, progress: Callable[[str], None] | None = None
    ) -> None:
        """``wanted``: stop as soon as a property of these bits is violated."""
        self.transitions, self.limits, self.wanted = transitions, limits, wanted
        self.model: Model = transitions.model
        self.progress = progress
        self.found = Found(loop=self.loop)
        self._premises = {
            i: transitions.compiler.predicate(c.check.premise)
            for i, c in enumerate(self.model.state_checks)
            if not c.rest
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
        self._judge_all(rows)
        self.found.states = len(first)
        self.begin(Level(rows[:, first], hashes[:, first]), prints)
        try:
            while self.frontier:
                self.found.levels += 1
                self.found.widest = max(self.found.widest, self.frontier)
                if self.found.violated & self.wanted:
                    break
                self.found.stopped = self.transitions.runaway or self.limits.exceeded()
                if self.found.stopped:
                    break
                self._report(began)
                self.advance()
                if self.found.stopped:
                    break
        except MemoryError:
            self.found.stopped = "out of memory"
        except OSError as error:
            self.found.stopped = f"no more room on disk (--disk): {error.strerror}"
        self.found.seconds = time.monotonic() - began
        return self.found

    def begin(self, level: Level, prints: Hashes) -> None:
        """Take the initial states, with their sorted fingerprints, for the first level."""
        self._level = level
        self._seen = Seen()
        self._seen.add(prints)

    @property
    def frontier(self) -> int:
        """How many states the last level has."""
        return self._level.states

    def advance(self) -> None:
        """Go on to the next level."""
        self._level = self.expand(self._level)

    def _report(self, began: float) -> None:
        if self.progress is not None:
            seconds = max(time.monotonic() - began, 1e-9)
            self.progress(
                f"level {self.found.levels}, {self.found.states:,} states, {self.found.states / seconds:,.0f} states/s, "
                f"frontier {self.frontier:,}, {peak_mb():,.0f} MB"
            )

    def _settled(self, rows: Rows) -> Rows:
        """Initial states after what each task does at once when it begins."""
        behind = [0] * (self.transitions.extent - self.model.width)
        states = [[*row, *behind] for row in rows.T.tolist()]
        for task in self.model.tasks:
            states = [w for v in states for w in self.transitions.settled(task, v)]
        return rows_of([v[: self.model.width] for v in states])

    def expand(self, level: Level) -> Level:
        """The states that follow those of a level and were not seen before."""
        rows, hashes = level.rows, level.hashes
        sums = self.transitions.sums(hashes)
        batch: list[Successors] = []
        waiting = 0
        found: list[Level] = []
        alive = np.zeros(level.states, bool)
        for table, index in self._may_act(rows):
            self.found.stopped = self.transitions.runaway or self.limits.exceeded()
            if self.found.stopped:
                return level
            parents, outcomes = table.successors(rows, self.transitions.chosen(rows, hashes, table, index))
            if not len(parents):
                continue
            alive[parents] = True
            self.found.transitions += len(parents)
            self.found.violated |= int(np.bitwise_or.reduce(table.bad[outcomes]))
            prints = self.transitions.prints_after(hashes, sums, table, parents, outcomes)
            batch.append(Successors(table, parents, outcomes, prints))
            waiting += len(parents)
            if waiting >= _BATCH:
                found.append(self._new_states(level, batch))
                batch, waiting = [], 0
        found.append(self._new_states(level, batch))
        self._deadlocks(level, alive)
        if len(found) == 1:
            return found[0]
        return Level(
            np.concatenate([f.rows for f in found], axis=1), np.concatenate([f.hashes for f in found], axis=1)
        )  # fmt: skip

    def _may_act(self, rows: Rows) -> Iterator[tuple[Table, Index]]:
        """Each table, with the states in which its task is where its operation may come next."""
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
                for table in self.transitions.tables(task, location):
                    yield table, order[start:end]

    def _new_states(self, level: Level, batch: list[Successors]) -> Level:
        if not batch:
            return Level(level.rows[:, :0], level.hashes[:, :0])
        fresh, first = distinct(np.concatenate([s.prints for s in batch]))
        new = self._seen.unknown(fresh)
        fresh, first = fresh[new], np.sort(first[new])
        if len(fresh):
            self._seen.add(fresh)
        rows = np.empty((self.model.width, len(first)), np.int16)
        hashes = np.empty((self.transitions.classes, len(first)), np.uint64)
        bounds = np.cumsum([0, *(len(s.prints) for s in batch)])
        cuts = np.searchsorted(first, bounds)
        late: dict[int, list[tuple[int, int]]] = {}
        for s, offset, a, b in zip(batch, bounds[:-1], cuts[:-1], cuts[1:], strict=True):
            if a == b:
                continue
            mine = first[a:b] - offset
            p, o = s.parents[mine], s.outcomes[mine]
            np.take(level.rows, p, axis=1, out=rows[:, a:b])
            rows[s.table.written, a:b] = s.table.new[:, o]
            hashes[:, a:b] = level.hashes[:, p] + s.table.delta[:, o]
            for check in s.table.late:
                late.setdefault(check, []).append((int(a), int(b)))
        self.found.states += len(first)
        for check, ranges in late.items():
            for a, b in ranges:
                self._judge(rows[:, a:b], check)
        self._look_for_premises(rows)
        return Level(rows, hashes)

    # --- judging ---

    def _judge_all(self, rows: Rows) -> None:
        for check in self.transitions.checks:
            if not self.model.state_checks[check].rest:
                self._judge(rows, check)
        self._look_for_premises(rows)

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
        fresh, where = np.unique(self.transitions.hash_of(values, columns), return_index=True)
        for h, i in zip(fresh.tolist(), where.tolist(), strict=True):
            if h not in known:
                known[h] = self.transitions.holds(predicate, columns, values[:, i].tolist())
            if known[h]:
                return True
        return False

    def _look_for_premises(self, rows: Rows) -> None:
        apart = self.transitions.tells_cpus_apart
        for i, predicate in self._premises.items():
            check = self.model.state_checks[i]
            if (check.prop, check.check.cpu) in self.found.reached_on or (
                not apart and check.prop in self.found.reached
            ):
                continue
            if self._holds_somewhere(rows, self._premise_columns[i], predicate, {}):
                self.found.reached_on.add((check.prop, check.check.cpu))
        seen = self.transitions.premises_seen
        self.found.reached_on |= {p for number, p in enumerate(self.model.premises()) if seen >> number & 1}

    def _deadlocks(self, level: Level, alive: npt.NDArray[np.bool_]) -> None:
        stuck = np.flatnonzero(~alive)
        if not len(stuck):
            return
        waiting = np.zeros(len(stuck), bool)
        for task in self.model.tasks:
            rest = task.graph.entry[0][1] if task.spec.kind.serves else RETURNED
            waiting |= level.rows[task.location, stuck] != rest
        if not waiting.all():
            self._judge_at_rest(level.rows[:, stuck[~waiting]])
        self.found.deadlocks += int(waiting.sum())
        if waiting.any() and not self.found.stuck:
            row = level.rows[:, stuck[np.flatnonzero(waiting)[0]]]
            self.found.stuck = "; ".join(self._where(row))

    def _judge_at_rest(self, rows: Rows) -> None:
        for check in self.transitions.checks:
            if self.model.state_checks[check].rest:
                one = self.model.state_checks[check]
                self.found.reached_on.add((one.prop, one.check.cpu))
                self._judge(rows, check)

    def _where(self, row: Rows) -> list[str]:
        """Who waits where, in words."""
        found = []
        for task in self.model.tasks:
            location = int(row[task.location])
            if location != RETURNED and not (task.spec.kind.serves and location == task.graph.entry[0][1]):
                found.append(f"{task.spec.name} waits at {task.at(location)[0].op.text}")
        return found


def initial_rows(model: Model, symmetric: bool) -> Rows:
    """All initial states as one array."""
    return rows_of([row for row, _ in model.initial_rows(symmetric)])
