"""The search with its inner loop in C: the same states, levels and verdicts as with NumPy alone, sooner.

States lie one after the other, in blocks; a state is read once for all tasks, and a successor that is known costs one
look into a hash set.  What may follow is computed in Python, once for all states that agree where it depends on them, and
found again by walking a tree of questions (arena.py).  Each thread has states of its own, and looks up what follows in C
while another one works out in Python what the tables do not know (turns.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from kernelmodel.errors import ModelError
from verify.explore import library as c
from verify.explore.blocks import Block, Packed, PrintSet, key_of
from verify.explore.disk import Disk, Stored
from verify.explore.library import MOST_CLASSES, TallyC, at
from verify.explore.prepared import Tables
from verify.explore.rows import Rows
from verify.explore.search import Found, Level, Limits, Search, now_mb
from verify.explore.table import Hashes, Transitions
from verify.explore.turns import EndedError, Turns

#: new states of a block
_ROOM = 1 << 15
#: a state that a table does not know, the table, and what it does not know of it: struct missing of native.c
MISSING = np.dtype([("state", np.int64), ("table", np.int64), ("what", np.uint64)])
#: bytes of new states beyond which those of a level are packed
_LOOSE = 1 << 29
#: so many are looked up together
_MISSING = 1 << 14


class _Worker:
    """What a thread works on: a block to expand, how far it is, a block for what it finds, what is missing for it."""

    def __init__(self) -> None:
        self.block: Block | None = None
        self.out: Block | None = None
        self.tally = TallyC()
        self.missing = np.empty(0, MISSING)
        #: kept as long as a call has it
        self.program: ctypes.Structure | None = None

    def take(self, block: Block) -> None:
        block.open()
        self.block, self.tally = block, TallyC()


class NativeSearch(Search):
    """A search whose inner loop is compiled."""

    loop = "C"

    def __init__(self, loaded: ctypes.CDLL, threads: int, disk: str, *arguments: Any) -> None:
        """``disk``: where to go on when memory is short, if it is not empty; ``arguments`` are those of :class:`Search`."""
        super().__init__(*arguments)
        try:
            self.disk = Disk(disk) if disk else None
        except OSError as error:
            raise ModelError(f"--disk {disk}: nothing can be written there ({error.strerror})") from None
        #: whether new states go to it
        self._on_disk = False
        self._loaded = loaded
        self._prints = PrintSet(loaded)
        self._tables = Tables(loaded, self.transitions)
        self._in_set = 0
        self._blocks: list[Block | Packed | Stored] = []
        self._next: list[Block | Packed | Stored] = []
        #: bytes of those that are not packed
        self._loose = 0
        self._free: list[Block] = []
        self._workers = [_Worker() for _ in range(max(1, threads))]
        self._turns = Turns()

    @property
    def tables(self) -> Tables:
        """The tables, with what they know."""
        return self._tables

    def run(self, rows: Rows) -> Found:
        """Search from initial rows; what there is on disk goes at the end."""
        try:
            found = super().run(rows)
            found.disk_mb = 0.0 if self.disk is None else self.disk.written / 1e6
        finally:
            if self.disk is not None:
                self.disk.close()
        return found

    def begin(self, level: Level, prints: Hashes) -> None:
        """Take the initial states, with their fingerprints, for the first level."""
        self._in_set = self._prints.add(prints)
        block = self._new_block(level.states)
        block.rows[:], block.hashes[:] = level.rows.T, level.hashes.T
        block.struct.n = level.states
        self._blocks = [block]
        self._tables.meet(level.rows)

    @property
    def frontier(self) -> int:
        """How many states the last level has."""
        return sum(b.left if isinstance(b, Stored) else b.states for b in self._blocks)

    def advance(self) -> None:
        """Go on to the next level."""
        turns = self._turns = Turns()
        failed: list[BaseException] = []
        others = [threading.Thread(target=self._work, args=(w, failed)) for w in self._workers[1 : len(self._blocks)]]
        for thread in others:
            thread.start()
        try:
            self._work(self._workers[0], failed)
            for thread in others:
                thread.join()
        except BaseException:
            # an interrupt that came while nothing was done here
            with turns:
                turns.end()
            raise
        if failed:
            raise failed[0]
        if turns.ended:
            return
        with turns:
            self._tables.forget_old()
            for worker in self._workers:
                self._finish(worker)
            self._drop_known()
        self._blocks, self._next, self._loose = self._next, [], 0

    def _work(self, worker: _Worker, failed: list[BaseException]) -> None:
        """Expand states as long as there are any."""
        try:
            with self._turns as turns:
                try:
                    while not turns.ended and self._busy(worker):
                        self._expand(worker)
                except EndedError:
                    pass
                except BaseException:
                    turns.end()
                    raise
        except BaseException as error:
            failed.append(error)

    def _busy(self, worker: _Worker) -> bool:
        """Whether a worker has a block with states to expand, which it is given if there is one."""
        block = worker.block
        if block is not None and worker.tally.next == block.states:
            self.found.transitions += worker.tally.transitions
            self.found.violated |= worker.tally.violated
            self._deadlocks(block.as_level(), block.alive.astype(bool))
            self._give_back(block)
            block = worker.block = None
        if block is None and self._blocks:
            block = self._taken(self._blocks.pop())
            worker.take(block)
        return block is not None

    def _give_back(self, block: Block) -> None:
        if block.room == _ROOM:
            # memory that is touched for the first time costs more than what is done with it
            self._free.append(block)
        if self._on_disk:
            # of the levels that were in memory there are many
            del self._free[2 * len(self._workers) :]

    def _new_block(self, room: int) -> Block:
        if room == _ROOM and self._free:
            block = self._free.pop()
            block.struct.n = 0
            return block
        return Block(room, self.model.width, self.transitions.classes)

    def _expand(self, worker: _Worker) -> None:
        """Go on with a worker's block as far as there is room."""
        self.found.stopped = self.found.stopped or self.limits.exceeded()
        if self.found.stopped:
            self._turns.end()
            return
        assert worker.block is not None
        most = self._tables.most()
        while True:
            # a block that is all but full would be filled state by state
            self._with_room(worker, max(most, _ROOM >> 4), most * (worker.block.states - worker.tally.next))
            self._turns.give_way()
            # somebody who was alone meanwhile may have put it away
            if worker.out is not None:
                break
        if len(worker.missing) < _MISSING + most:
            worker.missing = np.empty(_MISSING + 2 * most, MISSING)
        worker.tally.missing = 0
        # the set stays where it is from now on, and of what the tables know this is a copy
        where = self._told(worker)
        with self._turns.away():
            self._loaded.expand(
                *where, worker.out.room, most, at(worker.missing), len(worker.missing), ctypes.byref(worker.tally)
            )
        if worker.tally.missing:
            self._expand_missing(worker)

    def _told(self, worker: _Worker) -> list[Any]:
        assert worker.block is not None and worker.out is not None
        worker.program = self._tables.program()
        return [
            ctypes.byref(x) for x in (worker.program, self._prints.struct, worker.block.struct, worker.out.struct)
        ]  # fmt: skip

    def _with_room(self, worker: _Worker, most: int, room: int) -> None:
        """A worker's block for new states has room for ``most``, and for ``room`` if it is a new one; so has the set."""
        while True:
            if worker.out is None or worker.out.room - worker.out.states < most:
                self._finish(worker, leave=True)
                worker.out = self._new_block(max(most, min(room, _ROOM)))
            if self._prints.has_room(self._states_at_most()):
                return
            self._turns.alone()
            # somebody else may have made room meanwhile, or need more
            if self._prints.has_room(self._states_at_most()):
                continue
            # it grows where it lies, to twice as much
            if (
                self.disk is None
                or self._left() > (self._prints.bytes >> 20)
                or 2 * self._in_set < self._states_at_most()
            ):
                self._prints.make_room(self._states_at_most())
            else:
                self._to_disk()

    def _states_at_most(self) -> int:
        return self._in_set + sum(w.out.room for w in self._workers if w.out is not None)

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
            assert worker.out is not None
            self._loaded.expand_missing(
                *self._told(worker), worker.out.room, at(missing), len(missing), at(worker.missing),
                ctypes.byref(worker.tally),
            )  # fmt: skip

    def _finish(self, worker: _Worker, leave: bool = False) -> None:
        """Judge new states and keep them for the next level; ``leave`` the turn to others where that takes a while."""
        block, worker.out = worker.out, None
        if block is None or not block.states:
            return
        self.found.states += block.states
        self._in_set += block.states
        tables = block.table[: block.states]
        for check, of_table in self._tables.late.items():
            late = of_table[tables]
            if late.any():
                self._judge(block.rows[: block.states][late].T, check)
        self._look_for_premises(block.as_level().rows)
        self._keep(block, leave)

    # --- on disk ---

    def _keep(self, block: Block, leave: bool) -> None:
        """Keep new states for the next level; ``leave`` the turn to others meanwhile."""
        if self.disk is not None:
            self._on_disk = self._on_disk or bool(self.disk.runs) or self._left() <= 0
        if not self._on_disk:
            self._loose += block.bytes
            if self._loose <= _LOOSE:
                self._next.append(block)
                return
        with self._turns.away() if leave else contextlib.nullcontext():
            # nobody is alone meanwhile: the states are in the set, and among those of the next level before it is written
            kept = self._stored(block) if self._on_disk else Packed(self._loaded, block)
        if self.disk is not None and isinstance(kept, Stored):
            self.disk.written += kept.bytes
        self._next.append(kept)
        self._give_back(block)

    def _stored(self, block: Block) -> Stored:
        assert self.disk is not None
        return self.disk.store(block, key_of(self.transitions.fingerprint(block.as_level().hashes)))

    def _left(self) -> float:
        """The memory that may still be used before something goes to disk, in MB."""
        # what tables learn stays in memory, and each thread has a block or two
        return math.inf if self.limits.memory_mb is None else 0.7 * self.limits.memory_mb - now_mb()

    def _taken(self, kept: Block | Packed | Stored) -> Block:
        if isinstance(kept, Block):
            return kept
        block = self._new_block(max(kept.states, _ROOM))
        with self._turns.away():
            if isinstance(kept, Packed):
                kept.unpack(block)
            else:
                assert self.disk is not None
                self.disk.fetch(kept, block)
        return block

    def _drop_known(self) -> None:
        """Of what was new to the set, forget what is in a run."""
        if self.disk is not None:
            self.found.states -= self.disk.drop_known([b for b in self._next if isinstance(b, Stored)])
            self._next = [b for b in self._next if not isinstance(b, Stored) or b.left]

    def _to_disk(self) -> None:
        """Write the set out, and go on with an empty one; nobody is away."""
        assert self.disk is not None
        for worker in self._workers:
            self._finish(worker)
        # what is new up to now is told from what was written before; what comes later, from this as well
        self._drop_known()
        self.disk.write_run(self._prints.in_order())
        self._prints.clear()
        self._in_set = 0


def search_by(
    compiler: str,
    threads: int,
    transitions: Transitions,
    limits: Limits,
    wanted: int,
    progress: Callable[[str], None] | None = None,
    disk: str = "",
) -> Search:
    """A search whose inner loop is compiled, and run by ``threads``, if ``compiler`` is not "none" and there is one.

    ``disk``: a folder where it goes on when memory is short.  ModelError where only the compiled loop can do that.
    """
    loaded = c.library() if compiler != "none" and transitions.classes <= MOST_CLASSES else None
    if loaded is None:
        if disk:
            raise ModelError(
                "--disk needs the compiled loop: install a C compiler (straypage[compiler] has one), or leave out "
                "--compiler none"
            )
        return Search(transitions, limits, wanted, progress)
    return NativeSearch(loaded, threads, disk, transitions, limits, wanted, progress)
