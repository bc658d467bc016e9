"""Drains: what they read of a page or of a count, and who executes them."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel import ops, page_ops
from kernelmodel.cells import value
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine, read, write
from kernelmodel.schema import CellKind
from kernelmodel.terms import IntTerm, lnot, minimum
from kernelmodel.versions.base import Base
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v5_11 import V5_11
from kernelmodel.versions.v6_10 import V6_10


class NoClamp(V5_10):
    """v5.9: free_pcppages_bulk() trusts its argument (mended by 88e8ac11d2ea)."""

    name = "no-clamp"
    summary = "v5.9 (88e8ac11d2ea): high and batch are read at different times, and the bulk free trusts the batch"

    def free_pcppages_bulk(self, zone: Zone, count: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_pcppages_bulk(), without min(pcp->count, count)."""
        pages = yield page_ops.list_del_bulk(self.config, zone, cpu, count)
        if pages.length < count:
            yield from self.empty_lists_spin()
        yield page_ops.free_to_buddy(self.config, zone, pages, reread=page_ops.has_isolate_pageblock(zone))


class StoredType(Base):
    """2014: pages go to the free list of the type that was stored in them (ad53f92eb416; CMA's drain by stored type)."""

    name = "stored-type"
    summary = "2014 (ad53f92eb416): the bulk free uses the type stored in the page, which may be stale"

    def free_pcppages_bulk(self, zone: Zone, count: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_pcppages_bulk(), which does not look the type up again."""
        pcp_count = yield read("pcp.count", zone.index, cpu)
        count = minimum(pcp_count, count)
        pages = yield page_ops.list_del_bulk(self.config, zone, cpu, count)
        if pages.length < count:
            yield from self.empty_lists_spin()
        yield page_ops.free_to_buddy(self.config, zone, pages, reread=False)


class SnapshotUnderLock(V6_10):
    """A review version of 66eca1021a42: count is looked at once, under pcp->lock."""

    name = "snapshot-under-lock"
    summary = "a review version of 66eca1021a42: v6.10 with the snapshot of count taken under pcp->lock"

    def drain_pages_zone(self, cpu: int, zone: Zone, left: str = "drain.left") -> Routine:
        """mm/page_alloc.c: drain_pages_zone(): as many pages as count said once, under the lock, in rounds."""
        here = yield from self.pcp_lock_of(zone, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        yield write(count, left, zone.index, cpu)
        yield from self.pcp_unlock_of(zone, cpu, here)
        yield from self.drain_left(cpu, zone, left)


class WorkerNeverRuns(V5_11):
    """v5.11 to v5.19 on an isolated CPU: its worker is never scheduled."""

    name = "worker-never-runs"
    summary = "v5.11 to v5.19 with NOHZ_FULL or RT: a CPU's worker never gets to run, and zone_pcp_disable() never ends"

    def drain_worker(self, cpu: int) -> Routine:
        """kernel/workqueue.c: worker_thread() of a CPU on which something else runs for ever."""
        del cpu
        yield ops.never("the worker never gets its CPU")


class NoRescuer(Base):
    """v4.10: the drain work is on a workqueue without a rescuer (mended by ce612879ddc7)."""

    name = "no-rescuer"
    summary = (
        "v4.10 (ce612879ddc7): a worker for the drain cannot be created while whoever waits for it is out of memory"
    )
    cells: ClassVar[tuple[tuple[str, CellKind], ...]] = (
        (
            "out_of_memory",
            CellKind(sort="bool", meaning="somebody is in direct reclaim, and no memory is free for a new worker"),
        ),
    )

    def direct_reclaim(self) -> Routine:
        """mm/page_alloc.c: __alloc_pages_direct_reclaim(): nothing is free before it is through."""
        yield write(True, "out_of_memory")
        yield from self.drain_all_pages(None)
        yield write(False, "out_of_memory")

    def drain_worker(self, cpu: int) -> Routine:
        """kernel/workqueue.c: create_worker() needs memory, which no rescuer stands by to do without."""
        yield from self.worker_thread(cpu, self.create_worker)

    def create_worker(self, cpu: int) -> Routine:
        """kernel/workqueue.c: create_worker(), then the work."""
        yield ops.Op("create_worker()", guard=lnot(value("out_of_memory")))
        yield from self.drain_local_pages_wq(cpu)
