"""The concrete state: stored cells, pages, buddy allocators and pcplists, and their projection on the abstract cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from kernelmodel.cells import initial, is_derived, layout
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.memory.buddy import Buddy
from kernelmodel.memory.pcplist import PcpLists
from kernelmodel.mmzone import MigrateType, Page, Zone
from kernelmodel.terms import Cell


class Place(Enum):
    """Where a page is."""

    BUDDY = "free in the buddy"
    PCP = "on a pcplist"
    IN_USE = "in use"
    FREEING = "being freed"
    POISONED = "kept by memory_failure()"
    OFFLINE = "offline"
    LOST = "lost"


#: the places of pages that some cells count
COUNTED = {
    "held": (Place.IN_USE, Place.FREEING, Place.POISONED), "in_use": (Place.IN_USE,), "free": (Place.BUDDY,),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of a machine: those that are stored with their values at boot, and the others by how they are computed."""

    stored: Mapping[Cell, int]
    listed: Sequence[Cell]
    counted: Mapping[int, Sequence[tuple[Cell, tuple[Place, ...]]]]
    others: Sequence[Cell]


#: by size, for machines are booted again and again; whoever declares more cells has another layout
_known: dict[Config, tuple[tuple[Cell, ...], _Cells]] = {}


def _cells(config: Config) -> _Cells:
    every = layout(config)
    known = _known.get(config)
    if known is None or known[0] is not every:
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        known = _known[config] = every, _sorted(config, every)
    return known[1]


_MOST_KNOWN = 64


def _sorted(config: Config, every: Sequence[Cell]) -> _Cells:
    derived = [c for c in every if is_derived(c)]
    return _Cells(
        {c: initial(config, c) for c in every if not is_derived(c)},
        [c for c in derived if c.name == "pcp.nr"],
        {
            b: [(c, COUNTED[c.name]) for c in derived if c.name in COUNTED and c.index == (b,)]
            for b in range(config.nr_blocks)
        },
        [c for c in derived if c.name != "pcp.nr" and c.name not in COUNTED],
    )


class State:
    """Everything that the scheduler's steps change.  Page numbers (pfn) run over all zones; buddies count within theirs."""

    def __init__(self, config: Config) -> None:
        """Boot memory: all pages free in the buddy, boot pagesets, all CPUs online."""
        self.config = config
        cells = _cells(config)
        self.stored: dict[Cell, int] = dict(cells.stored)
        self._listed, self._counted, self._others = cells.listed, cells.counted, cells.others
        nr_pages = config.blocks_per_zone * config.pages_per_block
        self.buddies = [Buddy(nr_pages, config.pageblock_order, config.max_order) for _ in config.zones]
        self.pcplists = [[PcpLists(config.pcp_order) for _ in config.cpus] for _ in config.zones]
        self.place = [Place.OFFLINE] * (nr_pages * config.nr_zones)
        self.stored_type = [0] * len(self.place)
        self.order_in_use: dict[int, int] = {}
        #: the same of those that are on a pcplist or being freed
        self.order_freed: dict[int, int] = {}
        #: pages with a mark of memory_failure() that it does not keep; one that comes to the buddy loses it
        self.hwpoison: set[int] = set()
        for block in range(config.nr_blocks):
            self.online_block(block)

    # --- pages and blocks ---

    def block_of(self, pfn: int) -> int:
        """The pageblock of a page."""
        return pfn >> self.config.pageblock_order

    def page(self, pfn: int) -> Page:
        """The handle of page ``pfn``; an error if there is none."""
        if not 0 <= pfn < len(self.place):
            raise ModelError(f"page {pfn} does not exist: this machine has pages 0 to {len(self.place) - 1}")
        block = self.block_of(pfn)
        return Page(pfn, block, self.zone_of(block))

    def pfns(self, block: int) -> range:
        """The pages of a block."""
        return range(block << self.config.pageblock_order, (block + 1) << self.config.pageblock_order)

    def zone_of(self, block: int) -> Zone:
        """The zone of a block."""
        return Zone(block // self.config.blocks_per_zone)

    def base(self, zone: Zone) -> int:
        """The first page of ``zone``."""
        return zone.index * self.config.blocks_per_zone * self.config.pages_per_block

    def block_types(self, zone: Zone) -> list[int]:
        """The migratetypes of the zone's blocks."""
        return [self.stored[Cell("pageblock.migratetype", (b,))] for b in self.config.blocks_of(zone)]

    def block_type(self, block: int) -> int:
        """The migratetype of a block."""
        return self.stored[Cell("pageblock.migratetype", (block,))]

    def has_isolate_pageblock(self, z: int) -> bool:
        """has_isolate_pageblock()."""
        return self.stored[Cell("zone.nr_isolate_pageblock", (z,))] > 0

    def isolate(self, blocks: list[int], z: int) -> None:
        """Make blocks of a zone ISOLATE, and no others be counted as such."""
        for block in blocks:
            self.stored[Cell("pageblock.migratetype", (block,))] = int(MigrateType.ISOLATE)
        self.stored[Cell("zone.nr_isolate_pageblock", (z,))] = len(blocks)

    def pcp_count(self, z: int, cpu: int) -> int:
        """pcp->count."""
        return self.stored[Cell("pcp.count", (z, cpu))]

    def buddy(self, zone: Zone) -> Buddy:
        """The buddy allocator of ``zone``."""
        return self.buddies[zone.index]

    def free_to_buddy(self, pfn: int, order: int, migratetype: int) -> None:
        """mm/page_alloc.c: __free_one_page() of one (possibly compound) page."""
        zone = self.zone_of(self.block_of(pfn))
        isolate = bool(self.stored[Cell("zone.nr_isolate_pageblock", (zone.index,))])
        local = pfn - self.base(zone)
        self.buddy(zone).free_one_page(local, order, migratetype, self.block_types(zone), isolate)
        self.order_freed.pop(pfn, None)
        for p in range(pfn, pfn + (1 << order)):
            self.place[p] = Place.BUDDY
            self.hwpoison.discard(p)

    def online_block(self, block: int) -> None:
        """mm/memory_hotplug.c: generic_online_page() for the pages of a block."""
        zone = self.zone_of(block)
        self.free_to_buddy(block << self.config.pageblock_order, self.config.pageblock_order, self.block_type(block))
        assert self.buddy(zone) is not None

    def take_from_buddy(self, zone: Zone, order: int, migratetype: int) -> int | None:
        """mm/page_alloc.c: __rmqueue(); the pages are then in nobody's place: the caller says where they go."""
        local = self.buddy(zone).rmqueue(order, migratetype)
        return None if local is None else local + self.base(zone)

    def inside_compound(self, pfn: int) -> bool:
        """Whether a page in use is part of a larger one."""
        return any(head <= pfn < head + (1 << order) for head, order in self.order_in_use.items())

    def free_or_poisoned(self, block: int) -> bool:
        """Whether each page of a block is free in the buddy, or marked by memory_failure()."""
        return all(self.place[p] in (Place.BUDDY, Place.POISONED) or p in self.hwpoison for p in self.pfns(block))

    # --- projection on the abstract cells ---

    def load(self, cell: Cell) -> int:
        """The value of an abstract cell."""
        stored = self.stored.get(cell)
        if stored is not None:
            return stored
        if cell.name == "pcp.nr":
            z, c, t, b = (int(i) for i in cell.index)
            return sum(self.block_of(p) == b for p in self.pcplists[z][c].lists[t])
        if cell.name in COUNTED:
            pfns = self.pfns(int(cell.index[0]))
            return sum(map(self.place[pfns.start : pfns.stop].count, COUNTED[cell.name]))
        if cell.name == "pages":
            return self.config.pages_per_block
        if cell.name == "misplaced":
            return self._misplaced(int(cell.index[0]))
        raise ModelError(f"this machine has no {cell}: check the CPU, zone and block numbers")

    def _misplaced(self, block: int) -> int:
        if self.block_type(block) != MigrateType.ISOLATE:
            return 0
        zone, pfns = self.zone_of(block), self.pfns(block)
        base = self.base(zone)
        in_its_place = self.buddy(zone).on_lists_of(MigrateType.ISOLATE, range(pfns.start - base, pfns.stop - base))
        free = self.place[pfns.start : pfns.stop].count(Place.BUDDY)
        return free - sum(self.place[p + base] is Place.BUDDY for p in in_its_place)

    def abstract(self) -> dict[Cell, int]:
        """All abstract cells."""
        found = dict(self.stored)
        found.update(dict.fromkeys(self._listed, 0))
        found.update(self._on_pcplists())
        for block, cells in self._counted.items():
            pfns = self.pfns(block)
            places = self.place[pfns.start : pfns.stop]
            for cell, kinds in cells:
                found[cell] = sum(map(places.count, kinds))
        for cell in self._others:
            found[cell] = self.load(cell)
        return found

    def _on_pcplists(self) -> Counter[Cell]:
        # how many pages each list has of each block
        return Counter(
            Cell("pcp.nr", (z, c, t, self.block_of(pfn)))
            for z, of_zone in enumerate(self.pcplists)
            for c, lists in enumerate(of_zone)
            for t, pfns in enumerate(lists.lists)
            for pfn in pfns
        )

    def audit(self) -> list[str]:
        """Sentences for each way in which pages are not each in exactly one place; empty when all is well."""
        found: list[str] = []
        seen: dict[int, list[str]] = {p: [] for p in range(len(self.place))}
        for zone in self.config.zones:
            base = self.base(zone)
            buddy = self.buddy(zone)
            for p in range(base, base + self.config.blocks_per_zone * self.config.pages_per_block):
                if buddy.free_type_of(p - base) is not None:
                    seen[p].append(Place.BUDDY.value)
            for c in self.config.cpus:
                for p in (p for _, page in self.pcplists[zone.index][c].pages() for p in page):
                    seen[p].append(f"{Place.PCP.value} of CPU {c}")
            # a stale type on a free list is isolated_page_on_isolate_list's business, not this one's
            found += [s for s in buddy.audit(self.block_types(zone)) if "misplaced" not in s]
        for p, places in seen.items():
            expected = 1 if self.place[p] in (Place.BUDDY, Place.PCP) else 0
            if len(places) != expected or self.place[p] is Place.LOST:
                found.append(
                    f"page {p} should be {self.place[p].value}, and is {' and '.join(places) or 'nowhere else'}"
                )
        return found
