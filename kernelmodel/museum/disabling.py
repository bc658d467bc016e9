"""How pcplists could be disabled: the counter of v1, limits that are not 0, and isolation without disabling."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel import ops, page_ops
from kernelmodel.cells import value
from kernelmodel.mmzone import EBUSY, MEMORY_OFFLINE, MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Kind, Op, Routine, read
from kernelmodel.schema import CellKind
from kernelmodel.terms import Cell
from kernelmodel.versions.v5_11 import V5_11
from kernelmodel.versions.v5_15 import V5_15


class AtomicCounter(V5_11):
    """v1 of the patch: a counter of users says who disables and who enables; nobody keeps the mutex."""

    name = "atomic-counter"
    summary = "v1 of the patch, Sept 2020: zone->pcplist_disabled counts users, the second of which does not wait for the first"
    cells: ClassVar[tuple[tuple[str, CellKind], ...]] = (
        (
            "zone.pcplist_disabled",
            CellKind(axes=("zone",), c="zone->pcplist_disabled", meaning="how many have disabled the zone's pcplists"),
        ),
    )

    def zone_pcp_disable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_disable(): only who comes first sets the limits and drains."""
        if (yield _counted(zone, 1)) == 1:
            yield from self.set_pageset_high_and_batch(zone, 0, 1)
            yield from self._drain_all_pages(zone, True)

    def zone_pcp_enable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_enable(): who goes last sets the old limits."""
        if (yield _counted(zone, -1)) == 0:
            high = yield read("zone.pageset_high", zone.index)
            batch = yield read("zone.pageset_batch", zone.index)
            yield from self.set_pageset_high_and_batch(zone, high, batch)


def _counted(zone: Zone, change: int) -> Op:
    users = value("zone.pcplist_disabled", zone.index) + change
    call = "atomic_inc_return" if change > 0 else "atomic_dec_return"
    return Op(
        f"{call}(&zone->pcplist_disabled)", Kind.RMW, returns=(users,),
        updates=((Cell("zone.pcplist_disabled", (zone.index,)), users),),
    )  # fmt: skip


class HighOne(V5_11):
    """A 2014 proposal: the limit is 1, not 0.  As long as a flush takes ``batch`` pages, that is as good."""

    name = "high-one"
    summary = (
        "proposed in 2014: zone_pcp_disable() sets high to 1 instead of 0; right as long as a flush takes batch pages"
    )

    def zone_pcp_disable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_disable(), with high 1."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 1, 1)
        yield from self._drain_all_pages(zone, True)


class HighOneLater(V5_15):
    """The same where nr_pcp_free() says how many pages a flush takes: none at all, for high - batch is 0."""

    name = "high-one-v5.15"
    summary = "the same on v5.15, whose nr_pcp_free() then frees high - batch pages: none"

    def zone_pcp_disable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_disable(), with high 1."""
        yield from HighOne.zone_pcp_disable(self, zone)  # type: ignore[arg-type]


class IsolateOnly(V5_11):
    """offline_pages() of the designs that disable nothing for as long as it lasts."""

    def offline_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(): isolates, maybe drains once, and tests until the range is free."""
        self.check_range(page_range)
        yield from self.mem_hotplug_begin()
        ret, label = yield from self.offline_checks(page_range)
        if not label:
            ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE, MEMORY_OFFLINE)
            if ret:
                label = "failed_removal"
        if not label:
            yield from self.once_isolated(page_range.zone)
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

    def once_isolated(self, zone: Zone) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), between isolation and the notifier: one drain of all CPUs."""
        yield from self._drain_all_pages(zone, True)


class TypeReadInside(IsolateOnly):
    """Proposed on 10 September 2020: the type is read with interrupts off; isolate, drain every CPU once, disable nothing."""

    name = "type-read-inside"
    summary = (
        "proposed on 10 Sept 2020: type read with interrupts off, then isolate and drain all CPUs once; no disable"
    )

    def free_unref_page(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page(), whose type cannot go stale before it is used."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        migratetype = yield page_ops.store_migratetype(self.config, page)
        yield from self.free_unref_page_commit(page, migratetype, cpu)
        yield ops.local_irq_restore(cpu)


class DrainOnce(IsolateOnly):
    """Up to v5.9-rc4: the same, with the type read while interrupts are on."""

    name = "drain-once"
    summary = (
        "v5.9-rc4 and before (968318261221): type read with interrupts on, isolate, drain once; offlining may never end"
    )


class DisableInside(IsolateOnly):
    """A 2014 series: start_isolate_page_range() disables pcplists, and enables them before the range is tested."""

    name = "disable-inside-isolation"
    summary = "proposed in 2014: pcplists are disabled inside start_isolate_page_range() only"

    def start_isolate_page_range(self, page_range: PageRange, migratetype: MigrateType, flags: int) -> Routine:
        """mm/page_isolation.c: start_isolate_page_range(): pcplists are off while blocks change their type."""
        yield from self.disable_for_isolation(page_range.zone)
        ret = yield from V5_11.start_isolate_page_range(self, page_range, migratetype, flags)
        yield from self.enable_after_isolation(page_range.zone)
        return ret

    def disable_for_isolation(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: what zone_pcp_disable() does, for the time of isolation."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 1)
        yield from self._drain_all_pages(zone, True)

    def enable_after_isolation(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: what zone_pcp_enable() does."""
        high = yield read("zone.pageset_high", zone.index)
        batch = yield read("zone.pageset_batch", zone.index)
        yield from self.set_pageset_high_and_batch(zone, high, batch)
        yield from self.mutex_unlock("pcp_batch_high_lock")

    def once_isolated(self, zone: Zone) -> Routine:
        """mm/memory_hotplug.c: offline_pages(): no drain of its own."""
        del zone
        return
        yield


class DisableInsideDrained(DisableInside):
    """The same with one synchronous drain of all CPUs before start_isolate_page_range() returns.

    Whoever has read the type by then, with interrupts on, is not waited for.
    """

    name = "disable-inside-isolation-drained"
    summary = "proposed in 2014: the same, and one drain of all CPUs once the range is isolated"

    def enable_after_isolation(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: drains before it does what zone_pcp_enable() does."""
        yield from self._drain_all_pages(zone, True)
        yield from super().enable_after_isolation(zone)


class DisableInsideTypeInside(DisableInsideDrained):
    """The same with the type read while interrupts are off."""

    name = "disable-inside-isolation-type-inside"
    summary = "proposed in 2014: the same, with the drain, and the type read with interrupts off"

    def free_unref_page(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page(), whose type cannot go stale before it is used."""
        yield from TypeReadInside.free_unref_page(self, page)  # type: ignore[arg-type]
