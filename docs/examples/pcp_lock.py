"""v5.11 with pcp->lock, as v6.0 has it: a spinlock for each pcplist, and drains that work on other CPUs' lists."""

from kernelmodel import V5_11, ops
from kernelmodel.mmzone import PCPTYPES, MigrateType
from kernelmodel.ops import add, read, read_once
from kernelmodel.page_ops import list_del_first, list_empty
from kernelmodel.schema import CellKind


class PcpLock(V5_11):
    """Whoever is in a pcplist's critical section holds its lock; who finds it taken goes to the buddy."""

    cells = (
        (
            "pcp.lock",
            CellKind(
                axes=("zone", "cpu"),
                values="task",
                exclusion="spinlock",
                c="pcp[{1}]->lock",
                meaning="0, or who holds pcp->lock",
            ),
        ),
    )
    section = "pcp.lock"

    def free_unref_page(self, page):
        """mm/page_alloc.c: free_unref_page(): with pcp->lock taken, or straight to the buddy."""
        migratetype = yield from self.free_unref_page_prepare(page)
        if migratetype == MigrateType.ISOLATE:
            yield from self.free_one_page(page.zone, page, migratetype)
            return
        if migratetype >= PCPTYPES:
            migratetype = int(MigrateType.MOVABLE)
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        if (yield ops.spin_trylock("pcp.lock", page.zone.index, cpu)):
            yield from self.free_unref_page_commit(page, migratetype, cpu)
            yield ops.spin_unlock("pcp.lock", page.zone.index, cpu)
        else:
            yield from self.free_one_page(page.zone, page, migratetype)
        yield ops.local_irq_restore(cpu)

    def rmqueue_pcplist(self, zone, migratetype):
        """mm/page_alloc.c: rmqueue_pcplist(): None where the lock is taken, and the caller goes to the buddy."""
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        page = None
        if (yield ops.spin_trylock("pcp.lock", zone.index, cpu)):
            page = yield from self.rmqueue_pcplist_locked(zone, migratetype, cpu)
            yield ops.spin_unlock("pcp.lock", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page

    def rmqueue_pcplist_locked(self, zone, migratetype, cpu):
        """mm/page_alloc.c: __rmqueue_pcplist()."""
        if (yield list_empty(self.config, zone, cpu, migratetype)):
            batch = yield read_once("pcp.batch", zone.index, cpu)
            alloced = yield from self.rmqueue_bulk(zone, batch, cpu, migratetype)
            yield add(alloced, "pcp.count", zone.index, cpu)
            if alloced == 0:
                return None
        page = yield list_del_first(self.config, zone, cpu, migratetype)
        yield add(-1, "pcp.count", zone.index, cpu)
        return page

    def drain_pages_zone(self, cpu, zone):
        """mm/page_alloc.c: drain_pages_zone(): of any CPU, from anywhere; count is read under the lock."""
        yield ops.spin_lock("pcp.lock", zone.index, cpu)
        count = yield read("pcp.count", zone.index, cpu)
        if count != 0:
            yield from self.free_pcppages_bulk(zone, count, cpu)
        yield ops.spin_unlock("pcp.lock", zone.index, cpu)

    def drain_cpus_with_pcps(self, zone):
        """mm/page_alloc.c: __drain_all_pages(): the caller drains each CPU of the mask itself, without a work item."""
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                if zone is None:
                    yield from self.drain_pages(cpu)
                else:
                    yield from self.drain_pages_zone(cpu, zone)


class CountOutsideTheLock(PcpLock):
    """v6.0 to v6.10 (mended by 66eca1021a42): the drain looks at count before it takes the lock."""

    def drain_pages_zone(self, cpu, zone):
        """mm/page_alloc.c: drain_pages_zone(), with the count gate outside pcp->lock."""
        count = yield read("pcp.count", zone.index, cpu)
        if count != 0:
            yield ops.spin_lock("pcp.lock", zone.index, cpu)
            yield from self.free_pcppages_bulk(zone, count, cpu)
            yield ops.spin_unlock("pcp.lock", zone.index, cpu)
