"""``python -m verify.observe``: record a real machine's memory offlining, and check the trace against the guarantee."""

from __future__ import annotations

import argparse
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernelmodel.errors import ModelError
from verify import page
from verify.command import command, write_text
from verify.observe import difference, kernel_log
from verify.observe.conform import ERAS, Offlinings, conformance
from verify.observe.events import Quality, events, lines_of
from verify.observe.judge import Judge
from verify.observe.script import script
from verify.observe.show import exit_code, known_events, quality_lines, told, verdicts
from verify.observe.zoneinfo import findings, parse
from verify.options import EXIT_CODES, Parser, fail, writable
from verify.report import SAID, as_json, heading, write_json
from verify.verdict import Exit, Result

PROG = "python -m verify.observe"
_SAID = SAID | {
    Exit.OK: "what was put to the test was kept",
    Exit.VACUOUS: "vacuous: no page was freed while the pcplists were disabled",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="Records what memory offlining does with the pcplists of a running kernel (x86-64, from v6.0 on), and "
        "checks such traces: was a page left on a pcplist, or a page of the isolated range handed out?  One run of one machine "
        "proves nothing; it shows that the promise was kept, or was not, where it was put to the test.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = p.add_subparsers(dest="verb", metavar="VERB", required=True, help="what to do; VERB --help has its options")
    written = verbs.add_parser(
        "script", help="write a shell script that records (it needs root and tracefs, no Python)"
    )
    written.add_argument("file", nargs="?", default="-", help="where to (default: standard output)")
    recorded = verbs.add_parser("record", help="record here and now, while a command runs")
    recorded.add_argument("out", help="the trace; .gz packs it")
    recorded.add_argument("run", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command that offlines memory")
    checked = verbs.add_parser("check", help="check a trace: tracefs's text, trace-cmd's, trace.dat; gzip and zstd too")
    checked.add_argument("trace", help="the file")
    checked.add_argument("--json", metavar="FILE", help="write the verdicts as JSON (-: to standard output)")
    checked.add_argument("--html", metavar="FILE", help="write the first violation as one page for a browser")
    checked.add_argument(
        "--era",
        metavar="NAME",
        choices=sorted({*ERAS.values()}),
        default="",
        help="hold its steps against the text of that kernel (default: by the release that the trace names)",
    )
    checked.add_argument("--all", action="store_true", help="print more than one violation of a property")
    zones = verbs.add_parser("zoneinfo", help="snapshots of /proc/zoneinfo: disabled, and who holds pages?")
    zones.add_argument("file", nargs="+", help="snapshots, in the order in which they were taken")
    zones.add_argument(
        "--log",
        metavar="FILE",
        help="the kernel's log too (dmesg): pages that could not be migrated, and why it failed",
    )
    lab = verbs.add_parser("lab", help="boot a stock kernel under QEMU, offline memory there, and check its trace")
    from verify.observe.lab import add_options

    add_options(lab)
    return p


def check(options: argparse.Namespace) -> int:
    """Check a trace; the exit code."""
    writable([options.json, options.html])
    judge, quality = Judge(), Quality()

    offlinings = Offlinings()
    judge.follow(
        offlinings.watch(events(lines_of(options.trace), quality)), quality, lambda n: page.progress(f"{n:,} events")
    )
    page.progress("")
    if not quality.events:
        raise ModelError(f"{options.trace}: no line in it is an event: give a trace of tracefs, or of trace-cmd")
    if not judge.kinds:
        names = ", ".join(sorted(known_events())[:4])
        raise ModelError(f"{options.trace}: none of its events are ours ({names}, …): record with `{PROG} script`")
    found = verdicts(judge, quality)
    print(heading(found[0]))
    print("\n".join(page.paragraph(text, "  ", "    ") for text in quality_lines(judge, quality)))
    for verdict in found:
        print(told(verdict))
        if verdict.trace:
            print(f"\n{page.fit(verdict.trace)}\n")
    conforms, result = _conformance(offlinings, quality, options.era, [v.property for v in found if v.trace])
    if options.all:
        for violation in judge.violations:
            print(page.paragraph(f"{violation.property}: {violation.found}, line {violation.event.line}", "  ", "    "))
    if options.html and judge.violations:
        # nobody else needs it
        from verify.observe.timeline import timeline

        write_text(options.html, timeline(judge, quality, judge.violations[0]))
    codes = {exit_code(found), result}
    # a violation is one whatever else is open
    code = Exit.VIOLATED if Exit.VIOLATED in codes else max(codes)
    if options.json:
        write_json(
            options.json,
            {**as_json(found, sys.argv[1:], interrupted=False), "conformance": conforms, "exit": int(code)},
        )
    print(f"exit {int(code)}: {_SAID[code]}")
    return int(code)


def _conformance(
    found: Offlinings, quality: Quality, era: str, broken: list[str]
) -> tuple[dict[str, Any] | None, Exit]:
    """Hold the trace against the text of its era and say so; what goes into the JSON, and the exit code of a misfit."""
    try:
        made = conformance(found, quality, era)
    except ModelError as error:
        print(page.paragraph(str(error), f"  {'does as its text does':29} undecided ", " " * 42))
        return None, Exit.OK
    print("\n".join(difference.lines(made, broken)))
    codes = {Result.HOLDS: Exit.OK, Result.VIOLATED: Exit.VIOLATED}
    return difference.as_json(made), codes.get(difference.result(made), Exit.UNDECIDED)


def record(options: argparse.Namespace) -> int:
    """Run the script here; the command's exit code, or the script's."""
    if not options.run:
        raise ModelError("record what?  give the command that offlines: record OUT COMMAND...")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.sh"
        file.write_text(script())
        return subprocess.run(["sh", str(file), options.out, *options.run], check=False).returncode


def zoneinfo(options: argparse.Namespace) -> int:
    """Say what snapshots tell; the exit code."""
    snapshots = []
    for name in options.file:
        text = _text(name)
        try:
            snapshots.append(parse(text))
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
    found = findings(snapshots)
    if options.log:
        found += kernel_log.findings(kernel_log.read(_text(options.log).splitlines()))
    for finding in found:
        print(page.paragraph(finding.text, "", "  "))
    code = Exit.VIOLATED if any(f.bad for f in found) else Exit.UNDECIDED if any(f.open for f in found) else Exit.OK
    print(f"exit {int(code)}: {SAID[code]}")
    return int(code)


def _text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"cannot read {name}: {error.strerror}") from error


def write_script(options: argparse.Namespace) -> int:
    """Write the recorder; the exit code."""
    writable([options.file])
    write_text(options.file, script())
    if options.file != "-" and Path(options.file).is_file():
        file = Path(options.file)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        print(f"{options.file}: as root, sh {options.file} trace.txt sh -c 'echo offline > …/memoryN/state'")
    return int(Exit.OK)


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.verb == "lab":
        # the laboratory needs programs that nobody else does
        from verify.observe.lab import laboratory

        verb = laboratory
    else:
        verb = {"script": write_script, "record": record, "check": check, "zoneinfo": zoneinfo}[options.verb]
    try:
        return verb(options)
    except ModelError as error:
        fail(f"{PROG} {options.verb}: {error}")


if __name__ == "__main__":
    raise SystemExit(main())
