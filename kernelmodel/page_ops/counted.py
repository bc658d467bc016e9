"""What operations that move pages have in common: lists of pages by block, and conditions on blocks."""

from __future__ import annotations

from dataclasses import dataclass

from kernelmodel.cells import value
from kernelmodel.config import Config
from kernelmodel.mmzone import MigrateType, Page, Zone
from kernelmodel.terms import (
    IntTerm,
    Term,
    ite,
    land,
    lift,
    total,
)

ISOLATE = MigrateType.ISOLATE


@dataclass(frozen=True, slots=True)
class PageList:
    """Pages on a task's local list: how many of each block (``by_block``), and which (``pfns``, concrete runs only)."""

    by_block: tuple[tuple[int, IntTerm], ...]
    pfns: tuple[int, ...] = ()

    @property
    def length(self) -> IntTerm:
        """Number of pages."""
        return plain(total(n for _, n in self.by_block))


def plain(term: Term) -> IntTerm:
    """A constant as its number, any other term as it is."""
    return term.args[0] if term.op == "const" else term


def one_block(block: int, of: IntTerm, amount: IntTerm = 1) -> Term:
    """How many of ``amount`` pages of the block ``of`` are pages of ``block``: all or none."""
    return ite(lift(of) == block, amount, 0)


def pages_of(config: Config, block: int, head: IntTerm, order: int) -> Term:
    """How many pages of ``block`` a page of that order has whose first page is in block ``head``."""
    if order <= config.pageblock_order:
        return one_block(block, head, 1 << order)
    blocks = 1 << (order - config.pageblock_order)
    inside = land(lift(head) <= block, lift(head) > block - blocks)
    return ite(inside, config.pages_per_block, 0)


def type_of_block(config: Config, page: Page) -> Term:
    """mm/page_alloc.c: get_pfnblock_migratetype(), as a term."""
    blocks = list(config.blocks_of(page.zone))
    result = value("pageblock.migratetype", blocks[-1])
    for b in reversed(blocks[:-1]):
        result = ite(lift(page.block) == b, value("pageblock.migratetype", b), result)
    return result


def has_isolate_pageblock(zone: Zone) -> Term:
    """include/linux/page-isolation.h: has_isolate_pageblock(), as a term."""
    return value("zone.nr_isolate_pageblock", zone.index) > 0
