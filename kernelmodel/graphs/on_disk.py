"""Graphs kept from one command to the next, in the user's cache: each in a file named by all that it follows from.

What is changed anywhere in straypage's text has files of its own, so no graph of an older text is ever found.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from kernelmodel import cache_folders
from kernelmodel.graphs import digest
from kernelmodel.graphs.reach import Reach

Made = TypeVar("Made")

#: of how many texts of straypage graphs are kept, those used last
TEXTS = 6
#: a graph is a file in a folder of its text
_FOLDER = "graphs"


def kept(reach: Reach, key: Any, make: Callable[[], Made]) -> Made:
    """What ``make`` makes of what a routine can come to and a key, or what it made in an earlier command.

    It makes it where nothing can be kept: the user wants it so, there is no place, or part of the key cannot be told
    from another.  Either way what comes back has been put into bytes and read again, so that it is always the same: an
    operation's effect, and how it packs what it returns, are not among them (see :class:`_Left`).
    """
    file = _place(reach, key)
    found: Made
    try:
        found = pickle.loads(file.read_bytes() if file else b"")
    except Exception:
        # no such file, or one that was not written to its end
        made = packed(make())
        if file:
            store(file, made)
        found = pickle.loads(made)
    return found


def _place(reach: Reach, key: Any) -> Path | None:
    try:
        return None if cache_folders.is_off() else place(_FOLDER, digest.of(reach, key))
    except digest.UnknownError:
        return None


def place(below: str, name: str) -> Path | None:
    """Where what has that digest is kept, in a folder of straypage's text as it is; None where nothing can be."""
    if cache_folders.is_off():
        return None
    folder = next(cache_folders.folders(f"{below}/{digest.sources()[:32]}"), None)
    return folder and folder / f"{name[:48]}.pickle"


def store(file: Path, made: bytes, most: int = 0) -> None:
    """Write a file, if that can be done, in a folder of its text; of the files there ``most`` are kept, all where that is 0."""
    with suppress(OSError):
        if not any(file.parent.iterdir()):
            _make_room(file.parent)
        if most and len(there := list(file.parent.iterdir())) >= most:
            for old in sorted(there, key=lambda f: f.stat().st_mtime)[: len(there) - most + max(1, most // 4)]:
                old.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(made)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)


def _make_room(mine: Path) -> None:
    """A text that is new here takes the place of the one that was new the longest time ago."""
    others = sorted((f for f in mine.parent.iterdir() if f != mine), key=lambda f: f.stat().st_mtime, reverse=True)
    for folder in others[TEXTS - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)


# --- graphs as bytes ---


class _Left:
    """A function that was left behind: what performs an operation on the concrete machine, which has operations of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: Any) -> Any:
        raise AssertionError(f"{self.name} is not kept with a graph: the concrete machine makes operations of its own")


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType) and "<" in value.__qualname__:
            return _Left, (value.__qualname__,)
        return NotImplemented


def packed(made: Any) -> bytes:
    """Something as bytes, without what performs its operations."""
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(made)
    return file.getvalue()
