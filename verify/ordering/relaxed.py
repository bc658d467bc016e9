"""What a memory model changes in a scenario, as data: which stores are delayed, and who may miss one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernelmodel.terms import Cell

#: an operation at a place of a task: the task's name, the calls that it is in, its text
Place = tuple[str, tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A store that may still be in the buffer when a later load is made, by ``task``: each with its function and text."""

    task: str
    store: tuple[str, str]
    load: tuple[str, str]
    cell: Cell
    loaded: Cell


@dataclass(frozen=True, slots=True)
class Relaxed:
    """What TSO changes: the pairs, the delayed stores, and the loads that may miss one.

    ``refused`` says why the buffers that are needed are not of the kind that the engines have; empty if they are.
    """

    pairs: tuple[Pair, ...] = ()
    delayed: frozenset[tuple[Place, Cell]] = frozenset()
    looks: frozenset[tuple[Place, Cell]] = frozenset()
    #: where others may look at what is stored: what was stored before is in memory then
    stores: frozenset[Place] = frozenset()
    #: the names of cells to which others may store while such a store waits
    contended: frozenset[str] = frozenset()
    refused: str = ""

    @property
    def cells(self) -> frozenset[str]:
        """The names of the cells of which somebody may see an old value."""
        return frozenset(cell.name for _, cell in self.delayed)


def place(task: str, node: Any) -> Place:
    """Where an operation stands: a node of a control graph, folded or unrolled."""
    return (task, node.stack, node.op.text)
