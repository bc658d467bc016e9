"""v5.11: `base` plus the patch "mm, page_alloc: disable pcplists during memory offline", function by function."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel.mmzone import EBUSY, MEMORY_OFFLINE, MigrateType, PageRange, Zone
from kernelmodel.ops import Routine, read, write
from kernelmodel.terms import IntTerm
from kernelmodel.versions.base import Base


class V5_11(Base):
    """v5.11: pcplists are disabled before isolation, and drained once without the racy check."""

    name = "v5.11"
    summary = "base plus the patch: zone_pcp_disable() before isolation, zone_pcp_enable() on every exit"
    breaks: ClassVar[tuple[str, ...]] = ()

    def _drain_all_pages(self, zone: Zone | None, force_all_cpus: bool) -> Routine:
        """mm/page_alloc.c: __drain_all_pages(): with ``force_all_cpus`` every online CPU, whatever its count reads."""
        if not (yield from self.drain_lock(zone)):
            return
        for cpu in self.for_each_cpu():
            if (yield read("cpu_online", cpu)):
                if force_all_cpus:
                    has_pcps = True
                elif zone is not None:
                    has_pcps = yield from self.racy_has_pcps(zone, cpu)
                else:
                    has_pcps = yield from self.racy_has_pcps_of_any_zone(cpu)
                yield write(has_pcps, "cpus_with_pcps", cpu)
        yield from self.drain_cpus_with_pcps(zone)
        yield from self.mutex_unlock("pcpu_drain_mutex")

    def drain_all_pages(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: drain_all_pages(): drain every online CPU whose count reads non-zero; all zones for None."""
        yield from self._drain_all_pages(zone, False)

    def set_pageset_high_and_batch(self, zone: Zone, high: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: __zone_set_pageset_high_and_batch(zone, high, batch): every possible CPU."""
        for cpu in self.for_each_cpu():
            yield from self.pageset_update(zone, cpu, high, batch)

    def zone_set_pageset_high_and_batch(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_set_pageset_high_and_batch(zone): computes, caches and applies; nothing if unchanged."""
        new_high, new_batch = yield from self.zone_new_limits(zone)
        if (yield from self.limits_unchanged(zone, new_high, new_batch)):
            return
        yield write(new_high, "zone.pageset_high", zone.index)
        yield write(new_batch, "zone.pageset_batch", zone.index)
        yield from self.set_pageset_high_and_batch(zone, new_high, new_batch)

    def zone_pcp_disable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_disable(): no page stays on a pcplist of ``zone`` until zone_pcp_enable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 1)
        yield from self._drain_all_pages(zone, True)

    def zone_pcp_enable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_enable(): back to the cached limits; an error for whoever has not disabled."""
        high = yield read("zone.pageset_high", zone.index)
        batch = yield read("zone.pageset_batch", zone.index)
        yield from self.set_pageset_high_and_batch(zone, high, batch)
        yield from self.mutex_unlock("pcp_batch_high_lock")

    def get_hwpoison_page(self, zone: Zone) -> Routine:
        """mm/memory-failure.c: get_hwpoison_page(): does *not* take cpus_read_lock(): CPUs may come and go meanwhile."""
        yield from self.zone_pcp_disable(zone)
        yield from self.get_any_page()
        yield from self.zone_pcp_enable(zone)

    def offline_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(); returns 0 or a negative errno.  ``label`` is the C text's goto label."""
        self.check_range(page_range)
        zone = page_range.zone
        yield from self.mem_hotplug_begin()
        ret, label = yield from self.offline_checks(page_range)
        if not label:
            yield from self.zone_pcp_disable(zone)
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
            yield from self.zone_pcp_enable(zone)
            yield from self.finish_offlining(page_range)
            yield from self.mem_hotplug_done()
            return 0
        if label == "failed_removal_isolated":
            yield from self.undo_isolate_page_range(page_range, MigrateType.MOVABLE)
            yield from self.memory_notify("MEM_CANCEL_OFFLINE", page_range)
            label = "failed_removal_pcplists_disabled"
        if label == "failed_removal_pcplists_disabled":
            yield from self.zone_pcp_enable(zone)
            label = "failed_removal"
        if label == "failed_removal":
            yield from self.mem_hotplug_done()
        return ret
