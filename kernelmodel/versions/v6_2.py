"""v6.2: interrupts stay on in the critical section of a pcplist (574907741599, in v6.1.y as well)."""

from __future__ import annotations

from kernelmodel import ops
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine
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

    def pcp_lock_for_list(self, zone: Zone) -> Routine:
        """mm/page_alloc.c: free_unref_page_list(), how it gets pcp->lock: by trylock, for it may run in an interrupt."""
        return (yield from self.pcp_spin_trylock(zone))

    def pcp_lock_of(self, zone: Zone, cpu: int) -> Routine:
        """include/linux/spinlock.h: spin_lock(&pcp->lock) of any CPU's pcplist."""
        yield ops.spin_lock("pcp.lock", zone.index, cpu)
        return cpu

    def pcp_unlock_of(self, zone: Zone, cpu: int, here: int) -> Routine:
        """include/linux/spinlock.h: spin_unlock(&pcp->lock)."""
        del here
        yield ops.spin_unlock("pcp.lock", zone.index, cpu)
