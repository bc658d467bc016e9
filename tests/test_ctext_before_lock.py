"""C of kernels before v6.0: interrupts off instead of pcp->lock, and work items that drain; small trees of our own."""

from __future__ import annotations

import pytest

from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.kernel import era_of, kernel_from, reading_of
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from tests.ctree import explored, make
from verify.bmc.__main__ import main as bmc
from verify.explore.__main__ import main as explore
from verify.verdict import Exit, Result

V5_10 = "/* has free_unref_page_commit and drain_local_pages_wq */\n"
V5_11 = "/* has zone_pcp_disable and drain_local_pages_wq */\n"
V5_14 = "/* has zone_pcp_disable, nr_pcp_free and drain_local_pages_wq */\n"
STRAY = ["--property", "no_stray_page"]
SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "0", "--updates", "0"]

#: the lists of one CPU, with interrupts off there
LISTS = """
static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pageset *set = per_cpu_ptr(zone->pageset, cpu);
	unsigned long flags;

	local_irq_save(flags);
	if (set->pcp.count)
		free_pcppages_bulk(zone, set->pcp.count, &set->pcp, 0);
	local_irq_restore(flags);
}
"""

#: what a worker runs, and who asks it to
DRAIN = """
static void drain_local_pages_wq(struct work_struct *work)
{
	struct pcpu_drain *mine = container_of(work, struct pcpu_drain, work);
	struct zone *zone = mine->zone, *z;
	int here;

	preempt_disable();
	here = smp_processor_id();
	if (zone) {
		drain_pages_zone(here, zone);
	} else {
		for_each_populated_zone(z)
			drain_pages_zone(here, z);
	}
	preempt_enable();
}

static void __drain_all_pages(struct zone *zone, bool force_all_cpus)
{
	static cpumask_t cpus_with_pcps;
	struct zone *z;
	int cpu;

	if (!mutex_trylock(&pcpu_drain_mutex)) {
		if (!zone)
			return;
		mutex_lock(&pcpu_drain_mutex);
	}
	for_each_online_cpu(cpu) {
		bool any = force_all_cpus;

		for_each_populated_zone(z) {
			if (any)
				break;
			if (zone && z != zone)
				continue;
			if (per_cpu_ptr(z->pageset, cpu)->pcp.count)
				any = true;
		}
		if (any)
			cpumask_set_cpu(cpu, &cpus_with_pcps);
		else
			cpumask_clear_cpu(cpu, &cpus_with_pcps);
	}
	for_each_cpu(cpu, &cpus_with_pcps) {
		struct pcpu_drain *of = per_cpu_ptr(&pcpu_drain, cpu);

		of->zone = zone;
		INIT_WORK(&of->work, drain_local_pages_wq);
		queue_work_on(cpu, mm_percpu_wq, &of->work);
	}
	for_each_cpu(cpu, &cpus_with_pcps)
		flush_work(&per_cpu_ptr(&pcpu_drain, cpu)->work);
	mutex_unlock(&pcpu_drain_mutex);
}
"""

#: the same lists under a local lock
LOCAL_LOCK = """
static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pages *lists;
	unsigned long flags;

	local_lock_irqsave(&pagesets.lock, flags);
	lists = per_cpu_ptr(zone->per_cpu_pageset, cpu);
	if (lists->count)
		free_pcppages_bulk(zone, lists->count, lists, 0);
	local_unlock_irqrestore(&pagesets.lock, flags);
}
"""


def broken(text: str, old: str, new: str) -> str:
    """A text with one change."""
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(("era", "name"), [(V5_10, "v5.10"), (V5_11, "v5.11"), (V5_14, "v5.14")])
def test_the_era_is_told_by_the_names(era, name, tmp_path):
    kernel, words = era_of(Tree(TreeSpec(str(make(tmp_path, era=era)))))
    assert (kernel.name, words.era) == (name, name)


@pytest.mark.parametrize("command", [pytest.param(bmc, marks=pytest.mark.deep), explore])
def test_a_drain_by_work_items_holds(command, tmp_path, capsys):
    assert command(["--tree", str(make(tmp_path, LISTS, DRAIN, era=V5_11)), *STRAY, *SMALL]) == Exit.OK
    said = " ".join(capsys.readouterr().out.split())
    assert "read: the C of 3 functions, as v5.11's" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bool any = force_all_cpus;", "bool any = false;"),
        ("		flush_work(&per_cpu_ptr(&pcpu_drain, cpu)->work);", "		;"),
        ("drain_pages_zone(here, zone);", "drain_pages_zone(0, zone);"),
    ],
)
def test_what_breaks_it_is_found_in_the_c(old, new, tmp_path):
    tree = make(tmp_path, LISTS, broken(DRAIN, old, new), era=V5_11)
    verdict = explored(tree, "no_stray_page")
    assert verdict.result is Result.VIOLATED and verdict.replayed
    assert "1 page left" in verdict.found and "lines: mm/page_alloc.c" in verdict.trace


def test_lists_with_interrupts_on_are_found(tmp_path):
    bare = broken(broken(LISTS, "local_irq_save(flags);", ";"), "local_irq_restore(flags);", ";")
    tree = make(tmp_path, bare, DRAIN, era=V5_11)
    assert explored(tree, "guarded_writes", allocs=0).result is Result.VIOLATED


def test_a_local_lock_is_interrupts_off(tmp_path):
    assert explored(make(tmp_path / "a", LOCAL_LOCK, era=V5_14), "no_stray_page", allocs=0).result is Result.HOLDS
    bare = broken(
        broken(LOCAL_LOCK, "local_lock_irqsave(&pagesets.lock, flags);", ";"),
        "local_unlock_irqrestore(&pagesets.lock, flags);", ";",
    )  # fmt: skip
    tree = make(tmp_path / "b", bare, era=V5_14)
    assert explored(tree, "guarded_writes", allocs=0).result is Result.VIOLATED


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("INIT_WORK(&of->work, drain_local_pages_wq)", "INIT_WORK(&of->work, zone)", "a work item that runs"),
        ("queue_work_on(cpu, mm_percpu_wq", "queue_work_on(0, mm_percpu_wq", "which is not that CPU's drain"),
        ("drain_pages_zone(here, zone);", "drain_pages_zone(here, mine->zone);", "may be NULL here"),
        ("queue_work_on(cpu, mm_percpu_wq", "queue_work_on(cpu, system_wq", "system_wq is not in the vocabulary"),
    ],
)
def test_another_work_item_is_named(old, new, said, tmp_path, capsys):
    tree = make(tmp_path, LISTS, broken(DRAIN, old, new), era=V5_11)
    with pytest.raises(SystemExit) as end:
        explore(["--tree", str(tree), *STRAY, *SMALL])
    assert end.value.code == Exit.USAGE
    assert said in " ".join(capsys.readouterr().err.split())


OFFLINE = """
int offline_pages(unsigned long start_pfn, unsigned long nr_pages)
{
	struct zone *zone = page_zone(pfn_to_page(start_pfn));

	zone->present_pages -= nr_pages;
	return 0;
}
"""


def test_pages_off_the_present_ones_are_counted(tmp_path):
    tree = make(tmp_path, era=V5_11)
    (tree / "mm" / "memory_hotplug.c").write_text(OFFLINE)
    _, reading = reading_of(TreeSpec(str(tree)))
    assert not reading.refused
    assert "_c.pages(nr_pages, self.config)" in reading.translated["c_offline_pages"].python


def test_a_kernel_that_is_older_still_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"has no free_unref_page_commit, which every kernel from v5\.10 on has"):
        kernel_from(str(TreeSpec(str(make(tmp_path, era="")))))
