"""``python -m verify.mutants``: the kill matrix."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.variants.overrides import nearest
from kernelmodel.versions.later_mutants import EVERY, MUTATED
from verify.command import command, needs, write_text
from verify.mutants import in_c, in_c_systematic
from verify.mutants.matrix import ENGINES, Matrix, collect, default_jobs
from verify.mutants.render import heading, line, markdown, summary
from verify.mutants.systematic_options import add_options
from verify.options import EXIT_CODES, Parser, add_scheduler, add_tree, fail, positive_seconds, writable
from verify.report import write_json
from verify.spread.alone import LostError, why_stopped
from verify.verdict import Exit


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m verify.mutants",
        description="Runs each mutant of v5.11, or of --kernel, against random histories, exhaustive search and bounded proofs, "
        "and shows which property it breaks, which engine found it and with how short a trace; and for each property which "
        "mutants it alone kills.  Exit 1 if a mutant that should die survives, or a control is killed.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("mutants", nargs="*", metavar="MUTANT", help="only these (default: all of the kernel)")
    p.add_argument(
        "--engine", action="append", choices=(*ENGINES, "prove"),
        help="only this engine (repeatable); random has no part in --systematic, and prove only there",
    )  # fmt: skip
    p.add_argument(
        "--jobs", type=int, default=default_jobs(), metavar="N", help="processes (default: one for each core)"
    )
    p.add_argument(
        "--timeout", type=positive_seconds, metavar="S", help="stop after so many seconds: what is left is undecided"
    )
    add_scheduler(p)
    p.add_argument("--json", metavar="FILE", help="write the matrix as JSON")
    p.add_argument("--markdown", metavar="FILE", help="write the matrix as Markdown, without times (docs/mutants.md)")
    p.add_argument("--quiet", action="store_true", help="print nothing; the exit code tells")
    add_options(p)
    add_tree(p)
    return p


@command("python -m verify.mutants")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.tree:
            return _in_c(options)
        if options.systematic:
            return _systematic(options)
        for given, name in ((options.of, "--of"), (options.resume, "--resume")):
            if given:
                raise ModelError(f"{name} has a meaning with --systematic only: add it")
        if options.engine == ["prove"]:
            raise ModelError("--engine prove has a part in --systematic only: add it")
        for name in options.mutants:
            if name not in EVERY:
                raise nearest("mutant", name, EVERY)
        if options.mutants and options.kernel:
            raise ModelError("--kernel chooses all mutants of a kernel: leave it out, or the names")
        for name in options.kernel or ():
            if name not in MUTATED:
                raise nearest("kernel with mutants", name, MUTATED)
        if options.jobs < 1:
            raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
        writable([options.json, options.markdown])
        if not options.engine or "random" in options.engine:
            needs("--engine random", "hypothesis")
    except ModelError as error:
        fail(f"python -m verify.mutants: {error}")
    gc.disable()
    kernels = options.kernel or ["v5.11"]
    names = list(dict.fromkeys(options.mutants)) or [n for n, m in EVERY.items() if m.of.name in kernels]
    engines = [e for e in ENGINES if not options.engine or e in options.engine]
    matrix = Matrix()
    interrupted = False
    if not options.quiet:
        print(heading(), flush=True)
    try:
        for row in collect(names, engines, options.jobs, options.timeout, options.scheduler):
            matrix.rows.append(row)
            if not options.quiet:
                print(line(row), flush=True)
    except (KeyboardInterrupt, TimeoutError, LostError) as stop:
        interrupted = True
        done = f"{why_stopped(stop)} after {len(matrix.rows)} of {len(names)} mutants; what was decided is kept"
        print(f"\npython -m verify.mutants: {done}", file=sys.stderr)
    except ModelError as error:
        fail(f"python -m verify.mutants: {error}")
    if not options.quiet:
        print(summary(matrix))
    code = exit_code(matrix, interrupted)
    try:
        if options.json:
            record = {
                "schema": "straypage-mutants-1", "interrupted": interrupted, "exit": int(code),
                "rows": [r.as_json() for r in matrix.rows], "alone": matrix.alone(),
            }  # fmt: skip
            write_json(options.json, record)
        if options.markdown and not interrupted:
            write_text(options.markdown, markdown(matrix))
    except OSError as error:
        fail(f"python -m verify.mutants: cannot write {error.filename}: {error.strerror}")
    return int(code)


def _in_c(options: argparse.Namespace) -> int:
    if (
        options.scheduler
        or options.engine
        or options.markdown
        or options.timeout
        or options.resume
        or (options.of and not options.systematic)
    ):
        raise ModelError(
            "--tree runs mutants of the C: it knows --jobs, --json, --quiet, names of mutants, and --systematic with --of"
        )
    if options.systematic and options.mutants:
        raise ModelError(f"{options.mutants[0]}: --systematic makes its mutants itself; choose functions with --of")
    for name in options.mutants:
        if name not in in_c.names():
            raise nearest("mutant of C", name, in_c.names())
    if options.jobs < 1:
        raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
    writable([options.json])
    spec = options.trees[0]
    kind: Any = in_c
    visited: Iterator[Any]
    if options.systematic:
        kind, visited = in_c_systematic, in_c_systematic.visit(spec, options.of, options.jobs)
    else:
        visited = in_c.visit(spec, options.mutants or in_c.names(), options.jobs)
    rows: list[Any] = []
    interrupted = False
    try:
        for row in visited:
            rows.append(row)
            if not options.quiet:
                print(kind.line(row), flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print(
            f"\npython -m verify.mutants: interrupted after {len(rows)} mutants; what was decided is kept",
            file=sys.stderr,
        )
    code = kind.exit_code(rows, interrupted)
    if options.json:
        write_json(options.json, {
            "schema": "straypage-c-mutants-1", "tree": str(spec), "interrupted": interrupted, "exit": int(code),
            "rows": [row.as_json() for row in rows],
        })  # fmt: skip
    if not options.quiet:
        print(f"{kind.summary(rows)}\nexit {int(code)}")
    return int(code)


def _systematic(options: argparse.Namespace) -> int:
    # what it imports takes a while, and the kill matrix needs none of it
    from verify.mutants.systematic import run

    if options.mutants:
        raise ModelError(f"{options.mutants[0]}: --systematic makes its mutants itself; choose routines with --of")
    if options.jobs < 1:
        raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
    writable([options.json, options.markdown])
    return run(options)


def exit_code(matrix: Matrix, interrupted: bool) -> Exit:
    """1 if a mutant survives or a control is killed, 3 if something could not be decided, else 0."""
    if any(r.survives or r.wrongly_killed for r in matrix.rows):
        return Exit.VIOLATED
    undecided = any(r.undecided or any(k.killed is None and k.judges for k in r.kills) for r in matrix.rows)
    return Exit.UNDECIDED if undecided or interrupted else Exit.OK


if __name__ == "__main__":
    raise SystemExit(main())
