"""``verify.tree --check-leaves``: the C of a leaf, run on random states against what the model sums it up as."""

from __future__ import annotations

import re

import pytest

from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.kernels import kernel
from tests.ctree import DRAIN, ERA, make
from verify.tree.__main__ import main
from verify.tree.leaves import STATES, check
from verify.verdict import Exit

#: ours: pages leave from the tails, one list after the other, to the free list of their type
BULK = """
static void free_pcppages_bulk(struct zone *zone, int count, struct per_cpu_pages *pcp, int pindex)
{
	int type, pages = 1, left = min(pcp->count, count);

	for (type = 0; type < MIGRATE_PCPTYPES; type++) {
		while (left > 0 && !list_empty(&pcp->lists[type])) {
			struct page *page = list_last_entry(&pcp->lists[type], struct page, lru);
			int mt = get_pcppage_migratetype(page);

			list_del(&page->lru);
			if (has_isolate_pageblock(zone))
				mt = get_pageblock_migratetype(page);
			__free_one_page(page, page_to_pfn(page), zone, 0, mt, FPI_NONE);
			pcp->count--;
			left -= pages;
		}
	}
}
"""

#: the functions that these call, which are run as what they are in the model
BELOW = """
static void __free_one_page(struct page *page, unsigned long pfn, struct zone *zone, int order, int migratetype, int flags)
{
}

static struct page *__rmqueue(struct zone *zone, int order, int migratetype, int flags)
{
}
"""

REST = """
static int rmqueue_bulk(struct zone *zone, int order, int count, struct list_head *list, int migratetype, int alloc_flags)
{
	int got = 0;

	while (got < count) {
		struct page *page = __rmqueue(zone, order, migratetype, alloc_flags);

		if (!page)
			break;
		list_add_tail(&page->lru, list);
		got++;
	}
	return got;
}

static void free_one_page(struct zone *zone, struct page *page, unsigned long pfn, int order, int migratetype, int flags)
{
	if (has_isolate_pageblock(zone) || is_migrate_isolate(migratetype))
		migratetype = get_pfnblock_migratetype(page, pfn);
	__free_one_page(page, pfn, zone, order, migratetype, flags);
}
"""


def differences(tmp_path, text: str) -> dict[str, str]:
    """What is said of each leaf of a tree of v6.1."""
    (tmp_path / "mm").mkdir(parents=True)
    (tmp_path / "mm/page_alloc.c").write_text(ERA + BELOW + text)
    found = check(Tree(TreeSpec(str(tmp_path))), kernel("v6.1"))
    assert all(c.states == STATES or c.difference or c.refused for c in found)
    return {c.name: c.refused or c.difference for c in found}


def test_leaves_that_do_what_the_summaries_say(tmp_path):
    assert differences(tmp_path, BULK + REST) == {"free_pcppages_bulk": "", "rmqueue_bulk": "", "free_one_page": ""}


@pytest.mark.parametrize(
    ("leaf", "old", "new", "said"),
    [
        ("free_pcppages_bulk", "\t\t\tpcp->count--;\n", "", "pcp->count: the C has"),
        ("free_pcppages_bulk", "mt = get_pageblock_migratetype(page);", "mt = mt;", "free lists: the C has"),
        ("free_pcppages_bulk", "\t\t\tlist_del(&page->lru);\n", "", "double free|it never ends"),
        ("free_pcppages_bulk", "list_last_entry", "list_first_entry", "lists: the C has"),
        ("free_pcppages_bulk", "left > 0 && ", "", "pcp->count: the C has"),
        ("rmqueue_bulk", "got < count", "got < count + 1", "returned: the C has"),
        ("rmqueue_bulk", "list_add_tail", "list_add", "lists: the C has"),
        ("rmqueue_bulk", "return got;", "return 0;", "returned: the C has"),
        ("free_one_page", "has_isolate_pageblock(zone) || ", "", "free lists: the C has"),
        (
            "free_one_page",
            "zone, order, migratetype, flags);\n}",
            "zone, order, 0, flags);\n}",
            "free lists: the C has",
        ),
        (
            "free_one_page",
            "if (has_isolate_pageblock(zone) ||",
            "frob(zone);\n\tif (has_isolate_pageblock(zone) ||",
            "frob.. is neither read",
        ),
    ],
)
def test_a_leaf_that_does_something_else_is_found(leaf, old, new, said, tmp_path):
    text = BULK + REST
    assert old in text
    found = differences(tmp_path, text.replace(old, new))
    assert re.search(said, found[leaf]), found
    assert not any(found[name] for name in found if name != leaf)


def test_the_command(tmp_path, capsys):
    (tmp_path / "mm").mkdir(parents=True)
    (tmp_path / "mm/page_alloc.c").write_text(ERA + BELOW + BULK + REST)
    assert main([str(tmp_path), "--check-leaves"]) == Exit.OK
    assert "free_pcppages_bulk(): does what the summary says on 400 random states" in capsys.readouterr().out
    make(tmp_path / "other", DRAIN)
    assert main([str(tmp_path / "other"), "--check-leaves"]) == Exit.UNDECIDED
    assert "rmqueue_bulk(): not run: mm/page_alloc.c has no such function" in capsys.readouterr().out
