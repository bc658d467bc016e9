"""mm/memory_hotplug.c as `base` has it: drain once after isolation, and again whenever pages are found not isolated."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel import isolation_ops, ops
from kernelmodel.cells import value
from kernelmodel.does import Does
from kernelmodel.errors import BugError, ModelError
from kernelmodel.memory.state import Place, State
from kernelmodel.mm.page_isolation import PageIsolation
from kernelmodel.mmzone import EBUSY, EINTR, EINVAL, MEMORY_OFFLINE, MigrateType, Page, PageRange
from kernelmodel.ops import Effect, Kind, Op, Routine, read
from kernelmodel.terms import FALSE, Cell, Term, choice, const, implies, ite, land, lift, lnot, lor
from kernelmodel.told import Told

_SCANS = Does(scans=True)
_RANGE = "Whether the range can be offlined at all: decided from outside."
_NOTIFY = "The drivers are told; whether one objects is decided from outside."
_SIGNAL = "Whether a signal wants this to stop: decided from outside."
_SCAN = "Whether the scan found something unmovable: decided from outside."
_DISSOLVE = "Whether free huge pages could be dissolved: decided from outside."


class MemoryHotplug(PageIsolation):
    """Memory offlining and onlining."""

    def offline_pages(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(); returns 0 or a negative errno.  ``label`` is the C text's goto label."""
        self.check_range(page_range)
        zone = page_range.zone
        yield from self.mem_hotplug_begin()
        ret, label = yield from self.offline_checks(page_range)
        if not label:
            ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE, MEMORY_OFFLINE)
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
        invalid = yield ops.environment("range_invalid", "walk_system_ram_range(), test_pages_in_a_zone()", _RANGE)
        return (-EINVAL, "failed_removal") if invalid else (0, "")

    def memory_notify(self, event: str, page_range: PageRange) -> Routine:
        """drivers/base/memory.c: memory_notify(); returns whether a notifier refused (only MEM_GOING_OFFLINE may)."""
        del page_range
        if event == "MEM_GOING_OFFLINE":
            return (yield ops.environment("notifier_fails", f"memory_notify({event})", _NOTIFY))
        yield ops.happens(f"memory_notify({event})")
        return False

    def migrate_and_dissolve(self, page_range: PageRange) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), the body of its loop but the test; returns (errno, goto label)."""
        while True:
            if (yield ops.environment("signal", "signal_pending(current)", _SIGNAL, None)):
                return -EINTR, "failed_removal_isolated"
            found, page = yield self.scan_movable_pages(page_range)
            if not found:
                break
            yield from self.do_migrate_range(page)
        if (yield ops.environment("scan_fails", "scan_movable_pages() != -ENOENT", _SCAN, None)):
            return -EBUSY, "failed_removal_isolated"
        if (yield ops.environment("dissolve_fails", "dissolve_free_huge_pages()", _DISSOLVE)):
            return -EBUSY, "failed_removal_isolated"
        return 0, ""

    def scan_movable_pages(self, page_range: PageRange) -> Op:
        """mm/memory_hotplug.c: scan_movable_pages(): a page in use in the range, with another page to take its content.

        Pages on their way to being free are not on an LRU list: not found.  Returns (found, page).
        """
        found, block = choice("found", "bool"), choice("block")
        if self.migrates:
            inside = lor(*(block == b for b in page_range.blocks))
            used = land(*(implies(block == b, value("in_use", b) > 0) for b in page_range.blocks))
            returns, where = (found, block), land(inside, implies(found, used))
        else:
            returns, where = (FALSE, block), land(lnot(found), block == page_range.first)

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            first = [b for b in page_range.blocks if b == wanted.get("block")]
            for b in (*first, *(b for b in page_range.blocks if b not in first)):
                for pfn in state.pfns(b):
                    movable = state.place[pfn] is Place.IN_USE and pfn not in state.order_in_use
                    if movable and wanted.get("found", True) and not state.inside_compound(pfn):
                        return Effect({"found": True, "block": b}, pfn)
            return Effect({"found": False, "block": page_range.first})

        return Op(
            "scan_movable_pages()",
            Kind.LOCAL,
            returns=returns,
            choices=(found, block),
            where=where,
            effect=effect,
            pack=lambda values, pfn: (
                values[0],
                Page(-1 if pfn is None else pfn, values[1], page_range.zone),
            ),
            told=Told(why="Looks for pages of the range that are still in use.", value="found"),
            does=_SCANS,
            tag="scan_movable_pages",
        )

    def do_migrate_range(self, page: Page) -> Routine:
        """mm/memory_hotplug.c: do_migrate_range(), of one page: isolated from its LRU list, migrated or put back."""
        if not (yield self.isolate_lru_page(page)):
            return
        target = yield from self.alloc_migration_target(page)
        if target is None:
            yield self.putback_movable_pages(page)
        else:
            yield from self.migrate_pages(page, target)

    def isolate_lru_page(self, page: Page) -> Op:
        """mm/vmscan.c: isolate_lru_page(): takes a reference; returns whether the page was still in use, on its list."""
        isolated = choice("isolated", "bool")
        used = land(*(implies(lift(page.block) == b, value("in_use", b) > 0) for b in self.config.blocks_of(page.zone)))

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            done = state.place[page.pfn] is Place.IN_USE and bool(wanted.get("isolated", True))
            if done:
                state.place[page.pfn] = Place.FREEING
            return Effect({"isolated": done})

        return Op(
            "isolate_lru_page(page)",
            Kind.RMW,
            returns=(isolated,),
            choices=(isolated,),
            where=implies(isolated, used),
            updates=self._less_in_use(page, ite(isolated, 1, 0)),
            effect=effect,
            does=Does(bounded_by="migrations"),
            tag="migrate",
        )

    def _less_in_use(self, page: Page, pages: Term) -> tuple[tuple[Cell, Term], ...]:
        blocks = self.config.blocks_of(page.zone)
        return tuple((Cell("in_use", (b,)), value("in_use", b) - ite(lift(page.block) == b, pages, 0)) for b in blocks)

    def alloc_migration_target(self, page: Page) -> Routine:
        """mm/migrate.c: alloc_migration_target(): another page, from the pcplist of the CPU it runs on, or None."""
        return (yield from self.rmqueue_pcplist(page.zone, int(MigrateType.MOVABLE)))

    def putback_movable_pages(self, page: Page) -> Op:
        """mm/migrate.c: putback_movable_pages(): an isolated page goes back to its LRU list, in use as before."""

        def effect(state: State, _: Mapping[str, int]) -> Effect:
            _insist_on_isolated(state, page, "putback_movable_pages()")
            state.place[page.pfn] = Place.IN_USE
            return Effect()

        return Op(
            "putback_movable_pages()", Kind.RMW, updates=self._less_in_use(page, const(-1)), effect=effect, tag="putback",
        )  # fmt: skip

    def migrate_pages(self, page: Page, target: Page) -> Routine:
        """mm/migrate.c: migrate_pages() of an isolated page: it is freed, or the new one where the content stays."""
        unused = yield self.unmap_and_move(page, target)
        yield from self.free_unref_page(unused)

    def unmap_and_move(self, page: Page, target: Page) -> Op:
        """mm/migrate.c: unmap_and_move(); returns the page to which nobody else refers any more: it is to be freed.

        That is the old one if the content has moved; if not (-EAGAIN, -EBUSY), that is put back, and it is the new one.
        """
        moved = choice("moved", "bool")

        def change(b: int) -> Term:
            back = ite(lift(page.block) == b, 1, 0) - ite(lift(target.block) == b, 1, 0)
            return ite(moved, 0, back)

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            _insist_on_isolated(state, page, "unmap_and_move()")
            done = bool(wanted.get("moved", True))
            if not done:
                state.place[page.pfn], state.place[target.pfn] = Place.IN_USE, Place.FREEING
            return Effect({"moved": done}, page.pfn if done else target.pfn)

        return Op(
            "unmap_and_move()",
            Kind.RMW,
            returns=(ite(moved, page.block, target.block),),
            choices=(moved,),
            pack=lambda values, pfn: Page(-1 if pfn is None else pfn, values[0], page.zone),
            updates=tuple(
                (Cell("in_use", (b,)), value("in_use", b) + change(b)) for b in self.config.blocks_of(page.zone)
            ),
            effect=effect,
            told=Told(moves=True),
            tag="unmap_and_move",
        )

    def offline_isolated_pages(self, page_range: PageRange) -> Routine:
        """mm/page_alloc.c: __offline_isolated_pages(): the range's free pages leave the buddy.

        Pages that memory_failure() has marked are passed over; one on a pcplist stays there.
        """
        yield isolation_ops.remove_range(page_range, self.poisons)

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
        return (yield ops.environment("notifier_fails", "memory_notify(MEM_GOING_ONLINE)", _NOTIFY))

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
            isolation_ops.all_are(state, page_range, Place.OFFLINE)
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
            told=Told(moves=True),
            tag="online",
        )


def _insist_on_isolated(state: State, page: Page, who: str) -> None:
    if state.place[page.pfn] is not Place.FREEING:
        raise BugError(f"{who} of page {page.pfn}, which is {state.place[page.pfn].value}: isolate_lru_page() it first")
