"""``python -m verify.replay FILE``: runs a stored counterexample on the concrete model and judges it again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from kernelmodel.errors import ModelError
from properties.catalogue import find
from verify.command import command, write_text
from verify.html import render
from verify.options import Parser, add_kernel, fail, writable
from verify.replay.litmus import litmus
from verify.replay.reproducer import reproducer
from verify.replay.show import as_columns, as_list
from verify.replay.stepper import interact
from verify.trace import MismatchError
from verify.tracefile import Film, KernelSpec, TraceFile, format_schedule, itf, load, play, save
from verify.verdict import Exit

PROG = "python -m verify.replay"
_EPILOG = """exit codes:
  0  the property is not violated
  1  the property is violated again
  2  bad input
 70  the trace does not fit the kernel: a step that it names does not come or is not enabled

in --step: next, back, run STEP, where, zone, list, words, help, quit; the commands can come from a pipe."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="Runs a trace, stored by --json of an engine or by --trace, on the concrete model of the allocator, "
        "prints it as columns, and evaluates the property again.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("file", metavar="FILE", help="a trace, or the verdicts of an engine: then its first counterexample")
    p.add_argument("--step", action="store_true", help="go through it step by step")
    p.add_argument("--full", action="store_true", help="columns of all steps, with none left out")
    p.add_argument("--list", action="store_true", help="list all steps with their numbers instead of the columns")
    p.add_argument("--schedule", action="store_true", help="print only the schedule, on one line")
    p.add_argument("--html", metavar="FILE", help="write the trace as one page for a browser")
    p.add_argument("--pytest", metavar="FILE.py", help="write a test that reproduces the violation")
    p.add_argument("--litmus", metavar="FILE", help="write the race as a C litmus test for herd7")
    p.add_argument("--itf", metavar="FILE", help="write the states in Apalache's ITF")
    p.add_argument("--trace", metavar="FILE", help="write the trace file, filled in with what this run shows")
    p.add_argument("--property", metavar="NAME", help="evaluate this property instead of the one that the trace names")
    add_kernel(p)
    return p


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return int(_replay(options))
    except ModelError as error:
        fail(f"{PROG}: {error}")
    except MismatchError as error:
        print(f"{PROG}: the trace does not fit: {error}", file=sys.stderr)
        return int(Exit.DISAGREE)


def _replay(options: argparse.Namespace) -> Exit:
    trace = _changed(load(options.file), options)
    writable([options.html, options.pytest, options.itf, options.litmus, options.trace])
    film = play(trace)
    _write(film, options)
    if options.schedule:
        print(format_schedule(film.trace.start, [s.exact for s in film.recorded().steps]))
    elif options.step:
        interact(film, sys.stdin)
    else:
        print(heading(film) + "\n\n" + (as_list(film) if options.list else as_columns(film, full=options.full)))
    code = Exit.OK if film.violation is None else Exit.VIOLATED
    if not options.schedule:
        print(f"\nexit {int(code)}: {outcome(film)}")
    sys.stdout.flush()
    return code


def _changed(trace: TraceFile, options: argparse.Namespace) -> TraceFile:
    """The trace with another kernel or property, if the command line names one."""
    for kind in ("kernel", "mutant", "variant"):
        if name := getattr(options, kind):
            trace = replace(trace, kernel=KernelSpec(kind, name))
    if options.property:
        trace = replace(trace, property=find(options.property).name)
    return trace


def _write(film: Film, options: argparse.Namespace) -> None:
    if options.trace:
        save(film.recorded(), options.trace)
    made = {
        options.html: (lambda: render(film)) if options.html else None,
        options.pytest: (lambda: reproducer(film)) if options.pytest else None,
        options.litmus: (lambda: litmus(film)) if options.litmus else None,
        options.itf: (lambda: json.dumps(itf(film)) + "\n") if options.itf else None,
    }
    for path, text in made.items():
        if path is None or text is None:
            continue
        content = text()
        try:
            write_text(path, content)
        except OSError as error:
            raise ModelError(f"cannot write {path}: {error.strerror}") from error


def heading(film: Film) -> str:
    """Which kernel, which property, whose trace."""
    trace = film.trace
    return (
        f"{film.kernel.name}, {film.prop.name}: {len(film.steps)} steps, run on the concrete model\n"
        f"  found by {trace.engine}, {trace.memory_model}, {trace.scenario.cpus} CPUs"
    )


def outcome(film: Film) -> str:
    """What the replay says of the property."""
    if film.violation is None:
        return f"{film.prop.name} is not violated"
    return f"{film.prop.name} is violated again, after step {film.violation.step}"


if __name__ == "__main__":
    raise SystemExit(main())
