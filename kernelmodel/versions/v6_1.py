"""v6.1.y: the stable kernel, with its backports; of these, three matter here."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine, read
from kernelmodel.terms import minimum
from kernelmodel.versions.v6_2 import V6_2

#: mm/page_alloc.c: CONFIG_PCP_BATCH_SCALE_MAX, 5 before it was a choice: a round takes at most batch << 5 pages
ROUND = 1 << 5


class V6_1(V6_2):
    """v6.1.y: the drain looks at pcp->count under pcp->lock only, and goes on until it is 0.

    It also has 574907741599 of v6.2 and 1983184c22dd of v6.9.
    """

    name = "v6.1"
    summary = (
        "v6.1.y: v6.2 with the drain's look at pcp->count under pcp->lock, in rounds (66eca1021a42), and 1983184c22dd"
    )
    breaks: ClassVar[tuple[str, ...]] = ()

    loops = ("drain_pages_zone",)

    def drain_pages_zone(self, cpu: int, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_pages_zone(): of any CPU; the lock is dropped between rounds of batch << 5 pages."""
        while True:
            here = yield from self.pcp_lock_of(zone, cpu)
            count = yield read("pcp.count", zone.index, cpu)
            if count != 0:
                batch = yield read("pcp.batch", zone.index, cpu)
                to_drain = minimum(count, batch * ROUND)
                yield from self.free_pcppages_bulk(zone, to_drain, cpu)
                count = count - to_drain
            yield from self.pcp_unlock_of(zone, cpu, here)
            if count == 0:
                break

    # --- memory failure ---

    def page_handle_poison(self, zone: Zone) -> Routine:
        """mm/memory-failure.c: __page_handle_poison(): a drain without pcp_batch_high_lock, for dissolving takes locks."""
        if not (yield from self.dissolve_free_huge_page()):
            yield from self.drain_all_pages(zone)
            yield from self.take_page_off_buddy()
