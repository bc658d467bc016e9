"""v5.10 as released, as its differences from `base` (patches 1 to 6 of the series, undone)."""

from __future__ import annotations

from kernelmodel import ops, page_ops
from kernelmodel.mmzone import EBUSY, MEMORY_OFFLINE, PCPTYPES, MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Routine, add, barrier, read, read_once, write
from kernelmodel.terms import IntTerm
from kernelmodel.versions.base import Base


class V5_10(Base):
    """v5.10: set_migratetype_isolate() drains after each block, pageset_update() has barriers, limits are not cached."""

    name = "v5.10"
    summary = "as released: drains after each isolated block and again in offline_pages()'s loop"

    def set_migratetype_isolate(self, zone: Zone, block: int) -> Routine:
        """mm/page_isolation.c: set_migratetype_isolate(): drains the zone once the block is isolated."""
        isolated = yield from super().set_migratetype_isolate(zone, block)
        if isolated:
            yield from self.drain_all_pages(zone)
        return isolated

    def offline_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(): no drain of its own before the loop; returns 0 or a negative errno."""
        self.check_range(page_range)
        zone = page_range.zone
        yield from self.mem_hotplug_begin()
        ret, label = yield from self.offline_checks(page_range)
        if not label:
            ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE, MEMORY_OFFLINE)
            if ret:
                label = "failed_removal"
        if not label and (yield from self.memory_notify("MEM_GOING_OFFLINE", page_range)):
            ret, label = -EBUSY, "failed_removal_isolated"
        while not label:
            ret, label = yield from self.migrate_and_dissolve(page_range)
            if label:
                break
            if (yield from self.test_pages_isolated(page_range, MEMORY_OFFLINE)):
                break
            yield from self.drain_all_pages(zone)
        if not label:
            yield from self.offline_isolated_pages(page_range)
            yield from self.forget_isolated_blocks(page_range)
            yield from self.finish_offlining(page_range)
            yield from self.mem_hotplug_done()
            return 0
        if label == "failed_removal_isolated":
            yield from self.undo_isolate_page_range(page_range, MigrateType.MOVABLE)
            yield from self.memory_notify("MEM_CANCEL_OFFLINE", page_range)
            label = "failed_removal"
        if label == "failed_removal":
            yield from self.mem_hotplug_done()
        return ret

    def free_unref_page_commit(self, page: Page, migratetype: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_unref_page_commit(): reads pcp->high plainly."""
        zone = page.zone
        if migratetype >= PCPTYPES:
            if migratetype == MigrateType.ISOLATE:
                yield from self.free_one_page(zone, page, migratetype)
                return
            migratetype = int(MigrateType.MOVABLE)
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield add(1, "pcp.count", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        high = yield read("pcp.high", zone.index, cpu)
        if count >= high:
            batch = yield read_once("pcp.batch", zone.index, cpu)
            yield from self.free_pcppages_bulk(zone, batch, cpu)

    def rmqueue_pcplist(self, zone: Zone, migratetype: IntTerm) -> Routine:
        """mm/page_alloc.c: rmqueue_pcplist(), __rmqueue_pcplist(): reads pcp->batch plainly; returns a Page or None."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        page = None
        available = True
        if (yield page_ops.list_empty(self.config, zone, cpu, migratetype)):
            batch = yield read("pcp.batch", zone.index, cpu)
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype)
            yield add(alloced, "pcp.count", zone.index, cpu)
            available = alloced > 0
        if available:
            page = yield page_ops.list_del_first(self.config, zone, cpu, migratetype)
            yield add(-1, "pcp.count", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page

    def pageset_update(self, zone: Zone, cpu: int, high: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: pageset_update(): batch = 1, high, batch, with write barriers between them."""
        yield write(1, "pcp.batch", zone.index, cpu)
        yield barrier("smp_wmb()")
        yield write(high, "pcp.high", zone.index, cpu)
        yield barrier("smp_wmb()")
        yield write(batch, "pcp.batch", zone.index, cpu)

    def zone_set_pageset_high_and_batch(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: pageset_set_high_and_batch() for each possible CPU: computed anew, nothing cached."""
        for cpu in self.for_each_cpu():
            new_high, new_batch = yield from self.zone_new_limits(zone)
            yield from self.pageset_update(zone, cpu, new_high, new_batch)
