"""python -m verify.prove as a command: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelmodel.kernels import variant
from kernelmodel.versions.mutants import MUTANTS
from properties.lemmas import LEMMAS
from tests.test_prove import REAL, prover_of, quick, v5_11
from verify.prove.__main__ import main
from verify.prove.engine import PROVABLE, prove
from verify.prove.obligations import EACH, FAILED, TOGETHER


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "verify.prove", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_proves_v5_11(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" proved") >= len(PROVABLE)
    record = json.loads(out.read_text())
    assert [v["result"] for v in record["verdicts"]] == ["proved"] * len(PROVABLE)
    assert len(record["obligations"]) >= len(v5_11().transitions) * len(LEMMAS)
    assert not any(o["result"] == FAILED for o in record["obligations"])


@pytest.mark.parametrize("name", quick([m.name for m in REAL], ["no-count-clamp"]))
def test_the_command_ends_in_a_real_trace(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mutant", name]) == 1
    said = capsys.readouterr().out
    assert "violated" in said and "CPU0" in said
    if MUTANTS[name].breaks in PROVABLE:
        assert "not preserved by: " in said and "before, for a CPU c" in said and "after:" in said


@pytest.mark.parametrize("name", ["base", pytest.param("v5.10", marks=pytest.mark.deep)])
def test_kernels_before_the_patch_end_in_the_race(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kernel", name]) == 1
    said = capsys.readouterr().out
    assert "not applicable" in said and "left on CPU0's pcplist" in said


def test_smt2_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["--smt2", str(tmp_path / "file")])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1


@pytest.mark.deep
def test_the_examples_of_the_docs() -> None:
    root = Path(__file__).parent.parent / "docs" / "examples"
    harmless = prove(prover_of(variant(str(root / "last_cpu_first.py"))), TOGETHER)
    assert all(harmless.proves(p) for p in PROVABLE) and not harmless.differs


@pytest.mark.deep
def test_the_example_that_skips_idle_cpus_is_not_proved() -> None:
    root = Path(__file__).parent.parent / "docs" / "examples"
    assert not prove(prover_of(variant(str(root / "skip_idle_cpus.py"))), EACH).proves("no_stray_page")


@pytest.mark.deep
def test_what_is_not_provable_is_undecided_where_no_trace_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--property", "lock_order"]) == 3
    assert "no trace found within" in capsys.readouterr().out


def test_out_of_time_is_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--timeout", "0.01", "--property", "no_stray_page"]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "out of time" in said and "no time is left to look for a trace" in said
    # nor has it been seen which transitions are possible
    assert re.search(r"it is not known of \d+ transitions whether they are possible", said)
    assert "each transition is possible" not in said


@pytest.mark.deep
def test_the_command_writes_smt2_files(tmp_path: Path) -> None:
    assert main(["--smt2", str(tmp_path), "--quiet"]) == 0
    assert len(list(tmp_path.glob("*.smt2"))) > len(LEMMAS) * 10
