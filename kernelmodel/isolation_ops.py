"""Operations of page isolation: each the critical section of zone->lock of one function of mm/page_isolation.c."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel.cells import pages_of_block_on_pcplists, value
from kernelmodel.config import Config
from kernelmodel.does import Does
from kernelmodel.errors import BugError
from kernelmodel.memory.state import Place, State
from kernelmodel.mmzone import MEMORY_OFFLINE, MigrateType, PageRange, Zone
from kernelmodel.ops import Effect, Kind, Op
from kernelmodel.terms import TRUE, Cell, choice, implies, ite, land, lift, lnot
from kernelmodel.told import Told

ISOLATE = MigrateType.ISOLATE


def isolate_block(config: Config, zone: Zone, block: int) -> Op:
    """The critical section of set_migratetype_isolate(); returns whether it succeeded (else -EBUSY)."""
    z = zone.index
    unmovable = choice("unmovable", "bool")
    old = value("pageblock.migratetype", block)
    done = land(lnot(old == ISOLATE), lnot(unmovable))
    nr = value("zone.nr_isolate_pageblock", z)

    def effect(state: State, wanted: Mapping[str, int]) -> Effect:
        has_unmovable = bool(wanted.get("unmovable", False)) or (
            state.block_type(block) != MigrateType.MOVABLE
            and any(state.place[p] is Place.IN_USE for p in state.pfns(block))
        )
        if state.block_type(block) != ISOLATE and not has_unmovable:
            state.buddy(zone).move_freepages_block(block - config.blocks_of(zone)[0], ISOLATE)
        return Effect({"unmovable": has_unmovable})

    return Op(
        f"spin_lock(&zone->lock): set_pageblock_migratetype(block {block}, MIGRATE_ISOLATE), move_freepages_block()",
        Kind.CRITICAL,
        updates=(
            (Cell("pageblock.migratetype", (block,)), ite(done, ISOLATE, old)),
            (Cell("zone.nr_isolate_pageblock", (z,)), nr + ite(done, 1, 0)),
            (Cell("misplaced", (block,)), ite(done, 0, value("misplaced", block))),
        ),
        returns=(done,),
        choices=(unmovable,),
        effect=effect,
        told=Told(
            why="The block becomes ISOLATE and its free pages move to the ISOLATE list. Pages on pcplists do not move.",
            yes="",
            no="unmovable pages, or isolated by somebody else: -EBUSY",
            no_statement=True,
        ),
        tag="isolate",
        info={"block": block},
    )


def unisolate_block(config: Config, zone: Zone, block: int, migratetype: MigrateType) -> Op:
    """The critical section of unset_migratetype_isolate(); nothing happens to a block that is not ISOLATE."""
    z = zone.index
    old = value("pageblock.migratetype", block)
    nr = value("zone.nr_isolate_pageblock", z)

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        if state.block_type(block) == ISOLATE:
            types = state.block_types(zone)
            state.buddy(zone).unset_migratetype_isolate(block - config.blocks_of(zone)[0], migratetype, types)
        return Effect()

    return Op(
        f"spin_lock(&zone->lock): move_freepages_block(), set_pageblock_migratetype(block {block}, {{0}})",
        Kind.CRITICAL,
        updates=(
            (Cell("pageblock.migratetype", (block,)), ite(old == ISOLATE, migratetype, old)),
            (Cell("zone.nr_isolate_pageblock", (z,)), nr - ite(old == ISOLATE, 1, 0)),
            (Cell("misplaced", (block,)), lift(0)),
        ),
        effect=effect,
        shown=(lift(int(migratetype)),),
        told=Told(why="The block gets its old type back."),
        tag="unisolate",
        info={"block": block},
    )


def all_free(config: Config, page_range: PageRange, isol_flags: int, poisons: bool) -> Op:
    """The critical section of test_pages_isolated(): is every block ISOLATE and every page of it free in the buddy?

    ``poisons``: pages that memory_failure() has marked pass too.
    """
    free = land(
        *(
            land(
                value("pageblock.migratetype", b) == ISOLATE,
                value("held", b) == 0,
                pages_of_block_on_pcplists(config, b) == 0,
            )
            for b in page_range.blocks
        )
    )
    counted = land(
        *(
            land(value("pageblock.migratetype", b) == ISOLATE, value("free", b) == value("pages", b))
            for b in page_range.blocks
        )
    )
    passes = choice("passes", "bool")
    marked = land(
        *(
            land(
                value("pageblock.migratetype", b) == ISOLATE,
                value("held", b) - value("poisoned", b) + pages_of_block_on_pcplists(config, b)
                <= value("poisoned_on_pcplists", b),
            )
            for b in page_range.blocks
        )
    )

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        return Effect(
            {"passes": all(state.block_type(b) == ISOLATE and state.free_or_poisoned(b) for b in page_range.blocks)}
        )

    return Op(
        "spin_lock(&zone->lock): __test_page_isolated_in_pageblock()",
        Kind.CRITICAL,
        returns=(passes if poisons else free,),
        counted_returns=() if poisons else (counted,),
        choices=(passes,) if poisons else (),
        where=land(implies(passes, marked), implies(free, passes)) if poisons else TRUE,
        effect=effect if poisons else None,
        told=Told(
            why="Is every page of the range in the buddy, isolated? If not, offlining goes round again.",
            yes="all free",
            no="not all free: -EBUSY",
        ),
        tag="test_pages_isolated" if isol_flags & MEMORY_OFFLINE else "test_contig_range",
        does=Does(tests=tuple(page_range.blocks) if isol_flags & MEMORY_OFFLINE else ()),
        info={"blocks": tuple(page_range.blocks), "free": free, "zone": page_range.zone.index},
    )


def isolate_freepages_range(config: Config, page_range: PageRange) -> Op:
    """mm/compaction.c: isolate_freepages_range(): if all is free its pages are the caller's, in use; returns whether."""
    pages = config.pages_per_block
    free = land(*(value("free", b) == pages for b in page_range.blocks))

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        zone = page_range.zone
        if any(state.place[pfn] is not Place.BUDDY for b in page_range.blocks for pfn in state.pfns(b)):
            return Effect()
        for b in page_range.blocks:
            state.buddy(zone).remove_block(b - config.blocks_of(zone)[0])
            for pfn in state.pfns(b):
                state.place[pfn] = Place.IN_USE
        return Effect()

    return Op(
        "spin_lock(&zone->lock): isolate_freepages_range()",
        Kind.CRITICAL,
        updates=tuple(
            u
            for b in page_range.blocks
            for u in (
                (Cell("free", (b,)), ite(free, 0, value("free", b))),
                (Cell("misplaced", (b,)), ite(free, 0, value("misplaced", b))),
                (Cell("held", (b,)), value("held", b) + ite(free, pages, 0)),
                (Cell("in_use", (b,)), value("in_use", b) + ite(free, pages, 0)),
            )
        ),
        returns=(free,),
        effect=effect,
        tag="take_range",
    )


def remove_range(page_range: PageRange, poisons: bool) -> Op:
    """The critical section of __offline_isolated_pages(): the free pages of a range leave the buddy.

    ``poisons``: memory_failure() may have marked some, which are passed over.
    """

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        zone = page_range.zone
        for b in page_range.blocks:
            if not state.free_or_poisoned(b):
                all_are(state, page_range, Place.BUDDY)
            here, first = b - state.config.blocks_of(zone)[0], state.base(zone)
            marked = {pfn - first for pfn in state.pfns(b) if state.place[pfn] is not Place.BUDDY}
            state.buddy(zone).remove_block(here, marked)
            for pfn in state.pfns(b):
                if state.place[pfn] is not Place.PCP:
                    state.place[pfn] = Place.OFFLINE
        return Effect()

    updates = [
        (Cell(name, (b,)), lift(new))
        for b in page_range.blocks
        for name, new in (("block_offline", True), ("free", 0), ("misplaced", 0))
    ]
    for b in page_range.blocks if poisons else ():
        updates.append((Cell("held", (b,)), value("held", b) - value("poisoned", b)))
        updates.append((Cell("poisoned", (b,)), lift(0)))
    return Op(
        "spin_lock(&zone->lock): del_page_from_free_list()",
        Kind.CRITICAL,
        updates=tuple(updates),
        effect=effect,
        told=Told(why="The range leaves the buddy: its pages are gone.", moves=True),
        tag="offline",
    )


def all_are(state: State, page_range: PageRange, place: Place) -> None:
    """BugError if a page of the range is elsewhere."""
    for pfn in (p for b in page_range.blocks for p in state.pfns(b)):
        if state.place[pfn] is not place:
            raise BugError(f"page {pfn} of the range is {state.place[pfn].value}, not {place.value}")
