"""mm/page_alloc.c as `base` has it: the kernel to which the patch "disable pcplists during memory offline" applies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernelmodel import ops, page_ops
from kernelmodel.does import Does
from kernelmodel.errors import ModelError
from kernelmodel.memory.state import Place, State
from kernelmodel.mm.pcp_limits import high_and_batch
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, Zone
from kernelmodel.ops import Effect, Op, Routine, add, read, read_once, write, write_once
from kernelmodel.page_ops import has_isolate_pageblock
from kernelmodel.terms import Cell, IntTerm, choice, const, land, lor, minimum
from kernelmodel.text import KernelText
from kernelmodel.told import Told

#: include/linux/swap.h
SWAP_CLUSTER_MAX = 32


_SPIN = Does(spins=True)
_LIMITS = Does(computes_limits=("high", "batch"))
_SPINS = "All lists are empty and the loop wants another page: it never ends."


class PageAlloc(KernelText):
    """Freeing and allocating through pcplists, draining, and the limits high and batch."""

    # --- freeing ---

    def free_unref_page(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page(): free an order-0 page through the pcplist of the CPU it runs on."""
        migratetype = yield from self.free_unref_page_prepare(page)
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        yield from self.free_unref_page_commit(page, migratetype, cpu)
        yield ops.local_irq_restore(cpu)

    def free_unref_page_prepare(self, page: Page) -> Routine:
        """mm/page_alloc.c: free_unref_page_prepare(): with interrupts on, so the migratetype it reads goes stale."""
        return (yield page_ops.store_migratetype(self.config, page))

    def free_unref_page_commit(self, page: Page, migratetype: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_unref_page_commit(): interrupts are off on ``cpu``."""
        zone = page.zone
        if migratetype >= PCPTYPES:
            if migratetype == MigrateType.ISOLATE:
                yield from self.free_one_page(zone, page, migratetype)
                return
            migratetype = int(MigrateType.MOVABLE)
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield add(1, "pcp.count", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        high = yield read_once("pcp.high", zone.index, cpu)
        if count >= high:
            batch = yield read_once("pcp.batch", zone.index, cpu)
            yield from self.free_pcppages_bulk(zone, batch, cpu)

    def free_unref_page_list(self, pages: Sequence[Page]) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(): every type is read first, then each page is committed.

        Interrupts come on again after each SWAP_CLUSTER_MAX (32) pages.
        """
        types: tuple[IntTerm, ...] = ()
        for page in pages:
            migratetype = yield from self.free_unref_page_prepare(page)
            types = (*types, migratetype)
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        for done, page in enumerate(pages):
            if done and done % SWAP_CLUSTER_MAX == 0:
                yield ops.local_irq_restore(cpu)
                cpu = yield ops.local_irq_save(self.config.nr_blocks)
            yield from self.free_unref_page_commit(page, types[done], cpu)
        yield ops.local_irq_restore(cpu)

    def free_pcppages_bulk(self, zone: Zone, count: IntTerm, cpu: int) -> Routine:
        """mm/page_alloc.c: free_pcppages_bulk(): interrupts are off on ``cpu``, or the CPU is dead."""
        pcp_count = yield read("pcp.count", zone.index, cpu)
        count = minimum(pcp_count, count)
        pages = yield page_ops.list_del_bulk(self.config, zone, cpu, count)
        if pages.length < count:
            yield from self.empty_lists_spin()
        yield page_ops.free_to_buddy(self.config, zone, pages, reread=has_isolate_pageblock(zone))

    def empty_lists_spin(self) -> Routine:
        """mm/page_alloc.c: free_pcppages_bulk(), its inner ``while (list_empty(list))`` when all lists are empty."""
        yield ops.happens("while (list_empty(list)) continues for ever", "bulk_spin", _SPINS, _SPIN)
        yield ops.never("the CPU hangs with interrupts off")

    def free_one_page(self, zone: Zone, page: Page, migratetype: IntTerm, order: int = 0) -> Routine:
        """mm/page_alloc.c: free_one_page(): straight to the buddy, with the migratetype read again if it may be stale."""
        reread = lor(has_isolate_pageblock(zone), migratetype == MigrateType.ISOLATE)
        yield page_ops.free_one(self.config, page, migratetype, order, reread)

    def free_pages_ok(self, page: Page, order: int) -> Routine:
        """mm/page_alloc.c: __free_pages_ok(): free a page of order > 0, past the pcplists."""
        migratetype = yield page_ops.store_migratetype(self.config, page)
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        yield from self.free_one_page(page.zone, page, migratetype, order)
        yield ops.local_irq_restore(cpu)

    # --- allocating ---

    def rmqueue_pcplist(self, zone: Zone, migratetype: IntTerm) -> Routine:
        """mm/page_alloc.c: rmqueue_pcplist(), __rmqueue_pcplist(): allocate an order-0 page; returns a Page or None."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        page = None
        available = True
        if (yield page_ops.list_empty(self.config, zone, cpu, migratetype)):
            batch = yield read_once("pcp.batch", zone.index, cpu)
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype)
            yield add(alloced, "pcp.count", zone.index, cpu)
            available = alloced > 0
        if available:
            page = yield page_ops.list_del_first(self.config, zone, cpu, migratetype)
            yield add(-1, "pcp.count", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page

    def rmqueue_bulk(self, zone: Zone, count: IntTerm, cpu: int, migratetype: IntTerm) -> Routine:
        """mm/page_alloc.c: rmqueue_bulk(): up to ``count`` pages from the buddy to the list's tail; returns how many."""
        return (yield page_ops.refill(self.config, zone, cpu, migratetype, count))

    def rmqueue(self, zone: Zone, migratetype: IntTerm, order: int) -> Routine:
        """mm/page_alloc.c: rmqueue() for order > 0: past the pcplists; returns a Page or None."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        page = yield page_ops.rmqueue_buddy(self.config, zone, order, migratetype)
        yield ops.local_irq_restore(cpu)
        return page

    # --- draining ---

    def drain_pages_zone(self, cpu: int, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_pages_zone(): on ``cpu`` itself, or for one that is dead."""
        here = yield ops.local_irq_save(self.config.nr_blocks)
        count = yield read("pcp.count", zone.index, cpu)
        if count != 0:
            yield from self.free_pcppages_bulk(zone, count, cpu)
        yield ops.local_irq_restore(here)

    def drain_pages(self, cpu: int) -> Routine:
        """mm/page_alloc.c: drain_pages(): all populated zones' lists of ``cpu``, which is this one or a dead one."""
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)):
                yield from self.drain_pages_zone(cpu, zone)

    def drain_local_pages(self, drain_zone: IntTerm) -> Routine:
        """mm/page_alloc.c: drain_local_pages(): the lists of the CPU it runs on, of the zone of that index or (-1) all."""
        cpu = yield ops.smp_processor_id()
        if drain_zone != -1:
            for zone in self.config.zones:
                if drain_zone == zone.index:
                    yield from self.drain_pages_zone(cpu, zone)
        else:
            yield from self.drain_pages(cpu)

    def drain_local_pages_wq(self, work_cpu: int) -> Routine:
        """mm/page_alloc.c: drain_local_pages_wq(), the work item: drains the CPU it runs on, one zone or all."""
        yield ops.preempt_disable()
        drain_zone = yield read("drain.zone", work_cpu, text="drain->zone")
        yield from self.drain_local_pages(drain_zone)
        yield ops.preempt_enable()

    def drain_worker(self, cpu: int) -> Routine:
        """kernel/workqueue.c: worker_thread() of CPU ``cpu`` and mm_percpu_wq: executes drain_local_pages_wq() when queued."""
        yield from self.worker_thread(cpu, self.drain_local_pages_wq)

    def drain_all_pages(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: drain_all_pages(): drain every online CPU whose count reads non-zero; all zones for None."""
        if not (yield from self.drain_lock(zone)):
            return
        for cpu in self.for_each_cpu():
            if (yield read("cpu_online", cpu)):
                if zone is not None:
                    has_pcps = yield from self.racy_has_pcps(zone, cpu)
                else:
                    has_pcps = yield from self.racy_has_pcps_of_any_zone(cpu)
                yield write(has_pcps, "cpus_with_pcps", cpu)
        yield from self.drain_cpus_with_pcps(zone)
        yield from self.mutex_unlock("pcpu_drain_mutex")

    def drain_lock(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: drain_all_pages(), its trylock: false for a NULL-zone caller while another drain runs."""
        locked = yield from self.mutex_trylock("pcpu_drain_mutex")
        if not locked:
            if zone is None:
                return False
            yield from self.mutex_lock("pcpu_drain_mutex")
        return True

    def racy_has_pcps(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: drain_all_pages(), its look at another CPU's pcp->count without any protection."""
        count = yield read("pcp.count", zone.index, cpu)
        return count != 0

    def racy_has_pcps_of_any_zone(self, cpu: int) -> Routine:
        """mm/page_alloc.c: drain_all_pages(NULL), the same look at the populated zones up to the first with pages."""
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)) and (yield from self.racy_has_pcps(zone, cpu)):
                return True
        return False

    def drain_cpus_with_pcps(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: drain_all_pages(): queue the work on each CPU of the mask, then wait for each."""
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield write(-1 if zone is None else zone.index, "drain.zone", cpu)
                yield from self.queue_work_on(cpu)
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield from self.flush_work(cpu)

    def drain_zone_pages(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: drain_zone_pages(), of vmstat: up to batch pages of this CPU's list of a remote zone are freed."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        batch = yield read_once("pcp.batch", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        to_drain = minimum(count, batch)
        if to_drain > 0:
            yield from self.free_pcppages_bulk(zone, to_drain, cpu)
        yield ops.local_irq_restore(cpu)

    def page_alloc_cpu_dead(self, cpu: int) -> Routine:
        """mm/page_alloc.c: page_alloc_cpu_dead(): the CPU has left cpu_online_mask; drain its lists from here."""
        yield from self.drain_pages(cpu)

    def populated_zone(self, zone: Zone) -> Routine:
        """include/linux/mmzone.h: populated_zone(), which for_each_populated_zone() asks; returns a truth value."""
        present = yield read("zone.present_pages", zone.index)
        return present != 0

    # --- the limits ---

    def pageset_update(self, zone: Zone, cpu: int, high: IntTerm, batch: IntTerm) -> Routine:
        """mm/page_alloc.c: pageset_update(): batch, then high; readers may see any mix."""
        yield write_once(batch, "pcp.batch", zone.index, cpu)
        yield write_once(high, "pcp.high", zone.index, cpu)

    def zone_new_limits(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_set_pageset_high_and_batch(), the computation; returns (high, batch).

        The zone's size and percpu_pagelist_fraction decide; an engine may leave them open: high >= 0, batch >= 1.
        """

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            if "new_high" in wanted:
                return Effect({"new_high": wanted["new_high"], "new_batch": wanted["new_batch"]})
            managed = state.load(Cell("zone.managed_pages", (zone.index,)))
            high, batch = high_and_batch(managed, state.load(Cell("percpu_pagelist_fraction")))
            return Effect({"new_high": high, "new_batch": batch})

        high, batch = choice("new_high"), choice("new_batch")
        return (yield Op(
            "new_high = {0}, new_batch = {1}", returns=(high, batch), choices=(high, batch),
            where=land(high >= 0, batch >= 1), effect=effect, shown=(high, batch),
            told=Told(why="The limits that size and settings of the zone ask for now.", value="silent"),
            does=_LIMITS, tag="new_limits",
        ))  # fmt: skip

    def zone_set_pageset_high_and_batch(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_set_pageset_high_and_batch(zone): computes, caches and applies; nothing if unchanged."""
        new_high, new_batch = yield from self.zone_new_limits(zone)
        if (yield from self.limits_unchanged(zone, new_high, new_batch)):
            return
        yield write(new_high, "zone.pageset_high", zone.index)
        yield write(new_batch, "zone.pageset_batch", zone.index)
        for cpu in self.for_each_cpu():
            yield from self.pageset_update(zone, cpu, new_high, new_batch)

    def limits_unchanged(self, zone: Zone, new_high: IntTerm, new_batch: IntTerm) -> Routine:
        """mm/page_alloc.c: zone_set_pageset_high_and_batch(), its test for an early return."""
        high = yield read("zone.pageset_high", zone.index)
        batch = yield read("zone.pageset_batch", zone.index)
        return land(high == new_high, batch == new_batch)

    def pageset_init(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: pageset_init(): a boot pageset, high 0 and batch 1: every free is flushed at once."""
        yield Op(
            f"pageset_init(cpu {cpu})",
            updates=(
                (Cell("pcp.high", (zone.index, cpu)), const(0)),
                (Cell("pcp.batch", (zone.index, cpu)), const(1)),
                (Cell("pcp.count", (zone.index, cpu)), const(0)),
            ),
            tag="pageset_init",
        )

    def setup_zone_pageset(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: setup_zone_pageset(): allocate and initialise the per-CPU pagesets, then set the limits."""
        for cpu in self.for_each_cpu():
            yield from self.pageset_init(zone, cpu)
        yield from self.zone_set_pageset_high_and_batch(zone)

    def zone_pcp_update(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_update(): recompute and apply the limits."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.zone_set_pageset_high_and_batch(zone)
        yield from self.mutex_unlock("pcp_batch_high_lock")

    def zone_pcp_reset(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_reset(): back to the boot pagesets; whatever is on the lists is lost.

        The cached limits zone->pageset_high and pageset_batch stay.  If the zone gets pages again and the same limits
        are computed, zone_set_pageset_high_and_batch() takes its early return: its CPUs stay at high 0, batch 1.
        """
        z = zone.index
        boot = [("pcp.high", 0), ("pcp.batch", 1), ("pcp.count", 0)]
        updates = [(Cell(name, (z, c)), const(v)) for c in self.config.cpus for name, v in boot]
        updates.append((Cell("zone.was_reset", (z,)), const(True)))
        lists = [
            (Cell("pcp.nr", (z, c, t, b)), const(0))
            for c in self.config.cpus
            for t in self.config.lists
            for b in self.config.blocks_of(zone)
        ]

        def effect(state: State, _: Mapping[str, int]) -> Effect:
            for lists_of_cpu in state.pcplists[z]:
                for pfn in (p for _, page in lists_of_cpu.pages() for p in page):
                    state.place[pfn] = Place.LOST
                for pages in lists_of_cpu.lists:
                    pages.clear()
            return Effect()

        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        yield Op("free_percpu(zone->pageset)", updates=(*updates, *lists), effect=effect, tag="pageset_reset")
        yield ops.local_irq_restore(cpu)

    def percpu_pagelist_fraction_sysctl_handler(self, fraction: int) -> Routine:
        """mm/page_alloc.c: percpu_pagelist_fraction_sysctl_handler(): 0, or at least MIN_PERCPU_PAGELIST_FRACTION (8)."""
        if fraction != 0 and fraction < 8:
            raise ModelError(f"percpu_pagelist_fraction {fraction} is refused: give 0 or at least 8")
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield write(fraction, "percpu_pagelist_fraction")
        for zone in self.config.zones:
            if (yield from self.populated_zone(zone)):
                yield from self.zone_set_pageset_high_and_batch(zone)
        yield from self.mutex_unlock("pcp_batch_high_lock")

    def direct_reclaim(self) -> Routine:
        """mm/page_alloc.c: __alloc_pages_direct_reclaim(), its drain_all_pages(NULL): gives up if another drain runs."""
        yield from self.drain_all_pages(None)
