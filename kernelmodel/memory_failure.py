"""mm/memory-failure.c: the other user of zone_pcp_disable() in v5.11."""

from __future__ import annotations

from kernelmodel import ops
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine
from kernelmodel.v5_11 import V5_11


def get_hwpoison_page(kernel: V5_11, zone: Zone) -> Routine:
    """mm/memory-failure.c: get_hwpoison_page(): does *not* take cpus_read_lock(), so CPUs may come and go meanwhile."""
    yield from kernel.zone_pcp_disable(zone)
    yield ops.happens("__get_hwpoison_page(), dissolve_free_huge_page()")
    yield from kernel.zone_pcp_enable(zone)
