"""The engines as a library: the same verdicts as the commands, and arguments that do not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernelmodel import V5_11
from kernelmodel.errors import ModelError
from verify import check
from verify.bmc.__main__ import main as bmc
from verify.command import needs
from verify.explore.__main__ import main as explore
from verify.verdict import Result

VARIANT = """
from kernelmodel import V5_11


class NoDrain(V5_11):
    def zone_pcp_disable(self, zone):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.set_pageset_high_and_batch(zone, 0, 1)
"""


@pytest.mark.parametrize("engine", ["bmc", "explore", pytest.param("prove", marks=pytest.mark.deep)])
def test_a_property_of_a_kernel(engine: str) -> None:
    (found,) = check("v5.11", properties=["limits_exclusive"], engine=engine)
    assert found.result is (Result.PROVED if engine == "prove" else Result.HOLDS)
    assert (found.engine, found.kernel, found.property) == (engine, "v5.11", "limits_exclusive")


@pytest.mark.parametrize("engine", ["bmc", "explore", pytest.param("prove", marks=pytest.mark.deep)])
def test_a_violation_comes_with_its_trace(engine: str) -> None:
    (found,) = check("no-drain", properties=["no_stray_page"], engine=engine)
    assert (found.result, found.replayed) == (Result.VIOLATED, True)
    assert "zone_pcp_disable() has returned" in found.trace and len(found.schedule) > 2


@pytest.mark.parametrize(
    ("engine", "command"), [pytest.param("bmc", bmc, marks=pytest.mark.deep), ("explore", explore)]
)
def test_the_command_says_the_same(engine: str, command, tmp_path: Path) -> None:
    tasks = {"free": 1, "alloc": 0, "update": 1, "offline": 1}
    words = ",".join(f"{k}={n}" for k, n in tasks.items())
    file = tmp_path / "out.json"
    some = ["no_stray_page", "limits_restored", "pages_accounted"]
    asked = [word for name in some for word in ("--property", name)]
    code = command(["--kernel", "v5.11", "--cpus", "2", "--tasks", words, "--quiet", *asked, "--json", str(file)])
    said = json.loads(file.read_text())["verdicts"]
    found = check("v5.11", engine=engine, cpus=2, tasks=tasks, properties=some)
    assert code == 0
    assert [(v.property, v.result.value, v.bound) for v in found] == [
        (v["property"], v["result"], v["bound"]) for v in said
    ]


def test_a_text_from_a_file_is_held_against_runs_of_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(VARIANT)
    stray, order = check(file, properties=["no_stray_page", "lock_order"], engine="explore")
    assert (stray.result, stray.replayed) == (Result.VIOLATED, True)
    assert order.result is Result.HOLDS and order.runs > 0


def test_deadlocks_may_be_asked_for() -> None:
    (found,) = check("v5.11", properties=["no_deadlock"], engine="explore")
    assert found.result is Result.HOLDS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kernel": "v5.12"}, "did you mean v5.15?"),
        ({"kernel": "nowhere.py"}, "does not exist"),
        ({"kernel": int}, "int is no kernel"),
        ({"engine": "bcm"}, "did you mean bmc?"),
        ({"properties": ["no_stray"]}, "did you mean no_stray_page?"),
        ({"tasks": {"fre": 1}}, "did you mean free?"),
        ({"tasks": {"free": -1}}, "--frees -1 is out of range"),
        ({"engine": "prove", "cpus": 2}, "leave tasks and cpus out"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, says: str) -> None:
    with pytest.raises(ModelError) as error:
        check(**arguments)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_class_that_stands_in_no_file_is_refused() -> None:
    made = type("Made", (V5_11,), {"__module__": "nowhere"})
    with pytest.raises(ModelError, match="stands in no file"):
        check(made)


def test_the_task_option_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in (("fre=1", "did you mean free?"), ("free", "give free=1")):
        with pytest.raises(SystemExit) as stopped:
            bmc(["--tasks", words])
        assert stopped.value.code == 2 and says in capsys.readouterr().err


def test_what_only_some_commands_need_is_not_needed_by_the_others() -> None:
    """pytest, hypothesis and CrossHair are extras."""
    absent = "import sys; sys.modules.update(dict.fromkeys(('pytest', 'hypothesis', 'crosshair')));"
    code = "from verify import check; print(check(properties=['lock_order'])[0].result.value)"
    run = subprocess.run([sys.executable, "-c", absent + code], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (0, "holds\n"), run.stderr
    for module, extra in (("verify.mutants", "hypothesis"), ("verify.contracts", "crosshair")):
        code = f"import {module}.__main__ as m" if module == "verify.mutants" else f"import {module} as m"
        run = subprocess.run(
            [sys.executable, "-c", f"{absent} {code}; sys.exit(m.main([]))"], capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert run.returncode == 2 and f"needs {extra}: pip install" in run.stderr


def test_a_package_that_is_there_is_no_error() -> None:
    needs("this test", "pytest")
