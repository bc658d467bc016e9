"""What an operation does beside its reads and writes, as data: what it acquires, queues, waits for.

Engines and printers look here, never at an operation's text.  An *exclusion* is named by the cell that has its holder: a
mutex, a spinlock, or interrupts off on a CPU; what kind it is says the cell's ``exclusion`` (:mod:`kernelmodel.schema`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelmodel.terms import Cell


@dataclass(frozen=True, slots=True)
class Work:
    """A work item of a CPU, by the cells that say whether it is queued, and whether it is being executed."""

    cpu: int
    pending: Cell
    running: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Does:
    """What one operation does; most do nothing of this."""

    #: the exclusion that the task holds from here on; with ``tries`` only if the first value returned is true
    acquires: Cell | None = None
    tries: bool = False
    releases: Cell | None = None
    #: the exclusion that the task will wait for (lockdep)
    asks: Cell | None = None
    #: 1: the task stays on its CPU, where others may preempt it; -1: it no longer has to
    pins: int = 0
    #: whether it returns the CPU on which it is done
    returns_cpu: bool = False
    queues: Work | None = None
    #: waits until the work item has been executed
    awaits: Work | None = None
    begins: Work | None = None
    ends: Work | None = None
    #: the CPU that leaves, or enters, the mask of those that are there
    takes_down: int | None = None
    brings_up: int | None = None
    #: the task hangs here for ever
    hangs: bool = False
    #: which bound of a scenario says how often a path comes here: rounds or migrations; as any loop where empty
    bounded_by: str = ""
    #: it is about to hang
    spins: bool = False
    #: the pcplists' CPU and zone on which it works, and whether its choices are numbers of pages that it takes from them
    lists: tuple[int, int] | None = None
    takes: bool = False
    #: its choices are the limits that somebody computes: the role of each (:attr:`CellKind.limit`)
    computes_limits: tuple[str, ...] = ()
    #: the pageblocks of which it asks whether all pages are free
    tests: tuple[int, ...] = ()
    #: it looks for a page in use
    scans: bool = False


NOTHING = Does()
