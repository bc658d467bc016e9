"""The lists of one CPU's pageset: order matters, for frees use the head, refills the tail, bulk frees the tail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernelmodel.errors import BugError
from kernelmodel.mmzone import PCPTYPES


def bulk_order(lengths: Sequence[int], count: int) -> list[int]:
    """mm/page_alloc.c: free_pcppages_bulk(), its choice of lists: the list that each page leaves, first to last.

    Round robin over the lists, more from fuller ones: each empty list on the way makes the next batch one page
    larger.  Of PCPTYPES lists pages are of order 0, of the next ones of order 1, and so on: a page counts for as many as
    it is made of.  Where ``count`` exceeds what is there the C loop never ends; this ends with all there is.
    """
    each = [1 << i // PCPTYPES for i in range(len(lengths))]
    left = list(lengths)
    order: list[int] = []
    migratetype = batch_free = 0
    count = min(count, sum(n * pages for n, pages in zip(left, each, strict=True)))
    while count > 0:
        while True:
            batch_free += 1
            migratetype = (migratetype + 1) % len(left)
            if left[migratetype]:
                break
        if batch_free == len(left):
            batch_free = count
        while True:
            left[migratetype] -= 1
            order.append(migratetype)
            count -= each[migratetype]
            batch_free -= 1
            if not (count > 0 and batch_free and left[migratetype]):
                break
    return order


def split_bulk(lengths: Sequence[int], count: int) -> list[int]:
    """mm/page_alloc.c: free_pcppages_bulk(), its choice of lists: how many pages leave each list (see bulk_order)."""
    order = bulk_order(lengths, count)
    return [order.count(migratetype) for migratetype in range(len(lengths))]


class PcpLists:
    """include/linux/mmzone.h: struct per_cpu_pages, its ``lists``: first pages of pages, index 0 is the head.

    The lists of order 0 come first, one for each migratetype, then those of order 1, and so on.
    """

    def __init__(self, order: int = 0) -> None:
        """All lists empty; ``order`` is the largest of a page on them."""
        self.lists: list[list[int]] = [[] for _ in range(PCPTYPES * (order + 1))]

    def pages(self) -> Iterator[tuple[int, range]]:
        """The pages on all lists: the list's index, and the pages of order 0 that each is made of."""
        for index, heads in enumerate(self.lists):
            for head in heads:
                yield index, range(head, head + (1 << index // PCPTYPES))

    def add_head(self, pfn: int, migratetype: int) -> None:
        """include/linux/list.h: list_add(); an error for a page that is already on one of the lists."""
        self._check([pfn], migratetype)
        self.lists[migratetype].insert(0, pfn)

    def add_tail(self, pfns: Sequence[int], migratetype: int) -> None:
        """include/linux/list.h: list_add_tail(), one page after the other."""
        self._check(pfns, migratetype)
        self.lists[migratetype].extend(pfns)

    def take_head(self, migratetype: int) -> int:
        """include/linux/list.h: list_first_entry() and list_del(); an error for an empty list."""
        self._check_type(migratetype)
        if not self.lists[migratetype]:
            raise BugError(f"pcplist of migratetype {migratetype} is empty: test list_empty() before taking a page")
        return self.lists[migratetype].pop(0)

    def detach_bulk(self, count: int) -> list[int]:
        """mm/page_alloc.c: free_pcppages_bulk(), its first loop: the pages that leave, from the tails, in that order.

        Fewer than ``count`` where the C loop would spin on empty lists for ever: the caller tells by the length.
        """
        return [self.lists[t].pop() for t in bulk_order([len(pages) for pages in self.lists], count)]

    def detach_list_by_list(self, count: int) -> list[int]:
        """The same from v5.18 on (fd56eef258a1): a list is emptied before the next one is looked at.

        C begins with the list that its caller names, this with the first.
        """
        taken: list[int] = []
        for index, pages in enumerate(self.lists):
            while pages and count > 0:
                taken.append(pages.pop())
                count -= 1 << index // PCPTYPES
        return taken

    def _check(self, pfns: Sequence[int], migratetype: int) -> None:
        self._check_type(migratetype)
        seen = {pfn for pages in self.lists for pfn in pages}
        for pfn in pfns:
            if pfn in seen:
                raise BugError(
                    f"double free: page {pfn} is on this CPU's pcplist already; take it off before adding it"
                )
            seen.add(pfn)

    def _check_type(self, migratetype: int) -> None:
        if not 0 <= migratetype < len(self.lists):
            raise BugError(f"migratetype {migratetype} has no pcplist: give one below {len(self.lists)}")
