"""A change that looks like a saving: do not bother CPUs whose pcplist is empty when pcplists are disabled."""

from kernelmodel import V5_11


class SkipIdleCpus(V5_11):
    """zone_pcp_disable() asks for a drain of the CPUs that have pages, not of all."""

    def zone_pcp_disable(self, zone):
        """mm/page_alloc.c: zone_pcp_disable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 1)
        yield from self.drain_all_pages(zone)  # v5.11 forces all CPUs
