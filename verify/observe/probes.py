"""What is recorded of a running kernel: probes and their arguments, by version; the script and the checker both read this."""

from __future__ import annotations

from dataclasses import dataclass

#: the group of our probes in tracefs
GROUP = "straypage"


@dataclass(frozen=True, slots=True)
class Probe:
    """A kprobe: the name of its event, the function (mm/page_alloc.c unless said), and what is fetched at its entry.

    ``pcp`` is the register with the struct per_cpu_pages whose fields are fetched too.  ``returns``: the return is recorded,
    as NAME_r, with the value fetched there.  ``needed``: nothing can be judged without it.

    ``routine`` is the function in our text of a kernel, if that has it; ``compared``: fields of the event, each with the
    parameter of the routine that it is.
    """

    name: str
    function: str
    fetch: str = ""
    pcp: str = ""
    returns: bool = False
    value: str = ""
    needed: bool = False
    #: what the function is called in later kernels
    renamed: str = ""
    routine: str = ""
    compared: tuple[tuple[str, str], ...] = ()


#: x86-64 passes arguments in di, si, dx, cx, r8, r9
PROBES = (
    # `enable` is a file of tracefs, and no name for an event
    Probe("pcp_disable", "zone_pcp_disable", "zone=%di", returns=True, needed=True, routine="zone_pcp_disable"),
    Probe("pcp_enable", "zone_pcp_enable", "zone=%di", needed=True, routine="zone_pcp_enable"),
    Probe(
        "limits", "__zone_set_pageset_high_and_batch", "zone=%di high=%si:s64", routine="set_pageset_high_and_batch",
        compared=(("high", "high"), ("high", "high_min")),
    ),
    Probe(
        "drain", "__drain_all_pages", "zone=%di force=%si:u8", routine="_drain_all_pages",
        compared=(("force", "force_all_cpus"),),
    ),
    Probe("drain_zone", "drain_pages_zone", "cpu=%di:u32 zone=%si", routine="drain_pages_zone", compared=(("cpu", "cpu"),)),
    Probe(
        "commit", "free_unref_page_commit", "zone=%di pcp=%si page=%dx type=%cx:s32 order=%r8:u32", "%si", returns=True,
        needed=True, renamed="free_frozen_page_commit",
    ),
    Probe("refill", "rmqueue_bulk", "zone=%di order=%si:u32 list=%cx type=%r8:s32", returns=True, needed=True),
    # mm/page_isolation.c
    Probe(
        "isolate", "start_isolate_page_range", "start=%di end=%si", returns=True, value="ret=$retval:s32", needed=True,
        routine="start_isolate_page_range",
    ),
    Probe("undo", "undo_isolate_page_range", "start=%di end=%si", routine="undo_isolate_page_range"),
    # mm/memory_hotplug.c
    Probe(
        "offline", "offline_pages", "start=%di pages=%si zone=%dx", returns=True, value="ret=$retval:s32", needed=True,
        routine="offline_pages",
    ),
    # where struct page of frame 0 is (arch/x86/mm/kaslr.c); tracepoints hash what they print as %p
    Probe("pages", "offline_pages", "base=@vmemmap_base:x64"),
    Probe("taken_off", "__offline_isolated_pages", "start=%di end=%si", routine="offline_isolated_pages"),
)  # fmt: skip
#: sizeof(struct page) where SLUB and memcg are on, as everywhere but in tiny configurations
PAGE_STRUCT = 64
#: events of the kernel's own (include/trace/events/kmem.h)
TRACEPOINTS = ("mm_page_pcpu_drain", "mm_page_alloc_zone_locked", "mm_page_alloc")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where fields of struct per_cpu_pages are, in bytes, in kernels from ``first`` to ``last`` (include/linux/mmzone.h).

    ``high`` is the limit that zone_pcp_disable() sets to 0: from v6.7 on high_min.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    count: int
    high: int
    batch: int

    @property
    def fetch(self) -> dict[str, int]:
        """The fields by the names that events have."""
        return {"count": self.count, "high": self.high, "batch": self.batch}


LAYOUTS = (Layout((6, 0), (6, 6), 4, 8, 12), Layout((6, 7), (6, 12), 4, 12, 20))
KNOWN = "v6.0 to v6.12"
