"""The command line: exit codes, one line for bad input, partial results, and what users see."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kernelmodel.kernels import KERNELS
from kernelmodel.versions.later_mutants import EVERY
from kernelmodel.versions.mutants import MUTANTS
from properties.catalogue import PROPERTIES

SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "1"]
ROOT = Path(__file__).parent.parent
SNAPSHOTS = Path(__file__).parent / "snapshots"


def bmc(*arguments, **kw):
    return subprocess.run(
        [sys.executable, "-m", "verify.bmc", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, **kw
    )


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--kernel", "v5.12"], "did you mean v5.15?"),
        (["--mutant", "no-force-all-cpu"], "did you mean no-force-all-cpus?"),
        (["--property", "no_stray_pages"], "did you mean no_stray_page?"),
        (["--cpus", "0"], "--cpus 0 is out of range"),
        (["--cpus", "-3"], "--cpus -3 is out of range"),
        (["--frees", "1000000"], "--frees 1000000 is out of range"),
        (["--cpus", "many"], "invalid int value"),
        (["--timeout", "0"], "give a number above 0"),
        (["--variant", "nowhere.py"], "does not exist"),
        (["--json", "/nonexistent/x.json"], "cannot write /nonexistent/x.json"),
        (["--smt2", "/nonexistent/x.smt2"], "cannot write /nonexistent/x.smt2"),
        (["--kernels", "base"], "did you mean --kernel?"),
        (["--kernel", "base", "--mutant", "no-drain"], "that kernel has none"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, hint):
    run = bmc(*arguments)
    assert run.returncode == 2
    assert hint in run.stderr and len(run.stderr.strip().splitlines()) == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("def broken(:\n", "line 1"),
        ("x = 1\n", "defines 0 classes"),
        ("import nonexistent_module\n", "line 1: nonexistent_module is imported, which is not checked"),
        (
            "from kernelmodel import V5_11\nclass A(V5_11):\n    def zone_pcp_disabel(self, zone):\n        yield\n",
            "did you mean",
        ),
        (
            "from kernelmodel import V5_11\nclass A(V5_11):\n    def zone_pcp_disable(self, zone):\n        yield 3\n",
            "yields 3",
        ),
        (
            "from kernelmodel import V5_11\nclass A(V5_11):\n    def zone_pcp_disable(self, zone):\n"
            "        yield from self.no_such_routine(zone)\n",
            "no_such_routine",
        ),
    ],
)
def test_bad_variant_is_one_line_and_exit_2(tmp_path, text, hint):
    file = tmp_path / "variant.py"
    file.write_text(text)
    run = bmc("--variant", str(file), *SMALL)
    assert run.returncode == 2, run.stderr
    assert hint in run.stderr and len(run.stderr.strip().splitlines()) == 1


def test_list_names_everything():
    run = bmc("--list")
    assert run.returncode == 0
    for name in (*KERNELS, *MUTANTS, *PROPERTIES):
        assert f"  {name} " in run.stdout


@pytest.mark.parametrize("name", ["no-force-all-cpus", "batch-left-old", "high-read-irqs-on"])
def test_columns_are_as_a_changelog_has_them(name):
    run = bmc("--mutant", name)
    assert run.returncode == 1
    lines = run.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("CPU0"))
    assert lines[header + 1].startswith("----")
    assert any(line.startswith("=> ") and "left on CPU0's pcplist after zone_pcp_disable()" in line for line in lines)
    if lines[header].count("CPU") == 2:
        end = next(i for i, line in enumerate(lines) if line.startswith("=> "))
        assert max(map(len, lines[header:end])) <= 100


@pytest.mark.deep
def test_mutant_without_allocations_holds():
    run = bmc("--mutant", "no-force-all-cpus", "--allocs", "0", "--migrations", "0")
    assert run.returncode == 0, run.stdout


def test_base_is_violated():
    run = bmc("--kernel", "base")
    assert run.returncode == 1
    assert "1 page of an isolated pageblock left on CPU0's pcplist" in run.stdout


def test_json_is_complete_and_quiet_is_quiet(tmp_path):
    file = tmp_path / "out.json"
    run = bmc("--kernel", "v5.11", *SMALL, "--property", "no_stray_page", "--quiet", "--json", str(file))
    assert (run.returncode, run.stdout) == (0, "")
    record = json.loads(file.read_text())
    (verdict,) = record["verdicts"]
    assert verdict["result"] == "holds" and verdict["reachable"] and verdict["statistics"]["events"] > 50
    assert "2 CPUs, 1 free, 1 alloc" in verdict["bound"]


def test_timeout_is_undecided_and_keeps_what_was_decided(tmp_path):
    file = tmp_path / "out.json"
    run = bmc("--timeout", "0.2", "--json", str(file))
    assert run.returncode == 3
    assert "out of time" in run.stdout and "Traceback" not in run.stderr
    assert len(json.loads(file.read_text())["verdicts"]) == len(PROPERTIES) + 1


def _children(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


def test_interrupt_is_undecided_and_keeps_what_was_decided(tmp_path):
    file = tmp_path / "out.json"
    command = [sys.executable, "-m", "verify.bmc", "--cpus", "6", "--frees", "6", "--allocs", "6", "--json", str(file)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # while Python imports, an interrupt may be lost: when its workers are there, it is at work
    until = time.monotonic() + 60
    while not _children(process.pid) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 3
    assert "interrupted after" in errors and "Traceback" not in errors
    assert json.loads(file.read_text())["interrupted"] is True


def test_a_wrong_record_of_a_mutant_is_a_contradiction(monkeypatch, capsys):
    """The planted twin of "expected": a mutant recorded as equivalent that is not."""
    from dataclasses import replace

    from verify.bmc.__main__ import main

    monkeypatch.setitem(EVERY, "no-drain", replace(MUTANTS["no-drain"], breaks="equivalent"))
    assert main(["--mutant", "no-drain", *SMALL]) == 70
    assert "CONTRADICTS" in capsys.readouterr().out
