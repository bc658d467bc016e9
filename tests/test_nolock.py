"""v6.15: a free that waits for no lock leaves its page on a pcplist that is off; a mend; and tasks that only a kernel has."""

from __future__ import annotations

import pytest

from kernelmodel.kernels import kernel
from properties.catalogue import find
from verify.api import check
from verify.bmc.solve import Engine
from verify.explore.__main__ import main as explore
from verify.explore.counterexample import smaller
from verify.explore.finite import Finite, held
from verify.prove.__main__ import main as prove
from verify.scenario import Scenario, usual
from verify.verdict import Result

STRAY = find("no_stray_page")
ALONE = ["--frees", "0", "--allocs", "0", "--updates", "0", "--property", "no_stray_page"]


def test_a_kernel_s_own_task_is_there_where_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """By command, and its columns: the page is listed after zone_pcp_disable() has returned, and the limits are not read."""
    assert explore(["--kernel", "v6.15", *ALONE]) == 1
    said = capsys.readouterr().out
    assert "1 free_pages_nolock(), " in said
    rest = said[said.index("zone_pcp_disable() has returned") :]
    assert "free_pages_nolock()" in rest and "pcp[0]->count += 1" in rest and "high_max" not in rest
    assert "1 page left on CPU0's pcplist after zone_pcp_disable()" in said


def test_without_it_the_kernel_is_v6_11(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--kernel", "v6.15", "--frees", "1", *ALONE[2:], "--tasks", "nolock_free=0", "--beside", "none"]
    assert explore(arguments) == 0
    assert "free_pages_nolock()" not in capsys.readouterr().out


def test_nobody_else_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    kernel("v6.15").sized(Scenario(cpus=2).config)
    assert usual(kernel("v6.15")) == {"nolock_frees": 1} and usual(kernel("v6.11")) == {}
    assert Scenario().number_of(kernel("v6.15").tasks[-1]) == 0
    with pytest.raises(SystemExit) as left:
        explore(["--kernel", "v5.11", "--tasks", "nolock_frees=1"])
    assert left.value.code == 2 and "unknown kind of task" in capsys.readouterr().err


@pytest.mark.deep
def test_bmc_finds_it() -> None:
    """The limits at the start are in order, or the trace would be of no machine."""
    chosen = kernel("v6.15")
    bound = Scenario(cpus=2, frees=0, allocs=0, updates=0, nolock_frees=1)
    verdict = Engine(chosen, bound).decide(STRAY)
    assert verdict.result is Result.VIOLATED and verdict.replayed


def test_the_library_finds_it() -> None:
    tasks = {"free": 0, "alloc": 0, "update": 0}
    assert check("v6.15", properties=["no_stray_page"], engine="explore", tasks=tasks)[0].result is Result.VIOLATED
    assert (
        check("nolock-free-looks", properties=["no_stray_page"], engine="explore", tasks=tasks)[0].result
        is Result.HOLDS
    )


def test_smaller_configurations_hold_the_pages_of_their_tasks() -> None:
    """Each kind of task that is varied is, down to none; pages are those that tasks hold, where nobody asks for one."""
    kernel("v6.15").sized(Scenario(cpus=2).config)
    most = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=1, nolock_frees=2), 5)
    found = smaller(most)
    assert found[-1] == most and len(found) == len(set(found)) == 2 * 2 * 2 * 3
    assert {f.scenario.number_of(kernel("v6.15").tasks[-1]) for f in found} == {0, 1, 2}
    assert all(f.pages == max(1, held(f.scenario)) for f in found if not f.scenario.allocs)


@pytest.mark.deep
def test_a_proof_names_the_operation_and_the_mend_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(["--kernel", "v6.15", "--property", "no_stray_page"]) == 1
    assert "not preserved by: free_pages_nolock()" in capsys.readouterr().out
    assert prove(["--kernel", "nolock-free-looks", "--property", "no_stray_page"]) == 0
