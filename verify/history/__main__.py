"""``python -m verify.history DIR A..B``."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from properties.catalogue import find
from verify import page
from verify.command import command
from verify.history.commits import NOT_READ, Row, bad, bisected, commits, each, turns
from verify.options import Parser, add_said_of_tree, add_scenario, fail, scenario_of, writable
from verify.report import write_json
from verify.verdict import Exit, Result

PROG = "python -m verify.history"
_EPILOG = """exit codes:
  0  every commit that was looked at keeps the promise
  1  one violates it
  2  bad input
  3  something could not be read or decided"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="The bounded proof of a property for each commit of a range that touches the routines' files, read from git "
        "without checking out; commits that change none of the functions that are read or summed up have the verdict of the "
        "one before.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("tree", metavar="DIR", help="the top of a kernel's source, in git")
    p.add_argument("range", metavar="A..B", help="two revisions: A itself, and what comes after it up to B")
    add_said_of_tree(p)
    add_scenario(p)
    p.add_argument("--property", default="no_stray_page", metavar="NAME", help="the property (default %(default)s)")
    p.add_argument("--bisect", action="store_true", help="look for the first commit whose verdict is not that of A")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)")
    p.add_argument("--json", metavar="FILE", help="keep the verdicts there; what it has already is not asked again")
    p.add_argument("--quiet", action="store_true", help="print nothing; the exit code tells")
    return p


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    interrupted = False
    try:
        spec: TreeSpec = options.trees[0]
        if spec.patch or spec.revision:
            raise ModelError("a history is of commits: leave --patch and @REVISION out")
        if options.jobs < 1:
            raise ModelError(f"--jobs {options.jobs} is out of range: give at least 1")
        bound = scenario_of(options)
        find(options.property)
        writable([options.json])
        every = commits(spec, options.range)
        # what is wrong with the directory itself is said once
        Tree(TreeSpec(spec.path, every[-1][0]))
        known = _known(options.json)
        gc.disable()
        try:
            if options.bisect:
                found = bisected(spec, options.property, bound, every)
            else:
                found = each(spec, options.property, bound, every, known, options.jobs)
            for row in found:
                rows.append(row)
                if not options.quiet:
                    print(_line(row), flush=True)
        except KeyboardInterrupt:
            interrupted = True
            print(f"\n{PROG}: interrupted after {len(rows)} commits; what was decided is kept", file=sys.stderr)
        code = _code(rows, interrupted)
        if options.json:
            kept = {**known, **{r.key: r for r in rows if r.key and r.result not in (NOT_READ, Result.UNDECIDED.value)}}
            write_json(options.json, {
                "schema": "straypage-history-1", "tree": spec.path, "range": options.range, "property": options.property,
                "bound": bound.bound(), "interrupted": interrupted, "exit": int(code), "rows": [r.as_json() for r in rows],
                "known": {key: row.as_json() for key, row in kept.items()},
            })  # fmt: skip
    except ModelError as error:
        fail(f"{PROG}: {error}")
    if not options.quiet:
        print("\n".join(_summary(rows, every, options)))
        print(f"exit {int(code)}")
    return int(code)


def _known(path: str | None) -> dict[str, Row]:
    if path is None or path == "-" or not Path(path).is_file() or not Path(path).stat().st_size:
        return {}
    try:
        record: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return {key: Row(**row) for key, row in record["known"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"--json {path}: it is no history of ours: name another file") from error


def _code(rows: Sequence[Row], interrupted: bool) -> Exit:
    if bad(rows):
        return Exit.VIOLATED
    open_ = any(r.result in (NOT_READ, Result.UNDECIDED.value) for r in rows)
    return Exit.UNDECIDED if interrupted or open_ or not rows else Exit.OK


def _line(row: Row) -> str:
    if row.like:
        told = f"as {row.like[:12]}: nothing that is looked at has changed"
    else:
        told = f"{row.note}; {row.seconds:.1f} s" if row.note else f"{row.seconds:.1f} s"
    return page.paragraph(f"{row.subject} ({told})", f"  {row.commit[:12]}  {row.result:9}  ", " " * 27)


def _summary(rows: Sequence[Row], every: Sequence[tuple[str, str]], options: argparse.Namespace) -> list[str]:
    if options.bisect:
        order = {commit: n for n, (commit, _) in enumerate(every)}
        asked = sorted(rows, key=lambda r: order[r.commit])
        changes = turns(asked)
        if not changes:
            return [f"{every[0][0][:12]} and {every[-1][0][:12]} have the same verdict: {asked[0].result}"]
        first = changes[0]
        return page.fill(f"first with another verdict ({first.result}): {first.commit[:12]} {first.subject}")
    told = [f"{len(rows)} commits, of which {sum(not r.like for r in rows)} were judged"]
    told += [f"{r.commit[:12]} {r.subject}: {r.result} from here on" for r in turns(rows)]
    return [line for sentence in told for line in page.fill(sentence)]


if __name__ == "__main__":
    raise SystemExit(main())
