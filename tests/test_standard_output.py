"""``-`` as a file is standard output, which has nothing else then."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from verify.bmc.__main__ import main as bmc
from verify.explore.__main__ import main as explore
from verify.prove.__main__ import main as prove
from verify.replay.__main__ import main as replay

BROKEN = ["--mutant", "no-drain", "--property", "no_stray_page"]


@pytest.mark.parametrize(
    ("main", "options", "code"),
    [
        (explore, BROKEN, 1),
        (bmc, [*BROKEN, "--cpus", "2", "--allocs", "0", "--frees", "1"], 1),
        pytest.param(prove, ["--property", "limits_exclusive"], 0, marks=pytest.mark.deep),
    ],
    ids=["explore", "bmc", "prove"],
)
def test_json_has_standard_output_for_itself(main, options, code, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--json", "-"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["exit"] == code
    assert f"exit {code}: " in err


def test_the_next_command_prints_where_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    explore([*BROKEN, "--json", "-"])
    capsys.readouterr()
    explore(BROKEN)
    assert "exit 1: " in capsys.readouterr().out


def test_a_page_and_a_test_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explore([*BROKEN, "--html", "-"]) == 1
    assert capsys.readouterr().out.startswith("<!doctype html>")
    trace = tmp_path / "race.json"
    explore([*BROKEN, "--trace", str(trace), "--quiet"])
    capsys.readouterr()
    assert replay([str(trace), "--pytest", "-"]) == 1
    assert any(isinstance(n, ast.FunctionDef) for n in ast.parse(capsys.readouterr().out).body)


def test_two_files_on_it_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        explore([*BROKEN, "--json", "-", "--html", "-"])
    assert stopped.value.code == 2
    assert "2 files would go to standard output" in capsys.readouterr().err
