"""What the loop in C works on: a set of fingerprints, and states one after the other."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from verify.explore.library import BlockC, PackingC, SetC, at
from verify.explore.mapped import Memory
from verify.explore.search import Level
from verify.explore.table import Hashes

#: as native.c does for the place of a fingerprint
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
#: cells of a set that is empty
_FIRST = 1 << 12
#: where a column lies: struct part of native.c
_PART = np.dtype(
    [("column", np.int32), ("least", np.int32), ("word", np.int32), ("shift", np.int32), ("mask", np.uint64)]
)
#: cells whose keys are sorted together
_TOGETHER = 1 << 18


def key_of(prints: Hashes) -> Hashes:
    """By which fingerprints are sorted on disk; no two have the same."""
    return _multiplied(np.maximum(prints, np.uint64(1)))


def _keys(cells: Hashes) -> Hashes:
    return _multiplied(cells[cells != 0])


def _multiplied(prints: Hashes) -> Hashes:
    keys: Hashes = prints * _FACTOR
    return keys


class PrintSet:
    """A set of fingerprints by open addressing, at most three quarters full; 0 is taken for 1."""

    _cells: Hashes
    struct: ctypes.Structure

    def __init__(self, loaded: ctypes.CDLL) -> None:
        """Empty."""
        self._loaded = loaded
        self._states = 0
        self._lie_in(Memory(8 * _FIRST))

    def has_room(self, states: int) -> bool:
        """Whether there is room for so many in all."""
        return 4 * states <= 3 * len(self._cells)

    def make_room(self, states: int) -> None:
        """Grow so that there is room for so many in all."""
        room = len(self._cells)
        while 4 * states > 3 * room:
            room *= 2
        before = len(self._cells)
        if room == before:
            return
        # what an array is of does not grow
        self._cells = np.empty(0, np.uint64)
        if not self._memory.grow(8 * room):
            old = self._memory.array(np.uint64)
            self._lie_in(Memory(8 * room))
            self._add(old)
            return
        self._lie_in(self._memory)
        if not self._loaded.widen(ctypes.byref(self.struct), before):
            old = self._cells[:before].copy()
            self._cells[:before] = 0
            self._add(old)

    def _lie_in(self, memory: Memory) -> None:
        self._memory = memory
        self._cells = memory.array(np.uint64)
        self.struct = SetC(len(self._cells) - 1, at(self._cells))

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return self._cells.nbytes

    def clear(self) -> None:
        """Forget them all, and keep the room."""
        self._cells[:] = 0
        self._states = 0

    def in_order(self) -> Iterator[Hashes]:
        """The keys of all, ascending: the fingerprints, multiplied as for their places, near which they lie."""
        cells = self._cells
        first = int(np.argmin(cells != 0))
        # what has found no place at the end lies before the first empty cell
        around = _keys(cells[:first])
        around.sort()
        high = around >> np.uint64(63) != 0
        if not high.all():
            yield around[~high]
        while first < len(cells):
            last = min(first + _TOGETHER, len(cells))
            while last < len(cells) and cells[last]:
                last += 1
            part = _keys(cells[first:last])
            if last == len(cells):
                part = np.concatenate([part, around[high]])
            part.sort()
            if len(part):
                yield part
            first = last

    def add(self, prints: Hashes) -> int:
        """Put fingerprints in; returns how many are new."""
        self.make_room(self._states + len(prints))
        fresh = self._add(np.maximum(prints, np.uint64(1)))
        self._states += fresh
        return fresh

    def _add(self, prints: Hashes) -> int:
        return int(self._loaded.add(ctypes.byref(self.struct), at(prints), len(prints)))


class Block:
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
        """How many."""
        return int(self.struct.n)

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return int(self.rows.nbytes + self.hashes.nbytes + self.table.nbytes)

    def as_level(self) -> Level:
        """The same as the search with NumPy has them."""
        return Level(self.rows[: self.states].T, self.hashes[: self.states].T)

    def open(self) -> None:
        """Nothing is known to follow its states."""
        self.alive = np.zeros(self.states, np.uint8)
        self.struct.alive = at(self.alive)


class Packed:
    """A block that waits: of its rows the columns that differ within it, in as few bits as they take."""

    def __init__(self, loaded: ctypes.CDLL, block: Block) -> None:
        """What a block has."""
        self.states, width = block.states, block.rows.shape[1]
        self._loaded, self._hashes = loaded, block.hashes[: self.states].copy()
        self._least, most = np.empty(width, np.int16), np.empty(width, np.int16)
        loaded.ranges(ctypes.byref(block.struct), width, at(self._least), at(most))
        self._parts, words = _parts(self._least, most)
        self._packing = PackingC(words, len(self._parts), at(self._parts))
        self._rows = np.empty(self.states * words, np.uint64)
        loaded.pack(ctypes.byref(block.struct), width, ctypes.byref(self._packing), at(self._rows))

    def unpack(self, block: Block) -> None:
        """Have a block with room for it that has it all."""
        block.struct.n = self.states
        block.hashes[: self.states] = self._hashes
        self._loaded.unpack(
            ctypes.byref(block.struct), block.rows.shape[1], ctypes.byref(self._packing), at(self._rows), at(self._least)
        )  # fmt: skip


def _parts(least: npt.NDArray[np.int16], most: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.void], int]:
    """Where columns lie in packed rows, and how many words a row takes: those without a difference lie nowhere."""
    found, word, shift = [], 0, 0
    for column, (low, high) in enumerate(zip(least.tolist(), most.tolist(), strict=True)):
        bits = (high - low).bit_length()
        if shift + bits > 64:
            word, shift = word + 1, 0
        if bits:
            found.append((column, low, word, shift, (1 << bits) - 1))
        shift += bits
    return np.array(found, _PART), word + 1
