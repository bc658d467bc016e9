"""``python -m verify.explore``: every interleaving of a finite configuration."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kernelmodel.errors import ModelError
from kernelmodel.memory_model import WIDER
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import check_reached
from kernelmodel.versions.v5_11 import V5_11
from properties.property import Property
from verify.command import command
from verify.explore.beside import with_all
from verify.explore.decide import net_of, shown_first
from verify.explore.decide import others as searched_too
from verify.explore.finite import DEFAULT, Finite, default_pages
from verify.explore.model import Model
from verify.explore.search import Limits, room_mb
from verify.explore.solve import COMPILERS, ENGINE, NO_DEADLOCK, REDUCTIONS, Explorer
from verify.options import (
    ADD_A_TASK,
    EXIT_CODES,
    Parser,
    add_kernel,
    add_memory,
    add_output,
    add_property,
    add_scenario,
    expected_of,
    fail,
    kernel_of,
    listing,
    memory_of,
    positive_number,
    positive_seconds,
    properties_of,
    scenario_of,
    writable,
)  # fmt: skip
from verify.run import Run
from verify.verdict import Exit, Result, Verdict


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m verify.explore",
        description="Searches every interleaving of a finite configuration, and prints a shortest counterexample, with the "
        "fewest context switches among the shortest, for each property that is violated.  With no option: v5.11.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_kernel(p)
    add_scenario(p, DEFAULT.scenario, rounds=False)
    # where none is said, a second, small configuration has one
    p.set_defaults(hotplugs=None)
    p.add_argument(
        "--pages",
        type=int,
        metavar="N",
        help="pages in all (default: those freed and in use, and two more)",
    )
    p.add_argument(
        "--high", type=int, default=DEFAULT.high, metavar="N", help="pcp->high at the start (default %(default)s)"
    )
    p.add_argument(
        "--batch", type=int, default=DEFAULT.batch, metavar="N", help="pcp->batch at the start (default %(default)s)"
    )
    p.add_argument(
        "--beside", choices=("auto", "all", "none"), default="auto",
        help="small configurations that are searched too: with a CPU that goes down and comes up, and for a changed text "
        "(all: for any) with a second drain, and with a task of each kind that takes locks; none with --hotplugs",
    )  # fmt: skip
    add_property(p)
    add_memory(p, weak=True)
    p.add_argument(
        "--reduce", choices=REDUCTIONS, default="full",
        help="none: each step of each page; movers: steps that need no interleaving are performed at once; full: and "
        "equal pages, registers, tasks and CPUs are not told apart (default)",
    )  # fmt: skip
    p.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes, and threads of the compiled loop (default: one for each core)",
    )
    p.add_argument(
        "--compiler", choices=COMPILERS, default="auto",
        help="auto: the search's inner loop is compiled where there is a C compiler, on the machine or as a package "
        "(straypage[compiler]; default); none: NumPy alone, the same result",
    )  # fmt: skip
    p.add_argument(
        "--memory-limit",
        type=positive_number,
        metavar="MB",
        help="give up beyond so much memory: undecided (default: nine tenths of what is free)",
    )
    p.add_argument(
        "--disk", default="", metavar="DIR",
        help="when --memory-limit is near, go on with files in this folder, which are removed at the end",
    )  # fmt: skip
    p.add_argument("--timeout", type=positive_seconds, metavar="S", help="give up after so many seconds: undecided")
    p.add_argument("--json", metavar="FILE", help="write the verdicts as JSON (-: to standard output)")
    add_output(p)
    p.add_argument("--promela", metavar="FILE", help="write the model for SPIN, unreduced, and search nothing")
    p.add_argument("--quiet", action="store_true", help="print nothing but violations; the exit code tells the rest")
    p.add_argument("--list", action="store_true", help="list kernels, mutants and properties")
    return p


class SearchRun(Run):
    """A run of the exhaustive search."""

    def go(self, explorer: Explorer, properties: Sequence[Property], deadlock: bool, first_only: bool) -> None:
        """Decide; with ``first_only`` a violation of the first property ends it."""
        net = net_of(explorer, properties, deadlock)
        scenario = with_all(explorer.finite.scenario, explorer.beside)
        expected = {p.name: expected_of(self.options, explorer.kernel, p, scenario) for p in properties}

        def taken(verdict: Verdict) -> None:
            known = expected.get(verdict.property)
            self.take(net.held_against(replace(verdict, expected=known)))

        rest = list(properties)
        for verdict in shown_first(
            explorer, properties, [p for p in properties if expected[p.name] is Result.VIOLATED]
        ):
            taken(verdict)
            rest = [p for p in rest if p.name != verdict.property]
            if first_only and verdict.property == properties[0].name:
                self.left_out([*(p.name for p in rest if not explorer.why_not(p)), NO_DEADLOCK])
                return
        for verdict in explorer.decide(rest, deadlock):
            taken(verdict)


def finite_of(options: argparse.Namespace, kernel: type[KernelText]) -> Finite:
    """The configuration that the options describe."""
    scenario = scenario_of(options, kernel)
    pages = default_pages(scenario) if options.pages is None else options.pages
    return Finite(scenario, pages, options.high, options.batch)


def _folder_in(disk: str, stack: contextlib.ExitStack) -> str:
    """A folder of this run's own, which goes with it however it ends: searches in processes of their own may be killed."""
    if not Path(disk).is_dir():
        raise ModelError(f"--disk {disk}: no such folder; give one with some gigabytes free")
    try:
        return stack.enter_context(tempfile.TemporaryDirectory(prefix="straypage-search-", dir=disk))
    except OSError as error:
        raise ModelError(f"--disk {disk}: nothing can be written there ({error.strerror}); give another one") from None


@command("python -m verify.explore")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    with contextlib.ExitStack() as stack:
        return _main(parser().parse_args(arguments), arguments, stack)


def _main(options: argparse.Namespace, arguments: Sequence[str] | None, stack: contextlib.ExitStack) -> int:
    options.memory = memory_of(options)
    if options.list:
        print(listing())
        return int(Exit.OK)
    try:
        if options.jobs < 1:
            raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
        disk = _folder_in(options.disk, stack) if options.disk else ""
        kernel: type[KernelText] = kernel_of(options) or V5_11
        finite = finite_of(options, kernel)
        asked = options.property or ["all"]
        deadlock = "all" in asked or NO_DEADLOCK in asked
        options.property = [p for p in asked if p != NO_DEADLOCK] if options.property else None
        properties, stop = properties_of(options) if options.property != [] else ([], False)
        writable([options.json, options.trace, options.html, options.promela])
        if options.promela:
            from verify.explore.promela import write_promela

            states = write_promela(options.promela, kernel, finite, [p for p in properties if p.applies_to(kernel)])
            if not options.quiet:
                print(f"{options.promela}: {states}")
            return int(Exit.OK)
    except ModelError as error:
        fail(f"python -m verify.explore: {error}")
    gc.disable()
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    limits = Limits(deadline, options.memory_limit or room_mb())
    # who may change what cpus_read_lock() keeps is not followed by loads that find anything
    alone = options.hotplugs is not None or options.beside == "none" or options.memory in WIDER
    others = () if alone else searched_too(kernel, finite, options.beside == "all")
    explorer = Explorer(
        kernel,
        finite,
        options.reduce,
        limits,
        options.jobs,
        compiler=options.compiler,
        disk=disk,
        beside=others,
        memory=options.memory,
    )
    run = SearchRun(ENGINE, options, sys.argv[1:] if arguments is None else arguments)
    explorer.progress = run.progress if sys.stderr.isatty() else None
    interrupted = False
    try:
        if options.variant:
            for one in (finite, *others):
                Model(kernel, one, [])
            check_reached(kernel, finite.scenario.tasks_in_words(), ADD_A_TASK)
        named = options.kernel or options.mutant or options.variant
        run.go(explorer, properties, deadlock, first_only=bool(named) and stop)
    except KeyboardInterrupt:
        interrupted = True
        run.interrupted()
    except ModelError as error:
        fail(f"python -m verify.explore: {error}")
    code = run.code(interrupted)
    run.write(
        code, interrupted, scenario=finite.scenario.numbers(),
        finite={"pages": finite.pages, "high": finite.high, "batch": finite.batch, "reduce": explorer.reduce},
    )  # fmt: skip
    return run.end(code)


if __name__ == "__main__":
    raise SystemExit(main())
