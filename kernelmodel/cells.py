"""The abstract cells: every variable that two tasks can share, with its sort and whether it is stored or derived.

Stored cells are plain variables of the kernel (``pcp.high``) or ghosts that only properties read.  Derived cells are
projections of the concrete structures (how many pages of which block lie on which list).  ``z`` is a zone index, ``c``
a CPU, ``t`` a migratetype below PCPTYPES and ``b`` a pageblock.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import PCPTYPES, Zone
from kernelmodel.terms import Cell, Sort, Term, load, total

#: the mutexes, in the order in which the kernel nests them
MUTEXES = ("cpu_hotplug_lock", "mem_hotplug_lock", "pcp_batch_high_lock", "pcpu_drain_mutex")

#: cell name -> (sort, derived, meaning)
CELLS: dict[str, tuple[Sort, bool, str]] = {
    "pcp.high": ("int", False, "[z,c] pcp->high"),
    "pcp.batch": ("int", False, "[z,c] pcp->batch"),
    "pcp.count": ("int", False, "[z,c] pcp->count"),
    "pcp.nr": ("int", True, "[z,c,t,b] pages of block b on pcp->lists[t]"),
    "irqs_off": ("int", False, "[c] 0, or the task that has disabled interrupts on CPU c"),
    "preempt_count": ("int", False, "[c] how many tasks have disabled preemption on CPU c"),
    "isolated_at_irqs_off": ("bool", False, "[c,b] ghost: block b was isolated when CPU c last disabled interrupts"),
    "cpu_online": ("bool", False, "[c] CPU c is in cpu_online_mask"),
    "pageblock.migratetype": ("int", False, "[b] get_pageblock_migratetype()"),
    "block_offline": ("bool", False, "[b] the block has left the buddy (PageOffline, SetPageReserved)"),
    "held": ("int", True, "[b] pages of block b that are neither free in the buddy, nor on a pcplist, nor offline"),
    "in_use": ("int", True, "[b] pages of block b that have been allocated, and whose last reference is not gone"),
    "poisoned": ("int", False, "[b] ghost: pages of block b that memory_failure() keeps; they count as held"),
    "poisoned_on_pcplists": (
        "int",
        False,
        "[b] ghost: how often memory_failure() has marked a page of block b that was on a pcplist",
    ),
    "free": ("int", True, "[b] pages of block b that are free in the buddy"),
    "pages": ("int", True, "[b] pages of block b, wherever they are"),
    "misplaced": ("int", True, "[b] free pages of the ISOLATE block b that lie on another type's free list"),
    "isolated": ("bool", False, "[b] ghost: start_isolate_page_range() of block b has returned, not yet undone"),
    "isolated_and_drained": (
        "bool",
        False,
        "[b] ghost: isolated, and what the kernel drains after it has been drained",
    ),
    "zone.nr_isolate_pageblock": ("int", False, "[z] zone->nr_isolate_pageblock"),
    "zone.pageset_high": ("int", False, "[z] zone->pageset_high"),
    "zone.pageset_batch": ("int", False, "[z] zone->pageset_batch"),
    "zone.managed_pages": ("int", False, "[z] zone_managed_pages()"),
    "zone.present_pages": ("int", False, "[z] zone->present_pages"),
    "zone.was_reset": ("bool", False, "[z] ghost: zone_pcp_reset() has freed the zone's pagesets at least once"),
    "percpu_pagelist_fraction": ("int", False, "the sysctl"),
    "mutex": ("int", False, "[name] 0, or the task that holds the mutex (cpu_hotplug_lock: its writer)"),
    "cpu_hotplug_readers": ("int", False, "number of cpus_read_lock() holders"),
    "cpu_hotplug_reader": (
        "int",
        False,
        "ghost: the last of the cpus_read_lock() holders, 0 once that has given it back",
    ),
    "lock_edge": (
        "bool",
        False,
        "[a,b] ghost: somebody has asked for lock b, to read or to write, while holding lock a",
    ),
    "cpus_with_pcps": ("bool", False, "[c] the static cpumask of drain_all_pages()"),
    "drain.zone": ("int", False, "[c] the zone of CPU c's drain work item, -1 for all"),
    "work.pending": ("bool", False, "[c] CPU c's drain work item is queued"),
    "work.running": ("bool", False, "[c] CPU c's drain work item is being executed"),
    "pcp_disabled_by": (
        "int",
        False,
        "[z] ghost: 0, or the task whose zone_pcp_disable() has returned, enable not entered",
    ),
}


def is_derived(cell: Cell) -> bool:
    """Whether ``cell`` is a projection of the concrete structures rather than a stored variable."""
    return CELLS[cell.name][1]


def cpu_position(name: str) -> int:
    """The place of the CPU in the indices of the cells of that name; -1 if they are of no CPU."""
    meaning = CELLS[name][2]
    letters = meaning[1 : meaning.index("]")].split(",") if meaning.startswith("[") else []
    return letters.index("c") if "c" in letters else -1


def value(name: str, *index: int | str) -> Term:
    """The value of a cell as a term of the cell's sort; ModelError if there is no such cell."""
    if name not in CELLS:
        raise ModelError(f"unknown cell {name!r}: there are {', '.join(CELLS)}; a kernel adds none of its own yet")
    if all(type(i) in (int, str) for i in index):
        return _value(name, index)
    return load(Cell(name, index), CELLS[name][0])


@lru_cache(maxsize=4096)
def _value(name: str, index: tuple[int | str, ...]) -> Term:
    return load(Cell(name, index), CELLS[name][0])


def pcp_list_length(config: Config, z: int, cpu: int, t: int | None = None) -> Term:
    """Length of ``pcp->lists[t]`` of zone ``z`` on ``cpu``, or of all its lists."""
    types = range(PCPTYPES) if t is None else (t,)
    return total(value("pcp.nr", z, cpu, u, b) for u in types for b in config.blocks_of(Zone(z)))


def pages_of_block_on_pcplists(config: Config, b: int, cpu: int | None = None) -> Term:
    """Number of pages of block ``b`` on the pcplists of ``cpu``, or of all CPUs."""
    z = b // config.blocks_per_zone
    cpus = config.cpus if cpu is None else (cpu,)
    return total(value("pcp.nr", z, c, t, b) for c in cpus for t in range(PCPTYPES))


def layout(config: Config) -> Iterator[Cell]:
    """Every cell of a machine of this size, in a fixed order."""
    dims: dict[str, list[tuple[int | str, ...]]] = {
        "z": [(z,) for z in range(config.nr_zones)],
        "c": [(c,) for c in config.cpus],
        "b": [(b,) for b in range(config.nr_blocks)],
        "z,c": [(z, c) for z in range(config.nr_zones) for c in config.cpus],
        "c,b": [(c, b) for c in config.cpus for b in range(config.nr_blocks)],
        "z,c,t,b": [
            (zone.index, c, t, b)
            for zone in config.zones
            for c in config.cpus
            for t in range(PCPTYPES)
            for b in config.blocks_of(zone)
        ],
        "name": [(m,) for m in MUTEXES],
        "a,b": [(a, b) for a in MUTEXES for b in MUTEXES],
    }
    for name, (_, _, meaning) in CELLS.items():
        key = meaning[1 : meaning.index("]")] if meaning.startswith("[") else None
        for index in [()] if key is None else dims[key]:
            yield Cell(name, index)


def initial(config: Config, cell: Cell) -> int:
    """The value of a stored cell at boot: no page allocated yet, boot pagesets (high 0, batch 1), all CPUs online."""
    if cell.name in ("pcp.batch", "zone.pageset_batch"):
        return 1
    if cell.name == "cpu_online":
        return True
    if cell.name == "drain.zone":
        return -1
    if cell.name == "pageblock.migratetype":
        return int(config.block_types[int(cell.index[0])])
    if cell.name in ("zone.managed_pages", "zone.present_pages"):
        return config.blocks_per_zone * config.pages_per_block
    return False if CELLS[cell.name][0] == "bool" else 0
