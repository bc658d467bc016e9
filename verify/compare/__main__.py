"""``python -m verify.compare A B``: the same checks on two kernels, and what differs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from properties.catalogue import PROPERTIES, find
from verify.command import STANDARD_OUTPUT, command, write_text
from verify.compare.change import exit_code, gone, new, pairs
from verify.compare.render import Comparison, as_json, markdown, text
from verify.compare.sides import Changed, Side, changed, side
from verify.options import Parser, add_property, add_said_of_tree, add_scenario, fail, positive_seconds, writable
from verify.report import write_json
from verify.suite.board import Board
from verify.suite.folder import writable_folder
from verify.suite.jobs import Answer, Job, refuse, run
from verify.suite.plan import PROVABLE, bounds_of, engine_job
from verify.suite.results import ENGINES, contradictions, verdicts_of
from verify.suite.traces import Gallery
from verify.verdict import Exit

PROG = "python -m verify.compare"
_EPILOG = """exit codes:
  0  B violates nothing that A does not violate
  1  B has a counterexample for a property of which A has none, whatever else could not be decided
  2  bad input
  3  no new counterexample, and not everything about B could be decided
  4  no new counterexample, and a premise is never reached in B
 70  no new counterexample, and engines disagree or a counterexample is not confirmed by the concrete model"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="Decides the same properties of two kernels and shows verdicts side by side, counterexamples that are new "
        "or gone, their lengths, times, and the functions that differ.  Engines run one after the other, for their times.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, what in (("a", "what is known"), ("b", "what is asked about")):
        p.add_argument(
            name, metavar=name.upper(), nargs="?", help=f"{what}: a kernel, a mutant, or FILE.py[:NAME] with a variant"
        )
    p.add_argument(
        "--tree", action="append", metavar="DIR[@REV]",
        help="a kernel's own C; given twice for A and B (the second may be a revision of the first), once with --patch",
    )  # fmt: skip
    add_said_of_tree(p)
    p.add_argument(
        "--engines", default=",".join(ENGINES), metavar="LIST", help="of bmc,explore,prove (default: all of them)"
    )
    add_scenario(p, own=True)
    add_property(p)
    p.add_argument(
        "--timeout", type=positive_seconds, metavar="S", help="each engine gives up on each side after so many seconds"
    )
    p.add_argument("--json", metavar="FILE", help="write everything as JSON (- for stdout)")
    p.add_argument("--markdown", metavar="FILE", help="write it as Markdown, for a mail (- for stdout)")
    p.add_argument(
        "--trace", metavar="DIR", help="write counterexamples that are new or gone: trace, columns, HTML page"
    )
    p.add_argument("--quiet", action="store_true", help="print nothing; the exit code tells")
    return p


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    code = Exit.UNDECIDED
    try:
        engines = engines_of(options)
        options.a, options.b = sides_of(options)
        a, b = side("A", options.a), side("B", options.b)
        differing = changed(a, b)
        bounds = bounds_of(options)
        for name in set(options.property or []) - {"all"}:
            find(name)
        writable([f for f in (options.json, options.markdown) if f not in (None, "-")])
        if options.json == options.markdown == "-":
            raise ModelError("--json - and --markdown - both want stdout: give one of them a file")
        if options.trace:
            writable_folder("--trace", options.trace)
        with tempfile.TemporaryDirectory(prefix="straypage-") as scratch:
            jobs = [
                engine_job(
                    e, s.spec, Path(scratch), name=f"{s.letter}-{e}", bounds=bounds, spread=options.spread,
                    properties=wanted(e, options), timeout=options.timeout, beside=True,
                )
                for e in engines for s in (a, b) if wanted(e, options)
            ]  # fmt: skip
            if not jobs:
                raise ModelError(
                    f"prove proves {', '.join(PROVABLE)}: nothing to compare among {', '.join(options.property)}"
                )
            answers, interrupted = listen(jobs, options)
            compared = compare(a, b, tuple(differing), answers, interrupted)
        code = compared.code
        hand_out(compared, options)
    except ModelError as error:
        fail(f"{PROG}: {error}")
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{PROG}: cannot write {error.filename}: {error.strerror}")
    return int(code)


def sides_of(options: argparse.Namespace) -> tuple[str, str]:
    """What A and B are: both words, or a tree before and after."""
    trees: list[TreeSpec] = getattr(options, "trees", [])
    words = [w for w in (options.a, options.b) if w is not None]
    if not trees:
        if len(words) < 2:
            raise ModelError("two kernels are compared: name both, or give --tree twice, or --tree and --patch")
        return words[0], words[1]
    if len(trees) == 1 and not words:
        if not trees[0].patch:
            raise ModelError("--tree is one kernel: give the other one, a second --tree, or --patch")
        return str(replace(trees[0], patch="")), str(trees[0])
    if len(trees) + len(words) != 2:
        raise ModelError("two kernels are compared: name both, or give --tree twice, or --tree and --patch")
    if len(trees) == 1:
        return str(trees[0]), words[0]
    first, second = trees
    if not Path(second.path).exists() and not second.revision:
        second = replace(second, path=first.path, revision=second.path)
    return str(replace(first, patch="")), str(second)


def engines_of(options: argparse.Namespace) -> list[str]:
    """The engines that --engines names."""
    names = [n.strip() for n in options.engines.split(",") if n.strip()]
    for name in names:
        if name not in ENGINES:
            raise ModelError(f"--engines: {name!r} is none of {', '.join(ENGINES)}")
    if not names:
        raise ModelError(f"--engines names none: give some of {', '.join(ENGINES)}")
    return [e for e in ENGINES if e in names]


def wanted(engine: str, options: argparse.Namespace) -> tuple[str, ...]:
    """What an engine is asked; prove only what it can prove."""
    every = not options.property or "all" in options.property
    if engine == "prove":
        return tuple(p for p in PROVABLE if every or p in options.property)
    return ("all",) if every else tuple(dict.fromkeys(options.property))


def listen(jobs: Sequence[Job], options: argparse.Namespace) -> tuple[list[Answer], bool]:
    """Run the engines, with what is going on shown on a terminal."""
    for job in jobs:
        job.group = f"{job.group} {job.name[0]}"
    total = {j.group: j.arguments.count("--property") if "all" not in j.arguments else len(PROPERTIES) for j in jobs}
    console = Console(stderr=True, quiet=options.quiet, highlight=False)
    with Board(jobs, console, total, transient=True, plain=False) as board:
        interrupted = run(jobs, 1, board.watch)
    answers = [j.answer() for j in jobs]
    for answer in answers:
        if answer.usage:
            where = options.a if answer.job.name.startswith("A") else options.b
            refuse([answer], f"{answer.job.name[0]}, {where}: ")
    return answers, interrupted


def compare(
    a: Side, b: Side, differing: tuple[Changed, ...], answers: Sequence[Answer], interrupted: bool
) -> Comparison:
    """Put what the engines said side by side."""
    said: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        letter, engine = answer.job.name.split("-")
        said[engine, letter] = answer
    engines = [e for e in ENGINES if (e, "A") in said]
    found = {key: verdicts_of(answer) for key, answer in said.items()}
    every = pairs((e, found[e, "A"], found[e, "B"]) for e in engines)
    clashes = [
        f"{s.letter}: {c}" for s in (a, b) for c in contradictions([v for e in engines for v in found[e, s.letter]])
    ]
    unfinished = [f"{x.job.name.replace('-', ', ')}: {x.why}" for x in answers if x.why]
    seconds = {e: (said[e, "A"].job.seconds, said[e, "B"].job.seconds) for e in engines}
    code = exit_code(every, bool(clashes), interrupted or bool(unfinished))
    commands = tuple(x.job.command for x in answers)
    return Comparison(
        a, b, differing, tuple(every), seconds, commands, (*clashes, *unfinished), interrupted, code
    )  # fmt: skip


def hand_out(c: Comparison, options: argparse.Namespace) -> None:
    """Print and write what was asked for."""
    if options.trace:
        gallery = Gallery(Path(options.trace))
        for word, verdicts in (("new", new(c.pairs)), ("gone", gone(c.pairs))):
            for verdict in verdicts:
                gallery.add(verdict, f"{word}-{verdict.property}")
    if options.json:
        write_json(options.json, as_json(c))
    if options.markdown:
        write_text(options.markdown, markdown(c))
    if STANDARD_OUTPUT not in (options.json, options.markdown) and not options.quiet:
        print(text(c))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
