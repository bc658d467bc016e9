"""A kernel with pcp->lock, written as one file: one cell and one exclusion more, and no engine touched.

The drain of v6.0 to v6.10 looks at count outside the lock and misses a refill (66eca1021a42); explore and bmc find
that, and alarm at nothing where count is read under the lock.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel.cells import CELLS, declare
from kernelmodel.errors import ModelError
from kernelmodel.kernels import variant
from kernelmodel.schema import CellKind
from kernelmodel.terms import atoms
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify import check
from verify.bmc.encode import Encoding
from verify.bmc.solve import Engine
from verify.explore.finite import DEFAULT
from verify.explore.solve import Explorer
from verify.scenario import Scenario
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


@pytest.mark.deep
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
    assert lines.index("pcp[0]->count  /* 0 */") < lines.index("pcp[0]->count += 2")


def test_cpus_are_still_interchangeable() -> None:
    (verdict,) = Explorer(variant(LOCKED), DEFAULT).decide([PROPERTIES["no_stray_page"]], deadlock=False)
    assert verdict.statistics["reduction"] == "movers, equal pages, registers, tasks and CPUs"


@pytest.mark.parametrize("reduce", ["none", "movers"])
@pytest.mark.parametrize(("spec", "result"), [(LOCKED, Result.HOLDS), (OUTSIDE, Result.VIOLATED)], ids=["in", "out"])
def test_reductions_change_no_verdict(reduce: str, spec: str, result: Result) -> None:
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


@pytest.mark.deep
def test_a_lock_of_a_variants_own_is_followed_by_the_proof() -> None:
    verdicts = [check(spec, properties=["no_stray_page"], engine="prove")[0] for spec in (LOCKED, OUTSIDE)]
    assert [v.result for v in verdicts] == [Result.PROVED, Result.VIOLATED]


SMALL = Scenario(cpus=2, frees=1, allocs=1, updates=0)


@pytest.mark.parametrize(
    "name",
    [
        "no_stray_page",
        *(pytest.param(n, marks=pytest.mark.deep) for n in ("pages_conserved", "isolated_page_not_allocated")),
    ],
)
def test_bmc_hands_lists_from_one_holder_of_the_lock_to_the_next(name: str) -> None:
    engine = Engine(variant(LOCKED), SMALL)
    assert engine.decide(PROPERTIES[name]).result is Result.HOLDS
    model = engine.model(misplaced=False)
    for piece in model.slices(PROPERTIES["no_stray_page"]):
        lists = [c for c in Encoding(piece, model.known).private.values() if c.name == "pcp.lock"]
        assert model.lists == "pcp.lock" and len(lists) >= 6


def test_bmc_finds_the_race_of_2024_where_count_is_read_outside() -> None:
    found = Engine(variant(OUTSIDE), SMALL).decide(PROPERTIES["no_stray_page"])
    assert (found.result, found.replayed) == (Result.VIOLATED, True)
    lines = [line.strip() for line in found.trace.splitlines()]
    assert lines.index("pcp[0]->count  /* 0 */") < next(
        i for i, x in enumerate(lines) if x.startswith("pcp[0]->count +=")
    )


LOOKS_LATER = """
from kernelmodel import ops
from kernelmodel.ops import read
from pcp_lock import {base}


class Later({base}):
    def rmqueue_pcplist(self, zone, migratetype):
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        got = yield ops.spin_trylock("pcp.lock", zone.index, cpu)
        yield read("zone.present_pages", zone.index)
        page = None
        if got:
            page = yield from self.rmqueue_pcplist_locked(zone, migratetype, cpu)
            yield ops.spin_unlock("pcp.lock", zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        return page
"""


@pytest.mark.parametrize(("base", "result"), [("PcpLock", "holds"), ("CountOutsideTheLock", "violated")])
def test_where_it_does_not_show_who_has_the_lock_bmc_follows_it_like_any_cell(
    base: str, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FILE.parent)
    names: dict[str, type[KernelText]] = {}
    exec(LOOKS_LATER.format(base=base), names)
    engine = Engine(names["Later"], replace(SMALL, frees=0))
    assert engine.decide(PROPERTIES["no_stray_page"]).result.value == result
    model = engine.model(misplaced=True)
    assert "does not tell whether it was successful" in model.unclear and model.lists == ""


def test_a_section_that_is_no_cell_is_one_line() -> None:
    with pytest.raises(ModelError, match="declare it in `cells`"):
        type("Bad", (KernelText,), {"section": "pcp.lokc"}).sized(DEFAULT.scenario.config)


def test_a_cell_that_is_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match="is known, and something else"):
        declare([("pcp.high", CellKind(axes=("zone", "cpu"), meaning="the limit"))])
    declare([("pcp.high", CELLS["pcp.high"])])
