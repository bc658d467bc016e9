"""The vocabulary in which leaves are run on concrete pages, lists and blocks, to be held against the model's summaries."""

from __future__ import annotations

from kernelmodel.vocabulary.words import PAGE_ALLOC, Field, Loop, Means, Vocabulary

_SILENT = (
    "VM_BUG_ON_PAGE", "VM_WARN_ON_ONCE", "trace_mm_page_pcpu_drain", "__count_vm_events", "__mod_zone_page_state",
    "IS_ALIGNED", "PageBuddy", "prefetch_buddy",
)  # fmt: skip

CONCRETE = Vocabulary(
    concrete=True,
    calls={
        "likely": Means("{0}"),
        "unlikely": Means("{0}"),
        "min": Means("_c.lower({0}, {1})"),
        "max": Means("_c.greater({0}, {1})"),
        "spin_lock": Means("None"),
        "spin_unlock": Means("None"),
        "spin_lock_irqsave": Means("None"),
        "spin_unlock_irqrestore": Means("None"),
        "has_isolate_pageblock": Means("self.has_isolate()"),
        "is_migrate_isolate": Means("_c.equal({0}, 4)"),
        "is_migrate_cma": Means("False"),
        "list_empty": Means("self.empty({0})"),
        "list_last_entry": Means("self.last({0})", struct="page"),
        "list_first_entry": Means("self.first({0})", struct="page"),
        "list_del": Means("self.delete({0})", acts=True),
        "list_add": Means("self.add({0}, {1}, 0)", acts=True),
        "list_add_tail": Means("self.add({0}, {1}, -1)", acts=True),
        "page_to_pfn": Means("{0}.pfn"),
        "pfn_to_page": Means("self.page({0})", struct="page"),
        "get_pcppage_migratetype": Means("self.stored({0})"),
        "get_pageblock_migratetype": Means("self.block_type({0})"),
        "get_pfnblock_migratetype": Means("self.block_type({0})"),
        "pindex_to_order": Means("0"),
        "bulkfree_pcp_prepare": Means("False"),
        "check_pcp_refill": Means("False"),
        "__free_one_page": Means("self.free_one({page}, {order}, {migratetype})", file=PAGE_ALLOC, acts=True),
        "__rmqueue": Means("self.rmqueue({order}, {migratetype})", file=PAGE_ALLOC, acts=True, struct="page"),
    },
    silent=dict.fromkeys(_SILENT, "debugging or statistics"),
    fields={
        ("per_cpu_pages", "count"): Field("pcp.count", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "batch"): Field("pcp.batch", "{0}.zone.index, {0}.cpu"),
        ("per_cpu_pages", "lists"): Field(python="_c.PcpList({0}, {1})", struct="list_head"),
        ("zone", "lock"): Field(python="'zone->lock'"),
        ("page", "pcp_list"): Field(python="{0}"),
        ("page", "lru"): Field(python="{0}"),
    },
    loops={"list_for_each_entry_safe": Loop("for {0} in self.each({2}):")},
    declares={"LIST_HEAD": ("struct list_head", "self.new_list()")},
    constants={
        # the name of a member, in the arguments of a loop
        "lru": "'lru'",
        "NULL": "None",
        "true": "True",
        "false": "False",
        "FPI_NONE": "0",
        "NR_PCP_LISTS": "12",
        "RMQUEUE_NORMAL": "0",
        "NR_FREE_PAGES": "0",
        "NR_FREE_CMA_PAGES": "0",
        "PGFREE": "0",
        "MIGRATE_ISOLATE": "4",
        "MIGRATE_PCPTYPES": "3",
    },
    globals={"pageblock_order": "self.state.config.pageblock_order"},
)
