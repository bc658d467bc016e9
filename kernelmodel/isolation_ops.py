"""Operations of page isolation: each the critical section of zone->lock of one function of mm/page_isolation.c."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel.cells import pages_of_block_on_pcplists, value
from kernelmodel.config import Config
from kernelmodel.errors import BugError
from kernelmodel.mmzone import MEMORY_OFFLINE, MigrateType, PageRange, Zone
from kernelmodel.ops import Effect, Kind, Op
from kernelmodel.state import Place, State
from kernelmodel.terms import Cell, choice, ite, land, lift, lnot

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
        tag="unisolate",
        info={"block": block},
    )


def all_free(config: Config, page_range: PageRange, isol_flags: int) -> Op:
    """The critical section of test_pages_isolated(): is every block ISOLATE and every page of it free in the buddy?"""
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
    return Op(
        "spin_lock(&zone->lock): __test_page_isolated_in_pageblock()",
        Kind.CRITICAL,
        returns=(free,),
        counted_returns=(counted,),
        tag="test_pages_isolated" if isol_flags & MEMORY_OFFLINE else "test_contig_range",
        info={"blocks": tuple(page_range.blocks), "free": free, "zone": page_range.zone.index},
    )


def isolate_freepages_range(config: Config, page_range: PageRange) -> Op:
    """mm/compaction.c: isolate_freepages_range() of a range that is free: its pages are the caller's, in use."""
    pages = config.pages_per_block

    def effect(state: State, _: Mapping[str, int]) -> Effect:
        zone = page_range.zone
        for b in page_range.blocks:
            if any(state.place[pfn] is not Place.BUDDY for pfn in state.pfns(b)):
                raise BugError(f"isolate_freepages_range(): a page of block {b} is not free")
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
                (Cell("free", (b,)), lift(0)),
                (Cell("misplaced", (b,)), lift(0)),
                (Cell("held", (b,)), value("held", b) + pages),
                (Cell("in_use", (b,)), value("in_use", b) + pages),
            )
        ),
        effect=effect,
        tag="take_range",
    )
