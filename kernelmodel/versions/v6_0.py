"""v6.0: pcp->lock for each pcplist, taken by trylock with the buddy as the way out, and drains from other CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from kernelmodel import ops, page_ops
from kernelmodel.mm.page_alloc import SWAP_CLUSTER_MAX
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, Zone
from kernelmodel.ops import Routine, read, read_once
from kernelmodel.page_ops import has_isolate_pageblock
from kernelmodel.schema import CellKind
from kernelmodel.terms import BoolTerm, IntTerm, minimum, select
from kernelmodel.versions.v5_15 import V5_15


class V6_0(V5_15):
    """v6.0: whoever is in a pcplist's critical section holds its lock; who finds it taken goes to the buddy."""

    name = "v6.0"
    summary = "pcp->lock, trylock, remote drain without a work item, whose look at pcp->count is outside the lock"
    breaks: ClassVar[tuple[str, ...]] = (
        "no_stray_page", "no_isolated_page_left", "isolated_page_not_allocated", "offline_progress",
    )  # fmt: skip

    cells = (
        *V5_15.cells,
        (
            "pcp.lock",
            CellKind(
                axes=("zone", "cpu"),
                values="task",
                exclusion="spinlock",
                c="pcp[{1}]->lock",
                meaning="0, or who holds pcp->lock",
            ),
        ),
    )
    section = "pcp.lock"

    # work items of the drain: gone with v6.0
    drain_worker = None  # type: ignore[assignment]
    drain_local_pages_wq = None  # type: ignore[assignment]

    # --- the critical section ---

    def pcp_spin_trylock(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: pcp_spin_trylock_irqsave(): pinned, interrupts off; the CPU, or -1 where the lock is taken."""
        cpu = yield ops.local_irq_save(0)
        if (yield ops.spin_trylock("pcp.lock", zone.index, cpu, nr_blocks=self.config.nr_blocks)):
            return cpu
        yield ops.local_irq_restore(cpu)
        return -1

    def pcp_spin_lock(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: pcp_spin_lock_irqsave(): of the CPU's own pcplist; returns the CPU."""
        cpu = yield ops.local_irq_save(0)
        yield ops.spin_lock("pcp.lock", zone.index, cpu)
        return cpu

    def pcp_spin_unlock(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: pcp_spin_unlock_irqrestore(), on the CPU whose pcplist it is."""
        yield ops.spin_unlock("pcp.lock", zone.index, cpu)
        yield ops.local_irq_restore(cpu)

    def pcp_lock_of(self, zone: Zone, cpu: int) -> Routine:
        """include/linux/spinlock.h: spin_lock_irqsave(&pcp->lock) of any CPU's pcplist; returns the CPU it is done on."""
        here = yield ops.local_irq_save(0)
        yield ops.spin_lock("pcp.lock", zone.index, cpu)
        return here

    def pcp_unlock_of(self, zone: Zone, cpu: int, here: int) -> Routine:
        """include/linux/spinlock.h: spin_unlock_irqrestore(&pcp->lock)."""
        yield ops.spin_unlock("pcp.lock", zone.index, cpu)
        yield ops.local_irq_restore(here)

    # --- freeing ---

    def free_unref_page(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page(): under pcp->lock, or straight to the buddy where that is taken."""
        migratetype = yield from self.free_unref_page_prepare(page)
        if migratetype == MigrateType.ISOLATE:
            yield from self.free_one_page(page.zone, page, migratetype)
            return
        pcpmigratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
        cpu = yield from self.pcp_spin_trylock(page.zone)
        if cpu >= 0:
            yield from self.free_unref_page_commit(page, pcpmigratetype, cpu)
            yield from self.pcp_spin_unlock(page.zone, cpu)
        else:
            yield from self.free_one_page(page.zone, page, migratetype)

    def free_unref_page_list(self, pages: Sequence[Page]) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(): under pcp->lock, which is dropped after SWAP_CLUSTER_MAX pages."""
        kept = yield from self.free_unref_pages_prepare(pages)
        cpu, zone, batch_count = -1, Zone(), 0
        for page, migratetype in kept:
            if cpu >= 0 and (page.zone != zone or batch_count == SWAP_CLUSTER_MAX):
                yield from self.pcp_spin_unlock(zone, cpu)
                cpu = -1
            if cpu < 0:
                zone, batch_count = page.zone, 0
                cpu = yield from self.pcp_lock_for_list(zone)
            if cpu < 0:
                yield from self.free_one_page(page.zone, page, migratetype)
                continue
            pcpmigratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
            yield from self.free_unref_page_commit(page, pcpmigratetype, cpu)
            batch_count += 1
        if cpu >= 0:
            yield from self.pcp_spin_unlock(zone, cpu)

    def pcp_lock_for_list(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(), how it gets pcp->lock: it waits; the CPU, -1 never."""
        return (yield from self.pcp_spin_lock(zone))

    def free_pcppages_bulk(self, zone: Zone, count: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_pcppages_bulk(): under pcp->lock; each page lowers pcp->count."""
        pcp_count = yield read("pcp.count", zone.index, cpu)
        count = minimum(pcp_count, count)
        pages = yield page_ops.list_del_bulk(self.config, zone, cpu, count, list_by_list=True)
        if pages.length < count:
            yield from self.empty_lists_spin()
        yield page_ops.free_to_buddy(self.config, zone, pages, reread=self._type_is_read_again(zone))

    def _type_is_read_again(self, zone: Zone) -> BoolTerm:
        """mm/page_alloc.c: free_pcppages_bulk(), whether the type of a page is looked up under zone->lock."""
        return has_isolate_pageblock(zone)

    # --- allocating ---

    def rmqueue_pcplist(self, zone: Zone, migratetype: IntTerm, order: int = 0) -> Routine:
        """mm/page_alloc.c: rmqueue_pcplist(): None where the lock is taken, and the caller goes to the buddy."""
        cpu = yield from self.pcp_spin_trylock(zone)
        if cpu < 0:
            return None
        page = yield from self._rmqueue_pcplist(zone, migratetype, cpu, order)
        yield from self.pcp_spin_unlock(zone, cpu)
        return page

    def alloc_page(self, zone: Zone, migratetype: IntTerm) -> Routine:
        """mm/page_alloc.c: rmqueue() of order 0: from the pcplist, else from the buddy; returns a Page or None."""
        page = yield from self.rmqueue_pcplist(zone, migratetype)
        if page is None:
            page = yield from self.rmqueue_buddy(zone, 0, migratetype)
        return page

    def rmqueue_buddy(self, zone: Zone, order: int, migratetype: IntTerm) -> Routine:
        """mm/page_alloc.c: rmqueue_buddy(): past the pcplists; returns a Page or None."""
        if order == 0:
            found, page = yield page_ops.rmqueue_page(self.config, zone, migratetype)
            return page if found else None
        return (yield page_ops.rmqueue_buddy(self.config, zone, order, migratetype))

    def rmqueue(self, zone: Zone, migratetype: IntTerm, order: int) -> Routine:
        """mm/page_alloc.c: rmqueue() for order > 0: from a pcplist where pcp_allowed_order(), else from the buddy."""
        page = None
        if order <= self.config.pcp_order:
            page = yield from self.rmqueue_pcplist(zone, migratetype, order)
        if page is None:
            page = yield from self.rmqueue_buddy(zone, order, migratetype)
        return page

    def alloc_migration_target(self, page: Page) -> Routine:
        """mm/migrate.c: alloc_migration_target(): another page, or None."""
        return (yield from self.alloc_page(page.zone, int(MigrateType.MOVABLE)))

    # --- draining ---

    def drain_pages_zone(self, cpu: int, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_pages_zone(): of any CPU, from anywhere; the look at count is outside the lock."""
        count = yield read("pcp.count", zone.index, cpu)
        if count != 0:
            here = yield from self.pcp_lock_of(zone, cpu)
            count = yield read("pcp.count", zone.index, cpu)
            yield from self.free_pcppages_bulk(zone, count, cpu)
            yield from self.pcp_unlock_of(zone, cpu, here)

    def drain_cpus_with_pcps(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: __drain_all_pages(): the caller drains each CPU of the mask itself, without a work item."""
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                if zone is None:
                    yield from self.drain_pages(cpu)
                else:
                    yield from self.drain_pages_zone(cpu, zone)

    def drain_zone_pages(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_zone_pages(), of vmstat: up to batch pages of this CPU's list of a remote zone are freed."""
        cpu = yield ops.smp_processor_id()
        batch = yield read_once("pcp.batch", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        to_drain = minimum(count, batch)
        if to_drain > 0:
            here = yield from self.pcp_lock_of(zone, cpu)
            yield from self.free_pcppages_bulk(zone, to_drain, cpu)
            yield from self.pcp_unlock_of(zone, cpu, here)
