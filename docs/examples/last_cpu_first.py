"""A change that is harmless: zone_pcp_disable() sets the limits CPU by CPU, from the last CPU to the first."""

from kernelmodel import V5_11


class LastCpuFirst(V5_11):
    """The order in which CPUs get their limits does not matter, for the drain comes after all of them."""

    def zone_pcp_disable(self, zone):
        """mm/page_alloc.c: zone_pcp_disable()."""
        yield from self.mutex_lock("pcp_batch_high_lock")
        for cpu in reversed(self.config.cpus):
            yield from self.pageset_update(zone, cpu, 0, 1)
        yield from self._drain_all_pages(zone, True)
