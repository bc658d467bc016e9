"""Whole-process times of the three engines' commands: on v5.11, on the newest kernel that is proved, on changes, and larger ones.

    python benchmarks/kernels.py [--runs 3] [--against CHECKOUT] [--write]

Each command runs with nothing kept from an earlier one, and with what the run before has left.
With ``--against`` each turn also runs another checkout's, and the last column is the ratio of the
medians.  ``--write`` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from subprocess import DEVNULL, run

from processes import environment_for
from rows import ROOT
from tables import PERFORMANCE, machine, write_between_markers

#: what is asked about, and the exit code
TARGETS = (
    ("--kernel v5.11", 0), ("--kernel v6.11", 0), ("--variant docs/examples/last_cpu_first.py", 0),
    ("--variant docs/examples/skip_idle_cpus.py", 1),
)  # fmt: skip
ENGINES = ("explore", "bmc", "prove")
_L, _X = "--cpus 3 --pages 3 --frees 2 --allocs 2", "--cpus 4 --pages 4 --frees 3 --allocs 2"
COMMANDS = (
    *((engine, target, code) for target, code in TARGETS for engine in ENGINES),
    ("explore", f"{_L} --property no_stray_page", 0), ("explore", _L, 0),
    ("explore", f"{_X} --property no_stray_page", 0), ("explore", _X, 0),
    ("bmc", "--cpus 8 --frees 8 --allocs 8 --spread", 0),
)  # fmt: skip
MARKERS = "kernels"


def seconds(checkout: Path, engine: str, target: str, code: int, cache: str, kept: bool) -> float:
    """One run of one command; SystemExit unless it ends as expected."""
    environment = environment_for(str(checkout), XDG_CACHE_HOME=cache, STRAYPAGE_NO_CACHE="0" if kept else "1")
    command = [sys.executable, "-m", f"verify.{engine}", *target.split(), "--quiet"]
    began = time.perf_counter()
    done = run(command, cwd=checkout, env=environment, stdout=DEVNULL, check=False)
    took = time.perf_counter() - began
    if done.returncode != code:
        raise SystemExit(f"{' '.join(command[1:])} in {checkout} ended with {done.returncode}")
    return took


def table(runs: int, against: Path | None) -> list[str]:
    """The rows, each printed as soon as it is there."""
    head = "| | nothing kept | kept |" + (" before | ratio |" if against else "")
    lines = [head, "|---|--:|--:|" + ("--:|--:|" if against else "")]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as cache:
        for engine, target, code in COMMANDS:
            # what is compiled, and the first that there is to keep
            seconds(ROOT, engine, target, code, cache, kept=True)
            if against:
                seconds(against, engine, target, code, cache, kept=True)
            made, kept, before = [], [], []
            for _ in range(runs):
                made.append(seconds(ROOT, engine, target, code, cache, kept=False))
                kept.append(seconds(ROOT, engine, target, code, cache, kept=True))
                if against:
                    before.append(seconds(against, engine, target, code, cache, kept=True))
            middle = statistics.median(kept)
            line = f"| `{engine} {target}` | {statistics.median(made):.1f} s | {middle:.1f} s |"
            if against:
                line += f" {statistics.median(before):.1f} s | {middle / statistics.median(before):.2f} |"
            print(line, flush=True)
            lines.append(line)
    return lines


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("--runs", type=int, default=3, metavar="N", help="how often each runs (default: 3)")
    p.add_argument("--against", type=Path, metavar="DIR", help="another checkout, to run in the same turns")
    p.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = p.parse_args()
    if options.runs < 1:
        p.error("--runs: give at least 1")
    if options.against and not (options.against / "verify").is_dir():
        p.error(f"--against: {options.against} is no checkout of straypage")
    lines = table(options.runs, options.against and options.against.resolve())
    if options.write:
        often = "one whole process each" if options.runs == 1 else f"medians of {options.runs} whole processes"
        about = f"Measured on {time.strftime('%Y-%m-%d')}, {often}: {machine()}."
        write_between_markers(PERFORMANCE, "\n".join(["", *textwrap.wrap(about, 118), "", *lines, ""]), MARKERS)


if __name__ == "__main__":
    main()
