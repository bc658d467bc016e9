"""The lemmas of the proof where a pcplist has a lock: its critical sections are totally ordered, and the drain's is one of them.

Those before the drain's last are drained; those after it see the closed limits, for the lock hands over what its holder before
has seen.  The control predicates are those of :mod:`properties.lemmas`, and

``section``                   a task holds the pcplist's lock, the holder of pcp_batch_high_lock maybe
``drain.exits_empty``         however the holder of pcp_batch_high_lock goes on in its section of the pcplist: where it leaves the
                              loop of the drain after it, count is 0 and the lists are empty
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kernelmodel.cells import pcp_list_length, section_of, value
from kernelmodel.config import Config
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Op
from kernelmodel.terms import FALSE, Term, implies, land, lnot, load, reg
from properties.lemmas import (
    DRAIN_LOCK,
    LEMMAS,
    LOCK,
    Ghost,
    Lemma,
    cell_of,
    clean,
    ghost,
)

_HOLDER, _SECTION = reg("holder", "bool"), reg("section", "bool")


class LockLemmas:
    """The lemmas for limits of some names."""

    def __init__(
        self, closed: Mapping[str, int], pairs: Sequence[tuple[str, str]], least: Mapping[str, int]
    ) -> None:  # fmt: skip
        """``closed`` limits of a CPU; ``pairs`` of these and the zone's that they are set to; the ``least`` of each."""
        self.closed, self.pairs, self.least = closed, pairs, least
        self.ghosts = (
            Ghost(
                "flushed", "since it last wrote CPU c's limits, the holder has drained CPU c's pcplist and found it empty",
                self._flushed, self._is_flushed, tuple(closed), after_section=True,
            ),
        )  # fmt: skip
        self.lemmas = {lemma.name: lemma for lemma in self._all()}

    def _value(self, name: str, z: int, c: int) -> Term:
        cell = cell_of(name, z, c)
        return value(cell.name, *cell.index)

    def _limits_closed(self, z: int, c: int) -> Term:
        return land(*(self._value(name, z, c) == v for name, v in self.closed.items()))

    def _flushed(self, op: Op, z: int, c: int) -> Term | None:
        if any(cell.name in self.closed and cell.index == (z, c) for cell, _ in op.updates):
            return FALSE
        return None

    def _is_flushed(self, z: int, c: int) -> Term:
        return land(lnot(_SECTION), value("pcp.count", z, c) == 0, self._limits_closed(z, c))

    def _sections(self, config: Config, z: int, c: int) -> Term:
        lock = section_of(config, z, c)
        owner = value(lock.name, *lock.index)
        return land(
            lnot(owner == 0) == _SECTION, implies(_SECTION, owner == reg("section.id")), reg("section.one", "bool"), owner >= 0
        )  # fmt: skip

    def _ranges(self, config: Config, z: int, c: int) -> Term:
        lists = [value("pcp.nr", z, c, t, b) >= 0 for t in config.lists for b in config.blocks_of(Zone(z))]
        limits = [self._value(name, z, c) >= low for name, low in self.least.items()]
        return land(*lists, *limits, reg("text:ranges", "bool"))

    def _restored(self, config: Config, z: int, c: int) -> Term:
        del config
        return implies(lnot(_HOLDER), land(*(self._value(a, z, c) == self._value(b, z, c) for a, b in self.pairs)))

    def _closed_first(self, config: Config, z: int, c: int) -> Term:
        del config
        return implies(ghost("flushed"), land(_HOLDER, self._limits_closed(z, c)))

    def _drained(self, config: Config, z: int, c: int) -> Term:
        return implies(ghost("flushed"), clean(config, z, c))

    @staticmethod
    def _exits(config: Config, z: int, c: int) -> Term:
        del config, z, c
        return reg("drain.exits_empty", "bool")

    def initially(self, config: Config, z: int, c: int) -> Term:
        """Where the proof starts: nobody has begun; the zone has its limits, and each CPU what the zone has cached."""
        lock = section_of(config, z, c)
        free = [value("mutex", m) == 0 for m in (LOCK, DRAIN_LOCK)]
        idle = [value(lock.name, *lock.index) == 0, value("pcp_disabled_by", z) == 0]
        idle.append(lnot(load(cell_of("isolated_and_drained", z, c), "bool")))
        nobody = [lnot(reg(n, "bool")) for n in ("holder", "section")]
        lists = [value("pcp.nr", z, c, t, b) >= 0 for t in config.lists for b in config.blocks_of(Zone(z))]
        limits = [self._value(name, z, c) >= low for name, low in self.least.items()]
        limits += [self._value(a, z, c) == self._value(b, z, c) for a, b in self.pairs]
        counted = value("pcp.count", z, c) == pcp_list_length(config, z, c)
        return land(*free, *idle, *nobody, *lists, *limits, counted, lnot(ghost("flushed")))

    def _all(self) -> list[Lemma]:
        said = [reg(f"text:{n}", "bool") for n in (*self.least, "registers")]

        def as_written(config: Config, z: int, c: int) -> Term:
            del config, z, c
            return land(*said)

        def request_kept(config: Config, z: int, c: int) -> Term:
            del config, z, c
            return reg("text:cpus_with_pcps", "bool")

        def own(name: str, says: str, source: str, term: Callable[[Config, int, int], Term]) -> Lemma:
            return Lemma(name, says, source, term)

        kept = LEMMAS
        return [
            kept["mutexes_exclude"],
            own("lock_excludes", "one task at a time holds a pcplist's lock, and is in its critical section",
                "mm/page_alloc.c: struct per_cpu_pages, lock", self._sections),
            own("value_ranges", "no limit is below its least value, and no list has a negative length",
                "mm/page_alloc.c: zone_set_pageset_high_and_batch()", self._ranges),
            own("limits_as_written", "limits are what the holder of pcp_batch_high_lock has written: nobody else writes them",
                "mm/page_alloc.c: the comment above pcp_batch_high_lock", as_written),
            own("limits_restored", "when nobody holds pcp_batch_high_lock, a CPU has the zone's cached limits",
                "mm/page_alloc.c: zone_pcp_enable()", self._restored),
            kept["disabled_under_lock"],
            kept["isolated_while_disabled"],
            own("drain_request_kept", "the CPUs to drain are those that the holder of pcpu_drain_mutex has named",
                "mm/page_alloc.c: the comment above pcpu_drain_mutex", request_kept),
            own("drain_visits_all_cpus", "the holder drains the pcplist of each online CPU, whatever its count",
                "mm/page_alloc.c: __drain_all_pages(), force_all_cpus", kept["drain_visits_all_cpus"].term),
            own("disabled_means_drained", "once zone_pcp_disable() has returned, the pcplist of every online CPU is drained",
                "mm/page_alloc.c: zone_pcp_disable()", kept["disabled_means_drained"].term),
            own("pages_conserved", "pcp->count is the number of pages on the lists, whenever pcp->lock is free",
                "include/linux/mmzone.h: struct per_cpu_pages", kept["pages_conserved"].term),
            own("limits_closed_first", "the limits are closed before the drain begins, and stay so while pcplists are disabled",
                "mm/page_alloc.c: zone_pcp_disable()", self._closed_first),
            own("drain_leaves_nothing", "the drain goes on until it has seen, under pcp->lock, that nothing is left",
                "mm/page_alloc.c: drain_pages_zone(), 66eca1021a42", self._exits),
            own("drained_stays_empty", "critical sections are totally ordered: after the drain's last, each sees the closed"
                " limits, which the lock has handed over, and leaves the lists empty",
                "mm/page_alloc.c: struct per_cpu_pages, lock", self._drained),
        ]  # fmt: skip
