"""The collection: each real bug and each proposed design, with the property that tells its two texts apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernelmodel.museum.disabling import (
    AtomicCounter,
    DisableInside,
    DisableInsideDrained,
    DisableInsideTypeInside,
    DrainOnce,
    HighOne,
    HighOneLater,
    TypeReadInside,
)
from kernelmodel.museum.draining import NoClamp, NoRescuer, SnapshotUnderLock, StoredType, WorkerNeverRuns
from kernelmodel.museum.locking import (
    DrainTakesHotplugLock,
    DrainTakesNoLock,
    MemHotplugFirst,
    NoCpusReadLock,
    OneOrder,
    SysctlReadDoesNot,
    SysctlReadLocks,
)
from kernelmodel.museum.nolock import NolockFreeLooks
from kernelmodel.museum.pageset import PagesetFreed, PagesetStays
from kernelmodel.text import KernelText
from kernelmodel.versions.base import Base
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v5_11 import V5_11
from kernelmodel.versions.v5_14 import V5_14
from kernelmodel.versions.v5_15 import V5_15
from kernelmodel.versions.v6_0 import V6_0
from kernelmodel.versions.v6_1 import V6_1
from kernelmodel.versions.v6_8 import V6_8
from kernelmodel.versions.v6_10 import V6_10
from kernelmodel.versions.v6_11 import V6_11
from kernelmodel.versions.v6_15 import V6_15


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One bug, or design: what was wrong, when, and the texts before and after.

    ``faulty`` or ``mended`` is None where a design was right, or has no mend.  ``tasks`` are those of the smallest machine
    that shows it, by option.  Where the model cannot express an exhibit, ``missing`` says what it lacks.
    """

    name: str
    when: str
    what: str
    prop: str = ""
    faulty: type[KernelText] | None = None
    mended: type[KernelText] | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    #: the limits at the start, where the usual ones do not show it
    high: int = 2
    batch: int = 2
    #: whether the bounded engine decides the property as well
    bounded: bool = False
    #: whether what is mended is proved for any size
    proved: bool = False
    missing: str = ""


_FREE = {"frees": 1, "allocs": 0, "updates": 0}
_ALLOC = {"frees": 0, "allocs": 1, "updates": 0}
_ALONE = {"frees": 0, "allocs": 0, "updates": 0}

_ALL = (
    Exhibit(
        name="atomic-counter", when="review of v1, Sept 2020",
        what="A second user of zone_pcp_disable() returns while the first is still setting limits and draining.",
        prop="no_stray_page", faulty=AtomicCounter, mended=V5_11, tasks={**_FREE, "hwpoisons": 1}, bounded=True,
        proved=True,
    ),
    Exhibit(
        name="stale-type", when="968318261221, v5.9",
        what="A type that was read with interrupts on is stale by the time the page is listed, and nothing drains again.",
        prop="offline_progress", faulty=DrainOnce, mended=V5_11, tasks=_FREE, bounded=True, proved=True,
    ),
    Exhibit(
        name="bulk-loop", when="88e8ac11d2ea, v5.9",
        what="high is read before an update and batch after it: the bulk free asks for pages that no list has, and loops.",
        prop="bulk_free_terminates", faulty=NoClamp, mended=V5_10, tasks={**_FREE, "updates": 1}, bounded=True,
        high=1, batch=1,
    ),
    Exhibit(
        name="stored-type", when="ad53f92eb416, 2014",
        what="A page of an isolated pageblock goes to the free list of the type that was stored in it before.",
        prop="isolated_page_on_isolate_list", faulty=StoredType, mended=Base, tasks=_FREE, bounded=True,
    ),
    Exhibit(
        name="stored-isolate", when="51bb1a4093cc, 2014",
        what="A page whose type was read as ISOLATE goes to the ISOLATE free list, although the block is that no longer.",
        missing="how many free pages of another block lie on the ISOLATE list: only the other direction is counted",
    ),
    *(
        Exhibit(
            name=f"refill-race{suffix}", when=f"66eca1021a42, {when}",
            what="A refill has put pages on the list and not counted them yet; the drain reads count 0 outside pcp->lock.",
            prop="no_stray_page", faulty=faulty, mended=mended, tasks=_ALLOC, bounded=True, proved=suffix != "-v6.8",
        )
        for suffix, when, faulty, mended in (
            ("", "v6.10 to v6.11", V6_10, V6_11), ("-v6.0", "v6.0 to v6.1.y", V6_0, V6_1),
            ("-v6.8", "v6.8 to v6.11", V6_8, V6_11),
        )
    ),
    Exhibit(
        name="snapshot-under-lock", when="a review version of 66eca1021a42", mended=SnapshotUnderLock, bounded=True,
        what="count is looked at once, under pcp->lock: what comes later sees the closed limits.", prop="no_stray_page",
        tasks=_ALLOC,
    ),
    Exhibit(
        name="nolock-free", when="8c57b687e833, v6.15; the mend is our own",
        what="free_pages_nolock() takes no zone->lock, so it leaves its page on the pcplist, disabled or not.",
        prop="no_stray_page", faulty=V6_15, mended=NolockFreeLooks, tasks={**_ALONE, "nolock_frees": 1}, bounded=True,
        proved=True,
    ),
    Exhibit(
        name="lru-left-disabled", when="946746d1ad92, v5.15",
        what="failed_removal_pcplists_disabled enables pcplists and forgets lru_cache_enable().",
        prop="exits_give_back", faulty=V5_14, mended=V5_15, tasks=_ALONE,
    ),
    Exhibit(
        name="poison-lock-order", when="1983184c22dd, v6.9",
        what="__page_handle_poison() wants the CPU hotplug lock under pcp_batch_high_lock, cpu_up() has them the other way.",
        prop="lock_order", faulty=V6_8, mended=V6_10, tasks={**_ALONE, "offlines": 0, "soft_offlines": 1, "hotplugs": 1},
    ),
    Exhibit(
        name="sysctl-read", when="b9efe36b5e3e, v6.19",
        what="Who reads percpu_pagelist_high_fraction waits for pcp_batch_high_lock, which offlining keeps while it loops.",
        prop="reads_do_not_wait", faulty=SysctlReadLocks, mended=SysctlReadDoesNot, tasks={**_ALONE, "sysctl_reads": 1},
    ),
    Exhibit(
        name="list-types", when="47aef6010b83, v5.15",
        what="free_unref_page_list() stores MOVABLE in a page of another type, and goes on with a page that it took off.",
        missing="free pages on a wrong list where no block is ISOLATE, and pages that free_pages_prepare() refuses",
    ),
    Exhibit(
        name="pageset-lifetime", when="zone_pcp_reset(), v5.12 and before",
        what="The per-CPU set is freed while another CPU, stalled before rmqueue_pcplist(), is about to use it.",
        prop="pageset_lives", faulty=PagesetFreed, mended=PagesetStays, bounded=True,
        tasks={**_ALONE, "offlines": 0, "allocs": 1, "resets": 1},
    ),
    Exhibit(
        name="worker-never-runs", when="v5.11 to v5.19, mended by v6.0",
        what="zone_pcp_disable() waits for a worker on each CPU; where one never gets to run, it never returns.",
        prop="no_deadlock", faulty=WorkerNeverRuns, mended=V6_1, tasks=_ALONE,
    ),
    *(
        Exhibit(
            name=name, when="proposed in 2014", what=what, prop="no_isolated_page_left", faulty=faulty,
            mended=DisableInsideTypeInside, tasks=_FREE, bounded=True,
        )
        for name, faulty, what in (
            ("disable-inside-isolation", DisableInside,
             "pcplists are off only while blocks are isolated: a stale type lists a page afterwards."),
            ("disable-inside-isolation-drained", DisableInsideDrained,
             "One drain of all CPUs more does not wait for who has read the type with interrupts on; with them off it does."),
        )
    ),
    Exhibit(
        name="type-read-inside", when="proposed on 10 Sept 2020", mended=TypeReadInside, bounded=True,
        what="With the type read while interrupts are off, isolation and one drain of all CPUs are enough.",
        prop="no_isolated_page_left", tasks={**_FREE, "allocs": 1},
    ),
    Exhibit(
        name="high-one", when="proposed in 2014", faulty=HighOneLater, mended=HighOne, tasks=_FREE, bounded=True,
        what="A limit of 1 instead of 0 is right while a flush takes batch pages; nr_pcp_free() of v5.14 makes it none.",
        prop="no_stray_page",
    ),
    Exhibit(
        name="no-cpus-read-lock", when="proposed in 2019", faulty=NoCpusReadLock, mended=V5_10,
        what="Without cpus_read_lock() a CPU that comes or goes is missed.", prop="cpus_stay", tasks=_ALONE, bounded=True,
    ),
    Exhibit(
        name="mem-hotplug-first", when="3f906ba23689, v4.13", faulty=MemHotplugFirst, mended=OneOrder,
        what="mem_hotplug_lock and the CPU hotplug lock nest one way here and the other way there.", prop="lock_order",
        tasks={**_ALONE, "hotplugs": 1},
    ),
    Exhibit(
        name="drain-takes-hotplug-lock", when="2017", faulty=DrainTakesHotplugLock, mended=DrainTakesNoLock,
        what="Who brings a CPU up, and has to reclaim for it, waits for the lock that it holds.", prop="no_deadlock",
        tasks={**_ALONE, "offlines": 0, "hotplugs": 1},
    ),
    Exhibit(
        name="no-rescuer", when="ce612879ddc7, v4.11", faulty=NoRescuer, mended=Base,
        what="The worker that would free memory cannot be created without memory.", prop="no_deadlock",
        tasks={**_FREE, "offlines": 0, "reclaims": 1},
    ),
)  # fmt: skip

EXHIBITS: dict[str, Exhibit] = {e.name: e for e in _ALL}

#: every text that stands here and nowhere else, by its name
TEXTS: dict[str, type[KernelText]] = {
    k.name: k for e in _ALL for k in (e.faulty, e.mended) if k is not None and ".museum." in k.__module__
}
