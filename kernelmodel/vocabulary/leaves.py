"""Leaves: what a C function does that is not read but summed up, where the kernel's own routine has other parameters."""

from __future__ import annotations

from typing import Any

from kernelmodel import ops, page_ops
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import EBUSY, Zone
from kernelmodel.ops import Routine
from kernelmodel.text import KernelText
from kernelmodel.versions.v6_0 import V6_0
from kernelmodel.versions.v6_8 import V6_8
from kernelmodel.vocabulary.values import Drain, First, Limits, Pages, Pcp, PerCpu, Pfn, at_cpu, pages, range_of

ENOENT = 2
_SCAN = "scan_movable_pages() fails on a page that is known to be unmovable: decided from outside."
_DISSOLVE = "Whether a free huge page cannot be dissolved: decided from outside."


class Leaves(KernelText):
    """C functions and macros of :mod:`kernelmodel.vocabulary` that take steps."""

    # --- the critical section: mm/page_alloc.c has macros for it ---

    def c_pcp_spin_trylock(self, pagesets: PerCpu) -> Routine:
        """mm/page_alloc.c: pcp_spin_trylock(): pinned, with interrupts as they are; a pcp, or None if it is taken."""
        cpu = yield from V6_8.pcp_spin_trylock(self, pagesets.zone)  # type: ignore[arg-type]
        return Pcp(pagesets.zone, cpu) if cpu >= 0 else None

    def c_pcp_spin_unlock(self, pcp: Pcp) -> Routine:
        """mm/page_alloc.c: pcp_spin_unlock()."""
        yield from V6_8.pcp_spin_unlock(self, pcp.zone, pcp.cpu)  # type: ignore[arg-type]

    def c_pcp_spin_trylock_irqsave(self, pagesets: PerCpu) -> Routine:
        """mm/page_alloc.c: pcp_spin_trylock_irqsave()."""
        cpu = yield from V6_0.pcp_spin_trylock(self, pagesets.zone)  # type: ignore[arg-type]
        return Pcp(pagesets.zone, cpu) if cpu >= 0 else None

    def c_pcp_spin_unlock_irqrestore(self, pcp: Pcp) -> Routine:
        """mm/page_alloc.c: pcp_spin_unlock_irqrestore()."""
        yield from V6_0.pcp_spin_unlock(self, pcp.zone, pcp.cpu)  # type: ignore[arg-type]

    def c_pin(self) -> Routine:
        """include/linux/preempt.h: preempt_disable(), of a caller."""
        yield ops.preempt_disable()

    def c_unpin(self) -> Routine:
        """include/linux/preempt.h: preempt_enable(), of a caller."""
        yield ops.preempt_enable()

    # --- which CPU ---

    def c_this_cpu_ptr(self, variable: Any) -> Routine:
        """include/linux/percpu-defs.h: this_cpu_ptr(): of the CPU it runs on."""
        cpu = yield ops.smp_processor_id()
        return at_cpu(variable, cpu)

    # --- the work item that drains ---

    def c_queue_work_on(self, cpu: int, queue: str, work: Drain) -> Routine:
        """kernel/workqueue.c: queue_work_on(); ModelError for another CPU's item."""
        del queue
        if work != Drain(cpu):
            raise ModelError(f"queue_work_on({cpu}) of {work!r}, which is not that CPU's drain")
        yield from self.queue_work_on(cpu)

    def c_flush_work(self, work: Drain) -> Routine:
        """kernel/workqueue.c: flush_work()."""
        yield from self.flush_work(work.cpu)

    def c_zone_at(self, index: Any) -> Routine:
        """The zone that a drain's work item has; None for all."""
        yield from ()
        for zone in self.config.zones:
            if index == zone.index:
                return zone
        return None

    # --- lists ---

    def c_list_del(self, entry: Any) -> Routine:
        """include/linux/list.h: list_del() of the page that list_first_entry() has found; returns (None, the page)."""
        if not isinstance(entry, First):
            raise ModelError("list_del() of a page that list_first_entry() has not just found")
        pcp = entry.list.pcp
        page = yield page_ops.list_del_first(self.config, pcp.zone, pcp.cpu, entry.list.type)
        return None, page

    # --- limits ---

    def c_zone_batchsize(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_batchsize(), with what zone_highsize() will return: the zone's size decides both."""
        limits = yield from self.zone_new_limits(zone)  # type: ignore[attr-defined]
        return Limits(limits[-1], limits[0], limits[-2])

    def c_zone_highsize(self, batch: Any, high_fraction: Any = 0) -> Any:
        """mm/page_alloc.c: zone_highsize(), of a batch that is the zone's; the least fraction gives the greatest high."""
        if not isinstance(batch, Limits):
            raise ModelError("zone_highsize() of a batch that is not zone_batchsize()'s")
        return batch.high_max if isinstance(high_fraction, str) else batch.high

    def c_pageset_set_high_and_batch(self, zone: Zone, pcp: Pcp) -> Routine:
        """mm/page_alloc.c: pageset_set_high_and_batch(): the zone's size and a setting decide: any limits."""
        high, batch = yield from self.zone_new_limits(zone)  # type: ignore[attr-defined]
        yield from self.pageset_update(zone, pcp.cpu, high, batch)  # type: ignore[attr-defined]

    def c_init_per_zone_wmark_min(self) -> Routine:
        """mm/page_alloc.c: init_per_zone_wmark_min(), setup_per_zone_wmarks(): the limits of every zone."""
        for zone in self.config.zones:
            yield from self.zone_pcp_update(zone)  # type: ignore[attr-defined]

    # --- memory hotplug ---

    def c_adjust(self, cell: str, where: Pfn | Zone, number_of: Pages) -> Routine:
        """mm/memory_hotplug.c: adjust_present_page_count(), mm/page_alloc.c: adjust_managed_page_count()."""
        zone = where if isinstance(where, Zone) else where.zone
        yield ops.add(pages(number_of, self.config), cell, zone.index)

    def c_test_pages_in_a_zone(self, start: Pfn, end: Pfn) -> Routine:
        """mm/memory_hotplug.c: test_pages_in_a_zone(): the zone, or NULL where pages are of another."""
        if (yield ops.environment("several_zones", "test_pages_in_a_zone()", "Decided from outside.", None)):
            return None
        return range_of(start, end).zone

    def c_memory_notify(self, event: str, arg: Any) -> Routine:
        """drivers/base/memory.c: memory_notify(): of the pages that ``arg`` tells."""
        start = arg.get("start_pfn")
        return (yield from self.memory_notify(event, start.range))  # type: ignore[attr-defined]

    def c_scan_movable_pages(self, start: Pfn, end: Pfn) -> Routine:
        """mm/memory_hotplug.c: scan_movable_pages(): (0, where), or -ENOENT, or -EBUSY for a page that stays."""
        page_range = range_of(start, end)
        found, page = yield self.scan_movable_pages(page_range)  # type: ignore[attr-defined]
        if found:
            return 0, Pfn(page_range, page=page)
        if (yield ops.environment("scan_fails", "scan_movable_pages() != -ENOENT", _SCAN, None)):
            return -EBUSY, Pfn(page_range)
        return -ENOENT, Pfn(page_range)

    def c_dissolve_range(self) -> Routine:
        """mm/hugetlb.c: dissolve_free_huge_pages()."""
        if (yield ops.environment("dissolve_fails", "dissolve_free_huge_pages()", _DISSOLVE)):
            return -EBUSY
        return 0

    def c_test_pages_isolated(self, start: Pfn, end: Pfn, flags: int) -> Routine:
        """mm/page_isolation.c: test_pages_isolated(): 0 or -EBUSY."""
        isolated = yield from self.test_pages_isolated(range_of(start, end), flags)  # type: ignore[attr-defined]
        return 0 if isolated else -EBUSY

    def c_offline_isolated_pages(self, start: Pfn, end: Pfn) -> Routine:
        """mm/page_alloc.c: __offline_isolated_pages(): returns how many."""
        page_range = range_of(start, end)
        yield from self.offline_isolated_pages(page_range)  # type: ignore[attr-defined]
        return Pages(page_range)
