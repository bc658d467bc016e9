"""Files of the user's cache (:func:`on_disk.place`): each holds what follows from the digest that is its name."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

from kernelmodel.graphs import on_disk

#: of one text of straypage so many files of a folder are kept, those used last
MOST = 400


def load(file: Path | None, kind: type) -> Any:
    """What is kept there; None if nothing of that kind is."""
    if file is None:
        return None
    try:
        found = pickle.loads(file.read_bytes())
    except Exception:
        # no such file, or one that was not written to its end
        return None
    with suppress(OSError):
        # which were used last is how the others are chosen that go
        file.touch()
    return found if isinstance(found, kind) else None


def keep(file: Path | None, what: Any) -> None:
    """Keep it, as :func:`on_disk.packed` packs it."""
    if file is not None:
        on_disk.store(file, on_disk.packed(what), MOST)
