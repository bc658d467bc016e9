"""Kinds of tasks are data: scenarios, options and proofs are built from one declaration, a kernel's own kinds too."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel.errors import ModelError
from kernelmodel.kernels import variant
from kernelmodel.tasks import TASKS, TaskKind, declare_tasks, options
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc.__main__ import main as bmc
from verify.bmc.solve import Engine
from verify.explore.__main__ import main as explore
from verify.explore.finite import Finite, default_pages
from verify.explore.solve import Explorer
from verify.prove.population import Size, texts
from verify.prove.population import kinds as population
from verify.scenario import Scenario
from verify.verdict import Result

FILE = Path(__file__).parent.parent / "docs" / "examples" / "own_task.py"
NOBODY = dict.fromkeys(options(), 0)


@pytest.fixture(autouse=True)
def forget_the_tasks() -> Iterator[None]:
    """What a file declares is there for this process: other tests have the kinds that there were."""
    before = dict(TASKS)
    yield
    for name in set(TASKS) - set(before):
        del TASKS[name]


@pytest.mark.parametrize("option", list(options()))
def test_each_kind_runs_in_both_engines(option: str) -> None:
    scenario = Scenario(cpus=2, **{**NOBODY, option: 1})
    (task,) = [t for t in scenario.tasks() if not t.kind.serves]
    assert (task.kind, task.name) == (options()[option], f"{options()[option].name}0")
    conserved = PROPERTIES["pages_conserved"]
    (verdict,) = Explorer(V5_11, Finite(scenario, default_pages(scenario)), "none").decide([conserved], deadlock=False)
    assert verdict.result is Result.HOLDS and verdict.statistics["states"] > 1
    assert Engine(V5_11, scenario).quick(conserved).result is Result.HOLDS


def test_a_scenario_is_made_of_its_numbers() -> None:
    one = Scenario(cpus=2, frees=3, sysctls=1)
    assert Scenario(**one.numbers()) == one == pickle.loads(pickle.dumps(one))
    assert replace(one, frees=1) == one.having(frees=1) == Scenario(cpus=2, frees=1, sysctls=1)
    assert one.frees == 3 and one.hotplugs == 0 and not hasattr(one, "fees")
    with pytest.raises(ModelError, match="no task has the option 'fees'"):
        Scenario(fees=1)
    with pytest.raises(ModelError, match=r"--cpu-downs 1 needs another CPU"):
        Scenario(cpus=1, cpu_downs=1)
    with pytest.raises(ModelError, match="--sysctls 65 is out of range"):
        Scenario(sysctls=65)


@pytest.mark.deep
def test_a_kernels_own_task_runs_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--tasks", "pause=1,free=0,alloc=1,update=0", "--property", "lock_order", "--cpus", "2"]
    assert bmc(["--variant", f"{FILE}:Pauses", *few]) == 0
    assert explore(["--variant", f"{FILE}:Pauses", *few]) == 0
    assert capsys.readouterr().out.count("1 pause_pcplists()") >= 2


def test_what_a_kernels_own_task_breaks_is_found() -> None:
    kernel = variant(f"{FILE}:ForgetsToEnable")
    scenario = Scenario(cpus=2, **{**NOBODY, "offlines": 1, "pauses": 1})
    (stuck,) = Explorer(kernel, Finite(scenario, 1)).decide([], deadlock=True)
    assert (stuck.property, stuck.result, stuck.replayed) == ("no_deadlock", Result.VIOLATED, True)


def test_proofs_have_a_kernels_own_task_too() -> None:
    kernel = variant(f"{FILE}:Pauses")
    names = {t.kind.name for t in texts(kernel)}
    assert {"pause", "pause of another zone", "free elsewhere", "sysctl", "drain"} <= names


@pytest.mark.parametrize("main", [bmc, explore])
def test_an_unknown_kind_is_one_line(main: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--tasks", "hwposion=1"])  # type: ignore[operator]
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip().endswith("unknown kind of task 'hwposion': did you mean hwpoison?")


def test_a_kind_that_is_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match="is known, and something else"):
        declare_tasks([TaskKind(name="free", make=lambda k, given: k.free_unref_page(given.page))])


def test_a_kernels_own_task_is_no_other_kernels() -> None:
    """Once a file is read its kinds are known by name; a proof about another kernel has nothing to do with them."""
    own = variant(f"{FILE}:Pauses")
    assert "pause" in {k.name for k in population(own, Size())}
    assert "pause" not in {k.name for k in population(V5_11, Size())}
    assert {k.name for k in population(V5_11, Size())} >= {"offline", "free", "alloc", "worker"}
