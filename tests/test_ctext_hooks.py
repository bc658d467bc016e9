"""Calls of which the user says what they do: a vendor's hooks in small C of our own."""

from __future__ import annotations

import pytest

from kernelmodel.ctext.kernel import kernel_from
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from tests.ctree import explored, make
from verify.explore.__main__ import main as explore
from verify.verdict import Exit, Result

STRAY = ["--property", "no_stray_page"]
SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "1", "--updates", "0"]

#: a vendor's drain that a hook may pass by
DRAIN = """
static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pages *lists = per_cpu_ptr(zone->per_cpu_pageset, cpu);
	bool skip = false;

	trace_vendor_drain(cpu, zone, &skip);
	if (skip)
		return;
	pcp_spin_lock_maybe_irqsave(lists, flags);
	if (lists->count)
		free_pcppages_bulk(zone, lists->count, lists, 0);
	pcp_spin_unlock_maybe_irqrestore(lists, flags);
}
"""

#: what the vendor's module does there, in the kernel's language
OWN = """
from kernelmodel import ops

def keeps(kernel, cpu, zone, skip):
    yield ops.happens("the vendor looks at the drain")
    return False

def passes_cpu_1(kernel, cpu, zone, skip):
    yield ops.happens("the vendor looks at the drain")
    return cpu == 1

def two(kernel, cpu, zone, skip):
    yield ops.happens("the vendor looks at the drain")
    return True, False

def forgets(kernel, cpu, zone, skip):
    yield ops.happens("the vendor looks at the drain")

def no_steps(kernel, cpu, zone, skip):
    return False
"""


def judged(tree, how, capsys):
    code = explore(["--tree", str(tree), "--assume", f"trace_vendor_drain={how}", *STRAY, *SMALL])
    return code, " ".join(capsys.readouterr().out.split())


def test_a_hook_that_nothing_is_said_of_is_named_with_what_can_be_said(tmp_path):
    with pytest.raises(ModelError) as refused:
        kernel_from(str(TreeSpec(str(make(tmp_path, DRAIN)))))
    said = str(refused.value)
    assert "mm/page_alloc.c:" in said and "trace_vendor_drain=nothing, trace_vendor_drain=open or a routine" in said


def test_a_hook_without_effect_passes_nothing_by(tmp_path, capsys):
    code, out = judged(make(tmp_path, DRAIN), "nothing", capsys)
    assert code == Exit.OK and "given that trace_vendor_drain() has no effect (--assume)" in out


def test_an_open_hook_may_set_what_it_is_given(tmp_path, capsys):
    code, out = judged(make(tmp_path, DRAIN), "open", capsys)
    assert code == Exit.VIOLATED
    assert "given that trace_vendor_drain() changes nothing but the local variables whose address it is given" in out


@pytest.mark.parametrize(("routine", "result"), [("keeps", Result.HOLDS), ("passes_cpu_1", Result.VIOLATED)])
def test_a_routine_of_the_user_stands_for_the_hook(routine, result, tmp_path):
    own = tmp_path / "vendor.py"
    own.write_text(OWN)
    tree, assume = make(tmp_path / "tree", DRAIN), f"trace_vendor_drain={own}:{routine}"
    assert explored(tree, "no_stray_page", assume).result is result
    given = kernel_from(str(TreeSpec(str(tree), assume=(assume,)))).given
    assert any(f"trace_vendor_drain() does what {routine}() in" in line for line in given)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("perhaps", "give HOOK=nothing, HOOK=open or HOOK=FILE.py:ROUTINE"),
        ("{}:missing", "has no routine missing()"),
        ("{}:no_steps", "has no routine no_steps()"),
        ("{}:two", "it has to return the new value of skip"),
        ("{}:forgets", "returns no value for skip"),
        ("{}.py:keeps", "does not exist or is no file: give --assume HOOK=FILE.py:ROUTINE"),
    ],
)
def test_bad_input_is_one_line(how, said, tmp_path, capsys):
    own = tmp_path / "vendor.py"
    own.write_text(OWN)
    with pytest.raises(SystemExit) as end:
        judged(make(tmp_path / "tree", DRAIN), how.format(own), capsys)
    err = capsys.readouterr().err
    assert end.value.code == Exit.USAGE and said in err and err.count("\n") == 1


#: a free whose page a vendor may keep for itself
TAKES = """
static void free_one_page(struct zone *zone, struct page *page, unsigned int order, int migratetype)
{
}

void free_unref_page(struct page *page, unsigned int order)
{
	int type = get_pfnblock_migratetype(page, page_to_pfn(page));
	struct zone *zone = page_zone(page);
	struct per_cpu_pages *lists;

	trace_vendor_free(&page, order);
	if (!page)
		return;
	lists = pcp_spin_trylock(zone->per_cpu_pageset);
	if (lists && type < MIGRATE_PCPTYPES) {
		list_add(&page->pcp_list, &lists->lists[type]);
		lists->count += 1;
		if (lists->count >= lists->high)
			free_pcppages_bulk(zone, lists->count, lists, 0);
	} else {
		free_one_page(zone, page, order, type);
	}
	if (lists)
		pcp_spin_unlock(lists);
}
"""


@pytest.mark.parametrize(("how", "result"), [("nothing", Result.HOLDS), ("open", Result.VIOLATED)])
def test_an_open_hook_may_take_a_page_away(how, result, tmp_path):
    tree = make(tmp_path, TAKES)
    assert explored(tree, "no_stray_page", f"trace_vendor_free={how}").result is Result.HOLDS
    assert explored(tree, "pages_accounted", f"trace_vendor_free={how}").result is result
