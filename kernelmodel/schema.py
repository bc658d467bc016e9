"""What a cell is, as data: engines, columns and timelines read it here and know no cell by its name.

A kernel's description says of each shared variable which axes it has, what its values are, where it may start, and how C
and people call it.  Nothing is parsed from prose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from kernelmodel.config import Config
from kernelmodel.mmzone import PCPTYPES, MigrateType
from kernelmodel.terms import Sort

#: what an index stands for
Axis = Literal["zone", "cpu", "type", "block", "lock"]
#: what a value stands for: a number, a task (0: none), a migratetype
Values = Literal["number", "task", "type"]
#: how a cell with the task that holds something keeps others out: who waits for a mutex sleeps, who waits for a spinlock
#: does not, and while interrupts are off on a CPU nobody else runs there
Exclusion = Literal["", "mutex", "spinlock", "interrupts"]
#: of a count of pages that is told by where each page is: on a pcplist, held by a task, free in the buddy
Where = Literal["", "pcplist", "task", "buddy", "anywhere"]
Index = tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellKind:
    """All cells of one name.

    ``axes`` are those of the index.  ``c`` is the C expression and ``words`` the name for people, with ``{0}`` for the
    first index; ``meaning`` is a sentence.  ``initial`` is the value at boot.  ``derived`` cells are projections of the
    concrete structures, ``ghost`` ones are there for properties only; ``silent`` ghosts are set over and over and say
    nothing to a reader.  ``bookkeeping`` is what a reader of a trace can do without.
    """

    axes: tuple[Axis, ...] = ()
    sort: Sort = "int"
    values: Values = "number"
    exclusion: Exclusion = ""
    c: str = ""
    words: str = ""
    #: sentences about a read of it, and about a write of a value (None: of any), with ``{cpu}``: the CPU of which it is
    when_read: str = ""
    when_written: tuple[tuple[int | None, str], ...] = ()
    meaning: str
    initial: int | Callable[[Config, Index], int] = 0
    derived: bool = False
    ghost: bool = False
    silent: bool = False
    bookkeeping: bool = False
    #: what a timeline says of the time while it is not 0, with ``{0}`` for the first index
    window: str = ""
    #: that of a CPU's work item: what the item is while it is not 0
    phase: Literal["", "queued", "running"] = ""
    #: reads that came too early or too late to see a write of it tell a race; mutexes and work have their own way
    telling: bool = False
    #: whoever writes it holds this: a mutex, or "section", the critical section of the CPU's pcplists
    guard: str = ""
    #: a proof may begin with any value that is at least ``least``
    open_at_start: bool = False
    least: int = 0
    most: int | None = None
    #: where both are open at the start, it is no less than the cell of this name with the same index
    starts_above: str = ""
    #: where values at the start are open, it is the sum of the cells of this name that have the same zone and CPU
    starts_as_sum: str = ""
    #: a count of pages in use: whosever they are, or those that nobody has been given to free
    in_use: Literal["", "all", "unowned"] = ""
    #: where values at the start are open, it has that of the cell of this name that has the same zone
    starts_as: str = ""
    #: of a CPU, but everybody looks at it: it is followed for each CPU
    of_everybody: bool = False
    #: of a CPU, but tasks of any CPU write it
    written_by_all: bool = False
    #: a sum over all CPUs
    sum_over_cpus: bool = False
    #: a count of pages; ``where`` the pages are that it counts
    counts_pages: bool = False
    where: Where = ""
    #: which limit of a pcplist it is; from v6.7 on, ``high`` has a greatest value of its own
    limit: Literal["", "high", "batch", "high_max"] = ""
    #: what is wrong where every task has returned and it is not 0
    left_over: str = ""
    #: only compared with 0, and never 0
    never_zero: bool = False
    #: 0 as long as a property holds: a search may take it to be 0, and has to watch that
    usually_zero: bool = False

    @property
    def sleeps(self) -> bool:
        """Whether who has to wait for it sleeps: it is a mutex."""
        return self.exclusion == "mutex"

    def position(self, axis: Axis) -> int:
        """The place of an axis in the index; -1 if it is none."""
        return self.axes.index(axis) if axis in self.axes else -1

    def in_c(self, name: str, index: Sequence[int | str]) -> str:
        """A cell of this kind as operations write it."""
        return self.c.format(*index) if self.c else f"{name}[{','.join(map(str, index))}]" if index else name

    def in_words(self, name: str, index: Sequence[int | str]) -> str:
        """A cell of this kind as people call it."""
        if not self.words:
            return self.in_c(name, index)
        pairs = zip(self.axes, index, strict=True)
        return self.words.format(*(_list_in_words(int(i)) if axis == "type" else i for axis, i in pairs))

    def at_boot(self, config: Config, index: Index) -> int:
        """The value of a stored cell when a machine has booted."""
        return self.initial(config, index) if callable(self.initial) else self.initial


def _list_in_words(index: int) -> str:
    """A pcplist by its index: those of order 0 come first, one for each migratetype (:meth:`Config.list_of`)."""
    order, migratetype = divmod(index, PCPTYPES)
    name = MigrateType(migratetype).name
    return f"order-{order} {name}" if order else name
