"""Mutants of a kernel's C: one function changed, and the property that this breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernelmodel.ctext.edits import Argument, Drop, Edit, Once, Swap, Whole
from kernelmodel.vocabulary.words import PAGE_ALLOC

HOTPLUG = "mm/memory_hotplug.c"


@dataclass(frozen=True, slots=True)
class CMutant:
    """``tasks`` are those of the smallest machine that shows it, where it is not the usual one."""

    name: str
    summary: str
    function: str
    edit: Edit
    breaks: str
    file: str = PAGE_ALLOC
    tasks: Mapping[str, int] = field(default_factory=dict)


#: the drain's look at the count before it has the lock: ours, in the place of the tree's function
_UNLOCKED = """static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pages *lists = per_cpu_ptr(zone->per_cpu_pageset, cpu);

	if (!READ_ONCE(lists->count))
		return;
	pcp_spin_lock_maybe_irqsave(lists, flags);
	free_pcppages_bulk(zone, lists->count, lists, 0);
	pcp_spin_unlock_maybe_irqrestore(lists, flags);
}"""

#: a control: the order of two stores that nobody reads in between is of no account under sequential consistency
EQUIVALENT = "none"

C_MUTANTS: tuple[CMutant, ...] = (
    CMutant("count-gate-unlocked", "the drain looks at count outside pcp->lock (66eca1021a42)", "drain_pages_zone",
            Whole(_UNLOCKED), "no_stray_page"),
    CMutant("no-force-all-cpus", "the drain leaves out CPUs whose count reads 0", "zone_pcp_disable",
            Argument("__drain_all_pages", 1, "false"), "no_stray_page"),
    CMutant("no-drain", "limits are closed and nothing is drained", "zone_pcp_disable", Drop("__drain_all_pages"),
            "no_stray_page"),
    CMutant("limits-after-drain", "drained first, and then closed", "zone_pcp_disable",
            Swap("__zone_set_pageset_high_and_batch", "__drain_all_pages"), "no_stray_page"),
    CMutant("limits-stay-open", "drained, and never closed", "zone_pcp_disable", Drop("__zone_set_pageset_high_and_batch"),
            "no_stray_page"),
    CMutant("limits-not-restored", "enabled with the limits as they are", "zone_pcp_enable",
            Drop("__zone_set_pageset_high_and_batch"), "limits_restored"),
    CMutant("no-lock", "pcplists are disabled without pcp_batch_high_lock", "zone_pcp_disable", Drop("mutex_lock"),
            "limits_exclusive", tasks={"updates": 1}),
    CMutant("lock-kept", "enabled, and the lock is kept", "zone_pcp_enable", Drop("mutex_unlock"), "exits_give_back"),
    CMutant("no-enable-where-it-fails", "offline_pages() leaves pcplists disabled where it fails", "offline_pages",
            Drop("zone_pcp_enable", "failed_removal_pcplists_disabled"), "enable_on_every_exit", HOTPLUG),
    CMutant("no-undo", "a range that could not be taken stays isolated", "offline_pages",
            Drop("undo_isolate_page_range", "failed_removal_isolated"), "isolation_undone", HOTPLUG),
    CMutant("no-disable", "offline_pages() isolates with pcplists in use", "offline_pages", Drop("zone_pcp_disable"),
            "no_isolated_page_left", HOTPLUG),
    CMutant("section-not-left", "a free keeps pcp->lock", "free_unref_page", Drop("pcp_spin_unlock"), "no_deadlock"),
    CMutant("drain-not-left", "the drain keeps pcp->lock", "drain_pages_zone", Drop("pcp_spin_unlock_maybe_irqrestore"),
            "no_deadlock", tasks={"reclaims": 1}),
    CMutant("drain-unlocked", "the drain works on lists without pcp->lock", "drain_pages_zone",
            Drop("pcp_spin_lock_maybe_irqsave"), "guarded_writes"),
    CMutant("single-round", "the drain makes one round, of batch << 5 pages", "drain_pages_zone", Once(), "no_stray_page"),
    CMutant("stores-swapped", "high is stored before batch: each reader may see any mix anyway", "pageset_update",
            Swap("WRITE_ONCE", "WRITE_ONCE"), EQUIVALENT),
)  # fmt: skip
