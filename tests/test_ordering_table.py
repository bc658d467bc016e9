"""verify.ordering --table: what each property is under each memory model, computed, and marked as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernelmodel.kernels import KERNELS
from kernelmodel.memory_model import MODELS
from properties.catalogue import PROPERTIES
from verify.explore.solve import NO_DEADLOCK
from verify.ordering import survey
from verify.ordering.__main__ import main
from verify.ordering.survey import MARKS
from verify.verdict import Result

PAGE = Path(__file__).parents[1] / "docs" / "memory-models.md"


def test_a_mark_is_what_is_decided_with_the_tasks_that_a_property_needs() -> None:
    """One memory model of one kernel; a property that needs an alloc has one."""
    cell = survey.decide(("v5.11", "sc"))
    assert set(cell.results) == {*PROPERTIES, NO_DEADLOCK} and set(cell.results.values()) <= {
        Result.HOLDS, Result.NOT_APPLICABLE,
    }  # fmt: skip
    alloc = PROPERTIES["isolated_page_not_allocated"]
    assert survey.missing(alloc) == ("allocs",) and survey.scenario(("allocs",)).allocs == 1


@pytest.mark.deep
def test_a_kernel_that_needs_no_order_and_one_that_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", "--kernel", "v5.11"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^no_stray_page +\+\+\+\+$", said, re.M)
    assert re.search(r"^no_deadlock +\+\+\+\+$", said, re.M)
    assert "isolated_page_not_allocated: also --allocs 1" in said
    assert main(["--table", "--kernel", "v6.10"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^no_stray_page +\+x\?\?$", said, re.M)
    # the same with a task without which the property says nothing
    assert re.search(r"^isolated_page_not_allocated +\+x\?\?$", said, re.M)


def test_what_is_not_decided_under_sc_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "_SECONDS", 0.0)
    assert main(["--table", "--kernel", "v5.11"]) == 3
    assert re.search(r"^no_stray_page +\?\?\?\?$", capsys.readouterr().out, re.M)


def test_a_table_is_about_kernels_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--table", "--mutant", "no-drain"])
    assert left.value.code == 2 and "--table is about the kernels by name" in capsys.readouterr().err


def test_the_page_has_a_row_for_each_property_and_a_mark_for_each_model() -> None:
    """What stands there is what was printed; `make deep` prints it anew."""
    lines = [
        row.strip("|").split("|") for row in PAGE.read_text().splitlines() if re.match(r"\| (property|`\w+`) \|", row)
    ]
    table = {cells[0].strip(" `"): [c.strip(" `") for c in cells[1:]] for cells in lines}
    assert table.pop("property") == list(KERNELS)
    assert set(table) == {*PROPERTIES, NO_DEADLOCK}
    marks = set(MARKS.values())
    assert all(len(cell) == len(MODELS) and set(cell) <= marks for row in table.values() for cell in row)


@pytest.mark.deep
def test_the_page_says_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--table", "--markdown"])
    said = capsys.readouterr().out
    assert said.strip() in PAGE.read_text()
    assert MARKS[Result.VIOLATED] in said
