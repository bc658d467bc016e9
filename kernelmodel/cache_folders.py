"""Where straypage keeps what it need not make again: folders that nobody else can write to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: set to anything but 0 or nothing: nothing is kept from one command to the next
OFF = "STRAYPAGE_NO_CACHE"


def is_off() -> bool:
    """Whether the user wants nothing kept."""
    return os.environ.get(OFF, "0") not in ("", "0")


def folders(below: str = "") -> Iterator[Path]:
    """The folders that there are or can be made, the best first: ~/.cache/straypage, or one of the user's in /tmp."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    found = []
    # who has no home has a folder in /tmp
    with suppress(RuntimeError):
        found.append(Path(cache_home).expanduser() / "straypage")
    for folder in (*found, Path(tempfile.gettempdir()) / f"straypage-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            there = folder.stat()
            # what somebody else may have put there is not run
            if there.st_uid != os.getuid() or there.st_mode & 0o022:
                continue
            inner = folder / below
            inner.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        yield inner
