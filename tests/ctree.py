"""Small C trees of our own, for tests: not the kernel's text."""

from __future__ import annotations

from pathlib import Path

from kernelmodel.ctext.kernel import kernel_from
from kernelmodel.ctext.spec import TreeSpec
from properties.catalogue import PROPERTIES
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Verdict

#: by these names an era is recognised
ERA = "/* has pcp_spin_trylock and __drain_all_pages */\n"

LEAF = """
static void free_pcppages_bulk(struct zone *zone, int count, struct per_cpu_pages *pcp, int pindex)
{
}
"""

#: rounds under the lock, by a goto
DRAIN = """
static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pages *lists = per_cpu_ptr(zone->per_cpu_pageset, cpu);
	int left, now;

again:
	pcp_spin_lock_maybe_irqsave(lists, flags);
	left = lists->count;	/* looked at with the lock held */
	if (left) {
		now = min(left, lists->batch << 5);
		free_pcppages_bulk(zone, now, lists, 0);
		left -= now;
	}
	pcp_spin_unlock_maybe_irqrestore(lists, flags);
	if (left)
		goto again;
}
"""

#: the same with the look at the count outside of the lock
UNLOCKED = """
static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pages *lists = per_cpu_ptr(zone->per_cpu_pageset, cpu);

	if (!lists->count)
		return;
	pcp_spin_lock_maybe_irqsave(lists, flags);
	free_pcppages_bulk(zone, lists->count, lists, 0);
	pcp_spin_unlock_maybe_irqrestore(lists, flags);
}
"""


def make(folder: Path, *functions: str, era: str = ERA) -> Path:
    """A tree whose mm/page_alloc.c has these functions."""
    (folder / "mm").mkdir(parents=True, exist_ok=True)
    (folder / "mm" / "page_alloc.c").write_text(era + LEAF + "".join(functions))
    (folder / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n")
    return folder


def explored(tree: Path, prop: str, assume: str = "", allocs: int = 1) -> Verdict:
    """What exhaustive search says of a tree, on two CPUs, with one free."""
    kernel = kernel_from(str(TreeSpec(str(tree), assume=(assume,) if assume else ())))
    finite = Finite(Scenario(cpus=2, frees=1, allocs=allocs, updates=0), 1 + allocs)
    (verdict,) = Explorer(kernel, finite).decide([PROPERTIES[prop]], deadlock=False)
    return verdict
