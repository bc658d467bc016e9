"""The per-CPU sets of a zone: who takes the address of one, and who frees it meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from kernelmodel import ops, page_ops
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine, add, read, read_once
from kernelmodel.tasks import TaskKind
from kernelmodel.terms import IntTerm, lift
from kernelmodel.versions.v5_11 import V5_11


class PagesetFreed(V5_11):
    """Until v5.12: zone_pcp_reset() frees the sets of a zone with interrupts off on its own CPU only."""

    name = "pageset-freed"
    summary = "until v5.12: zone_pcp_reset() frees the per-CPU sets while another CPU is about to use its own"
    tasks: ClassVar[tuple[TaskKind, ...]] = (
        *V5_11.tasks,
        TaskKind(
            name="reset", make=lambda k, given: k.zone_pcp_reset(given.zone), option="resets", needs="zone_pcp_reset",
            words="zone_pcp_reset()", help="tasks that take the last page from a zone", proved=False, zones=True,
        ),
    )  # fmt: skip

    def rmqueue_pcplist(self, zone: Zone, migratetype: IntTerm) -> Routine:
        """mm/page_alloc.c: rmqueue_pcplist(): which set the zone has is read, and the set used afterwards."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        boot = yield read("zone.was_reset", zone.index, text="pcp = this_cpu_ptr(zone->pageset)")
        page = None
        available = True
        first_use = page_ops.list_empty(self.config, zone, cpu, migratetype)
        info = {"cpu": cpu, "zone": zone.index, "boot_set": lift(boot)}
        empty, _ = yield replace(first_use, returns=(*first_use.returns, lift(boot)), info=info)
        if empty:
            batch = yield read_once("pcp.batch", zone.index, cpu)
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype)
            yield add(alloced, "pcp.count", zone.index, cpu)
            available = alloced > 0
        if available:
            page = yield page_ops.list_del_first(self.config, zone, cpu, migratetype)
            yield add(-1, "pcp.count", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page


class PagesetStays(PagesetFreed):
    """v5.13: a zone that has lost its last page keeps its sets; their limits are those at boot."""

    name = "pageset-stays"
    summary = "v5.13: zone_pcp_reset() leaves the per-CPU sets where they are"

    def zone_pcp_reset(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: zone_pcp_reset()."""
        for cpu in self.for_each_cpu():
            yield from self.pageset_update(zone, cpu, 0, 1)
