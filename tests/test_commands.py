"""Whatever a user's file does, a command gives its own verdict or one line; a crash is no verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kernelmodel.errors import ModelError
from kernelmodel.kernels import variant
from kernelmodel.variants.overrides import check_reached, unreached
from verify.command import DEBUG, READER_GONE, command
from verify.verdict import Exit, Result, Verdict

ENGINES = ("bmc", "explore", "prove")
HEADER = "from kernelmodel import V5_11, cells, ops\n\n\n"
DRAIN_LOCK = "class Mine(V5_11):\n    def drain_lock(self, zone):\n"
#: name -> (file, what the one line says)
BAD = {
    "an override that nobody calls": (
        "class Mine(V5_11):\n    def direct_reclaim(self):\n        yield ops.happens('x')\n",
        "no task of this run ever comes to direct_reclaim()",
    ),
    "a helper that nobody calls": (
        DRAIN_LOCK + "        if zone is None:\n            yield from self._more()\n"
        "        return (yield from super().drain_lock(zone))\n    def _more(self):\n        yield ops.happens('x')\n",
        "no task of this run ever comes to _more()",
    ),
    "a signature that does not fit": (
        "class Mine(V5_11):\n    def _drain_all_pages(self, zone):\n        yield ops.happens('x')\n", "does not fit its callers",
    ),
    "exit() in the file": ("exit(0)\n", "SystemExit"),
    "SystemExit in a routine": (DRAIN_LOCK + "        raise SystemExit\n        yield\n", "SystemExit"),
    "SystemExit in a constructor": ("class Mine(V5_11):\n    def __init__(self, config):\n        raise SystemExit(0)\n", ""),
    "endless recursion": (
        DRAIN_LOCK + "        return (yield from self.drain_lock(zone))\n", "RecursionError",
    ),
    "a cell of its own": (
        'cells.CELLS["pcp.lock"] = cells.CELLS["mutex"]\n' + DRAIN_LOCK + "        yield ops.happens('x')\n",
        "kernelmodel.cells.CELLS",
    ),
    "a cell that there is not": (DRAIN_LOCK + "        yield ops.write(1, 'pcp.lock', 0)\n", "pcp.lock"),
    "a change of ours": ("V5_11.drain_lock = None\n" + DRAIN_LOCK + "        yield ops.happens('x')\n", "adds drain_lock"),
}  # fmt: skip


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False
    )


def write(folder: Path, body: str) -> Path:
    file = folder / "mine.py"
    file.write_text(HEADER + textwrap.dedent(body))
    return file


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_one_line_and_exit_code_2(tmp_path: Path, name: str) -> None:
    body, says = BAD[name]
    engine = ENGINES[list(BAD).index(name) % 3] if name != "a helper that nobody calls" else "bmc"
    found = run(f"verify.{engine}", "--variant", str(write(tmp_path, body)), "--property", "no_stray_page")
    assert (found.returncode, len(found.stderr.splitlines())) == (2, 1), found.stderr
    assert says in found.stderr and found.stderr.startswith(f"python -m verify.{engine}: ")


GOOD = (
    DRAIN_LOCK + "        return (yield from self._more(zone))\n"
    "    def _more(self, zone):\n        return (yield from super().drain_lock(zone))\n"
)  # fmt: skip


@pytest.mark.deep
def test_a_good_file_of_the_same_kind_is_judged(tmp_path: Path) -> None:
    found = run("verify.bmc", "--variant", str(write(tmp_path, GOOD)), "--property", "lock_order")
    assert found.returncode == 0, found.stderr


def test_who_was_called_is_known_by_name(tmp_path: Path) -> None:
    made = variant(str(write(tmp_path, GOOD)))
    assert unreached(made) == ["_more", "drain_lock"]
    with pytest.raises(ModelError, match=r"no task of this run ever comes to _more\(\), drain_lock\(\)"):
        check_reached(made, "1 free")


def test_a_crash_is_told_apart_from_every_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    def crashing(error: BaseException) -> int:
        def main(_: object = None) -> int:
            raise error

        return command("prog")(main)([])

    for error in (RuntimeError("oops"), RecursionError("deep"), MemoryError(), AssertionError("no\nsecond line")):
        assert crashing(error) == Exit.CRASHED == 71
        line = capsys.readouterr().err
        assert type(error).__name__ in line and len(line.splitlines()) == 1
    assert crashing(KeyboardInterrupt()) == Exit.UNDECIDED
    assert crashing(ModelError("bad input")) == Exit.USAGE


def test_a_crash_shows_its_traceback_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(_: object = None) -> int:
        raise RuntimeError("oops")

    monkeypatch.setenv(DEBUG, "1")
    assert command("prog")(main)([]) == Exit.CRASHED
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("verify.bmc --property lock_order", marks=pytest.mark.deep),
        "verify.explore --property lock_order",
        "verify",
    ],
)
def test_a_reader_that_goes_away_ends_a_command_quietly(words: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *words.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == READER_GONE


@pytest.mark.parametrize("option", [pytest.param("--json", marks=pytest.mark.deep), "--smt2"])
def test_a_full_disk_is_told_by_name(option: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    found = run("verify.bmc", "--property", "lock_order", option, "/dev/full", "--quiet")
    assert (found.returncode, found.stderr) == (
        2,
        "python -m verify.bmc: cannot write /dev/full: No space left on device\n",
    )


def test_an_answer_that_does_not_replay_is_a_contradiction() -> None:
    for result in (Result.VIOLATED, Result.UNDECIDED):
        assert Verdict("p", "k", "bmc", "b", result, replayed=False).exit_code is Exit.DISAGREE
    assert Verdict("p", "k", "bmc", "b", Result.UNDECIDED).exit_code is Exit.UNDECIDED
