"""v6.15: pages may be freed from any context, without waiting for a lock: free_pages_nolock(), for BPF (8c57b687e833)."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel.mmzone import PCPTYPES, MigrateType, Page
from kernelmodel.ops import Routine, add, read_once
from kernelmodel.page_ops import list_add
from kernelmodel.tasks import TaskKind
from kernelmodel.terms import IntTerm, select
from kernelmodel.versions.v6_11 import V6_11

#: mm/page_alloc.c: fpi_t: no lock is waited for
FPI_NONE, FPI_TRYLOCK = 0, 4


class V6_15(V6_11):
    """v6.15: whoever frees a page without waiting for a lock leaves it on the pcplist, whatever the limits are.

    C comments that the count may be over its mark for a while.  Where pcplists are disabled there is no later free that
    would bring it back to 0: each takes one page off and leaves one there.  What keeps offlining from waiting for ever is the
    vmstat worker, which drains what is over pcp->high, and offline_pages() does not wait for it.

    A page for which zone->lock is taken goes to ``zone->trylock_free_pages`` in C; here the lock is free at that moment.
    """

    name = "v6.15"
    summary = "free_pages_nolock() leaves its page on the pcplist, disabled or not (8c57b687e833)"
    breaks: ClassVar[tuple[str, ...]] = (
        "no_stray_page", "no_isolated_page_left", "isolated_page_not_allocated", "offline_progress",
    )  # fmt: skip

    tasks = (
        *V6_11.tasks,
        TaskKind(
            name="nolock_free", make=lambda k, given: k.free_pages_nolock(given.page), option="nolock_frees", usual=1,
            words="free_pages_nolock()", help="callers of free_pages_nolock(), which free a page without waiting for a lock",
            needs="free_pages_nolock", equal=True, on_lists=True, inputs=("block",), zones=True,
        ),
    )  # fmt: skip

    def free_unref_page(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page(page, order) of order 0."""
        yield from self.free_unref_page_with(page, FPI_NONE)

    def free_pages_nolock(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_pages_nolock(page, order) of order 0: from any context, NMIs too."""
        yield from self.free_unref_page_with(page, FPI_TRYLOCK)

    def free_unref_page_with(self, page: Page, fpi_flags: int) -> Routine:
        """mm/page_alloc.c: __free_unref_page(page, order, fpi_flags)."""
        migratetype = yield from self.free_unref_page_prepare(page)
        if migratetype == MigrateType.ISOLATE:
            yield from self.free_one_page(page.zone, page, migratetype)
            return
        pcpmigratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
        cpu = yield from self.pcp_spin_trylock(page.zone)
        if cpu >= 0:
            yield from self.free_unref_page_commit(page, pcpmigratetype, cpu, fpi_flags)
            yield from self.pcp_spin_unlock(page.zone, cpu)
        else:
            yield from self.free_one_page(page.zone, page, migratetype)

    def free_unref_page_commit(self, page: Page, migratetype: IntTerm, cpu: int, fpi_flags: int = FPI_NONE) -> Routine:
        """mm/page_alloc.c: free_unref_page_commit(): with FPI_TRYLOCK nothing is given back, for that takes zone->lock."""
        if fpi_flags & FPI_TRYLOCK:
            yield list_add(self.config, page, cpu, migratetype)
            yield add(1 << page.order, "pcp.count", page.zone.index, cpu)
            yield read_once("pcp.batch", page.zone.index, cpu)
            return
        yield from super().free_unref_page_commit(page, migratetype, cpu)
