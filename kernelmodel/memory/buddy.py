"""The buddy allocator of one zone: free lists by order and migratetype, splitting, merging, isolation.

Sequential and deterministic: whoever calls holds zone->lock.  Page numbers count from the start of the zone.

Where this is simpler than v5.11: stealing never changes a pageblock's type and always takes the largest page; a page
that is likely to merge soon goes to the head of its list like any other; and a free page larger than a pageblock is cut
before one of its blocks changes between isolated and not.  v5.11 leaves such a page whole, for its callers isolate
ranges aligned to the largest order; later kernels cut it as we do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from kernelmodel.errors import BugError, ModelError
from kernelmodel.mmzone import MigrateType

#: mm/page_alloc.c: fallbacks[]: where to steal when a type's own free lists are empty
FALLBACKS: dict[int, tuple[int, ...]] = {
    MigrateType.UNMOVABLE: (MigrateType.RECLAIMABLE, MigrateType.MOVABLE),
    MigrateType.MOVABLE: (MigrateType.RECLAIMABLE, MigrateType.UNMOVABLE),
    MigrateType.RECLAIMABLE: (MigrateType.UNMOVABLE, MigrateType.MOVABLE),
}


def buddy_pfn(pfn: int, order: int) -> int:
    """mm/internal.h: __find_buddy_pfn(): the neighbour with which a free page of that order would merge."""
    return pfn ^ (1 << order)


def may_merge(order: int, pageblock_order: int, has_isolate: bool, type_a: int, type_b: int) -> bool:
    """mm/page_alloc.c: __free_one_page(): whether two free buddies of that order may become one.

    From pageblock_order on, not if one of two blocks of different types is ISOLATE.
    """
    if order < pageblock_order or not has_isolate:
        return True
    return type_a == type_b or MigrateType.ISOLATE not in (type_a, type_b)


def split_path(order: int, low: int) -> list[int]:
    """mm/page_alloc.c: expand(): orders of the upper halves that go back when an ``order`` page is cut to ``low``."""
    return list(range(order - 1, low - 1, -1))


class Buddy:
    """mm/page_alloc.c: struct free_area of a zone.  ``max_order`` is exclusive; starts with no free page."""

    def __init__(self, nr_pages: int, pageblock_order: int, max_order: int) -> None:
        """An empty allocator; the size must be a whole number of pageblocks."""
        if not 0 <= pageblock_order < max_order:
            raise ModelError(
                f"pageblock_order {pageblock_order} is outside 0 to {max_order - 1}: give a larger max_order"
            )
        if nr_pages <= 0 or nr_pages % (1 << pageblock_order):
            size = 1 << pageblock_order
            raise ModelError(f"{nr_pages} pages are no whole number of pageblocks: give a multiple of {size}, above 0")
        self.nr_pages, self.pageblock_order, self.max_order = nr_pages, pageblock_order, max_order
        #: (order, migratetype) -> page numbers, head first
        self.free_list: dict[tuple[int, int], list[int]] = {(o, t): [] for o in range(max_order) for t in MigrateType}
        #: head of a free buddy -> (order, migratetype of its list)
        self.free: dict[int, tuple[int, int]] = {}

    # --- the lists ---

    def _add(self, pfn: int, order: int, migratetype: int, tail: bool = False) -> None:
        """mm/page_alloc.c: add_to_free_list(), add_to_free_list_tail()."""
        pages = self.free_list[order, migratetype]
        pages.insert(len(pages) if tail else 0, pfn)
        self.free[pfn] = (order, migratetype)

    def _del(self, pfn: int) -> tuple[int, int]:
        """mm/page_alloc.c: del_page_from_free_list(); its order and the type of the list it was on."""
        order, migratetype = self.free.pop(pfn)
        self.free_list[order, migratetype].remove(pfn)
        return order, migratetype

    def head_of(self, pfn: int) -> int | None:
        """The head of the free buddy that contains ``pfn``, or None if the page is not free."""
        for order in range(self.max_order):
            head = pfn & ~((1 << order) - 1)
            if self.free.get(head, (-1, 0))[0] == order:
                return head
        return None

    def free_parts(self, pages: range) -> Iterator[tuple[range, int]]:
        """What of some pages is free, from the lowest on, each part with the migratetype of its list."""
        for head in sorted(self.free):
            order, migratetype = self.free[head]
            part = range(max(head, pages.start), min(head + (1 << order), pages.stop))
            if part:
                yield part, migratetype

    def free_type_of(self, pfn: int) -> int | None:
        """The migratetype of the free list on which the page lies, or None if it is not free."""
        head = self.head_of(pfn)
        return None if head is None else self.free[head][1]

    def on_lists_of(self, migratetype: int, pages: range) -> Iterator[int]:
        """Those of some pages that lie on the free lists of a type."""
        for order in range(self.max_order):
            for head in self.free_list[order, migratetype]:
                yield from range(max(head, pages.start), min(head + (1 << order), pages.stop))

    def nr_free(self) -> int:
        """Number of free pages."""
        return sum(1 << order for order, _ in self.free.values())

    # --- freeing and allocating ---

    def free_one_page(
        self,
        pfn: int,
        order: int,
        migratetype: int,
        block_types: Sequence[int],
        has_isolate: bool,
        to_tail: bool = False,
    ) -> None:
        """mm/page_alloc.c: __free_one_page(): merge with free buddies as far as allowed, then add to that type's list.

        ``block_types`` are the migratetypes of the zone's pageblocks; ``to_tail`` is FPI_TO_TAIL.  A page that spans
        isolated and other blocks is freed block by block, each with its own type.  An error, before any change, for a
        page that is out of range, misaligned, or free already.
        """
        self._check_free(pfn, order, migratetype, block_types)
        for part, part_order, part_type in self._parts(pfn, order, migratetype, block_types, has_isolate):
            self._merge(part, part_order, part_type, block_types, has_isolate, to_tail)

    def _parts(
        self, pfn: int, order: int, migratetype: int, block_types: Sequence[int], has_isolate: bool
    ) -> list[tuple[int, int, int]]:
        """One part, or one a pageblock where the page spans isolated and other blocks: else they would share a list."""
        first = pfn >> self.pageblock_order
        types = [int(t) for t in block_types[first : first + (1 << max(0, order - self.pageblock_order))]]
        if not has_isolate or len({t == MigrateType.ISOLATE for t in types}) == 1:
            return [(pfn, order, migratetype)]
        return [(b << self.pageblock_order, self.pageblock_order, t) for b, t in enumerate(types, first)]

    def _merge(
        self, pfn: int, order: int, migratetype: int, block_types: Sequence[int], has_isolate: bool, to_tail: bool
    ) -> None:
        while order < self.max_order - 1:
            other = buddy_pfn(pfn, order)
            if self.free.get(other, (-1, 0))[0] != order:
                break
            here, there = block_types[pfn >> self.pageblock_order], block_types[other >> self.pageblock_order]
            if not may_merge(order, self.pageblock_order, has_isolate, here, there):
                break
            self._del(other)
            pfn &= other
            order += 1
        self._add(pfn, order, migratetype, to_tail)

    def _check_order(self, order: int) -> None:
        if not 0 <= order < self.max_order:
            raise ModelError(f"order {order} does not exist: give 0 to {self.max_order - 1}")

    def _check_type(self, migratetype: int) -> None:
        if (0, migratetype) not in self.free_list:
            raise ModelError(f"migratetype {migratetype} does not exist: give 0 to {max(MigrateType)}")

    def _check_block(self, block: int) -> None:
        blocks = self.nr_pages >> self.pageblock_order
        if not 0 <= block < blocks:
            raise ModelError(f"pageblock {block} is outside the zone: give 0 to {blocks - 1}")

    def _check_types(self, block_types: Sequence[int]) -> None:
        blocks = self.nr_pages >> self.pageblock_order
        if len(block_types) != blocks:
            raise ModelError(
                f"{len(block_types)} block types for {blocks} pageblocks: give one for each block of the zone"
            )

    def _check_free(self, pfn: int, order: int, migratetype: int, block_types: Sequence[int]) -> None:
        self._check_order(order)
        self._check_type(migratetype)
        self._check_types(block_types)
        if not 0 <= pfn <= self.nr_pages - (1 << order):
            raise ModelError(f"page {pfn} of order {order} is outside the zone: it has pages 0 to {self.nr_pages - 1}")
        if pfn % (1 << order):
            raise ModelError(f"page {pfn} of order {order} is misaligned: give a multiple of {1 << order}")
        for part, _ in self.free_parts(range(pfn, pfn + (1 << order))):
            raise BugError(f"double free: page {part[0]} is free in the buddy already; allocate it before freeing it")

    def rmqueue_smallest(self, order: int, migratetype: int) -> int | None:
        """mm/page_alloc.c: __rmqueue_smallest(): the head of the smallest list that fits, the rest split back."""
        self._check_order(order)
        self._check_type(migratetype)
        for current in range(order, self.max_order):
            pages = self.free_list[current, migratetype]
            if pages:
                return self._take(pages[0], order)
        return None

    def rmqueue(self, order: int, migratetype: int) -> int | None:
        """mm/page_alloc.c: __rmqueue(): that type's lists, else steal from the largest page of another type.

        Never from ISOLATE or HIGHATOMIC.  Stealing changes no pageblock's type: the rest stays on the list it was on.
        """
        if migratetype == MigrateType.ISOLATE:
            raise BugError("pages of the ISOLATE lists are never handed out: allocate another migratetype")
        pfn = self.rmqueue_smallest(order, migratetype)
        if pfn is not None:
            return pfn
        for current in range(self.max_order - 1, order - 1, -1):
            for other in FALLBACKS.get(migratetype, ()):
                if self.free_list[current, other]:
                    return self._take(self.free_list[current, other][0], order)
        return None

    def _take(self, head: int, order: int) -> int:
        """mm/page_alloc.c: expand(): the lowest ``order`` page of the free buddy at ``head``."""
        whole, migratetype = self._del(head)
        for upper in split_path(whole, order):
            self._add(head + (1 << upper), upper, migratetype)
        return head

    def remove(self, pfn: int) -> None:
        """mm/page_alloc.c: take_page_off_buddy(): one certain page out of the free buddy that contains it."""
        head = self.head_of(pfn)
        if head is None:
            raise BugError(f"page {pfn} is not free in the buddy: only a free page can be taken off")
        whole, migratetype = self._del(head)
        for half in split_path(whole, 0):
            if pfn < head + (1 << half):
                self._add(head + (1 << half), half, migratetype)
            else:
                self._add(head, half, migratetype)
                head += 1 << half

    # --- pageblocks ---

    def block_pages(self, block: int) -> range:
        """include/linux/pageblock-flags.h: pageblock_nr_pages: the pages of a block."""
        self._check_block(block)
        return range(block << self.pageblock_order, (block + 1) << self.pageblock_order)

    def free_pages_in_block(self, block: int) -> int:
        """Number of free pages of a block: what mm/page_isolation.c: __test_page_isolated_in_pageblock() looks for."""
        return sum(len(part) for part, _ in self.free_parts(self.block_pages(block)))

    def move_freepages_block(self, block: int, migratetype: int) -> int:
        """mm/page_alloc.c: move_freepages_block(): the block's free pages to another type's lists; how many pages.

        Nothing merges.  A free buddy that covers more than the block is cut first (see the head of this file).
        """
        self._check_type(migratetype)
        self._cut_at(block)
        moved = 0
        for p in self.block_pages(block):
            if p in self.free:
                order, _ = self._del(p)
                self._add(p, order, migratetype, tail=True)
                moved += 1 << order
        return moved

    def unset_migratetype_isolate(self, block: int, migratetype: int, block_types: Sequence[int]) -> int:
        """mm/page_isolation.c: unset_migratetype_isolate(), its work on the free lists; how many pages moved.

        ``block_types`` are those from before; the caller sets the block's type.  A block that is wholly free is taken
        out and freed again (__isolate_free_page(), __putback_isolated_page()), for it could not merge while isolated.
        """
        self._check_block(block)
        self._check_types(block_types)
        moved = self.move_freepages_block(block, migratetype)
        first = block << self.pageblock_order
        if moved == 1 << self.pageblock_order:
            self._del(first)
            types = [*block_types[:block], migratetype, *block_types[block + 1 :]]
            self.free_one_page(first, self.pageblock_order, migratetype, types, has_isolate=True, to_tail=True)
        return moved

    def _cut_at(self, block: int) -> None:
        first = self.block_pages(block)[0]
        head = self.head_of(first)
        while head is not None and self.free[head][0] > self.pageblock_order:
            order, migratetype = self._del(head)
            self._add(head, order - 1, migratetype)
            self._add(head + (1 << (order - 1)), order - 1, migratetype)
            head = self.head_of(first)

    def remove_block(self, block: int, without: Collection[int] = ()) -> None:
        """mm/page_alloc.c: __offline_isolated_pages(): all pages of a block leave; an error if one is not free.

        Those ``without`` stay what they are: not free.
        """
        for p in self.block_pages(block):
            if p not in without and self.head_of(p) is None:
                raise BugError(f"page {p} of block {block} is not free: only a wholly free block can go offline")
        self._cut_at(block)
        for p in self.block_pages(block):
            if p in self.free:
                self._del(p)

    def add_block(self, block: int, migratetype: int, block_types: Sequence[int], has_isolate: bool) -> None:
        """mm/memory_hotplug.c: generic_online_page() of a whole block: mm/page_alloc.c: __free_pages_core()."""
        first = self.block_pages(block)[0]
        self.free_one_page(first, self.pageblock_order, migratetype, block_types, has_isolate, to_tail=True)

    # --- audit ---

    def audit(self, block_types: Sequence[int]) -> list[str]:
        """mm/page_alloc.c: page_is_buddy() and more: a sentence for each broken invariant.

        Those about a page on the wrong type's list contain "misplaced".
        """
        found: list[str] = []
        listed = {p: key for key, pages in self.free_list.items() for p in pages}
        if listed != self.free or sum(map(len, self.free_list.values())) != len(self.free):
            found.append("the free lists and the table of free pages differ")
        covered: set[int] = set()
        for head, (order, migratetype) in sorted(self.free.items()):
            pages = range(head, head + (1 << order))
            if head % (1 << order) or pages[-1] >= self.nr_pages:
                found.append(f"free page {head} of order {order} is misaligned or outside the zone")
                continue
            if covered & set(pages):
                found.append(f"free page {head} of order {order} overlaps another")
            covered |= set(pages)
            other = buddy_pfn(head, order)
            if order < self.pageblock_order and head < other and self.free.get(other, (-1, 0))[0] == order:
                found.append(f"free pages {head} and {other} of order {order} have not merged")
            isolated = {block_types[p >> self.pageblock_order] == MigrateType.ISOLATE for p in pages}
            if len(isolated) == 2:
                found.append(f"free page {head} of order {order} merges isolated and other pageblocks")
            elif isolated == {True} and migratetype != MigrateType.ISOLATE:
                found.append(f"free page {head} is misplaced: its block is ISOLATE, its list is {migratetype}")
            elif isolated == {False} and migratetype == MigrateType.ISOLATE:
                found.append(f"free page {head} is misplaced: its block is not ISOLATE, its list is")
        return found
