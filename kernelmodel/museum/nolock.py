"""A mend for what free_pages_nolock() leaves on pcplists that are off: our own proposal, for no kernel has one."""

from __future__ import annotations

from kernelmodel.mmzone import PCPTYPES, MigrateType, Page
from kernelmodel.ops import Routine, read_once
from kernelmodel.terms import select
from kernelmodel.versions.v6_15 import FPI_TRYLOCK, V6_15


class NolockFreeLooks(V6_15):
    """v6.15, mended: who frees without waiting looks, under pcp->lock, whether pcplists are off, and goes to the buddy then.

    There it tries zone->lock, as it does for a page of an isolated block; in C the page waits on the zone's own list where
    that is taken.
    """

    name = "nolock-free-looks"
    summary = (
        "v6.15, mended: under pcp->lock free_pages_nolock() looks whether high_max is 0, and keeps off the pcplist then"
    )
    breaks = ()

    def free_unref_page_with(self, page: Page, fpi_flags: int) -> Routine:
        """mm/page_alloc.c: __free_unref_page(page, order, fpi_flags)."""
        migratetype = yield from self.free_unref_page_prepare(page)
        if migratetype == MigrateType.ISOLATE:
            yield from self.free_one_page(page.zone, page, migratetype)
            return
        pcpmigratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
        cpu = yield from self.pcp_spin_trylock(page.zone)
        if cpu >= 0 and fpi_flags & FPI_TRYLOCK:
            high_max = yield read_once("pcp.high_max", page.zone.index, cpu)
            if high_max == 0:
                yield from self.pcp_spin_unlock(page.zone, cpu)
                cpu = -1
        if cpu >= 0:
            yield from self.free_unref_page_commit(page, pcpmigratetype, cpu, fpi_flags)
            yield from self.pcp_spin_unlock(page.zone, cpu)
        else:
            yield from self.free_one_page(page.zone, page, migratetype)
