"""The tools as processes: verify.explore, and SPIN on a model by hand and on one that is exported."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import Process, run
from rows import (
    FAILED,
    HAND,
    HOLDS,
    NO_MEMORY,
    ROOT,
    UNFINISHED,
    VIOLATED,
    Config,
    Row,
)

if TYPE_CHECKING:
    from verify.explore.model import Model


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


def exported(config: Config, reduced: bool, kernel: str = "v5.11") -> str:
    """Our model for SPIN, of a kernel with all properties."""
    from kernelmodel.kernels import KERNELS
    from properties.catalogue import PROPERTIES
    from verify.explore.finite import Finite
    from verify.explore.model import Model
    from verify.explore.promela import promela
    from verify.scenario import Scenario

    scenario = Scenario(cpus=config.cpus, frees=config.frees, allocs=config.allocs)
    text = KERNELS[kernel]
    model = Model(text, Finite(scenario, config.pages), [p for p in PROPERTIES.values() if p.applies_to(text)])
    return reduced_promela(model) if reduced else promela(model)


def expressible() -> set[str]:
    """The mutants that the hand-written model has."""
    return {name.replace("_", "-") for name in re.findall(r"\bMUTANT_(\w+)", HAND.read_text())}


def median_row(measure: Callable[[], Row], runs: int) -> Row:
    """The row of median time of some runs; what takes long is run once, for noise matters less there."""
    rows = [measure()]
    while len(rows) < runs and rows[0].finished and (rows[0].seconds or 0) < 10:
        rows.append(measure())
    times = [r.seconds or 0.0 for r in rows]
    middle = statistics.median_low(times)
    return replace(rows[times.index(middle)], runs=len(rows))


def say(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}\r", end="", file=sys.stderr, flush=True)
