"""Tasks that drain or disable beside offline_pages(): direct reclaim and get_hwpoison_page()."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kernelmodel.kernels import mutant
from kernelmodel.ops import read
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from verify.bmc.__main__ import main as bmc
from verify.bmc.solve import Engine
from verify.explore.__main__ import main as explore
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result

STRAY = find("no_stray_page")
#: the least in which a drain that is given up too early leaves a page behind
DRAINS = Scenario(cpus=2, frees=0, allocs=1, updates=0, reclaims=1)
LOCKS = Scenario(cpus=2, frees=0, allocs=0, updates=1, reclaims=1, hwpoisons=1)


class EnablesTwice(V5_11):
    """get_hwpoison_page() gives back what offline_pages() may have taken."""

    def get_hwpoison_page(self, zone):
        yield from self.zone_pcp_disable(zone)
        yield from self.zone_pcp_enable(zone)
        high = yield read("zone.pageset_high", zone.index)
        yield from self.set_pageset_high_and_batch(zone, high, 1)


@pytest.mark.parametrize(
    ("made", "scenario"),
    [
        pytest.param(V5_11, DRAINS, id="v5.11 drains"),
        pytest.param(mutant("unlock-before-flush"), DRAINS, id="unlock-before-flush", marks=pytest.mark.deep),
        pytest.param(V5_11, LOCKS, id="v5.11 locks"),
        pytest.param(EnablesTwice, replace(LOCKS, updates=0, reclaims=0), id="EnablesTwice", marks=pytest.mark.deep),
    ],
)
def test_reductions_change_no_verdict_where_others_drain(made, scenario):
    results = []
    for reduce in ("none", "movers", "full"):
        verdicts = Explorer(made, Finite(scenario, 1 + scenario.allocs), reduce).decide(list(PROPERTIES.values()))
        results.append({v.property: v.result for v in verdicts})
        assert all(v.replayed for v in verdicts if v.result is Result.VIOLATED)
    assert results[0] == results[1] == results[2]
    assert (Result.VIOLATED in results[0].values()) == (made is not V5_11)


@pytest.mark.parametrize(("made", "result"), [("unlock-before-flush", Result.VIOLATED), ("v5.11", Result.HOLDS)])
def test_engines_agree_on_a_second_drain(made, result):
    kernel = V5_11 if made == "v5.11" else mutant(made)
    (found,) = Explorer(kernel, Finite(DRAINS, 2)).decide([STRAY], deadlock=False)
    assert found.result is result
    bounded = Engine(kernel, DRAINS).decide(STRAY)
    assert bounded.result is result and bounded.replayed is not False


def test_without_another_drain_it_is_not_seen():
    alone = Scenario(cpus=2, frees=0, allocs=1, updates=0)
    (found,) = Explorer(mutant("unlock-before-flush"), Finite(alone, 2)).decide([STRAY], deadlock=False)
    assert found.result is Result.HOLDS


@pytest.mark.deep
def test_a_changed_text_meets_another_drain_in_a_default_run(capsys):
    """And the columns show the mask of the drain, which is bookkeeping elsewhere."""
    assert explore(["--mutant", "unlock-before-flush", "--property", "no_stray_page"]) == 1
    out = capsys.readouterr().out
    assert "1 direct reclaim suffice" in out and "replayed on the concrete model" in out
    assert re.search(r"cpus_with_pcps\[\d\] = false", out) and re.search(r"cpus_with_pcps\[\d\]  /\* false \*/", out)


@pytest.mark.deep
def test_bmc_has_them_as_options(capsys):
    small = ["--cpus", "2", "--frees", "0", "--allocs", "1", "--updates", "0", "--offlines", "0"]
    assert bmc([*small, "--hwpoisons", "2", "--reclaims", "1", "--property", "no_stray_page"]) == 0
    assert "1 direct reclaim, 2 get_hwpoison_page()" in capsys.readouterr().out


@pytest.mark.parametrize("command", [bmc, explore])
def test_a_kernel_that_cannot_disable_is_told_apart(command, capsys):
    with pytest.raises(SystemExit) as refusal:
        command(["--kernel", "base", "--hwpoisons", "1"])
    assert refusal.value.code == 2 and "leave --hwpoisons out" in capsys.readouterr().err
