"""How wide what we print is: the terminal's width, 80 in a pipe, or ``--width``; text filled to it; a line of progress."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence

#: in a pipe, and the narrowest page: a kernel changelog has 72
IN_A_PIPE, NARROWEST = 80, 72
#: a terminal may be wider than what one reads with ease
_WIDEST = 120
#: a name or an expression too long for a line is cut after one of these
_CUTS = re.compile(r"->|[_(,./:]")

_chosen: list[int] = []


def choose(width: int) -> None:
    """From now on pages are that wide."""
    _chosen[:] = [width]


def width() -> int:
    """How many characters a line may have."""
    if _chosen:
        return _chosen[0]
    if not sys.stdout.isatty():
        return IN_A_PIPE
    return max(NARROWEST, min(_WIDEST, shutil.get_terminal_size((IN_A_PIPE, 24)).columns))


def fill(text: str, first: str = "", rest: str | None = None, room: int | None = None) -> list[str]:
    """``text`` as lines of at most ``room`` characters (the page's width), with indents for the first and the others.

    What is longer than a line is cut after an underscore, a bracket, a dot or an arrow, and anywhere if it has none.
    """
    room = width() if room is None else room
    rest = first if rest is None else rest
    lines: list[str] = []
    line, bare = first, True
    # the end of a comment stays with its last word
    for word in (w.replace("\0", " ") for w in text.replace(" */", "\0*/").split()):
        while True:
            gap = "" if bare else " "
            left = room - len(line) - len(gap)
            if len(word) <= left:
                line, bare = line + gap + word, False
                break
            if not bare:
                lines.append(line)
                line, bare = rest, True
                continue
            at = _cut(word, max(1, left))
            lines.append(line + word[:at])
            word, line = word[at:], rest
    return [*lines, line] if not bare or not lines else lines


def _cut(word: str, most: int) -> int:
    """Where a word is cut: after the last place that is good for that, if it is not near the beginning or the end."""
    good = [m.end() for m in _CUTS.finditer(word) if 3 < m.end() <= min(most, len(word) - 4)]
    return good[-1] if good else most


def paragraph(text: str, first: str = "", rest: str | None = None) -> str:
    """The same as one text."""
    return "\n".join(fill(text, first, rest))


def fit(text: str) -> str:
    """A text with lines of its own, of which those that are too long go on below, two characters further in."""
    lines: list[str] = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += [line] if len(line) <= width() else fill(line, indent, indent + "  ")
    return "\n".join(lines)


def row(cells: Sequence[str], wide: int) -> str:
    """Cells side by side, each column ``wide`` characters."""
    return "".join(c.ljust(wide) for c in cells).rstrip()


def progress(text: str) -> None:
    """Show on a terminal what is under way, in place of what was shown before; in a pipe nothing."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
