"""Cuts a recorded trace down to one window, the shortest with some frees in it: ``python tools/trim_trace.py IN OUT.gz``.

Kept are what the recorder said, the offlining from its entry to its return, and nothing else: what was on the lists before is
unknown to the checker anyway.  How the traces in tests/data were made stands in tests/data/README.md.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from verify.observe.events import lines_of

#: a window with fewer frees says little
FREES = 20


def trimmed(lines: list[str]) -> list[str]:
    """The lines that are kept; ValueError where no offlining is complete and says something."""
    windows: list[tuple[int, int]] = []
    begin: int | None = None
    enabled, frees = False, 0
    for number, line in enumerate(lines):
        if ": pages: " in line or (": offline: " in line and begin is None):
            begin, enabled, frees = number, False, 0
        elif ": pcp_enable: " in line:
            enabled = True
        elif ": commit: " in line and not enabled:
            frees += 1
        elif ": offline_r: " in line and begin is not None and enabled:
            if frees >= FREES:
                windows.append((begin, number + 1))
            begin = None
    if not windows:
        raise ValueError(f"no offlining from its entry to its return with {FREES} frees in it")
    first, last = min(windows, key=lambda w: w[1] - w[0])
    said = [line for line in lines if line.startswith("# straypage:")]
    return [*said, *lines[first:last]]


def main(source: str, target: str) -> None:
    """Cut one file."""
    text = "".join(trimmed(list(lines_of(source))))
    # the same bytes whenever it is done
    Path(target).write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
