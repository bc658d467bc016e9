"""A counterexample as files: the trace to run again, the columns for a mail, and the page for a browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.errors import ModelError
from verify.html import render, thumbnail
from verify.trace import MismatchError
from verify.tracefile import of_verdict, play, save
from verify.verdict import Result, Verdict


@dataclass(frozen=True, slots=True)
class Written:
    """A counterexample in a folder; ``length`` in words; ``problem`` says why it is not there, if it is not.

    ``picture`` is the race as an SVG element.
    """

    stem: str
    length: str
    problem: str = ""
    picture: str = ""


def has_trace(verdict: Verdict) -> bool:
    """Whether there is a counterexample that can be run again."""
    return verdict.result is Result.VIOLATED and bool(verdict.schedule) and verdict.replayed is True


def length(verdict: Verdict) -> str:
    """How long a counterexample is, in words; context switches where the engine looked for few."""
    switches = verdict.statistics.get("context_switches")
    words = [count(steps_of(verdict), "step"), *([] if switches is None else [count(switches, "context switch")])]
    return ", ".join(words)


def count(n: int, what: str) -> str:
    """``n`` of something in words."""
    return f"{n} {what}{'' if n == 1 else 'es' if what.endswith('ch') else 's'}"


def steps_of(verdict: Verdict) -> int:
    """The number of steps of a counterexample; its schedule begins with the start."""
    return max(0, len(verdict.schedule) - 1)


def write(verdict: Verdict, folder: Path, stem: str) -> Written:
    """Write ``stem`` with .json, .txt and .html; the trace is run once more for it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        film = play(of_verdict(verdict))
        save(film.recorded(), str(folder / f"{stem}.json"))
        (folder / f"{stem}.txt").write_text(as_text(verdict), encoding="utf-8")
        (folder / f"{stem}.html").write_text(render(film), encoding="utf-8")
    except (MismatchError, ModelError) as error:
        return Written(stem, length(verdict), str(error))
    if film.violation is None:
        return Written(stem, length(verdict), f"run again, it does not violate {verdict.property}")
    return Written(stem, length(verdict), picture=thumbnail(film))


def as_text(verdict: Verdict) -> str:
    """The columns with a heading."""
    return f"{verdict.kernel}, {verdict.property}, found by {verdict.engine}, {length(verdict)}\n\n{verdict.trace}\n"


class Gallery:
    """The counterexamples of a run in one folder; one that two engines share is written once."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written before there is a counterexample."""
        self.folder = folder
        self.pieces: dict[tuple[str, str, str], Written] = {}
        self._seen: dict[tuple[str, str, str], Written] = {}

    def add(self, verdict: Verdict, stem: str) -> Written | None:
        """Write a verdict's counterexample, if it has one."""
        if not has_trace(verdict):
            return None
        what = (verdict.kernel, verdict.property, repr([_exact(s) for s in verdict.schedule]))
        if what not in self._seen:
            self._seen[what] = write(verdict, self.folder, stem)
        made = self._seen[what]
        self.pieces[verdict.kernel, verdict.engine, verdict.property] = made
        return made

    def find(self, verdict: Verdict) -> Written | None:
        """Where a verdict's counterexample is."""
        return self.pieces.get((verdict.kernel, verdict.engine, verdict.property))

    @property
    def problems(self) -> list[str]:
        """Counterexamples that could not be run again."""
        return [f"{w.stem}: {w.problem}" for w in dict.fromkeys(self._seen.values()) if w.problem]


def _exact(step: Mapping[str, object]) -> object:
    return step.get("start") or (step.get("task"), step.get("cpu"), step.get("choices"))
