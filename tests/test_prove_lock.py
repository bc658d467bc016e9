"""The proof where a pcplist has a lock: what holds of v6.1 and v6.11, and planted bugs, none of which is proved."""

import pytest

from kernelmodel import ops, page_ops
from kernelmodel.kernels import kernel
from kernelmodel.mmzone import MigrateType
from kernelmodel.ops import add, read
from kernelmodel.versions.v6_1 import V6_1
from kernelmodel.versions.v6_11 import V6_11
from properties.arguments import BY_WORK_ITEM, argument_of
from properties.catalogue import find
from verify.prove.__main__ import main
from verify.prove.engine import PROVABLE, prove
from verify.prove.obligations import Prover
from verify.prove.population import texts
from verify.prove.roles import ProjectionError, insides
from verify.verdict import Exit

STRAY = "no_stray_page"


class LimitsAfterDrain(V6_11):
    """The limits are closed when the drain is over."""

    def zone_pcp_disable(self, zone):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self._drain_all_pages(zone, True)
        yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)


class NoForce(V6_11):
    """Only CPUs whose count reads non-zero are drained."""

    def zone_pcp_disable(self, zone):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 0, 1)
        yield from self.drain_all_pages(zone)


class OneRound(V6_11):
    """A drain of batch << 5 pages, and no second round."""

    def drain_pages_zone(self, cpu, zone):
        here = yield from self.pcp_lock_of(zone, cpu)
        batch = yield ops.read_once("pcp.batch", zone.index, cpu)
        yield from self.free_pcppages_bulk(zone, batch * 32, cpu)
        yield from self.pcp_unlock_of(zone, cpu, here)


class HighMaxLeft(V6_11):
    """high_max stays as it was: whoever reads high may have one that is not 0."""

    def zone_pcp_disable(self, zone):
        yield from self.mutex_lock("pcp_batch_high_lock")
        high_max = yield read("zone.pageset_high_max", zone.index)
        yield from self.set_pageset_high_and_batch(zone, high_max, high_max, 1)
        yield from self._drain_all_pages(zone, True)


class UpdateUnlocked(V6_11):
    """zone_pcp_update() does not take the mutex."""

    def zone_pcp_update(self, zone, cpu_online=0):
        del cpu_online
        yield from self.zone_set_pageset_high_and_batch(zone)


class CountedLater(V6_1):
    """A page that is listed is counted when the lock is free again."""

    def free_unref_page(self, page):
        migratetype = yield from self.free_unref_page_prepare(page)
        if migratetype == MigrateType.ISOLATE:
            yield from self.free_one_page(page.zone, page, migratetype)
            return
        cpu = yield from self.pcp_spin_trylock(page.zone)
        if cpu >= 0:
            yield page_ops.list_add(self.config, page, cpu, int(MigrateType.MOVABLE))
            yield from self.pcp_spin_unlock(page.zone, cpu)
            yield add(1, "pcp.count", page.zone.index, cpu)


class NeverFlushed(V6_1):
    """A free keeps its page, whatever the limits."""

    def free_unref_page_commit(self, page, migratetype, cpu):
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield add(1, "pcp.count", page.zone.index, cpu)


class NotCounted(V6_1):
    """A refill is not counted."""

    def _rmqueue_pcplist(self, zone, migratetype, cpu, order=0):
        if (yield page_ops.list_empty(self.config, zone, cpu, migratetype, order)):
            yield from self.rmqueue_bulk(zone, 1, cpu, migratetype, order)
        return None


class NoTrylock(V6_1):
    """Whoever finds the lock taken goes on all the same."""

    def pcp_spin_trylock(self, zone):
        cpu = yield ops.local_irq_save(0)
        yield ops.spin_trylock("pcp.lock", zone.index, cpu)
        return cpu


PLANTED = [
    LimitsAfterDrain,
    NoForce,
    OneRound,
    HighMaxLeft,
    UpdateUnlocked,
    CountedLater,
    NeverFlushed,
    NotCounted,
    NoTrylock,
]


def proof_of(made, names=(STRAY,)):
    return prove(Prover(made, [find(n) for n in names]), jobs=1)


@pytest.mark.parametrize("name", ["v6.1", pytest.param("v6.11", marks=pytest.mark.deep)])
def test_the_mended_kernels_are_proved(name):
    # v6.11 is part of `make prove`
    proof = prove(Prover(kernel(name), [find(n) for n in PROVABLE]))
    assert not proof.differs and not proof.vacuous and not proof.all_failed
    assert all(proof.proves(n) for n in PROVABLE)


@pytest.mark.parametrize("name", ["v6.0", *(pytest.param(n, marks=pytest.mark.deep) for n in ("v6.8", "v6.10"))])
def test_a_look_at_count_outside_the_lock_is_not_proved_and_fails_where_the_drain_is_over(name):
    proof = proof_of(kernel(name))
    assert not proof.proves(STRAY)
    assert {a.goal for a in proof.all_failed} >= {"disabled_means_drained"} or name == "v6.10"


@pytest.mark.parametrize(
    "made",
    [c if c is NoTrylock else pytest.param(c, marks=pytest.mark.deep) for c in PLANTED],
    ids=lambda c: c.__name__,
)
def test_a_planted_bug_is_not_proved(made):
    try:
        proof = proof_of(made)
    except ProjectionError:
        return
    assert proof.differs or not proof.proves(STRAY)


def test_each_era_has_its_own_argument():
    lock = argument_of(V6_11)
    assert argument_of(kernel("v5.15")) is BY_WORK_ITEM and not lock.worker
    assert lock.closed == {"pcp.high_min": 0, "pcp.high_max": 0, "pcp.batch": 1}
    assert "drained_stays_empty" in lock.lemmas and "work_item_runs_once" not in lock.lemmas


def test_who_holds_the_lock_is_read_from_the_text():
    free = next(t for t in texts(V6_1) if t.kind.name == "free")
    from kernelmodel.terms import Cell

    inside = insides(free, Cell("pcp.lock", (0, 1)))
    said = {n.op.text for n in free.graph.kept if n.number in inside}
    assert any("list_add" in s for s in said) and not any("get_pfnblock" in s for s in said)
    with pytest.raises(ProjectionError, match=r"does not tell|with and without"):
        insides(next(t for t in texts(NoTrylock) if t.kind.name == "free"), Cell("pcp.lock", (0, 1)))


@pytest.mark.deep
def test_the_command_proves_the_newest_kernel(capsys):
    assert main(["--kernel", "v6.11", "--explain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "drained_stays_empty: critical sections are totally ordered" in said


@pytest.mark.deep
def test_the_command_shows_a_trace_where_the_drain_is_at_fault(capsys):
    assert main(["--kernel", "v6.0", "--property", STRAY]) == Exit.VIOLATED
    assert "1 page left on CPU0's pcplist" in capsys.readouterr().out
