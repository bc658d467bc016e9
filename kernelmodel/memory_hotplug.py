"""mm/memory_hotplug.c as `base` has it: drain once after isolation, and again whenever pages are found not isolated."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel import ops
from kernelmodel.cells import value
from kernelmodel.errors import BugError, ModelError
from kernelmodel.mmzone import EBUSY, EINTR, EINVAL, MigrateType, Page, PageRange
from kernelmodel.ops import Effect, Kind, Op, Routine, read
from kernelmodel.page_isolation import PageIsolation
from kernelmodel.state import Place, State
from kernelmodel.terms import Cell, choice, const, implies, ite, land, lift, lor, total


class MemoryHotplug(PageIsolation):
    """Memory offlining and onlining."""

    def offline_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(); returns 0 or a negative errno.  ``label`` is the C text's goto label."""
        self.check_range(page_range)
        zone = page_range.zone
        yield from self.mem_hotplug_begin()
        ret, label = yield from self.offline_checks(page_range)
        if not label:
            ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE)
            if ret:
                label = "failed_removal"
        if not label:
            yield from self.drain_all_pages(zone)
        if not label and (yield from self.memory_notify("MEM_GOING_OFFLINE", page_range)):
            ret, label = -EBUSY, "failed_removal_isolated"
        while not label:
            ret, label = yield from self.migrate_and_dissolve(page_range)
            if label:
                break
            if (yield from self.test_pages_isolated(page_range)):
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

    def check_range(self, page_range: PageRange) -> None:
        """mm/memory_hotplug.c: check_hotplug_memory_range(): refuse a range that is not within its zone."""
        blocks = self.config.blocks_of(page_range.zone)
        if not all(b in blocks for b in page_range.blocks):
            raise ModelError(
                f"range {page_range.first}..{page_range.last} is not in zone {page_range.zone.index}, which has "
                f"blocks {blocks[0]} to {blocks[-1]}"
            )

    def mem_hotplug_begin(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_begin(): no CPU and no other memory hotplug until mem_hotplug_done()."""
        yield from self.cpus_read_lock()
        yield from self.mutex_lock("mem_hotplug_lock")

    def mem_hotplug_done(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_done()."""
        yield from self.mutex_unlock("mem_hotplug_lock")
        yield from self.cpus_read_unlock()

    def offline_checks(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), the checks for holes and for one zone; returns (errno, goto label)."""
        del page_range
        invalid = yield ops.environment("range_invalid", "walk_system_ram_range(), test_pages_in_a_zone()")
        return (-EINVAL, "failed_removal") if invalid else (0, "")

    def memory_notify(self, event: str, page_range: PageRange) -> Routine:
        """drivers/base/memory.c: memory_notify(); returns whether a notifier refused (only MEM_GOING_OFFLINE may)."""
        del page_range
        if event == "MEM_GOING_OFFLINE":
            return (yield ops.environment("notifier_fails", f"memory_notify({event})"))
        yield ops.happens(f"memory_notify({event})")
        return False

    def migrate_and_dissolve(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), the body of its loop but the test; returns (errno, goto label)."""
        while True:
            if (yield ops.environment("signal", "signal_pending(current)")):
                return -EINTR, "failed_removal_isolated"
            found, page = yield self.scan_movable_pages(page_range)
            if not found:
                break
            yield from self.do_migrate_range(page)
        if (yield ops.environment("scan_fails", "scan_movable_pages() != -ENOENT")):
            return -EBUSY, "failed_removal_isolated"
        if (yield ops.environment("dissolve_fails", "dissolve_free_huge_pages()")):
            return -EBUSY, "failed_removal_isolated"
        return 0, ""

    def scan_movable_pages(self, page_range: PageRange) -> Op:
        """mm/memory_hotplug.c: scan_movable_pages(): a page in use in the range, with another page to take its content.

        Pages on their way to being free are not on an LRU list: not found.  Returns (found, page).
        """
        found, block = choice("found", "bool"), choice("block")
        inside = lor(*(block == b for b in page_range.blocks))
        held = land(*(implies(block == b, value("held", b) > 0) for b in page_range.blocks))

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            for b in page_range.blocks:
                for pfn in state.pfns(b):
                    movable = state.place[pfn] is Place.IN_USE and pfn not in state.order_in_use
                    if movable and wanted.get("found", True) and not _inside_compound(state, pfn):
                        return Effect({"found": True, "block": b}, pfn)
            return Effect({"found": False, "block": page_range.first})

        return Op(
            "scan_movable_pages()",
            Kind.LOCAL,
            returns=(found, block),
            choices=(found, block),
            where=land(inside, implies(found, held)),
            effect=effect,
            pack=lambda values, pfn: (
                values[0],
                Page(-1 if pfn is None else pfn, values[1], page_range.zone),
            ),
            tag="scan_movable_pages",
        )

    def do_migrate_range(self, page: Page) -> Routine:
        """mm/memory_hotplug.c: do_migrate_range(): the content moves to a page elsewhere, the old page is freed."""
        moved = yield self.migrate_page(page)
        if moved:
            yield from self.free_unref_page(page)

    def migrate_page(self, page: Page) -> Op:
        """mm/migrate.c: migrate_pages() of one page: a new page outside, the old one loses its last reference."""
        blocks = list(self.config.blocks_of(page.zone))
        moved = choice("moved", "bool")
        to = {b: choice(f"to{b}") for b in blocks}
        isolated = {b: value("pageblock.migratetype", b) == MigrateType.ISOLATE for b in blocks}
        where = land(
            *(land(n >= 0, implies(isolated[b], n <= value("misplaced", b))) for b, n in to.items()),
            total(to.values()) == ite(moved, 1, 0),
        )

        def effect(state: State, _: Mapping[str, int]) -> Effect:
            new = state.take_from_buddy(page.zone, 0, MigrateType.MOVABLE)
            made = {f"to{b}": 0 for b in blocks} | {"moved": new is not None}
            if new is not None:
                state.place[new] = Place.IN_USE
                state.place[page.pfn] = Place.FREEING
                made[f"to{state.block_of(new)}"] = 1
            return Effect(made)

        return Op(
            "migrate_pages()",
            Kind.CRITICAL,
            returns=(moved,),
            choices=(moved, *to.values()),
            where=where,
            updates=(
                *((Cell("held", (b,)), value("held", b) + n) for b, n in to.items()),
                *(
                    (Cell("in_use", (b,)), value("in_use", b) + n - ite(land(moved, lift(page.block) == b), 1, 0))
                    for b, n in to.items()
                ),
                *((Cell("free", (b,)), value("free", b) - n) for b, n in to.items()),
                *((Cell("misplaced", (b,)), value("misplaced", b) - ite(isolated[b], n, 0)) for b, n in to.items()),
            ),
            effect=effect,
            tag="migrate",
        )

    def offline_isolated_pages(self, page_range: PageRange) -> Routine:
        """mm/page_alloc.c: __offline_isolated_pages(): the range's free pages leave the buddy."""

        def effect(state: State, _: Mapping[str, int]) -> Effect:
            zone = page_range.zone
            _all_are(state, page_range, Place.BUDDY)
            for b in page_range.blocks:
                state.buddy(zone).remove_block(b - state.config.blocks_of(zone)[0])
                for pfn in state.pfns(b):
                    state.place[pfn] = Place.OFFLINE
            return Effect()

        yield Op(
            "spin_lock(&zone->lock): del_page_from_free_list()",
            Kind.CRITICAL,
            updates=tuple(
                (Cell(name, (b,)), const(new))
                for b in page_range.blocks
                for name, new in (("block_offline", True), ("free", 0), ("misplaced", 0))
            ),
            effect=effect,
            tag="offline",
        )

    def forget_isolated_blocks(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(): ``zone->nr_isolate_pageblock -= …`` under zone->lock."""
        z = page_range.zone.index
        nr = value("zone.nr_isolate_pageblock", z)
        yield Op(
            "spin_lock(&zone->lock): zone->nr_isolate_pageblock -= {0}",
            Kind.CRITICAL,
            updates=((Cell("zone.nr_isolate_pageblock", (z,)), nr - len(page_range.blocks)),),
            shown=(lift(len(page_range.blocks)),),
        )

    def finish_offlining(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), from adjust_managed_page_count() to memory_notify(MEM_OFFLINE)."""
        zone = page_range.zone
        pages = len(page_range.blocks) * self.config.pages_per_block
        yield ops.add(-pages, "zone.managed_pages", zone.index)
        yield ops.add(-pages, "zone.present_pages", zone.index)
        present = yield read("zone.present_pages", zone.index)
        if present == 0:
            yield from self.zone_pcp_reset(zone)
        else:
            yield from self.zone_pcp_update(zone)
        yield from self.memory_notify("MEM_OFFLINE", page_range)

    def online_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: online_pages() of a range that is offline (its blocks ISOLATE)."""
        self.check_range(page_range)
        zone = page_range.zone
        yield from self.mem_hotplug_begin()
        yield from self.move_pfn_range_to_zone(page_range)
        if (yield from self.memory_notify_online(page_range)):
            yield from self.mem_hotplug_done()
            return -EBUSY
        yield from self.count_isolated_blocks(page_range)
        present = yield read("zone.present_pages", zone.index)
        if present == 0:
            yield from self.setup_zone_pageset(zone)
        yield from self.online_pages_range(page_range)
        pages = len(page_range.blocks) * self.config.pages_per_block
        yield ops.add(pages, "zone.managed_pages", zone.index)
        yield ops.add(pages, "zone.present_pages", zone.index)
        yield from self.zone_pcp_update(zone)
        yield from self.undo_isolate_page_range(page_range, MigrateType.MOVABLE)
        yield from self.memory_notify("MEM_ONLINE", page_range)
        yield from self.mem_hotplug_done()
        return 0

    def memory_notify_online(self, page_range: PageRange) -> Routine:
        """drivers/base/memory.c: memory_notify(MEM_GOING_ONLINE); returns whether a notifier refused."""
        del page_range
        return (yield ops.environment("notifier_fails", "memory_notify(MEM_GOING_ONLINE)"))

    def move_pfn_range_to_zone(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: move_pfn_range_to_zone(): the pageblocks are ISOLATE, and not counted as that yet."""
        yield Op(
            "move_pfn_range_to_zone(MIGRATE_ISOLATE)",
            updates=tuple(
                (Cell("pageblock.migratetype", (b,)), const(int(MigrateType.ISOLATE))) for b in page_range.blocks
            ),
        )

    def count_isolated_blocks(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: online_pages(): ``zone->nr_isolate_pageblock += …`` under zone->lock."""
        z = page_range.zone.index
        nr = value("zone.nr_isolate_pageblock", z)
        yield Op(
            "spin_lock(&zone->lock): zone->nr_isolate_pageblock += {0}",
            Kind.CRITICAL,
            updates=((Cell("zone.nr_isolate_pageblock", (z,)), nr + len(page_range.blocks)),),
            shown=(lift(len(page_range.blocks)),),
        )

    def online_pages_range(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: online_pages_range(): the range's pages enter the buddy, on the ISOLATE free lists."""

        def effect(state: State, _: Mapping[str, int]) -> Effect:
            _all_are(state, page_range, Place.OFFLINE)
            for b in page_range.blocks:
                state.online_block(b)
            return Effect()

        yield Op(
            "online_pages_range()",
            Kind.CRITICAL,
            updates=tuple(
                u
                for b in page_range.blocks
                for u in (
                    (Cell("block_offline", (b,)), const(False)),
                    (Cell("free", (b,)), const(self.config.pages_per_block)),
                )
            ),
            effect=effect,
            tag="online",
        )


def _all_are(state: State, page_range: PageRange, place: Place) -> None:
    for pfn in (p for b in page_range.blocks for p in state.pfns(b)):
        if state.place[pfn] is not place:
            raise BugError(f"page {pfn} of the range is {state.place[pfn].value}, not {place.value}")


def _inside_compound(state: State, pfn: int) -> bool:
    return any(head <= pfn < head + (1 << order) for head, order in state.order_in_use.items())
