"""How time and states grow with CPUs and with tasks: verify.explore, verify.bmc and SPIN on the model by hand.

    python benchmarks/growth.py            # measure: docs/growth.json, and draw docs/growth.png
    python benchmarks/growth.py --plot     # draw it again from docs/growth.json

All three decide the properties that the hand-written model asserts.  What takes longer than --limit counts as not
finished, and larger points of that line are not tried.  The picture needs matplotlib: pip install 'straypage[plots]'.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

# the sibling: benchmarks/ is no package, and its folder is on the path when a script in it is run
sys.path.insert(0, str(Path(__file__).resolve().parent))

from asking import Parser, count, memory_for_all, positive
from processes import run
from programs import explore, explore_row, missing, say, spin_row
from rows import CONFIGS, FAILED, HAND, HOLDS, NO_MEMORY, ROOT, SPINS_PROPERTIES, UNFINISHED, Config
from tables import machine

DATA, PICTURE = ROOT / "docs" / "growth.json", ROOT / "docs" / "growth.png"
EXIT_CODES = """exit codes:
  0  done; without SPIN's line where spin or gcc is missing
  1  a verdict is not the expected one, or a process failed
  2  bad options, or matplotlib is missing
"""
EXPLORE, BMC, SPIN = "explore", "bmc", "SPIN"
LINES = (EXPLORE, BMC, SPIN)


def _tasks(frees: int, allocs: int, cpus: int = 2) -> Config:
    return Config(cpus, frees + 1, frees, allocs)


#: axis -> (what stands under it, its points: a label and a configuration)
AXES: dict[str, tuple[str, list[tuple[str, Config]]]] = {
    "cpus": ("CPUs (2 frees, 2 allocs)", [(str(n), _tasks(2, 2, n)) for n in range(1, 7)]),
    "tasks": (
        "frees + allocs (2 CPUs)",
        [(f"{f} + {a}", _tasks(f, a)) for f, a in ((1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4))],
    ),
    "both": ("CPUs and tasks: the configurations of the table", list(CONFIGS.items())),
}


@dataclass(slots=True)
class Point:
    """One configuration, decided by one tool; without seconds it was not tried."""

    axis: str
    label: str
    tool: str
    outcome: str
    seconds: float | None = None
    states: int | None = None


def _bmc(axis: str, label: str, config: Config, limit: float) -> Point:
    chosen = [x for p in SPINS_PROPERTIES for x in ("--property", p)]
    # the pages are not a parameter: lists of any length are covered
    options = ["--cpus", config.cpus, "--frees", config.frees, "--allocs", config.allocs]
    command = [sys.executable, "-m", "verify.bmc", "--kernel", "v5.11", "--quiet", *map(str, options), *chosen]
    process = run([*command, "--timeout", f"{limit:g}"], limit + 5, ROOT)
    outcome = {0: HOLDS, 3: UNFINISHED}.get(process.code, UNFINISHED if process.timed_out else FAILED)
    return Point(axis, label, BMC, outcome, process.seconds)


def _explore(axis: str, label: str, config: Config, limit: float, memory: int) -> Point:
    chosen = [x for p in SPINS_PROPERTIES for x in ("--property", p)]
    process, record = explore(["--quiet", *config.options(), *chosen], limit, memory)
    row = explore_row(label, EXPLORE, process, record)
    return Point(axis, label, EXPLORE, row.outcome, row.seconds, row.states)


def _spin(axis: str, label: str, config: Config, limit: float, memory: int) -> Point:
    row = spin_row(label, SPIN, HAND, config.defines(), limit, memory)
    return Point(axis, label, SPIN, row.outcome, row.seconds, row.states)


def measure(options: argparse.Namespace, with_spin: bool) -> list[Point]:
    """Every point, until one does not finish: larger ones of that tool and axis are not tried."""
    limit, memory = options.limit, options.memory_limit or memory_for_all()
    how: dict[str, Callable[[str, str, Config], Point]] = {
        EXPLORE: partial(_explore, limit=limit, memory=memory),
        BMC: partial(_bmc, limit=limit),
    }
    if with_spin:
        how[SPIN] = partial(_spin, limit=limit, memory=memory)
    points = []
    for axis, (_, configs) in AXES.items():
        for tool, decide in how.items():
            for label, config in configs:
                say(f"{axis} {label}: {tool}")
                point = decide(axis, label, config)
                points.append(point)
                states = "" if point.states is None else f"{point.states:,}"
                print(f"{axis:6} {label:6} {tool:8} {point.seconds:8.2f} s {states:>14}  {point.outcome}", flush=True)
                if point.outcome != HOLDS:
                    break
    say("")
    return points


# --- the picture ---

#: colours that differ in lightness too, and markers, so that it can be read in grey
_STYLES = {EXPLORE: ("#0b5fa5", "o"), BMC: ("#2a9d55", "s"), SPIN: ("#d1582a", "^")}
_LEGEND = {
    EXPLORE: "verify.explore",
    BMC: "verify.bmc (all values of high, batch and list lengths; no states)",
    SPIN: "SPIN, model by hand (with gcc)",
}


def draw(record: dict[str, Any], path: Path) -> None:
    """The picture: time above states; CPUs, tasks, and both."""
    try:
        import matplotlib
    except ImportError:
        print("growth.py: the picture needs matplotlib: pip install 'straypage[plots]'", file=sys.stderr)
        raise SystemExit(2) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    points = [Point(**p) for p in record["points"]]
    figure, panels = pyplot.subplots(2, len(AXES), figsize=(15, 7.6), sharex="col", sharey="row", layout="constrained")
    for column, (axis, (title, configs)) in enumerate(AXES.items()):
        labels = [label for label, _ in configs]
        for row, what in enumerate(("seconds", "states")):
            panel = panels[row][column]
            for tool in LINES:
                mine = [p for p in points if (p.axis, p.tool) == (axis, tool) and getattr(p, what) is not None]
                # a process may need a moment more to stop at its limit
                most = record["limit"] if what == "seconds" else math.inf
                marks = [(labels.index(p.label), min(getattr(p, what), most), p.outcome == HOLDS) for p in mine]
                _line(panel, marks, tool, what)
            panel.set_yscale("log")
            panel.set_xticks(range(len(labels)), labels)
            panel.grid(True, which="major", color="#d9d9d9", linewidth=0.7)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
            if what == "seconds":
                panel.yaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
                panel.axhline(record["limit"], color="#777777", linestyle="--", linewidth=1)
                panel.text(
                    0, record["limit"] * 1.08, f"limit {record['limit']:g} s", color="#555555", va="bottom", fontsize=9
                )
            else:
                panel.set_xlabel(title, fontsize=11)
    # one scale for the row, which the panel that is drawn first must not choose
    panels[0][0].set_ylim(0.8 * min(p.seconds for p in points if p.seconds), record["limit"] * 1.7)
    panels[0][0].set_ylabel("seconds, whole process", fontsize=11)
    panels[1][0].set_ylabel("states", fontsize=11)
    handles, names = panels[0][0].get_legend_handles_labels()
    empty = Line2D([], [], color="#555555", marker="o", markerfacecolor="white", linestyle="")
    figure.legend(
        [*handles, empty],
        [*names, "hollow: not finished (states: so far)"],
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=10,
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _line(panel: Any, marks: list[tuple[int, float, bool]], tool: str, what: str) -> None:
    colour, marker = _STYLES[tool]
    label = _LEGEND[tool] if what == "seconds" else None
    full, hollow = [m for m in marks if m[2]], [m for m in marks if not m[2]]
    # how many states there are is not known where a search did not finish: its line does not lead there
    joined = marks if what == "seconds" else full
    panel.plot([x for x, _, _ in joined], [y for _, y, _ in joined], color=colour, linewidth=1.6, zorder=2)
    # an empty line too, for the legend
    panel.plot([], [], color=colour, marker=marker, linewidth=1.6, label=label)
    panel.plot([m[0] for m in full], [m[1] for m in full], marker, color=colour, markersize=6, zorder=3)
    panel.plot([m[0] for m in hollow], [m[1] for m in hollow], marker, color=colour, markerfacecolor="white", zorder=4)


# --- the command ---


def parser() -> Parser:
    """The command line."""
    assert __doc__
    p = Parser(
        prog="growth.py", description=__doc__, epilog=EXIT_CODES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--limit", type=positive, default=60.0, metavar="S", help="seconds of each point (default 60)")
    p.add_argument(
        "--memory-limit", type=count, metavar="MB", help="of each process (default: 3/4 of what is available)"
    )
    p.add_argument("--plot", action="store_true", help="measure nothing; draw docs/growth.json")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    code = 0
    if not options.plot:
        absent = missing()
        if absent:
            print(f"{' and '.join(absent)} missing: no line for SPIN; apt install spin gcc")
        about = machine()
        points = measure(options, not absent)
        record = {
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "machine": about, "limit": options.limit,
            "points": [asdict(p) for p in points],
        }  # fmt: skip
        DATA.write_text(json.dumps(record, indent=1) + "\n")
        code = 1 if any(p.outcome not in (HOLDS, UNFINISHED, NO_MEMORY) for p in points) else 0
    try:
        record = json.loads(DATA.read_text())
        [Point(**p) for p in record["points"]]
    except (OSError, ValueError, KeyError, TypeError):
        print(f"growth.py: {DATA.name} is missing, or not what this program writes", file=sys.stderr)
        return 2
    draw(record, PICTURE)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
