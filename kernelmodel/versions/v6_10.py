"""v6.10: the type of a freed page is looked up under zone->lock; the drain takes a snapshot of pcp->count."""

from __future__ import annotations

from collections.abc import Sequence

from kernelmodel import page_ops
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, Zone
from kernelmodel.ops import Routine, read, read_once, write
from kernelmodel.schema import CellKind
from kernelmodel.terms import BoolTerm, IntTerm, minimum, select
from kernelmodel.versions.v6_1 import ROUND, V6_1
from kernelmodel.versions.v6_8 import V6_8


class V6_10(V6_8):
    """v6.10: no migratetype is kept in a page; __page_handle_poison() drains where it disabled (1983184c22dd, v6.9)."""

    name = "v6.10"
    summary = "types looked up under zone->lock; __page_handle_poison() drains; the drain's snapshot of count is outside the lock"

    loops = ("drain_pages_zone",)

    cells = (
        *V6_8.cells,
        (
            "drain.left",
            CellKind(
                axes=("zone", "cpu"), c="count", guard="pcpu_drain_mutex", bookkeeping=True, of_everybody=True,
                meaning="the local variable of drain_pages_zone(), under __drain_all_pages(): pages still to be drained",
            ),
        ),
        (
            "drain.left_of_dead",
            CellKind(
                axes=("zone", "cpu"), c="count", guard="cpu_hotplug_lock", bookkeeping=True, of_everybody=True,
                meaning="the same, under page_alloc_cpu_dead()",
            ),
        ),
    )  # fmt: skip

    # --- freeing ---

    def free_one_page(self, zone: Zone, page: Page, migratetype: IntTerm, order: int = 0) -> Routine:
        """mm/page_alloc.c: free_one_page(): straight to the buddy, with the migratetype that the block has under zone->lock."""
        del zone
        yield page_ops.free_one(self.config, page, migratetype, order, True)

    def _type_is_read_again(self, zone: Zone) -> BoolTerm:
        """mm/page_alloc.c: free_pcppages_bulk(): each page to the free list of the type that its block has now."""
        del zone
        return True

    def free_unref_page_list(self, pages: Sequence[Page]) -> Routine:
        """mm/page_alloc.c: free_unref_folios(): each folio's type is tested right before its commit, which holds the lock."""
        cpu, zone = -1, pages[0].zone if pages else Zone()
        for page in pages:
            migratetype = yield from self.free_unref_page_prepare(page)
            if migratetype == MigrateType.ISOLATE:
                if cpu >= 0:
                    yield from self.pcp_spin_unlock(zone, cpu)
                    cpu = -1
                yield from self.free_one_page(zone, page, migratetype)
                continue
            if cpu < 0:
                cpu = yield from self.pcp_spin_trylock(zone)
            if cpu < 0:
                yield from self.free_one_page(zone, page, migratetype)
                continue
            migratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
            yield from self.free_unref_page_commit(page, migratetype, cpu)
        if cpu >= 0:
            yield from self.pcp_spin_unlock(zone, cpu)

    # --- draining ---

    def drain_pages_zone(self, cpu: int, zone: Zone, left: str = "drain.left") -> Routine:
        """mm/page_alloc.c: drain_pages_zone(): as many pages as count said once, outside the lock, in rounds.

        ``left`` is the local variable ``count``: a cell, for it lives from round to round.
        """
        count = yield read_once("pcp.count", zone.index, cpu)
        yield write(count, left, zone.index, cpu)
        yield from self.drain_left(cpu, zone, left)

    def drain_left(self, cpu: int, zone: Zone, left: str) -> Routine:
        """mm/page_alloc.c: drain_pages_zone(), its loop: rounds of at most batch << 5 pages."""
        while True:
            count = yield read(left, zone.index, cpu)
            if count == 0:
                break
            batch = yield read_once("pcp.batch", zone.index, cpu)
            to_drain = minimum(count, batch * ROUND)
            yield write(count - to_drain, left, zone.index, cpu)
            here = yield from self.pcp_lock_of(zone, cpu)
            yield from self.free_pcppages_bulk(zone, to_drain, cpu)
            yield from self.pcp_unlock_of(zone, cpu, here)

    def drain_pages(self, cpu: int, left: str = "drain.left") -> Routine:
        """mm/page_alloc.c: drain_pages(): all populated zones' lists of ``cpu``."""
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)):
                yield from self.drain_pages_zone(cpu, zone, left)

    def page_alloc_cpu_dead(self, cpu: int) -> Routine:
        """mm/page_alloc.c: page_alloc_cpu_dead(): drain the lists of the CPU that has gone, and set the others' limits."""
        yield from self.drain_pages(cpu, "drain.left_of_dead")
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)):
                yield from self.zone_pcp_update(zone, 0)

    # in v6.1.y as well
    page_handle_poison = V6_1.page_handle_poison
