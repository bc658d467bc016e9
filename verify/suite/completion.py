"""Completion in a shell, by argcomplete where it is installed: verbs, options, and names of kernels and properties."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from kernelmodel.kernels import KERNELS
from kernelmodel.versions.later_mutants import EVERY
from properties.catalogue import PROPERTIES
from verify.suite.overview import VERBS

#: destination of an option or argument -> the names that it takes
_NAMES: dict[str, tuple[str, ...]] = {
    "kernel": tuple(KERNELS),
    "mutant": tuple(EVERY),
    "mutants": tuple(EVERY),
    "property": (*PROPERTIES, "all"),
    "a": (*KERNELS, *EVERY),
    "b": (*KERNELS, *EVERY),
}


def complete() -> None:
    """Answer a shell that asks for completions, and leave; return at once for everybody else."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        argcomplete: Any = import_module("argcomplete")
    except ImportError:
        return
    words = _typed(os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", ""))
    start = int(os.environ["_ARGCOMPLETE"])
    # the word under the cursor is still being written, so a verb counts only with something after it
    if len(words) > start + 1 and words[start] in VERBS:
        os.environ["_ARGCOMPLETE"] = str(start + 1)
        argcomplete.autocomplete(_named(_parser_of(words[start])))
        return
    argcomplete.autocomplete(_verbs())


def _typed(line: str, point: str) -> list[str]:
    """The words up to the cursor, the last one perhaps empty."""
    return line[: int(point)].split(" ") if point.isdigit() else line.split(" ")


def _verbs() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=tuple(VERBS))
    return parser


def _parser_of(verb: str) -> argparse.ArgumentParser:
    made = getattr(import_module(VERBS[verb].module), "parser", argparse.ArgumentParser)()
    assert isinstance(made, argparse.ArgumentParser)
    return made


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser with names to choose from; whatever has none is a file."""
    for action in parser._actions:
        if action.dest in _NAMES and action.choices is None:
            action.completer = _either(_NAMES[action.dest], action)  # type: ignore[attr-defined]
    return parser


def _either(names: Iterable[str], action: argparse.Action) -> Any:
    completers: Any = import_module("argcomplete.completers")
    if action.dest in ("a", "b"):
        files = completers.FilesCompleter(("py",))
        return lambda prefix, **rest: [*(n for n in names if n.startswith(prefix)), *files(prefix, **rest)]
    return completers.ChoicesCompleter(tuple(names))
