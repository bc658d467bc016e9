"""v5.15: what v5.14 forgot (946746d1ad92)."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine
from kernelmodel.versions.v5_14 import V5_14


class V5_15(V5_14):
    """v5.15: offline_pages() enables LRU caches on every exit."""

    name = "v5.15"
    summary = "v5.14 with lru_cache_enable() where offline_pages() fails (946746d1ad92)"
    breaks: ClassVar[tuple[str, ...]] = ()

    def failed_removal_pcplists_disabled(self, zone: Zone) -> Routine:
        """mm/memory_hotplug.c: offline_pages(), its label failed_removal_pcplists_disabled."""
        yield from self.lru_cache_enable()
        yield from self.zone_pcp_enable(zone)
