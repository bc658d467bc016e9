"""The museum: what is found is replayed, a mend that is none is noticed, and nothing is passed over in silence."""

import json
from dataclasses import replace

import pytest

from kernelmodel.kernels import kernel
from kernelmodel.museum.collection import EXHIBITS, TEXTS
from properties.catalogue import find
from verify.museum import __main__ as command
from verify.museum import tour
from verify.museum.render import line, markdown
from verify.verdict import Exit

#: the quick ones, one for each kind of property
QUICK = (
    "lru-left-disabled",
    "pageset-lifetime",
    "poison-lock-order",
    "sysctl-read",
    "no-rescuer",
    "drain-takes-hotplug-lock",
)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.deep) for n in EXHIBITS])
def test_each_bug_is_found_and_each_mend_holds(name):
    row = tour.judge(name)
    assert not row.missed and not row.broken and not row.undecided
    if EXHIBITS[name].missing:
        assert "not expressed" in line(row)
    else:
        assert row.faulty or row.mended


def test_each_exhibit_says_what_tells_its_texts_apart_or_what_is_missing():
    for e in EXHIBITS.values():
        assert bool(e.missing) != bool(e.prop and find(e.prop))
        assert e.missing or e.faulty or e.mended


def test_a_bug_that_is_none_and_a_mend_that_is_none_are_noticed(monkeypatch):
    right, wrong = EXHIBITS["lru-left-disabled"].mended, EXHIBITS["lru-left-disabled"].faulty
    swapped = replace(EXHIBITS["lru-left-disabled"], faulty=right, mended=wrong)
    monkeypatch.setitem(EXHIBITS, "lru-left-disabled", swapped)
    row = tour.judge("lru-left-disabled")
    assert row.missed and row.broken
    assert "NOT FOUND" in line(row) and "VIOLATED" in line(row)
    assert command.exit_code([row]) is Exit.VIOLATED


def test_what_a_reviewer_types_finds_the_bug(capsys):
    from verify.explore.__main__ import main

    words = tour.typed(EXHIBITS["poison-lock-order"]).split()
    assert words[:3] == ["python", "-m", "verify.explore"]
    assert main(words[3:]) == Exit.VIOLATED
    assert "lock order is circular" in capsys.readouterr().out


def test_the_command_writes_its_table_as_json_and_markdown(tmp_path, capsys):
    out, page = tmp_path / "m.json", tmp_path / "m.md"
    code = command.main(["sysctl-read", "list-types", "--jobs", "1", "--json", str(out), "--markdown", str(page)])
    assert code == Exit.OK and "1 of 1 bugs found" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    assert [r["exhibit"] for r in rows] == ["sysctl-read", "list-types"] and rows[0]["faulty"][0]["replayed"]
    assert "not expressed" in page.read_text() and "python -m verify.explore" in page.read_text()


def test_an_interrupt_keeps_what_was_decided(monkeypatch, capsys):
    def visit(names, jobs, scheduler):
        yield tour.judge("list-types")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "visit", visit)
    assert command.main(["list-types", "sysctl-read"]) == Exit.UNDECIDED
    said = capsys.readouterr()
    assert "not expressed" in said.out and "interrupted after 1 of 2 exhibits" in said.err


def test_an_unknown_exhibit_gets_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["refil-race"])
    assert stop.value.code == Exit.USAGE
    assert "did you mean refill-race" in capsys.readouterr().err


def test_the_texts_of_the_museum_are_kernels_by_name():
    for name, text in TEXTS.items():
        assert kernel(name) is text


def test_the_list_names_each_exhibit(capsys):
    assert command.main(["--list"]) == Exit.OK
    said = capsys.readouterr().out
    assert all(f"{name}:" in said for name in EXHIBITS)


def test_the_page_in_docs_has_each_exhibit_and_what_shows_it():
    from pathlib import Path

    page = (Path(__file__).parent.parent / "docs" / "museum.md").read_text(encoding="utf-8")
    for name, e in EXHIBITS.items():
        assert f"## {name}\n" in page
        assert e.missing or tour.typed(e) in page
    assert markdown([]).splitlines()[0] == page.splitlines()[0]
