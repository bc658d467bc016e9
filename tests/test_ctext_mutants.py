"""Mutants of a tree's C: small edits at places that are named, and what the engines say of each."""

from __future__ import annotations

import json
import re

import pytest

from kernelmodel.ctext.configured import USUAL
from kernelmodel.ctext.edits import Argument, Drop, Once, Swap, Whole, edited
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.vocabulary.mutants import C_MUTANTS
from properties.catalogue import PROPERTIES
from tests.ctree import DRAIN, LEAF, make
from verify.mutants.__main__ import main
from verify.mutants.in_c import exit_code, judged
from verify.verdict import Exit

F = """/* f(1); is not it */
static int f(int a)
{
	int r;
#ifdef CONFIG_NOT_SET
	open(a, 9);
#endif
	open(a, min(a, 2), /* , */ 3);
	if (a)
		r = g(a);
	shut(a);
	do {
		a--;
	} while (a > shut(r));
out:
	shut(r);
	return r;
}
"""


def change(edit: object) -> str:
    """The function with one change, on one line."""
    return " ".join(edited(F, "f", edit, set(USUAL)).split())  # type: ignore[arg-type]


def test_edits_change_one_place_and_leave_the_rest():
    whole = " ".join(F.split())
    assert change(Drop("open")) == whole.replace("open(a, min(a, 2), /* , */ 3);", ";")
    assert change(Drop("shut")) == whole.replace("shut(a);", ";")
    assert change(Drop("shut", "out")) == whole.replace("out: shut(r);", "out: ;")
    assert change(Argument("open", 1, "0")) == whole.replace("min(a, 2)", "0")
    assert change(Argument("open", -1, "0")) == whole.replace("2), /* , */ 3);", "2), 0);")
    assert change(Once()) == whole.replace("while (a > shut(r))", "while (0)")
    assert change(Swap("shut", "open")) == whole.replace("open(a, min(a, 2), /* , */ 3);", "SHUT").replace(
        "shut(a);", "open(a, min(a, 2), /* , */ 3);"
    ).replace("SHUT", "shut(a);")
    assert change(Whole("x")) == "/* f(1); is not it */ x"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Drop("nothing"), "f(): there is no statement that calls nothing()"),
        (Drop("shut", "nowhere"), "there is no label nowhere"),
        (Argument("open", 7, "x"), "open() has no argument 7"), (Argument("nothing", 0, "x"), "there is no call of nothing()"),
    ],
)  # fmt: skip
def test_a_place_that_is_not_there_is_named(edit, said):
    with pytest.raises(ModelError, match=re.escape(said)):
        change(edit)
    with pytest.raises(ModelError, match=r"has no function h\(\)"):
        edited(F, "h", edit, set(USUAL))


def test_every_mutant_breaks_a_property_that_there_is():
    assert {m.breaks for m in C_MUTANTS} - {"none", "no_deadlock"} <= PROPERTIES.keys()
    assert sum(m.breaks == "none" for m in C_MUTANTS) == 1


def test_mutants_of_a_tree_are_found_and_a_function_that_it_has_not_is_named(tmp_path):
    spec = TreeSpec(str(make(tmp_path, DRAIN)))
    files = {p: (tmp_path / p).read_text() for p in ("mm/page_alloc.c", "Makefile")}
    by_name = {m.name: m for m in C_MUTANTS}
    rows = [judged(spec, files, by_name[n]) for n in ("count-gate-unlocked", "no-drain")]
    assert rows[0].killed and rows[0].as_expected and not rows[0].refused
    assert "mm/page_alloc.c has no function zone_pcp_disable()" in rows[1].refused
    assert exit_code(rows, False) == Exit.UNDECIDED and exit_code(rows[:1], False) == Exit.OK


def test_a_mutant_that_survives_is_a_failure(tmp_path, monkeypatch, capsys):
    """The twin: an edit that changes nothing, taken for one that breaks something."""
    same = Whole(DRAIN.strip())
    name = "count-gate-unlocked"
    wrong = tuple(type(m)(m.name, m.summary, m.function, same, m.breaks) if m.name == name else m for m in C_MUTANTS)
    monkeypatch.setattr("verify.mutants.in_c.C_MUTANTS", wrong)
    out = tmp_path / "out.json"
    assert main(["--tree", str(make(tmp_path / "t", DRAIN)), name, "--json", str(out)]) == Exit.VIOLATED
    assert "NOT AS EXPECTED" in " ".join(capsys.readouterr().out.split())
    assert json.loads(out.read_text())["rows"][0]["as_expected"] is False and LEAF


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-drian"], "did you mean no-drain?"), (["--engine", "bmc"], "--tree runs mutants of the C"),
        (["--kernel", "v6.1"], "not allowed with argument --tree"), (["--jobs", "0"], "give at least 1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(arguments, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--tree", str(make(tmp_path, DRAIN)), *arguments])
    assert left.value.code == Exit.USAGE and said in capsys.readouterr().err
