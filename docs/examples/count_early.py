"""A first repair of skip_idle_cpus.py, and not enough: a refill counts its pages before it takes them."""

from kernelmodel import V5_11, ops, page_ops
from kernelmodel.ops import add, read_once


class CountEarly(V5_11):
    """A CPU in the middle of a refill no longer looks idle."""

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
            batch = yield read_once("pcp.batch", zone.index, cpu)
            yield add(batch, "pcp.count", zone.index, cpu)  # new: what is about to come
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype)
            yield add(alloced - batch, "pcp.count", zone.index, cpu)  # new: what has come
            available = alloced > 0
        if available:
            page = yield page_ops.list_del_first(self.config, zone, cpu, migratetype)
            yield add(-1, "pcp.count", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page
