"""The lemmas of the proof for any number of CPUs: the changelog's argument, sentence by sentence, as data.

A lemma speaks of one CPU ``c`` and one zone ``z``, both arbitrary, and of every moment.  Beside cells it uses *control
predicates*, registers whose value a prover computes from the kernel's text:

``holder``                    somebody holds pcp_batch_high_lock (``holder.id`` is the task)
``text:CELL``                 what the text of the holder, as far as it has come, says about the cell: which constant it
                              has written, or which other value the cell equals, with no write since
``text:registers``            the same for values that the holder has read, ``text:progress`` for its ghosts
``section``                   a task has interrupts off on CPU c (``section.id`` is the task)
``section.leaves_counted``    however it goes on, and whatever limits it reads: it ends with count == pages on the lists
``section.leaves_empty``      however it goes on, if it reads the limits of :data:`CLOSED`: it ends with empty lists
``worker.busy``               CPU c's worker executes the drain work item
``worker.will_drain``         it has not turned interrupts off yet, and on each way to the end of the item it will, to
                              drain the zone
``worker.draining``           it is in the section that drains the zone
``worker.leaves_empty``       however that section goes on, and whatever limits it reads: it ends with empty lists

The prover checks each lemma at each operation of each routine, so none of this is taken on trust: a predicate that was
computed wrongly makes a lemma fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kernelmodel.cells import CELLS, pcp_list_length, value
from kernelmodel.config import Config
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Op
from kernelmodel.terms import FALSE, Cell, Term, implies, land, lnot, load, lor, reg

LOCK, DRAIN_LOCK = "pcp_batch_high_lock", "pcpu_drain_mutex"

#: what zone_pcp_disable() writes
CLOSED: Mapping[str, int] = {"pcp.high": 0, "pcp.batch": 1}

#: who may write what: the mutex whose holder alone writes a cell, as the kernel's comments say
PROTECTED_BY: Mapping[str, str] = {
    "pcp.high": LOCK, "pcp.batch": LOCK, "zone.pageset_high": LOCK, "zone.pageset_batch": LOCK, "pcp_disabled_by": LOCK,
    "isolated_and_drained": LOCK,
    "cpus_with_pcps": DRAIN_LOCK, "drain.zone": DRAIN_LOCK,
}  # fmt: skip

_HOLDER, _ID = reg("holder", "bool"), reg("holder.id")
_SECTION = reg("section", "bool")


@dataclass(frozen=True, slots=True)
class Ghost:
    """A truth value about the holder of pcp_batch_high_lock that no operation reads: false when the lock is taken.

    ``becomes`` gives its value after one of the holder's operations, for a zone and a CPU; None if it stays.  That it
    means what it says is an obligation at each operation: ``rises`` must hold right after the operation that makes it
    true, and it must be false after one that changes a cell of ``falls`` or the holder.
    """

    name: str
    meaning: str
    becomes: Callable[[Op, int, int], Term | None]
    rises: Callable[[int, int], Term]
    falls: tuple[str, ...]
    #: true where the holder leaves its own section of the pcplist for good, as its text tells, if the limits are closed
    after_section: bool = False


@dataclass(frozen=True, slots=True)
class Lemma:
    """What holds at every moment.  ``says`` is the sentence that it formalises, ``source`` where that is from."""

    name: str
    says: str
    source: str
    term: Callable[[Config, int, int], Term]


def _writes_limits(op: Op, z: int, c: int) -> bool:
    return any(cell.name in CLOSED and cell.index == (z, c) for cell, _ in op.updates)


def _queued(op: Op, z: int, c: int) -> Term | None:
    if _writes_limits(op, z, c):
        return FALSE
    if op.does.queues and op.does.queues.cpu == c:
        return lor(value("drain.zone", c) == z, value("drain.zone", c) == -1)
    return None


def _flushed(op: Op, z: int, c: int) -> Term | None:
    if _writes_limits(op, z, c):
        return FALSE
    if op.does.awaits and op.does.awaits.cpu == c:
        return ghost("queued")
    return None


def ghost(name: str) -> Term:
    """The ghost of that name as a term."""
    return reg(f"holder.{name}", "bool")


def _is_queued(z: int, c: int) -> Term:
    return land(value("work.pending", c), lor(value("drain.zone", c) == z, value("drain.zone", c) == -1))


def _is_flushed(z: int, c: int) -> Term:
    return land(lnot(value("work.pending", c)), lnot(value("work.running", c)), ghost("queued"))


GHOSTS = (
    Ghost(
        "queued", "since it last wrote CPU c's limits, the holder has queued CPU c's work to drain the zone", _queued,
        _is_queued, tuple(CLOSED),
    ),
    Ghost("flushed", "and has then waited for it", _flushed, _is_flushed, tuple(CLOSED)),
)  # fmt: skip

#: what is zero or false whenever nobody holds pcp_batch_high_lock
NOTHING_WHEN_UNLOCKED: Mapping[str, int | bool] = {"pcp_disabled_by": 0, "isolated_and_drained": False}

#: what is equal whenever nobody holds pcp_batch_high_lock
WHEN_UNLOCKED: Sequence[tuple[str, str]] = (
    ("pcp.high", "zone.pageset_high"),
    ("pcp.batch", "zone.pageset_batch"),
)


def cell_of(name: str, z: int, c: int) -> Cell:
    """The cell of that name of the tracked CPU and zone."""
    if CELLS[name].axes == ("zone", "cpu"):
        return Cell(name, (z, c))
    # the proof has one pageblock in each zone, which stands for any one of them
    return Cell(name, (z,) if name.startswith("zone.") or name in ("pcp_disabled_by", "isolated_and_drained") else (c,))


def _value(name: str, z: int, c: int) -> Term:
    cell = cell_of(name, z, c)
    return value(cell.name, *cell.index)


def _empty(config: Config, z: int, c: int) -> Term:
    return land(pcp_list_length(config, z, c) == 0, value("pcp.count", z, c) == 0)


def clean(config: Config, z: int, c: int) -> Term:
    """The lists are empty; or a section is in progress that will leave them so with the limits closed."""
    return land(
        implies(lnot(_SECTION), _empty(config, z, c)), implies(_SECTION, reg("section.leaves_empty", "bool"))
    )  # fmt: skip


def _text(*names: str) -> Callable[[Config, int, int], Term]:
    said = land(*(reg(f"text:{n}", "bool") for n in names))

    def term(config: Config, z: int, c: int) -> Term:
        return said

    return term


def _mutexes(config: Config, z: int, c: int) -> Term:
    owner = value("mutex", LOCK)
    return land(
        lnot(owner == 0) == _HOLDER, implies(_HOLDER, owner == _ID), value("mutex", DRAIN_LOCK) >= 0, owner >= 0,
        reg("text:drain lock", "bool"),
    )  # fmt: skip


def _sections(config: Config, z: int, c: int) -> Term:
    off = value("irqs_off", c)
    return land(lnot(off == 0) == _SECTION, implies(_SECTION, off == reg("section.id")), reg("section.one", "bool"))


def _ranges(config: Config, z: int, c: int) -> Term:
    lists = [value("pcp.nr", z, c, t, b) >= 0 for t in config.lists for b in config.blocks_of(Zone(z))]
    limits = [
        land(value("pcp.high", z, c) >= 0, value("zone.pageset_high", z) >= 0),
        land(value("pcp.batch", z, c) >= 1, value("zone.pageset_batch", z) >= 1),
    ]
    return land(*lists, *limits, reg("text:ranges", "bool"))


def _conserved(config: Config, z: int, c: int) -> Term:
    counted = value("pcp.count", z, c) == pcp_list_length(config, z, c)
    return land(
        implies(lnot(_SECTION), counted), implies(_SECTION, reg("section.leaves_counted", "bool"))
    )  # fmt: skip


def _restored(config: Config, z: int, c: int) -> Term:
    same = [_value(a, z, c) == _value(b, z, c) for a, b in WHEN_UNLOCKED]
    return implies(lnot(_HOLDER), land(*same))


def _disabled(config: Config, z: int, c: int) -> Term:
    by = value("pcp_disabled_by", z)
    return land(lor(by == 0, land(_HOLDER, by == _ID)), reg("text:pcp_disabled_by", "bool"))


def _isolated(config: Config, z: int, c: int) -> Term:
    isolated = load(cell_of("isolated_and_drained", z, c), "bool")
    disabled = land(_HOLDER, value("pcp_disabled_by", z) == _ID)
    return land(implies(isolated, disabled), reg("text:isolated_and_drained", "bool"))


def _closed(config: Config, z: int, c: int) -> Term:
    limits = [_value(name, z, c) == v for name, v in CLOSED.items()]
    return implies(lor(ghost("queued"), ghost("flushed")), land(_HOLDER, *limits))


def _drain_under_way(config: Config, z: int, c: int) -> Term:
    done = lor(
        value("work.pending", c), reg("worker.will_drain", "bool"), reg("worker.draining", "bool"), clean(config, z, c)
    )
    return implies(ghost("queued"), done)


def _drained(config: Config, z: int, c: int) -> Term:
    return implies(ghost("flushed"), clean(config, z, c))


def _disabled_means_drained(config: Config, z: int, c: int) -> Term:
    online = value("cpu_online", c)
    return implies(land(lnot(value("pcp_disabled_by", z) == 0), online), ghost("flushed"))


def _worker(config: Config, z: int, c: int) -> Term:
    return value("work.running", c) == reg("worker.busy", "bool")


def _drain_empties(config: Config, z: int, c: int) -> Term:
    return implies(reg("worker.draining", "bool"), reg("worker.leaves_empty", "bool"))


def initially(config: Config, z: int, c: int) -> Term:
    """Where the proof starts: nobody has begun; the zone has its limits, and each CPU what the zone has cached."""
    free = [value("mutex", m) == 0 for m in (LOCK, DRAIN_LOCK)]
    idle = [value("irqs_off", c) == 0, value("pcp_disabled_by", z) == 0]
    idle.append(lnot(load(cell_of("isolated_and_drained", z, c), "bool")))
    quiet = [lnot(value("work.pending", c)), lnot(value("work.running", c))]
    nobody = [lnot(reg(n, "bool")) for n in ("holder", "section", "worker.busy")]
    lists = [value("pcp.nr", z, c, t, b) >= 0 for t in config.lists for b in config.blocks_of(Zone(z))]
    limits = [value("pcp.high", z, c) >= 0, value("pcp.batch", z, c) >= 1]
    limits += [_value(a, z, c) == _value(b, z, c) for a, b in WHEN_UNLOCKED]
    counted = value("pcp.count", z, c) == pcp_list_length(config, z, c)
    return land(*free, *idle, *quiet, *nobody, *lists, *limits, counted, *(lnot(ghost(g.name)) for g in GHOSTS))


_ALL = [
    Lemma("mutexes_exclude", "at most one task holds pcp_batch_high_lock, and at most one pcpu_drain_mutex",
          "kernel/locking/mutex.c: mutex_lock()", _mutexes),
    Lemma("interrupts_off_exclude", "while a task has interrupts off on a CPU, nothing else runs there",
          "include/linux/irqflags.h: local_irq_save()", _sections),
    Lemma("value_ranges", "high >= 0, batch >= 1, and no list has a negative length",
          "mm/page_alloc.c: zone_set_pageset_high_and_batch()", _ranges),
    Lemma("limits_as_written", "high and batch are what the holder of pcp_batch_high_lock has written: nobody else"
          " writes them",
          "mm/page_alloc.c: the comment above pcp_batch_high_lock",
          _text("pcp.high", "pcp.batch", "zone.pageset_high", "zone.pageset_batch", "registers")),
    Lemma("limits_restored", "when nobody holds pcp_batch_high_lock, a CPU has the zone's cached limits",
          "mm/page_alloc.c: zone_pcp_enable()", _restored),
    Lemma("disabled_under_lock", "pcplists are disabled only by the task that holds pcp_batch_high_lock, from the"
          " return of zone_pcp_disable() to the entry of zone_pcp_enable()",
          "mm/page_alloc.c: zone_pcp_disable(), the lock that it keeps", _disabled),
    Lemma("isolated_while_disabled", "a pageblock stays isolated for offlining only while the pcplists are disabled:"
          " isolation begins after zone_pcp_disable() has returned, and is over before zone_pcp_enable()",
          "changelog: the pcplists are disabled before isolation, and enabled on each way out", _isolated),
    Lemma("drain_request_kept", "the CPUs and the zone to drain are those that the holder of pcpu_drain_mutex has named",
          "mm/page_alloc.c: the comment above pcpu_drain_mutex", _text("cpus_with_pcps", "drain.zone")),
    Lemma("drain_visits_all_cpus", "the holder queues the drain work of each online CPU, whatever its count, and then"
          " waits for each",
          "mm/page_alloc.c: __drain_all_pages(), force_all_cpus", _text("progress")),
    Lemma("disabled_means_drained", "once zone_pcp_disable() has returned, the drain of every online CPU is over",
          "mm/page_alloc.c: zone_pcp_disable()", _disabled_means_drained),
    Lemma("work_item_runs_once", "the work item is running exactly while its CPU's worker executes it",
          "kernel/workqueue.c: process_one_work()", _worker),
    Lemma("pages_conserved", "pcp->count is the number of pages on the lists, whenever interrupts are on",
          "include/linux/mmzone.h: struct per_cpu_pages", _conserved),
    Lemma("limits_closed_first", "others observe high == 0 and batch == 1: both are set before the drain starts, and"
          " stay so while the pcplists are disabled",
          "changelog: high and batch are set to 0 and 1 for all CPUs, then the lists are drained", _closed),
    Lemma("drain_leaves_nothing", "the drain work frees all pages that it finds on its CPU, whatever the limits",
          "mm/page_alloc.c: drain_pages_zone()", _drain_empties),
    Lemma("stale_readers_are_drained", "a CPU that disabled interrupts before it could see high == 0 is drained after"
          " it has enabled them again; one that disables them later sees high == 0 and flushes",
          "changelog: processes that already disabled interrupts will be drained", _drain_under_way),
    Lemma("drained_stays_empty", "once the drain work of a CPU is done, each section leaves its lists empty",
          "changelog: further frees are flushed immediately because high is 0", _drained),
]  # fmt: skip

LEMMAS: dict[str, Lemma] = {lemma.name: lemma for lemma in _ALL}
