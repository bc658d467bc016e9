"""The pcplists of a running kernel, page by page, from its trace: who entered, who left, and whether the counts agree.

A page enters by free_unref_page_commit() and, between the entry and the return of rmqueue_bulk() on the same CPU and task, by
mm_page_alloc_zone_locked; it leaves by mm_page_pcpu_drain (to the buddy) or mm_page_alloc (to a user; told after the lock has
been dropped, so late).  What was on the lists when the recording began is unknown: the lists are exact from the first
return of zone_pcp_disable() on, which has drained them all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from verify.observe.events import Event
from verify.observe.probes import PAGE_STRUCT

#: how much of a page's past is kept
_PAST = 6
#: what sizeof(struct page) may be
_SIZES = range(40, 129, 8)
#: struct per_cpu_pages is no larger
_LARGEST = 1024


@dataclass(slots=True)
class Stay:
    """One stay of a page on a pcplist: which list, since when, and what happened to the page lately."""

    pcp: int
    order: int
    number: int
    past: deque[Event]


@dataclass(slots=True)
class Lists:
    """All pcplists of which something is known; a page by its frame number."""

    stays: dict[int, Stay] = field(default_factory=dict)
    on: dict[int, set[int]] = field(default_factory=dict)
    #: how many pages those are, by list
    pages: Counter[int] = field(default_factory=Counter)
    cpu_of: dict[int, int] = field(default_factory=dict)
    zone_of: dict[int, int] = field(default_factory=dict)
    #: how often the list had so many pages more than pcp->count said, at a free
    differences: Counter[int] = field(default_factory=Counter)
    #: pages that a free which has not returned yet has put on a list, by CPU, task and context
    open_frees: dict[tuple[int, int, str], list[tuple[int, int] | None]] = field(default_factory=dict)
    exact: set[int] = field(default_factory=set)
    unpaired: int = 0
    refills: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    _numbers: int = 0
    _page: tuple[int, int] | None = None
    _base: tuple[int, int] | None = None

    # --- pages ---

    def told(self, event: Event) -> None:
        """The recorder has read where struct page of frame 0 is."""
        if event.fields.get("base"):
            self._base = (event["base"], PAGE_STRUCT)

    def learn(self, event: Event) -> None:
        """The same, and how large struct page is, from two events that name page and frame and do not hash the address."""
        if self._base is not None or "page" not in event.fields or "pfn" not in event.fields:
            return
        page, pfn = event["page"], event["pfn"]
        if self._page is None:
            self._page = (page, pfn)
        elif pfn != self._page[1]:
            size = (page - self._page[0]) // (pfn - self._page[1])
            if size in _SIZES and page - pfn * size == self._page[0] - self._page[1] * size:
                self._base = (page - pfn * size, size)

    def frame(self, event: Event) -> int | None:
        """The frame number of an event's page; None while it cannot be told."""
        if "pfn" in event.fields:
            return event["pfn"]
        if self._base is None:
            return None
        number, rest = divmod(event["page"] - self._base[0], self._base[1])
        return None if rest else number

    # --- coming and going ---

    def enter(self, event: Event, pcp: int, frame: int, order: int) -> int:
        """A page comes to a list; returns the number of its stay."""
        past = self.leave(frame)
        self._numbers += 1
        self.stays[frame] = Stay(pcp, order, self._numbers, deque(past.past if past else (), _PAST))
        self.stays[frame].past.append(event)
        self.on.setdefault(pcp, set()).add(frame)
        self.pages[pcp] += 1 << order
        return self._numbers

    def leave(self, frame: int) -> Stay | None:
        """A page leaves; its stay, if it was known to be there."""
        stay = self.stays.pop(frame, None)
        if stay is not None:
            self.on[stay.pcp].discard(frame)
            self.pages[stay.pcp] -= 1 << stay.order
        return stay

    def free(self, event: Event) -> None:
        """free_unref_page_commit() is entered."""
        pcp, zone = event["pcp"], event["zone"]
        if pcp not in self.zone_of:
            self._join(pcp, zone)
        self.cpu_of[pcp], self.zone_of[pcp] = event.cpu, zone
        frame = self.frame(event)
        stack = self.open_frees.setdefault((event.cpu, event.pid, event.context), [])
        if frame is None:
            stack.append(None)
            return
        if zone in self.exact and "count" in event.fields:
            self.differences[self.pages[pcp] - event["count"]] += 1
        stack.append((frame, self.enter(event, pcp, frame, event["order"])))

    def freed(self, event: Event) -> tuple[int, Stay] | None:
        """It returns; the page, if that is still there by the same stay."""
        key = (event.cpu, event.pid, event.context)
        stack = self.open_frees.get(key)
        if not stack:
            self.unpaired += 1
            return None
        entered = stack.pop()
        if not stack:
            del self.open_frees[key]
        if entered is None:
            return None
        stay = self.stays.get(entered[0])
        return (entered[0], stay) if stay is not None and stay.number == entered[1] else None

    def refill(self, event: Event) -> None:
        """rmqueue_bulk() is entered: pages that its CPU and task take from the buddy come to that list."""
        listed, zone = event["list"], event["zone"]
        mine = [p for p, z in self.zone_of.items() if z == zone and p <= listed < p + _LARGEST]
        # until a free names the struct, the list stands for it
        self.refills[event.cpu] = (max(mine, default=listed), event.pid, zone)

    def refilled(self, event: Event) -> None:
        """It returns."""
        self.refills.pop(event.cpu, None)

    def taken(self, event: Event) -> bool:
        """A page is taken from the buddy; whether it came to a pcplist."""
        into = self.refills.get(event.cpu)
        if into is None or into[1] != event.pid:
            return False
        pcp, _, zone = into
        if pcp not in self.zone_of:
            self.cpu_of[pcp], self.zone_of[pcp] = event.cpu, zone
        self.enter(event, pcp, event["pfn"], event.fields.get("order", 0))
        return True

    def _join(self, pcp: int, zone: int) -> None:
        """A struct per_cpu_pages is named for the first time: the lists that stood for it are its own."""
        for known in [p for p, z in self.zone_of.items() if z == zone and pcp < p < pcp + _LARGEST]:
            for frame in self.on.pop(known, set()):
                self.stays[frame].pcp = pcp
                self.on.setdefault(pcp, set()).add(frame)
            self.pages[pcp] += self.pages.pop(known, 0)
            del self.zone_of[known], self.cpu_of[known]

    def settle(self, zone: int) -> None:
        """The lists of a zone have been drained: what was there before is gone, but for what frees under way put there."""
        if zone in self.exact:
            return
        kept = {entered[0] for stack in self.open_frees.values() for entered in stack if entered}
        for pcp, frames in self.on.items():
            if self.zone_of.get(pcp) == zone:
                for frame in frames - kept:
                    self.leave(frame)
        self.exact.add(zone)

    def staying(self, zone: int) -> Iterator[tuple[int, Stay]]:
        """The pages on the lists of a zone that no free under way has just put there."""
        moving = {entered[0] for stack in self.open_frees.values() for entered in stack if entered}
        for frame, stay in self.stays.items():
            if self.zone_of.get(stay.pcp) == zone and frame not in moving:
                yield frame, stay
