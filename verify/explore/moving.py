"""Which operations need no interleaving, as a search asks for it: worked out (movers.py), or found again (kept.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kernelmodel.graphs.folded_graph import FoldedNode
from kernelmodel.terms import Cell
from verify.explore.model import Model, TaskModel

#: a task by its number, a location of it, and which operation there
_Operation = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Condition:
    """When an operation may be performed at once: cells have these values, and tasks are not at these locations."""

    values: tuple[tuple[Cell, int], ...] = ()
    away: tuple[tuple[TaskModel, frozenset[int]], ...] = ()


class Moving(Protocol):
    """For each location of each task: whether the task goes on at once there, and on what condition."""

    conditions: dict[tuple[int, int], Condition]

    def right(self, task: TaskModel, location: int, which: int) -> bool:
        """Whether an operation of a location moves to the right of all that the others can do after it."""
        ...

    def only_looks(self, task: TaskModel, location: int, which: int) -> bool:
        """Whether an operation changes no cell."""
        ...

    def may_be_right(self, task: TaskModel, node: FoldedNode) -> bool:
        """Whether an operation moves to the right at any of its locations."""
        ...


@dataclass(frozen=True, slots=True)
class Moves:
    """All that a :class:`Moving` says of a model, without the model: tasks are numbers."""

    conditions: Mapping[tuple[int, int], tuple[tuple[tuple[Cell, int], ...], tuple[tuple[int, frozenset[int]], ...]]]
    right: frozenset[_Operation]
    looks: frozenset[_Operation]

    @classmethod
    def of(cls, model: Model, moving: Moving) -> Moves:
        """What is said of a model."""
        every = [
            (task, location, which)
            for task in model.tasks
            for location, numbers in enumerate(task.graph.locations)
            for which in range(len(numbers))
        ]
        return cls(
            {at: (c.values, tuple((t.number, bad) for t, bad in c.away)) for at, c in moving.conditions.items()},
            frozenset((t.number, x, i) for t, x, i in every if moving.right(t, x, i)),
            frozenset((t.number, x, i) for t, x, i in every if moving.only_looks(t, x, i)),
        )


class Told:
    """What was said of an equal model, told of this one."""

    def __init__(self, model: Model, moves: Moves) -> None:
        """``moves`` are of a model that has the same tasks, with the same graphs."""
        tasks = {t.number: t for t in model.tasks}
        self._moves = moves
        self.conditions = {
            at: Condition(values, tuple((tasks[number], bad) for number, bad in away))
            for at, (values, away) in moves.conditions.items()
        }
        self._right = {(n, tasks[n].graph.locations[location][which]) for n, location, which in moves.right}

    def right(self, task: TaskModel, location: int, which: int) -> bool:
        """Whether an operation of a location moves to the right of all that the others can do after it."""
        return (task.number, location, which) in self._moves.right

    def only_looks(self, task: TaskModel, location: int, which: int) -> bool:
        """Whether an operation changes no cell."""
        return (task.number, location, which) in self._moves.looks

    def may_be_right(self, task: TaskModel, node: FoldedNode) -> bool:
        """Whether an operation moves to the right at any of its locations."""
        return (task.number, node.number) in self._right
