"""Memory that grows where it lies: the system moves its pages, and nothing is copied."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


class Memory:
    """Bytes that are 0 at first, in large pages where the system has them."""

    def __init__(self, size: int) -> None:
        """So many bytes."""
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._in_large_pages()

    def grow(self, size: int) -> bool:
        """Have so many bytes, the new ones 0; whether that was possible."""
        try:
            self._map.resize(size)
        except (OSError, SystemError, ValueError, BufferError):
            # not every system can move pages, nor has room for them, and arrays of it keep them where they are
            return False
        self._in_large_pages()
        return True

    def array(self, kind: Any) -> npt.NDArray[Any]:
        """All of it, as long as it does not grow."""
        return np.frombuffer(self._map, kind)

    def _in_large_pages(self) -> None:
        advice = getattr(mmap, "MADV_HUGEPAGE", None)
        if advice is not None:
            with contextlib.suppress(OSError):
                self._map.madvise(advice)
