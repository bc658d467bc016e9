"""mm/memory-failure.c: a page whose memory is broken is marked, and kept from whoever might use it."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel import ops
from kernelmodel.cells import pages_of_block_on_pcplists, value
from kernelmodel.memory.state import Place, State
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Effect, Kind, Op, Routine
from kernelmodel.terms import Cell, Term, choice, implies, ite, land, lnot, lor
from kernelmodel.text import KernelText


class MemoryFailure(KernelText):
    """Handling broken pages."""

    def memory_failure(self, zone: Zone) -> Routine:
        """mm/memory-failure.c: memory_failure() of some page of the zone that is in use, or on a pcplist.

        One that is in use stays with memory_failure() for ever.  One on a pcplist stays where it is, with its mark.
        """
        if (yield self.test_set_page_hwpoison(zone)):
            yield from self.get_hwpoison_page(zone)

    def get_hwpoison_page(self, zone: Zone) -> Routine:
        """mm/memory-failure.c: get_hwpoison_page(): with pcplists as they are."""
        del zone
        yield from self.get_any_page()

    def get_any_page(self) -> Routine:
        """mm/memory-failure.c: get_any_page(), shake_page(): takes a reference, and drains LRU caches if it has to."""
        yield ops.happens("get_any_page(), shake_page()")

    def test_set_page_hwpoison(self, zone: Zone) -> Op:
        """include/linux/page-flags.h: TestSetPageHWPoison() of a page without a mark; returns whether there is one."""
        found, used, block = choice("found", "bool"), choice("used", "bool"), choice("block")
        blocks = self.config.blocks_of(zone)
        listed = {b: pages_of_block_on_pcplists(self.config, b) for b in blocks}
        where = land(
            lor(*(block == b for b in blocks)),
            implies(land(found, used), land(*(implies(block == b, value("in_use", b) > 0) for b in blocks))),
            implies(land(found, lnot(used)), land(*(implies(block == b, listed[b] > 0) for b in blocks))),
        )

        def one(b: int, where: Term) -> Term:
            return ite(land(found, where, block == b), 1, 0)

        def effect(state: State, wanted: Mapping[str, int]) -> Effect:
            for b in blocks:
                for pfn in state.pfns(b):
                    in_use = state.place[pfn] is Place.IN_USE and not state.inside_compound(pfn)
                    fits = wanted.get("block", b) == b and wanted.get("used", in_use) == in_use
                    unmarked = in_use or (state.place[pfn] is Place.PCP and pfn not in state.hwpoison)
                    if not (fits and unmarked and wanted.get("found", True)):
                        continue
                    if in_use:
                        state.place[pfn] = Place.POISONED
                    else:
                        state.hwpoison.add(pfn)
                    return Effect({"found": True, "used": in_use, "block": b})
            return Effect({"found": False, "used": False, "block": blocks[0]})

        return Op(
            "TestSetPageHWPoison(page)",
            Kind.RMW,
            returns=(found,),
            choices=(found, used, block),
            where=where,
            updates=tuple(
                u
                for b in blocks
                for u in (
                    (Cell("in_use", (b,)), value("in_use", b) - one(b, used)),
                    (Cell("poisoned", (b,)), value("poisoned", b) + one(b, used)),
                    (Cell("poisoned_on_pcplists", (b,)), value("poisoned_on_pcplists", b) + one(b, lnot(used))),
                )
            ),
            effect=effect,
            tag="hwpoison",
        )
