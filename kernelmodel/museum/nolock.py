"""A mend for what free_pages_nolock() leaves on pcplists that are off: our own proposal, for no kernel has one."""

from __future__ import annotations

from kernelmodel.mmzone import Page
from kernelmodel.ops import Routine, read_once
from kernelmodel.terms import IntTerm
from kernelmodel.versions.v6_15 import FPI_NONE, FPI_TRYLOCK, V6_15


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

    def free_unref_page_commit(self, page: Page, migratetype: IntTerm, cpu: int, fpi_flags: int = FPI_NONE) -> Routine:
        """mm/page_alloc.c: free_unref_page_commit(): with FPI_TRYLOCK, past the list where high_max says that it is off."""
        if fpi_flags & FPI_TRYLOCK:
            high_max = yield read_once("pcp.high_max", page.zone.index, cpu)
            if high_max == 0:
                yield from self.free_one_page(page.zone, page, migratetype)
                return
        yield from super().free_unref_page_commit(page, migratetype, cpu, fpi_flags)
