"""What was measured as text, and as a page."""

from __future__ import annotations

import os
import platform
import re
import shutil
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from asking import fail
from goals import goals
from processes import run
from rows import (
    ALL,
    BY_HAND,
    NOT_RUN,
    PAGEBLOCKS,
    ROOT,
    SOME,
    USUAL,
    VIOLATED,
    Goal,
    Row,
)

PERFORMANCE = ROOT / "docs" / "performance.md"
MARKERS = "explore_vs_spin"


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
        for config in USUAL:
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


def markers(name: str = MARKERS) -> tuple[str, str]:
    """What begins and ends a part of a page that is written by a program."""
    return f"<!-- begin: {name} -->", f"<!-- end: {name} -->"


def write_between_markers(path: Path, text: str, name: str = MARKERS) -> None:
    """Replace what stands between the markers of that name on a page."""
    page = path.read_text()
    begin, end = markers(name)
    if page.count(begin) != 1 or page.count(end) != 1:
        fail(f"{path.name} does not have the markers {begin} and {end}, once each")
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


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
