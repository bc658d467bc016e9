"""verify.explore beside SPIN: whole-process times, states and memory of both, from one run.

    python benchmarks/explore_vs_spin.py                       # configurations s, m, l; x of explore only
    python benchmarks/explore_vs_spin.py --spin-x --mutants    # and SPIN on x, up to --limit; and each mutant on x
    python benchmarks/explore_vs_spin.py --configs s,m,l,x,y   # y takes ten minutes, in memory and on disk
    python benchmarks/explore_vs_spin.py ... --json FILE       # keep what was measured
    python benchmarks/explore_vs_spin.py --read FILE --write   # put it into docs/performance.md

SPIN is measured on a model written by hand (benchmarks/spin/pcplists.pml), without and with pageblocks, and on what
`verify.explore --promela` writes, as it is and with explore's left movers performed at once.  SPIN's time is that of
spin -a, gcc and pan together, each a process of its own.  Of the newest kernel there is no model by hand: SPIN has what is
exported.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# siblings: benchmarks/ is no package, and its folder is on the path when a script in it is run
sys.path.insert(0, str(Path(__file__).resolve().parent))

from asking import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNEXPECTED, Parser, configs_of, count, fail, memory_for_all, positive
from goals import goals
from programs import (
    explore,
    explore_row,
    exported,
    expressible,
    has_compiler_option,
    median_row,
    missing,
    say,
    spin_row,
)
from rows import (
    ALL,
    BY_HAND,
    BY_HAND_ON_S,
    CONFIGS,
    EXPORT,
    FAILED,
    HAND,
    HOLDS,
    NEWEST,
    NOT_RUN,
    OF_NEWEST,
    ON_DISK,
    PAGEBLOCKS,
    REDUCED,
    ROOT,
    SOME,
    SPINS_PROPERTIES,
    UNREDUCED,
    USUAL,
    VIOLATED,
    WITHOUT,
    X_SPIN_SECONDS,
    Y_MEGABYTES,
    Y_SECONDS,
    Row,
)
from tables import PERFORMANCE, goal_lines, machine, markdown, ratios, text_head, text_row, write_between_markers

EXIT_CODES = """exit codes:
  0  measured; whether a goal is met does not matter, nor that SPIN's rows are left out because spin or gcc is missing
  1  a verdict is not the expected one, or a process failed: the times mean nothing then
  2  bad options
130  interrupted
"""


@dataclass(slots=True)
class Benchmark:
    """One run of this program."""

    options: argparse.Namespace
    compiler_option: bool
    spin: bool
    rows: list[Row] = field(default_factory=list)
    mutants: list[Row] = field(default_factory=list)

    def explore_variants(self) -> list[tuple[str, list[str]]]:
        """With the compiler, if there is one, and without."""
        return [("", []), (WITHOUT, ["--compiler", "none"])] if self.compiler_option else [("", [])]

    def go(self) -> None:
        """Measure everything that was asked for."""
        for name in self.options.configs:
            for row in self._config(name):
                self.rows.append(row)
                print(text_row(row), flush=True)
        if self.options.mutants:
            print(f"\ncounterexamples on {self.options.mutants_on}\n{text_head()}")
            for row in self._mutants():
                self.mutants.append(row)
                print(text_row(row), flush=True)

    def _config(self, name: str) -> Iterable[Row]:
        config, limit, memory = CONFIGS[name], self.options.limit, self.options.memory_limit
        some = [x for p in SPINS_PROPERTIES for x in ("--property", p)]
        if name not in USUAL:
            yield from self._largest(name, some)
            return
        newest = ["--kernel", NEWEST]
        kinds = [(ALL, []), (SOME, some), (ALL + OF_NEWEST, newest), (SOME + OF_NEWEST, [*some, *newest])]
        if name == "l":
            kinds.append((UNREDUCED, ["--reduce", "none"]))
        for tool, more in kinds:
            for suffix, compiler in self.explore_variants() if OF_NEWEST not in tool else [("", [])]:

                def once(tool: str = tool + suffix, more: Sequence[str] = (*more, *compiler)) -> Row:
                    say(f"{name}: {tool}")
                    process, record = explore(["--quiet", *config.options(), *more], limit, memory)
                    return explore_row(name, tool, process, record)

                yield median_row(once, self.options.runs)
        if not self.spin:
            return
        for tool, more in ((BY_HAND, []), (PAGEBLOCKS, ["-DISOLATION"])):
            if name == "x" and not self.options.spin_x:
                yield Row(name, tool, NOT_RUN)
                continue

            def spun(tool: str = tool, more: Sequence[str] = more) -> Row:
                say(f"{name}: {tool}")
                return spin_row(name, tool, HAND, [*config.defines(), *more], limit, memory)

            yield median_row(spun, self.options.runs)
        yield from self._exported(name, "v5.11", "")
        yield from self._exported(name, NEWEST, OF_NEWEST)

    def _largest(self, name: str, some: Sequence[str]) -> Iterable[Row]:
        """What takes minutes: in memory, and in less memory with a disk."""
        for suffix, memory, disk in (("", self.options.memory_limit, False), (ON_DISK, Y_MEGABYTES, True)):
            say(f"{name}: {SOME}{suffix}")
            with tempfile.TemporaryDirectory(dir=ROOT) as folder:
                more = ["--disk", folder] if disk else []
                process, record = explore(
                    ["--quiet", *CONFIGS[name].options(), *some, *more], max(self.options.limit, Y_SECONDS), memory
                )
            yield explore_row(name, SOME + suffix, process, record)

    def _exported(self, name: str, kernel: str, suffix: str) -> Iterable[Row]:
        for tool, reduced in ((EXPORT + suffix, False), (REDUCED + suffix, True)):
            if name == "x" and not (reduced and self.options.spin_x):
                # unreduced it does not even finish l
                yield Row(name, tool, NOT_RUN)
                continue
            say(f"{name}: {tool}")
            with tempfile.TemporaryDirectory() as folder:
                model = Path(folder) / "exported.pml"
                model.write_text(exported(CONFIGS[name], reduced, kernel))
                yield spin_row(name, tool, model, [], self.options.limit, self.options.memory_limit)

    def _mutants(self) -> Iterable[Row]:
        from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS

        name, limit, memory = self.options.mutants_on, self.options.mutant_limit, self.options.memory_limit
        known = expressible() if self.spin else set()
        for mutant in (m.name for m in MUTANTS.values() if m.breaks != EQUIVALENT):
            for suffix, compiler in self.explore_variants():
                say(f"{mutant}: explore{suffix}")
                # where no CPU comes or goes some mutants change nothing
                comes = bool(MUTANTS[mutant].needs.get("hotplugs"))
                process, record = explore(
                    ["--quiet", *CONFIGS[name].options(comes), "--mutant", mutant, *compiler], limit, memory
                )
                yield explore_row(name, "explore" + suffix, process, record, mutant)
            if mutant in known:
                say(f"{mutant}: {BY_HAND}")
                define = f"-DMUTANT_{mutant.replace('-', '_')}"
                yield spin_row(name, BY_HAND, HAND, [*CONFIGS[name].defines(), define], limit, memory, mutant)
                if name != "s":
                    # explore looks in a smaller configuration first by itself; with SPIN a person would
                    yield spin_row("s", BY_HAND_ON_S, HAND, [*CONFIGS["s"].defines(), define], limit, memory, mutant)
            elif self.spin:
                yield Row(name, BY_HAND, NOT_RUN, mutant=mutant)

    def unexpected(self) -> list[Row]:
        """Rows whose verdict cannot be right."""
        return [r for r in self.rows if r.outcome in (VIOLATED, FAILED)] + [
            r for r in self.mutants if r.outcome in (HOLDS, FAILED)
        ]


def parser() -> Parser:
    """The command line."""
    assert __doc__
    p = Parser(
        prog="explore_vs_spin.py", description=__doc__, epilog=EXIT_CODES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument(
        "--configs",
        type=configs_of,
        default=list(USUAL),
        metavar="LIST",
        help="of s, m, l, x, y (default all but y)",
    )
    p.add_argument(
        "--limit",
        type=positive,
        metavar="S",
        help=f"seconds of each proof, SPIN's parts together (default 60; with --spin-x {X_SPIN_SECONDS})",
    )
    p.add_argument(
        "--spin-x", action="store_true", help="run SPIN on x as well: each of three models may take the limit"
    )
    p.add_argument("--mutants", action="store_true", help="measure each mutant's counterexample, too")
    p.add_argument("--mutants-on", choices=CONFIGS, default="x", help="the mutants' configuration (default x)")
    p.add_argument("--mutant-limit", type=positive, default=60.0, metavar="S", help="seconds of each (default 60)")
    p.add_argument("--runs", type=count, default=3, metavar="N", help="runs of what is fast; the median (default 3)")
    p.add_argument(
        "--memory-limit",
        type=count,
        metavar="MB",
        help="of each process (default: three quarters of what is available)",
    )
    p.add_argument("--json", metavar="FILE", help="write what was measured")
    p.add_argument("--read", metavar="FILE", help="measure nothing; take what --json has written")
    p.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    return p


def read_record(path: str) -> dict[str, Any]:
    """What an earlier run has measured."""
    try:
        record: dict[str, Any] = json.loads(Path(path).read_text())
        [Row(**r) for r in (*record["rows"], *record["mutants"])]
        _ = record["date"], record["machine"], record["limit"], record["mutants_on"], record["mutant_limit"]
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        fail(f"{path} is not what --json writes")
    return record


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run everything; returns what was measured, and the exit code."""
    absent = missing()
    if absent:
        print(f"{' and '.join(absent)} missing: only explore is measured; for SPIN's rows: apt install spin gcc")
    options.memory_limit = options.memory_limit or memory_for_all()
    benchmark = Benchmark(options, has_compiler_option(), not absent)
    about = machine()
    print(f"{about}\nmedians of up to {options.runs} whole processes\n\n{text_head()}")
    interrupted = False
    try:
        benchmark.go()
    except KeyboardInterrupt:
        interrupted = True
    say("")
    record = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "machine": about, "limit": options.limit,
        "mutants_on": options.mutants_on, "mutant_limit": options.mutant_limit,
        "rows": [asdict(r) for r in benchmark.rows], "mutants": [asdict(r) for r in benchmark.mutants],
    }  # fmt: skip
    if interrupted:
        print(
            "explore_vs_spin.py: interrupted; what was measured is kept, but not written into a page", file=sys.stderr
        )
        options.write = False
    unexpected = benchmark.unexpected()
    for row in unexpected:
        print(f"unexpected: {text_row(row)}", file=sys.stderr)
    code = EXIT_UNEXPECTED if unexpected else EXIT_OK
    return record, EXIT_INTERRUPTED if interrupted else code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    for path in filter(None, [options.json]):
        if not Path(path).resolve().parent.is_dir() or Path(path).is_dir():
            fail(f"cannot write {path}")
    options.limit = options.limit or float(X_SPIN_SECONDS if options.spin_x else 60)
    if options.write and not PERFORMANCE.exists():
        fail(f"{PERFORMANCE.name} does not exist")
    if options.read:
        record, code = read_record(options.read), EXIT_OK
    else:
        record, code = measure(options)
    rows, mutants = [Row(**r) for r in record["rows"]], [Row(**r) for r in record["mutants"]]
    told = ratios(rows)
    if told:
        print("\n" + "\n".join(told))
    print("\ngoals\n" + "\n".join(goal_lines(goals(rows, mutants, record["limit"], record["mutants_on"]))))
    if options.json:
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    if options.write:
        write_between_markers(PERFORMANCE, markdown(record))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
