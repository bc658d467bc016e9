"""Mutants: each overrides one function of a kernel, by a change of its text, and says what is expected of it.

Those here are of v5.11; :mod:`kernelmodel.versions.later_mutants` has those of later kernels.

A mutant is the smallest diff that takes one thought of the patch away.  Controls look wrong and are expected to change
nothing.  ``needs`` are the least numbers of tasks at which the expectation can show.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11

#: expected verdict of a control: no property is violated
EQUIVALENT = "equivalent"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one function of a kernel, and the property that it breaks (or ``equivalent``)."""

    name: str
    summary: str
    function: str
    edits: tuple[tuple[str, str], ...]
    breaks: str
    needs: Mapping[str, int] = field(default_factory=dict)
    of: type[KernelText] = V5_11

    @property
    def title(self) -> str:
        """What its kernel is called, ``v6.11 with no-drain``."""
        return f"{self.of.name} with {self.name.rpartition(':')[2]}"

    @property
    def diff(self) -> str:
        """The change as the lines that go (``-``) and come (``+``)."""
        lines = [f"{self.function}():"]
        for old, new in self.edits:
            lines += [f"-{line}" for line in old.splitlines()] + [f"+{line}" for line in new.splitlines()]
        return "\n".join(lines)


_LOCK = 'yield from self.mutex_lock("pcp_batch_high_lock")\n    '
_DISABLE = "yield from self.zone_pcp_disable(zone)\n        "
_ISOLATE = "ret = yield from self.start_isolate_page_range(page_range, MigrateType.MOVABLE, MEMORY_OFFLINE)"
_SET = "yield from self.set_pageset_high_and_batch(zone, 0, 1)"
_DRAIN = "yield from self._drain_all_pages(zone, True)"
_UNDO = """yield from self.undo_isolate_page_range(page_range, MigrateType.MOVABLE)
        yield from self.memory_notify("MEM_CANCEL_OFFLINE", page_range)
        label = "failed_removal_pcplists_disabled"
    if label == "failed_removal_pcplists_disabled":
        yield from self.zone_pcp_enable(zone)
        label = "failed_removal"
    if label == "failed_removal":"""

_ALL = [
    Mutant(
        "no-force-all-cpus", "zone_pcp_disable() drains only CPUs whose count reads non-zero",
        "zone_pcp_disable", ((_DRAIN, "yield from self.drain_all_pages(zone)"),),
        "no_stray_page", {"offlines": 1, "allocs": 1, "cpus": 2},
    ),
    Mutant(
        "drain-before-high", "zone_pcp_disable() drains before it sets high to 0",
        "zone_pcp_disable", ((f"{_SET}\n    {_DRAIN}", f"{_DRAIN}\n    {_SET}"),),
        "no_stray_page", {"offlines": 1},
    ),
    Mutant(
        "batch-left-old", "zone_pcp_disable() sets high to 0 and leaves batch as it was",
        "zone_pcp_disable",
        ((_SET, 'batch = yield read("zone.pageset_batch", zone.index)\n    '
                "yield from self.set_pageset_high_and_batch(zone, 0, batch)"),),
        "no_stray_page", {"offlines": 1, "allocs": 1},
    ),
    Mutant(
        "no-mutex", "zone_pcp_update() does not take pcp_batch_high_lock",
        "zone_pcp_update", ((_LOCK, ""), ('\n    yield from self.mutex_unlock("pcp_batch_high_lock")', "")),
        "limits_exclusive", {"offlines": 1, "updates": 1},
    ),
    Mutant(
        "high-read-irqs-on", "free_unref_page() reads pcp->high before it disables interrupts",
        "free_unref_page",
        (("cpu = yield ops.local_irq_save(self.config.nr_blocks)\n"
          "    yield from self.free_unref_page_commit(page, migratetype, cpu)",
          'here = yield ops.smp_processor_id()\n'
          '    high = yield read_once("pcp.high", page.zone.index, here)\n'
          '    cpu = yield ops.local_irq_save(self.config.nr_blocks)\n'
          '    if migratetype == MigrateType.ISOLATE:\n'
          '        yield from self.free_one_page(page.zone, page, migratetype)\n'
          '    else:\n'
          '        yield page_ops.list_add(self.config, page, cpu, MigrateType.MOVABLE)\n'
          '        yield add(1, "pcp.count", page.zone.index, cpu)\n'
          '        count = yield read("pcp.count", page.zone.index, cpu)\n'
          '        if count >= high:\n'
          '            batch = yield read_once("pcp.batch", page.zone.index, cpu)\n'
          '            yield from self.free_pcppages_bulk(page.zone, batch, cpu)'),),
        "no_stray_page", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "no-drain", "zone_pcp_disable() does not drain at all",
        "zone_pcp_disable", ((f"\n    {_DRAIN}", ""),),
        "no_stray_page", {"offlines": 1},
    ),
    Mutant(
        "no-flush", "__drain_all_pages() queues the drain work and does not wait for it",
        "drain_cpus_with_pcps",
        (('for cpu in self.for_each_cpu():\n        if (yield read("cpus_with_pcps", cpu)):\n'
          "            yield from self.flush_work(cpu)", ""),),
        "no_stray_page", {"offlines": 1},
    ),
    Mutant(
        "isolate-before-disable", "offline_pages() isolates the range before it disables pcplists",
        "offline_pages", ((_DISABLE + _ISOLATE, _ISOLATE + "\n        " + _DISABLE.rstrip()),),
        "isolated_page_not_allocated", {"offlines": 1, "allocs": 1},
    ),
    Mutant(
        "enable-before-unisolate", "offline_pages() enables pcplists before it gives up the isolation of a failed range",
        "offline_pages",
        ((_UNDO, "yield from self.zone_pcp_enable(zone)\n        "
                 + "\n".join(_UNDO.splitlines()[:2])
                 + '\n        label = "failed_removal"\n    if label == "failed_removal_pcplists_disabled":\n'
                   '        yield from self.zone_pcp_enable(zone)\n        label = "failed_removal"\n'
                   '    if label == "failed_removal":'),),
        "no_isolated_page_left", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "missed-enable-on-isolation-failure", "offline_pages() leaves pcplists disabled when isolation fails",
        "offline_pages", (('label = "failed_removal_pcplists_disabled"\n    if not label and',
                           'label = "failed_removal"\n    if not label and'),),
        "enable_on_every_exit", {"offlines": 1},
    ),
    Mutant(
        "missed-enable-on-removal-failure", "offline_pages() leaves pcplists disabled when it gives up an isolated range",
        "offline_pages", (('label = "failed_removal_pcplists_disabled"\n    if label ==',
                           'label = "failed_removal"\n    if label =='),),
        "enable_on_every_exit", {"offlines": 1},
    ),
    Mutant(
        "update-inside-window", "offline_pages() calls zone_pcp_update() before zone_pcp_enable()",
        "offline_pages",
        (("yield from self.zone_pcp_enable(zone)\n        yield from self.finish_offlining(page_range)",
          "yield from self.finish_offlining(page_range)\n        yield from self.zone_pcp_enable(zone)"),),
        "lock_order", {"offlines": 1},
    ),
    Mutant(
        "no-migratetype-reread", "free_pcppages_bulk() trusts the migratetype that was stored in the page",
        "free_pcppages_bulk", (("reread=has_isolate_pageblock(zone)", "reread=False"),),
        "isolated_page_on_isolate_list", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "no-count-clamp", "free_pcppages_bulk() trusts its argument",
        "free_pcppages_bulk", (("count = minimum(pcp_count, count)\n", "del pcp_count\n"),),
        "bulk_free_terminates", {"frees": 1},
    ),
    Mutant(
        "refill-not-counted", "rmqueue_pcplist() does not add the pages of rmqueue_bulk() to pcp->count",
        "rmqueue_pcplist", (('\n        yield add(alloced, "pcp.count", zone.index, cpu)', ""),),
        "pages_conserved", {"allocs": 1},
    ),
    Mutant(
        "count-irqs-on", "rmqueue_pcplist() lowers pcp->count after it has enabled interrupts",
        "rmqueue_pcplist",
        (('\n        yield add(-1, "pcp.count", zone.index, cpu)\n    yield ops.local_irq_restore(cpu)',
          '\n    yield ops.local_irq_restore(cpu)\n    if available:\n        yield add(-1, "pcp.count", zone.index, cpu)'),),
        "guarded_writes", {"allocs": 1},
    ),
    Mutant(
        "enable-without-restore", "zone_pcp_enable() unlocks and leaves high at 0 and batch at 1",
        "zone_pcp_enable", (("yield from self.set_pageset_high_and_batch(zone, high, batch)", "del high, batch"),),
        "limits_restored", {"offlines": 1},
    ),
    Mutant(
        "no-cpus-read-lock", "offline_pages() takes mem_hotplug_lock alone, and lets CPUs come and go",
        "offline_pages",
        (("yield from self.mem_hotplug_begin()", 'yield from self.mutex_lock("mem_hotplug_lock")'),
         ("yield from self.mem_hotplug_done()\n        return 0",
          'yield from self.mutex_unlock("mem_hotplug_lock")\n        return 0'),
         ('if label == "failed_removal":\n        yield from self.mem_hotplug_done()',
          'if label == "failed_removal":\n        yield from self.mutex_unlock("mem_hotplug_lock")')),
        "cpus_stay", {"offlines": 1},
    ),
    Mutant(
        "missed-done-on-failure", "offline_pages() forgets mem_hotplug_done() where it fails",
        "offline_pages",
        (('if label == "failed_removal":\n        yield from self.mem_hotplug_done()',
          'if label == "failed_removal":\n        pass'),),
        "exits_give_back", {"offlines": 1},
    ),
    Mutant(
        "no-undo", "offline_pages() leaves a range isolated that it gives up",
        "offline_pages",
        (("yield from self.undo_isolate_page_range(page_range, MigrateType.MOVABLE)\n        ", ""),),
        "isolation_undone", {"offlines": 1},
    ),
    Mutant(
        "page-never-freed", "free_unref_page_commit() drops a page of an isolated pageblock",
        "free_unref_page_commit",
        (("yield from self.free_one_page(zone, page, migratetype)\n            ", ""),),
        "pages_accounted", {"offlines": 1, "frees": 1},
    ),
    Mutant(
        "dead-cpu-not-drained", "page_alloc_cpu_dead() drains the CPU that it runs on, not the one that has gone",
        "page_alloc_cpu_dead",
        (("yield from self.drain_pages(cpu)", "del cpu\n    yield from self.drain_local_pages(-1)"),),
        "dead_cpu_drained", {"frees": 1, "hotplugs": 1},
    ),
    Mutant(
        "unlock-before-flush", "__drain_all_pages() gives up pcpu_drain_mutex, and then queues and flushes the drain work",
        "_drain_all_pages",
        (('yield from self.drain_cpus_with_pcps(zone)\n    yield from self.mutex_unlock("pcpu_drain_mutex")',
          'yield from self.mutex_unlock("pcpu_drain_mutex")\n    yield from self.drain_cpus_with_pcps(zone)'),),
        "no_stray_page", {"offlines": 1, "frees": 1, "reclaims": 1},
    ),
    Mutant(
        "swapped-limit-stores", "control: pageset_update() writes high before batch",
        "pageset_update",
        (('yield write_once(batch, "pcp.batch", zone.index, cpu)\n    yield write_once(high, "pcp.high", zone.index, cpu)',
          'yield write_once(high, "pcp.high", zone.index, cpu)\n    yield write_once(batch, "pcp.batch", zone.index, cpu)'),),
        EQUIVALENT,
    ),
    Mutant(
        "enable-before-offline-isolated", "control: offline_pages() enables pcplists before __offline_isolated_pages()",
        "offline_pages",
        (("yield from self.offline_isolated_pages(page_range)\n        yield from self.forget_isolated_blocks(page_range)\n"
          "        yield from self.zone_pcp_enable(zone)",
          "yield from self.zone_pcp_enable(zone)\n        yield from self.offline_isolated_pages(page_range)\n"
          "        yield from self.forget_isolated_blocks(page_range)"),),
        EQUIVALENT,
    ),
]  # fmt: skip

MUTANTS: dict[str, Mutant] = {m.name: m for m in _ALL}


def build(mutant: Mutant) -> type[KernelText]:
    """The kernel class of a mutant: a kernel with one function overridden; an error if an edit does not fit the text."""
    original = getattr(mutant.of, mutant.function)
    source = textwrap.dedent(inspect.getsource(original))
    for old, new in mutant.edits:
        if source.count(old) != 1:
            raise ModelError(
                f"mutant {mutant.name}: its edit fits {mutant.function}() {source.count(old)} times, not once"
            )
        source = source.replace(old, new)
    filename = f"<mutant {mutant.name}: {mutant.function}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = dict(vars(sys.modules[original.__module__]))
    exec(compile(source, filename, "exec"), namespace)
    members = {
        "name": mutant.title,
        "summary": mutant.summary,
        mutant.function: namespace[mutant.function],
    }
    return type("Mutant_" + re.sub(r"\W", "_", mutant.name), (mutant.of,), members)
