"""The vocabulary of eras from v6.0 on: pcp->lock, which others take too."""

from __future__ import annotations

from kernelmodel.vocabulary.shared import SHARED
from kernelmodel.vocabulary.words import PAGE_ALLOC, Field, Means, Routine

HOTPLUG = "mm/memory_hotplug.c"
ISOLATION = "mm/page_isolation.c"
FAILURE = "mm/memory-failure.c"

_ORDER = {"order": 0}
_SMP_NOTHING = "on SMP this macro is empty"
_LOAD = "adapts to the load: any value"

_LISTS = "it walks a list of pages"

V6_0_WORDS = SHARED.extended(
    era="v6.1",
    shows=("pcp_spin_trylock", "__drain_all_pages"),
    routines=(
        Routine(
            "free_unref_page",
            model="free_unref_page",
            parameters="page",
            given={"page": "page", "order": "0"},
            constants=_ORDER,
        ),
        Routine(
            "rmqueue",
            model="alloc_page",
            parameters="zone, migratetype",
            constants=_ORDER,
            given={
                "preferred_zone": "zone",
                "zone": "zone",
                "order": "0",
                "gfp_flags": "_c.Unknown('gfp_flags')",
                "alloc_flags": "_c.Unknown('alloc_flags')",
                "migratetype": "migratetype",
            },
        ),
        Routine("rmqueue_pcplist", constants=_ORDER),
        Routine("__rmqueue_pcplist", constants=_ORDER),
        Routine("free_unref_page_commit", constants=_ORDER),
        Routine("free_unref_page_prepare", constants=_ORDER, optional=True),
        Routine("nr_pcp_high"),
        Routine("nr_pcp_free"),
        Routine(
            "drain_pages_zone", model="drain_pages_zone", parameters="cpu, zone", given={"cpu": "cpu", "zone": "zone"}
        ),
        Routine("drain_pages", model="drain_pages", parameters="cpu", given={"cpu": "cpu"}),
        Routine(
            "__drain_all_pages",
            model="_drain_all_pages",
            parameters="zone, force_all_cpus",
            given={"zone": "zone", "force_all_cpus": "force_all_cpus"},
        ),
        Routine("drain_all_pages", model="drain_all_pages", parameters="zone", given={"zone": "zone"}),
        Routine(
            "drain_zone_pages",
            model="drain_zone_pages",
            parameters="zone",
            given={"zone": "zone", "pcp": "_c.Pcp(zone, (yield _ops.smp_processor_id()))"},
        ),
        Routine("page_alloc_cpu_dead", model="page_alloc_cpu_dead", parameters="cpu", given={"cpu": "cpu"}),
        Routine("page_alloc_cpu_online", model="page_alloc_cpu_online", parameters="cpu", given={"cpu": "cpu"}),
        Routine("pageset_update"),
        Routine("__zone_set_pageset_high_and_batch"),
        Routine(
            "zone_set_pageset_high_and_batch",
            model="zone_set_pageset_high_and_batch",
            parameters="zone",
            given={"zone": "zone", "cpu_online": "0"},
        ),
        Routine(
            "zone_pcp_update",
            model="zone_pcp_update",
            parameters="zone, cpu_online=0",
            given={"zone": "zone", "cpu_online": "cpu_online"},
        ),
        Routine("zone_pcp_disable", model="zone_pcp_disable", parameters="zone", given={"zone": "zone"}),
        Routine("zone_pcp_enable", model="zone_pcp_enable", parameters="zone", given={"zone": "zone"}),
        Routine(
            "offline_pages",
            HOTPLUG,
            "offline_pages",
            "page_range",
            {
                "start_pfn": "_c.Pfn(page_range)",
                "nr_pages": "_c.Pages(page_range)",
                "zone": "page_range.zone",
                "group": "_c.Unknown('group')",
            },
            around=("mem_hotplug_begin", "mem_hotplug_done"),
            loop_told=True,
        ),
        Routine("__page_handle_poison", FAILURE, "page_handle_poison", "zone", {"page": "_Page(-1, 0, zone)"}),
    ),
    calls={
        # --- the critical section ---
        "pcp_spin_trylock": Means("self.c_pcp_spin_trylock({0})", "yield from", struct="per_cpu_pages"),
        "pcp_spin_trylock_irqsave": Means("self.c_pcp_spin_trylock_irqsave({0})", "yield from", struct="per_cpu_pages"),
        "pcp_spin_unlock": Means("self.c_pcp_spin_unlock({0})", "yield from"),
        "pcp_spin_unlock_irqrestore": Means("self.c_pcp_spin_unlock_irqrestore({0})", "yield from"),
        "pcp_spin_lock_maybe_irqsave": Means("_ops.spin_lock('pcp.lock', {0}.zone.index, {0}.cpu)", "yield"),
        "pcp_spin_unlock_maybe_irqrestore": Means("_ops.spin_unlock('pcp.lock', {0}.zone.index, {0}.cpu)", "yield"),
        "spin_lock": Means("_ops.spin_lock('pcp.lock', {0}.pcp.zone.index, {0}.pcp.cpu)", "yield"),
        "spin_unlock": Means("_ops.spin_unlock('pcp.lock', {0}.pcp.zone.index, {0}.pcp.cpu)", "yield"),
        # --- leaves ---
        "free_pcppages_bulk": Means("self.free_pcppages_bulk({zone}, {count}, {pcp}.cpu)", "yield from", PAGE_ALLOC),
        "rmqueue_bulk": Means(
            "self.rmqueue_bulk({zone}, {count}, {list}.pcp.cpu, {migratetype})", "yield from", PAGE_ALLOC
        ),
        "rmqueue_buddy": Means(
            "self.rmqueue_buddy({zone}, {order}, {migratetype})", "yield from", PAGE_ALLOC, struct="page"
        ),
        "free_one_page": Means(
            "self.free_one_page({zone}, _c.page_of({page}), {migratetype}, {order})", "yield from", PAGE_ALLOC
        ),
        "zone_batchsize": Means("self.c_zone_batchsize({zone})", "yield from", PAGE_ALLOC),
        "zone_highsize": Means("self.c_zone_highsize({batch})", file=PAGE_ALLOC),
        "start_isolate_page_range": Means(
            "self.start_isolate_page_range(_c.range_of({start_pfn}, {end_pfn}), {migratetype}, {flags})",
            "yield from",
            ISOLATION,
        ),
        "undo_isolate_page_range": Means(
            "self.undo_isolate_page_range(_c.range_of({start_pfn}, {end_pfn}), {migratetype})", "yield from", ISOLATION
        ),
        "test_pages_isolated": Means(
            "self.c_test_pages_isolated({start_pfn}, {end_pfn}, {isol_flags})", "yield from", ISOLATION
        ),
        "__offline_isolated_pages": Means(
            "self.c_offline_isolated_pages({start_pfn}, {end_pfn})", "yield from", PAGE_ALLOC
        ),
        "scan_movable_pages": Means(
            "self.c_scan_movable_pages({start}, {end})", "yield from", HOTPLUG, rebinds=("movable_pfn",)
        ),
        "do_migrate_range": Means("self.do_migrate_range({start_pfn}.page)", "yield from", HOTPLUG),
        "take_page_off_buddy": Means("self.take_page_off_buddy()", "yield from", PAGE_ALLOC),
    },
    environment={
        ("test_bit", "ZONE_RECLAIM_ACTIVE"): ("reclaims", "Whether the zone is being reclaimed: decided from outside."),
        ("test_bit", "ZONE_BOOSTED_WATERMARK"): (
            "boosted",
            "Whether the zone's watermark is raised: decided from outside.",
        ),
    },
    fields={
        ("zone", "pageset_high"): Field("zone.pageset_high", "{0}.index"),
        ("zone", "pageset_batch"): Field("zone.pageset_batch", "{0}.index"),
        ("zone", "per_cpu_pageset"): Field(python="_c.PerCpu({0})", struct="per_cpu_pages"),
        ("zone", "lock"): Field(python="'zone->lock'"),
        ("zone", "flags"): Field(python="'zone->flags'"),
        ("zone", "nr_isolate_pageblock"): Field("zone.nr_isolate_pageblock", "{0}.index", zone_locked=True),
        ("per_cpu_pages", "count"): Field("pcp.count", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "high"): Field("pcp.high", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "batch"): Field("pcp.batch", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "lists"): Field(python="_c.PcpList({0}, {1})", struct="list_head"),
        ("per_cpu_pages", "lock"): Field(python="_c.PcpLock({0})"),
        ("per_cpu_pages", "free_factor"): Field(why=_LOAD),
        ("page", "pcp_list"): Field(python="{0}"),
        ("page", "lru"): Field(python="{0}"),
    },
    silent={
        "pcp_trylock_prepare": _SMP_NOTHING,
        "pcp_trylock_finish": _SMP_NOTHING,
        "__count_vm_events": "statistics",
        "__count_zid_vm_events": "statistics",
        "zone_statistics": "statistics",
        "clear_bit": "a flag of the zone, which the model takes as decided from outside",
        "wakeup_kswapd": "wakes a thread that reclaims pages; direct reclaim is a task of its own",
        "VM_BUG_ON_PAGE": "debugging",
        "VM_WARN_ON": "debugging",
        "lru_add_drain_cpu": "per-CPU LRU caches are not pcplists; what they free is a task of its own",
        "mlock_page_drain_remote": "the same",
        "mlock_drain_remote": "the same",
        "vm_events_fold_cpu": "statistics",
        "cpu_vm_stats_fold": "statistics",
        "pr_debug": "a message",
        "cond_resched": "lets others run, as everything does here",
        "node_states_check_changes_offline": "which node masks will change",
        "node_states_clear_node": "node masks",
        "build_all_zonelists": "which zones an allocation tries",
        "kcompactd_stop": "stops a thread of the node",
        "kswapd_stop": "stops a thread of the node",
        "writeback_set_ratelimit": "how fast pages are written back",
        "remove_pfn_range_from_zone": "bookkeeping of pages that are gone",
        "walk_system_ram_range": "looks for holes; its result is decided from outside",
        "zone_idx": "the number of the zone",
        "page_zonenum": "the number of the zone",
        "bad_range": "debugging",
    },
    stands_for={
        "free_unref_page_list": (PAGE_ALLOC, _LISTS),
        "__free_pages_ok": (PAGE_ALLOC, "two steps under zone->lock, which are one in the model"),
        "zone_pcp_reset": (PAGE_ALLOC, "replaces the per-CPU sets, which are one in the model"),
        "setup_zone_pageset": (PAGE_ALLOC, "makes the per-CPU sets, which are one in the model"),
        "per_cpu_pages_init": (PAGE_ALLOC, "makes a per-CPU set, which is one step in the model"),
        "percpu_pagelist_high_fraction_sysctl_handler": (PAGE_ALLOC, "it is given its number by a table of settings"),
        "online_pages": (HOTPLUG, "memory comes, and the guarantee is of memory that goes"),
    },
)


V6_8_WORDS = V6_0_WORDS.extended(
    era="v6.8",
    shows=("nr_pcp_alloc", "high_min"),
    routines=(
        Routine("nr_pcp_alloc", constants=_ORDER),
        Routine(
            "decay_pcp_high",
            model="decay_pcp_high",
            parameters="zone",
            around=("c_pin", "c_unpin"),
            given={"zone": "zone", "pcp": "_c.Pcp(zone, (yield _ops.smp_processor_id()))"},
        ),
    ),
    environment={
        ("test_bit", "ZONE_BELOW_HIGH"): ("below_high", "Whether the zone has few free pages: decided from outside.")
    },
    fields={
        ("per_cpu_pages", "high"): Field("pcp.high_now", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "high_min"): Field("pcp.high_min", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "high_max"): Field("pcp.high_max", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "alloc_factor"): Field(why=_LOAD),
        ("per_cpu_pages", "free_count"): Field(why=_LOAD),
        ("per_cpu_pages", "flags"): Field(why=_LOAD, least=None),
        ("zone", "pageset_high_min"): Field("zone.pageset_high_min", "{0}.index"),
        ("zone", "pageset_high_max"): Field("zone.pageset_high_max", "{0}.index"),
    },
    calls={
        "zone_highsize": Means("self.c_zone_highsize({batch}, {high_fraction})", file=PAGE_ALLOC),
        "zone_watermark_ok": Means(
            "_ops.environment('above', 'zone_watermark_ok()', 'Decided from outside.', None)", "yield"
        ),
    },
    silent={"high_wmark_pages": "a watermark"},
)

V6_10_WORDS = V6_8_WORDS.extended(
    era="v6.11",
    shows=("free_unref_folios", "split_large_buddy"),
    stands_for={"free_unref_folios": (PAGE_ALLOC, _LISTS)},
    calls={
        "free_one_page": Means("self.free_one_page({zone}, _c.page_of({page}), 0, {order})", "yield from", PAGE_ALLOC),
    },
)

_NO_PIN = "_ops.{}('pcp.lock', {{0}}.zone.index, {{0}}.cpu)"
_FREE = {"order": 0, "fpi_flags": 0}

#: names of v7.3: frozen pages, locks without pins, modes of isolation
V7_3_WORDS = V6_10_WORDS.without("free_unref_page", "free_unref_page_commit", "free_unref_page_prepare").extended(
    era="v7.3",
    shows=("pcp_spin_lock_nopin", "free_frozen_page_commit"),
    routines=(
        Routine("__free_frozen_pages", model="free_unref_page", parameters="page", constants=_FREE,
                given={"page": "page", "order": "0", "fpi_flags": "0"}),
        Routine("free_frozen_page_commit", constants=_FREE),
    ),
    calls={
        "pcp_spin_lock_nopin": Means(_NO_PIN.format("spin_lock"), "yield"),
        "pcp_spin_unlock_nopin": Means(_NO_PIN.format("spin_unlock"), "yield"),
        "__free_pages_prepare": Means("True"),
        "start_isolate_page_range": Means(
            "self.start_isolate_page_range(_c.range_of({start_pfn}, {end_pfn}), 1, 1)", "yield from", ISOLATION
        ),
        "undo_isolate_page_range": Means(
            "self.undo_isolate_page_range(_c.range_of({start_pfn}, {end_pfn}), 1)", "yield from", ISOLATION
        ),
        "test_pages_isolated": Means("self.c_test_pages_isolated({start_pfn}, {end_pfn}, 1)", "yield from", ISOLATION),
        "node_notify": Means("_ops.environment('node_notifier_fails', 'node_notify()', 'Decided from outside.')", "yield"),
    },
    fields={
        ("zone", "zone_pgdat"): Field(python="None", struct="pglist_data"),
        ("pglist_data", "node_present_pages"): Field(why="pages of the node"),
        ("pglist_data", "node_id"): Field(why="which node it is"),
        ("pglist_data", "node_zones"): Field(python="None", struct="zone of the node"),
        ("zone of the node", "present_pages"): Field(why="pages of another zone"),
        ("node_notify", "nid"): Field(python="local"),
    },
    silent={
        "kswapd_test_hopeless": "whether a thread that reclaims pages has given up",
        "kswapd_clear_hopeless": "lets it try again",
        "next_memory_node": "the number of a node",
        "node_clear_state": "node masks",
    },
    constants={
        "FPI_NOLOCK": "8", "FPI_TRYLOCK": "8", "ALLOC_HIGHATOMIC": "512", "NUMA_NO_NODE": "-1", "ZONE_NORMAL": "2",
        "MAX_NUMNODES": "1024",
        "PB_ISOLATE_MODE_MEM_OFFLINE": "1", "NODE_REMOVING_LAST_MEMORY": "1", "NODE_REMOVED_LAST_MEMORY": "2",
        "NODE_CANCEL_REMOVING_LAST_MEMORY": "3", "N_MEMORY": "3", "N_NORMAL_MEMORY": "2", "KSWAPD_CLEAR_HOPELESS_PCP": "1",
    },
)  # fmt: skip
