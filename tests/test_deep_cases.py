"""tests/deep_cases.txt: which cases tools/deep_cases.py leaves out, and that a name of no case is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tools.deep_cases import CASES, durations, left_out

ROOT = Path(__file__).parents[1]
PRINTED = """
9.00s call     tests/test_a.py::test_many[slow]
1.00s call     tests/test_a.py::test_many[quick one]
3.00s call     tests/test_a.py::test_many[middle]
30.0s setup    tests/test_a.py::test_many[quick one]
8.00s call     tests/test_a.py::test_one
13.0s call     tests/test_a.py::test_long
7.00s call     tests/test_a.py::test_of_one_case[x]
"""


def test_the_quickest_cases_stay_and_one_of_each_test() -> None:
    found = durations(iter(PRINTED.splitlines()))
    assert set(left_out(found, 4.0, 12.0)) == {"tests/test_a.py::test_many[slow]", "tests/test_a.py::test_long"}
    assert set(left_out(found, 0.5, 1.0)) == {
        "tests/test_a.py::test_many[slow]", "tests/test_a.py::test_many[middle]", "tests/test_a.py::test_one",
        "tests/test_a.py::test_long",
    }  # fmt: skip


def test_a_case_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    """In a small suite of its own, with this one's conftest."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\ntestpaths = ["tests"]\nmarkers = ["deep"]\n')
    (tmp_path / "tests/conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "tests/test_a.py").write_text("def test_x(): ...\ndef test_y(): ...\n")

    def run(listed: str) -> tuple[int, str]:
        (tmp_path / "tests" / CASES.name).write_text(f"# why\n{listed}\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not deep"]
        found = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return found.returncode, found.stdout + found.stderr

    code, said = run("tests/test_a.py::test_x")
    assert code == 0 and "1 passed, 1 deselected" in said
    code, said = run("tests/test_a.py::test_z")
    assert code == 4 and "tests/test_a.py::test_z, and 0 more that are not there" in said
