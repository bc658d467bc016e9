"""``python -m verify.tree DIR``: the map of a kernel's C."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any

from kernelmodel.ctext.kernel import class_of, reading_of
from kernelmodel.ctext.reader import Reading
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.vocabulary.fingerprints import recorded
from verify import page
from verify.command import command
from verify.options import Parser, add_said_of_tree, fail, writable
from verify.report import write_json
from verify.tree.agreement import Difference, compared
from verify.tree.leaves import LEAVES, Checked, check
from verify.verdict import Exit

PROG = "python -m verify.tree"
_EPILOG = """exit codes:
  0  everything is read, or summed up as it was checked
  1  with --check-leaves: a leaf does something else than its summary
  2  bad input
  3  something could not be read
  4  a leaf is another one than those for which its summary was checked"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="The map of a kernel's own C: each routine with file and line; whether it is read, summed up, absent, or "
        "could not be read and why; and where it does something else than the model's text of its era.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("tree", metavar="DIR[@REV]", help="the top of a kernel's source, or a revision of it in git")
    add_said_of_tree(p)
    p.add_argument("--decided", action="store_true", help="say how each #if around what is read was decided")
    p.add_argument("--python", metavar="FUNCTION", help="show how a C function is read, as a routine of the model")
    p.add_argument(
        "--check-leaves", action="store_true",
        help=f"run the C of {', '.join(LEAVES)} on random small states, against the model's summaries",
    )  # fmt: skip
    p.add_argument("--json", metavar="FILE", help="write the map as JSON (-: to standard output)")
    p.add_argument("--quiet", action="store_true", help="print nothing; the exit code tells")
    return p


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        spec = options.trees[0]
        writable([options.json])
        era, reading = reading_of(spec)
        if options.python:
            print(_python(reading, options.python))
            return int(Exit.OK)
        if options.check_leaves:
            return _leaves(check(reading.tree, era), options.quiet)
        record = the_map(spec, era, reading)
    except ModelError as error:
        fail(f"{PROG}: {error}")
    code = Exit.UNDECIDED if reading.refused else Exit.OK
    if any(not leaf["like"] for leaf in record["leaves"]):
        code = max(code, Exit.VACUOUS)
    if options.json:
        write_json(options.json, {**record, "exit": int(code)})
    if not options.quiet and options.json != "-":
        print("\n".join(_lines(record, options.decided and reading)))
        print(f"exit {int(code)}: {_SAID[code]}")
    return int(code)


_SAID = {
    Exit.OK: "everything is read, or summed up as it was checked",
    Exit.UNDECIDED: "something could not be read: no verdict about this tree is given",
    Exit.VACUOUS: "read, given that the changed leaves still do what the model's summaries say",
}


def the_map(spec: TreeSpec, era: type[KernelText], reading: Reading) -> dict[str, Any]:
    """The map as JSON values."""
    kernel = class_of(spec, era, reading) if not reading.refused else None
    routines = []
    absent = {r.c for r in reading.absent}
    for routine in reading.words.routines:
        function = None if routine.c in absent else reading.function(routine.c, routine.file)
        entry: dict[str, Any] = {"c": routine.c, "file": routine.file, "line": function.line if function else None}
        if routine.c in reading.refused:
            entry |= {"status": "not read", "why": reading.refused[routine.c]}
        elif routine.c in absent:
            entry |= {"status": "absent"}
        elif f"c_{routine.c}" in reading.translated or any(
            t.function.name == routine.c for t in reading.translated.values()
        ):
            entry |= {"status": "read"}
            if routine.model and kernel is not None:
                entry |= _difference(compared(kernel, era, routine.model, routine.parameters))
        else:
            entry |= {"status": "not called"}
        routines.append(entry)
    known = {r.c for r in reading.words.routines}
    helpers = sorted({t.function.name for t in reading.translated.values()} - known)
    for name in helpers:
        function = next(t.function for t in reading.translated.values() if t.function.name == name)
        routines.append({"c": name, "file": function.file, "line": function.line, "status": "read", "helper": True})
    for name in sorted(reading.refused.keys() - known):
        routines.append({"c": name, "file": "", "line": None, "status": "not read", "why": reading.refused[name]})
    leaves = [
        {"c": leaf.name, "file": leaf.file, "line": leaf.line, "like": list(leaf.like), "known": list(recorded(leaf.name)),
         "caller": leaf.caller, "why": leaf.why}
        for leaf in reading.summed_up()
    ]  # fmt: skip
    return {
        "schema": "straypage-tree-1", "tree": str(spec), "title": spec.title, "version": reading.tree.version,
        "era": reading.words.era, "text": era.name, "routines": routines, "leaves": leaves,
    }  # fmt: skip


def _leaves(checked: Sequence[Checked], quiet: bool) -> int:
    """What running the leaves came to, and the exit code."""
    for one in [] if quiet else checked:
        if one.refused:
            told = f"not run: {one.refused}"
        elif one.difference:
            told = f"DOES SOMETHING ELSE, after {one.states} states: {one.difference}"
        else:
            told = f"does what the summary says on {one.states} random states"
        print(page.paragraph(f"{one.name}(): {told}", "  ", "      "))
    code = Exit.VIOLATED if any(c.difference for c in checked) else Exit.OK
    code = max(code, Exit.UNDECIDED if any(c.refused for c in checked) else Exit.OK)
    if not quiet:
        print(
            f"  each with up to 11 pages on the lists, 4 blocks of {1 << 3} pages of which some are isolated, one CPU, order 0\n"
            f"exit {int(code)}"
        )
    return int(code)


def _difference(found: Difference) -> dict[str, str]:
    if found.none:
        return {"differs": ""}
    return {"differs": found.reason or f"the C does {found.c}, the text {found.text}"}


def _lines(record: dict[str, Any], reading: Reading | bool) -> list[str]:
    version = record["version"] or "no version in its Makefile"
    title = f"{record['title']}: {version}, read as {record['era']}'s C, beside {record['text']}'s text"
    lines = [*page.fill(title), ""]
    for entry in record["routines"]:
        where = f"{entry['file']}:{entry['line']}" if entry["line"] else entry["file"]
        told = entry["status"]
        if entry.get("why"):
            told += f": {entry['why']}"
        elif entry.get("helper"):
            told += ", for it is called"
        elif entry.get("differs") == "":
            told += f", as {record['text']}'s text"
        elif entry.get("differs"):
            told += f"; {entry['differs']}"
        lines += page.fill(f"{entry['c']}()  {where}  {told}", "  ", "      ")
    own = [leaf for leaf in record["leaves"] if leaf["why"]]
    summed = [leaf for leaf in record["leaves"] if not leaf["why"]]
    named = [leaf for leaf in summed if not leaf["caller"]]
    lines += ["", f"summed up, {len(named)} that these use and {len(summed) - len(named)} that those call:"]
    for leaf in [*summed, None, *own]:
        if leaf is None:
            lines += ["", "not read, the model's text stands for them:"]
            continue
        where = f"{leaf['file']}:{leaf['line']}" if leaf["line"] else f"a macro of {leaf['file']}"
        if leaf["like"]:
            told = f"as in {', '.join(leaf['like'])}"
        else:
            others = ", ".join(leaf["known"])
            told = f"CHANGED: not as in {others}" if others else "NOT KNOWN: its summary was checked for no such C"
        by = f", called by {leaf['caller']}()" if leaf["caller"] else f", {leaf['why']}:" if leaf["why"] else ""
        if leaf["like"] and leaf["caller"]:
            continue
        lines += page.fill(f"{leaf['c']}()  {where}{by}  {told}", "  ", "      ")
    if isinstance(reading, Reading):
        lines += ["", "decided:"]
        spans = [(f.file, f.line, f.end) for f in reading.functions().values()]
        for path in sorted({file for file, _, _ in spans}):
            file = reading.file(path)
            for line, condition, holds in file.decided if file else []:
                if any(f == path and first <= line <= last for f, first, last in spans):
                    lines += page.fill(f"{path}:{line}: {condition}: {'yes' if holds else 'no'}", "  ", "      ")
    return lines


def _python(reading: Reading, name: str) -> str:
    found = [t for t in reading.translated.values() if t.function.name == name]
    if found:
        return "\n\n".join(t.python for t in found)
    if name in reading.refused:
        raise ModelError(reading.refused[name])
    close = difflib.get_close_matches(name, [t.function.name for t in reading.translated.values()], 1)
    raise ModelError(f"{name}() is not read" + (f": did you mean {close[0]}()?" if close else ""))


if __name__ == "__main__":
    raise SystemExit(main())
