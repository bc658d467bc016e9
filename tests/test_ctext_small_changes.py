"""Every small change of a function's C, and what becomes of it: small trees of our own."""

from __future__ import annotations

import json

import pytest

from kernelmodel.ctext.small_changes import small_changes
from tests.ctree import make
from verify.explore.__main__ import main as explore
from verify.mutants import in_c_systematic
from verify.mutants.__main__ import main
from verify.scenario import Scenario
from verify.verdict import Exit

#: a drain with one call too many to be needed
DRAIN = """
static void drain_pages_zone(unsigned int cpu, struct zone *zone)
{
	struct per_cpu_pages *lists = per_cpu_ptr(zone->per_cpu_pageset, cpu);

	pcp_spin_lock_maybe_irqsave(lists, flags);
	if (lists->count)	/* ; looked at */
		free_pcppages_bulk(zone, lists->count, lists, 0);
	cond_resched();
	pcp_spin_unlock_maybe_irqrestore(lists, flags);
}
"""


def words(body: str) -> list[str]:
    text = f"static void f(int a)\n{{\n{body}\n}}\n"
    found = list(small_changes(text))
    assert all(text[c.start : c.end] != c.by and c.apply(text, text) != text for c in found)
    return [f"{c.line}: {c.words}" for c in found]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("a = 1;\nb = f(2);", ["2: no a = 1;", "3: no b = f(2);", "3: b = f(2); before a = 1;"]),
        ("int a = 1;\nstruct zone *z;\nlong_t b;\nreturn;", []),
        ("if (a)\ng(a);", ["3: no g(a);", "2: not: if (a)"]),
        ("if (a) {\ng(a);\n} else {\nh();\n}", ["3: no g(a);", "5: no h();", "2: not: if (a)"]),
        ("for (i = 0; i < 3; i++)\ng(i);", ["3: no g(i);"]),
        ("for_each_possible_cpu(cpu)\ng(cpu);", ["3: no g(cpu);"]),
        ("do {\ng();\n} while (a);", ["3: no g();", "4: not: while (a)"]),
        ("goto out;\nout:\ng();", ["4: no g();"]),
    ],
)
def test_what_is_changed(body, found):
    assert words(body) == found


def test_each_change_of_a_tree_is_judged_and_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(in_c_systematic, "BOUND", Scenario(cpus=2, frees=1, allocs=0, updates=0))
    tree, record = make(tmp_path / "tree", DRAIN), tmp_path / "rows.json"
    assert main(["--tree", str(tree), "--systematic", "--jobs", "2", "--json", str(record)]) == Exit.OK
    out = capsys.readouterr().out
    rows = {r["change"]: r for r in json.loads(record.read_text())["rows"]}
    assert rows["no free_pcppages_bulk(zone, lists->count, lists, 0);"]["why"] == "no_stray_page"
    assert rows["no pcp_spin_lock_maybe_irqsave(lists, flags);"]["status"] == "killed"
    assert rows["no cond_resched();"]["status"] == "the same"
    assert rows["not: if (lists->count)"]["status"] == "killed" and rows["not: if (lists->count)"]["line"] == 12
    assert "killed    mm/page_alloc.c:13: drain_pages_zone(): no free_pcppages_bulk" in out
    assert f"{len(rows)} small changes of the C: " in out


def test_what_cannot_be_run_is_told_with_the_line_of_the_c(tmp_path, capsys):
    unset = DRAIN.replace("\tcond_resched();\n", "\tlists->batch = missing;\n").replace(
        "\n\n\tpcp", "\n\tint missing;\n\n\tpcp", 1
    )
    tree = make(tmp_path, unset)
    for command in (["--systematic"], []):
        with pytest.raises(SystemExit) as end:
            (main if command else explore)(["--tree", str(tree), *command])
        err = capsys.readouterr().err
        assert end.value.code == Exit.USAGE and err.count("\n") == 1
        assert f"{tree}/mm/page_alloc.c, line 15: TypeError: None is no number" in err


def test_one_function_can_be_chosen(tmp_path, capsys):
    tree = str(make(tmp_path, DRAIN))
    with pytest.raises(SystemExit) as end:
        main(["--tree", tree, "--systematic", "--of", "drain_page_zone"])
    err = capsys.readouterr().err
    assert end.value.code == Exit.USAGE and "did you mean drain_pages_zone" in err and err.count("\n") == 1


@pytest.mark.parametrize("more", [["--of", "drain_pages_zone"], ["--systematic", "single-round"], ["--engine", "bmc"]])
def test_options_that_do_not_go_together_are_one_line(more, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--tree", str(make(tmp_path, DRAIN)), *more])
    err = capsys.readouterr().err
    assert end.value.code == Exit.USAGE and err.count("\n") == 1
