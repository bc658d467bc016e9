"""A kernel with pcp->lock, written as one file: one cell and one exclusion more, and no engine touched.

The drain of v6.0 to v6.10 looks at count outside the lock and misses a refill (66eca1021a42); explore finds that, and
alarms at nothing where count is read under the lock.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelmodel.cells import CELLS, declare
from kernelmodel.errors import ModelError
from kernelmodel.kernels import variant
from kernelmodel.schema import CellKind
from kernelmodel.terms import atoms
from kernelmodel.text import KernelText
from kernelmodel.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify import check
from verify.explore.finite import DEFAULT
from verify.explore.solve import Explorer
from verify.verdict import Result

FILE = Path(__file__).parent.parent / "docs" / "examples" / "pcp_lock.py"
LOCKED, OUTSIDE = f"{FILE}:PcpLock", f"{FILE}:CountOutsideTheLock"


@pytest.fixture(autouse=True)
def forget_the_cells() -> None:
    """What a file declares is there for this process: other tests have the cells that there were."""
    before = dict(CELLS)
    yield
    for name in set(CELLS) - set(before):
        del CELLS[name]


def test_nothing_stays_where_count_is_read_under_the_lock() -> None:
    names = [
        "no_stray_page",
        "pages_conserved",
        "limits_exclusive",
        "bulk_free_terminates",
        "exits_give_back",
        "no_deadlock",
    ]
    for verdict in check(LOCKED, properties=names, engine="explore"):
        assert (verdict.property, verdict.result) == (verdict.property, Result.HOLDS)
        assert verdict.reachable and verdict.runs > 0


def test_the_race_of_2024_is_found_where_it_is_read_outside() -> None:
    (found,) = Explorer(variant(OUTSIDE), DEFAULT).decide([PROPERTIES["no_stray_page"]], deadlock=False)
    assert (found.result, found.replayed) == (Result.VIOLATED, True)
    lines = [line.strip() for line in found.trace.splitlines()]
    assert lines.index("spin_trylock(&pcp[0]->lock)  /* true */") < lines.index("pcp[0]->count  /* 0 */")
    assert lines.index("pcp[0]->count  /* 0 */") < lines.index("rmqueue_bulk(2)  /* 2 pages */")


def test_cpus_are_still_interchangeable() -> None:
    (verdict,) = Explorer(variant(LOCKED), DEFAULT).decide([PROPERTIES["no_stray_page"]], deadlock=False)
    assert verdict.statistics["reduction"] == "movers, equal pages, tasks and CPUs"


@pytest.mark.parametrize("reduce", ["none", "movers"])
@pytest.mark.parametrize(("spec", "result"), [(LOCKED, Result.HOLDS), (OUTSIDE, Result.VIOLATED)], ids=["in", "out"])
def test_reductions_change_no_verdict(reduce: str, spec: str, result: Result) -> None:
    from dataclasses import replace

    small = replace(DEFAULT, scenario=replace(DEFAULT.scenario, frees=0, updates=0), pages=2)
    (verdict,) = Explorer(variant(spec), small, reduce).decide([PROPERTIES["no_stray_page"]], deadlock=False)
    assert verdict.result is result


def test_the_quiet_moment_is_the_kernels() -> None:
    """Properties ask whether somebody is in the section that the kernel names, not whether interrupts are off."""
    here = DEFAULT.scenario.config
    for kernel, asked, other in ((V5_11, "irqs_off", "pcp.lock"), (variant(LOCKED), "pcp.lock", "irqs_off")):
        for name in ("no_stray_page", "no_isolated_page_left", "pages_conserved"):
            for one in PROPERTIES[name].state_checks(kernel.sized(here)):
                looked_at = {a.args[0].name for a in atoms(one.premise, "cell")}
                assert asked in looked_at and other not in looked_at


@pytest.mark.parametrize("engine", ["bmc", pytest.param("prove", marks=pytest.mark.deep)])
def test_engines_that_know_interrupts_only_say_so(engine: str) -> None:
    (verdict,) = check(LOCKED, properties=["no_stray_page"], engine=engine)
    assert verdict.result is Result.UNDECIDED and "pcp.lock" in verdict.reason


def test_a_section_that_is_no_cell_is_one_line() -> None:
    with pytest.raises(ModelError, match="declare it in `cells`"):
        type("Bad", (KernelText,), {"section": "pcp.lokc"}).sized(DEFAULT.scenario.config)


def test_a_cell_that_is_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match="is known, and something else"):
        declare([("pcp.high", CellKind(axes=("zone", "cpu"), meaning="the limit"))])
    declare([("pcp.high", CELLS["pcp.high"])])
