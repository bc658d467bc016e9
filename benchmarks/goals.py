"""What is asked for, and whether what was measured is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rows import (
    ALL,
    BY_HAND,
    HOLDS,
    MUTANT_SECONDS,
    NOT_RUN,
    PAGEBLOCKS,
    SECONDS_GOALS,
    SOME,
    STATES_PER_SECOND,
    UNFINISHED,
    UNREDUCED,
    USUAL,
    VIOLATED,
    WITHOUT,
    X_MEGABYTES,
    X_SPIN_SECONDS,
    Goal,
    Row,
    number,
)


def goals(rows: Sequence[Row], mutants: Sequence[Row], limit: float, mutants_on: str = "x") -> list[Goal]:
    """Each goal, for each way in which explore was run."""
    at = {(r.config, r.tool): r for r in rows}
    suffixes = [s for s in ("", WITHOUT) if any(r.tool == ALL + s for r in rows)] or [""]
    found = []
    for config, seconds in SECONDS_GOALS.items():
        for tool in [t + s for s in suffixes for t in (ALL, SOME)]:
            if config not in USUAL and (config, tool) not in at:
                continue
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
                f"l: {UNREDUCED}{suffix}", f">= {STATES_PER_SECOND:,} states/s", number(rate, "states/s"),
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
