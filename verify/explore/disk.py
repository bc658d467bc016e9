"""What a search keeps on disk when memory is short: fingerprints in sorted runs, states in files.

Duplicates are detected late (Stern and Dill 1998; Korf 2004): what seems new while a level is expanded is new to the set
in memory.  At the end of the level, and before the set is written out as a run, it is held against all runs, each read
once in order.  The folder is a temporary one, and goes with the search.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from verify.explore.blocks import Block
from verify.explore.table import Hashes

#: of a run, read together: 8 MB
_CHUNK = 1 << 20


class Runs:
    """Keys of what was seen, in sorted files."""

    def __init__(self, folder: Path) -> None:
        """None yet."""
        self._folder = folder
        #: of each run its file, how many keys it has, and the first of each chunk
        self._runs: list[tuple[Path, int, Hashes]] = []

    def __bool__(self) -> bool:
        return bool(self._runs)

    def write(self, parts: Iterable[Hashes]) -> int:
        """Keep keys, which come in ascending order; returns how many bytes they take."""
        path = self._folder / f"run-{len(self._runs)}"
        fences, n = [], 0
        with path.open("wb") as file:
            for part in parts:
                part.tofile(file)
                fences.append(part[-n % _CHUNK :: _CHUNK])
                n += len(part)
        self._runs.append((path, n, np.concatenate([*fences, np.empty(0, np.uint64)])))
        return 8 * n

    def known(self, keys: Hashes) -> npt.NDArray[np.bool_]:
        """Which of some sorted keys are in a run."""
        found = np.zeros(len(keys), bool)
        for path, n, fences in self._runs:
            # the keys of chunk i lie from its fence up to the next one
            starts = np.append(np.searchsorted(keys, fences), len(keys))
            for i in np.flatnonzero(starts[1:] > starts[:-1]).tolist():
                here = keys[starts[i] : starts[i + 1]]
                chunk = np.fromfile(path, np.uint64, min(_CHUNK, n - i * _CHUNK), offset=8 * i * _CHUNK)
                at = np.searchsorted(chunk, here)
                at[at == len(chunk)] = 0
                found[starts[i] : starts[i + 1]] |= chunk[at] == here
        return found


@dataclass(slots=True, eq=False)
class Stored:
    """A block in a file: rows of a byte a column where they fit, and sums."""

    path: Path
    states: int
    bytes: int
    least: npt.NDArray[np.int16] | None
    #: for telling which are known; forgotten when that is told
    keys: Hashes | None
    #: which of them were not known
    new: npt.NDArray[np.bool_] | None = None

    @property
    def left(self) -> int:
        """How many states it has, as far as that is told."""
        return self.states if self.new is None else int(self.new.sum())


@dataclass(slots=True)
class Disk:
    """A temporary folder for one search.  Raises OSError where there is no room for it."""

    parent: str
    _folder: tempfile.TemporaryDirectory[str] = field(init=False, repr=False)
    runs: Runs = field(init=False)
    written: int = 0
    #: for threads that store at the same time, a number for each
    _files: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="straypage-search-", dir=self.parent)
        self.runs = Runs(Path(self._folder.name))

    def close(self) -> None:
        """Remove it all."""
        self._folder.cleanup()

    def write_run(self, parts: Iterator[Hashes]) -> None:
        """Keep keys as a run."""
        self.written += self.runs.write(parts)

    def store(self, block: Block, keys: Hashes) -> Stored:
        """Keep the states of a block; threads may do so at the same time."""
        rows = block.rows[: block.states]
        least = rows.min(axis=0)
        small: npt.NDArray[np.int16] | None = None
        written: npt.NDArray[np.int16] | npt.NDArray[np.uint8] = rows
        if (rows.max(axis=0).astype(np.int32) - least <= np.iinfo(np.uint8).max).all():
            small, written = least, (rows - least).astype(np.uint8)
        path = Path(self._folder.name) / f"states-{next(self._files)}"
        with path.open("wb") as file:
            written.tofile(file)
            block.hashes[: block.states].tofile(file)
        return Stored(path, block.states, written.nbytes + block.hashes[: block.states].nbytes, small, keys)

    def fetch(self, stored: Stored, block: Block) -> None:
        """Have a block the states of which :meth:`drop_known` has left some, and remove the file."""
        n, width = stored.states, block.rows.shape[1]
        kind = np.int16 if stored.least is None else np.uint8
        with stored.path.open("rb") as file:
            rows = np.fromfile(file, kind, n * width).reshape(n, width)
            hashes = np.fromfile(file, np.uint64, n * block.hashes.shape[1]).reshape(n, -1)
        stored.path.unlink()
        assert stored.new is not None
        left = int(stored.new.sum())
        block.rows[:left] = rows[stored.new]
        if stored.least is not None:
            block.rows[:left] += stored.least
        block.hashes[:left] = hashes[stored.new]
        block.struct.n = left

    def drop_known(self, blocks: Sequence[Stored]) -> int:
        """Tell which states of blocks, that this was not told of yet, are in no run; returns how many are in one."""
        asked = [(b, b.keys) for b in blocks if b.keys is not None]
        if not asked:
            return 0
        keys = np.concatenate([k for _, k in asked])
        order = np.argsort(keys, kind="stable")
        new = np.empty(len(keys), bool)
        new[order] = ~self.runs.known(keys[order])
        for (block, of_block), part in zip(
            asked, np.split(new, np.cumsum([len(k) for _, k in asked])[:-1]), strict=True
        ):
            assert len(part) == len(of_block)
            block.new, block.keys = part, None
        return len(keys) - int(new.sum())
