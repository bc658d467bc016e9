"""The argument of a proof, by era: its lemmas, the predicates that they need, and what it takes for closed limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kernelmodel.cells import CELLS
from kernelmodel.config import Config
from kernelmodel.terms import Term
from kernelmodel.text import KernelText
from properties import lemmas, lock_lemmas
from properties.lemmas import DRAIN_LOCK, LOCK, Ghost, Lemma

#: of the argument that offlining ends: whose end it is, the lock that it has from the first moment of the claim on, and the
#: one under which no CPU comes or goes
OFFLINER, MEM, CPUS = "offline", "mem_hotplug_lock", "cpu_hotplug_lock"


@dataclass(frozen=True, slots=True)
class Argument:
    """Why a drain is enough, in the words of one era.

    ``closed`` is what zone_pcp_disable() writes, ``protected`` the mutex whose holder alone writes a cell, ``when_unlocked``
    what is equal while nobody holds pcp_batch_high_lock, and ``least`` the least values of limits.  ``worker``: the drain is
    a work item of the CPU; else whoever drains does it himself.
    """

    worker: bool
    ghosts: tuple[Ghost, ...]
    lemmas: Mapping[str, Lemma]
    closed: Mapping[str, int]
    protected: Mapping[str, str]
    when_unlocked: Sequence[tuple[str, str]]
    least: Mapping[str, int]
    initially: Callable[[Config, int, int], Term]


#: of v5.11 to v5.19: the drain is a work item, which no section with interrupts off lets run
BY_WORK_ITEM = Argument(
    True, lemmas.GHOSTS, lemmas.LEMMAS, lemmas.CLOSED, lemmas.PROTECTED_BY, lemmas.WHEN_UNLOCKED,
    {"pcp.high": 0, "pcp.batch": 1, "zone.pageset_high": 0, "zone.pageset_batch": 1}, lemmas.initially,
)  # fmt: skip


def argument_of(kernel: type[KernelText]) -> Argument:
    """The argument that fits how a kernel guards its pcplists."""
    if kernel.section == KernelText.section:
        return BY_WORK_ITEM
    kernel.sized(Config())
    return _by_lock(kernel.limits)


@lru_cache
def _by_lock(limits: tuple[str, ...]) -> Argument:
    """Of v6.0 and later: critical sections of a pcplist are put in order by its lock, and the drain's is one of them."""
    least = {name: CELLS[name].least for name in limits}
    pairs = [(mine, kind.starts_as) for mine, kind in CELLS.items() if kind.starts_as in limits]
    least |= {mine: CELLS[mine].least for mine, _ in pairs}
    closed = {mine: least[mine] for mine, _ in pairs}
    protected = {
        **dict.fromkeys((*closed, *limits, "pcp_disabled_by", "isolated_and_drained"), LOCK),
        "cpus_with_pcps": DRAIN_LOCK,
    }
    made = lock_lemmas.LockLemmas(closed, tuple(pairs), least)
    return Argument(False, made.ghosts, made.lemmas, closed, protected, pairs, least, made.initially)
