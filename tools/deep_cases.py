"""``python tools/deep_cases.py DURATIONS``: writes tests/deep_cases.txt, the cases that `make test` leaves to `make deep`.

DURATIONS is what ``pytest -n 2 -m "not deep" --durations=0 --durations-min=0.1`` printed.  Of the cases of one test the quickest
stay, up to so many seconds in all and at least one; a test that is one case stays unless it alone takes long.  What was left
out before stays out: the file is read, and added to.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

CASES = Path(__file__).resolve().parent.parent / "tests" / "deep_cases.txt"
_LINE = re.compile(r"\s*([\d.]+)s call\s+(tests/\S.*?)\s*$")
#: seconds for the cases of one test, and for a test of one case
FAMILY, ALONE = 2.0, 20.0
#: what is run each time, however long it takes: random histories of the patch, and graphs against the text itself
KEPT = frozenset((
    "tests/test_stateful.py::test_the_patch_survives_random_histories_which_reach_every_property",
    "tests/test_front_end.py::test_graphs_say_what_python_does",
))  # fmt: skip


def listed(file: Path) -> set[str]:
    """The cases that a file names, comments aside."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def durations(lines: Iterator[str]) -> dict[str, dict[str, float]]:
    """The seconds of each case, by the test that it is of."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if m := _LINE.match(line):
            found[m[2].partition("[")[0]][m[2]] = float(m[1])
    return found


def left_out(found: Mapping[str, Mapping[str, float]], family: float, alone: float) -> Iterator[str]:
    """The cases that take too long."""
    for test, cases in found.items():
        spent = 0.0
        for n, (case, seconds) in enumerate(sorted(cases.items(), key=lambda c: c[1])):
            most = alone if case == test else family
            if (n or case == test) and spent + seconds > most:
                yield case
            else:
                spent += seconds


def main() -> int:
    """Write the file; how many cases and seconds that leaves out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("durations", type=argparse.FileType())
    parser.add_argument("--family", type=float, default=FAMILY)
    parser.add_argument("--alone", type=float, default=ALONE)
    options = parser.parse_args()
    with options.durations as lines:
        found = durations(lines)
    head = [line for line in CASES.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    new = set(left_out(found, options.family, options.alone)) - KEPT
    CASES.write_text("\n".join([*head, *sorted(listed(CASES) | new)]) + "\n", encoding="utf-8")
    seconds = {case: s for cases in found.values() for case, s in cases.items()}
    print(
        f"{len(new)} of {len(seconds)} cases, {sum(seconds[c] for c in new):.0f} of {sum(seconds.values()):.0f} seconds"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
