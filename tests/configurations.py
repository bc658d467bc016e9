"""Small configurations that tests of verify.explore search."""

from __future__ import annotations

from pathlib import Path

from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.versions.mutants import MUTANTS
from verify.explore.finite import Finite
from verify.scenario import Scenario

#: one page that is freed, one that may be allocated, two CPUs
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)
#: nobody allocates, the limits change
UPDATED = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=1), 1)
TINY = Finite(Scenario(cpus=1, frees=1, allocs=0, updates=0), 1)
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

NAMES = [*KERNELS, *MUTANTS]


def named(name):
    return kernel(name) if name in KERNELS else mutant(name)
