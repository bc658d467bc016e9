"""``python -m verify.random``: campaigns of random histories, on this machine's cores or on many machines."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from verify.command import command, needs
from verify.forked import mapped
from verify.options import (
    EXIT_CODES,
    Parser,
    add_kernel,
    add_property,
    add_scheduler,
    fail,
    files_are_here,
    kernel_of,
    positive_seconds,
    properties_of,
    writable,
)
from verify.report import write_json
from verify.spread.alone import LostError, why_stopped
from verify.tracefile.record import KernelSpec
from verify.verdict import Exit

PROG = "python -m verify.random"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="Draws random histories of a kernel (v5.11 if none is named) with Hypothesis and looks for one that breaks "
        "a property, campaign by campaign, each from a seed of its own.  What breaks one is real, and is printed as a program; "
        "that nothing is found proves nothing.  Exit 1 if a property is broken.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_kernel(p)
    add_property(p)
    p.add_argument(
        "--machine", choices=("race", "allocator"), default="race",
        help="race: interleavings of a few tasks around one offlining (default); allocator: everything at any time",
    )  # fmt: skip
    p.add_argument(
        "--campaigns", type=int, default=os.cpu_count() or 1, metavar="N", help="how many (default: one for each core)"
    )
    p.add_argument("--histories", type=int, default=1500, metavar="N", help="of each campaign (default %(default)s)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of the first; the others follow (default 0)")
    p.add_argument(
        "--database", metavar="DIR", help="try first what earlier runs have found there, and keep what these find"
    )
    p.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)"
    )
    p.add_argument("--timeout", type=positive_seconds, metavar="S", help="stop after so many seconds")
    add_scheduler(p)
    p.add_argument("--json", metavar="FILE", help="write what was found as JSON")
    p.add_argument("--quiet", action="store_true", help="print nothing; the exit code tells")
    return p


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        needs(PROG, "hypothesis")
        for name in ("campaigns", "histories", "jobs"):
            if getattr(options, name) < 1:
                raise ModelError(f"--{name} {getattr(options, name)} is out of range: give at least 1")
        files_are_here(options)
        kernel = kernel_of(options)
        writable([options.json])
        watched = _watched(options, kernel)
        # with it comes Hypothesis
        from verify.random.campaign import Campaign, Folder, Outcome, run

        spec = KernelSpec.of(options)
        folder = Folder(options.database, spec, options.machine) if options.database else None
    except ModelError as error:
        fail(f"{PROG}: {error}")
    examples = folder.examples() if folder else {}
    campaigns = [
        Campaign(spec, options.machine, watched, options.histories, options.seed + n, examples)
        for n in range(options.campaigns)
    ]
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    if not options.quiet:
        print(f"{spec.title}, random histories ({options.machine})")
    done: list[Outcome] = []
    stopped = ""
    try:
        for outcome in mapped(run, campaigns, options.jobs, options.scheduler, deadline):
            done.append(outcome)
            if folder:
                folder.keep(outcome.examples)
            if not options.quiet:
                found = outcome.said or "nothing found"
                print(
                    f"  seed {outcome.seed:<8} {outcome.histories:>6} histories {outcome.seconds:8.1f} s  {found}",
                    flush=True,
                )
    except (KeyboardInterrupt, TimeoutError, LostError) as stop:
        stopped = why_stopped(stop)
        print(
            f"{PROG}: {stopped} after {len(done)} of {len(campaigns)} campaigns; what was found is kept",
            file=sys.stderr,
        )
    except ModelError as error:
        fail(f"{PROG}: {error}")
    except OSError as error:
        fail(f"{PROG}: cannot write {error.filename or options.database}: {error.strerror}")
    broken = [o for o in done if o.violated]
    code = Exit.VIOLATED if broken else Exit.UNDECIDED if stopped else Exit.OK
    reached = frozenset[str]().union(*(o.reached for o in done))
    if not options.quiet:
        if broken:
            print("\n" + min((o.program for o in broken), key=lambda p: (len(p), p)))
        _tell(watched, reached, sum(o.histories for o in done), code)
    if options.json:
        record: dict[str, Any] = {
            "schema": "straypage-random-1", "kernel": spec.title, "machine": options.machine, "exit": int(code),
            "interrupted": bool(stopped), "properties": list(watched), "reached": sorted(reached & set(watched)),
            "campaigns": [
                {"seed": o.seed, "histories": o.histories, "seconds": o.seconds, "violated": o.violated, "found": o.said,
                 "program": o.program}
                for o in done
            ],
        }  # fmt: skip
        write_json(options.json, record)
    return int(code)


def _watched(options: argparse.Namespace, kernel: type[KernelText] | None) -> tuple[str, ...]:
    """The properties that are looked at: those that are named, or those that the kernel should have."""
    # with it comes Hypothesis
    from kernelmodel.versions.v5_11 import V5_11
    from properties.stateful import expected_to_hold

    if options.property:
        return tuple(p.name for p in properties_of(options)[0])
    return expected_to_hold(kernel or V5_11)


def _tell(watched: Sequence[str], reached: frozenset[str], histories: int, code: Exit) -> None:
    missed = [name for name in watched if name not in reached]
    print(f"\n{histories} histories; premises reached: {len(watched) - len(missed)} of {len(watched)}")
    if missed:
        print(f"  never reached: {', '.join(missed)}")
    print(f"exit {int(code)}: {_SAID[code]}")


_SAID = {
    Exit.OK: "nothing found, which proves nothing",
    Exit.VIOLATED: "a property is violated",
    Exit.UNDECIDED: "undecided: it was stopped before it had made all histories",
}


if __name__ == "__main__":
    sys.exit(main())
