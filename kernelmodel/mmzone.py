"""Constants and value types of include/linux/mmzone.h: migratetypes, pageblock sizes, zones, pages and ranges of pageblocks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from kernelmodel.errors import ModelError

if TYPE_CHECKING:
    from kernelmodel.terms import IntTerm

EBUSY = 16
EINTR = 4
EINVAL = 22

#: include/linux/page-isolation.h: the isolator takes the range away for good
MEMORY_OFFLINE = 1

# arch default of the machines the patch was tested on; only the cap on batch depends on it
PAGE_SHIFT = 12


class MigrateType(IntEnum):
    """include/linux/mmzone.h: enum migratetype (without CMA).

    The types below ``PCPTYPES`` have a list of their own on each pcplist; HIGHATOMIC pages share the MOVABLE list and
    pages of ISOLATE blocks never go on a pcplist.
    """

    UNMOVABLE = 0
    MOVABLE = 1
    RECLAIMABLE = 2
    HIGHATOMIC = 3
    ISOLATE = 4


#: number of migratetypes with a pcplist of their own (MIGRATE_PCPTYPES)
PCPTYPES = 3


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone, by index; its fields are cells (see kernelmodel.cells)."""

    index: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A page frame.

    ``pfn`` is its number in the concrete model (-1 where an engine follows a page without identity); ``block`` is the
    index of its pageblock, an int, or a term where an engine leaves it open.  It is made of 2 ** ``order`` pages of order 0.
    """

    pfn: int
    block: IntTerm
    zone: Zone = Zone(0)
    order: int = 0


@dataclass(frozen=True, slots=True)
class PageRange:
    """A range of whole pageblocks ``first .. last`` (inclusive) of one zone: what memory offlining works on."""

    first: int
    last: int
    zone: Zone = Zone(0)

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ModelError(f"range {self.first}..{self.last} is empty or negative: give first <= last, both >= 0")

    @property
    def blocks(self) -> range:
        """Indices of the pageblocks in the range."""
        return range(self.first, self.last + 1)
