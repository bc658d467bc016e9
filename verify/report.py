"""Verdicts as text for people: one line a property, columns below what is violated, the bound in words once."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verify import page
from verify.command import STANDARD_OUTPUT, write_text
from verify.verdict import Exit, Result, Verdict, worst

#: what an exit code says
SAID = {
    Exit.OK: "all as expected, within the bound",
    Exit.VIOLATED: "a property is violated",
    Exit.UNDECIDED: "undecided",
    Exit.VACUOUS: "vacuous: a premise is never reached",
    Exit.DISAGREE: "a contradiction: see above",
    Exit.CRASHED: "a part of it crashed: see above",
}

#: where the notes on a verdict begin
_NOTES = 42
_CONFIRMED = {
    True: "replayed on the concrete model", False: "NOT confirmed by the concrete model", None: "reached; no trace is shown",
}  # fmt: skip


def line(verdict: Verdict) -> str:
    """One property's verdict as a line, or some where it has much to say."""
    notes = []
    if verdict.result is Result.HOLDS:
        notes.append(f"reachable: {'yes' if verdict.reachable else 'no'}")
    if verdict.result is Result.VIOLATED:
        notes.append(_CONFIRMED[verdict.replayed])
    if verdict.runs and not verdict.contradicted:
        notes.append(f"and {verdict.runs} random runs of the text itself")
    if verdict.reason:
        notes.append(verdict.reason)
    if verdict.expected is not None and verdict.result in (Result.HOLDS, Result.VIOLATED):
        notes.append(
            "as expected" if verdict.as_expected else f"CONTRADICTS what is recorded: {verdict.expected.value}"
        )
    if verdict.seconds:
        notes.append(f"{verdict.seconds:.1f} s")
    start = f"  {verdict.property:29} {verdict.result.value:9} "
    told = "; ".join(notes)
    if len(told) < 2 * (page.width() - _NOTES):
        return page.paragraph(told, start, " " * _NOTES).rstrip()
    return "\n".join([start.rstrip(), *page.fill(told, " " * 6)])


def heading(verdict: Verdict) -> str:
    """What was checked, and the bound."""
    first = f"{verdict.kernel}, {verdict.engine}, {verdict.memory_model}"
    return "\n".join([first, page.paragraph(f"bound: {verdict.bound}", "  ", "    "), *given(verdict.given)])


def given(said: Sequence[str]) -> list[str]:
    """What a verdict about C takes for granted, each in lines of its own."""
    return [page.paragraph(sentence, "  ", "    ") for sentence in said]


def not_checked(names: Sequence[str]) -> str:
    """What was left out after a violation, and how to have it too."""
    return page.paragraph(f"not checked: {', '.join(names)} (--property all checks them too)", "  ", "    ")


def as_json(verdicts: Sequence[Verdict], command: Sequence[str], interrupted: bool) -> dict[str, Any]:
    """The whole run as JSON values."""
    return {
        "schema": "straypage-verdicts-1",
        "command": list(command),
        "interrupted": interrupted,
        "exit": int(worst(verdicts)),
        "verdicts": [v.as_json() for v in verdicts],
    }


def write_json(path: str, record: Any) -> None:
    """Write JSON, in whole or not at all; what is no regular file is written to directly."""
    text = json.dumps(record, indent=2) + "\n"
    target = Path(path)
    if path == STANDARD_OUTPUT or (target.exists() and not target.is_file()):
        write_text(target, text)
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    write_text(part, text)
    part.replace(target)
