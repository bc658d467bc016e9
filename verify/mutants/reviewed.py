"""Reasons why a mutant may survive, written by people: each holds for one text, and is lost with it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.errors import ModelError
from verify.mutants.judge import SURVIVES, UNREACHED, Record

#: a mutant changes nothing that matters; or it does, and no property sees it yet
EQUIVALENT, GAP = "equivalent", "gap"
FILE = Path(__file__).with_name("reviewed.toml")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one mutant survives; ``digest`` tells the text for which that was said.

    Without a digest it speaks of a routine, ``name``, to which no task of the engines comes.
    """

    name: str
    digest: str
    verdict: str
    reason: str


def reason_of(record: Record, known: Mapping[str, Reason]) -> Reason | None:
    """What is written of a mutant that is not killed: of its very text, or of its routine if nobody comes to that."""
    if record.status not in (SURVIVES, UNREACHED):
        return None
    of_routine = known.get(record.name.partition("/")[0]) if record.status == UNREACHED else None
    return known.get(record.digest, of_routine)


def reasons(file: Path = FILE) -> dict[str, Reason]:
    """The reasons in a file, by digest or routine; ModelError if it cannot be read as that."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        found = [
            Reason(str(e["name"]), str(e["digest"]), str(e["verdict"]), str(e["reason"]))
            for e in content.get("reviewed", [])
        ]
        found += [Reason(str(e["name"]), "", GAP, str(e["reason"])) for e in content.get("not_reached", [])]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read as reasons of survivors: {error}") from error
    for r in found:
        if r.verdict not in (EQUIVALENT, GAP) or not r.reason.strip():
            raise ModelError(f"{file}: {r.name}: give a verdict ({EQUIVALENT} or {GAP}) and a reason")
    return {r.digest or r.name: r for r in found}
