"""v6.2: interrupts stay on in the critical section of a pcplist (574907741599, in v6.1.y as well)."""

from __future__ import annotations

from collections.abc import Sequence

from kernelmodel import ops
from kernelmodel.mm.page_alloc import SWAP_CLUSTER_MAX
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, Zone
from kernelmodel.ops import Routine
from kernelmodel.terms import select
from kernelmodel.versions.v6_0 import V6_0


class V6_2(V6_0):
    """v6.2: who is in a pcplist's critical section is pinned to its CPU, and may be interrupted there."""

    name = "v6.2"
    summary = "v6.0 with interrupts on in the critical section, where an interrupt's trylock then fails (574907741599)"

    # --- the critical section ---

    def pcp_spin_trylock(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: pcp_spin_trylock(): pinned, interrupts on; the CPU, or -1 where the lock is taken."""
        yield ops.preempt_disable()
        cpu = yield ops.smp_processor_id()
        if (yield ops.spin_trylock("pcp.lock", zone.index, cpu, nr_blocks=self.config.nr_blocks)):
            return cpu
        yield ops.preempt_enable()
        return -1

    def pcp_spin_unlock(self, zone: Zone, cpu: int) -> Routine:
        """mm/page_alloc.c: pcp_spin_unlock(), on the CPU whose pcplist it is."""
        yield ops.spin_unlock("pcp.lock", zone.index, cpu)
        yield ops.preempt_enable()

    def free_unref_page_list(self, pages: Sequence[Page]) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(): by trylock, for it may be called from an interrupt; else to the buddy."""
        kept = yield from self.free_unref_pages_prepare(pages)
        cpu, zone, batch_count = -1, Zone(), 0
        for page, migratetype in kept:
            if cpu >= 0 and (page.zone != zone or batch_count == SWAP_CLUSTER_MAX):
                yield from self.pcp_spin_unlock(zone, cpu)
                cpu = -1
            if cpu < 0:
                zone, batch_count = page.zone, 0
                cpu = yield from self.pcp_spin_trylock(zone)
            if cpu < 0:
                yield from self.free_one_page(page.zone, page, migratetype)
                continue
            pcpmigratetype = select(migratetype >= PCPTYPES, int(MigrateType.MOVABLE), migratetype)
            yield from self.free_unref_page_commit(page, pcpmigratetype, cpu)
            batch_count += 1
        if cpu >= 0:
            yield from self.pcp_spin_unlock(zone, cpu)

    def pcp_lock_of(self, zone: Zone, cpu: int) -> Routine:
        """include/linux/spinlock.h: spin_lock(&pcp->lock) of any CPU's pcplist."""
        yield ops.spin_lock("pcp.lock", zone.index, cpu)
        return cpu

    def pcp_unlock_of(self, zone: Zone, cpu: int, here: int) -> Routine:
        """include/linux/spinlock.h: spin_unlock(&pcp->lock)."""
        del here
        yield ops.spin_unlock("pcp.lock", zone.index, cpu)
