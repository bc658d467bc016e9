"""Files that a command writes beside its text: the first counterexample as a trace, and as a page for a browser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from verify.command import write_text
from verify.html import render
from verify.replay.show import as_columns
from verify.report import as_json
from verify.tracefile import from_verdicts, play, save
from verify.verdict import Verdict


def unfolded(verdict: Verdict) -> str:
    """The columns of a verdict's counterexample with every step."""
    return as_columns(play(from_verdicts(as_json([verdict], sys.argv[1:], interrupted=False))), full=True)


def write_traces(verdicts: Sequence[Verdict], options: argparse.Namespace) -> None:
    """Write what --trace and --html ask for, if there is a counterexample."""
    wanted = options.trace or options.html
    if not wanted or not any(v.schedule for v in verdicts):
        return
    film = play(from_verdicts(as_json(verdicts, sys.argv[1:], interrupted=False)))
    if options.trace:
        save(film.recorded(), options.trace)
    if options.html:
        write_text(options.html, render(film))
