"""Options of the benchmarks."""

from __future__ import annotations

import argparse
import math
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rows import (
    CONFIGS,
)

EXIT_OK, EXIT_UNEXPECTED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def fail(text: str) -> NoReturn:
    """One clear line, and the exit code of bad options."""
    print(f"explore_vs_spin.py: {text}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        fail(message)


def configs_of(text: str) -> list[str]:
    names = text.split(",")
    unknown = [n for n in names if n not in CONFIGS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(CONFIGS)}")
    return list(dict.fromkeys(names))


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def count(text: str) -> int:
    value = positive(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def memory_for_all() -> int:
    """Three quarters of the memory that is available, in MB."""
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 3 // 4096
    return 4000
