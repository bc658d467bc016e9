"""The options of a systematic run, apart from what it takes to run one."""

from __future__ import annotations

import argparse


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of a systematic run."""
    p.add_argument(
        "--systematic", action="store_true",
        help="instead: every one-line mutant of the kernel's whole text, or with --tree of its C: each killed, the same, or"
        " a survivor",
    )  # fmt: skip
    p.add_argument(
        "--kernel", action="append", metavar="NAME", help="mutants of this kernel (default v5.11; repeatable)"
    )  # fmt: skip
    p.add_argument(
        "--of",
        action="append",
        default=[],
        metavar="ROUTINE",
        help="with --systematic: only of this routine (repeatable)",
    )
    p.add_argument(
        "--resume",
        metavar="FILE",
        help="with --systematic: keep each result in FILE, and do not ask again what is there",
    )
