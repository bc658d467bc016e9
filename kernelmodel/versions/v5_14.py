"""v5.14: local_lock, limits that follow CPU hotplug, free batches that adapt to the load, lru_cache_disable().

Its pcplists hold pages of orders 0 to 3; so do those of the random histories, where pageblocks are that large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from kernelmodel import ops, page_ops
from kernelmodel.mm.page_alloc import SWAP_CLUSTER_MAX
from kernelmodel.mmzone import EBUSY, MEMORY_OFFLINE, PCPTYPES, MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Routine, add, read, read_once
from kernelmodel.page_ops import has_isolate_pageblock
from kernelmodel.schema import CellKind
from kernelmodel.tasks import TaskKind
from kernelmodel.terms import IntTerm, lift, maximum, minimum, select
from kernelmodel.versions.v5_11 import V5_11

_LOCKED, _UNLOCKED = "local_lock_irqsave(&pagesets.lock, flags)", "local_unlock_irqrestore(&pagesets.lock, flags)"
_RECLAIM = "Whether the zone is being reclaimed: decided from outside."
_FACTOR = "pcp->free_factor adapts to the load: any value."
_VMEMMAP = "Whether a free huge page has to be dissolved: decided from outside."


class V5_14(V5_11):
    """v5.14: pcplists under a per-CPU lock, which is interrupts off without PREEMPT_RT."""

    name = "v5.14"
    summary = "local_lock; CPU hotplug sets limits; nr_pcp_high(), nr_pcp_free(); lru_cache_disable() beside zone_pcp_disable()"
    breaks: ClassVar[tuple[str, ...]] = ("exits_give_back",)
    # include/linux/mmzone.h: PAGE_ALLOC_COSTLY_ORDER
    pcp_order = 3

    cells: ClassVar[tuple[tuple[str, CellKind], ...]] = (
        (
            "lru_disable_count",
            CellKind(
                meaning="how many have called lru_cache_disable() and not lru_cache_enable()",
                left_over="LRU caches are still disabled",
            ),
        ),
    )
    tasks: ClassVar[tuple[TaskKind, ...]] = (
        TaskKind(
            name="soft_offline", make=lambda k, given: k.page_handle_poison(given.zone), option="soft_offlines",
            words="__page_handle_poison()", needs="page_handle_poison", zones=True,
            help="callers of __page_handle_poison(), which disables pcplists to take a page off the buddy",
        ),
    )  # fmt: skip

    # --- freeing ---

    def free_unref_page(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page(): the type is tested before the critical section begins."""
        migratetype = yield from self.free_unref_page_prepare(page)
        if migratetype == MigrateType.ISOLATE:
            yield from self.free_one_page(page.zone, page, migratetype)
            return
        migratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
        cpu = yield ops.local_irq_save(self.config.nr_blocks, _LOCKED)
        yield from self.free_unref_page_commit(page, migratetype, cpu)
        yield ops.local_irq_restore(cpu, _UNLOCKED)

    def free_unref_page_commit(self, page: Page, migratetype: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_unref_page_commit()."""
        zone = page.zone
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield add(1 << page.order, "pcp.count", zone.index, cpu)
        high = yield from self.nr_pcp_high(zone, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        if count >= high:
            batch = yield read_once("pcp.batch", zone.index, cpu)
            nr = yield from self.nr_pcp_free(high, batch)
            yield from self.free_pcppages_bulk(zone, nr, cpu)

    def nr_pcp_high(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: nr_pcp_high(): 0 where pcplists are off; low while the zone is being reclaimed.

        C reads the batch only where it needs it; a value that is read in vain changes nothing.
        """
        high = yield read_once("pcp.high", zone.index, cpu)
        reclaims = yield ops.environment("reclaims", "test_bit(ZONE_RECLAIM_ACTIVE)", _RECLAIM, None)
        batch = yield read_once("pcp.batch", zone.index, cpu)
        return select(reclaims, minimum(batch * 4, high), high)

    def nr_pcp_free(self, high: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: nr_pcp_free(): one page where pcplists are off, else a batch or more of it, up to high - batch."""
        more = yield ops.part_of("more", "batch <<= pcp->free_factor", high - batch - batch, _FACTOR)
        return select(lift(high) < batch, 1, minimum(batch + more, high - batch))

    def free_unref_page_list(self, pages: Sequence[Page]) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(): pages of isolated pageblocks leave the list before it is committed."""
        kept = yield from self.free_unref_pages_prepare(pages)
        cpu = yield ops.local_irq_save(self.config.nr_blocks, _LOCKED)
        for done, (page, migratetype) in enumerate(kept):
            if done and done % SWAP_CLUSTER_MAX == 0:
                yield ops.local_irq_restore(cpu, _UNLOCKED)
                cpu = yield ops.local_irq_save(self.config.nr_blocks, _LOCKED)
            pcpmigratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
            yield from self.free_unref_page_commit(page, pcpmigratetype, cpu)
        yield ops.local_irq_restore(cpu, _UNLOCKED)

    def free_unref_pages_prepare(self, pages: Sequence[Page]) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(), its first loop; returns the pages that are left, each with its type."""
        kept: tuple[tuple[Page, IntTerm], ...] = ()
        for page in pages:
            migratetype = yield from self.free_unref_page_prepare(page)
            if migratetype == MigrateType.ISOLATE:
                yield from self.free_one_page(page.zone, page, migratetype)
                continue
            kept = (*kept, (page, migratetype))
        return kept

    def free_pcppages_bulk(self, zone: Zone, count: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_pcppages_bulk(): pcp->count is lowered once, when the pages are off the lists."""
        pcp_count = yield read("pcp.count", zone.index, cpu)
        count = minimum(pcp_count, count)
        pages = yield page_ops.list_del_bulk(self.config, zone, cpu, count, counts=False)
        if pages.length < count:
            yield from self.empty_lists_spin()
        yield ops.subtract(pages.length, "pcp.count", zone.index, cpu)
        yield page_ops.free_to_buddy(self.config, zone, pages, reread=has_isolate_pageblock(zone))

    def free_pages_ok(self, page: Page, order: int) -> Routine:
        """mm/page_alloc.c: __free_pages_ok(): the type is read without any lock, and again under zone->lock if need be."""
        migratetype = yield page_ops.store_migratetype(self.config, page)
        yield from self.free_one_page(page.zone, page, migratetype, order)

    # --- allocating ---

    def rmqueue(self, zone: Zone, migratetype: IntTerm, order: int) -> Routine:
        """mm/page_alloc.c: rmqueue() for order > 0: from a pcplist where pcp_allowed_order(); returns a Page or None."""
        if order <= self.config.pcp_order:
            return (yield from self.rmqueue_pcplist(zone, migratetype, order))
        return (yield from super().rmqueue(zone, migratetype, order))

    def rmqueue_pcplist(self, zone: Zone, migratetype: IntTerm, order: int = 0) -> Routine:
        """mm/page_alloc.c: rmqueue_pcplist(): allocate a page of an order that pcplists hold; returns a Page or None."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks, _LOCKED)
        page = yield from self._rmqueue_pcplist(zone, migratetype, cpu, order)
        yield ops.local_irq_restore(cpu, _UNLOCKED)
        return page

    def _rmqueue_pcplist(self, zone: Zone, migratetype: IntTerm, cpu: int, order: int = 0) -> Routine:
        """mm/page_alloc.c: __rmqueue_pcplist(): batch 1 stays 1: nothing may be left on the list then."""
        if (yield page_ops.list_empty(self.config, zone, cpu, migratetype, order)):
            batch = yield from self._refill_batch(zone, cpu, order)
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype, order)
            yield add(alloced * (1 << order) if order else alloced, "pcp.count", zone.index, cpu)
            if (yield page_ops.list_empty(self.config, zone, cpu, migratetype, order)):
                return None
        page = yield page_ops.list_del_first(self.config, zone, cpu, migratetype, order)
        yield add(-(1 << order), "pcp.count", zone.index, cpu)
        return page

    def _refill_batch(self, zone: Zone, cpu: int, order: int) -> Routine:
        """mm/page_alloc.c: __rmqueue_pcplist(), how many pages it asks for."""
        batch = yield read_once("pcp.batch", zone.index, cpu)
        return (yield from self._of_order(batch, order))

    def _of_order(self, batch: IntTerm, order: int) -> Routine:
        """mm/page_alloc.c: __rmqueue_pcplist(), nr_pcp_alloc(): ``if (batch > 1) batch = max(batch >> order, 2)``."""
        if not order:
            return batch
        fewer = yield ops.shifted(batch, order, "batch >> order")
        return select(lift(batch) > 1, maximum(fewer, 2), batch)

    def rmqueue_bulk(self, zone: Zone, count: IntTerm, cpu: int, migratetype: IntTerm, order: int = 0) -> Routine:
        """mm/page_alloc.c: rmqueue_bulk(): up to ``count`` pages from the buddy to the list's tail; returns how many."""
        return (yield page_ops.refill(self.config, zone, cpu, migratetype, count, order))

    # --- draining ---

    def drain_pages_zone(self, cpu: int, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_pages_zone(): on ``cpu`` itself, or for one that is dead."""
        here = yield ops.local_irq_save(self.config.nr_blocks, _LOCKED)
        count = yield read("pcp.count", zone.index, cpu)
        if count != 0:
            yield from self.free_pcppages_bulk(zone, count, cpu)
        yield ops.local_irq_restore(here, _UNLOCKED)

    def drain_zone_pages(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_zone_pages(), of vmstat: up to batch pages of this CPU's list of a remote zone are freed."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks, _LOCKED)
        batch = yield read_once("pcp.batch", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        to_drain = minimum(count, batch)
        if to_drain > 0:
            yield from self.free_pcppages_bulk(zone, to_drain, cpu)
        yield ops.local_irq_restore(cpu, _UNLOCKED)

    # --- CPU hotplug ---

    def page_alloc_cpu_online(self, cpu: int) -> Routine:
        """mm/page_alloc.c: page_alloc_cpu_online(): limits follow the number of CPUs, under cpus_write_lock()."""
        del cpu
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)):
                yield from self.zone_pcp_update(zone, 1)

    def page_alloc_cpu_dead(self, cpu: int) -> Routine:
        """mm/page_alloc.c: page_alloc_cpu_dead(): drain the lists of the CPU that has gone, and set the others' limits."""
        yield from self.drain_pages(cpu)
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)):
                yield from self.zone_pcp_update(zone, 0)

    def cpu_up(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_up(): limits are set before the CPU is online."""
        yield from self.cpus_write_lock()
        yield from self.page_alloc_cpu_online(cpu)
        yield self.set_cpu_online(cpu)
        yield from self.cpus_write_unlock()

    def zone_pcp_update(self, zone: Zone, cpu_online: int = 0) -> Routine:
        """mm/page_alloc.c: zone_pcp_update(zone, cpu_online): the limits, also when a CPU comes up or has gone."""
        del cpu_online
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.zone_set_pageset_high_and_batch(zone)
        yield from self.mutex_unlock("pcp_batch_high_lock")

    # --- memory failure and memory hotplug ---

    def page_handle_poison(self, zone: Zone) -> Routine:
        """mm/memory-failure.c: __page_handle_poison(): pcplists are off while a page is taken off the buddy."""
        yield from self.zone_pcp_disable(zone)
        if not (yield from self.dissolve_free_huge_page()):
            yield from self.take_page_off_buddy()
        yield from self.zone_pcp_enable(zone)

    def take_page_off_buddy(self) -> Routine:
        """mm/page_alloc.c: take_page_off_buddy(), of a page that this model does not follow."""
        yield ops.happens("take_page_off_buddy()")

    def dissolve_free_huge_page(self) -> Routine:
        """mm/hugetlb.c: dissolve_free_huge_page(): to give back its vmemmap pages it changes a static key."""
        if (yield ops.environment("huge", "PageHuge(page)", _VMEMMAP, None)):
            yield from self.static_key_slow_dec()
        return (yield ops.environment("dissolve_fails", "dissolve_free_huge_page()"))

    def static_key_slow_dec(self) -> Routine:
        """kernel/jump_label.c: static_key_slow_dec(): takes the CPU hotplug lock to read."""
        yield from self.cpus_read_lock()
        yield ops.happens("jump_label_update()")
        yield from self.cpus_read_unlock()

    def lru_cache_disable(self) -> Routine:
        """mm/swap.c: lru_cache_disable(): no page stays on a per-CPU LRU cache until lru_cache_enable()."""
        yield ops.add(1, "lru_disable_count")
        yield ops.happens("__lru_add_drain_all(true)")

    def lru_cache_enable(self) -> Routine:
        """include/linux/swap.h: lru_cache_enable()."""
        yield ops.add(-1, "lru_disable_count")

    def offline_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(); returns 0 or a negative errno.  ``label`` is the C text's goto label."""
        self.check_range(page_range)
        zone = page_range.zone
        yield from self.mem_hotplug_begin()
        ret, label = yield from self.offline_checks(page_range)
        if not label:
            yield from self.zone_pcp_disable(zone)
            yield from self.lru_cache_disable()
            ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE, MEMORY_OFFLINE)
            if ret:
                label = "failed_removal_pcplists_disabled"
        if not label and (yield from self.memory_notify("MEM_GOING_OFFLINE", page_range)):
            ret, label = -EBUSY, "failed_removal_isolated"
        while not label:
            ret, label = yield from self.migrate_and_dissolve(page_range)
            if label:
                break
            if (yield from self.test_pages_isolated(page_range, MEMORY_OFFLINE)):
                break
        if not label:
            yield from self.offline_isolated_pages(page_range)
            yield from self.forget_isolated_blocks(page_range)
            yield from self.lru_cache_enable()
            yield from self.zone_pcp_enable(zone)
            yield from self.finish_offlining(page_range)
            yield from self.mem_hotplug_done()
            return 0
        if label == "failed_removal_isolated":
            yield from self.undo_isolate_page_range(page_range, MigrateType.MOVABLE)
            yield from self.memory_notify("MEM_CANCEL_OFFLINE", page_range)
            label = "failed_removal_pcplists_disabled"
        if label == "failed_removal_pcplists_disabled":
            yield from self.failed_removal_pcplists_disabled(zone)
            label = "failed_removal"
        if label == "failed_removal":
            yield from self.mem_hotplug_done()
        return ret

    def failed_removal_pcplists_disabled(self, zone: Zone) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), its label failed_removal_pcplists_disabled: LRU caches stay disabled."""
        yield from self.zone_pcp_enable(zone)
