"""Files that a command writes beside its text: the first counterexample as a trace, and as a page for a browser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from verify.command import write_text
from verify.html import render
from verify.replay.show import as_columns
from verify.tracefile import of_verdict, play, save
from verify.verdict import Result, Verdict


def unfolded(verdict: Verdict) -> str:
    """The columns of a verdict's counterexample with every step."""
    return as_columns(play(of_verdict(verdict)), full=True)


def write_traces(verdicts: Sequence[Verdict], options: argparse.Namespace) -> None:
    """Write what --trace and --html ask for, if there is a counterexample."""
    wanted = options.trace or options.html
    first = next((v for v in verdicts if v.result is Result.VIOLATED and v.schedule), None)
    if not wanted or first is None:
        return
    film = play(of_verdict(first))
    if options.trace:
        save(film.recorded(), options.trace)
    if options.html:
        write_text(options.html, render(film))
