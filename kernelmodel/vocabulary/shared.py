"""The vocabulary that all eras share: locks, lists, constants, loops, what offline_pages() asks its surroundings."""

from __future__ import annotations

from kernelmodel.vocabulary.words import Field, Loop, Means, Vocabulary

_DECIDED = "Decided from outside."

SHARED = Vocabulary(
    calls={
        "likely": Means("{0}"),
        "unlikely": Means("{0}"),
        "WARN_ON_ONCE": Means("{0}"),
        "WARN_ON": Means("{0}"),
        # --- locks ---
        "mutex_lock": Means("self.mutex_lock({0})", "yield from"),
        "mutex_unlock": Means("self.mutex_unlock({0})", "yield from"),
        "mutex_trylock": Means("self.mutex_trylock({0})", "yield from"),
        # --- which CPU ---
        "per_cpu_ptr": Means("_c.at_cpu({0}, {1})", struct="{0}"),
        "this_cpu_ptr": Means("self.c_this_cpu_ptr({0})", "yield from", struct="{0}"),
        "smp_processor_id": Means("_ops.smp_processor_id()", "yield"),
        "cpumask_set_cpu": Means("_ops.write(True, {1}, {0})", "yield"),
        "cpumask_clear_cpu": Means("_ops.write(False, {1}, {0})", "yield"),
        # --- pages and lists ---
        "page_zone": Means("_c.zone_of({0})", struct="zone"),
        "folio_zone": Means("_c.zone_of({0})", struct="zone"),
        "page_folio": Means("{0}", struct="page"),
        "page_to_pfn": Means("_c.page_of({0})"),
        "order_to_pindex": Means("{0}"),
        "min": Means("_c.least_of({0}, {1}, {text})", "yield from", plain="_c.lower({0}, {1})"),
        "max": Means("_c.greatest_of({0}, {1}, {text})", "yield from", plain="_c.greater({0}, {1})"),
        "clamp": Means("_c.clamped({0}, {1}, {2}, {text})", "yield from", plain="_c.lower(_c.greater({0}, {1}), {2})"),
        "min_t": Means("_c.least_of({1}, {2}, {text})", "yield from", plain="_c.lower({1}, {2})"),
        "max_t": Means("_c.greatest_of({1}, {2}, {text})", "yield from", plain="_c.greater({1}, {2})"),
        "max3": Means(
            "_c.greatest_of((yield from _c.greatest_of({0}, {1}, {text})), {2}, {text})", "yield from",
            plain="_c.greater(_c.greater({0}, {1}), {2})",
        ),
        "clamp_t": Means("_c.clamped({1}, {2}, {3}, {text})", "yield from", plain="_c.lower(_c.greater({1}, {2}), {3})"),
        "list_add": Means("_page_ops.list_add(self.config, _c.page_of({0}), {1}.pcp.cpu, {1}.type)", "yield"),
        "list_empty": Means("_page_ops.list_empty(self.config, {0}.pcp.zone, {0}.pcp.cpu, {0}.type)", "yield"),
        "list_first_entry": Means("_c.First({0})", struct="page"),
        "list_del": Means("self.c_list_del({0})", "yield from", rebinds=(0,)),
        "get_pfnblock_migratetype": Means("_page_ops.store_migratetype(self.config, _c.page_of({0}))", "yield"),
        "set_pcppage_migratetype": Means("(None, _c.Stored(_c.page_of({0}), {1}))", rebinds=(0,)),
        "get_pcppage_migratetype": Means("_c.type_stored_in({0})"),
        "is_migrate_isolate": Means("_c.equal({0}, 4)"),
        # --- checks of pages for corruption, which the model has not ---
        "check_new_pcp": Means("False"),
        "check_new_pages": Means("False"),
        "free_pcp_prepare": Means("True"),
        "free_pages_prepare": Means("True"),
        "pcp_allowed_order": Means("True"),
        # --- memory hotplug ---
        "zone_to_nid": Means("0"),
        "pageblock_aligned": Means("True"),
        "IS_ALIGNED": Means("True"),
        "pfn_to_page": Means("{0}", struct="page"),
        "signal_pending": Means("_ops.environment('signal', 'signal_pending(current)', 'Decided from outside.', None)", "yield"),
        "memory_notify": Means("self.c_memory_notify({0}, {1})", "yield from"),
        "notifier_to_errno": Means("_c.choose({0}, -16, 0)"),
        "dissolve_free_huge_pages": Means("self.c_dissolve_range()", "yield from"),
        "dissolve_free_hugetlb_folios": Means("self.c_dissolve_range()", "yield from"),
        "dissolve_free_huge_page": Means("self.dissolve_free_huge_page()", "yield from"),
        "dissolve_free_hugetlb_folio": Means("self.dissolve_free_huge_page()", "yield from"),
        "lru_cache_disable": Means("self.lru_cache_disable()", "yield from"),
        "lru_cache_enable": Means("self.lru_cache_enable()", "yield from"),
        "adjust_managed_page_count": Means("self.c_adjust('zone.managed_pages', {0}, {1})", "yield from"),
        "adjust_present_page_count": Means("self.c_adjust('zone.present_pages', {0}, {2})", "yield from"),
        "init_per_zone_wmark_min": Means("self.c_init_per_zone_wmark_min()", "yield from"),
        "populated_zone": Means("self.populated_zone({0})", "yield from"),
        "zone_pcp_reset": Means("self.zone_pcp_reset({0})", "yield from"),
    },
    loops={
        "for_each_possible_cpu": Loop("for {0} in self.for_each_cpu():"),
        "for_each_online_cpu": Loop("for {0} in self.for_each_cpu():", "(yield _ops.read('cpu_online', {0}))"),
        "for_each_cpu": Loop("for {0} in self.for_each_cpu():", "(yield _ops.read({1}, {0}))"),
        "for_each_populated_zone": Loop("for {0} in self.config.zones:", "(yield from self.populated_zone({0}))"),
        "for_each_zone": Loop("for {0} in self.config.zones:"),
    },
    constants={
        "NULL": "None", "true": "True", "false": "False",
        "MIGRATE_UNMOVABLE": "0", "MIGRATE_MOVABLE": "1", "MIGRATE_RECLAIMABLE": "2", "MIGRATE_PCPTYPES": "3",
        "MIGRATE_HIGHATOMIC": "3", "MIGRATE_ISOLATE": "4",
        "CONFIG_PCP_BATCH_SCALE_MAX": "5", "PCP_BATCH_SCALE_MAX": "5", "PAGE_ALLOC_COSTLY_ORDER": "3", "FPI_NONE": "0",
        "EINVAL": "22", "EBUSY": "16", "EINTR": "4", "ENOENT": "2", "ENOMEM": "12",
        "MEMORY_OFFLINE": "1", "REPORT_FAILURE": "2", "GFP_USER": "0", "__GFP_MOVABLE": "0", "__GFP_RETRY_MAYFAIL": "0",
        "__GFP_NOFAIL": "0", "MEM_GOING_OFFLINE": "'MEM_GOING_OFFLINE'", "MEM_OFFLINE": "'MEM_OFFLINE'",
        "MEM_CANCEL_OFFLINE": "'MEM_CANCEL_OFFLINE'", "pageblock_nr_pages": "_c.PAGEBLOCK", "PAGES_PER_SECTION": "None",
        "MIN_PERCPU_PAGELIST_HIGH_FRACTION": "'least fraction'", "PCPF_PREV_FREE_HIGH_ORDER": "1", "PCPF_FREE_HIGH_BATCH": "2",
        "ZONE_MOVABLE": "3", "count_system_ram_pages_cb": "None", "ALLOC_CMA": "128", "ALLOC_KSWAPD": "2048",
    },
    globals={
        "pcp_batch_high_lock": "'pcp_batch_high_lock'", "pcpu_drain_mutex": "'pcpu_drain_mutex'",
        "cpus_with_pcps": "'cpus_with_pcps'",
        "current": "None", "percpu_pagelist_high_fraction": "(yield _ops.read('percpu_pagelist_fraction'))",
    },
    fields={
        ("memory_notify", "start_pfn"): Field(python="local"),
        ("memory_notify", "nr_pages"): Field(python="local"),
        ("memory_notify", "status_change_nid"): Field(python="local"),
    },
)  # fmt: skip
