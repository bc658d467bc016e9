"""What tables have learnt, as arrays that the loop in C walks: trees of questions, and the outcomes at their leaves.

A question is a column of a state, or whether a task is away from some of its locations; what was answered decides what is
asked next (decisions.py).  A state that comes to an answer that no decision had yet is missing there: one of those that
miss the same answer is decided, and the others try again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from verify.explore.decisions import Outcome
from verify.explore.library import at
from verify.explore.rows import rows_of
from verify.explore.table import Transitions

#: of a tree, or of a branch of it: nobody has asked yet
UNKNOWN = -(1 << 31)
_NODE = np.dtype([("question", np.int32), ("answer", np.int32), ("target", np.int32), ("other", np.int32)])
_LEAF = np.dtype([("first", np.int64), ("count", np.int64)])
_OUTCOME = np.dtype([("bad", np.int64), ("first", np.int32), ("count", np.int32)])
_WRITE = np.dtype([("column", np.int32), ("value", np.int32)])
#: the arrays of what was learnt; the others follow from the model
LEARNT = ("roots", "nodes", "leaves", "outcomes", "writes", "deltas")
_AWAY = np.dtype([("column", np.int32), ("begin", np.int32), ("length", np.int32)])


class Growing:
    """An array to which rows are appended, where it has room for them."""

    def __init__(self, dtype: npt.DTypeLike, *shape: int) -> None:
        """Of rows with that shape."""
        self.array: npt.NDArray[Any] = np.zeros((16, *shape), dtype)
        self.rows = 0

    def has_room(self, more: int) -> bool:
        """Whether so many rows can be appended."""
        return self.rows + more <= len(self.array)

    def move(self, more: int) -> None:
        """Lie somewhere else, with room for so many rows."""
        grown = np.zeros((max(len(self.array), 2 * (self.rows + more)), *self.array.shape[1:]), self.array.dtype)
        grown[: self.rows] = self.array[: self.rows]
        self.array = grown

    def append(self, rows: Sequence[Any] | npt.NDArray[Any]) -> int:
        """Returns the number of the first."""
        first = self.rows
        assert self.has_room(len(rows))
        self.rows += len(rows)
        if len(rows):
            self.array[first : self.rows] = rows
        return first


class Arena:
    """The trees and the outcomes of all tables.

    Threads walk them while others are learnt.  So what is known stays as it is where it lies, and where an array has to
    move, the nodes and the roots move with it (struct program in native.c): who walks the old ones finds what was known.
    """

    def __init__(self, transitions: Transitions, tables: int = 0, loaded: ctypes.CDLL | None = None) -> None:
        """Of so many tables, of which nothing is learnt.  ``loaded``: the loop; without it there is one thread."""
        self._loaded = loaded
        #: what threads may still walk, and where they may no more
        self._maps: dict[int, Any] = {}
        self._old: list[Any] = []
        self._extent = transitions.extent - len(transitions.away)
        self.arrays = {
            "roots": Growing(np.int64), "nodes": Growing(_NODE), "leaves": Growing(_LEAF), "outcomes": Growing(_OUTCOME),
            "writes": Growing(_WRITE), "deltas": Growing(np.uint64, transitions.classes), "away": Growing(_AWAY),
            "lines": Growing(np.uint8),
        }  # fmt: skip
        #: of the first node with each question: the question, and the node of each answer
        self._points: dict[int, tuple[int, dict[int, int]]] = {}
        self._target: list[int] = []
        #: whether the two have to be found from the nodes first
        self._only_nodes = False
        for task, bad in sorted(transitions.away, key=lambda a: transitions.away[a]):
            line = transitions.is_away(task, bad)
            self._make_room(away=1, lines=len(line))
            self.arrays["away"].append([(task.location, self.arrays["lines"].append(line), len(line))])
        self._make_room(roots=tables)
        self.arrays["roots"].append(np.full(tables, UNKNOWN))

    def _make_room(self, **more: int) -> None:
        small = {name for name, n in more.items() if not self.arrays[name].has_room(n)}
        for name in {*small, "nodes", "roots"} if small else ():
            self._old.append(self.arrays[name].array)
            self.arrays[name].move(more.get(name, 0))

    def forget_old(self) -> None:
        """Nobody walks any more where arrays lay before."""
        self._old.clear()

    def kept(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learnt, to be kept."""
        return {name: self.arrays[name].array[: self.arrays[name].rows].copy() for name in LEARNT}

    def take(self, kept: dict[str, npt.NDArray[Any]]) -> None:
        """Know what was learnt of equal tables; nothing has been learnt yet, and nobody walks."""
        for name, array in kept.items():
            growing = self.arrays[name]
            growing.rows = 0
            if not growing.has_room(len(array)):
                growing.move(len(array))
            growing.append(array)
        self._only_nodes = True

    def _find_points(self) -> None:
        if not self._only_nodes:
            return
        self._only_nodes = False
        nodes = self.arrays["nodes"].array[: self.arrays["nodes"].rows]
        self._target = nodes["target"].tolist()
        questions, answers, others = (nodes[name].tolist() for name in ("question", "answer", "other"))
        for first in sorted({*range(len(nodes))} - {*others}):
            found, node = self._points.setdefault(first, (questions[first], {}))[1], first
            while node != UNKNOWN:
                found[answers[node]] = node
                node = others[node]

    def root(self, table: int) -> int:
        """The tree of a table."""
        return int(self.arrays["roots"].array[table])

    def plant(self, table: int, root: int) -> None:
        """Have a table know a tree, or a map, which is complete."""
        roots = self.arrays["roots"].array
        if self._loaded is None:
            roots[table] = root
        else:
            self._loaded.plant(at(roots) + table * roots.itemsize, root)

    def plant_map(self, table: int, struct: ctypes.Structure, *arrays: npt.NDArray[Any]) -> None:
        """Have a table know a map, which lies in some arrays."""
        self._old.append(self._maps.get(table))
        self._maps[table] = (struct, arrays)
        self.plant(table, ctypes.addressof(struct))

    def _lead(self, node: int, to: int) -> None:
        nodes = self.arrays["nodes"].array
        if self._loaded is None:
            nodes["other"][node] = to
        else:
            self._loaded.lead(at(nodes["other"][node : node + 1]), to)

    def point(self, program: ctypes.Structure) -> None:
        """Tell the loop where the arrays lie now."""
        for name, growing in self.arrays.items():
            setattr(program, name, at(growing.array))

    def leaf(self, outcomes: Sequence[Outcome]) -> int:
        """Keep some outcomes; returns the number of their leaf.  Raises ModelError where a value does not fit a column."""
        writes = [w for o in outcomes for w in o.changes.items()]
        rows_of([[value for _, value in writes]])
        self._make_room(writes=len(writes), outcomes=len(outcomes), deltas=len(outcomes), leaves=1)
        at_write = self.arrays["writes"].append(writes)
        found = []
        for o in outcomes:
            found.append((o.wrong, at_write, len(o.changes)))
            at_write += len(o.changes)
        self.arrays["deltas"].append(np.array([o.delta for o in outcomes], np.uint64))
        return self.arrays["leaves"].append([(self.arrays["outcomes"].append(found), len(found))])

    def knows(self, root: int, values: Sequence[int]) -> bool:
        """Whether a tree has a leaf for some values."""
        self._find_points()
        point = root
        while point >= 0:
            question, answers = self._points[point]
            node = answers.get(values[question if question >= 0 else self._extent - question - 1])
            if node is None:
                return False
            point = self._target[node]
        return point != UNKNOWN

    def learn(self, root: int, values: Sequence[int], looked: Iterable[int], leaf: int) -> int:
        """Keep a leaf for all values that answer as these where they were looked at, in that order; returns the root."""
        self._find_points()
        asked = [(p if p < self._extent else self._extent - p - 1, values[p]) for p in looked]
        point, depth = root, 0
        while point != UNKNOWN:
            if depth == len(asked) or point not in self._points or self._points[point][0] != asked[depth][0]:
                raise AssertionError("an outcome depends on more than the values that it looked at")
            answers = self._points[point][1]
            if asked[depth][1] not in answers:
                break
            point, depth = self._target[answers[asked[depth][1]]], depth + 1
        rest = asked[depth:]
        if not rest:
            return -1 - leaf
        self._make_room(nodes=len(rest))
        first = self.arrays["nodes"].rows
        targets = [*range(first + 1, first + len(rest)), -1 - leaf]
        self.arrays["nodes"].append([(q, a, t, UNKNOWN) for (q, a), t in zip(rest, targets, strict=True)])
        self._target += targets
        self._points |= {first + i: (q, {a: first + i}) for i, (q, a) in enumerate(rest)}
        if point == UNKNOWN:
            return first
        del self._points[first]
        self._lead(next(reversed(answers.values())), first)
        answers[rest[0][1]] = first
        return root
