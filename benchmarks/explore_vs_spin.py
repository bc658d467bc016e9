"""verify.explore beside SPIN: whole-process times, states and memory of both, from one run.

    python benchmarks/explore_vs_spin.py                       # configurations s, m, l; x of explore only
    python benchmarks/explore_vs_spin.py --spin-x --mutants    # and SPIN on x, up to --limit; and each mutant on x
    python benchmarks/explore_vs_spin.py ... --json FILE       # keep what was measured
    python benchmarks/explore_vs_spin.py --read FILE --write   # put it into docs/performance.md

SPIN is measured on a model written by hand (benchmarks/spin/pcplists.pml), without and with pageblocks, and on what
`verify.explore --promela` writes, as it is and with explore's left movers performed at once.  SPIN's time is that of
spin -a, gcc and pan together, each a process of its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from verify.explore.model import Model

ROOT = Path(__file__).resolve().parent.parent
HAND = ROOT / "benchmarks" / "spin" / "pcplists.pml"
PERFORMANCE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- begin: explore_vs_spin -->", "<!-- end: explore_vs_spin -->"

EXIT_OK, EXIT_UNEXPECTED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """exit codes:
  0  measured; whether a goal is met does not matter, nor that SPIN's rows are left out because spin or gcc is missing
  1  a verdict is not the expected one, or a process failed: the times mean nothing then
  2  bad options
130  interrupted
"""


@dataclass(frozen=True, slots=True)
class Config:
    """A finite configuration: CPUs, pages, frees, allocs; always one offline_pages() and one zone_pcp_update()."""

    cpus: int
    pages: int
    frees: int
    allocs: int

    def options(self) -> list[str]:
        """The options of verify.explore."""
        names = (("cpus", self.cpus), ("pages", self.pages), ("frees", self.frees), ("allocs", self.allocs))
        # the hand-written model has neither CPUs that come and go nor pages to migrate
        return [*(x for name, n in names for x in (f"--{name}", str(n))), "--migrations", "0", "--hotplugs", "0"]

    def defines(self) -> list[str]:
        """The same for the hand-written model."""
        return [f"-DCPUS={self.cpus}", f"-DPAGES={self.pages}", f"-DFREES={self.frees}", f"-DALLOCS={self.allocs}"]


CONFIGS = {"s": Config(2, 2, 1, 1), "m": Config(2, 3, 2, 1), "l": Config(3, 3, 2, 2), "x": Config(4, 4, 3, 2)}

#: what the hand-written model asserts without pageblocks, as properties of verify.explore
SPINS_PROPERTIES = ("no_stray_page", "pages_conserved", "limits_restored", "limits_exclusive", "bulk_free_terminates")

#: the rows: explore
ALL, SOME, UNREDUCED = "explore, all properties", "explore, the hand model's properties", "explore --reduce none"
WITHOUT = ", no compiler"
#: and SPIN
BY_HAND, PAGEBLOCKS, EXPORT = "SPIN, by hand", "SPIN, by hand, pageblocks", "SPIN, exported"
REDUCED = "SPIN, exported, movers"
BY_HAND_ON_S = BY_HAND + ", on s"

HOLDS, VIOLATED, UNFINISHED, NO_MEMORY, NOT_RUN, FAILED = (
    "holds", "violated", "not finished", "out of memory", "not run", "failed",
)  # fmt: skip

#: the goals: seconds and megabytes on a configuration; how long SPIN must not finish; a mutant; states a second
SECONDS_GOALS = {"s": 0.5, "m": 0.5, "l": 1.5, "x": 10.0}
X_MEGABYTES, X_SPIN_SECONDS, MUTANT_SECONDS, STATES_PER_SECOND = 1500, 600, 5.0, 1_000_000


@dataclass(slots=True)
class Row:
    """One line of the table."""

    config: str
    tool: str
    outcome: str
    seconds: float | None = None
    #: spin -a, gcc, pan
    parts: list[float] = field(default_factory=list)
    states: int | None = None
    #: of the search alone, on one core
    states_per_second: float | None = None
    peak_mb: float | None = None
    runs: int = 1
    mutant: str = ""

    @property
    def finished(self) -> bool:
        """Whether there is an answer."""
        return self.outcome in (HOLDS, VIOLATED)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for, what was measured, and whether it is enough; ``met`` is None if it was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None

    @property
    def said(self) -> str:
        """The judgement in words."""
        return {True: "met", False: "not met", None: "not measured"}[self.met]


# --- processes ---


@dataclass(slots=True)
class Process:
    """A process that has ended, and everything it started."""

    seconds: float
    code: int
    peak_mb: float
    output: str
    timed_out: bool


def _tree(pid: int) -> Iterable[int]:
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _tree(int(child))


def _proportional_mb(pid: int) -> float:
    """Memory of one process; a page that forked processes share is split among them."""
    with suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def run(command: Sequence[str], limit: float, cwd: str | Path | None = None) -> Process:
    """Run a command to its end or to the limit; the peak is that of the whole process tree where /proc tells it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    sampled, over = 0.0, threading.Event()
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd, env=environment, start_new_session=True
        )

        def watch() -> None:
            nonlocal sampled
            while not over.wait(0.1):
                sampled = max(sampled, sum(map(_proportional_mb, _tree(child.pid))))
                if time.perf_counter() - began > limit:
                    with suppress(OSError):
                        os.killpg(child.pid, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            over.set()
        seconds = time.perf_counter() - began
        watcher.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    own = usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return Process(seconds, child.returncode, max(own, sampled), text, child.returncode == -signal.SIGKILL)


# --- explore ---


def searches(record: dict[str, Any]) -> list[tuple[int, float]]:
    """States and seconds of each search of a run's JSON: properties that were decided by one search share its numbers."""
    found = {
        (s["states"], s.get("transitions"), s["seconds_of_search"])
        for v in record["verdicts"]
        if "seconds_of_search" in (s := v["statistics"])
    }
    return [(states, seconds) for states, _, seconds in sorted(found, key=str)]


def explore(arguments: Sequence[str], limit: float, memory_mb: int | None) -> tuple[Process, dict[str, Any]]:
    """A fresh process of verify.explore."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "verdicts.json"
        command = [sys.executable, "-m", "verify.explore", *arguments, "--json", str(report), "--timeout", f"{limit:g}"]
        if memory_mb:
            command += ["--memory-limit", str(memory_mb)]
        # it ends by itself and tells how far it came, unless it cannot
        process = run(command, limit + 30, ROOT)
        return process, json.loads(report.read_text()) if report.exists() else {}


def explore_row(config: str, tool: str, process: Process, record: dict[str, Any], mutant: str = "") -> Row:
    """What a run of verify.explore amounts to."""
    outcome = {0: HOLDS, 1: VIOLATED, 3: UNFINISHED}.get(process.code, UNFINISHED if process.timed_out else FAILED)
    reasons = " ".join(v.get("reason", "") for v in record.get("verdicts", []))
    if outcome == UNFINISHED and "memory" in reasons:
        outcome = NO_MEMORY
    made = searches(record) if record else []
    states, seconds = sum(n for n, _ in made), sum(s for _, s in made)
    row = Row(config, tool, outcome, process.seconds, peak_mb=process.peak_mb, mutant=mutant)
    if made and not mutant:
        row.states, row.states_per_second = states, states / seconds if seconds else None
    return row


def has_compiler_option() -> bool:
    """Whether verify.explore can be told to do without a C compiler."""
    return "--compiler" in run([sys.executable, "-m", "verify.explore", "--help"], 60, ROOT).output


# --- SPIN ---


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in ("spin", "gcc") if shutil.which(name) is None]


def pan_outcome(process: Process) -> tuple[str, int | None]:
    """The verdict and the number of states, from what pan has printed; a run that was stopped tells states now and then."""
    text = process.output
    stored = re.findall(r"^\s*([\d.e+]+) states, stored", text, re.MULTILINE)
    under_way = re.findall(r"States=\s*([\d.e+]+)", text)
    states = int(float(stored[-1])) if stored else int(float(under_way[-1])) if under_way else None
    if process.timed_out:
        return UNFINISHED, states
    if ("MEMLIM" in text and "reached" in text) or "out of memory" in text:
        return NO_MEMORY, states
    errors = re.search(r"errors: (\d+)", text)
    if errors is None or "search depth too small" in text:
        return FAILED, states
    return VIOLATED if int(errors[1]) else HOLDS, states


def spin_row(
    config: str, tool: str, model: Path, defines: Sequence[str], limit: float, memory_mb: int, mutant: str = ""
) -> Row:
    """spin -a, gcc and pan on one model."""
    row = Row(config, tool, FAILED, mutant=mutant)
    with tempfile.TemporaryDirectory() as folder:
        commands = (
            ["spin", "-a", *defines, str(model)],
            ["gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={memory_mb}", "-o", "pan", "pan.c"],
            ["./pan", "-m1000000"],
        )
        for command in commands:
            left = limit - sum(row.parts)
            process = run(command, left, folder)
            row.parts.append(process.seconds)
            row.peak_mb = max(row.peak_mb or 0.0, process.peak_mb)
            if process.timed_out:
                row.outcome = UNFINISHED
                break
            if process.code and command[0] != "./pan":
                break
        else:
            row.outcome = FAILED
        row.seconds = sum(row.parts)
        if len(row.parts) == len(commands):
            row.outcome, row.states = pan_outcome(process)
            if row.states:
                row.states_per_second = row.states / row.parts[-1]
    return row


def reduced_promela(model: Model) -> str:
    """What `verify.explore --promela` writes, with the left movers of verify.explore performed at once.

    After each step its task goes on while its next operation needs no interleaving, within the same atomic, so that SPIN
    does not store what lies between.  Right movers and the symmetries of explore are not in it.
    """
    from kernelmodel.graphs.folded_graph import RETURNED
    from verify.explore.movers import Movers
    from verify.explore.promela import _Printer, promela

    printer, movers = _Printer(model), Movers(model)
    steps, at_once = [], []
    for task in model.tasks:
        for location in range(len(task.graph.locations)):
            options = [o for node in task.at(location) for o in printer.options(task, location, node)]
            steps += [o.replace(" } /*", f"; mover = {task.number + 1} }} /*", 1) for o in options]
            condition = movers.conditions.get((task.number, location))
            if condition is None:
                continue
            guard = [f"mover == {task.number + 1}", *(f"c{model.address[c]} == {x}" for c, x in condition.values)]
            guard += [f"c{t.location} != {k}" for t, bad in condition.away for k in sorted(bad) if k != RETURNED]
            at_once += [o.replace("d_step { (", f"d_step {{ ({' && '.join(guard)} && ", 1) for o in options]
    whole = promela(model)
    head, rest = whole.split("    do\n", 1)
    done = rest[rest.rindex("    :: d_step") :].split("    od")[0]
    return (
        head.replace("hidden short", "byte mover;\nhidden short", 1)
        + "    do\n    :: atomic {\n    if\n"
        + "\n".join(steps)
        + f"\n{done}    fi;\n    do\n"
        + "\n".join(at_once)
        + "\n    :: else -> mover = 0; break\n    od\n    }\n    od\n}\n"
    )


def exported(config: Config, reduced: bool) -> str:
    """Our model for SPIN, of v5.11 with all properties."""
    from kernelmodel.versions.v5_11 import V5_11
    from properties.catalogue import PROPERTIES
    from verify.explore.finite import Finite
    from verify.explore.model import Model
    from verify.explore.promela import promela
    from verify.scenario import Scenario

    scenario = Scenario(cpus=config.cpus, frees=config.frees, allocs=config.allocs)
    model = Model(V5_11, Finite(scenario, config.pages), [p for p in PROPERTIES.values() if p.applies_to(V5_11)])
    return reduced_promela(model) if reduced else promela(model)


def expressible() -> set[str]:
    """The mutants that the hand-written model has."""
    return {name.replace("_", "-") for name in re.findall(r"\bMUTANT_(\w+)", HAND.read_text())}


# --- measuring ---


def median_row(measure: Callable[[], Row], runs: int) -> Row:
    """The row of median time of some runs; what takes long is run once, for noise matters less there."""
    rows = [measure()]
    while len(rows) < runs and rows[0].finished and (rows[0].seconds or 0) < 10:
        rows.append(measure())
    times = [r.seconds or 0.0 for r in rows]
    middle = statistics.median_low(times)
    return replace(rows[times.index(middle)], runs=len(rows))


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
        kinds = [(ALL, []), (SOME, some)]
        if name == "l":
            kinds.append((UNREDUCED, ["--reduce", "none"]))
        for tool, more in kinds:
            for suffix, compiler in self.explore_variants():

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
        yield from self._exported(name)

    def _exported(self, name: str) -> Iterable[Row]:
        for tool, reduced in ((EXPORT, False), (REDUCED, True)):
            if name == "x" and not (reduced and self.options.spin_x):
                # unreduced it does not even finish l
                yield Row(name, tool, NOT_RUN)
                continue
            say(f"{name}: {tool}")
            with tempfile.TemporaryDirectory() as folder:
                model = Path(folder) / "exported.pml"
                model.write_text(exported(CONFIGS[name], reduced))
                yield spin_row(name, tool, model, [], self.options.limit, self.options.memory_limit)

    def _mutants(self) -> Iterable[Row]:
        from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS

        name, limit, memory = self.options.mutants_on, self.options.mutant_limit, self.options.memory_limit
        known = expressible() if self.spin else set()
        for mutant in (m.name for m in MUTANTS.values() if m.breaks != EQUIVALENT):
            for suffix, compiler in self.explore_variants():
                say(f"{mutant}: explore{suffix}")
                process, record = explore(
                    ["--quiet", *CONFIGS[name].options(), "--mutant", mutant, *compiler], limit, memory
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


def say(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}\r", end="", file=sys.stderr, flush=True)


# --- goals ---


def goals(rows: Sequence[Row], mutants: Sequence[Row], limit: float, mutants_on: str = "x") -> list[Goal]:
    """Each goal, for each way in which explore was run."""
    at = {(r.config, r.tool): r for r in rows}
    suffixes = [s for s in ("", WITHOUT) if any(r.tool == ALL + s for r in rows)] or [""]
    found = []
    for config, seconds in SECONDS_GOALS.items():
        for tool in [t + s for s in suffixes for t in (ALL, SOME)]:
            found.append(_in_time(f"{config}: {tool}", at.get((config, tool)), seconds))
            if config == "x":
                found.append(_in_memory(f"x: {tool}", at.get((config, tool))))
    for tool in (BY_HAND, PAGEBLOCKS):
        found.append(_spin_does_not_finish(tool, at.get(("x", tool)), limit))
    for suffix in suffixes:
        found.append(_mutants_in_time(suffix, [m for m in mutants if m.tool == "explore" + suffix], mutants_on))
    for suffix in suffixes:
        row = at.get(("l", UNREDUCED + suffix))
        rate = row.states_per_second if row and row.states_per_second else None
        found.append(
            Goal(
                f"l: {UNREDUCED}{suffix}", f">= {STATES_PER_SECOND:,} states/s", _number(rate, "states/s"),
                None if rate is None else rate >= STATES_PER_SECOND,
            )
        )  # fmt: skip
    return found


def _in_time(what: str, row: Row | None, wanted: float) -> Goal:
    bound = f"{'under' if wanted < 1 else 'at most'} {wanted:g} s"
    if row is None or row.outcome == NOT_RUN:
        return Goal(what, bound, "-", None)
    enough = row.outcome == HOLDS and (row.seconds or math.inf) <= wanted
    return Goal(what, bound, f"{row.seconds:.2f} s" if row.outcome == HOLDS else row.outcome, enough)


def _in_memory(what: str, row: Row | None) -> Goal:
    bound = f"at most {X_MEGABYTES / 1000:g} GB"
    if row is None or row.peak_mb is None:
        return Goal(what, bound, "-", None)
    return Goal(what, bound, f"{row.peak_mb / 1000:.2f} GB", row.outcome == HOLDS and row.peak_mb <= X_MEGABYTES)


def _spin_does_not_finish(tool: str, row: Row | None, limit: float) -> Goal:
    what, wanted = f"x: {tool}", f"not finished in {X_SPIN_SECONDS} s"
    if row is None or row.outcome == NOT_RUN:
        return Goal(what, wanted, "-", None)
    if row.finished:
        return Goal(what, wanted, f"finished in {row.seconds:.0f} s", (row.seconds or 0) > X_SPIN_SECONDS)
    if row.outcome != UNFINISHED or max(limit, row.seconds or 0) < X_SPIN_SECONDS:
        return Goal(what, wanted, f"{row.outcome} after {row.seconds:.0f} s", None)
    return Goal(what, wanted, f"not finished after {row.seconds:.0f} s", True)


def _mutants_in_time(suffix: str, mutants: Sequence[Row], mutants_on: str) -> Goal:
    what, wanted = f"x: each mutant's counterexample, explore{suffix}", f"within {MUTANT_SECONDS:g} s"
    if not mutants or mutants_on != "x":
        return Goal(what, wanted, "-", None)
    late = [m for m in mutants if m.outcome != VIOLATED or (m.seconds or math.inf) > MUTANT_SECONDS]
    slowest = max(mutants, key=lambda m: m.seconds if m.outcome == VIOLATED and m.seconds else math.inf)
    took = f"{slowest.seconds:.2f} s" if slowest.outcome == VIOLATED else slowest.outcome
    measured = f"slowest {took} ({slowest.mutant})" + (f"; {len(late)} of {len(mutants)} too slow" if late else "")
    return Goal(what, wanted, measured, not late)


# --- text ---


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.0f} {unit}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def text_head() -> str:
    """The table's head."""
    return (
        f"{'':60} {'seconds':>9} {'spin':>5} {'gcc':>5} {'pan':>7} {'states':>12} {'states/s':>10} {'MB':>6}  outcome"
    )


def text_row(row: Row) -> str:
    """One line of the table."""
    name = f"{row.config}  {row.tool}" + (f", {row.mutant}" if row.mutant else "")
    if row.outcome == NOT_RUN:
        why = "not expressible in the model by hand" if row.mutant else "not run (see --spin-x)"
        return f"{name:60} {'-':>9} {'':5} {'':5} {'':7} {'':12} {'':10} {'':6}  {why}"
    parts = [f"{p:.2f}" for p in row.parts] + [""] * (3 - len(row.parts))
    cells = [
        f"{'' if row.seconds is None else f'{row.seconds:.2f}':>9}",
        f"{parts[0]:>5}", f"{parts[1]:>5}", f"{parts[2]:>7}",
        f"{'' if row.states is None else f'{row.states:,}':>12}",
        f"{'' if row.states_per_second is None else f'{row.states_per_second:,.0f}':>10}",
        f"{'' if row.peak_mb is None else f'{row.peak_mb:.0f}':>6}",
    ]  # fmt: skip
    return f"{name:60} {' '.join(cells)}  {row.outcome}"


def ratios(rows: Sequence[Row]) -> list[str]:
    """SPIN's times and states as multiples of explore's: model by hand beside the same properties, pageblocks beside all."""
    at = {(r.config, r.tool): r for r in rows}
    found = []
    for spin, ours in ((BY_HAND, SOME), (PAGEBLOCKS, ALL)):
        for config in CONFIGS:
            theirs, mine = at.get((config, spin)), at.get((config, ours))
            if theirs is None or mine is None or theirs.outcome == NOT_RUN or not (theirs.seconds and mine.seconds):
                continue
            more = "" if theirs.finished else "more than "
            states = f", {theirs.states / mine.states:.1f} times the states" if theirs.states and mine.states else ""
            found.append(
                f"{config}: {spin}, takes {more}{theirs.seconds / mine.seconds:.2f} times as long as {ours}{states}"
            )
    return found


def goal_lines(judged: Sequence[Goal]) -> list[str]:
    """The goals as text."""
    return [f"  {g.what:64} {g.wanted:24} {g.measured:34} {g.said}" for g in judged]


def markdown(record: dict[str, Any]) -> str:
    """The part of docs/performance.md between the markers."""
    rows, mutants = [Row(**r) for r in record["rows"]], [Row(**r) for r in record["mutants"]]
    about = f"Measured on {record['date']}, at most {record['limit']:g} s each: {record['machine']}."
    lines = ["", *textwrap.wrap(about, 118), ""]
    lines += [
        "| | seconds | spin -a + gcc + pan | states | states/s | peak MB | outcome |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        parts = " + ".join(f"{p:.2f}" for p in row.parts)
        cells = [
            f"**{row.config}** {row.tool}", _bare(row.seconds, ".2f"), parts, _bare(row.states, ","),
            _bare(row.states_per_second, ",.0f"), _bare(row.peak_mb, ".0f"), row.outcome,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    told = ratios(rows)
    if told:
        lines += ["", *(f"- {line}" for line in told)]
    if mutants:
        lines += ["", *_mutant_table(mutants, record["mutants_on"], record["mutant_limit"])]
    lines += ["", "Goals:", "", "| | goal | measured | |", "|---|---|---|---|"]
    for goal in goals(rows, mutants, record["limit"], record["mutants_on"]):
        lines.append(f"| {goal.what} | {goal.wanted} | {goal.measured} | {goal.said} |")
    return "\n".join([*lines, ""])


def _bare(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _mutant_table(mutants: Sequence[Row], config: str, limit: float) -> list[str]:
    tools = list(dict.fromkeys(m.tool for m in mutants))
    at = {(m.mutant, m.tool): m for m in mutants}
    about = (
        f"Seconds to the counterexample on {config}, at most {limit:g}. explore looks in a smaller one first, and shows a "
        "shortest trace; SPIN shows the first it finds:"
    )
    lines = [*textwrap.wrap(about, 118), "", "| mutant | " + " | ".join(tools) + " |", "|---|" + "--:|" * len(tools)]
    for name in dict.fromkeys(m.mutant for m in mutants):
        cells = []
        for tool in tools:
            row = at.get((name, tool))
            if row is None or row.outcome == NOT_RUN:
                cells.append("not expressible")
            else:
                cells.append(_bare(row.seconds, ".2f") if row.outcome == VIOLATED else row.outcome)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def write_between_markers(path: Path, text: str) -> None:
    """Replace what stands between the markers of a page."""
    page = path.read_text()
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        fail(f"{path.name} does not have the markers {BEGIN} and {END}, once each")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def machine() -> str:
    """The machine and the versions, without names of hosts."""
    cpu = platform.machine()
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = f"{found[1].strip()}, {cpu}" if found else cpu
    parts = [cpu, f"{os.cpu_count()} cores"]
    with suppress(OSError, ValueError):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB")
    parts.append(f"Python {platform.python_version()}")
    with suppress(PackageNotFoundError):
        parts.append(f"NumPy {version('numpy')}")
    if shutil.which("spin"):
        found = re.search(r"Version ([\d.]+)", run(["spin", "-V"], 10).output)
        parts.append(f"SPIN {found[1]}" if found else "SPIN")
    if shutil.which("gcc"):
        parts.append(f"gcc {run(['gcc', '-dumpfullversion'], 10).output.strip()}")
    return ", ".join(parts)


# --- the command ---


def fail(text: str) -> NoReturn:
    """One clear line, and the exit code of bad options."""
    print(f"explore_vs_spin.py: {text}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        fail(message)


def _configs(text: str) -> list[str]:
    names = text.split(",")
    unknown = [n for n in names if n not in CONFIGS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(CONFIGS)}")
    return list(dict.fromkeys(names))


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _count(text: str) -> int:
    value = _positive(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def memory_for_all() -> int:
    """Three quarters of the memory that is available, in MB."""
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 3 // 4096
    return 4000


def parser() -> Parser:
    """The command line."""
    assert __doc__
    p = Parser(
        prog="explore_vs_spin.py", description=__doc__, epilog=EXIT_CODES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument(
        "--configs", type=_configs, default=list(CONFIGS), metavar="LIST", help="of s, m, l, x (default all)"
    )
    p.add_argument(
        "--limit",
        type=_positive,
        metavar="S",
        help=f"seconds of each proof, SPIN's parts together (default 60; with --spin-x {X_SPIN_SECONDS})",
    )
    p.add_argument(
        "--spin-x", action="store_true", help="run SPIN on x as well: each of three models may take the limit"
    )
    p.add_argument("--mutants", action="store_true", help="measure each mutant's counterexample, too")
    p.add_argument("--mutants-on", choices=CONFIGS, default="x", help="the mutants' configuration (default x)")
    p.add_argument("--mutant-limit", type=_positive, default=60.0, metavar="S", help="seconds of each (default 60)")
    p.add_argument("--runs", type=_count, default=3, metavar="N", help="runs of what is fast; the median (default 3)")
    p.add_argument(
        "--memory-limit",
        type=_count,
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
