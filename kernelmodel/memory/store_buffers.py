"""Store buffers of the concrete machine: each CPU's stores reach memory one after the other, when somebody notices.

A store stays in the buffer until its CPU empties it, or until a load of another CPU finds the new value: then it, and
all stores before it, have reached memory.  Nobody can tell when else it was.  (Sewell et al.: "x86-TSO", CACM 2010.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kernelmodel.cells import CELLS
from kernelmodel.memory_model import buffered, empties, left_choice
from kernelmodel.ops import Op
from kernelmodel.terms import Cell


class Runs(Protocol):
    """A task, and the CPU on which it runs."""

    number: int
    cpu: int


@dataclass(frozen=True, slots=True)
class Store:
    """A store in a buffer: the cell, and the value that it had before."""

    cell: Cell
    before: int


@dataclass(slots=True)
class StoreBuffers:
    """The stores of each task that are not in memory yet, oldest first; whoever runs on a CPU next finds them made."""

    waiting: dict[int, list[Store]] = field(default_factory=dict)

    def begin(self, task: Runs, op: Op, tasks: Iterable[Runs]) -> None:
        """A task is about to do an operation: others of its CPU have made their stores, and so has it where that empties."""
        for other in tasks:
            if other.number != task.number and (other.cpu == task.cpu or other.cpu == op.does.takes_down):
                self.empty(other)
        if empties(op):
            self.empty(task)

    def empty(self, task: Runs) -> None:
        """All stores of a task are in memory."""
        self.waiting.pop(task.number, None)

    def view(
        self, task: Runs, load: Callable[[Cell], int], wanted: Mapping[str, int], made: dict[str, int]
    ) -> Callable[[Cell], int]:  # fmt: skip
        """What a task finds: where a store of another waits, the value before it, unless that is to have left the buffer.

        ``wanted`` says so by the choice of that name (default: it has left); what was chosen is noted in ``made``.
        """

        def found(cell: Cell) -> int:
            for number, stores in self.waiting.items():
                first = next((s for s in stores if s.cell == cell), None)
                if number == task.number or first is None:
                    continue
                name = left_choice(CELLS[cell.name].in_c(cell.name, cell.index))
                made[name] = bool(made.get(name, wanted.get(name, True)))
                return load(cell) if made[name] else first.before
            return load(cell)

        return found

    def choices(self, task: Runs) -> list[str]:
        """The names of what a task could choose now, of each store of others that waits."""
        stores = [s for n, waiting in self.waiting.items() if n != task.number for s in waiting]
        return sorted({left_choice(CELLS[s.cell.name].in_c(s.cell.name, s.cell.index)) for s in stores})

    def has_left(self, task: Runs, made: Mapping[str, int]) -> None:
        """The stores that somebody has found made, and those before them, are in memory."""
        for number, stores in self.waiting.items():
            if number == task.number:
                continue
            names = [left_choice(CELLS[s.cell.name].in_c(s.cell.name, s.cell.index)) for s in stores]
            last = max((i for i, name in enumerate(names) if made.get(name)), default=-1)
            del stores[: last + 1]

    def arrived(self, cell: Cell, task: Runs) -> None:
        """The stores of others than ``task`` to a cell, and those before them, are in memory."""
        for number, stores in self.waiting.items():
            if number == task.number:
                continue
            last = max((i for i, s in enumerate(stores) if s.cell == cell), default=-1)
            del stores[: last + 1]

    def late(self, cell: Cell, task: Runs) -> bool:
        """Whether a store of another task to a cell waits."""
        return any(n != task.number and any(s.cell == cell for s in stores) for n, stores in self.waiting.items())

    def made(self, task: Runs, op: Op, written: Mapping[Cell, int], before: Callable[[Cell], int]) -> None:
        """A task has done an operation, whose plain stores to memory go into its buffer."""
        new = [Store(c, before(c)) for c in written if buffered(c, op)]
        if new:
            self.waiting.setdefault(task.number, []).extend(new)
