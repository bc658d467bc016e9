"""kernelmodel.memory.buddy against an oracle that knows only pages, and the paths that random sequences seldom take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmodel.errors import ModelError
from kernelmodel.memory.buddy import FALLBACKS, Buddy, buddy_pfn, may_merge, split_path
from kernelmodel.mmzone import MigrateType

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC, ISOLATE = MigrateType
BLOCK_ORDER, MAX_ORDER, BLOCKS = 2, 5, 8
PAGES = BLOCKS << BLOCK_ORDER


@dataclass
class Zone:
    """A Buddy, the block types that its callers keep, and the oracle: what each page should be."""

    buddy: Buddy = field(default_factory=lambda: Buddy(PAGES, BLOCK_ORDER, MAX_ORDER))
    types: list[MigrateType] = field(default_factory=lambda: [MOVABLE] * BLOCKS)
    #: head -> order of pages in use
    used: dict[int, int] = field(default_factory=dict)
    free: set[int] = field(default_factory=set)
    offline: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for block in range(BLOCKS):
            self.buddy.add_block(block, self.types[block], self.types, False)
        self.free = set(range(PAGES))

    @property
    def has_isolate(self) -> bool:
        return ISOLATE in self.types

    def pages(self, block: int) -> set[int]:
        return set(range(block << BLOCK_ORDER, (block + 1) << BLOCK_ORDER))

    # --- the operations, each with what the oracle expects of it ---

    def alloc(self, order: int, migratetype: int) -> None:
        usable = (migratetype, *FALLBACKS[migratetype])
        may = {(o, t) for o, t in self.buddy.free.values() if o >= order and t in usable}
        own = sorted((o, t) for o, t in may if t == migratetype)
        lists = copy.deepcopy(self.buddy.free_list)
        pfn = self.buddy.rmqueue(order, migratetype)
        assert (pfn is None) == (not may)
        if pfn is None:
            return
        got = set(range(pfn, pfn + (1 << order)))
        assert pfn % (1 << order) == 0
        assert got <= self.free
        assert not any(self.types[p >> BLOCK_ORDER] == ISOLATE for p in got)
        if own:
            assert pfn == lists[own[0]][0]
        self.free -= got
        self.used[pfn] = order

    def take(self, pfn: int) -> None:
        if pfn in self.free:
            self.buddy.remove(pfn)
            self.free.remove(pfn)
            self.used[pfn] = 0

    def release(self, nth: int) -> None:
        if not self.used:
            return
        pfn = sorted(self.used)[nth % len(self.used)]
        order = self.used.pop(pfn)
        self.buddy.free_one_page(pfn, order, self.types[pfn >> BLOCK_ORDER], self.types, self.has_isolate)
        self.free |= set(range(pfn, pfn + (1 << order)))

    def isolate(self, block: int) -> None:
        if self.types[block] != ISOLATE:
            moved = self.buddy.move_freepages_block(block, ISOLATE)
            assert moved == len(self.pages(block) & self.free)
            self.types[block] = ISOLATE

    def unisolate(self, block: int) -> None:
        if self.types[block] == ISOLATE and not self.pages(block) & self.offline:
            moved = self.buddy.unset_migratetype_isolate(block, MOVABLE, self.types)
            assert moved == len(self.pages(block) & self.free)
            self.types[block] = MOVABLE

    def offline_block(self, block: int) -> None:
        if self.types[block] == ISOLATE and self.pages(block) <= self.free:
            self.buddy.remove_block(block)
            self.free -= self.pages(block)
            self.offline |= self.pages(block)

    def online_block(self, block: int) -> None:
        if self.pages(block) <= self.offline:
            self.buddy.add_block(block, self.types[block], self.types, self.has_isolate)
            self.offline -= self.pages(block)
            self.free |= self.pages(block)

    def check(self) -> None:
        assert self.buddy.audit(self.types) == []
        assert self.buddy.nr_free() == len(self.free)
        assert {p for p in range(PAGES) if self.buddy.head_of(p) is not None} == self.free
        assert sum(1 << o for o in self.used.values()) + len(self.free) + len(self.offline) == PAGES
        for block in range(BLOCKS):
            assert self.buddy.free_pages_in_block(block) == len(self.pages(block) & self.free)
        for head, (order, migratetype) in self.buddy.free.items():
            blocks = {self.types[p >> BLOCK_ORDER] == ISOLATE for p in range(head, head + (1 << order))}
            assert blocks == {migratetype == ISOLATE}
            # below pageblock_order two free buddies have always merged: look for what is free and whole, page by page
            if order < BLOCK_ORDER:
                other = buddy_pfn(head, order)
                assert not set(range(other, other + (1 << order))) <= self.free


orders = st.integers(0, MAX_ORDER - 1)
blocks = st.integers(0, BLOCKS - 1)
steps = st.one_of(
    st.tuples(st.just("alloc"), orders, st.sampled_from([UNMOVABLE, MOVABLE, RECLAIMABLE])),
    st.tuples(st.just("take"), st.integers(0, PAGES - 1)),
    st.tuples(st.just("release"), st.integers(0, PAGES)),
    st.tuples(st.just("isolate"), blocks),
    st.tuples(st.just("unisolate"), blocks),
    st.tuples(st.just("offline_block"), blocks),
    st.tuples(st.just("online_block"), blocks),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=60))
def test_any_sequence_conserves_pages_merges_what_may_and_never_mixes_isolated_blocks(sequence: list[Any]) -> None:
    zone = Zone()
    for name, *args in sequence:
        getattr(zone, name)(*args)
        zone.check()


@settings(deadline=None)
@given(st.lists(steps, max_size=40))
def test_the_same_sequence_gives_the_same_lists_in_the_same_order(sequence: list[Any]) -> None:
    one, other = Zone(), Zone()
    for zone in (one, other):
        for name, *args in sequence:
            getattr(zone, name)(*args)
    assert one.buddy.free_list == other.buddy.free_list
    assert one.used == other.used


@settings(deadline=None)
@given(st.lists(steps, max_size=25))
def test_freeing_everything_and_unisolating_restores_one_largest_page_per_half(sequence: list[Any]) -> None:
    zone = Zone()
    for name, *args in sequence:
        getattr(zone, name)(*args)
    while zone.used:
        zone.release(0)
    for block in range(BLOCKS):
        zone.online_block(block)
        zone.unisolate(block)
    assert {h: o for h, (o, _) in zone.buddy.free.items()} == {0: MAX_ORDER - 1, PAGES // 2: MAX_ORDER - 1}


# --- small facts ---


def empty(nr_blocks: int = 4) -> tuple[Buddy, list[int]]:
    return Buddy(nr_blocks << BLOCK_ORDER, BLOCK_ORDER, MAX_ORDER), [int(MOVABLE)] * nr_blocks


def whole(nr_blocks: int = 4) -> tuple[Buddy, list[int]]:
    """All blocks free and merged: 4 blocks are one page of order 4."""
    buddy, types = empty(nr_blocks)
    for block in range(nr_blocks):
        buddy.add_block(block, MOVABLE, types, False)
    return buddy, types


def test_buddy_pfn_is_its_own_inverse() -> None:
    assert [buddy_pfn(p, 1) for p in (0, 2, 4, 6)] == [2, 0, 6, 4]


def test_split_path_lists_the_halves_from_large_to_small() -> None:
    assert split_path(4, 1) == [3, 2, 1]
    assert split_path(2, 2) == []


@pytest.mark.parametrize(
    ("order", "has_isolate", "a", "b", "expected"),
    [
        (1, True, ISOLATE, MOVABLE, True),  # below pageblock_order both are of one block
        (2, True, ISOLATE, MOVABLE, False),
        (2, True, MOVABLE, ISOLATE, False),
        (2, True, ISOLATE, ISOLATE, True),
        (2, True, MOVABLE, RECLAIMABLE, True),
        (2, False, ISOLATE, MOVABLE, True),  # the zone's counter says that nothing is isolated
        (3, True, ISOLATE, MOVABLE, False),
    ],
)
def test_may_merge(order: int, has_isolate: bool, a: int, b: int, expected: bool) -> None:
    assert may_merge(order, 2, has_isolate, a, b) is expected


def test_a_freed_page_is_the_next_one_handed_out() -> None:
    buddy, types = whole()
    first, second, third = (buddy.rmqueue(0, MOVABLE) for _ in range(3))
    assert (first, second, third) == (0, 1, 2)
    buddy.free_one_page(0, 0, MOVABLE, types, False)
    assert buddy.rmqueue(0, MOVABLE) == 0


def test_lists_are_last_in_first_out_unless_freed_to_the_tail() -> None:
    buddy, types = empty()
    for pfn in (0, 4, 8):
        buddy.free_one_page(pfn, 0, MOVABLE, types, False)
    buddy.free_one_page(12, 0, MOVABLE, types, False, to_tail=True)
    assert [buddy.rmqueue(0, MOVABLE) for _ in range(5)] == [8, 4, 0, 12, None]


def test_rmqueue_cuts_the_smallest_page_that_fits() -> None:
    buddy, types = empty()
    buddy.free_one_page(8, 3, MOVABLE, types, False)
    buddy.free_one_page(4, 2, MOVABLE, types, False)
    assert buddy.rmqueue(1, MOVABLE) == 4
    assert buddy.free == {8: (3, MOVABLE), 6: (1, MOVABLE)}


def test_rmqueue_steals_the_largest_page_and_the_rest_stays_on_its_list() -> None:
    buddy, types = empty()
    types[2:] = [RECLAIMABLE] * 2
    buddy.free_one_page(0, 1, MOVABLE, types, False)
    buddy.free_one_page(8, 3, RECLAIMABLE, types, False)
    assert buddy.rmqueue(0, UNMOVABLE) == 8
    assert {t for o, t in buddy.free.values() if o < 3 and t != MOVABLE} == {RECLAIMABLE}
    assert buddy.nr_free() == 9


@pytest.mark.parametrize("wanted", [UNMOVABLE, MOVABLE, RECLAIMABLE])
def test_fallbacks_are_tried_in_their_order(wanted: int) -> None:
    for i, preferred in enumerate(FALLBACKS[wanted]):
        buddy, types = empty()
        for n, other in enumerate(FALLBACKS[wanted][i:]):
            types[n] = other
            buddy.free_one_page(n << BLOCK_ORDER, 0, other, types, False)
        assert buddy.rmqueue(0, wanted) == 0
        assert preferred == types[0]


def test_a_larger_page_of_the_second_fallback_is_stolen_before_a_smaller_one_of_the_first() -> None:
    buddy, types = empty()
    types[0], types[1] = RECLAIMABLE, UNMOVABLE
    buddy.free_one_page(0, 0, RECLAIMABLE, types, False)
    buddy.free_one_page(4, 2, UNMOVABLE, types, False)
    assert buddy.rmqueue(0, MOVABLE) == 4


@pytest.mark.parametrize("wanted", [UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC])
def test_pages_of_isolate_lists_are_never_handed_out(wanted: int) -> None:
    buddy, types = empty()
    types[0] = ISOLATE
    buddy.free_one_page(0, 2, ISOLATE, types, True)
    assert all(buddy.rmqueue(order, wanted) is None for order in range(3))
    assert buddy.nr_free() == 4


def test_highatomic_pages_are_not_stolen_and_highatomic_has_no_fallback() -> None:
    buddy, types = empty()
    types[0] = HIGHATOMIC
    buddy.free_one_page(0, 2, HIGHATOMIC, types, False)
    assert buddy.rmqueue(0, MOVABLE) is None
    assert buddy.rmqueue(0, HIGHATOMIC) == 0
    other, types = whole()
    assert other.rmqueue(0, HIGHATOMIC) is None


@pytest.mark.parametrize("pfn", range(16))
def test_remove_takes_any_one_page_out_of_a_large_buddy(pfn: int) -> None:
    buddy, types = whole()
    assert buddy.free == {0: (4, MOVABLE)}
    buddy.remove(pfn)
    assert buddy.head_of(pfn) is None
    assert sorted(o for o, _ in buddy.free.values()) == [0, 1, 2, 3]
    assert {p for p in range(16) if buddy.head_of(p) is not None} == set(range(16)) - {pfn}
    assert buddy.audit(types) == []
    buddy.free_one_page(pfn, 0, MOVABLE, types, False)
    assert buddy.free == {0: (4, MOVABLE)}


@pytest.mark.parametrize("block", range(4))
def test_isolating_one_block_cuts_it_out_of_a_larger_free_page(block: int) -> None:
    buddy, types = whole()
    assert buddy.move_freepages_block(block, ISOLATE) == 4
    types[block] = ISOLATE
    assert buddy.free[block << BLOCK_ORDER] == (2, ISOLATE)
    assert sorted(o for o, t in buddy.free.values() if t == MOVABLE) == [2, 3]
    assert buddy.audit(types) == []


def test_unisolating_a_wholly_free_block_lets_it_merge_again() -> None:
    buddy, types = whole()
    buddy.move_freepages_block(1, ISOLATE)
    types[1] = ISOLATE
    assert buddy.unset_migratetype_isolate(1, MOVABLE, types) == 4
    assert buddy.free == {0: (4, MOVABLE)}


def test_unisolating_next_to_an_isolated_block_does_not_merge_with_it() -> None:
    buddy, types = whole()
    for block in (0, 1):
        buddy.move_freepages_block(block, ISOLATE)
        types[block] = ISOLATE
    buddy.unset_migratetype_isolate(1, MOVABLE, types)
    types[1] = MOVABLE
    assert buddy.free == {0: (2, ISOLATE), 4: (2, MOVABLE), 8: (3, MOVABLE)}


def test_unisolating_a_partly_free_block_only_moves_its_pages() -> None:
    buddy, types = whole()
    buddy.remove(5)
    buddy.move_freepages_block(1, ISOLATE)
    types[1] = ISOLATE
    assert buddy.unset_migratetype_isolate(1, MOVABLE, types) == 3
    assert buddy.free[6] == (1, MOVABLE)
    assert buddy.head_of(5) is None


def test_moved_pages_go_to_the_tail_of_the_other_list() -> None:
    buddy, types = empty()
    types[0] = ISOLATE
    buddy.free_one_page(0, 2, ISOLATE, types, True)
    buddy.free_one_page(12, 2, MOVABLE, types, True)
    buddy.move_freepages_block(0, MOVABLE)
    assert buddy.free_list[2, MOVABLE] == [12, 0]


def test_moving_a_block_without_free_pages_moves_nothing() -> None:
    buddy, _ = empty()
    assert buddy.move_freepages_block(2, ISOLATE) == 0


def test_a_compound_page_over_isolated_and_other_blocks_is_freed_block_by_block() -> None:
    buddy, types = empty()
    types[1] = ISOLATE
    buddy.free_one_page(0, 4, MOVABLE, types, True)
    assert buddy.free == {0: (2, MOVABLE), 4: (2, ISOLATE), 8: (3, MOVABLE)}
    assert buddy.audit(types) == []


def test_offlining_a_block_in_a_larger_free_page_leaves_the_rest_free() -> None:
    buddy, types = whole()
    buddy.remove_block(2)
    assert buddy.free_pages_in_block(2) == 0
    assert buddy.nr_free() == 12
    assert buddy.audit(types) == []


# --- errors ---


def half_used() -> tuple[Buddy, list[int]]:
    buddy, types = whole()
    buddy.remove(3)
    return buddy, types


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, t: b.free_one_page(3, 5, MOVABLE, t, False), "order 5 does not exist: give 0 to 4"),
        (lambda b, t: b.free_one_page(3, -1, MOVABLE, t, False), "order -1 does not exist: give 0 to 4"),
        (lambda b, t: b.free_one_page(3, 0, 5, t, False), "migratetype 5 does not exist: give 0 to 4"),
        (lambda b, t: b.free_one_page(3, 0, MOVABLE, t[1:], False), "3 block types for 4 pageblocks: give one"),
        (lambda b, t: b.free_one_page(16, 0, MOVABLE, t, False), "page 16 of order 0 is outside the zone: it has"),
        (lambda b, t: b.free_one_page(-1, 0, MOVABLE, t, False), "page -1 of order 0 is outside the zone"),
        (lambda b, t: b.free_one_page(15, 1, MOVABLE, t, False), "page 15 of order 1 is outside the zone"),
        (lambda b, t: b.free_one_page(3, 1, MOVABLE, t, False), "page 3 of order 1 is misaligned: give a multiple"),
        (lambda b, t: b.free_one_page(2, 1, MOVABLE, t, False), "double free: page 2 is free in the buddy already"),
        (lambda b, t: b.free_one_page(9, 0, MOVABLE, t, False), "double free: page 9 .*; allocate it"),
        (lambda b, _: b.rmqueue(5, MOVABLE), "order 5 does not exist: give 0 to 4"),
        (lambda b, _: b.rmqueue(0, 7), "migratetype 7 does not exist: give 0 to 4"),
        (lambda b, _: b.rmqueue(0, ISOLATE), "pages of the ISOLATE lists are never handed out: allocate another"),
        (lambda b, _: b.rmqueue_smallest(-1, MOVABLE), "order -1 does not exist"),
        (lambda b, _: b.remove(3), "page 3 is not free in the buddy: only a free page can be taken off"),
        (lambda b, _: b.remove(99), "page 99 is not free in the buddy"),
        (lambda b, _: b.block_pages(4), "pageblock 4 is outside the zone: give 0 to 3"),
        (lambda b, _: b.free_pages_in_block(-1), "pageblock -1 is outside the zone"),
        (lambda b, _: b.move_freepages_block(4, ISOLATE), "pageblock 4 is outside the zone"),
        (lambda b, _: b.move_freepages_block(0, 9), "migratetype 9 does not exist"),
        (lambda b, t: b.unset_migratetype_isolate(4, MOVABLE, t), "pageblock 4 is outside the zone"),
        (lambda b, t: b.unset_migratetype_isolate(0, MOVABLE, t[1:]), "3 block types for 4 pageblocks"),
        (lambda b, t: b.unset_migratetype_isolate(0, 9, t), "migratetype 9 does not exist"),
        (lambda b, _: b.remove_block(0), "page 3 of block 0 is not free: only a wholly free block can go offline"),
        (lambda b, _: b.remove_block(4), "pageblock 4 is outside the zone"),
        (lambda b, t: b.add_block(1, MOVABLE, t, False), "double free: page 4"),
        (lambda b, t: b.add_block(4, MOVABLE, t, False), "pageblock 4 is outside the zone"),
    ],
)
def test_misuse_is_one_line_and_leaves_the_lists_as_they_were(call: Callable[..., object], message: str) -> None:
    buddy, types = half_used()
    free, lists = dict(buddy.free), copy.deepcopy(buddy.free_list)
    with pytest.raises(ModelError, match=message) as caught:
        call(buddy, types)
    assert "\n" not in str(caught.value)
    assert (buddy.free, buddy.free_list) == (free, lists)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 2, 5), "0 pages are no whole number of pageblocks: give a multiple of 4, above 0"),
        ((-4, 2, 5), "-4 pages are no whole number"),
        ((6, 2, 5), "6 pages are no whole number"),
        ((4, 5, 5), "pageblock_order 5 is outside 0 to 4: give a larger max_order"),
        ((4, -1, 5), "pageblock_order -1 is outside 0 to 4"),
    ],
)
def test_an_impossible_size_is_refused(size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Buddy(*size)


# --- the audit finds what it is for: each fault planted by hand ---


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (lambda b, _: b.free_list[0, MOVABLE].append(2), "the free lists and the table of free pages differ"),
        (lambda b, _: b._add(5, 1, MOVABLE), "free page 5 of order 1 is misaligned or outside the zone"),
        (lambda b, _: b._add(16, 0, MOVABLE), "free page 16 of order 0 is misaligned or outside the zone"),
        (lambda b, _: b._add(1, 0, MOVABLE), "free page 1 of order 0 overlaps another"),
        (lambda b, _: b._add(3, 0, MOVABLE), "free pages 2 and 3 of order 0 have not merged"),
        (lambda _, t: t.__setitem__(2, ISOLATE), "free page 8 of order 3 merges isolated and other pageblocks"),
        (lambda _, t: t.__setitem__(1, ISOLATE), "free page 4 is misplaced: its block is ISOLATE, its list is 1"),
        (
            lambda b, _: b.move_freepages_block(1, ISOLATE),
            "free page 4 is misplaced: its block is not ISOLATE, its list is",
        ),
    ],
)
def test_the_audit_names_each_broken_invariant(plant: Callable[..., object], sentence: str) -> None:
    buddy, types = half_used()
    assert buddy.audit(types) == []
    plant(buddy, types)
    assert sentence in buddy.audit(types)
