"""Pages of orders above 0 on pcplists, which v5.14 and later have: what a count is of, what leaves together, and batch 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kernelmodel import page_ops
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS, kernel
from kernelmodel.machine import Machine
from kernelmodel.memory.pcplist import PcpLists, bulk_order
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import MigrateType
from kernelmodel.ops import add, shifted
from kernelmodel.terms import Cell, maximum
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_14 import V5_14
from properties.catalogue import find
from properties.monitor import Monitor
from properties.stateful import PageAllocator, machine_for
from tests.machines import settled
from tests.test_stateful import run
from verify.prove.engine import prove
from verify.prove.obligations import Prover

MOVABLE = MigrateType.MOVABLE
LATER = [name for name, k in KERNELS.items() if k.pcp_order]


def booted(text: type[KernelText], limits: tuple[int, int] = (6, 2)) -> Machine:
    return Machine(text, Config(2, pcp_order=min(text.pcp_order, 2)), limits=limits)


def count(machine: Machine, cpu: int = 0) -> int:
    return machine.state.pcp_count(0, cpu)


def lists(machine: Machine, cpu: int = 0) -> dict[int, list[int]]:
    return {i: pages for i, pages in enumerate(machine.state.pcplists[0][cpu].lists) if pages}


def allocated(machine: Machine, order: int) -> int:
    page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MOVABLE, order))
    assert page.order == order
    return int(page.pfn)


def freed(machine: Machine, pfn: int) -> None:
    machine.settle(machine.free("free", pfn))


@pytest.mark.parametrize("name", LATER)
def test_a_page_counts_for_as_many_as_it_is_made_of(name: str) -> None:
    machine = booted(kernel(name), limits=(20, 8))
    pfn = allocated(machine, 1)
    left = count(machine)
    assert left == 2 * len(lists(machine).get(4, []))
    freed(machine, pfn)
    assert count(machine) == left + 2
    assert lists(machine)[4][0] == pfn
    assert [machine.state.place[p] for p in (pfn, pfn + 1)] == [Place.PCP, Place.PCP]
    assert allocated(machine, 1) == pfn
    assert machine.state.order_in_use == {pfn: 1}
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    assert not lists(machine) and not count(machine) and not machine.state.order_freed
    assert not machine.state.audit()


def test_before_v5_14_such_a_page_goes_past_the_pcplists() -> None:
    machine = booted(kernel("v5.11"), limits=(20, 8))
    page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MOVABLE, 1))
    freed(machine, page.pfn)
    assert not count(machine)
    assert LATER[0] == "v5.14" and "v5.11" not in LATER


def test_a_page_that_is_larger_than_those_on_pcplists_goes_past_them() -> None:
    machine = booted(kernel("v6.11"), limits=(20, 8))
    page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MOVABLE, 3))
    freed(machine, page.pfn)
    assert not count(machine)


@pytest.mark.parametrize("name", LATER)
def test_a_refill_asks_for_fewer_of_them_and_for_one_where_pcplists_are_off(name: str) -> None:
    machine = booted(kernel(name), limits=(20, 3))
    for batch, order, asked in ((8, 0, 8), (8, 1, 4), (9, 2, 2), (3, 2, 2), (1, 1, 1)):
        assert settled(machine, "batch", machine.kernel._of_order(batch, order)) == asked
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    for order in (0, 1, 2):
        page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MOVABLE, order))
        assert page is not None and not lists(machine) and not count(machine)
        freed(machine, page.pfn)
        assert not lists(machine) and not count(machine)


def test_pages_leave_whole() -> None:
    pcp = PcpLists(2)
    pcp.add_head(0, 6 + MOVABLE)
    pcp.add_head(8, MOVABLE)
    assert list(pcp.pages()) == [(1, range(8, 9)), (7, range(4))]
    assert sorted(pcp.detach_bulk(2)) == [0, 8]
    pcp.add_tail([0, 4], 6 + MOVABLE)
    assert pcp.detach_list_by_list(5) == [4, 0]
    assert bulk_order([0, 0, 0, 0, 2, 0], 1) == [4]
    assert bulk_order([0, 0, 0, 0, 2, 0], 3) == [4, 4]


def test_a_pageblock_is_at_least_as_large_as_a_page_on_a_pcplist() -> None:
    with pytest.raises(ModelError, match="pcp_order 3: a page on a pcplist is no larger than a pageblock"):
        Config(pcp_order=3)


# --- what would go wrong ---


class CountsPages(V5_14):
    """A free of a larger page counts one."""

    def free_unref_page_commit(self, page: Any, migratetype: Any, cpu: int) -> Any:
        yield page_ops.list_add(self.config, page, cpu, migratetype)
        yield add(1, "pcp.count", page.zone.index, cpu)


class AlwaysTwo(V5_14):
    """A refill asks for two pages also where batch is 1."""

    def _of_order(self, batch: Any, order: int) -> Any:
        if not order:
            return batch
        fewer = yield shifted(batch, order, "batch >> order")
        return maximum(fewer, 2)


def test_a_refill_that_forgets_that_batch_1_stays_1_leaves_a_page_behind() -> None:
    machine = booted(AlwaysTwo)
    stray = Monitor(machine, [find("no_stray_page")])
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    assert not stray.violations
    settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MOVABLE, 1))
    assert stray.violations and count(machine) == 2


@pytest.mark.parametrize(("text", "broken"), [(CountsPages, "pages_conserved"), (AlwaysTwo, "no_stray_page")])
def test_random_histories_find_both(text: type[KernelText], broken: str) -> None:
    with pytest.raises(AssertionError, match=f"^{broken}: "):
        for number in range(6):
            run(machine_for(text, PageAllocator, [broken]), 200, number=number, database=None)


def test_without_such_pages_histories_find_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountsPages, "pcp_order", 0)
    run(machine_for(CountsPages, PageAllocator, ["pages_conserved"]), 50, number=0, database=None)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("v5.14", "v6.11") else pytest.mark.deep) for n in LATER]
)
def test_histories_with_such_pages_keep_what_the_kernel_keeps(name: str) -> None:
    run(machine_for(kernel(name), PageAllocator), 60, number=1, database=None)


def test_what_the_machine_says_of_it_is_what_operations_may_do() -> None:
    """The checks of kernelmodel.machine hold each step against the abstract operation: a wrong one is refused."""
    machine = booted(kernel("v6.11"), limits=(20, 8))
    freed(machine, allocated(machine, 2))
    cell = Cell("pcp.nr", (0, 0, 7, 0))
    assert machine.state.load(cell) + machine.state.load(Cell("pcp.nr", (0, 0, 7, 1))) == count(machine) // 4
    assert replace(Config(), pcp_order=2).lists == range(9)


# --- the proof has them ---


def failing(text: type[KernelText]) -> set[str]:
    prover = Prover(text, [find("no_stray_page"), find("pages_conserved")])
    assert any("alloc of order > 0" in t.label and t.part == "section" for t in prover.transitions) == bool(
        text.pcp_order
    )
    return {a.goal for a in prove(prover).all_failed}


@pytest.mark.deep
def test_the_proof_is_of_them_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not failing(V5_14)
    assert "drained_stays_empty" in failing(AlwaysTwo)
    monkeypatch.setattr(AlwaysTwo, "pcp_order", 0)
    assert not failing(AlwaysTwo)


def test_the_proof_finds_a_count_that_is_not_of_all_pages() -> None:
    assert "pages_conserved" in failing(CountsPages)
