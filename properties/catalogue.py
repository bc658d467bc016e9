"""The catalogue: every property, written once, as terms over the abstract cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from kernelmodel.cells import (
    CELLS,
    MUTEXES,
    guarded,
    indices,
    limits_of_cpus,
    owner,
    pages_of_block_on_pcplists,
    pcp_list_length,
    quiet,
    value,
)
from kernelmodel.config import Config
from kernelmodel.memory.state import State
from kernelmodel.mmzone import MigrateType
from kernelmodel.ops import Op
from kernelmodel.terms import FALSE, ME, TRUE, Term, ite, land, lnot, lor, total
from kernelmodel.variants.overrides import nearest
from properties.property import Check, Property


def _quiet(config: Config, cpu: int, z: int | None = None) -> Term:
    """The CPU is online, and nobody is in the critical section of its pcplist of a zone, or of any."""
    return land(quiet(config, cpu, z), value("cpu_online", cpu))


def _no_stray_page(config: Config) -> Iterator[Check]:
    for z in range(config.nr_zones):
        for c in config.cpus:
            empty = land(pcp_list_length(config, z, c) == 0, value("pcp.count", z, c) == 0)
            window = land(lnot(value("pcp_disabled_by", z) == 0), _quiet(config, c, z))
            left = f"{{n}} left on CPU{c}'s pcplist after zone_pcp_disable()"
            yield Check(window, land(window, lnot(empty)), left, c, pcp_list_length(config, z, c))


def _no_isolated_page_left(config: Config) -> Iterator[Check]:
    for c in config.cpus:
        windows = {b: land(value("isolated_and_drained", b), _quiet(config, c)) for b in range(config.nr_blocks)}
        left = [land(w, pages_of_block_on_pcplists(config, b, c) > 0) for b, w in windows.items()]
        amount = total(ite(w, pages_of_block_on_pcplists(config, b, c), 0) for b, w in windows.items())
        found = f"{{n}} of an isolated pageblock left on CPU{c}'s pcplist"
        yield Check(lor(*windows.values()), lor(*left), found, c, amount)


def _isolated_page_not_allocated(config: Config, op: Op) -> Iterator[Check]:
    if op.tag == "take":
        c = op.info["cpu"]
        isolated = {b: value("isolated_at_entry", c, b) for b in op.info["taken"]}
        given = [land(isolated[b], n > 0) for b, n in op.info["taken"].items()]
        yield Check(
            lor(*isolated.values()), lor(*given),
            f"CPU{c} allocates a page of a pageblock that was isolated before the allocation began", c,
        )  # fmt: skip


def _isolated_page_on_isolate_list(config: Config) -> Iterator[Check]:
    for b in range(config.nr_blocks):
        window = value("pageblock.migratetype", b) == MigrateType.ISOLATE
        yield Check(
            window, land(window, value("misplaced", b) > 0),
            "a free page of an isolated pageblock is on another migratetype's free list",
        )  # fmt: skip


def _misplaced_pages(state: State) -> list[str]:
    found = []
    for zone in state.config.zones:
        found += [s for s in state.buddy(zone).audit(state.block_types(zone)) if "misplaced" in s]
    return found


def _pages_conserved(config: Config) -> Iterator[Check]:
    for z in range(config.nr_zones):
        for c in config.cpus:
            on = _quiet(config, c, z)
            differs = lnot(value("pcp.count", z, c) == pcp_list_length(config, z, c))
            yield Check(on, land(on, differs), f"pcp[{c}]->count differs from the pages on its lists", c)


def _limits_restored(config: Config) -> Iterator[Check]:
    for z in range(config.nr_zones):
        free = land(
            value("mutex", "pcp_batch_high_lock") == 0,
            value("zone.present_pages", z) > 0,
            lnot(value("zone.was_reset", z)),
        )
        as_cached = land(
            *(
                value(of_cpu, z, c) == value(of_zone, z)
                for c in config.cpus
                for of_cpu, of_zone in limits_of_cpus(config)
            )
        )
        yield Check(free, land(free, lnot(as_cached)), "nobody holds pcp_batch_high_lock, and a CPU has other limits")


def _limits_exclusive(config: Config, op: Op) -> Iterator[Check]:
    limits = [name for name, _ in limits_of_cpus(config)]
    for cell, new in op.updates:
        if cell.name in limits and op.tag == "write":
            by = value("pcp_disabled_by", int(cell.index[0]))
            other = land(lnot(by == 0), lnot(by == ME), lnot(value(cell.name, *cell.index) == new))
            name = CELLS[cell.name].in_c(cell.name, cell.index)
            yield Check(TRUE, other, f"{name} is changed by another task while the pcplists are disabled")


def _guarded_writes(config: Config, op: Op) -> Iterator[Check]:
    for cell, _ in op.updates:
        held = guarded(config, cell)
        if held is not None:
            kind = CELLS[cell.name]
            guard = "the critical section of its pcplist" if kind.guard == "section" else kind.guard
            yield Check(
                TRUE, lnot(held), f"{kind.in_words(cell.name, cell.index)} is written outside {guard}", owner(cell)
            )


def _bulk_free_terminates(config: Config, op: Op) -> Iterator[Check]:
    if op.tag == "detach":
        yield Check(TRUE, FALSE, "", op.info["cpu"])
    if op.tag == "bulk_spin":
        yield Check(FALSE, TRUE, "free_pcppages_bulk() loops for ever on empty lists")


def _lock_order(config: Config) -> Iterator[Check]:
    names = list(MUTEXES)
    for a in names:
        twice = value("lock_edge", a, a)
        yield Check(FALSE, twice, f"a task asks for {a}, which it holds: it waits for itself")
    for n in range(2, len(names) + 1):
        for cycle in permutations(names, n):
            if cycle[0] == min(cycle):
                edges = [value("lock_edge", a, b) for a, b in zip(cycle, (*cycle[1:], cycle[0]), strict=True)]
                yield Check(edges[0], land(*edges), f"lock order is circular: {' -> '.join((*cycle, cycle[0]))}")


def _enable_on_every_exit(config: Config, op: Op) -> Iterator[Check]:
    if op.tag == "offline_pages_returned":
        still = lor(
            value("mutex", "pcp_batch_high_lock") == ME,
            *(value("pcp_disabled_by", z) == ME for z in range(config.nr_zones)),
        )
        yield Check(TRUE, still, "offline_pages() returns with the pcplists disabled and pcp_batch_high_lock held")


def _offline_progress(config: Config, op: Op) -> Iterator[Check]:
    if op.tag == "test_pages_isolated":
        for c in config.cpus:
            on_list = lor(*(pages_of_block_on_pcplists(config, b, c) > 0 for b in op.info["blocks"]))
            yield Check(
                _quiet(config, c), land(_quiet(config, c), on_list),
                f"offline_pages() goes round again for a page of the range that was freed: it is on CPU{c}'s pcplist", c,
            )  # fmt: skip


def _exits_give_back(config: Config) -> Iterator[Check]:
    for m in MUTEXES:
        yield Check(TRUE, lnot(value("mutex", m) == 0), f"every task has returned, and {m} is still held")
    for name, kind in CELLS.items():
        if kind.left_over:
            left = lor(*(lnot(value(name, *index) == 0) for index in indices(config, kind.axes)))
            yield Check(TRUE, left, f"every task has returned, and {kind.left_over}")
    if not CELLS[config.section].left_over:
        inside = lor(*(lnot(quiet(config, c)) for c in config.cpus))
        yield Check(TRUE, inside, f"every task has returned, and {config.section} is still held")


def _isolation_undone(config: Config) -> Iterator[Check]:
    for b in range(config.nr_blocks):
        isolated = land(value("pageblock.migratetype", b) == MigrateType.ISOLATE, lnot(value("block_offline", b)))
        yield Check(TRUE, isolated, f"every task has returned, and pageblock {b} is isolated and not offline")
    for z in range(config.nr_zones):
        counted = lnot(value("zone.nr_isolate_pageblock", z) == 0)
        yield Check(TRUE, counted, "every task has returned, and zone->nr_isolate_pageblock is not 0")


def _pages_accounted(config: Config) -> Iterator[Check]:
    for b in range(config.nr_blocks):
        freed = lnot(value("held", b) == value("in_use", b) + value("poisoned", b))
        yield Check(TRUE, freed, f"every task has returned, and a page of block {b} is neither in use nor free")
        outside = pages_of_block_on_pcplists(config, b) + value("held", b)
        lost = land(lnot(value("block_offline", b)), lnot(value("free", b) + outside == value("pages", b)))
        yield Check(TRUE, lost, f"every task has returned, and block {b} has not as many pages as before")
        gone = land(value("block_offline", b), lnot(outside == 0))
        yield Check(TRUE, gone, f"block {b} is offline, and a page of it is in use or on a pcplist")


def _reads_do_not_wait(config: Config, op: Op) -> Iterator[Check]:
    if op.info.get("reads"):
        disabled = lor(*(lnot(value("pcp_disabled_by", z) == 0) for z in range(config.nr_zones)))
        yield Check(
            disabled,
            disabled if op.does.asks else FALSE,
            "who only reads a setting waits until pcplists are enabled again: as long as offlining lasts",
        )


def _pageset_lives(_config: Config, op: Op) -> Iterator[Check]:
    if "boot_set" in op.info:
        own, cpu = lnot(op.info["boot_set"]), op.info["cpu"]
        freed = value("zone.was_reset", op.info["zone"])
        yield Check(own, land(own, freed), f"CPU{cpu} uses its per-CPU set, which zone_pcp_reset() has freed", cpu)


def _cpus_stay(config: Config) -> Iterator[Check]:
    for b in range(config.nr_blocks):
        isolated = value("isolated", b)
        yield Check(
            isolated, land(isolated, value("cpu_hotplug_readers") == 0),
            f"pageblock {b} is isolated, and nobody holds cpus_read_lock(): a CPU may come up or go down",
        )  # fmt: skip


def _dead_cpu_drained(config: Config) -> Iterator[Check]:
    for c in config.cpus:
        gone = land(lnot(value("cpu_online", c)), value("mutex", "cpu_hotplug_lock") == 0)
        for z in range(config.nr_zones):
            left = pcp_list_length(config, z, c)
            yield Check(gone, land(gone, left > 0), f"{{n}} left on the pcplist of CPU{c}, which has gone", c, left)


def _audit(state: State) -> Sequence[str]:
    return state.audit()


_ALL = [
    Property(
        "no_stray_page",
        "once zone_pcp_disable(zone) has returned, no page stays on a pcplist of the zone: every online CPU that has"
        " interrupts on has empty pcplists and pcp->count 0",
        "mm/page_alloc.c: zone_pcp_disable() and its changelog",
        "from the return of zone_pcp_disable() to the entry of zone_pcp_enable()",
        "no-force-all-cpus", state=lambda c: list(_no_stray_page(c)), needs=("zone_pcp_disable",), quiet_cpu=True,
    ),
    Property(
        "no_isolated_page_left",
        "no page of an isolated pageblock is left on a pcplist of an online CPU that has interrupts on",
        "mm/memory_hotplug.c: offline_pages(), changelog of the patch",
        "from the moment at which the range is isolated and, where the kernel drains after that, drained, until the"
        " isolation is undone or the range is offline",
        "enable-before-unisolate", state=lambda c: list(_no_isolated_page_left(c)), quiet_cpu=True,
    ),
    Property(
        "isolated_page_not_allocated",
        "an allocation that begins after start_isolate_page_range() has returned gets no page of the range as long as"
        " the isolation lasts",
        "mm/page_isolation.c: start_isolate_page_range(); the reuse that the patch ends",
        "from the return of start_isolate_page_range(), or of what a kernel names as isolation_complete, until the isolation"
        " is undone",
        "isolate-before-disable", step=lambda c, op: list(_isolated_page_not_allocated(c, op)),
        needs_tasks=("allocs",),
    ),
    Property(
        "isolated_page_on_isolate_list",
        "a free page of an ISOLATE pageblock lies on the ISOLATE free lists, nowhere else",
        "mm/page_alloc.c: free_pcppages_bulk(), free_one_page()",
        "always", "no-migratetype-reread",
        state=lambda c: list(_isolated_page_on_isolate_list(c)), concrete=_misplaced_pages,
    ),
    Property(
        "pages_conserved",
        "each page is in one place, and where a CPU has interrupts on pcp->count is the number of pages on its lists",
        "include/linux/mmzone.h: struct per_cpu_pages",
        "always", "refill-not-counted",
        state=lambda c: list(_pages_conserved(c)), concrete=_audit, quiet_cpu=True,
    ),
    Property(
        "limits_restored",
        "when nobody holds pcp_batch_high_lock, every possible CPU of a zone that has always been populated has the zone's"
        " cached limits (zone_pcp_reset() leaves the cache stale)",
        "mm/page_alloc.c: zone_pcp_enable(), zone_set_pageset_high_and_batch()",
        "whenever pcp_batch_high_lock is free", "enable-without-restore",
        state=lambda c: list(_limits_restored(c)), needs=("zone_pcp_enable",),
    ),
    Property(
        "limits_exclusive",
        "while the pcplists are disabled nobody but the task that disabled them changes high or batch",
        "mm/page_alloc.c: pcp_batch_high_lock, kept from zone_pcp_disable() to zone_pcp_enable()",
        "from the return of zone_pcp_disable() to the entry of zone_pcp_enable()", "no-mutex",
        step=lambda c, op: list(_limits_exclusive(c, op)), needs=("zone_pcp_disable",),
    ),
    Property(
        "guarded_writes",
        "what a lock guards is written by whoever holds it: limits under pcp_batch_high_lock, the lists and the count of a CPU"
        " in the critical section of its pcplist, what drain_all_pages() shares under pcpu_drain_mutex, cpu_online under"
        " cpu_hotplug_lock, what goes offline under mem_hotplug_lock",
        "mm/page_alloc.c, kernel/cpu.c: the locks' comments",
        "always", "count-irqs-on", step=lambda c, op: list(_guarded_writes(c, op)),
    ),
    Property(
        "bulk_free_terminates",
        "free_pcppages_bulk() is never asked for more pages than the lists hold, so its loop ends",
        "mm/page_alloc.c: free_pcppages_bulk()",
        "always", "no-count-clamp", step=lambda c, op: list(_bulk_free_terminates(c, op)),
    ),
    Property(
        "lock_order",
        "no task asks for a lock that it holds, and the order in which locks nest has no cycle; a reader of the CPU hotplug"
        " lock counts as who holds it, for a writer that waits holds up the readers that come after it",
        "kernel/locking/lockdep.c",
        "always", "update-inside-window", state=lambda c: list(_lock_order(c)),
    ),
    Property(
        "enable_on_every_exit",
        "offline_pages() does not return with the pcplists disabled",
        "mm/memory_hotplug.c: offline_pages(), its goto labels",
        "at the return of offline_pages()", "missed-enable-on-isolation-failure",
        step=lambda c, op: list(_enable_on_every_exit(c, op)), needs=("zone_pcp_disable",),
    ),
    Property(
        "offline_progress",
        "a page of the range that has been freed is free when offline_pages() looks again: none waits on a pcplist for"
        " another drain",
        "mm/memory_hotplug.c: offline_pages(), its loop; mm/page_isolation.c: test_pages_isolated()",
        "at each test_pages_isolated()", "no-drain", step=lambda c, op: list(_offline_progress(c, op)),
    ),
    Property(
        "cpus_stay",
        "as long as a range is isolated no CPU comes up or goes down: cpus_read_lock() is held, without which the CPUs that"
        " were drained are not those that are there",
        "mm/memory_hotplug.c: mem_hotplug_begin()",
        "from the return of start_isolate_page_range() until the isolation is undone or the range is offline",
        "no-cpus-read-lock", state=lambda c: list(_cpus_stay(c)),
    ),
    Property(
        "exits_give_back",
        "every exit gives back what it took: when every task has returned, no mutex and no CPU hotplug lock is held, and"
        " interrupts and preemption are on everywhere",
        "mm/memory_hotplug.c: offline_pages(), its goto labels",
        "when every task has returned", "missed-done-on-failure", rest=lambda c: list(_exits_give_back(c)),
    ),
    Property(
        "isolation_undone",
        "who gives up a range undoes its isolation: when every task has returned, the only isolated pageblocks are those"
        " that are offline, and zone->nr_isolate_pageblock counts none",
        "mm/page_isolation.c: undo_isolate_page_range(), start_isolate_page_range() on failure",
        "when every task has returned", "no-undo", rest=lambda c: list(_isolation_undone(c)),
    ),
    Property(
        "pages_accounted",
        "each page that was freed is free: when every task has returned, each page is in use, free in the buddy, on a"
        " pcplist or offline, and in one of these places only",
        "mm/page_alloc.c: free_unref_page(), free_one_page(), free_pcppages_bulk()",
        "when every task has returned", "page-never-freed", rest=lambda c: list(_pages_accounted(c)),
    ),
    Property(
        "dead_cpu_drained",
        "a CPU that has gone, and that nobody takes up or down, has empty pcplists: page_alloc_cpu_dead() has drained them",
        "mm/page_alloc.c: page_alloc_cpu_dead()",
        "while the CPU is not online and cpus_write_lock() is not held", "dead-cpu-not-drained",
        state=lambda c: list(_dead_cpu_drained(c)), needs=("page_alloc_cpu_dead",), needs_tasks=("hotplugs",),
    ),
]  # fmt: skip

PROPERTIES: dict[str, Property] = {p.name: p for p in _ALL}

#: of tasks and texts that the kernels of the museum have, and no other
READS_DO_NOT_WAIT = Property(
    "reads_do_not_wait",
    "who only reads a setting does not wait for a holder of pcp_batch_high_lock that may hold it without end",
    "mm/page_alloc.c: percpu_pagelist_high_fraction_sysctl_handler(), mended by b9efe36b5e3e",
    "from the return of zone_pcp_disable() to the entry of zone_pcp_enable()",
    "sysctl-read-locks",
    step=lambda c, op: list(_reads_do_not_wait(c, op)),
    needs=("sysctl_read", "zone_pcp_disable"),
)

PAGESET_LIVES = Property(
    "pageset_lives",
    "a per-CPU set lives as long as a CPU uses it: the set whose address a CPU has taken is not freed before it goes on",
    "mm/page_alloc.c: zone_pcp_reset(), rmqueue_pcplist()",
    "from the moment at which a CPU takes the address of its set to the end of its critical section",
    "pageset-freed",
    step=lambda c, op: list(_pageset_lives(c, op)),
    needs=("zone_pcp_reset",),
    needs_tasks=("allocs",),
)

#: no property of cells: only who follows every task to its end can judge it, verify.explore and a replay
NO_DEADLOCK = Property(
    "no_deadlock",
    "some task can always go on, until every task has returned, and none unlocks what it does not hold",
    "kernel/locking/lockdep.c; kernel/locking/mutex.c: mutex_unlock(); kernel/workqueue.c: flush_work()",
    "always", "missed-enable-on-isolation-failure", stuck=True,
)  # fmt: skip

_EVERY = PROPERTIES | {p.name: p for p in (NO_DEADLOCK, READS_DO_NOT_WAIT, PAGESET_LIVES)}


def find(name: str) -> Property:
    """The property of that name; an error that suggests the nearest one."""
    if name not in _EVERY:
        raise nearest("property", name, _EVERY)
    return _EVERY[name]
