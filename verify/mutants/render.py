"""The matrix as text for a terminal and as Markdown for docs/mutants.md, which has no times so that it stays the same."""

from __future__ import annotations

from collections.abc import Sequence

from kernelmodel.versions.later_mutants import EVERY
from kernelmodel.versions.mutants import EQUIVALENT
from verify.mutants.matrix import BOUND, CONTROL_HISTORIES, FINITE, HISTORIES, SMALL_BOUND, Kill, Matrix, Row

_HEAD = f"{'mutant':36} {'breaks':30} {'random':>12} {'explore':>18} {'bmc':>14}"


def heading() -> str:
    """The head of the text table."""
    return f"{_HEAD}\n{'-' * len(_HEAD)}"


def line(row: Row) -> str:
    """One mutant as a line of text, with the others that it breaks, and what else is known, below."""
    shown = {k.engine: k for k in row.kills}
    cells = [_cell(shown.get("random"), row), _cell(shown.get("explore"), row), _cell(shown.get("bmc"), row)]
    text = f"{row.mutant:36} {row.expected:30} {cells[0]:>12} {cells[1]:>18} {cells[2]:>14}"
    others = [p for p in row.breaks if p != row.expected] + (["deadlock"] if row.deadlock else [])
    if others:
        text += f"\n    breaks also: {', '.join(others)}"
    for sentence in row.evidence:
        text += f"\n    {sentence}"
    if row.survives:
        text += "\n    SURVIVES, and should not"
    if row.wrongly_killed:
        text += "\n    KILLED, and should be equivalent"
    if row.undecided:
        text += f"\n    undecided: {row.undecided}"
    return text


def _cell(kill: Kill | None, row: Row) -> str:
    if kill is None:
        return "-"
    if kill.killed is None:
        return "undecided" if kill.judges else "not judged"
    if not kill.killed:
        return "holds" if row.expected == EQUIVALENT else f"no, {kill.seconds:.1f} s"
    length = f"{kill.steps} steps, " if kill.steps else ""
    return f"{length}{kill.seconds:.1f} s"


def summary(matrix: Matrix) -> str:
    """The reverse, and how many were killed."""
    lines = ["", "killed by one property alone:"]
    for prop, names in matrix.alone().items():
        lines.append(f"  {prop:30} {', '.join(names) or '-'}")
    mortal = [r for r in matrix.rows if r.expected != EQUIVALENT]
    controls = [r for r in matrix.rows if r.expected == EQUIVALENT]
    lines.append("")
    lines.append(f"{sum(r.killed for r in mortal)} of {len(mortal)} mutants killed; "
                 f"{sum(not r.wrongly_killed for r in controls)} of {len(controls)} controls equivalent")  # fmt: skip
    return "\n".join(lines)


def markdown(matrix: Matrix) -> str:
    """docs/mutants.md, and docs/later-mutants.md of later kernels."""
    kernels = list(dict.fromkeys(EVERY[r.mutant].of.name for r in matrix.rows)) or ["v5.11"]
    lines = ["# The kill matrix", "", *(_head() if kernels == ["v5.11"] else _later_head(kernels, matrix))]
    lines += [
        "",
        "| mutant | changes | breaks | random | explore | bmc | breaks also (explore) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in matrix.rows:
        shown = {k.engine: k for k in row.kills}
        others = [p for p in row.breaks if p != row.expected] + (["deadlock"] if row.deadlock else [])
        cells = [_mark(shown.get(e), row) for e in ("random", "explore", "bmc")]
        lines.append(
            f"| `{row.mutant}` | `{row.function}()`: {row.summary} | {row.expected} | {' | '.join(cells)} | {', '.join(others)} |"
        )
    lines += ["", "## What they take", ""]
    lines += [f"- `{r.mutant}`: {sentence}" for r in matrix.rows for sentence in r.evidence]
    lines += ["", "## Properties and the mutants that they kill", "", "| property | kills | alone |", "|---|---|---|"]
    alone = matrix.alone()
    for prop, names in matrix.breaking().items():
        lines.append(f"| {prop} | {_names(names)} | {_names(alone[prop])} |")
    lines += ["", "## The changes", ""]
    for row in matrix.rows:
        lines += [f"`{row.mutant}`", "```diff", EVERY[row.mutant].diff, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _head() -> list[str]:
    return [
        "Made by `python -m verify.mutants --markdown docs/mutants.md`; `make deep` checks that it is current. Each mutant is",
        "v5.11 with one function changed. A ✓ says that the engine breaks the property that the mutant is expected to break,",
        "explore with the number of steps and context switches of the shortest trace. These are chosen;",
        "[systematic-mutants.md](systematic-mutants.md) has every one-line change of the whole text, and",
        "[later-mutants.md](later-mutants.md) those of later kernels.",
        "",
        f"explore: {FINITE.bound()}; beside it the small configurations in which a changed text is searched (engines.md).",
        f"bmc: {BOUND.bound()}; for a mutant that needs a task which this lacks, that as well.",
        f"random: {HISTORIES} histories of `properties.stateful.DrainRace` among the tasks that the mutant takes and others,"
        f" always the same; {CONTROL_HISTORIES} of a control, with every property.",
    ]


def _later_head(kernels: Sequence[str], matrix: Matrix) -> list[str]:
    engines = dict.fromkeys(k.engine for r in matrix.rows for k in r.kills)
    command = " ".join([*(f"--kernel {k}" for k in kernels), *(f"--engine {e}" for e in engines)])
    return [
        f"Made by `python -m verify.mutants {command} --markdown docs/later-mutants.md`.",
        "Each mutant is the kernel before the colon with one function changed: those of v5.11 whose function it still has",
        "([mutants.md](mutants.md)), and changes of what is new in it. A ✓ says that the engine breaks the property that the",
        "mutant is expected to break, explore with the number of steps and context switches of the shortest trace.",
        "`python -m verify.bmc --mutant v6.11:no-drain` shows one.",
        "",
        "explore: 2 CPUs, 2 pages, one offline_pages(), one free, and an alloc or an update where the mutant takes one;",
        "without an alloc the small configurations beside it as well.",
        f"bmc: {SMALL_BOUND.bound()}; for a mutant that needs a task which this lacks, that as well.",
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "none"


def _mark(kill: Kill | None, row: Row) -> str:
    if kill is None:
        return ""
    if kill.killed is None:
        return "undecided" if kill.judges else "not judged"
    if not kill.killed:
        return "equivalent" if row.expected == EQUIVALENT else "not found"
    # a solver's trace is as long as the version of the solver makes it
    return "✓" if kill.switches is None else f"✓ {kill.steps} / {kill.switches}"
