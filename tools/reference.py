"""``python tools/reference.py``: docs/reference.md, made from the commands' own parsers; --check says whether it is current."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script, this folder stands there instead of the repository's
    sys.path.insert(0, str(ROOT))

from properties.catalogue import PROPERTIES  # noqa: E402
from properties.lemmas import LEMMAS  # noqa: E402
from verify.options import EXIT_CODES  # noqa: E402
from verify.suite.overview import VERBS, overview  # noqa: E402

from kernelmodel.kernels import KERNELS  # noqa: E402  # isort: skip
from kernelmodel.versions.mutants import MUTANTS  # noqa: E402  # isort: skip

REFERENCE = ROOT / "docs/reference.md"
#: columns of a help text, and of prose
COLUMNS, WIDTH = 100, 120
#: further reading, by verb
SEE = {
    "ordering": "memory-models.md",
    "observe": "real-machines.md",
    "bmc": "engines.md",
    "explore": "engines.md",
    "prove": "engines.md",
    "mutants": "mutants.md",
    "contracts": "contracts.md",
    "compare": "comparing-kernels.md",
    "replay": "reading-a-trace.md",
}
_HEAD = """# Reference

Made by `python tools/reference.py --write` from what the commands say of themselves with `--help`;
`tests/test_reference.py` checks that it is current. Each command is `python -m verify VERB`, and where the package is
installed `straypage VERB`; `python -m verify.VERB` is the same."""
_EXIT = """Where several apply, the largest number. `compare`, `contracts` and `replay` say above what a code means there."""


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of a verb."""
    made: argparse.ArgumentParser = import_module(VERBS[verb].module).parser()
    return made


@contextlib.contextmanager
def everywhere_the_same() -> Iterator[None]:
    """Help texts have one width, no colours, and defaults that do not depend on this machine."""
    fixed = {"COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
    with patch.dict(os.environ, fixed), patch("os.cpu_count", return_value=2):
        yield


def reference() -> str:
    """The whole page."""
    with everywhere_the_same():
        parts = [_HEAD, _verbs(), *(_command(verb) for verb in VERBS), _exit_codes(), *_names()]
    return "\n\n".join(parts) + "\n"


def _verbs() -> str:
    lines = [f"| [`{v.name}`](#{v.name}) | {v.says} |" for v in VERBS.values()]
    screen = _block(overview("python -m verify"))
    return "\n".join(["| verb | |", "|---|---|", *lines]) + "\n\n`python -m verify` alone prints this:\n\n" + screen


def _command(verb: str) -> str:
    parser = parser_of(verb)
    said = _prose(parser.description or "")
    more = [f"More: [{SEE[verb]}]({SEE[verb]})."] if verb in SEE else []
    # the description stands above as prose, and exit codes that all commands share stand below once
    parser.description = None
    if parser.epilog == EXIT_CODES:
        parser.epilog = None
        more.insert(0, "Exit codes: [as all](#exit-codes).")
    parts = [_block(p.format_help()) for p in (parser, *_parts_of(parser))]
    return "\n\n".join(filter(None, [f"## {verb}", said, *parts, " ".join(more)]))


def _parts_of(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a command's own verbs."""
    return [
        part
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for part in action.choices.values()
    ]


def _exit_codes() -> str:
    rows = re.findall(r"^ *(\d+)  (.*)$", EXIT_CODES, re.M)
    table = "\n".join(["| code | |", "|---|---|", *(f"| {code} | {meaning} |" for code, meaning in rows)])
    return f"## Exit codes\n\n{_EXIT}\n\n{table}"


def _names() -> Iterator[str]:
    yield _table("Kernels", "kernel", {n: k.summary for n, k in KERNELS.items()})
    yield _table(
        "Mutants", "mutant", {m.name: f"{m.summary}; breaks {m.breaks}" for m in MUTANTS.values()},
        "v5.11 with one function changed; what breaks nothing is a control. [mutants.md](mutants.md) shows each change.",
    )  # fmt: skip
    yield _table("Properties", "property", {p.name: p.statement for p in PROPERTIES.values()})
    yield _table("Lemmas of verify.prove", "lemma", {m.name: m.says for m in LEMMAS.values()})


def _table(title: str, column: str, rows: Mapping[str, str], said: str = "") -> str:
    lines = [f"| `{name}` | {_escaped(text)} |" for name, text in rows.items()]
    return "\n\n".join(filter(None, [f"## {title}", said, "\n".join([f"| {column} | |", "|---|---|", *lines])]))


def _escaped(text: str) -> str:
    """Text for a cell of a table."""
    marked = re.sub(r"(?<![\w`])(__\w+(?:\(\))?)", r"`\1`", text)
    return marked.replace("|", "\\|")


def _prose(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_on_hyphens=False)


def _block(text: str) -> str:
    return f"```\n{text.strip()}\n```"


def differences(found: str, wanted: str) -> list[str]:
    """The lines in which two texts differ, as a diff; where help texts are wrapped does not count, Pythons differ in it."""
    if "".join(found.split()) == "".join(wanted.split()):
        return []
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), "docs/reference.md", "what --help says", lineterm=""
    )
    return list(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; returns 0, or 1 if it is stale."""
    parser = argparse.ArgumentParser(prog="python tools/reference.py", description=__doc__.split(": ", 1)[1])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write the page")
    what.add_argument("--check", action="store_true", help="say what is stale: exit 1")
    parser.add_argument("--file", type=Path, default=REFERENCE, help="the page (default: docs/reference.md)")
    options = parser.parse_args(arguments)
    wanted = reference()
    if options.write:
        options.file.write_text(wanted, encoding="utf-8")
        return 0
    found = options.file.read_text(encoding="utf-8") if options.file.exists() else ""
    stale = differences(found, wanted)
    if stale:
        print("\n".join(stale))
        print(f"{options.file} is stale: run `python tools/reference.py --write`", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
