"""kernelmodel.memory.pcplist against an independent count, and kernelmodel.mm.pcp_limits against values worked out by hand."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmodel.errors import ModelError
from kernelmodel.memory.pcplist import PcpLists, bulk_order, split_bulk
from kernelmodel.mm.pcp_limits import high_and_batch, rounddown_pow_of_two, zone_batchsize
from kernelmodel.mmzone import PAGE_SHIFT, PCPTYPES, MigrateType

lengths = st.lists(st.integers(0, 12), min_size=PCPTYPES, max_size=PCPTYPES)


def bulk_by_credit(lengths: list[int], count: int) -> list[int]:
    """Each visit of a list earns a credit; a list that has pages pays with all credit it can; a full lap buys all."""
    left, gone, credit = list(lengths), [0] * len(lengths), 0
    wanted = min(count, sum(lengths))
    for visited in cycle([*range(1, len(lengths)), 0]):
        if wanted == sum(gone):
            return gone
        credit += 1
        if left[visited]:
            if credit == len(lengths):
                credit = wanted - sum(gone)
            paid = min(credit, left[visited], wanted - sum(gone))
            left[visited] -= paid
            gone[visited] += paid
            credit -= paid
    raise AssertionError


def filled(*lists: list[int]) -> PcpLists:
    pcp = PcpLists()
    for migratetype, pages in enumerate(lists):
        pcp.add_tail(pages, migratetype)
    return pcp


# --- which list gives how many ---


@given(lengths, st.integers(0, 40))
def test_split_bulk_agrees_with_an_independent_count(lengths: list[int], count: int) -> None:
    assert split_bulk(lengths, count) == bulk_by_credit(lengths, count)


@pytest.mark.parametrize(
    ("lengths", "count", "expected"),
    [
        ([0, 0, 0], 5, [0, 0, 0]),
        ([4, 4, 4], 0, [0, 0, 0]),
        ([4, 4, 4], 1, [0, 1, 0]),  # the first list visited is MOVABLE
        ([4, 4, 4], 3, [1, 1, 1]),
        ([5, 0, 0], 2, [2, 0, 0]),  # MOVABLE and RECLAIMABLE empty: a full lap, so the rest comes from here
        ([4, 0, 4], 4, [1, 0, 3]),  # the empty MOVABLE list makes each batch of RECLAIMABLE 2: 2, 1, then 1
        ([1, 9, 1], 6, [1, 4, 1]),
        ([2, 2, 2], 9, [2, 2, 2]),
    ],
)
def test_split_bulk_of_a_few_lists_worked_out_by_hand(lengths: list[int], count: int, expected: list[int]) -> None:
    assert split_bulk(lengths, count) == expected


@given(lengths, st.integers(0, 40))
def test_split_bulk_takes_what_is_asked_for_and_never_more_than_a_list_has(lengths: list[int], count: int) -> None:
    gone = split_bulk(lengths, count)
    assert sum(gone) == min(count, sum(lengths))
    assert all(0 <= g <= n for g, n in zip(gone, lengths, strict=True))


@given(lengths, st.integers(0, 40))
def test_split_bulk_counts_what_bulk_order_lists(lengths: list[int], count: int) -> None:
    order = bulk_order(lengths, count)
    assert split_bulk(lengths, count) == [order.count(t) for t in range(PCPTYPES)]


# --- heads and tails ---


def test_frees_enter_at_the_head_and_allocations_leave_from_the_head() -> None:
    pcp = PcpLists()
    for pfn in (1, 2, 3):
        pcp.add_head(pfn, MigrateType.MOVABLE)
    assert pcp.lists[MigrateType.MOVABLE] == [3, 2, 1]
    assert [pcp.take_head(MigrateType.MOVABLE) for _ in range(3)] == [3, 2, 1]


def test_a_refill_enters_at_the_tail_in_order() -> None:
    pcp = filled([], [7], [])
    pcp.add_tail([8, 9], MigrateType.MOVABLE)
    assert pcp.lists[MigrateType.MOVABLE] == [7, 8, 9]


def test_a_bulk_free_takes_the_tails_and_keeps_the_heads() -> None:
    pcp = filled([10, 11], [20, 21], [30, 31])
    assert pcp.detach_bulk(4) == [21, 31, 11, 20]
    assert pcp.lists == [[10], [], [30]]


def test_a_bulk_free_of_more_than_there_is_takes_everything_and_is_told_by_its_length() -> None:
    pcp = filled([], [20], [30])
    assert len(pcp.detach_bulk(5)) == 2
    assert pcp.lists == [[], [], []]


def test_a_bulk_free_of_empty_lists_ends() -> None:
    assert PcpLists().detach_bulk(3) == []


@given(lengths, st.integers(0, 40))
def test_a_bulk_free_conserves_pages_and_each_lists_order(lengths: list[int], count: int) -> None:
    before = [[100 * t + i for i in range(n)] for t, n in enumerate(lengths)]
    pcp = filled(*before)
    gone = pcp.detach_bulk(count)
    for t, pages in enumerate(before):
        mine = [p for p in gone if p in pages]
        assert pcp.lists[t] + mine[::-1] == pages


# --- errors, each with unchanged lists ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.add_head(20, 1), "double free: page 20 is on this CPU's pcplist already; take it off"),
        (lambda p: p.add_head(20, 0), "double free: page 20"),
        (lambda p: p.add_tail([40, 20], 1), "double free: page 20"),
        (lambda p: p.add_tail([40, 40], 1), "double free: page 40"),
        (lambda p: p.add_head(50, 3), "migratetype 3 has no pcplist: give one below 3"),
        (lambda p: p.add_tail([50], -1), "migratetype -1 has no pcplist"),
        (lambda p: p.take_head(4), "migratetype 4 has no pcplist"),
        (lambda p: p.take_head(2), r"pcplist of migratetype 2 is empty: test list_empty\(\) before taking a page"),
    ],
)
def test_misuse_is_one_line_and_leaves_the_lists_as_they_were(call: object, message: str) -> None:
    pcp = filled([10], [20, 21], [])
    with pytest.raises(ModelError, match=message) as caught:
        call(pcp)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    assert pcp.lists == [[10], [20, 21], []]


# --- high and batch ---


@pytest.mark.parametrize(
    ("managed", "batch", "high"),
    [
        # (managed / 1024, at most 256) / 4, at least 1; half as much again; down to a power of two; less 1
        (0, 0, 0),
        (1, 0, 0),
        (4096, 0, 0),  # 4 / 4 = 1, 1 + 0 = 1
        (8191, 0, 0),  # 7 / 4 = 1
        (8192, 1, 6),  # 8 / 4 = 2, 2 + 1 = 3 -> 2
        (12288, 3, 18),  # 12 / 4 = 3, 3 + 1 = 4
        (16384, 3, 18),  # 16 / 4 = 4, 4 + 2 = 6 -> 4
        (24576, 7, 42),  # 24 / 4 = 6, 6 + 3 = 9 -> 8
        (131072, 31, 186),  # 128 / 4 = 32, 32 + 16 = 48 -> 32
        (262144, 63, 378),  # 256 / 4 = 64, 64 + 32 = 96 -> 64
        (1 << 30, 63, 378),  # capped at 1 MB / 4 kB = 256
    ],
)
def test_zone_batchsize_and_high_worked_out_by_hand(managed: int, batch: int, high: int) -> None:
    assert zone_batchsize(managed) == batch
    assert high_and_batch(managed, 0) == (high, max(1, batch))


@pytest.mark.parametrize(
    ("managed", "fraction", "expected"),
    [
        (16384, 8, (2048, 96)),  # 2048 / 4 = 512, above PAGE_SHIFT * 8 = 96
        (1000, 8, (125, 31)),
        (3104, 8, (388, 96)),  # 388 / 4 = 97, capped
        (3072, 8, (384, 96)),  # 384 / 4 = 96, just not capped
        (24, 8, (3, 1)),  # 3 / 4 = 0, raised to 1
        (7, 8, (0, 1)),
        (16384, 100, (163, 40)),
    ],
)
def test_high_and_batch_of_a_sysctl_fraction_worked_out_by_hand(
    managed: int, fraction: int, expected: tuple[int, int]
) -> None:
    assert high_and_batch(managed, fraction) == expected


def test_larger_pages_have_a_smaller_cap() -> None:
    assert zone_batchsize(1 << 20, page_size=1 << 16) == 3  # 1 MB / 64 kB = 16


@given(st.integers(0, 1 << 40), st.one_of(st.just(0), st.integers(8, 1 << 20)))
def test_batch_is_at_least_1_and_bounded_and_high_is_not_negative(managed: int, fraction: int) -> None:
    high, batch = high_and_batch(managed, fraction)
    assert high >= 0
    assert 1 <= batch <= PAGE_SHIFT * 8
    assert fraction or high <= 378


@given(st.integers(0, 1 << 22))
def test_zone_batchsize_is_one_below_a_power_of_two_and_grows_with_the_zone(managed: int) -> None:
    batch = zone_batchsize(managed)
    assert (batch + 1).bit_count() == 1
    assert batch <= zone_batchsize(managed + 1024) <= 63


@given(st.integers(1, 1 << 40))
def test_rounddown_pow_of_two_is_the_largest_power_below(n: int) -> None:
    found = rounddown_pow_of_two(n)
    assert found.bit_count() == 1
    assert found <= n < 2 * found
