"""The machine: pages freed by type, isolation, and offlining with each of its exits."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from machines import (
    HIGHATOMIC,
    ISOLATE,
    LIMITS,
    MOVABLE,
    UNMOVABLE,
    booted,
    cell,
    durable,
    settled,
    texts,
    until,
)

from kernelmodel import V5_11, Config, Machine, MigrateType, PageRange
from kernelmodel.cells import CELLS, limits_of_cpus
from kernelmodel.kernels import KERNELS
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import EBUSY, EINTR, EINVAL, MEMORY_OFFLINE
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText

# --- freeing by type ---


def test_a_free_below_high_stays_on_the_list_and_one_that_reaches_high_flushes_batch() -> None:
    machine = booted()
    pages = [machine.allocate(0) for _ in range(4)]
    counts = []
    for i, pfn in enumerate(pages):
        machine.run(machine.free(f"free{i}", pfn))
        counts.append(cell(machine, "pcp.count", 0, 0))
    assert counts == [1, 2, 3, 2]  # high 4, batch 2
    assert machine.state.pcplists[0][0].lists[MOVABLE] == [3, 2]


def test_a_highatomic_page_goes_to_the_movable_list_and_back_to_its_own_free_list() -> None:
    machine = booted(block_types=(MOVABLE, HIGHATOMIC))
    pfn = machine.allocate(1)
    machine.run(machine.free("free", pfn))
    assert machine.state.pcplists[0][0].lists[MOVABLE] == [pfn]
    settled(machine, "drain", machine.kernel.drain_all_pages(machine.zone()))
    assert machine.state.buddies[0].free_type_of(pfn) == HIGHATOMIC


def test_a_page_of_an_isolated_block_goes_straight_to_the_buddy() -> None:
    machine = booted()
    pfn = machine.allocate(1)
    machine.run(
        machine.spawn("isolate", machine.kernel.start_isolate_page_range(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE))
    )
    machine.history.clear()
    machine.run(machine.free("free", pfn))
    assert not [t for t in texts(machine) if "list_add" in t or "count" in t]
    assert machine.state.buddies[0].free_type_of(pfn) == ISOLATE


def test_a_page_prepared_before_isolation_is_put_on_the_isolate_list_by_the_second_look() -> None:
    machine = booted()
    pfn = machine.allocate(1)
    free = machine.free("free", pfn)
    until(machine, free, "local_irq_save")
    settled(machine, "disable", machine.kernel.zone_pcp_disable(machine.zone()))
    settled(machine, "isolate", machine.kernel.start_isolate_page_range(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE))
    machine.run(free)
    assert [s.text for s in machine.history if "list_add" in s.text]
    assert machine.state.buddies[0].free_type_of(pfn) == ISOLATE


# --- isolation ---


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_isolation_that_fails_in_the_middle_undoes_what_it_has_set(kernel: type[KernelText]) -> None:
    machine = booted(kernel, block_types=(MOVABLE,) * 4)
    settled(machine, "other", machine.kernel.start_isolate_page_range(PageRange(3, 3), MOVABLE, MEMORY_OFFLINE))
    before = durable(machine)
    assert (
        settled(machine, "isolate", machine.kernel.start_isolate_page_range(PageRange(1, 3), MOVABLE, MEMORY_OFFLINE))
        == -EBUSY
    )
    assert [s.text for s in machine.history if "move_freepages_block(), set" in s.text][-2:] == [
        f"spin_lock(&zone->lock): move_freepages_block(), set_pageblock_migratetype(block {b}, 1)" for b in (1, 2)
    ]
    assert durable(machine) == before
    assert machine.state.audit() == []


def test_a_block_with_unmovable_pages_in_use_is_not_isolated() -> None:
    machine = booted(block_types=(MOVABLE, UNMOVABLE))
    isolate = machine.kernel.start_isolate_page_range
    assert settled(machine, "free", isolate(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE)) == 0
    settled(machine, "undo", machine.kernel.undo_isolate_page_range(PageRange(1, 1), UNMOVABLE))
    machine.allocate(1)
    assert settled(machine, "used", isolate(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE)) == -EBUSY


def test_undoing_isolation_leaves_blocks_that_are_not_isolated_alone() -> None:
    machine = booted(block_types=(MOVABLE, UNMOVABLE))
    before = durable(machine)
    settled(machine, "undo", machine.kernel.undo_isolate_page_range(PageRange(0, 1), MOVABLE))
    assert durable(machine) == before


# --- offlining ---


def offline(machine: Machine, page_range: PageRange, at: Mapping[str, Mapping[str, int]], rounds: int = 1) -> int:
    """Run offline_pages(); ``at`` gives the environment's choices by operation text, in the n-th round of the loop."""
    task = machine.spawn("offline", machine.kernel.offline_pages(page_range))
    seen = 0
    for _ in range(3000):
        if task.done:
            return task.result  # type: ignore[no-any-return]
        ready = [t for t in (task, *machine.workers) if not machine.why_not(t)]
        text = machine.operation(task).text
        if ready[0] is task and text == "signal_pending(current)":
            seen += 1
        wanted = next((c for part, c in at.items() if part in text), {}) if ready[0] is task else {}
        machine.step(ready[0], wanted if seen in (0, rounds) else {})
    raise AssertionError("offline_pages() does not end")


FAULTS: dict[str, tuple[str, dict[str, int], int]] = {
    "range_invalid": ("walk_system_ram_range", {"range_invalid": True}, -EINVAL),
    "isolation": ("move_freepages_block()", {"unmovable": True}, -EBUSY),
    "notifier_fails": ("MEM_GOING_OFFLINE", {"notifier_fails": True}, -EBUSY),
    "signal": ("signal_pending", {"signal": True}, -EINTR),
    "unmovable": ("scan_movable_pages() != -ENOENT", {"scan_fails": True}, -EBUSY),
    "dissolve_fails": ("dissolve_free_huge_pages", {"dissolve_fails": True}, -EBUSY),
}


def limits_of(machine: Machine) -> tuple[int, ...]:
    """The limits of CPU 1, high (or its least value) and batch."""
    names = {CELLS[zone].limit: mine for mine, zone in limits_of_cpus(machine.config)}
    return tuple(cell(machine, names[which], 0, 1) for which in ("high", "batch"))


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_failing_exit_of_offline_pages_restores_the_zone(kernel: type[KernelText], fault: str) -> None:
    machine = booted(kernel, block_types=(MOVABLE,) * 4)
    text, choices, errno = FAULTS[fault]
    before = durable(machine)
    assert offline(machine, PageRange(1, 2), {text: choices}) == errno
    left = {c: v for c, v in durable(machine).items() if before[c] != v}
    # 946746d1ad92
    forgotten = kernel is KERNELS["v5.14"] and fault != "range_invalid"
    assert left == ({Cell("lru_disable_count"): 1} if forgotten else {})
    assert machine.state.audit() == []
    assert cell(machine, "cpu_hotplug_readers") == 0
    # and nothing is left that would hinder the next attempt
    assert offline(machine, PageRange(1, 2), {}) == 0


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("fault", ["range_invalid", "notifier_fails", "signal", "dissolve_fails"])
def test_a_task_can_be_given_its_faults_from_the_start(kernel: type[KernelText], fault: str) -> None:
    machine = booted(kernel)
    task = machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)), environment={fault: True})
    machine.settle(task)
    assert task.result == FAULTS[fault][2]


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_signal_in_a_later_round_of_the_loop_ends_it_too(kernel: type[KernelText]) -> None:
    machine = booted(kernel)
    # off the LRU, so the scan for movable pages does not find it, and the test for isolated pages fails for ever
    machine.state.place[machine.allocate(1)] = Place.FREEING
    assert offline(machine, PageRange(1, 1), {"signal_pending": {"signal": True}}, rounds=3) == -EINTR
    assert texts(machine).count("signal_pending(current)") == 3
    assert cell(machine, "pageblock.migratetype", 1) == MOVABLE
    assert limits_of(machine) == LIMITS


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_offlining_and_onlining_again_gives_the_zone_back(kernel: type[KernelText]) -> None:
    machine = booted(kernel, block_types=(MOVABLE,) * 4)
    before = durable(machine)
    assert offline(machine, PageRange(1, 2), {}) == 0
    assert [cell(machine, f"zone.{n}_pages", 0) for n in ("managed", "present")] == [8, 8]
    assert [p.name for p in machine.state.place] == ["BUDDY"] * 4 + ["OFFLINE"] * 8 + ["BUDDY"] * 4
    assert cell(machine, "zone.nr_isolate_pageblock", 0) == 0
    assert machine.state.audit() == []
    assert settled(machine, "online", machine.kernel.online_pages(PageRange(1, 2)), environment=limits_choice()) == 0
    assert durable(machine) == before
    assert machine.state.audit() == []


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_offlining_a_whole_zone_resets_its_pagesets_and_onlining_sets_them_up(kernel: type[KernelText]) -> None:
    machine = booted(kernel)
    machine.put_on_pcplist(1, 0)
    assert offline(machine, PageRange(0, 1), {}) == 0
    assert (*limits_of(machine), cell(machine, "pcp.count", 0, 1)) == (0, 1, 0)
    assert Place.LOST not in machine.state.place
    assert settled(machine, "online", machine.kernel.online_pages(PageRange(0, 1)), environment=limits_choice()) == 0
    # base and v5.11 cache the limits, and zone_pcp_reset() leaves them: nothing seems to have changed, pcplists stay off
    expected = LIMITS if kernel is KERNELS["v5.10"] else (0, 1)
    assert limits_of(machine) == expected
    assert machine.state.buddies[0].nr_free() == 8
    settled(
        machine, "update", machine.kernel.zone_pcp_update(machine.zone()), environment={"new_high": 7, "new_batch": 3}
    )
    assert limits_of(machine) == (7, 3)


def test_a_page_larger_than_a_pageblock_is_freed_block_by_block() -> None:
    machine = Machine(V5_11, Config(nr_cpus=1, block_types=(MigrateType.MOVABLE,) * 4, pageblock_order=2, max_order=5))
    page = settled(machine, "alloc", machine.kernel.rmqueue(machine.zone(), MigrateType.MOVABLE, 3))
    blocks = (page.block, page.block + 1)
    assert [machine.state.load(Cell("held", (b,))) for b in blocks] == [4, 4]
    settled(
        machine,
        "isolate",
        machine.kernel.start_isolate_page_range(PageRange(blocks[1], blocks[1]), MigrateType.MOVABLE, MEMORY_OFFLINE),
    )
    machine.run(machine.free("free", page.pfn))
    assert [machine.state.load(Cell("held", (b,))) for b in range(4)] == [0] * 4
    assert [machine.state.load(Cell("misplaced", (b,))) for b in range(4)] == [0] * 4
    assert machine.state.audit() == []


def limits_choice() -> dict[str, int]:
    return {"new_high": LIMITS[0], "new_batch": LIMITS[1]}


def test_onlining_that_a_notifier_refuses_leaves_the_range_offline() -> None:
    machine = booted()
    assert offline(machine, PageRange(1, 1), {}) == 0
    before = durable(machine)
    online = machine.kernel.online_pages(PageRange(1, 1))
    assert settled(machine, "online", online, environment={"notifier_fails": True}) == -EBUSY
    assert durable(machine) == before


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_offlining_migrates_pages_in_use_and_drains_those_on_pcplists(kernel: type[KernelText]) -> None:
    machine = booted(kernel, nr_cpus=3)
    for _ in range(2):
        machine.allocate(1)
    for cpu in (1, 2):
        machine.put_on_pcplist(cpu, 1)
    assert offline(machine, PageRange(1, 1), {}) == 0
    assert [p.block for p in machine.pages_in_use()] == [0, 0]
    assert machine.state.place[4:] == [Place.OFFLINE] * 4
    assert machine.state.audit() == []


def test_two_offliners_of_one_range_exclude_each_other_and_the_second_fails() -> None:
    machine = booted(block_types=(MOVABLE,) * 3)
    offline_it = machine.kernel.offline_pages
    both = [machine.spawn(f"o{i}", offline_it(PageRange(1, 1)), environment=limits_choice()) for i in range(2)]
    until(machine, both[0], "signal_pending")
    machine.settle(*both)
    assert [t.result for t in both] == [0, -EBUSY]
    assert cell(machine, "pcp.high", 0, 0) == LIMITS[0]


def test_a_signal_ends_offlining_also_while_pages_cannot_be_migrated() -> None:
    machine = booted()
    for block in (0, 0, 0, 0, 1):
        machine.allocate(block)
    task = machine.spawn("offline", machine.kernel.offline_pages(PageRange(1, 1)))
    for _ in range(500):
        if task.done:
            break
        ready = [t for t in (task, *machine.workers) if not machine.why_not(t)]
        machine.step(ready[0], {"signal": any("rmqueue_bulk" in text for text in texts(machine))})
    assert task.result == -EINTR


# --- a list of pages, vmstat, and another isolator ---


def test_a_list_reads_every_type_before_it_commits_the_first_page() -> None:
    machine = booted(block_types=(MOVABLE,) * 3)
    pages = [machine.allocate(b) for b in (1, 1, 2)]
    task = machine.free_list("list", pages)
    for _ in pages:
        machine.step(task)
    assert [s.tag for s in machine.history[-3:]].count("irq_save") == 0
    # now the block is isolated: what was read is stale, and the commit believes it
    settled(machine, "isolate", machine.kernel.start_isolate_page_range(PageRange(1, 1), MOVABLE, MEMORY_OFFLINE))
    machine.run(task)
    assert [machine.state.place[p] for p in pages] == [Place.PCP] * 3
    assert [s.tag for s in machine.history if s.task == "list"].count("irq_save") == 1
    assert machine.state.audit() == []


def test_a_long_list_lets_interrupts_in_between() -> None:
    machine = Machine(V5_11, Config(block_types=(MOVABLE,) * 2, pageblock_order=6, max_order=8), limits=(100, 3))
    machine.run(machine.free_list("list", [machine.allocate(1) for _ in range(33)]))
    assert [s.tag for s in machine.history if s.task == "list"].count("irq_save") == 2
    assert machine.state.load(Cell("pcp.count", (0, 0))) == 33


def test_vmstat_takes_a_batch_off_the_list() -> None:
    machine = booted(limits=(9, 2))
    for _ in range(3):
        machine.put_on_pcplist(0, 0)
    settled(machine, "vmstat", machine.kernel.drain_zone_pages(machine.zone()))
    assert machine.state.load(Cell("pcp.count", (0, 0))) == 1
    settled(machine, "vmstat", machine.kernel.drain_zone_pages(machine.zone()))
    settled(machine, "vmstat", machine.kernel.drain_zone_pages(machine.zone()))
    assert machine.state.load(Cell("pcp.count", (0, 0))) == 0 and machine.state.audit() == []


def test_another_isolator_takes_a_free_range_and_leaves_no_trace() -> None:
    machine = booted(block_types=(MOVABLE,) * 2)
    machine.put_on_pcplist(0, 1)
    assert settled(machine, "contig", machine.kernel.alloc_contig_range(PageRange(1, 1), MOVABLE)) == 0
    assert all(machine.state.place[p] is Place.IN_USE for p in machine.state.pfns(1))
    assert machine.state.load(Cell("zone.nr_isolate_pageblock", (0,))) == 0 and machine.state.audit() == []
    assert not machine.state.load(Cell("isolated", (1,)))


def test_another_isolator_gives_up_where_a_page_is_left() -> None:
    machine = booted(block_types=(MOVABLE,) * 2)
    machine.allocate(1)
    before = durable(machine)
    assert settled(machine, "contig", machine.kernel.alloc_contig_range(PageRange(1, 1), MOVABLE)) == -EBUSY
    assert durable(machine) == before


def test_of_two_isolators_the_second_backs_off() -> None:
    machine = booted(block_types=(MOVABLE,) * 2)
    contig = machine.spawn("contig", machine.kernel.alloc_contig_range(PageRange(1, 1), MOVABLE))
    machine.step(contig)
    assert settled(machine, "offline", machine.kernel.offline_pages(PageRange(1, 1))) == -EBUSY
    machine.settle(contig)
    assert contig.result == 0 and machine.state.audit() == []
