"""A command of an engine under way: verdicts are shown as they come, kept whatever comes, and written at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verify import page
from verify.folding import columns_of
from verify.options import fail
from verify.report import SAID, as_json, heading, line, not_checked, write_json
from verify.verdict import Exit, Verdict, worst


@dataclass(slots=True)
class Run:
    """What was decided so far, and how it is shown: ``program`` is the command, ``arguments`` what was typed after it."""

    program: str
    options: argparse.Namespace
    arguments: Sequence[str]
    said: Mapping[Exit, str] = field(default_factory=lambda: SAID)
    verdicts: list[Verdict] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a line that a quiet command leaves out."""
        if not self.options.quiet:
            print(text)

    def progress(self, text: str) -> None:
        """Show on a terminal what is under way; in a pipe nothing."""
        if not self.options.quiet:
            page.progress(text)

    def take(self, verdict: Verdict, headed: bool = True) -> Verdict:
        """Keep a verdict and show it, with its columns; before the first, if ``headed``, what all are about."""
        self.progress("")
        if headed and not self.verdicts:
            self.say(heading(verdict))
        self.verdicts.append(verdict)
        if not self.options.quiet or verdict.told:
            print(line(verdict), flush=True)
        if verdict.trace:
            print("\n" + columns_of(verdict, self.options.full) + "\n", flush=True)
        return verdict

    def left_out(self, names: Sequence[str]) -> None:
        """Say what is not checked after a violation."""
        if names:
            self.say(not_checked(names))

    def interrupted(self, of: int | None = None) -> None:
        """Say that Ctrl-C ended it, after how many of so many properties."""
        after = f" after {len(self.verdicts)} of {of} properties" if of else ""
        print(f"\n{self.program}: interrupted{after}; what was decided is kept", file=sys.stderr)

    def code(self, interrupted: bool) -> Exit:
        """The exit code of what was decided."""
        return max(worst(self.verdicts), Exit.UNDECIDED) if interrupted else worst(self.verdicts)

    def write(self, code: Exit, interrupted: bool, **more: Any) -> None:
        """Write the files that were asked for; ``more`` is in the JSON too."""
        try:
            if self.options.json:
                record = as_json(self.verdicts, self.arguments, interrupted)
                write_json(self.options.json, {**record, "exit": int(code), **more})
            if self.options.trace or self.options.html:
                # brings the concrete machine and more: only for those who ask
                from verify.output import write_traces

                write_traces(self.verdicts, self.options)
        except OSError as error:
            self.cannot_write(error)

    def cannot_write(self, error: OSError) -> None:
        """Leave with one line about a file."""
        fail(f"python -m verify.{self.program}: cannot write {error.filename}: {error.strerror}")

    def end(self, code: Exit) -> int:
        """Say what the exit code means."""
        self.say(f"exit {int(code)}: {self.said[code]}")
        return int(code)
