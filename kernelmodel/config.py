"""The size of a modelled machine: CPUs, zones, pageblocks."""

from __future__ import annotations

from dataclasses import dataclass

from kernelmodel.errors import ModelError
from kernelmodel.mmzone import MigrateType, Zone


@dataclass(frozen=True, slots=True)
class Config:
    """How large the machine is.

    ``block_types`` gives the initial migratetype of each pageblock; the blocks are dealt to the zones in equal runs.
    ``pageblock_order`` is log2 of the pages of a block; free buddies have orders ``0 .. max_order - 1``.  ``section`` is
    the kernel's: the name of the cell, of a CPU and maybe a zone, that is not 0 while somebody is in the critical section
    of that CPU's pcplist.  ``limits`` are the kernel's as well: the names of the cells with the limits that a zone has for
    its pcplists.
    """

    nr_cpus: int = 2
    nr_zones: int = 1
    block_types: tuple[MigrateType, ...] = (MigrateType.MOVABLE, MigrateType.MOVABLE)
    pageblock_order: int = 2
    max_order: int = 4
    section: str = "irqs_off"
    limits: tuple[str, ...] = ("zone.pageset_high", "zone.pageset_batch")

    def __post_init__(self) -> None:
        if self.nr_cpus < 1 or self.nr_zones < 1:
            raise ModelError(f"{self.nr_cpus} CPUs and {self.nr_zones} zones: a machine needs at least one of each")
        if not self.block_types or len(self.block_types) % self.nr_zones:
            raise ModelError(f"{len(self.block_types)} pageblocks do not divide evenly among {self.nr_zones} zones")
        if not 0 <= self.pageblock_order < self.max_order:
            raise ModelError(f"pageblock_order {self.pageblock_order} must be at least 0 and below {self.max_order=}")

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

    def blocks_of(self, zone: Zone) -> range:
        """Indices of the pageblocks of ``zone``."""
        first = zone.index * self.blocks_per_zone
        return range(first, first + self.blocks_per_zone)
