"""Sets of fingerprints with NumPy: which of many are different, and which have been seen before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from verify.explore.table import Hashes, Index


def distinct(prints: Hashes) -> tuple[Hashes, Index]:
    """The different fingerprints, sorted, and the first place of each.

    What np.unique(return_index=True) gives, several times as fast: the place is put in the low bits, so that plain numbers
    are sorted, for which NumPy has vector instructions.
    """
    n = len(prints)
    low = np.uint64((1 << max(1, n.bit_length())) - 1)
    packed = (prints & ~low) | np.arange(n, dtype=np.uint64)
    packed.sort()
    order: Index = (packed & low).astype(np.int64)
    ordered = prints[order]
    first = np.ones(n, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    ordered, order = ordered[first], order[first]
    if (ordered[1:] <= ordered[:-1]).any():
        # two that differ in the low bits only lie mixed
        ordered, again = np.unique(ordered, return_index=True)
        order = order[again]
    return ordered, order


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
