# PYTHON_ARGCOMPLETE_OK
"""``python -m verify`` and ``straypage``: the verbs in one screen, and each of them."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from verify.command import command
from verify.options import fail
from verify.suite.completion import complete
from verify.suite.overview import VERBS, overview
from verify.verdict import Exit


@command("python -m verify")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb, or say what there is; returns the exit code."""
    complete()
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = "straypage" if Path(sys.argv[0]).stem == "straypage" else "python -m verify"
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(program))
        return int(Exit.OK)
    verb, *rest = words
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1, 0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(VERBS)}"
        fail(f"{program}: unknown verb {verb!r}: {hint}")
    # engines write their own command line into what they record
    before, sys.argv = sys.argv, [sys.argv[0], *rest]
    try:
        return VERBS[verb].main(rest)
    finally:
        sys.argv = before


if __name__ == "__main__":
    raise SystemExit(main())
