"""The vocabulary of eras before v6.0: pcplists under interrupts off, drained by work items."""

from __future__ import annotations

from kernelmodel.vocabulary.since_lock import HOTPLUG, V6_0_WORDS
from kernelmodel.vocabulary.words import PAGE_ALLOC, Field, Means, Routine

_IRQS_OFF = "(None, (yield _ops.local_irq_save(self.config.nr_blocks{})))"
_ZONE_LOCK = "more than one step under zone->lock, which are one in the model"
_DIVIDES = "its numbers come from divisions by a setting; the model takes any"


def _as_later(*names: str) -> tuple[Routine, ...]:
    """Routines as v6.0 has them."""
    return tuple(r for r in V6_0_WORDS.routines if r.c in names)


#: what all of them have, and all of v5.10's: each CPU drains its own lists, asked by a work item
V5_10_WORDS = V6_0_WORDS.without(
    "rmqueue", "pageset_update", "nr_pcp_high", "nr_pcp_free", "page_alloc_cpu_online", "__drain_all_pages",
    "__zone_set_pageset_high_and_batch", "zone_set_pageset_high_and_batch", "zone_pcp_update", "zone_pcp_disable",
    "zone_pcp_enable", "__page_handle_poison",
).extended(
    era="v5.10",
    shows=("free_unref_page_commit", "drain_local_pages_wq"),
    routines=(
        Routine(
            "rmqueue_pcplist", model="rmqueue_pcplist", parameters="zone, migratetype", constants={"order": 0},
            given={"preferred_zone": "zone", "zone": "zone", "gfp_flags": "_c.Unknown('gfp_flags')",
                   "alloc_flags": "_c.Unknown('alloc_flags')", "migratetype": "migratetype", "order": "0"},
        ),
        Routine(
            "pageset_update", model="pageset_update", parameters="zone, cpu, high, batch",
            given={"pcp": "_c.Pcp(zone, cpu)", "high": "high", "batch": "batch"},
        ),
        Routine("drain_local_pages"),
        Routine(
            "drain_local_pages_wq", model="drain_local_pages_wq", parameters="work_cpu", given={"work": "_c.Drain(work_cpu)"}
        ),
        Routine("zone_pcp_update", model="zone_pcp_update", parameters="zone", given={"zone": "zone"}),
    ),
    calls={
        # --- the critical section: flags are the CPU whose interrupts are off ---
        "local_irq_save": Means(_IRQS_OFF.format(""), rebinds=(0,)),
        "local_irq_restore": Means("_ops.local_irq_restore({0})", "yield"),
        "preempt_disable": Means("_ops.preempt_disable()", "yield"),
        "preempt_enable": Means("_ops.preempt_enable()", "yield"),
        "smp_wmb": Means("_ops.barrier('smp_wmb()')", "yield"),
        # --- the work item ---
        "INIT_WORK": Means("_c.runs({1}, 'drain_local_pages_wq')", acts=True),
        "queue_work_on": Means("self.c_queue_work_on({0}, {1}, {2})", "yield from"),
        "flush_work": Means("self.c_flush_work({0})", "yield from"),
        "container_of": Means("{0}", struct="pcpu_drain"),
        # --- limits ---
        "pageset_set_high_and_batch": Means("self.c_pageset_set_high_and_batch({zone}, {pcp})", "yield from", PAGE_ALLOC),
        # --- memory hotplug ---
        "mem_hotplug_begin": Means("self.mem_hotplug_begin()", "yield from", HOTPLUG),
        "mem_hotplug_done": Means("self.mem_hotplug_done()", "yield from", HOTPLUG),
        "test_pages_in_a_zone": Means(
            "self.c_test_pages_in_a_zone({start_pfn}, {end_pfn})", "yield from", HOTPLUG, struct="zone"
        ),
    },
    fields={
        ("zone", "pageset"): Field(python="_c.PerCpu({0})", struct="per_cpu_pageset"),
        ("zone", "present_pages"): Field("zone.present_pages", "{0}.index", stored="_c.pages({0}, self.config)"),
        ("zone", "zone_pgdat"): Field(python="None", struct="pglist_data"),
        ("pglist_data", "node_present_pages"): Field(why="pages of the node"),
        ("per_cpu_pageset", "pcp"): Field(python="{0}", struct="per_cpu_pages"),
        ("pcpu_drain", "zone"): Field(
            "drain.zone", "{0}.cpu", struct="zone", stored="_c.index_of({0})",
            loaded="(yield from self.c_zone_at({0}))",
        ),
        ("pcpu_drain", "work"): Field(python="{0}", struct="work_struct"),
    },
    globals={"pcpu_drain": "_c.DRAIN", "mm_percpu_wq": "'mm_percpu_wq'", "drain_local_pages_wq": "'drain_local_pages_wq'"},
    structs={"pcpu_drain": "pcpu_drain"},
    constants={"PGFREE": "0", "PGALLOC": "0"},
    silent={
        "__count_vm_event": "statistics",
        "pr_info": "a message",
        "lru_add_drain_all": "per-CPU LRU caches are not pcplists; what they free is a task of its own",
        "pgdat_resize_lock": "a lock of the node's numbers",
        "pgdat_resize_unlock": "the same",
    },
    stands_for={
        "rmqueue": (PAGE_ALLOC, _ZONE_LOCK),
        "percpu_pagelist_fraction_sysctl_handler": (PAGE_ALLOC, "it is given its number by a table of settings"),
    },
)  # fmt: skip

#: "mm, page_alloc: disable pcplists during memory offline"
V5_11_WORDS = V5_10_WORDS.extended(
    era="v5.11",
    shows=("zone_pcp_disable", "drain_local_pages_wq"),
    routines=(
        *_as_later("__drain_all_pages", "zone_pcp_disable", "zone_pcp_enable"),
        Routine(
            "__zone_set_pageset_high_and_batch", model="set_pageset_high_and_batch", parameters="zone, high, batch",
            given={"zone": "zone", "high": "high", "batch": "batch"},
        ),
    ),
    calls={
        "zone_set_pageset_high_and_batch": Means(
            "self.zone_set_pageset_high_and_batch({zone})", "yield from", PAGE_ALLOC
        ),
    },
    stands_for={"zone_set_pageset_high_and_batch": (PAGE_ALLOC, _DIVIDES)},
)  # fmt: skip

#: local_lock, limits that follow CPU hotplug
V5_14_WORDS = V5_10_WORDS.extended(
    era="v5.14",
    shows=("zone_pcp_disable", "drain_local_pages_wq", "nr_pcp_free"),
    routines=_as_later(
        "__drain_all_pages", "nr_pcp_high", "nr_pcp_free", "page_alloc_cpu_online", "__zone_set_pageset_high_and_batch",
        "zone_set_pageset_high_and_batch", "zone_pcp_update", "zone_pcp_disable", "zone_pcp_enable", "__page_handle_poison",
    ),
    calls={
        # without PREEMPT_RT a local lock is interrupts off
        "local_lock_irqsave": Means(
            _IRQS_OFF.format(", 'local_lock_irqsave(&' + {0} + ', flags)'"), rebinds=(1,)
        ),
        "local_unlock_irqrestore": Means(
            "_ops.local_irq_restore({1}, 'local_unlock_irqrestore(&' + {0} + ', flags)')", "yield"
        ),
        "adjust_present_page_count": Means(
            "self.c_adjust('zone.present_pages', {0}, {nr_pages})", "yield from", HOTPLUG
        ),
    },
    fields={("pagesets", "lock"): Field(python="'pagesets.lock'")},
    globals={"pagesets": "'pagesets'"},
    structs={"pagesets": "pagesets"},
)  # fmt: skip
