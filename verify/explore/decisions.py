"""What an outcome depends on: values that note which of them are looked at, and a tree of the questions that were asked.

The columns that the operations of a table may look at, on whatever way they take, are many; on one way they look at few.  So
what was computed for some values holds for all that agree with them where they were looked at, in the order in which that
was done: the answers so far decide which column is looked at next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verify.explore.rows import Rows, rows_of

#: new values, by the places at which they are written
Changes = Mapping[int, int]


class Outcome(NamedTuple):
    """One of the things that may follow: new values by their columns, the change of each hash, bits of what is violated."""

    changes: Changes
    delta: Sequence[int]
    wrong: int


class Learnt(NamedTuple):
    """The outcomes of a table, one column each: which of its places are written over, by what; the hashes' change; the bits
    of what is violated.
    """

    written: npt.NDArray[np.bool_]
    values: Rows
    deltas: npt.NDArray[np.uint64]
    wrong: npt.NDArray[np.int64]


class Outcomes:
    """The outcomes of a table, numbered as they are found, and kept as columns of arrays."""

    def __init__(self, columns: Sequence[int], classes: int) -> None:
        """``columns`` may be written over, and a row has the hashes of so many ``classes``."""
        self._place = {column: i for i, column in enumerate(columns)}
        self._kept = Learnt(
            np.zeros((len(columns), 0), bool), np.zeros((len(columns), 0), np.int16), np.zeros((classes, 0), np.uint64),
            np.zeros(0, np.int64),
        )  # fmt: skip
        self._fresh: list[Outcome] = []

    def add(self, outcomes: Sequence[Outcome]) -> range:
        """Some more; returns their numbers."""
        first = len(self._kept.wrong) + len(self._fresh)
        self._fresh += outcomes
        return range(first, first + len(outcomes))

    def settled(self) -> Learnt:
        """All so far.  Raises ModelError where a value does not fit into a column."""
        if self._fresh:
            written = np.zeros((len(self._place), len(self._fresh)), bool)
            values = np.zeros((len(self._place), len(self._fresh)), np.int16)
            at = [(self._place[column], i) for i, outcome in enumerate(self._fresh) for column in outcome.changes]
            if at:
                places, which = np.array(at).T
                written[places, which] = True
                values[places, which] = rows_of([[x for o in self._fresh for x in o.changes.values()]])[:, 0]
            fresh = Learnt(
                written, values, np.array([o.delta for o in self._fresh], np.uint64).T,
                np.array([o.wrong for o in self._fresh], np.int64),
            )  # fmt: skip
            kept = self._kept
            self._kept = Learnt(
                np.concatenate([kept.written, fresh.written], axis=1), np.concatenate([kept.values, fresh.values], axis=1),
                np.concatenate([kept.deltas, fresh.deltas], axis=1), np.concatenate([kept.wrong, fresh.wrong]),
            )  # fmt: skip
            self._fresh = []
        return self._kept


_get = list.__getitem__


class Noted(list[int]):
    """Values that note at which places they, and all copies of them, are looked at, and what is written to each."""

    __slots__ = ("changes", "looked")

    def __init__(self, values: Iterable[int], looked: dict[int, None], changes: Changes) -> None:
        """``looked`` is shared by all copies, in order; ``changes`` are this copy's."""
        super().__init__(values)
        self.looked, self.changes = looked, dict(changes)

    def __getitem__(self, place: Any) -> Any:
        if place.__class__ is slice:
            return Noted(_get(self, place), self.looked, self.changes)
        self.looked[place] = None
        return _get(self, place)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.changes[place] = value
        list.__setitem__(self, place, value)


class Decisions:
    """What follows from some values, by those of them on which it depends."""

    def __init__(self) -> None:
        # a question is a column, and what follows each of its values: another question, or outcomes
        self._top: dict[int, Any] = {}

    def find(self, values: Sequence[int]) -> Any:
        """What was learnt for values that agree where it matters; None if nothing was.  Noted values note what is asked."""
        found = self._top.get(0)
        while found.__class__ is tuple:
            found = found[1].get(values[found[0]])
        return found

    def learn(self, values: Sequence[int], looked: Iterable[int], outcomes: Any) -> None:
        """Keep what follows from some values, which were looked at in that order; not None."""
        answers, answer = self._top, 0
        for column in looked:
            if answer not in answers:
                answers[answer] = (column, {})
            asked, following = answers[answer]
            if asked != column:
                raise AssertionError("an outcome depends on more than the values that it looked at")
            answers, answer = following, values[column]
        answers[answer] = outcomes
