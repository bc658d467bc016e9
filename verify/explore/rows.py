"""States as columns of 16 bits: what does not fit is refused, never shortened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernelmodel.errors import ModelError

Rows = npt.NDArray[np.int16]

_LEAST, _MOST = -(1 << 15), (1 << 15) - 1


def rows_of(states: Sequence[Sequence[int]]) -> Rows:
    """States, each a sequence of integers, as an array with one column of memory for each of their places.

    Raises ModelError where a value does not fit into 16 bits.
    """
    try:
        wide = np.array(states, np.int64)
    except OverflowError:
        wide = None
    if wide is None or (wide.size and not _LEAST <= wide.min() <= wide.max() <= _MOST):
        value = next(x for state in states for x in state if not _LEAST <= x <= _MOST)
        raise ModelError(
            f"a cell, or a place in a routine, gets the value {value}: a state is kept in columns of 16 bits "
            f"({_LEAST} to {_MOST}); use smaller constants in the text"
        )
    return wide.astype(np.int16).T.copy()
