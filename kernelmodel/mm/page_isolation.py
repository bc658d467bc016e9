"""mm/page_isolation.c as `base` has it: draining is the callers' business."""

from __future__ import annotations

from kernelmodel import isolation_ops, ops
from kernelmodel.mm.page_alloc import PageAlloc
from kernelmodel.mmzone import EBUSY, MigrateType, PageRange, Zone
from kernelmodel.ops import Routine


class PageIsolation(PageAlloc):
    """Isolating ranges of pageblocks."""

    def set_migratetype_isolate(self, zone: Zone, block: int) -> Routine:
        """mm/page_isolation.c: set_migratetype_isolate(); returns whether the block is now ours (C: 0, else -EBUSY)."""
        return (yield isolation_ops.isolate_block(self.config, zone, block))

    def unset_migratetype_isolate(self, zone: Zone, block: int, migratetype: MigrateType) -> Routine:
        """mm/page_isolation.c: unset_migratetype_isolate()."""
        yield isolation_ops.unisolate_block(self.config, zone, block, migratetype)

    def start_isolate_page_range(self, page_range: PageRange, migratetype: MigrateType, flags: int) -> Routine:
        """mm/page_isolation.c: start_isolate_page_range(): all blocks or none; returns 0 or -EBUSY.

        ``flags`` has MEMORY_OFFLINE where nobody may get a page of the range from then on.
        """
        del flags
        for block in page_range.blocks:
            isolated = yield from self.set_migratetype_isolate(page_range.zone, block)
            if not isolated:
                for undo in range(page_range.first, block):
                    yield from self.unset_migratetype_isolate(page_range.zone, undo, migratetype)
                return -EBUSY
        return 0

    def undo_isolate_page_range(self, page_range: PageRange, migratetype: MigrateType) -> Routine:
        """mm/page_isolation.c: undo_isolate_page_range(): blocks that are not ISOLATE stay as they are."""
        for block in page_range.blocks:
            yield from self.unset_migratetype_isolate(page_range.zone, block, migratetype)

    def test_pages_isolated(self, page_range: PageRange, isol_flags: int) -> Routine:
        """mm/page_isolation.c: test_pages_isolated(); returns whether all pages are isolated and free (C: 0)."""
        return (yield isolation_ops.all_free(self.config, page_range, isol_flags, self.poisons))

    def alloc_contig_range(self, page_range: PageRange, migratetype: MigrateType) -> Routine:
        """mm/page_alloc.c: alloc_contig_range(): isolates, drains once, and gives up where a page is left; 0 or -EBUSY.

        It does not disable pcplists: a page that escapes to one makes it fail, which its callers have to bear.
        """
        ret = yield from self.start_isolate_page_range(page_range, migratetype, 0)
        if ret:
            return ret
        yield from self.drain_all_pages(page_range.zone)
        ret = -EBUSY
        migrated = not (yield ops.environment("migrate_fails", "__alloc_contig_migrate_range()"))
        if migrated and (yield from self.test_pages_isolated(page_range, 0)):
            # not a page that memory_failure() has marked, which the test lets pass
            ret = 0 if (yield isolation_ops.isolate_freepages_range(self.config, page_range)) else -EBUSY
        yield from self.undo_isolate_page_range(page_range, migratetype)
        return ret
