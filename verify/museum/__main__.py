"""``python -m verify.museum``: every real bug found, every mend held."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kernelmodel.errors import ModelError
from kernelmodel.museum.collection import EXHIBITS
from kernelmodel.variants.overrides import nearest
from verify.command import command, write_text
from verify.museum.render import line, markdown, summary
from verify.museum.tour import Row, typed, visit
from verify.options import EXIT_CODES, Parser, add_scheduler, fail, writable
from verify.report import write_json
from verify.spread.alone import LostError, why_stopped
from verify.verdict import Exit


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m verify.museum",
        description="Runs each real bug of the guarantee, and each design that was proposed for it, against exhaustive "
        "search and bounded proofs: found in the faulty text, and held by the mended one.  Exit 1 if a bug is not found or a "
        "mend is violated.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("exhibits", nargs="*", metavar="EXHIBIT", help="only these (default: all)")
    p.add_argument("--list", action="store_true", help="name the exhibits, and what shows each, and stop")
    p.add_argument("--columns", action="store_true", help="print the counterexample of each bug")
    p.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one for each core)"
    )
    add_scheduler(p)
    p.add_argument("--json", metavar="FILE", help="write the verdicts as JSON")
    p.add_argument(
        "--markdown", metavar="FILE", help="write the collection as Markdown, without times (docs/museum.md)"
    )
    p.add_argument("--quiet", action="store_true", help="print nothing; the exit code tells")
    return p


@command("python -m verify.museum")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        for name in options.exhibits:
            if name not in EXHIBITS:
                raise nearest("exhibit", name, EXHIBITS)
        if options.jobs < 1:
            raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
        writable([options.json, options.markdown])
    except ModelError as error:
        fail(f"python -m verify.museum: {error}")
    names = list(dict.fromkeys(options.exhibits)) or list(EXHIBITS)
    if options.list:
        for name in names:
            exhibit = EXHIBITS[name]
            print(f"{name}: {exhibit.when}. {exhibit.what}")
            print(
                f"    not expressed: the model lacks {exhibit.missing}" if exhibit.missing else f"    {typed(exhibit)}"
            )
        return int(Exit.OK)
    rows: list[Row] = []
    interrupted = False
    try:
        for row in visit(names, options.jobs, options.scheduler):
            rows.append(row)
            if not options.quiet:
                print(line(row), flush=True)
                if options.columns:
                    print("\n".join(v.trace for v in row.faulty[:1]), flush=True)
    except (KeyboardInterrupt, LostError) as stop:
        interrupted = True
        done = f"{why_stopped(stop)} after {len(rows)} of {len(names)} exhibits; what was decided is kept"
        print(f"\npython -m verify.museum: {done}", file=sys.stderr)
    except ModelError as error:
        fail(f"python -m verify.museum: {error}")
    code = max(exit_code(rows), Exit.UNDECIDED if interrupted else Exit.OK)
    if not options.quiet:
        print(summary(rows))
    try:
        if options.json:
            record = {"schema": "straypage-museum-1", "exit": int(code), "rows": [as_json(r) for r in rows]}
            write_json(options.json, record)
        if options.markdown and not interrupted:
            write_text(options.markdown, markdown(rows))
    except OSError as error:
        fail(f"python -m verify.museum: cannot write {error.filename}: {error.strerror}")
    return int(code)


def as_json(row: Row) -> dict[str, object]:
    """A row as JSON values."""
    exhibit = EXHIBITS[row.name]
    return {
        "exhibit": row.name, "when": exhibit.when, "property": exhibit.prop, "missing": exhibit.missing,
        "faulty": [v.as_json() for v in row.faulty], "mended": [v.as_json() for v in row.mended],
        "seconds": round(row.seconds, 2),
    }  # fmt: skip


def exit_code(rows: Sequence[Row]) -> Exit:
    """1 if a bug is not found or a mend is violated, 3 if something is undecided, else 0."""
    if any(r.missed or r.broken for r in rows):
        return Exit.VIOLATED
    return Exit.UNDECIDED if any(r.undecided for r in rows) else Exit.OK


if __name__ == "__main__":
    sys.exit(main())
