"""The abstract cells: every variable that two tasks can share, with its sort and whether it is stored or derived.

Stored cells are plain variables of the kernel (``pcp.high``) or ghosts that only properties read.  Derived cells are
projections of the concrete structures (how many pages of which block lie on which list).  What an index stands for is
in the kind's ``axes``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import MigrateType, Zone
from kernelmodel.schema import Axis, CellKind, Index
from kernelmodel.terms import ME, Cell, Term, land, lnot, load, lor, total

#: mutexes of which a reader of a trace wants to hear nothing
DULL_MUTEXES = ("mem_hotplug_lock", "pcpu_drain_mutex")
#: the mutexes, in the order in which the kernel nests them
MUTEXES = ("cpu_hotplug_lock", "mem_hotplug_lock", "pcp_batch_high_lock", "pcpu_drain_mutex")

_PER_PCP: tuple[Axis, ...] = ("zone", "cpu")


def _block_type(config: Config, index: Index) -> int:
    return int(config.block_types[int(index[0])])


def _pages_of_zone(config: Config, _: Index) -> int:
    return config.blocks_per_zone * config.pages_per_block


#: what each cell is, by its name
CELLS: dict[str, CellKind] = {
    "pcp.high": CellKind(
        axes=_PER_PCP, telling=True, c="pcp[{1}]->high",
        when_read="The limit above which CPU{cpu} gives pages back to the buddy.",
        when_written=((0, "A free on CPU{cpu} that reads this gives its page back to the buddy at once."),),
        guard="pcp_batch_high_lock",
        limit="high", meaning="the count at which a free flushes the list; 0: pcplists are off",
        open_at_start=True, starts_as="zone.pageset_high", written_by_all=True,
    ),
    "pcp.batch": CellKind(
        axes=_PER_PCP, telling=True, c="pcp[{1}]->batch", when_read="How many pages CPU{cpu} is to move at a time.",
        when_written=((1, "From its next look at this on, CPU{cpu} moves one page at a time."),),
        guard="pcp_batch_high_lock",
        limit="batch", meaning="how many pages move at a time", initial=1, open_at_start=True,
        least=1, starts_as="zone.pageset_batch", written_by_all=True,
    ),
    "pcp.count": CellKind(
        axes=_PER_PCP, telling=True, c="pcp[{1}]->count",
        when_read="A look at how many pages CPU{cpu} says it has on its pcplists.",
        when_written=((None, "CPU{cpu}'s count catches up with its lists."),),
        guard="section",
        starts_as_sum="pcp.nr", meaning="how many pages the CPU believes to have", open_at_start=True,
        counts_pages=True,
    ),
    "pcp.nr": CellKind(
        axes=("zone", "cpu", "type", "block"), words="pages of block {3} on CPU{1}'s {2} list",
        guard="section",
        meaning="pages of a block on pcp->lists[t]", derived=True, open_at_start=True, counts_pages=True, where="pcplist",
    ),
    "irqs_off": CellKind(
        axes=("cpu",), values="task", exclusion="interrupts", words="IRQs off on CPU{0}",
        left_over="interrupts are still off on a CPU",
        meaning="0, or the task that has disabled interrupts on the CPU",
    ),
    "preempt_count": CellKind(
        axes=("cpu",), words="preempt_count of CPU{0}", left_over="preemption is still off on a CPU",
        meaning="how many tasks have disabled preemption on the CPU"
    ),
    "isolated_at_entry": CellKind(
        axes=("cpu", "block"), sort="bool", words="block {1} has been isolated since CPU{0}'s critical section began",
        meaning="the block was isolated when the last critical section of the CPU's pcplist began, and has been since",
        ghost=True, silent=True,
    ),
    "cpu_online": CellKind(
        axes=("cpu",), sort="bool", words="cpu_online({0})", when_read="Is that CPU online?",
        guard="cpu_hotplug_lock",
        meaning="the CPU is in cpu_online_mask", initial=True,
        of_everybody=True, bookkeeping=True,
    ),
    "pageblock.migratetype": CellKind(
        axes=("block",), telling=True, values="type", words="migratetype of block {0}",
        most=int(MigrateType.HIGHATOMIC), meaning="get_pageblock_migratetype()",
        initial=_block_type, open_at_start=True,
    ),
    "block_offline": CellKind(
        axes=("block",), sort="bool", words="block {0} is offline",
        guard="mem_hotplug_lock",
        meaning="the block has left the buddy (PageOffline, SetPageReserved)",
    ),
    "held": CellKind(
        axes=("block",), words="pages of block {0} in use", derived=True, open_at_start=True, sum_over_cpus=True,
        counts_pages=True, where="task",
        in_use="all", meaning="pages of the block that are neither free in the buddy, nor on a pcplist, nor offline",
    ),
    "in_use": CellKind(
        axes=("block",), derived=True, open_at_start=True, counts_pages=True,
        in_use="unowned", meaning="pages of the block that have been allocated, and whose last reference is not gone",
    ),
    "poisoned": CellKind(
        axes=("block",), ghost=True, words="pages of block {0} that memory_failure() keeps",
        meaning="pages of the block that memory_failure() keeps; they count as held",
    ),
    "poisoned_on_pcplists": CellKind(
        axes=("block",), ghost=True, words="pages of block {0} that were marked on a pcplist",
        meaning="how often memory_failure() has marked a page of the block that was on a pcplist",
    ),
    "free": CellKind(
        axes=("block",), words="free pages of block {0}", derived=True, counts_pages=True, where="buddy",
        meaning="pages of the block that are free in the buddy",
    ),
    "pages": CellKind(
        axes=("block",), words="pages of block {0}", derived=True, counts_pages=True,
        where="anywhere", meaning="pages of the block, wherever they are",
    ),
    "misplaced": CellKind(
        axes=("block",), words="pages of block {0} on a wrong free list", derived=True, sum_over_cpus=True,
        counts_pages=True, usually_zero=True,
        meaning="free pages of the ISOLATE block that lie on another type's free list",
    ),
    "isolated": CellKind(
        axes=("block",), sort="bool", ghost=True, window="block {0} isolated", words="block {0} is isolated",
        meaning="start_isolate_page_range() of the block has returned, not yet undone",
    ),
    "isolated_and_drained": CellKind(
        axes=("block",), sort="bool", ghost=True, window="block {0} isolated and drained",
        words="block {0} is isolated and drained",
        meaning="isolated, and what the kernel drains after it has been drained",
    ),
    "zone.nr_isolate_pageblock": CellKind(
        axes=("zone",), c="zone->nr_isolate_pageblock", meaning="how many pageblocks of the zone are isolated"
    ),
    "zone.pageset_high": CellKind(
        axes=("zone",), telling=True, c="zone->pageset_high", guard="pcp_batch_high_lock",
        limit="high", meaning="the high that zone_pcp_enable() restores", open_at_start=True
    ),
    "zone.pageset_batch": CellKind(
        axes=("zone",), telling=True, c="zone->pageset_batch", guard="pcp_batch_high_lock",
        limit="batch", meaning="the batch that zone_pcp_enable() restores", initial=1,
        open_at_start=True, least=1,
    ),
    "zone.managed_pages": CellKind(
        axes=("zone",), c="zone->managed_pages", meaning="zone_managed_pages()", initial=_pages_of_zone, bookkeeping=True
    ),
    "zone.present_pages": CellKind(
        axes=("zone",), c="zone->present_pages", meaning="pages of the zone; pageblock 0 of an engine's stays online",
        initial=_pages_of_zone, bookkeeping=True, never_zero=True,
    ),
    "zone.was_reset": CellKind(
        axes=("zone",), sort="bool", ghost=True, c="zone->was_reset",
        meaning="zone_pcp_reset() has freed the zone's pagesets at least once",
    ),
    "percpu_pagelist_fraction": CellKind(guard="pcp_batch_high_lock",
        meaning="the sysctl"),
    "mutex": CellKind(
        axes=("lock",), values="task", exclusion="mutex", words="owner of {0}",
        meaning="0, or the task that holds the mutex (cpu_hotplug_lock: its writer)",
    ),
    "cpu_hotplug_readers": CellKind(
        left_over="cpus_read_lock() is still held", meaning="number of cpus_read_lock() holders", bookkeeping=True
    ),
    "cpu_hotplug_reader": CellKind(
        meaning="the last of the cpus_read_lock() holders, 0 once that has given it back", ghost=True, bookkeeping=True
    ),
    "lock_edge": CellKind(
        axes=("lock", "lock"), sort="bool", ghost=True, silent=True, bookkeeping=True,
        words="{1} was asked for under {0}",
        meaning="somebody has asked for the second lock, to read or to write, while holding the first",
    ),
    "cpus_with_pcps": CellKind(
        axes=("cpu",), sort="bool", words="cpumask_test_cpu({0}, &cpus_with_pcps)",
        when_read="Is that CPU one of those to be drained?",
        when_written=((True, "That CPU will be drained."), (False, "That CPU will not be drained.")),
        guard="pcpu_drain_mutex",
        meaning="the static cpumask of drain_all_pages()", bookkeeping=True,
    ),
    "drain.zone": CellKind(
        axes=("cpu",), words="drain->zone of CPU{0}", guard="pcpu_drain_mutex",
        meaning="the zone of the CPU's drain work item, -1 for all",
        initial=-1, least=-1, bookkeeping=True,
    ),
    "work.pending": CellKind(
        axes=("cpu",), sort="bool", phase="queued", words="CPU{0}'s drain work queued",
        meaning="the CPU's drain work item is queued",
    ),
    "work.running": CellKind(
        axes=("cpu",), sort="bool", phase="running", words="CPU{0}'s drain work running",
        meaning="the CPU's drain work item is being executed",
    ),
    "pcp_disabled_by": CellKind(
        axes=("zone",), values="task", ghost=True, window="pcplists disabled",
        words="task that disabled the pcplists",
        meaning="0, or the task whose zone_pcp_disable() has returned, enable not entered",
    ),
}  # fmt: skip


def names(chosen: Callable[[CellKind], bool]) -> frozenset[str]:
    """The names of the cells of which something is true."""
    return frozenset(name for name, kind in CELLS.items() if chosen(kind))


def declare(kinds: Iterable[tuple[str, CellKind]]) -> None:
    """Add the cells that a kernel has of its own; ModelError where one of that name is something else."""
    for name, kind in kinds:
        if CELLS.get(name, kind) != kind:
            raise ModelError(f"cell {name!r} is known, and something else: {CELLS[name].meaning}; choose another name")
        CELLS[name] = kind


def stops_others(exclusion: Cell | None) -> bool:
    """Whether nobody else runs on the CPU of which the cell is, as long as somebody holds the exclusion that it names."""
    return exclusion is not None and CELLS[exclusion.name].exclusion == "interrupts"


def quiet_cells(config: Config, cpu: int) -> list[Cell]:
    """The cells that are 0 while nobody is in the critical section of a CPU's pcplists: one, or one for each zone."""
    return list(dict.fromkeys(section_of(config, z, cpu) for z in range(config.nr_zones)))


def section_of(config: Config, z: int, cpu: int) -> Cell:
    """The cell with whoever is in the critical section of a CPU's pcplist of a zone."""
    place: dict[Axis, int] = {"zone": z, "cpu": cpu}
    return Cell(config.section, tuple(place[axis] for axis in CELLS[config.section].axes))


def quiet(config: Config, cpu: int, z: int | None = None) -> Term:
    """That nobody is in the critical section of a CPU's pcplist of a zone, or of any zone."""
    cells = quiet_cells(config, cpu) if z is None else [section_of(config, z, cpu)]
    return land(*(value(c.name, *c.index) == 0 for c in cells))


def guarded(config: Config, cell: Cell) -> Term | None:
    """That the task which acts holds what guards a cell; None where nothing does.

    While interrupts off are what guards the lists of a CPU, nobody else is there once it has gone, and they are free to take.
    """
    guard = CELLS[cell.name].guard
    if guard != "section":
        return value("mutex", guard) == ME if guard else None
    cpu = owner(cell)
    assert cpu is not None
    section = section_of(config, int(cell.index[CELLS[cell.name].position("zone")]), cpu)
    held = value(section.name, *section.index) == ME
    if stops_others(section):
        there = cpu_there(cpu)
        return lor(held, lnot(value(there.name, *there.index)))
    return held


def is_derived(cell: Cell) -> bool:
    """Whether ``cell`` is a projection of the concrete structures rather than a stored variable."""
    return CELLS[cell.name].derived


def disabler(z: int) -> Cell:
    """The ghost with the task that has disabled the pcplists of a zone."""
    return Cell("pcp_disabled_by", (z,))


def isolated(block: int) -> Cell:
    """The ghost that says that start_isolate_page_range() of a block has returned."""
    return Cell("isolated", (block,))


def stops_on(exclusion: Cell | None, cpu: int) -> bool:
    """Whether somebody who holds the exclusion has that CPU for himself."""
    return exclusion is not None and stops_others(exclusion) and owner(exclusion) == cpu


def cached_limit(config: Config, which: str, z: int) -> Cell | None:
    """The cell with the limit of that role (:attr:`CellKind.limit`) that a zone has for its CPUs; None if it has none."""
    return next((Cell(name, (z,)) for name in config.limits if CELLS[name].limit == which), None)


def limits_of_cpus(config: Config) -> Iterator[tuple[str, str]]:
    """The limits that each CPU's pcplist of a zone has, by name, and the zone's that they are set to."""
    for name, kind in CELLS.items():
        if kind.starts_as in config.limits and "cpu" in kind.axes:
            yield name, kind.starts_as


def cpu_taken(cpu: int) -> Cell:
    """The exclusion under which a task has a CPU for itself."""
    return Cell("irqs_off", (cpu,))


def mutex_owner(mutex: str) -> Cell:
    """The cell with the task that holds a mutex."""
    return Cell("mutex", (mutex,))


def cpu_there(cpu: int) -> Cell:
    """The cell that says whether a CPU is online."""
    return Cell("cpu_online", (cpu,))


def owner(cell: Cell) -> int | None:
    """The CPU to which a cell belongs; None if to none, or if everybody looks at it."""
    kind = CELLS[cell.name]
    return int(cell.index[kind.axes.index("cpu")]) if "cpu" in kind.axes and not kind.of_everybody else None


def cpu_position(name: str) -> int:
    """The place of the CPU in the indices of the cells of that name; -1 if they are of no CPU."""
    return CELLS[name].position("cpu")


def value(name: str, *index: int | str) -> Term:
    """The value of a cell as a term of the cell's sort; ModelError if there is no such cell."""
    if name not in CELLS:
        raise ModelError(
            f"unknown cell {name!r}: there are {', '.join(CELLS)}; a kernel declares those of its own in `cells`"
        )
    if all(type(i) in (int, str) for i in index):
        return _value(name, index)
    return load(Cell(name, index), CELLS[name].sort)


@lru_cache(maxsize=4096)
def _value(name: str, index: tuple[int | str, ...]) -> Term:
    return load(Cell(name, index), CELLS[name].sort)


# asked for at every step; typed, for an index of another type makes a cell of another text
@lru_cache(maxsize=1024, typed=True)
def pcp_list_length(config: Config, z: int, cpu: int, t: int | None = None) -> Term:
    """Length of ``pcp->lists[t]`` of zone ``z`` on ``cpu``, or how many pages of order 0 those of all its lists are."""
    if t is not None:
        return total(value("pcp.nr", z, cpu, t, b) for b in config.blocks_of(Zone(z)))
    return total(_pages(config, z, cpu, u, b) for u in config.lists for b in config.blocks_of(Zone(z)))


def _pages(config: Config, z: int, cpu: int, u: int, b: int) -> Term:
    pages: Term = config.in_pages(u, value("pcp.nr", z, cpu, u, b))
    return pages


def on_other_cpu(cell: Cell, cpus: Mapping[int, int]) -> Cell:
    """The cell of the CPU that one becomes by a renaming; a cell of no CPU, or of one that keeps its name, stays."""
    place = cpu_position(cell.name)
    if place < 0 or cell.index[place] not in cpus:
        return cell
    return Cell(cell.name, tuple(cpus[int(x)] if i == place else x for i, x in enumerate(cell.index)))


def in_pages(config: Config, cell: Cell, number: Any) -> Any:
    """What a cell counts, in pages of order 0: those of a list may be larger."""
    place = CELLS[cell.name].position("type")
    return config.in_pages(int(cell.index[place]), number) if place >= 0 else number


@lru_cache(maxsize=1024, typed=True)
def pages_of_block_on_pcplists(config: Config, b: int, cpu: int | None = None) -> Term:
    """Number of pages of block ``b`` on the pcplists of ``cpu``, or of all CPUs."""
    z = b // config.blocks_per_zone
    cpus = config.cpus if cpu is None else (cpu,)
    return total(_pages(config, z, c, u, b) for c in cpus for u in config.lists)


def layout(config: Config) -> tuple[Cell, ...]:
    """Every cell of a machine of this size, in a fixed order; the same tuple as long as no kernel has declared more."""
    return _layout(config, tuple([(name, kind.axes) for name, kind in CELLS.items()]))


@lru_cache(maxsize=64)
def _layout(config: Config, cells: tuple[tuple[str, tuple[Axis, ...]], ...]) -> tuple[Cell, ...]:
    return tuple(Cell(name, index) for name, axes in cells for index in indices(config, axes))


def indices(config: Config, axes: tuple[Axis, ...]) -> Iterator[Index]:
    """Each index of cells with these axes; an axis of pageblocks has those of the zone that is the first, if one is."""
    ways: dict[Axis, Sequence[int | str]] = {
        "zone": range(config.nr_zones), "cpu": config.cpus, "type": config.lists, "lock": MUTEXES,
        "block": range(config.nr_blocks),
    }  # fmt: skip
    within = axes[:1] == ("zone",) and "block" in axes
    for values in itertools.product(*(ways[a] for a in axes)):
        if not within or values[axes.index("block")] in config.blocks_of(Zone(int(values[0]))):
            yield values


def initial(config: Config, cell: Cell) -> int:
    """The value of a stored cell at boot: no page allocated yet, boot pagesets (high 0, batch 1), all CPUs online."""
    kind = CELLS[cell.name]
    value = kind.at_boot(config, cell.index)
    return bool(value) if kind.sort == "bool" else value
