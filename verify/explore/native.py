"""The search with its inner loop in C: the same states, levels and verdicts as with NumPy alone, sooner.

States lie one after the other, in blocks; a state is read once for all tasks, and a successor that is known costs one
look into a hash set.  What may follow is computed in Python, once for all states that agree where it depends on them, and
found again by walking a tree of questions (arena.py).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.explore import library as c
from verify.explore.arena import UNKNOWN, Arena
from verify.explore.library import MOST_CLASSES, BlockC, ProgramC, SetC, TableC, TallyC, at
from verify.explore.model import TaskModel
from verify.explore.rows import Rows
from verify.explore.search import Level, Limits, Search
from verify.explore.table import Hashes, Index, Table, Transitions

#: new states of a block
_ROOM = 1 << 15
#: a state that a table does not know, the table, and what it does not know of it: struct missing of native.c
MISSING = np.dtype([("state", np.int64), ("table", np.int64), ("what", np.uint64)])
#: so many are looked up together
_MISSING = 1 << 14


class PrintSet:
    """A set of fingerprints by open addressing, at most three quarters full; 0 is taken for 1."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        """Empty."""
        self._loaded = loaded
        self._cells: Hashes = np.zeros(1 << 12, np.uint64)
        self._states = 0
        self.struct = SetC(len(self._cells) - 1, at(self._cells))

    def make_room(self, states: int, more: int) -> None:
        """Grow, having ``states``, so that ``more`` can be put in."""
        self._states = states
        room = len(self._cells)
        while 4 * (states + more) > 3 * room:
            room *= 2
        if room > len(self._cells):
            old, self._cells = self._cells, np.zeros(room, np.uint64)
            self.struct = SetC(room - 1, at(self._cells))
            self._add(old)

    def add(self, prints: Hashes) -> int:
        """Put fingerprints in; returns how many are new."""
        self.make_room(self._states, len(prints))
        fresh = self._add(np.maximum(prints, np.uint64(1)))
        self._states += fresh
        return fresh

    def _add(self, prints: Hashes) -> int:
        return int(self._loaded.add(ctypes.byref(self.struct), at(prints), len(prints)))


class _Block:
    """States one after the other: rows, sums of each class, the tables that led there."""

    def __init__(self, room: int, width: int, classes: int) -> None:
        self.room = room
        self.rows = np.empty((room, width), np.int16)
        self.hashes = np.empty((room, classes), np.uint64)
        self.table = np.empty(room, np.int32)
        self.alive: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self.struct = BlockC(0, at(self.rows), at(self.hashes), at(self.table), 0)

    @property
    def states(self) -> int:
        return int(self.struct.n)

    def as_level(self) -> Level:
        return Level(self.rows[: self.states].T, self.hashes[: self.states].T)

    def open(self) -> None:
        """Nothing is known to follow its states."""
        self.alive = np.zeros(self.states, np.uint8)
        self.struct.alive = at(self.alive)


class _Prepared:
    """A table as the loop reads it."""

    def __init__(self, loaded: ctypes.CDLL, table: Table) -> None:
        self.loaded, self.table, self.most = loaded, table, 0
        #: of a table whose pages are told apart, which asks for all of its key at once: leaves by the key's hash
        self._leaves: dict[int, int] | None = {} if table.engine.identities is not None else None
        tasks, cpus = table.engine.apart(table)
        away = [table.engine.away[a] - table.engine.model.extent for a in table.away]
        n_key = len(table.key)
        self.arrays: dict[str, npt.NDArray[Any]] = {
            "needs": np.array(table.needs, np.int32),
            "tasks": np.array([x for pairs in tasks for x in (len(pairs), *chain(*pairs))], np.int32),
            "cpus": np.array(cpus, np.int32),
            "key": table.key.astype(np.int32),
            "key_factor": table.key_random[:n_key].copy(),
            "away": np.array(away, np.int32),
            "away_factor": table.key_random[n_key:].copy(),
        }
        self.numbers = {
            "n_needs": len(table.needs), "n_tasks": len(tasks), "n_cpus": len(cpus), "n_key": n_key, "n_away": len(away),
            "root": UNKNOWN, "hashed": int(self._leaves is not None),
        }  # fmt: skip

    def fill(self, target: ctypes.Structure) -> None:
        """Tell the loop all that does not change, and that nothing is known."""
        for name, array in self.arrays.items():
            setattr(target, name, at(array))
        for name, number in self.numbers.items():
            setattr(target, name, number)
        self._map(target)

    def learn(self, target: ctypes.Structure, arena: Arena, states: Rows, what: Hashes) -> None:
        """Have the loop know some states, one for each thing that it did not know."""
        table, engine = self.table, self.table.engine
        away = [engine.is_away(task, bad)[states[:, task.location]] for task, bad in engine.away]
        for row, more, missing in zip(
            states.tolist(), zip(*away, strict=True) if away else repeat(()), what.tolist(), strict=False
        ):
            v = [*row, *[0] * (engine.model.extent - len(row)), *map(int, more)]
            known = arena.knows(target.root, v) if self._leaves is None else missing in self._leaves
            if known:
                # another thread has missed it as well
                continue
            outcomes, looked = engine.decide(table, v)
            self.most = max(self.most, len(outcomes))
            leaf = arena.leaf(outcomes)
            if self._leaves is not None:
                self._leaves[missing] = leaf
            else:
                assert looked is not None
                target.root = arena.learn(target.root, v, looked, leaf)
        self._map(target)

    def _map(self, target: ctypes.Structure) -> None:
        if self._leaves is None:
            return
        room = 8
        while room < 2 * len(self._leaves):
            room *= 2
        hashes = np.fromiter(self._leaves, np.uint64, len(self._leaves))
        leaves = np.fromiter(self._leaves.values(), np.int64, len(self._leaves))
        known, leaf = np.zeros(room, np.uint64), np.empty(room, np.int32)
        self.loaded.map(at(hashes), at(leaves), len(hashes), room - 1, at(known), at(leaf))
        self.arrays |= {"known": known, "leaf": leaf}
        target.mask, target.known, target.leaf = room - 1, at(known), at(leaf)


class _Tables:
    """All tables, by number: those of a task at a location follow each other."""

    def __init__(self, loaded: ctypes.CDLL, transitions: Transitions) -> None:
        self.loaded, self.transitions = loaded, transitions
        tasks = transitions.model.tasks
        self.base: Index = np.array([0, *np.cumsum([len(t.graph.locations) for t in tasks]).tolist()], np.int64)
        places = [(t, x) for t in tasks for x in range(len(t.graph.locations))]
        self.of: list[tuple[TaskModel, int, int]] = []
        self.place_of: list[int] = []
        numbers = [0]
        for place, (task, location) in enumerate(places):
            for which in range(len(task.graph.locations[location])):
                self.of.append((task, location, which))
                self.place_of.append(place)
            numbers.append(len(self.of))
        self.number: Index = np.array(numbers, np.int64)
        self.column: Index = np.array([t.location for t in tasks], np.int64)
        self.structs = (TableC * len(self.of))()
        self.prepared: dict[int, _Prepared] = {}
        #: for each check that is judged when states are written, the tables that may have violated it
        self.late: dict[int, npt.NDArray[np.bool_]] = {}
        self._most_at: Index = np.zeros(len(places), np.int64)
        self._met = np.zeros(len(places), np.uint8)
        tables_at = np.diff(self.number)
        self._tables = sum(int(tables_at[a:b].max(initial=0)) for a, b in self._ranges())
        self.program = ProgramC(
            transitions.model.width, transitions.classes, len(tasks), at(self.column), at(self.base), at(self.number),
            ctypes.addressof(self.structs),
        )  # fmt: skip
        self._arena = Arena(transitions)
        self._arena.point(self.program)

    def _ranges(self) -> list[tuple[int, int]]:
        return list(zip(self.base[:-1].tolist(), self.base[1:].tolist(), strict=True))

    def most(self) -> int:
        """More than one state can have successors, or tables that may not know it."""
        return max(self._tables, sum(int(self._most_at[a:b].max(initial=0)) for a, b in self._ranges()))

    def meet(self, block: _Block) -> None:
        """Prepare the tables of where the tasks are in some states."""
        here = np.zeros(len(self._met), np.uint8)
        self.loaded.where(ctypes.byref(self.program), ctypes.byref(block.struct), at(here))
        for place in np.flatnonzero(here & ~self._met).tolist():
            for number in range(int(self.number[place]), int(self.number[place + 1])):
                task, location, which = self.of[number]
                prepared = _Prepared(self.loaded, self.transitions.tables(task, location)[which])
                self.prepared[number] = prepared
                for check in prepared.table.late:
                    self.late.setdefault(check, np.zeros(len(self.of), bool))[number] = True
                prepared.fill(self.structs[number])
        self._met |= here

    def learn(self, number: int, states: Rows, what: Hashes) -> int:
        """Have a table know some states; returns how many successors one of them may have."""
        prepared = self.prepared[number]
        before = prepared.most
        prepared.learn(self.structs[number], self._arena, states, what)
        self._arena.point(self.program)
        self._most_at[self.place_of[number]] += prepared.most - before
        return prepared.most


class _Worker:
    """What a thread works on: a block to expand, how far it is, a block for what it finds, what is missing for it."""

    def __init__(self) -> None:
        self.block: _Block | None = None
        self.out: _Block | None = None
        self.tally = TallyC()
        self.missing = np.empty(0, MISSING)
        self.most = 0

    def take(self, block: _Block) -> None:
        block.open()
        self.block, self.tally = block, TallyC()


class NativeSearch(Search):
    """A search whose inner loop is compiled."""

    loop = "C"

    def __init__(self, loaded: ctypes.CDLL, threads: int, *arguments: Any) -> None:
        """``arguments`` are those of :class:`Search`."""
        super().__init__(*arguments)
        self._loaded = loaded
        self._prints = PrintSet(loaded)
        self._tables = _Tables(loaded, self.transitions)
        self._blocks: list[_Block] = []
        self._next: list[_Block] = []
        self._free: list[_Block] = []
        self._workers = [_Worker() for _ in range(max(1, threads))]

    def begin(self, level: Level, prints: Hashes) -> None:
        """Take the initial states, with their fingerprints, for the first level."""
        self._prints.add(prints)
        block = self._new_block(level.states)
        block.rows[:], block.hashes[:] = level.rows.T, level.hashes.T
        block.struct.n = level.states
        self._blocks = [block]

    @property
    def frontier(self) -> int:
        """How many states the last level has."""
        return sum(b.states for b in self._blocks)

    def advance(self) -> None:
        """Go on to the next level."""
        while True:
            busy = [w for w in self._workers if self._busy(w)]
            if not busy:
                break
            self.found.stopped = self.limits.exceeded()
            if self.found.stopped:
                return
            self._make_room(busy)
            others = [threading.Thread(target=self._expand, args=(w,)) for w in busy[1:]]
            for thread in others:
                thread.start()
            self._expand(busy[0])
            for thread in others:
                thread.join()
            for worker in busy:
                if worker.tally.missing:
                    self._expand_missing(worker)
        for worker in self._workers:
            self._finish(worker)
        self._blocks, self._next = self._next, []

    def _busy(self, worker: _Worker) -> bool:
        """Whether a worker has a block with states to expand, which it is given if there is one."""
        block = worker.block
        if block is not None and worker.tally.next == block.states:
            self.found.transitions += worker.tally.transitions
            self.found.violated |= worker.tally.violated
            self._deadlocks(block.as_level(), block.alive.astype(bool))
            if block.room == _ROOM:
                # memory that is touched for the first time costs more than what is done with it
                self._free.append(block)
            block = worker.block = None
        if block is None and self._blocks:
            block = self._blocks.pop()
            worker.take(block)
            self._tables.meet(block)
        return block is not None

    def _new_block(self, room: int) -> _Block:
        if room == _ROOM and self._free:
            block = self._free.pop()
            block.struct.n = 0
            return block
        return _Block(room, self.model.width, self.transitions.classes)

    def _make_room(self, busy: list[_Worker]) -> None:
        """Have the workers, and the set, room for what they may find."""
        most = self._tables.most()
        for worker in busy:
            assert worker.block is not None
            # a block that is all but full would be filled state by state
            self._with_room(worker, max(most, _ROOM >> 4), most * (worker.block.states - worker.tally.next))
            if len(worker.missing) < _MISSING + most:
                worker.missing = np.empty(_MISSING + 2 * most, MISSING)
            worker.most = most
        self._make_room_in_set()

    def _with_room(self, worker: _Worker, most: int, room: int) -> None:
        """A worker's block for new states has room for ``most``, and for ``room`` if it is a new one."""
        if worker.out is None or worker.out.room - worker.out.states < most:
            self._finish(worker)
            worker.out = self._new_block(max(most, min(room, _ROOM)))

    def _make_room_in_set(self) -> None:
        blocks = [w.out for w in self._workers if w.out is not None]
        self._prints.make_room(
            self.found.states + sum(b.states for b in blocks), sum(b.room - b.states for b in blocks)
        )

    def _expand(self, worker: _Worker) -> None:
        """In a thread of its own: nothing of Python is changed but what belongs to the worker."""
        assert worker.block is not None and worker.out is not None
        worker.tally.missing = 0
        self._loaded.expand(
            *map(ctypes.byref, (self._tables.program, self._prints.struct, worker.block.struct, worker.out.struct)),
            worker.out.room, worker.most, at(worker.missing), len(worker.missing), ctypes.byref(worker.tally),
        )  # fmt: skip

    def _expand_missing(self, worker: _Worker) -> None:
        assert worker.block is not None
        while worker.tally.missing:
            missing = worker.missing[: worker.tally.missing]
            missing = missing[np.argsort(missing["table"], kind="stable")]
            numbers, first = np.unique(missing["table"], return_index=True)
            room = 0
            for number, part in zip(numbers.tolist(), np.split(missing, first[1:]), strict=True):
                what, one_of_each = np.unique(part["what"], return_index=True)
                room += len(part) * self._tables.learn(number, worker.block.rows[part["state"][one_of_each]], what)
            self._with_room(worker, room, _ROOM)
            self._make_room_in_set()
            assert worker.out is not None
            self._loaded.expand_missing(
                *map(ctypes.byref, (self._tables.program, self._prints.struct, worker.block.struct, worker.out.struct)),
                at(missing), len(missing), at(worker.missing), ctypes.byref(worker.tally),
            )  # fmt: skip

    def _finish(self, worker: _Worker) -> None:
        """Judge new states and keep them for the next level."""
        block, worker.out = worker.out, None
        if block is None or not block.states:
            return
        self.found.states += block.states
        self._next.append(block)
        tables = block.table[: block.states]
        for check, of_table in self._tables.late.items():
            late = of_table[tables]
            if late.any():
                self._judge(block.rows[: block.states][late].T, check)
        self._look_for_premises(block.as_level().rows)


def search_by(
    compiler: str,
    threads: int,
    transitions: Transitions,
    limits: Limits,
    wanted: int,
    progress: Callable[[str], None] | None = None,
) -> Search:
    """A search whose inner loop is compiled, and run by ``threads``, if ``compiler`` is not "none" and there is one."""
    loaded = c.library() if compiler != "none" and transitions.classes <= MOST_CLASSES else None
    if loaded is None:
        return Search(transitions, limits, wanted, progress)
    return NativeSearch(loaded, threads, transitions, limits, wanted, progress)
