"""Contracts of the sequential pieces, for CrossHair: each function asserts what must hold for all its inputs.

The first assertions are preconditions; CrossHair searches for inputs that meet them and break a later one.  Sizes are
small so that it can look far.  Sources: mm/page_alloc.c (buddy, bulk free, limits), mm/page_isolation.c.
"""

from __future__ import annotations

from kernelmodel.buddy import Buddy, buddy_pfn, may_merge, split_path
from kernelmodel.mmzone import PAGE_SHIFT, MigrateType
from kernelmodel.pcp_limits import high_and_batch, rounddown_pow_of_two, zone_batchsize
from kernelmodel.pcplist import PcpLists, split_bulk

_PAGES, _BLOCK_ORDER, _ORDERS = 8, 1, 3
_BLOCK_TYPES = [MigrateType.MOVABLE] * (_PAGES >> _BLOCK_ORDER)


def _buddy_with(pages: tuple[int, ...]) -> Buddy:
    buddy = Buddy(_PAGES, _BLOCK_ORDER, _ORDERS)
    for p in pages:
        buddy.free_one_page(p, 0, MigrateType.MOVABLE, _BLOCK_TYPES, False)
    return buddy


def bulk_detach_takes_what_is_there(unmovable: int, movable: int, reclaimable: int, count: int) -> None:
    """free_pcppages_bulk(): min(count, all) pages leave, none from where there is none."""
    assert 0 <= unmovable <= 3 and 0 <= movable <= 3 and 0 <= reclaimable <= 3 and 0 <= count <= 10
    lengths = [unmovable, movable, reclaimable]
    taken = split_bulk(lengths, count)
    assert sum(taken) == min(count, sum(lengths))
    assert all(0 <= t <= n for t, n in zip(taken, lengths, strict=True))


def bulk_detach_spares_the_head(length: int, count: int) -> None:
    """free_pcppages_bulk(): pages leave from the tail, so the most recently freed ones stay."""
    assert 0 <= length <= 4 and 0 <= count <= 5
    lists = PcpLists()
    lists.add_tail(list(range(length)), MigrateType.MOVABLE)
    gone = lists.detach_bulk(count)
    assert lists.lists[MigrateType.MOVABLE] + gone[::-1] == list(range(length))


def limits_are_sane(managed_pages: int, fraction: int) -> None:
    """zone_set_pageset_high_and_batch(): high >= 0, batch >= 1, batch capped when a fraction is set."""
    assert 0 <= managed_pages <= 1 << 22 and (fraction == 0 or 8 <= fraction <= 64)
    high, batch = high_and_batch(managed_pages, fraction)
    assert high >= 0 and batch >= 1
    assert not fraction or batch <= max(PAGE_SHIFT * 8, 1)


def batchsize_is_one_below_a_power_of_two(managed_pages: int) -> None:
    """zone_batchsize(): 2^n - 1, to spread pages over cache colours, and at most 1/4 MB of pages plus half."""
    assert 0 <= managed_pages <= 1 << 22
    batch = zone_batchsize(managed_pages)
    assert 0 <= batch < 96
    assert batch & (batch + 1) == 0


def rounding_stays_below(n: int) -> None:
    """rounddown_pow_of_two(): a power of two, at most n, more than half of n."""
    assert 1 <= n <= 4096
    p = rounddown_pow_of_two(n)
    assert p & (p - 1) == 0 and p <= n < 2 * p


def buddies_are_mutual(pfn: int, order: int) -> None:
    """__find_buddy_pfn(): my buddy's buddy is me, and together we are one aligned page of the next order."""
    assert 0 <= pfn < 64 and 0 <= order <= 4 and pfn % (1 << order) == 0
    other = buddy_pfn(pfn, order)
    assert buddy_pfn(other, order) == pfn
    assert abs(other - pfn) == 1 << order and (pfn & other) % (2 << order) == 0


def split_gives_back_the_rest(order: int, low: int) -> None:
    """expand(): the halves given back and the page taken make the whole."""
    assert 0 <= low <= order <= 6
    assert sum(1 << o for o in split_path(order, low)) + (1 << low) == 1 << order


def isolated_blocks_merge_with_their_like_only(order: int, type_a: int, type_b: int) -> None:
    """__free_one_page(): from pageblock_order on, an ISOLATE block merges with ISOLATE blocks only."""
    assert 0 <= order <= 4 and 0 <= type_a <= 4 and 0 <= type_b <= 4
    merged = may_merge(order, 2, True, type_a, type_b)
    if order >= 2 and (type_a == MigrateType.ISOLATE) != (type_b == MigrateType.ISOLATE):
        assert not merged
    else:
        assert merged


def buddy_insert_conserves_pages(first: int, second: int, third: int) -> None:
    """__free_one_page(): each page freed is free once, whatever merges with what."""
    assert 0 <= first < _PAGES and 0 <= second < _PAGES and 0 <= third < _PAGES
    assert first != second and second != third and first != third
    buddy = _buddy_with((first, second, third))
    assert buddy.nr_free() == 3
    assert not buddy.audit(_BLOCK_TYPES)


def buddy_take_conserves_pages(missing: int, order: int) -> None:
    """__rmqueue_smallest(), expand(): what is taken was free and aligned, and the rest stays free."""
    assert 0 <= missing < _PAGES and 0 <= order <= 2
    buddy = _buddy_with(tuple(p for p in range(_PAGES) if p != missing))
    taken = buddy.rmqueue(order, MigrateType.MOVABLE)
    assert taken is not None and taken % (1 << order) == 0
    assert not taken <= missing < taken + (1 << order)
    assert buddy.nr_free() == _PAGES - 1 - (1 << order)
    assert not buddy.audit(_BLOCK_TYPES)


def isolation_moves_every_free_page(block: int, missing: int) -> None:
    """move_freepages_block(): the block's free pages, all of them and no others, change lists."""
    assert 0 <= block < _PAGES >> _BLOCK_ORDER and 0 <= missing < _PAGES
    buddy = _buddy_with(tuple(p for p in range(_PAGES) if p != missing))
    moved = buddy.move_freepages_block(block, MigrateType.ISOLATE)
    types: list[int] = list(_BLOCK_TYPES)
    types[block] = MigrateType.ISOLATE
    assert moved == buddy.free_pages_in_block(block)
    assert not buddy.audit(types)
    taken = buddy.rmqueue(0, MigrateType.MOVABLE)
    assert taken is None or taken >> _BLOCK_ORDER != block
