"""A repair of skip_idle_cpus.py: a refill is visible in pcp->count before it reads pcp->batch."""

from kernelmodel import V5_11, ops, page_ops
from kernelmodel.ops import add, read_once


class AnnounceRefill(V5_11):
    """Whoever reads count 0 has written batch before the refill reads it."""

    def zone_pcp_disable(self, zone):
        """mm/page_alloc.c: zone_pcp_disable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 1)
        yield from self.drain_all_pages(zone)

    def rmqueue_pcplist(self, zone, migratetype):
        """mm/page_alloc.c: rmqueue_pcplist(), __rmqueue_pcplist()."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        page = None
        available = True
        if (yield page_ops.list_empty(self.config, zone, cpu, migratetype)):
            yield add(1, "pcp.count", zone.index, cpu)  # new: a refill is under way
            batch = yield read_once("pcp.batch", zone.index, cpu)
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype)
            yield add(alloced - 1, "pcp.count", zone.index, cpu)  # new: and this is what came
            available = alloced > 0
        if available:
            page = yield page_ops.list_del_first(self.config, zone, cpu, migratetype)
            yield add(-1, "pcp.count", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page
