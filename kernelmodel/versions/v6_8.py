"""v6.8: limits that tune themselves between high_min and high_max."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel import ops, page_ops
from kernelmodel.does import Does
from kernelmodel.memory.state import State
from kernelmodel.mm.pcp_limits import high_and_batch
from kernelmodel.mmzone import Page, Zone
from kernelmodel.ops import Effect, Op, Routine, add, read, read_once, write, write_once
from kernelmodel.schema import CellKind
from kernelmodel.tasks import TaskKind
from kernelmodel.terms import Cell, IntTerm, choice, const, land, lift, lnot, lor, maximum, minimum, select
from kernelmodel.told import Told
from kernelmodel.versions.v6_1 import ROUND
from kernelmodel.versions.v6_2 import V6_2

_RECLAIM = "Whether the zone is being reclaimed: decided from outside."
_BELOW = "Whether the zone has fewer free pages than its high watermark: decided from outside."
_ADAPTS = "A factor that adapts to the load: any value."


class V6_8(V6_2):
    """v6.8: pcp->high is its pcplist's own, and whoever reads it brings it between high_min and high_max."""

    name = "v6.8"
    summary = "high_min, high_max, and pcp->high between them; nr_pcp_alloc()"

    cells = (
        *V6_2.cells,
        (
            "zone.pageset_high_min",
            CellKind(
                axes=("zone",), c="zone->pageset_high_min", guard="pcp_batch_high_lock", limit="high",
                meaning="the high_min that zone_pcp_enable() restores", open_at_start=True,
            ),
        ),
        (
            "zone.pageset_high_max",
            CellKind(
                axes=("zone",), c="zone->pageset_high_max", guard="pcp_batch_high_lock", limit="high_max",
                meaning="the high_max that zone_pcp_enable() restores", open_at_start=True,
                starts_above="zone.pageset_high_min",
            ),
        ),
        (
            "pcp.high_min",
            CellKind(
                axes=("zone", "cpu"), c="pcp[{1}]->high_min", guard="pcp_batch_high_lock", limit="high",
                starts_as="zone.pageset_high_min", open_at_start=True, written_by_all=True,
                when_read="The least limit above which CPU{cpu} gives pages back to the buddy.",
                when_written=((0, "With high_max 0 as well, a free on CPU{cpu} gives its page back to the buddy at once."),),
                meaning="the least value of pcp->high; 0, as high_max is: pcplists are off",
            ),
        ),
        (
            "pcp.high_max",
            CellKind(
                axes=("zone", "cpu"), c="pcp[{1}]->high_max", guard="pcp_batch_high_lock", limit="high_max",
                starts_as="zone.pageset_high_max", open_at_start=True, written_by_all=True,
                when_read="The greatest limit above which CPU{cpu} gives pages back to the buddy.",
                meaning="the greatest value of pcp->high",
            ),
        ),
        (
            "pcp.high_now",
            CellKind(
                axes=("zone", "cpu"), c="pcp[{1}]->high",
                when_read="The count above which CPU{cpu} gives pages back, before it is brought between its limits.",
                meaning="pcp->high, which adapts to the load and is brought between high_min and high_max by its readers",
            ),
        ),
    )  # fmt: skip
    limits = ("zone.pageset_high_min", "zone.pageset_batch", "zone.pageset_high_max")
    tasks = (
        *V6_2.tasks,
        TaskKind(
            name="decay", make=lambda k, given: k.decay_pcp_high(given.zone), option="decays", words="decay_pcp_high()",
            needs="decay_pcp_high", help="vmstat workers that lower pcp->high of the CPU on which they are", on_lists=True,
            zones=True,
        ),
    )  # fmt: skip

    # --- freeing ---

    def free_unref_page_commit(self, page: Page, migratetype: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_unref_page_commit(); free_high, which is false for order 0, is never true here."""
        zone = page.zone
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield add(1 << page.order, "pcp.count", zone.index, cpu)
        batch = yield read_once("pcp.batch", zone.index, cpu)
        high = yield from self.nr_pcp_high(zone, cpu, batch)
        count = yield read("pcp.count", zone.index, cpu)
        if count >= high:
            nr = yield from self.nr_pcp_free(high, batch)
            yield from self.free_pcppages_bulk(zone, nr, cpu)

    def nr_pcp_high(self, zone: Zone, cpu: int, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: nr_pcp_high(pcp, zone, batch, free_high): brings pcp->high between its limits, and adapts it.

        C has a branch for each case; here one expression has them all.
        """
        high, high_min, high_max = yield from self.clamp_pcp_high(zone, cpu)
        reclaims = yield ops.environment("reclaims", "test_bit(ZONE_RECLAIM_ACTIVE)", _RECLAIM, None)
        below_high = yield ops.environment("below_high", "test_bit(ZONE_BELOW_HIGH)", _BELOW, None)
        count = yield read("pcp.count", zone.index, cpu)
        freed = yield ops.part_of("freed", "pcp->free_count", high_max, _ADAPTS)
        lower = maximum(high - batch - freed, high_min)
        larger = minimum(maximum(batch + freed, high_min), high_max)
        fixed = lor(high == 0, high_min == high_max)
        tuned = select(below_high, lower, select(lift(count) >= high, maximum(high, larger), high))
        adapted = select(land(reclaims, lnot(high == 0)), lower, select(fixed, high, tuned))
        yield write(adapted, "pcp.high_now", zone.index, cpu)
        stored = select(land(below_high, lnot(fixed)), maximum(count, high_min), high)
        return select(land(reclaims, lnot(high == 0)), minimum(batch * 4, lower), stored)

    def clamp_pcp_high(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: nr_pcp_high(), nr_pcp_alloc(): ``high = pcp->high = clamp(…)``; returns (high, high_min, high_max)."""
        high_min = yield read_once("pcp.high_min", zone.index, cpu)
        high_max = yield read_once("pcp.high_max", zone.index, cpu)
        old = yield read("pcp.high_now", zone.index, cpu)
        high = minimum(maximum(old, high_min), high_max)
        yield write(high, "pcp.high_now", zone.index, cpu)
        return high, high_min, high_max

    # --- allocating ---

    def _refill_batch(self, zone: Zone, cpu: int, order: int) -> Routine:
        """mm/page_alloc.c: __rmqueue_pcplist(), how many pages it asks for."""
        batch = yield from self.nr_pcp_alloc(zone, cpu)
        return (yield from self._of_order(batch, order))

    def nr_pcp_alloc(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: nr_pcp_alloc(pcp, zone, order), before ``order`` counts: one page where pcplists are off."""
        base_batch = yield read_once("pcp.batch", zone.index, cpu)
        high, high_min, high_max = yield from self.clamp_pcp_high(zone, cpu)
        more = yield ops.part_of("more", "batch <<= pcp->alloc_factor", base_batch * (ROUND - 1), _ADAPTS)
        below_high = yield ops.environment("below_high", "test_bit(ZONE_BELOW_HIGH)", _BELOW, None)
        off = lift(high) < base_batch
        grown = select(lor(off, below_high, high_min == high_max), high, minimum(high + base_batch + more, high_max))
        yield write(grown, "pcp.high_now", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        most = maximum(grown - count - base_batch, base_batch)
        return select(off, 1, minimum(base_batch + more, most))

    # --- the vmstat worker ---

    def decay_pcp_high(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: decay_pcp_high(): of the CPU it runs on; pcp->high and count are looked at without pcp->lock."""
        yield ops.preempt_disable()
        cpu = yield ops.smp_processor_id()
        high_min = yield read_once("pcp.high_min", zone.index, cpu)
        batch = yield read_once("pcp.batch", zone.index, cpu)
        high = yield read("pcp.high_now", zone.index, cpu)
        if high > high_min:
            count = yield read("pcp.count", zone.index, cpu)
            decayed = yield ops.part_of("decayed", "pcp->high >> 3", high, _ADAPTS)
            high = maximum(maximum(count - batch * ROUND, high - decayed), high_min)
            yield write(high, "pcp.high_now", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        to_drain = count - high
        if to_drain > 0:
            here = yield from self.pcp_lock_of(zone, cpu)
            yield from self.free_pcppages_bulk(zone, to_drain, cpu)
            yield from self.pcp_unlock_of(zone, cpu, here)
        yield ops.preempt_enable()

    # --- the limits ---

    def pageset_update(self, zone: Zone, cpu: int, high_min: IntTerm, high_max: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: pageset_update(pcp, high_min, high_max, batch): three stores; pcp->high is not one of them."""
        yield write_once(batch, "pcp.batch", zone.index, cpu)
        yield write_once(high_min, "pcp.high_min", zone.index, cpu)
        yield write_once(high_max, "pcp.high_max", zone.index, cpu)

    def set_pageset_high_and_batch(self, zone: Zone, high_min: IntTerm, high_max: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: __zone_set_pageset_high_and_batch(zone, high_min, high_max, batch): every possible CPU."""
        for cpu in self.for_each_cpu():
            yield from self.pageset_update(zone, cpu, high_min, high_max, batch)

    def zone_set_pageset_high_and_batch(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_set_pageset_high_and_batch(zone, cpu_online): computes, caches and applies."""
        new_high_min, new_high_max, new_batch = yield from self.zone_new_limits(zone)
        high_min = yield read("zone.pageset_high_min", zone.index)
        high_max = yield read("zone.pageset_high_max", zone.index)
        batch = yield read("zone.pageset_batch", zone.index)
        if land(high_min == new_high_min, high_max == new_high_max, batch == new_batch):
            return
        yield write(new_high_min, "zone.pageset_high_min", zone.index)
        yield write(new_high_max, "zone.pageset_high_max", zone.index)
        yield write(new_batch, "zone.pageset_batch", zone.index)
        yield from self.set_pageset_high_and_batch(zone, new_high_min, new_high_max, new_batch)

    def zone_new_limits(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_set_pageset_high_and_batch(), the computation; returns (high_min, high_max, batch).

        The same high_min and high_max where the sysctl percpu_pagelist_high_fraction is set.
        """

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            if "new_high" in wanted:
                high, batch = wanted["new_high"], wanted["new_batch"]
                high_max = wanted.get("new_high_max", high + 1)
            else:
                managed = state.load(Cell("zone.managed_pages", (zone.index,)))
                fraction = state.load(Cell("percpu_pagelist_fraction"))
                high, batch = high_and_batch(managed, fraction)
                high_max = high if fraction else maximum(high, managed // 8)
            return Effect({"new_high": high, "new_high_max": high_max, "new_batch": batch})

        high, high_max, batch = choice("new_high"), choice("new_high_max"), choice("new_batch")
        return (yield Op(
            "new_high_min = {0}, new_high_max = {1}, new_batch = {2}", returns=(high, high_max, batch),
            choices=(high, high_max, batch), where=land(high >= 0, high_max >= high, batch >= 1), effect=effect,
            shown=(high, high_max, batch),
            told=Told(why="The limits that size and settings of the zone ask for now.", value="silent"),
            does=Does(computes_limits=("high", "high_max", "batch")), tag="new_limits",
        ))  # fmt: skip

    def pageset_init(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: per_cpu_pages_init(): a boot pageset, high_min and high_max 0, batch 1."""
        boot = {"pcp.high_min": 0, "pcp.high_max": 0, "pcp.high_now": 0, "pcp.batch": 1, "pcp.count": 0}
        yield Op(
            f"per_cpu_pages_init(cpu {cpu})",
            updates=tuple((Cell(name, (zone.index, cpu)), const(v)) for name, v in boot.items()),
            tag="pageset_init",
        )

    def zone_pcp_reset(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_reset(): back to the boot pagesets."""
        yield from super().zone_pcp_reset(zone)
        for cpu in self.for_each_cpu():
            yield from self.pageset_init(zone, cpu)

    def zone_pcp_disable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_disable(): no page stays on a pcplist of ``zone`` until zone_pcp_enable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)
        yield from self._drain_all_pages(zone, True)

    def zone_pcp_enable(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_enable(): back to the cached limits; an error for whoever has not disabled."""
        high_min = yield read("zone.pageset_high_min", zone.index)
        high_max = yield read("zone.pageset_high_max", zone.index)
        batch = yield read("zone.pageset_batch", zone.index)
        yield from self.set_pageset_high_and_batch(zone, high_min, high_max, batch)
        yield from self.mutex_unlock("pcp_batch_high_lock")
