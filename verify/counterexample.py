"""A counterexample, whoever has found it: what it breaks, from where, by which steps, and whether the machine agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verify.columns import columns
from verify.trace import Replay, Start


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A trace that was run on the concrete machine, for people and for files.

    ``found`` is the broken property in words, or why the machine does not confirm it; ``text`` has the columns, ``schedule``
    the start and then each step as JSON values; ``replayed`` says that the concrete model violated the property too.
    """

    found: str
    text: str = ""
    schedule: tuple[Mapping[str, Any], ...] = ()
    replayed: bool = True

    @classmethod
    def of(cls, start: Start, replay: Replay, cpu: int | None) -> Counterexample:
        """What a replay has violated first; ``cpu``: whose lists the columns tell of, if of one CPU's alone."""
        violation = replay.violations[0]
        end = violation.step
        text = columns(start, replay.steps[:end], replay.accesses[:end], violation.found, cpu)
        return cls(violation.found, text, _schedule(start, replay))

    @classmethod
    def unconfirmed(cls, why: str) -> Counterexample:
        """What an engine took for a violation, and the concrete machine does not."""
        return cls(why, replayed=False)


def _schedule(start: Start, replay: Replay) -> tuple[dict[str, Any], ...]:
    steps = [
        {
            "step": s.number, "task": s.task, "cpu": s.cpu, "calls": list(s.stack), "operation": s.text,
            "returned": list(s.returned), "choices": dict(s.choices),
        }
        for s in replay.steps
    ]  # fmt: skip
    return ({"start": start.as_json()}, *steps)
