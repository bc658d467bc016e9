"""``python -m verify all``: every engine on one kernel, and a folder with all that they said."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from kernelmodel.errors import ModelError
from verify.command import command
from verify.options import (
    EXIT_CODES,
    Parser,
    add_kernel,
    add_scenario,
    add_scheduler,
    fail,
    files_are_here,
    kernel_of,
    positive_seconds,
)
from verify.scenario import option_of
from verify.suite.board import Board, say
from verify.suite.folder import begin, discard, finish, hang, prepare
from verify.suite.jobs import refuse, run
from verify.suite.plan import GROUPS, Plan, bounds_of, plan, races
from verify.suite.results import RACES, Results, gather, title
from verify.suite.traces import Gallery
from verify.tracefile import KernelSpec
from verify.verdict import Exit, Result

PROG = "python -m verify all"
#: what an exit code says of a whole run
SAID = {
    Exit.OK: "all as expected",
    Exit.VIOLATED: "a property is violated",
    Exit.UNDECIDED: "undecided",
    Exit.VACUOUS: "vacuous: a premise is never reached",
    Exit.DISAGREE: "a contradiction",
    Exit.CRASHED: "a part of it crashed",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="Runs every engine on one kernel (v5.11 if none is named), the kill matrix of the mutants, and a shortest "
        "race of each of them, and writes a folder: index.html to look at, verdicts.json, junit.xml, versions.json, "
        "commands.txt, traces/, smt2/.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_kernel(p)
    add_scenario(p, own=True)
    p.add_argument(
        "--out", metavar="DIR", help="the folder (default: straypage-run-DATE-TIME); it has to be new or empty"
    )
    p.add_argument("--only", action="append", choices=GROUPS, help="only this part of the suite (repeatable)")
    p.add_argument(
        "--quick", action="store_true",
        help="half a minute: 2 CPUs, 1 free and 1 alloc, mutants by explore alone, no races of mutants, no SMT-LIB",
    )  # fmt: skip
    p.add_argument(
        "--timeout", type=positive_seconds, metavar="S", help="each engine gives up after so many seconds: undecided"
    )
    p.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        metavar="N",
        help="commands at a time (default %(default)s)",
    )
    add_scheduler(p)
    p.add_argument("--quiet", action="store_true", help="print nothing but bad input; the exit code tells")
    return p


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.jobs < 1:
            raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
        kernel_of(options)
        files_are_here(options)
        bounds = bounds_of(options, options.quick)
        folder = prepare(options.out)
    except ModelError as error:
        fail(f"{PROG}: {error}")
    groups = (
        [g for g in GROUPS if g in options.only]
        if options.only
        else [g for g in GROUPS if g != RACES or not options.quick]
    )
    chosen = plan(
        KernelSpec.of(options),
        groups,
        folder,
        bounds,
        spread=options.spread,
        quick=options.quick,
        timeout=options.timeout,
        smt2=not options.scheduler,
    )
    command = _words(options, bounds)
    began, when = time.monotonic(), time.strftime("%Y-%m-%d %H:%M")
    try:
        made = begin(folder, chosen, command)
        console = Console(quiet=options.quiet, highlight=False)
        if not options.quiet:
            say(f"{title(chosen.spec)}: {', '.join(groups)}")
        with Board(chosen.jobs, console, totals(chosen), plain=not options.quiet) as board:
            if options.scheduler:
                # takes a while to import, and is not always there
                from verify.suite.elsewhere import run_elsewhere

                interrupted = run_elsewhere(chosen.jobs, options.scheduler, board.watch)
            else:
                interrupted = run(chosen.jobs, options.jobs, board.watch)
        answers = [job.answer() for job in chosen.jobs]
        refuse(answers)
        results = gather(chosen.spec, answers, interrupted)
        gallery = hang(folder, results)
        results.problems += gallery.problems
        words = f"{when}, {time.monotonic() - began:.0f} s, Python {made['python']}, z3 {made['packages']['z3-solver']}"
        finish(folder, chosen, results, gallery, made, words, command)
    except ModelError as error:
        discard(folder)
        fail(f"{PROG}: {error}")
    except OSError as error:
        fail(f"{PROG}: cannot write {error.filename or folder}: {error.strerror}")
    if not options.quiet:
        _tell(folder, results, gallery)
    return int(results.code)


def totals(chosen: Plan) -> dict[str, int]:
    """How many verdicts each row of the table is to have."""
    return {**{g: len(names) for g, names in chosen.wanted.items()}, RACES: len(races())}


def _words(options: argparse.Namespace, bounds: dict[str, int]) -> list[str]:
    """The command as it could be given again."""
    spec = KernelSpec.of(options)
    words = [*shlex.split(spec.options)]
    for name, number in bounds.items():
        words += [option_of(name), str(number)]
    words += [f"--{flag}" for flag in ("spread", "quick") if getattr(options, flag)]
    for group in options.only or []:
        words += ["--only", group]
    return words + (["--timeout", f"{options.timeout:g}"] if options.timeout else [])


def _tell(folder: Path, results: Results, gallery: Gallery) -> None:
    """What a reader of the terminal needs next: what is wrong, and where everything is."""
    for verdict in results.verdicts:
        if verdict.result in (Result.HOLDS, Result.PROVED, Result.NOT_APPLICABLE) and not verdict.contradicted:
            continue
        written = gallery.find(verdict)
        detail = str(folder / "traces" / f"{written.stem}.txt") if written and not written.problem else verdict.reason
        detail = "NOT confirmed by the concrete model" if verdict.replayed is False else detail.split("; ")[0]
        say(f"  {verdict.result.value:10} {verdict.engine:8} {verdict.property:30} {detail}".rstrip())
    for row in results.rows:
        if row["survives"]:
            say(f"  {row['mutant']:30} survives, and should break {row['expected']}")
    for trouble in [*results.failures(), *results.problems]:
        say(f"  {trouble}")
    say(f"\n{folder / 'index.html'}")
    said = "a mutant survives" if results.code is Exit.VIOLATED and not results.broken() else SAID[results.code]
    say(f"exit {int(results.code)}: {said}")


if __name__ == "__main__":
    raise SystemExit(main())
