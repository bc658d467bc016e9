"""Which CPUs' checks a search reaches: named where it tells CPUs apart."""

from __future__ import annotations

import pytest

from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.scenario import Scenario
from verify.verdict import Result

#: a free and an alloc, both on CPU 0; or wherever they come to run
TERMINATES, SPREAD = PROPERTIES["bulk_free_terminates"], Scenario(cpus=2, frees=1, allocs=0, updates=0, spread=True)
ANYWHERE = Scenario(cpus=2, frees=1, allocs=0, updates=0)


@pytest.mark.parametrize("compiler", ["auto", "none"])
def test_a_cpu_on_which_nothing_is_freed_in_bulk_is_named(compiler: str) -> None:
    (verdict,) = Explorer(V5_11, Finite(SPREAD, 2), compiler=compiler).decide([TERMINATES], deadlock=False)
    assert (verdict.result, verdict.reason) == (Result.HOLDS, "its premise is never reached for CPU 1")


@pytest.mark.parametrize("reduce", ["none", "movers", "full"])
def test_where_a_free_may_be_anywhere_none_is(reduce: str) -> None:
    (verdict,) = Explorer(V5_11, Finite(ANYWHERE, 2), reduce).decide([TERMINATES], deadlock=False)
    assert (verdict.result, verdict.reason) == (Result.HOLDS, "")


def test_of_a_cpu_that_never_goes_nothing_is_said() -> None:
    going = Scenario(cpus=2, frees=1, allocs=0, updates=0, hotplugs=1)
    (verdict,) = Explorer(V5_11, Finite(going, 2)).decide([PROPERTIES["dead_cpu_drained"]], deadlock=False)
    assert (verdict.result, verdict.reason) == (Result.HOLDS, "its premise is never reached for CPU 0")
