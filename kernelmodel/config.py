"""The size of a modelled machine: CPUs, zones, pageblocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.mmzone import PCPTYPES, MigrateType, Zone


@dataclass(frozen=True, slots=True)
class Config:
    """How large the machine is.

    ``block_types`` gives the initial migratetype of each pageblock; the blocks are dealt to the zones in equal runs.
    ``pageblock_order`` is log2 of the pages of a block; free buddies have orders ``0 .. max_order - 1``.  ``section`` is
    the kernel's: the name of the cell, of a CPU and maybe a zone, that is not 0 while somebody is in the critical section
    of that CPU's pcplist.  ``limits`` are the kernel's as well: the names of the cells with the limits that a zone has for
    its pcplists.  ``pcp_order`` is the largest order of a page that goes to a pcplist.
    """

    nr_cpus: int = 2
    nr_zones: int = 1
    block_types: tuple[MigrateType, ...] = (MigrateType.MOVABLE, MigrateType.MOVABLE)
    pageblock_order: int = 2
    max_order: int = 4
    section: str = "irqs_off"
    limits: tuple[str, ...] = ("zone.pageset_high", "zone.pageset_batch")
    pcp_order: int = 0

    def __post_init__(self) -> None:
        if self.nr_cpus < 1 or self.nr_zones < 1:
            raise ModelError(f"{self.nr_cpus} CPUs and {self.nr_zones} zones: a machine needs at least one of each")
        if not self.block_types or len(self.block_types) % self.nr_zones:
            raise ModelError(f"{len(self.block_types)} pageblocks do not divide evenly among {self.nr_zones} zones")
        if not 0 <= self.pageblock_order < self.max_order:
            raise ModelError(f"pageblock_order {self.pageblock_order} must be at least 0 and below {self.max_order=}")
        if not 0 <= self.pcp_order <= self.pageblock_order:
            raise ModelError(
                f"pcp_order {self.pcp_order}: a page on a pcplist is no larger than a pageblock, which is of order"
                f" {self.pageblock_order}"
            )

    @property
    def cpus(self) -> range:
        """The possible CPUs."""
        return range(self.nr_cpus)

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones."""
        return tuple(Zone(z) for z in range(self.nr_zones))

    @property
    def nr_blocks(self) -> int:
        """Number of pageblocks of all zones."""
        return len(self.block_types)

    @property
    def blocks_per_zone(self) -> int:
        """Number of pageblocks of each zone."""
        return self.nr_blocks // self.nr_zones

    @property
    def pages_per_block(self) -> int:
        """Number of pages of a pageblock."""
        return 1 << self.pageblock_order

    @property
    def lists(self) -> range:
        """include/linux/mmzone.h: NR_PCP_LISTS: the indices of a pcplist's lists, those of order 0 first."""
        return range(PCPTYPES * (self.pcp_order + 1))

    def list_of(self, migratetype: int, order: int = 0) -> int:
        """mm/page_alloc.c: order_to_pindex()."""
        return PCPTYPES * order + migratetype

    def pages_of_list(self, index: int) -> int:
        """How many pages each page of that list is made of; mm/page_alloc.c: pindex_to_order()."""
        return 1 << index // PCPTYPES

    def in_pages(self, index: int, number: Any) -> Any:
        """A number of pages of a list, in pages of order 0: an int, a term, or an expression of a solver."""
        each = self.pages_of_list(index)
        return number * each if each > 1 else number

    def blocks_of(self, zone: Zone) -> range:
        """Indices of the pageblocks of ``zone``."""
        first = zone.index * self.blocks_per_zone
        return range(first, first + self.blocks_per_zone)
