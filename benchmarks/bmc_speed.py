"""Whole-process times of verify.bmc: `make bench`.  Medians of some runs; ratios to the first row, from this one run."""

import os
import platform
import statistics
import subprocess
import sys
import time

from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from verify.scenario import Scenario

RUNS = 3


def _is_shown(m):
    """Whether bmc judges what a mutant breaks, and its default bound has the tasks that it takes."""
    if m.breaks == EQUIVALENT or PROPERTIES[m.breaks].rest:
        return False
    return all(getattr(Scenario(), task) >= n for task, n in m.needs.items())


ROWS = [
    ("default: 3 CPUs, 2 frees + 2 allocs, any CPU", [], 0),
    ("4 CPUs, 3 frees + 2 allocs, any CPU", ["--cpus", "4", "--frees", "3", "--allocs", "2"], 0),
    ("1 CPU, 3 frees + 3 allocs, v5.11", ["--kernel", "v5.11", "--cpus", "1", "--frees", "3", "--allocs", "3"], 0),
    ("1 CPU, 5 frees + 5 allocs, v5.11", ["--kernel", "v5.11", "--cpus", "1", "--frees", "5", "--allocs", "5"], 0),
    ("8 CPUs, 8 + 8, one pair a CPU", ["--cpus", "8", "--frees", "8", "--allocs", "8", "--spread"], 0),
]
ROWS += [(f"mutant {m.name}", ["--mutant", m.name], 1) for m in MUTANTS.values() if _is_shown(m)]


def measure(arguments, expected):
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-m", "verify.bmc", "--quiet", *arguments], stdout=subprocess.DEVNULL, check=False
        )
        seconds.append(time.perf_counter() - began)
        if run.returncode != expected:
            raise SystemExit(f"{arguments}: exit {run.returncode}, expected {expected}")
    return seconds


def main():
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.machine()}; {RUNS} runs each\n")
    print(f"{'':50} {'median':>8} {'min':>7} {'max':>7} {'ratio':>6}")
    first = None
    for name, arguments, expected in ROWS:
        seconds = measure(arguments, expected)
        median = statistics.median(seconds)
        first = first or median
        print(f"{name:50} {median:7.2f}s {min(seconds):6.2f}s {max(seconds):6.2f}s {median / first:6.2f}", flush=True)


if __name__ == "__main__":
    main()
