"""mm/page_alloc.c: how high and batch are computed from the size of a zone, as pure functions."""

from __future__ import annotations

from kernelmodel.mmzone import PAGE_SHIFT

_BYTES_PER_MB = 1024 * 1024


def rounddown_pow_of_two(n: int) -> int:
    """include/linux/log2.h: rounddown_pow_of_two(): the largest power of two that is not above ``n`` (n >= 1)."""
    return 1 << (n.bit_length() - 1)


def zone_batchsize(managed_pages: int, page_size: int = 1 << PAGE_SHIFT) -> int:
    """mm/page_alloc.c: zone_batchsize(): about 1/4096 of the zone, at most 1/4 MB, one below a power of two; >= 0."""
    batch = managed_pages // 1024
    if batch * page_size > _BYTES_PER_MB:
        batch = _BYTES_PER_MB // page_size
    batch //= 4
    if batch < 1:
        batch = 1
    return rounddown_pow_of_two(batch + batch // 2) - 1


def high_and_batch(managed_pages: int, fraction: int) -> tuple[int, int]:
    """mm/page_alloc.c: zone_set_pageset_high_and_batch(): (high >= 0, batch >= 1) for percpu_pagelist_fraction."""
    if fraction:
        high = managed_pages // fraction
        batch = max(1, high // 4)
        if high // 4 > PAGE_SHIFT * 8:
            batch = PAGE_SHIFT * 8
        return high, batch
    batch = zone_batchsize(managed_pages)
    return 6 * batch, max(1, batch)
