"""What an outcome depends on: values that note which of them are looked at, and a tree of the questions that were asked.

The columns that the operations of a table may look at, on whatever way they take, are many; on one way they look at few.  So
what was computed for some values holds for all that agree with them where they were looked at, in the order in which that
was done: the answers so far decide which column is looked at next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verify.explore.rows import Rows


class Outcome(NamedTuple):
    """One of the things that may follow: new values and their places among a table's, the hashes' change, violated bits.

    ``values`` and ``delta`` are columns.
    """

    places: npt.NDArray[np.int64]
    values: Rows
    delta: npt.NDArray[np.uint64]
    wrong: int


_get = list.__getitem__


class Noted(list[int]):
    """Values that note at which places they, and all copies of them, are looked at, and at which each is written to."""

    __slots__ = ("looked", "touched")

    def __init__(self, values: Iterable[int], looked: dict[int, None], touched: set[int]) -> None:
        """``looked`` is shared by all copies, in order; ``touched`` is this copy's."""
        super().__init__(values)
        self.looked, self.touched = looked, touched

    def __getitem__(self, place: Any) -> Any:
        if place.__class__ is slice:
            return Noted(_get(self, place), self.looked, self.touched.copy())
        self.looked[place] = None
        return _get(self, place)

    def difference(self) -> frozenset[tuple[int, int]]:
        """What sets this copy apart from the values that it began with."""
        return frozenset((place, _get(self, place)) for place in self.touched)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.touched.add(place)
        list.__setitem__(self, place, value)


class Decisions:
    """The outcomes of a table, by the values on which they depend."""

    def __init__(self) -> None:
        # a question is a column, and what follows each of its values: another question, or outcomes
        self._top: dict[int, Any] = {}

    def find(self, values: Sequence[int]) -> list[Outcome] | None:
        """What was learnt for values that agree where it matters; None if nothing was."""
        found = self._top.get(0)
        while found.__class__ is tuple:
            found = found[1].get(values[found[0]])
        return found

    def learn(self, values: Sequence[int], looked: Iterable[int], outcomes: list[Outcome]) -> None:
        """Keep the outcomes of some values, which were looked at in that order."""
        answers, answer = self._top, 0
        for column in looked:
            if answer not in answers:
                answers[answer] = (column, {})
            asked, following = answers[answer]
            if asked != column:
                raise AssertionError("an outcome depends on more than the values that it looked at")
            answers, answer = following, values[column]
        answers[answer] = outcomes
