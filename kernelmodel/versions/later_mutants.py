"""Mutants of the later kernels: those of v5.11 whose function they still have, and changes of what is new in them.

A name is that of the kernel and that of the mutant, ``v6.11:no-drain``.
"""

from __future__ import annotations

from dataclasses import replace

from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS, Mutant
from kernelmodel.versions.v5_15 import V5_15
from kernelmodel.versions.v6_1 import V6_1
from kernelmodel.versions.v6_11 import V6_11

_GATE = 'count = yield read("pcp.count", zone.index, cpu)\n    if count == 0:\n        return\n    while True:'
_LOCK, _COUNT = "here = yield from self.pcp_lock_of(zone, cpu)", 'count = yield read("pcp.count", zone.index, cpu)'
_ROUND = "yield from self.pcp_unlock_of(zone, cpu, here)\n        if count == 0:\n            break"
_COMMIT = "yield from self.free_unref_page_commit(page, pcpmigratetype, cpu)\n        "
_FALLBACK = "    else:\n        yield from self.free_one_page(page.zone, page, migratetype)"
_PIN = "yield ops.preempt_disable()\n    "
_CPU = "cpu = yield ops.smp_processor_id()"

#: from v6.1.y on: pcp->lock, and the drain's look at the count under it
_UNDER_LOCK = (
    Mutant(
        "count-gate-unlocked", "drain_pages_zone() looks at count before it has pcp->lock, as v6.0 did (66eca1021a42)",
        "drain_pages_zone", (("while True:", _GATE),), "no_stray_page", {"offlines": 1, "allocs": 1},
    ),
    Mutant(
        "count-snapshot", "drain_pages_zone() reads count before it takes pcp->lock, as v6.10 did",
        "drain_pages_zone", ((f"{_LOCK}\n        {_COUNT}", f"{_COUNT}\n        {_LOCK}"),),
        "no_stray_page", {"offlines": 1, "allocs": 1},
    ),
    Mutant(
        "single-round", "drain_pages_zone() makes one round, of batch << 5 pages",
        "drain_pages_zone", ((_ROUND, "yield from self.pcp_unlock_of(zone, cpu, here)\n        break"),),
        "no_stray_page", {"offlines": 1},
    ),
    Mutant(
        "drain-unlocked", "drain_pages_zone() takes pages off a pcplist without pcp->lock",
        "drain_pages_zone",
        ((f"{_LOCK}\n        ", ""), ("yield from self.pcp_unlock_of(zone, cpu, here)\n        ", "")),
        "guarded_writes", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "free-past-trylock", "free_unref_page() goes to the pcplist though its trylock has failed",
        "free_unref_page", ((_FALLBACK, "    else:\n        yield from self.free_unref_page_commit(page, pcpmigratetype, 0)"),),
        "guarded_writes", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "trylock-failure-loses-page", "free_unref_page() drops the page where its trylock fails",
        "free_unref_page", ((_FALLBACK, ""),), "pages_accounted", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "commit-after-unlock", "free_unref_page() gives pcp->lock back before it puts the page on the list",
        "free_unref_page",
        ((f"{_COMMIT}yield from self.pcp_spin_unlock(page.zone, cpu)",
          f"yield from self.pcp_spin_unlock(page.zone, cpu)\n        {_COMMIT.rstrip()}"),),
        "guarded_writes", {"frees": 1},
    ),
    Mutant(
        "lock-kept", "free_unref_page() keeps pcp->lock",
        "free_unref_page", ((f"{_COMMIT}yield from self.pcp_spin_unlock(page.zone, cpu)", _COMMIT.rstrip()),),
        "exits_give_back", {"frees": 1},
    ),
    Mutant(
        "pinned-too-late", "pcp_spin_trylock() looks up its CPU, and only then stays there",
        "pcp_spin_trylock", ((f"{_PIN}{_CPU}", f"{_CPU}\n    {_PIN.rstrip()}"),), "dead_cpu_drained", {"frees": 1, "hotplugs": 1},
    ),
    Mutant(
        "wrong-type-in-fallback", "control: free_unref_page() hands MOVABLE to free_one_page() where its trylock fails",
        "free_unref_page", ((_FALLBACK, _FALLBACK.replace("migratetype)", "pcpmigratetype)")),), EQUIVALENT,
    ),
)  # fmt: skip

#: from v6.8 on: limits that tune themselves
_TUNED = (
    Mutant(
        "limits-after-drain", "zone_pcp_disable() drains before it closes the limits",
        "zone_pcp_disable",
        (("yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)\n    yield from self._drain_all_pages(zone, True)",
          "yield from self._drain_all_pages(zone, True)\n    yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)"),),
        "no_stray_page", {"offlines": 1},
    ),
    Mutant(
        "high-max-left-open", "zone_pcp_disable() closes high_min and leaves high_max as it was",
        "zone_pcp_disable",
        (("yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)",
          'high_max = yield read("zone.pageset_high_max", zone.index)\n    '
          "yield from self.set_pageset_high_and_batch(zone, 0, high_max, 1)"),),
        "no_stray_page", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "batch-left-old", "control: zone_pcp_disable() leaves batch as it was; where high is 0 nr_pcp_alloc() asks for one page",
        "zone_pcp_disable",
        (("yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)",
          'batch = yield read("zone.pageset_batch", zone.index)\n    '
          "yield from self.set_pageset_high_and_batch(zone, 0, 0, batch)"),),
        EQUIVALENT,
    ),
    Mutant(
        "high-not-lowered", "clamp_pcp_high() raises pcp->high to high_min and does not lower it to high_max",
        "clamp_pcp_high", (("high = minimum(maximum(old, high_min), high_max)", "high = maximum(old, high_min)"),),
        "no_stray_page", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "enable-without-restore", "zone_pcp_enable() unlocks and leaves pcplists closed",
        "zone_pcp_enable",
        (("yield from self.set_pageset_high_and_batch(zone, high_min, high_max, batch)", "del high_min, high_max, batch"),),
        "limits_restored", {"offlines": 1},
    ),
    Mutant(
        "swapped-limit-stores", "control: pageset_update() writes high_max before high_min",
        "pageset_update",
        (('yield write_once(high_min, "pcp.high_min", zone.index, cpu)\n    '
          'yield write_once(high_max, "pcp.high_max", zone.index, cpu)',
          'yield write_once(high_max, "pcp.high_max", zone.index, cpu)\n    '
          'yield write_once(high_min, "pcp.high_min", zone.index, cpu)'),),
        EQUIVALENT,
    ),
)  # fmt: skip


def _of(kernel: type[KernelText], carried: str, own: tuple[Mutant, ...]) -> dict[str, Mutant]:
    """Those of v5.11 that are carried over, and the kernel's own, under the kernel's name."""
    those = [*(MUTANTS[name] for name in carried.split()), *own]
    made = [replace(m, name=f"{kernel.name}:{m.name}", of=kernel) for m in those]
    return {m.name: m for m in made}


_EVERYWHERE = (
    "no-force-all-cpus no-mutex no-drain missed-enable-on-isolation-failure missed-enable-on-removal-failure"
    " update-inside-window no-cpus-read-lock missed-done-on-failure no-undo unlock-before-flush"
)
LATER: dict[str, Mutant] = {
    **_of(V5_15, f"{_EVERYWHERE} drain-before-high batch-left-old no-flush no-migratetype-reread enable-without-restore"
                 " dead-cpu-not-drained swapped-limit-stores", ()),
    **_of(V6_1, f"{_EVERYWHERE} drain-before-high batch-left-old enable-without-restore dead-cpu-not-drained"
                " swapped-limit-stores", _UNDER_LOCK),
    **_of(V6_11, f"{_EVERYWHERE} dead-cpu-not-drained", (*_UNDER_LOCK, *_TUNED)),
}  # fmt: skip

EVERY: dict[str, Mutant] = {**MUTANTS, **LATER}
#: the names of the kernels that have mutants
MUTATED = list(dict.fromkeys(m.of.name for m in EVERY.values()))


def named(display: str) -> str:
    """The name of the mutant whose kernel is called so, ``v6.11 with no-drain``; empty where none is."""
    return next((name for name, m in EVERY.items() if m.title == display), "")
