"""What is going on: a table that lives on a terminal, one line for each engine that has ended in a pipe."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from verify.suite.jobs import Job, State
from verify.suite.results import MUTANTS as MATRIX
from verify.suite.results import RACES, told
from verify.verdict import Result

#: a verdict in what an engine prints (verify.report.line); the results themselves are read from its JSON
_SAID = re.compile(rf"  (\w+) +({'|'.join(r.value for r in Result)})\b")
_COLOUR = {"violated": "bold red", "undecided": "yellow", "vacuous": "yellow"}
_EVERY = 0.12


class Board:
    """One row for each group of jobs; ``watch`` is what verify.suite.jobs.run calls."""

    def __init__(
        self,
        jobs: Sequence[Job],
        console: Console,
        total: Mapping[str, int],
        transient: bool = False,
        plain: bool = True,
    ) -> None:
        """``total`` says how many verdicts a row is to have; ``plain``: print lines where there is no terminal."""
        self.rows: dict[str, list[Job]] = {}
        for job in jobs:
            self.rows.setdefault(job.group, []).append(job)
        self.console, self.total = console, total
        self.alive = console.is_terminal and not console.is_dumb_terminal
        self.plain = plain and not self.alive
        self._told: set[str] = set()
        self._last = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=transient) if self.alive else None

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.update(self.table(), refresh=True)
            self._live.stop()

    def watch(self) -> None:
        """Show what is new."""
        if self._live:
            if time.monotonic() - self._last > _EVERY:
                self._last = time.monotonic()
                self._live.update(self.table(), refresh=True)
            return
        for group, jobs in self.rows.items():
            if self.plain and group not in self._told and all(j.state is State.DONE for j in jobs):
                self._told.add(group)
                say(f"  {group:14} {self.tally(group)}; {seconds(jobs)}")

    def table(self) -> Table:
        """The table as it stands."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        for group, jobs in self.rows.items():
            state = state_of(jobs)
            mark = {State.WAITING: Text("·", "dim"), State.RUNNING: Text("▸", "cyan"), State.DONE: Text("✓", "green")}[
                state
            ]
            if state is State.DONE and any(j.stopped or j.code not in (0, 1) for j in jobs):
                mark = Text("!", "yellow")
            tally = Text(self.tally(group) if state is not State.WAITING else "waiting")
            for word, colour in _COLOUR.items():
                tally.highlight_regex(rf"\d+ {word}", colour)
            latest = self.latest(group) if state is State.RUNNING else ""
            table.add_row(mark, group, tally, "" if state is State.WAITING else seconds(jobs), latest)
        return table

    def said(self, group: str) -> list[tuple[str, str]]:
        """(property or mutant, result) of what has been printed so far."""
        found = []
        for job in self.rows[group]:
            if group == RACES:
                found += [(job.name, "found" if job.code == 1 else "not found")] if job.state is State.DONE else []
                continue
            for line in job.lines():
                verdict = _SAID.match(line)
                if group != MATRIX and verdict:
                    found.append((verdict[1], verdict[2]))
                elif group == MATRIX and line.split(" ")[0] in MUTANTS:
                    found.append((line.split(" ")[0], "decided"))
        return found

    def tally(self, group: str) -> str:
        """How many of which result, in words."""
        if group == MATRIX and state_of(self.rows[group]) is State.DONE:
            return matrix_words((self.rows[group][0].answer().record or {}).get("rows", []))
        said = self.said(group)
        counts = Counter(result for _, result in said)
        words = told(counts)
        total = self.total.get(group, 0)
        if len(said) < total:
            return f"{len(said)} of {total}" + (f": {words}" if words else "")
        return words or "nothing decided"

    def latest(self, group: str) -> str:
        """What came last."""
        said = self.said(group)
        return " ".join(said[-1]) if said else ""


def say(line: str) -> None:
    """Print a line; whoever read our output and went away does not end what is under way."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def matrix_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """The kill matrix in words."""
    mortal = [r for r in rows if r["expected"] != EQUIVALENT]
    words = [f"{sum(r['killed'] for r in mortal)} of {len(mortal)} killed"] if mortal else []
    if controls := [r for r in rows if r["expected"] == EQUIVALENT]:
        words.append(
            f"{sum(not (r['killed'] or r['breaks']) for r in controls)} of {len(controls)} controls equivalent"
        )
    return ", ".join(words) or "nothing decided"


def state_of(jobs: Sequence[Job]) -> State:
    """Where a group stands."""
    if all(j.state is State.DONE for j in jobs):
        return State.DONE
    return State.WAITING if all(j.state is State.WAITING for j in jobs) else State.RUNNING


def seconds(jobs: Sequence[Job]) -> str:
    """The time that a group's processes took."""
    return f"{sum(j.seconds for j in jobs):.1f} s"
