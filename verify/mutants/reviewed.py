"""Reasons why a mutant may survive, written by people: each holds for one text, and is lost with it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.errors import ModelError

#: a mutant changes nothing that matters; or it does, and no property sees it yet
EQUIVALENT, GAP = "equivalent", "gap"
FILE = Path(__file__).with_name("reviewed.toml")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one mutant survives; ``digest`` tells the text for which that was said."""

    name: str
    digest: str
    verdict: str
    reason: str


def reasons(file: Path = FILE) -> dict[str, Reason]:
    """The reasons in a file, by digest; ModelError if it cannot be read as that."""
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("reviewed", [])
        found = [Reason(str(e["name"]), str(e["digest"]), str(e["verdict"]), str(e["reason"])) for e in entries]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read as reasons of survivors: {error}") from error
    for r in found:
        if r.verdict not in (EQUIVALENT, GAP) or not r.reason.strip():
            raise ModelError(f"{file}: {r.name}: give a verdict ({EQUIVALENT} or {GAP}) and a reason")
    return {r.digest: r for r in found}
