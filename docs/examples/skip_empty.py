"""A saving: a drain leaves a pcplist alone whose count reads 0.  A change of whatever kernel you name with --kernel."""

from kernelmodel.ops import read


class SkipEmpty:
    """mm/page_alloc.c: drain_pages_zone() looks at pcp->count before it does anything."""

    def drain_pages_zone(self, cpu, zone):
        """mm/page_alloc.c: drain_pages_zone(), with an early return."""
        if (yield read("pcp.count", zone.index, cpu)) == 0:
            return
        yield from super().drain_pages_zone(cpu, zone)
