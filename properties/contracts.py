"""Contracts of the sequential pieces, for CrossHair: each function asserts what must hold for all its inputs.

The first assertions are preconditions; CrossHair searches for inputs that meet them and break a later one.  Sizes are
small so that it can look far.  Sources: mm/page_alloc.c (buddy, bulk free, limits), mm/page_isolation.c.

The proof engines treat the buddy as a set of pages and a pcplist as a count; these contracts are why they may.  Each
has a twin in TWINS: one line of the code changed, with which CrossHair must find a counterexample.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelmodel.errors import ModelError
from kernelmodel.memory.buddy import Buddy, buddy_pfn, may_merge, split_path
from kernelmodel.memory.pcplist import PcpLists, split_bulk
from kernelmodel.mm.pcp_limits import high_and_batch, rounddown_pow_of_two, zone_batchsize
from kernelmodel.mmzone import PAGE_SHIFT, PCPTYPES, MigrateType

_PAGES, _BLOCK_ORDER, _ORDERS = 8, 1, 3
_BLOCK_TYPES = [MigrateType.MOVABLE] * (_PAGES >> _BLOCK_ORDER)


def _buddy_with(pages: tuple[int, ...]) -> Buddy:
    buddy = Buddy(_PAGES, _BLOCK_ORDER, _ORDERS)
    for p in pages:
        buddy.free_one_page(p, 0, MigrateType.MOVABLE, _BLOCK_TYPES, False)
    return buddy


def _free_pages(buddy: Buddy) -> set[int]:
    return {p for head, (order, _) in buddy.free.items() for p in range(head, head + (1 << order))}


# the smallest zone in which pages merge inside a pageblock (of 2 pages) and beyond one (of 1 page)
_SMALL, _SMALL_ORDERS = 4, 3
#: which of its pages are in use, or which of its pageblocks are isolated: bools, for CrossHair forks on them at no cost
Which = tuple[bool, bool, bool, bool]


def _plain(number: int, numbers: range) -> int:
    """The same number: CrossHair forks here, once, and not at each use of a symbolic number in the buddy."""
    return next(n for n in numbers if n == number)


def _small_buddy(used: Which, block_order: int, isolated: tuple[bool, ...] = (False,) * 4) -> tuple[Buddy, list[int]]:
    """A small zone, and the types of its blocks."""
    blocks = range(_SMALL >> block_order)
    types: list[int] = [MigrateType.ISOLATE if isolated[b] else MigrateType.MOVABLE for b in blocks]
    buddy = Buddy(_SMALL, block_order, _SMALL_ORDERS)
    for p in range(_SMALL):
        if not used[p]:
            buddy.free_one_page(p, 0, types[p >> block_order], types, has_isolate=True)
    return buddy, types


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
    pfn, order = _plain(pfn, range(64)), _plain(order, range(5))
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
    buddy = _buddy_with(tuple(_plain(p, range(_PAGES)) for p in (first, second, third)))
    assert buddy.nr_free() == 3
    assert not buddy.audit(_BLOCK_TYPES)


def buddy_take_conserves_pages(missing: int, order: int) -> None:
    """__rmqueue_smallest(), expand(): what is taken was free and aligned, and the rest stays free."""
    assert 0 <= missing < _PAGES and 0 <= order <= 2
    buddy = _buddy_with(tuple(p for p in range(_PAGES) if p != missing))
    taken = buddy.rmqueue(order, MigrateType.MOVABLE)
    assert taken is not None and taken % (1 << order) == 0
    assert not taken <= missing < taken + (1 << order)
    # the second time there may be no page of just that order: a larger one is split
    again = buddy.rmqueue(0, MigrateType.MOVABLE)
    assert again is not None and again != missing and not taken <= again < taken + (1 << order)
    assert buddy.free_type_of(taken) is None and buddy.free_type_of(again) is None
    assert buddy.nr_free() == _PAGES - 2 - (1 << order)
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


def buddy_insert_respects_isolation(used: Which, isolated: Which, large_blocks: bool) -> None:
    """__free_one_page(): isolated and other pageblocks never become one free page, and none is on the other's list."""
    assert len(used) == len(isolated) == _SMALL
    buddy, types = _small_buddy(used, 1 if large_blocks else 0, isolated)
    assert buddy.audit(types) == []
    assert _free_pages(buddy) == {p for p in range(_SMALL) if not used[p]}


def buddy_take_spares_isolated_blocks(used: Which, isolated: tuple[bool, bool], order: int) -> None:
    """__rmqueue(): a free page that fits is found unless its block is ISOLATE, and only that page leaves."""
    assert len(used) == _SMALL and len(isolated) == 2 and 0 <= order < _SMALL_ORDERS
    buddy, types = _small_buddy(used, 1, isolated)
    before = _free_pages(buddy)
    order = _plain(order, range(_SMALL_ORDERS))
    fits = any(o >= order and t != MigrateType.ISOLATE for o, t in buddy.free.values())
    taken = buddy.rmqueue(order, MigrateType.UNMOVABLE)
    assert (taken is not None) == fits
    pages = set() if taken is None else set(range(taken, taken + (1 << order)))
    assert all(types[p >> 1] != MigrateType.ISOLATE for p in pages)
    assert _free_pages(buddy) == before - pages and pages <= before
    assert buddy.audit(types) == []


def buddy_take_off_takes_one_page(used: Which, pfn: int) -> None:
    """take_page_off_buddy(), break_down_buddy_pages(): that page leaves, its neighbours stay."""
    assert len(used) == _SMALL and 0 <= pfn < _SMALL and not used[pfn]
    buddy, types = _small_buddy(used, 1)
    before = _free_pages(buddy)
    pfn = _plain(pfn, range(_SMALL))
    buddy.remove(pfn)
    assert _free_pages(buddy) == before - {pfn}
    assert buddy.audit(types) == []


def buddy_refuses_a_double_free(used: Which, pfn: int, order: int) -> None:
    """__free_one_page(): a page that is partly free, misaligned or outside is refused, and nothing has changed."""
    assert len(used) == _SMALL and -1 <= pfn <= _SMALL and 0 <= order <= 2
    buddy, types = _small_buddy(used, 1)
    before = dict(buddy.free)
    pfn, order = _plain(pfn, range(-1, _SMALL + 1)), _plain(order, range(3))
    legal = pfn in range(0, _SMALL, 1 << order) and all(used[p] for p in range(pfn, pfn + (1 << order)))
    try:
        buddy.free_one_page(pfn, order, MigrateType.MOVABLE, types, has_isolate=False)
    except ModelError:
        assert not legal and buddy.free == before
    else:
        assert legal and buddy.audit(types) == []


def undoing_isolation_restores_the_zone(used: Which, large_blocks: bool, block: int) -> None:
    """unset_migratetype_isolate(): the pages are back on their lists, and merged as they were before."""
    assert len(used) == _SMALL and 0 <= block < (2 if large_blocks else 4)
    buddy, types = _small_buddy(used, 1 if large_blocks else 0)
    before = dict(buddy.free)
    block = _plain(block, range(4))
    buddy.move_freepages_block(block, MigrateType.ISOLATE)
    types[block] = MigrateType.ISOLATE
    buddy.unset_migratetype_isolate(block, MigrateType.MOVABLE, types)
    assert buddy.free == before


def bulk_detach_is_round_robin(unmovable: int, movable: int, reclaimable: int, count: int) -> None:
    """free_pcppages_bulk(): while no list runs empty, none gives two pages more than another."""
    assert 1 <= count <= 6
    assert count <= unmovable <= 8 and count <= movable <= 8 and count <= reclaimable <= 8
    taken = split_bulk([unmovable, movable, reclaimable], count)
    assert max(taken) - min(taken) <= 1


def each_type_has_its_own_list(pfn: int, migratetype: int) -> None:
    """free_unref_page_commit(): a page is on the list of its type and on no other; other types have no list."""
    assert 0 <= pfn <= 3 and -1 <= migratetype <= 5
    lists = PcpLists()
    lists.add_tail([7, 8], MigrateType.MOVABLE)
    before = [list(pages) for pages in lists.lists]
    try:
        lists.add_head(pfn, migratetype)
    except ModelError:
        assert not 0 <= migratetype < PCPTYPES and lists.lists == before
        return
    assert 0 <= migratetype < PCPTYPES and sum(map(len, lists.lists)) == 3
    assert lists.take_head(migratetype) == pfn and lists.lists == before


@dataclass(frozen=True, slots=True)
class Twin:
    """A planted bug: in the file ``path``, ``before`` (which is there once) becomes ``after``."""

    path: str
    before: str
    after: str


_BUDDY, _PCPLIST, _LIMITS = (
    "kernelmodel/memory/buddy.py",
    "kernelmodel/memory/pcplist.py",
    "kernelmodel/mm/pcp_limits.py",
)

#: contract -> the planted bug that it must catch
TWINS: dict[str, Twin] = {
    "bulk_detach_takes_what_is_there": Twin(_PCPLIST, "if not (count > 0 and batch_free", "if not (batch_free"),
    "bulk_detach_spares_the_head": Twin(_PCPLIST, ".pop() for t in", ".pop(0) for t in"),
    "bulk_detach_is_round_robin": Twin(_PCPLIST, "if batch_free == len(left)", "if batch_free"),
    "each_type_has_its_own_list": Twin(_PCPLIST, "lists[migratetype].insert(0, pfn)", "lists[0].insert(0, pfn)"),
    "limits_are_sane": Twin(_LIMITS, "batch = max(1, high // 4)", "batch = high // 4"),
    "batchsize_is_one_below_a_power_of_two": Twin(_LIMITS, "batch // 2) - 1", "batch // 2)"),
    "rounding_stays_below": Twin(_LIMITS, "n.bit_length() - 1", "n.bit_length()"),
    "buddies_are_mutual": Twin(_BUDDY, "pfn ^ (1 << order)", "pfn + (1 << order)"),
    "split_gives_back_the_rest": Twin(_BUDDY, "range(order - 1, low - 1, -1)", "range(order - 1, low, -1)"),
    "isolated_blocks_merge_with_their_like_only": Twin(
        _BUDDY, "if order < pageblock_order", "if order <= pageblock_order"
    ),
    "buddy_insert_conserves_pages": Twin(
        _BUDDY, "            self._del(other)\n            pfn &= other", "            pfn &= other"
    ),
    "buddy_insert_respects_isolation": Twin(_BUDDY, "if not may_merge(", "if False and not may_merge("),
    "buddy_take_conserves_pages": Twin(_BUDDY, "self._add(head + (1 << upper), upper", "self._add(head, upper"),
    "buddy_take_spares_isolated_blocks": Twin(
        _BUDDY, "for other in FALLBACKS.get(migratetype, ())", "for other in (1, MigrateType.ISOLATE)"
    ),
    "buddy_take_off_takes_one_page": Twin(_BUDDY, "if pfn < head + (1 << half)", "if pfn <= head + (1 << half)"),
    "buddy_refuses_a_double_free": Twin(
        _BUDDY, "self.free_parts(range(pfn, pfn + (1 << order)))", "self.free_parts(range(pfn, pfn + 1))"
    ),
    "isolation_moves_every_free_page": Twin(
        _BUDDY, "self._add(p, order, migratetype, tail=True)", "self._add(p, order, 1)"
    ),
    "undoing_isolation_restores_the_zone": Twin(_BUDDY, "if moved == 1 << self.pageblock_order", "if moved < 0"),
}
