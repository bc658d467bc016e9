"""v5.10 as released, as its differences from `base` (patches 1 to 6 of the series, undone)."""

from __future__ import annotations

from kernelmodel.base import Base
from kernelmodel.mmzone import MigrateType, PageRange, Zone
from kernelmodel.ops import Routine, barrier, write, write_once
from kernelmodel.terms import IntTerm


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

    def isolate_for_offlining(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), the call of start_isolate_page_range(): no drain of its own."""
        ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE)
        return (ret, "failed_removal") if ret else (0, "")

    def pageset_update(self, zone: Zone, cpu: int, high: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: pageset_update(): batch = 1, high, batch, with write barriers between them."""
        yield write(1, "pcp.batch", zone.index, cpu)
        yield barrier("smp_wmb()")
        yield write_once(high, "pcp.high", zone.index, cpu)
        yield barrier("smp_wmb()")
        yield write(batch, "pcp.batch", zone.index, cpu)

    def zone_set_pageset_high_and_batch(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: pageset_set_high_and_batch() for each possible CPU: computed anew, nothing cached."""
        for cpu in self.for_each_cpu():
            new_high, new_batch = yield from self.zone_new_limits(zone)
            yield from self.pageset_update(zone, cpu, new_high, new_batch)
