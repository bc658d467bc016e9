"""What every command does about whatever may happen to it: a verdict's exit code is never given by accident."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from kernelmodel.errors import ModelError
from verify.verdict import Exit

Main = Callable[[Sequence[str] | None], int]
#: set to anything, it shows the traceback of a crash
DEBUG = "STRAYPAGE_DEBUG"
#: packages that only some commands need, by the extra that brings them
EXTRAS = {"hypothesis": "test", "crosshair": "test", "pytest": "test", "cvc5": "cvc5", "matplotlib": "plots"}
#: the name of standard output as a file
STANDARD_OUTPUT = "-"
_standard_output: list[TextIO] = []
#: what shells report of a program that SIGPIPE ended
READER_GONE = 128 + 13


def command(program: str) -> Callable[[Main], Callable[..., int]]:
    """Make a main function end with a documented exit code: a crash, a closed pipe, a text that calls exit()."""

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(arguments: Sequence[str] | None = None) -> int:
            before = sys.stdout
            try:
                code = main(arguments)
                sys.stdout.flush()
                before.flush()
                return code
            except BrokenPipeError:
                return _reader_gone()
            except KeyboardInterrupt:
                print(f"\n{program}: interrupted; nothing was decided", file=sys.stderr)
                return int(Exit.UNDECIDED)
            except ModelError as error:
                print(f"{program}: {error}", file=sys.stderr)
                return int(Exit.USAGE)
            except Exception as error:
                return _crashed(program, error)
            finally:
                sys.stdout = before
                _standard_output.clear()

        return guarded

    return decorate


def needs(program: str, *modules: str) -> None:
    """ModelError if a package that is an extra is not there."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ValueError:
            found = False
        if not found:
            raise ModelError(f"{program} needs {module}: pip install 'straypage[{EXTRAS[module]}]'")


def _reader_gone() -> int:
    """Whoever read our output went away: be quiet, also when the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return READER_GONE


def _crashed(program: str, error: Exception) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    what = str(error).strip().splitlines()
    detail = f": {what[0]}" if what else ""
    where = traceback.extract_tb(error.__traceback__)[-1:]
    at = f" at {Path(where[0].filename).name}:{where[0].lineno}" if where else ""
    print(
        f"{program}: crashed, nothing was decided: {type(error).__name__}{detail}{at}; this is a bug of straypage"
        f" ({DEBUG}=1 shows the traceback)",
        file=sys.stderr,
    )
    return int(Exit.CRASHED)


def keep_standard_output_for_a_file() -> None:
    """From now on the command's own text goes to standard error: the file ``-`` has standard output for itself."""
    _standard_output[:] = [sys.stdout]
    sys.stdout = sys.stderr


def write_text(path: str | Path, text: str) -> None:
    """Write a file, or standard output for ``-``; an OSError names it, also where the system's own does not (a full disk)."""
    if str(path) == STANDARD_OUTPUT:
        out = _standard_output[0] if _standard_output else sys.stdout
        out.write(text if text.endswith("\n") else text + "\n")
        out.flush()
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
