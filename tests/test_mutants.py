"""verify.mutants: docs/mutants.md is current, a survivor is shown as one, and bad input is one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from kernelmodel.errors import ModelError
from kernelmodel.kernels import mutant
from kernelmodel.versions.later_mutants import EVERY, LATER, named
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS, Mutant, build
from properties.catalogue import PROPERTIES
from verify.mutants.__main__ import exit_code, main
from verify.mutants.matrix import Kill, Matrix, Row, row_of
from verify.mutants.render import line, markdown
from verify.verdict import Exit

DOCS = (Path(__file__).parent.parent / "docs" / "mutants.md").read_text()
LATER_DOCS = (Path(__file__).parent.parent / "docs" / "later-mutants.md").read_text()
#: of the later ones those that explore's small configuration does not show: too few tasks, or too few pages
BY_BMC = ("unlock-before-flush", "single-round", "high-max-left-open", "high-not-lowered")


def documented(name):
    """The cells of a mutant's row in docs/mutants.md or docs/later-mutants.md."""
    (text,) = [x for x in (DOCS + LATER_DOCS).splitlines() if x.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in text.strip("|").split("|")]


#: one of each kind; the rest is left to `make deep`
TELLING = (
    "no-force-all-cpus", "no-drain", "missed-enable-on-isolation-failure", "swapped-limit-stores",
    "v6.1:count-gate-unlocked", "v6.11:trylock-failure-loses-page",
)  # fmt: skip


@pytest.mark.parametrize("name", [n if n in TELLING else pytest.param(n, marks=pytest.mark.deep) for n in EVERY])
def test_docs_say_what_explore_finds(name):
    row = row_of(name, ["explore"])
    fresh = markdown(Matrix([row]))
    (text,) = [x for x in fresh.splitlines() if x.startswith(f"| `{name}` |")]
    cells = [cell.strip() for cell in text.strip("|").split("|")]
    was = documented(name)
    assert (cells[:3], cells[4], cells[6]) == (was[:3], was[4], was[6])
    by_bmc = name in LATER and name.partition(":")[2] in BY_BMC
    assert row.survives is by_bmc and not row.wrongly_killed
    assert row.expected in row.breaks or row.expected == EQUIVALENT or by_bmc
    for sentence in row.evidence:
        assert f"- `{name}`: {sentence}" in DOCS + LATER_DOCS


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "v6.11:high-max-left-open" else pytest.mark.deep)
                                  for n in LATER if n.partition(":")[2] in BY_BMC])  # fmt: skip
def test_what_explore_is_too_small_for_is_found_by_bmc(name):
    row = row_of(name, ["bmc"])
    assert [k.killed for k in row.kills] == [True] and documented(name)[5] == "✓"


def test_a_mutant_of_a_later_kernel_is_one_of_that_kernel():
    for name, m in LATER.items():
        made = mutant(name)
        assert issubclass(made, m.of) and named(made.name) == name == f"{m.of.name}:{name.partition(':')[2]}"
        assert m.breaks == EQUIVALENT or m.breaks in PROPERTIES
    assert named("v5.11 with no-drain") == "no-drain" and named("v6.11") == named("v6.11 with nothing") == ""


def test_what_is_not_carried_over_has_other_text_or_another_outcome():
    """A mutant of v5.11 that a later kernel could have as well is not left out for nothing."""
    not_reached = {"no-count-clamp"}  # nr_pcp_free() never asks for more than there is
    for kernel in dict.fromkeys(m.of for m in LATER.values()):
        for name in MUTANTS.keys() - not_reached:
            if f"{kernel.name}:{name}" not in LATER:
                with pytest.raises((ModelError, AttributeError)):
                    build(dataclasses.replace(MUTANTS[name], of=kernel))


@pytest.mark.parametrize("name", ["no-drain", pytest.param("no-flush", marks=pytest.mark.deep)])
def test_every_engine_kills(name):
    row = row_of(name, ["random", "explore", "bmc"])
    assert {k.engine: k.killed for k in row.kills} == {"random": True, "explore": True, "bmc": True}


@pytest.mark.deep
def test_docs_are_what_the_command_writes(tmp_path):
    file = tmp_path / "mutants.md"
    assert main(["--quiet", "--markdown", str(file)]) == 0
    assert file.read_text() == DOCS


def test_every_mutant_and_property_is_documented():
    assert all(f"| `{name}` |" in DOCS for name in MUTANTS)
    assert all(f"\n| {prop} |" in DOCS for prop in PROPERTIES)
    assert all(m.diff in DOCS for m in MUTANTS.values())
    assert all(f"| `{name}` |" in LATER_DOCS and m.diff in LATER_DOCS for name, m in LATER.items())


def test_a_survivor_is_shown_and_fails(monkeypatch):
    """A change that changes nothing, recorded as deadly."""
    control = MUTANTS["swapped-limit-stores"]
    planted = Mutant("planted", control.summary, control.function, control.edits, "no_stray_page")
    monkeypatch.setitem(EVERY, "planted", planted)
    row = row_of("planted", ["explore"])
    assert row.survives and not row.breaks
    assert "SURVIVES, and should not" in line(row)
    assert exit_code(Matrix([row]), interrupted=False) is Exit.VIOLATED


def test_a_control_that_breaks_something_fails():
    row = Row("x", "", "f", EQUIVALENT, ("no_stray_page",), False, (Kill("explore", True, 0.1),))
    assert "KILLED, and should be equivalent" in line(row)
    assert exit_code(Matrix([row]), interrupted=False) is Exit.VIOLATED


def test_what_could_not_be_decided_is_not_a_success():
    row = Row("x", "", "f", "no_stray_page", (), False, (Kill("bmc", None, 0.1), Kill("explore", True, 0.1)))
    assert exit_code(Matrix([row]), interrupted=False) is Exit.UNDECIDED
    assert exit_code(Matrix(), interrupted=True) is Exit.UNDECIDED


def test_out_of_time_is_said_and_undecided(tmp_path, capsys):
    file = tmp_path / "m.json"
    assert main(["no-drain", "--timeout", "0.01", "--json", str(file)]) == int(Exit.UNDECIDED)
    assert "out of time after 0 of 1 mutants" in capsys.readouterr().err
    assert json.loads(file.read_text())["interrupted"] is True


def test_command_writes_json(tmp_path, capsys):
    file = tmp_path / "m.json"
    assert main(["no-drain", "--engine", "explore", "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    (row,) = record["rows"]
    assert (row["mutant"], row["killed"], row["survives"]) == ("no-drain", True, False)
    assert row["kills"][0]["steps"] == 18
    assert "1 of 1 mutants killed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-drian"], "did you mean no-drain?"),
        (["--engine", "guess"], "invalid choice: 'guess'"),
        (["--jobs", "0"], "--jobs 0 is out of range: give at least 1"),
        (["--markdown", "/nonexistent/m.md"], "cannot write /nonexistent/m.md"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    _, err = capsys.readouterr()
    assert left.value.code == int(Exit.USAGE) and said in err and len(err.strip().splitlines()) == 1


def test_an_engine_that_does_not_judge_a_property_leaves_nothing_undecided(capsys):
    assert main(["missed-done-on-failure", "--engine", "bmc", "--engine", "explore"]) == 0
    assert "not judged" in capsys.readouterr().out
