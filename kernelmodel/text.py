"""What all files of the kernel's text share: the size of the machine, the locks, interrupts and work items."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

from kernelmodel import ops
from kernelmodel.cells import CELLS, declare, value
from kernelmodel.config import Config
from kernelmodel.does import Does, Work
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import MEMORY_OFFLINE, PageRange, Zone
from kernelmodel.ops import Op, Routine, mark
from kernelmodel.schema import CellKind
from kernelmodel.tasks import TaskKind, declare_tasks
from kernelmodel.terms import ME, Cell, const, ite, land, lnot
from kernelmodel.told import Told

_C_NAME = re.compile(r"([\w/.-]+\.[chS]): (\w+)\(")
#: C files and identifiers of routines, learned from docstrings
_c_names: dict[tuple[type, str], tuple[str, str]] = {}


class KernelText:
    """Base of every kernel: routines are generators of operations, called as ``yield from self.routine(...)``.

    Calls through ``self`` of the routines below are wrapped with marks that open and close the properties' windows, so
    that an override of a routine cannot forget them; calls through ``super()`` are not.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    #: the routine at whose return the isolation of a range, its first argument, is complete: from there on no page of the
    #: range may be allocated.  A kernel that isolates and then drains elsewhere names the routine that does both.
    isolation_complete: ClassVar[str] = "start_isolate_page_range"
    #: whether a run may have pages in use that offline_pages() migrates; where it has none, it never looks for one in vain
    migrates: bool = True
    #: whether memory_failure() may have marked pages
    poisons: bool = False

    #: cells that this kernel has of its own: name and kind of each
    cells: ClassVar[tuple[tuple[str, CellKind], ...]] = ()
    #: kinds of tasks that this kernel has of its own
    tasks: ClassVar[tuple[TaskKind, ...]] = ()
    #: the cell that is not 0 while somebody is in the critical section of a CPU's pcplist
    section: ClassVar[str] = Config().section
    #: what a verdict about this kernel takes for granted, in words: of one that was read from C
    given: ClassVar[tuple[str, ...]] = ()
    #: what names a kernel from elsewhere, as after --variant; empty for ours
    source: ClassVar[str] = ""
    #: routines with a loop that a bounded engine goes round as often as that of offline_pages(), and no more
    loops: ClassVar[tuple[str, ...]] = ()
    #: properties that the kernel is known not to have
    breaks: ClassVar[tuple[str, ...]] = ()
    #: the largest order of a page that goes to a pcplist, where pageblocks are larger
    pcp_order: ClassVar[int] = 0
    #: the cells with the limits that a zone has for its pcplists, which those of its CPUs are set to
    limits: ClassVar[tuple[str, ...]] = Config().limits

    @classmethod
    def sized(cls, config: Config) -> Config:
        """A machine of that size that runs this kernel; ModelError where its ``section`` is no cell of a CPU."""
        declare(cls.cells)
        declare_tasks(cls.tasks)
        kind = CELLS.get(cls.section)
        if kind is None or "cpu" not in kind.axes or not kind.exclusion:
            raise ModelError(
                f"{cls.__name__}: section is {cls.section!r}, which is no exclusion of a CPU: declare it in `cells`"
            )
        return replace(config, section=cls.section, limits=cls.limits)

    def __init__(self, config: Config) -> None:
        """A kernel for a machine of the given size; ModelError if it has no routine ``isolation_complete``."""
        self.config = self.sized(config)
        if not has_routine(type(self), self.isolation_complete):
            raise ModelError(
                f"isolation_complete is {self.isolation_complete!r}, which is no routine of {type(self).__name__}: name the"
                " one at whose return a range is isolated"
            )
        for routine, (before, after) in _marks(self.isolation_complete).items():
            if has_routine(type(self), routine):
                setattr(self, routine, functools.partial(_marked, getattr(self, routine), before, after, config))

    @classmethod
    def line_of(cls, file: str, line: int) -> str:
        """A line of the C that a kernel was read from; empty where its text is ours."""
        del file, line
        return ""

    def for_each_cpu(self) -> Iterable[int]:
        """include/linux/cpumask.h: for_each_possible_cpu() and its like, in ascending order."""
        return self.config.cpus

    # --- kernel/locking, kernel/cpu.c ---

    def mutex_lock(self, mutex: str) -> Routine:
        """kernel/locking/mutex.c: mutex_lock()."""
        yield ops.lock_request(mutex)
        yield ops.lock(mutex)

    def mutex_trylock(self, mutex: str) -> Routine:
        """kernel/locking/mutex.c: mutex_trylock(); cannot deadlock, so lockdep has no edge for it."""
        return (yield ops.trylock(mutex))

    def mutex_unlock(self, mutex: str) -> Routine:
        """kernel/locking/mutex.c: mutex_unlock()."""
        yield ops.unlock(mutex)

    def cpus_read_lock(self) -> Routine:
        """kernel/cpu.c: cpus_read_lock(): no CPU goes up or down until cpus_read_unlock()."""
        readers = value("cpu_hotplug_readers")
        mine = (Cell("cpu_hotplug_readers"), readers + 1), (Cell("cpu_hotplug_reader"), ME)
        yield Op(
            "cpus_read_lock()", ops.Kind.LOCK, guard=value("mutex", "cpu_hotplug_lock") == 0,
            updates=(*mine, *ops.lock_edges("cpu_hotplug_lock")), told=ops.HOLDS, tag="lock",
        )  # fmt: skip

    def cpus_read_unlock(self) -> Routine:
        """kernel/cpu.c: cpus_read_unlock()."""
        readers, last = value("cpu_hotplug_readers"), value("cpu_hotplug_reader")
        fewer = (Cell("cpu_hotplug_readers"), readers - 1), (Cell("cpu_hotplug_reader"), ite(last == ME, 0, last))
        yield Op(
            "cpus_read_unlock()", ops.Kind.UNLOCK, guard=readers > 0, must="cpus_read_unlock() without a lock",
            updates=fewer, told=ops.GIVEN_BACK, tag="unlock",
        )  # fmt: skip

    def cpus_write_lock(self) -> Routine:
        """kernel/cpu.c: cpus_write_lock()."""
        mine = Cell("mutex", ("cpu_hotplug_lock",))
        free = land(value("mutex", "cpu_hotplug_lock") == 0, value("cpu_hotplug_readers") == 0)
        edges = ops.lock_edges("cpu_hotplug_lock")
        yield Op(
            "cpus_write_lock()", ops.Kind.LOCK, guard=free, updates=((mine, ME), *edges),
            does=Does(asks=mine, acquires=mine), told=ops.HOLDS, tag="lock",
        )  # fmt: skip

    def cpus_write_unlock(self) -> Routine:
        """kernel/cpu.c: cpus_write_unlock()."""
        yield ops.unlock("cpu_hotplug_lock")

    # --- kernel/workqueue.c, for the one work item that each CPU has for drain_all_pages() ---

    def queue_work_on(self, cpu: int) -> Routine:
        """kernel/workqueue.c: queue_work_on() of CPU ``cpu``'s drain work item; nothing if it is pending already."""
        yield Op(
            f"queue_work_on({cpu}, drain_local_pages_wq)", ops.Kind.RMW,
            updates=((Cell("work.pending", (cpu,)), const(True)),), does=Does(queues=_work(cpu)),
            told=Told(why="The drain of that CPU is put on its queue; it has not run yet."),
            tag="queue_work",
            info={"cpu": cpu},
        )  # fmt: skip

    def flush_work(self, cpu: int) -> Routine:
        """kernel/workqueue.c: flush_work(): waits until CPU ``cpu``'s drain work item has been executed."""
        idle = land(lnot(value("work.pending", cpu)), lnot(value("work.running", cpu)))
        yield Op(
            f"flush_work(cpu {cpu})", ops.Kind.LOCK, guard=idle, does=Does(awaits=_work(cpu)),
            told=Told(why="The queued drain has been executed: the wait for it ends."),
            tag="flush_work",
            info={"cpu": cpu},
        )  # fmt: skip

    def worker_thread(self, cpu: int, function: Callable[[int], Routine]) -> Routine:
        """kernel/workqueue.c: worker_thread(), process_one_work(): executes CPU ``cpu``'s work item when it is queued."""
        pending, running = Cell("work.pending", (cpu,)), Cell("work.running", (cpu,))
        ready = land(value("work.pending", cpu), lnot(value("work.running", cpu)))
        while True:
            yield Op(
                f"process_one_work(): cpu {cpu}", ops.Kind.RMW, guard=ready,
                updates=((pending, const(False)), (running, const(True))), does=Does(begins=_work(cpu)),
                told=Told(
                    why="CPU{cpu}'s worker takes the queued drain and begins it.",
                    statement="process_one_work()", comment=f"the drain of CPU{cpu}",
                ),
                tag="work_begin", info={"cpu": cpu},
            )  # fmt: skip
            yield from function(cpu)
            yield Op(
                "work item done", ops.Kind.RMW, updates=((running, const(False)),), does=Does(ends=_work(cpu)),
                told=Told(why="CPU{cpu}'s drain is over; whoever flushes it can go on.", mark=True, comment="the drain is done"),
                tag="work_end", info={"cpu": cpu},
            )  # fmt: skip


def _work(cpu: int) -> Work:
    return Work(cpu, Cell("work.pending", (cpu,)), Cell("work.running", (cpu,)))


Updates = list[tuple[Cell, Any]]


def _disabled(_config: Config, zone: Zone, *_: Any) -> tuple[str, Updates]:
    return "zone_pcp_disable() has returned", [(Cell("pcp_disabled_by", (zone.index,)), ME)]


def _enabling(_config: Config, zone: Zone, *_: Any) -> tuple[str, Updates]:
    by = value("pcp_disabled_by", zone.index)
    return "zone_pcp_enable() is entered", [(Cell("pcp_disabled_by", (zone.index,)), ite(by == ME, 0, by))]


def _isolated(
    routine: str, _config: Config, page_range: PageRange, _migratetype: Any = 0, flags: int = MEMORY_OFFLINE, *_: Any
) -> tuple[str, Updates]:
    if not flags & MEMORY_OFFLINE:
        return "", []
    isolated = [(Cell("isolated", (b,)), value("pageblock.migratetype", b) == 4) for b in page_range.blocks]
    return f"{routine}() has returned", list(isolated)


def _going_offline(_config: Config, event: str, page_range: PageRange, *_: Any) -> tuple[str, Updates]:
    if event != "MEM_GOING_OFFLINE":
        return "", []
    cells = [(Cell("isolated_and_drained", (b,)), value("isolated", b)) for b in page_range.blocks]
    return "the range is isolated and drained", list(cells)


def _no_longer(config: Config, page_range: PageRange, *_: Any) -> tuple[str, Updates]:
    blocks = page_range.blocks
    cells = [Cell(n, (b,)) for b in blocks for n in ("isolated", "isolated_and_drained")]
    # of a section that goes on: what was isolated when it began has not been so ever since
    cells += [Cell("isolated_at_entry", (c, b)) for b in blocks for c in config.cpus]
    return "the range is given up", [(cell, const(False)) for cell in cells]


def _offline_over(_config: Config, *_: Any) -> tuple[str, Updates]:
    return "offline_pages() has returned", []


#: what the marks mean
_WHY = {
    "zone_pcp_disable() has returned": "Here the promise begins: from now on no page may stay on a pcplist.",
    "zone_pcp_enable() is entered": "Here the promise ends: pcplists are used again.",
    "start_isolate_page_range() has returned": "Here the range counts as isolated: nobody should get a page of it.",
    "the range is isolated and drained": "Here the promise begins: no page of the range may be left on a pcplist.",
}
Mark = Callable[..., tuple[str, Updates]]
#: routine -> (mark on entry, mark on return): where the properties' windows open and close
_MARKS: dict[str, tuple[Mark | None, Mark | None]] = {
    "zone_pcp_disable": (None, _disabled),
    "zone_pcp_enable": (_enabling, None),
    "memory_notify": (_going_offline, None),
    "undo_isolate_page_range": (_no_longer, None),
    "offline_isolated_pages": (None, _no_longer),
    "offline_pages": (None, _offline_over),
}


def _marks(isolation_complete: str) -> dict[str, tuple[Mark | None, Mark | None]]:
    before, after = _MARKS.get(isolation_complete, (None, None))
    if after is not None:
        raise ModelError(
            f"isolation_complete is {isolation_complete!r}, at whose return another window opens or closes"
        )
    return {**_MARKS, isolation_complete: (before, functools.partial(_isolated, isolation_complete))}


def _marked(
    routine: Callable[..., Routine], before: Mark | None, after: Mark | None, config: Config, *args: Any, **kw: Any
) -> Routine:
    if before and (text := before(config, *args, **kw))[0]:
        yield mark(text[0], "mark", text[1], _WHY.get(text[0], ""))
    # what waits here holds nothing that could change meanwhile: a picture of it need not look again
    then = functools.partial(after, config, *args, **kw) if after else None
    result = yield from routine(*args, **kw)
    if then and (text := then())[0]:
        tag = "offline_pages_returned" if after is _offline_over else "mark"
        # a range that could not be isolated may be somebody else's
        failed = getattr(after, "func", None) is _isolated and type(result) is int and result < 0
        yield mark(text[0], tag, [] if failed else text[1], _WHY.get(text[0], ""))
    return result


def has_routine(kernel: type, routine: str) -> bool:
    """Whether a kernel has a routine; one that a later kernel no longer has is None there."""
    return callable(getattr(kernel, routine, None))


def from_a_file(kernel: type[KernelText]) -> bool:
    """Whether some of a kernel's text is not ours: a user's variant."""
    return any(not c.__module__.startswith("kernelmodel.") for c in kernel.__mro__ if c is not object)


def c_name(kernel: type[KernelText], routine: str) -> str:
    """The C identifier of a routine, from the first docstring in the kernel's bases that names its file and function."""
    return _in_c(kernel, routine)[1]


def c_file(kernel: type[KernelText], routine: str) -> str:
    """The C file of a routine; empty where no docstring names one."""
    return _in_c(kernel, routine)[0]


def c_location(kernel: type[KernelText], routine: str) -> str:
    """The C file and function of a routine: ``mm/page_alloc.c:drain_pages_zone()``; just the name where no docstring says."""
    file, name = _in_c(kernel, routine)
    return f"{file}:{name}()" if file else f"{name}()"


def _in_c(kernel: type[KernelText], routine: str) -> tuple[str, str]:
    key = (kernel, routine)
    if key not in _c_names:
        _c_names[key] = ("", routine)
        for base in kernel.__mro__:
            found = _C_NAME.search(getattr(base.__dict__.get(routine), "__doc__", None) or "")
            if found:
                _c_names[key] = (found[1], found[2])
                break
    return _c_names[key]
