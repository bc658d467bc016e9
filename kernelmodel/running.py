"""Running a routine from one operation to the next: what goes wrong in its text is told with the line, and the cure."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from kernelmodel.cells import CELLS
from kernelmodel.errors import ModelError
from kernelmodel.ops import CpuOp, Op, Routine
from kernelmodel.text import KernelText, c_name

#: where our own text is
_OURS = str(Path(__file__).parent)
#: what Python makes of a name that begins with two underscores where a class uses it
_RENAMED = re.compile(r"_[A-Za-z0-9]+\w*?__(?P<name>\w+)")


def advance(routine: Routine, value: Any = None) -> Op | CpuOp:
    """Run ``routine`` to its next operation, which it returns; StopIteration when the routine has returned.

    What goes wrong in the text of a routine, such as a user's variant, becomes a ModelError that names the line.
    """
    try:
        yielded = routine.send(value)
    except (StopIteration, KeyboardInterrupt):
        raise
    except ModelError as error:
        # what a value of C says of itself does not know where it stands
        if type(error) is ModelError and (places := _theirs(error)) and places[-1][0] not in str(error):
            raise ModelError(f"{_line_of(error)}: {error}") from error
        raise
    except BaseException as error:
        # SystemExit too: a text does not end the command that runs it
        raise ModelError(f"{_line_of(error)}: {type(error).__name__}: {error}{_cure_of(error)}") from error
    if not isinstance(yielded, (Op, CpuOp)):
        where = _innermost(routine)
        raise ModelError(f"{where} yields {yielded!r}: a routine yields operations (kernelmodel.ops) and nothing else")
    if isinstance(yielded, Op):
        check_cells(yielded)
    return yielded


def check_cells(op: Op) -> None:
    """ModelError if an operation writes a cell that there is not."""
    for cell, _ in op.updates:
        if cell.name not in CELLS:
            raise ModelError(
                f"{op.text}: unknown cell {cell}: kernelmodel/cells.py has them; a kernel declares those of its own in `cells`"
            )


def bound_to(yielded: Op | CpuOp, cpu: int) -> Op:
    """The operation as it is on ``cpu``; what goes wrong in making it is a ModelError, as in :func:`advance`."""
    if isinstance(yielded, Op):
        return yielded
    try:
        op = yielded.at(cpu)
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ModelError(f"{_line_of(error)}: {type(error).__name__}: {error}{_cure_of(error)}") from error
    if not isinstance(op, Op):
        raise ModelError(f"{yielded.text}: at({cpu}) gives {op!r}, which is no operation")
    return op


def _line_of(error: BaseException) -> str:
    """Where in a text it happened: the innermost place that is not ours, or the innermost of all."""
    file, line = (_theirs(error) or _places(error) or [("?", 0)])[-1]
    return f"{file}, line {line}"


def _theirs(error: BaseException) -> list[tuple[str, int]]:
    return [place for place in _places(error) if not place[0].startswith(_OURS)]


def _places(error: BaseException) -> list[tuple[str, int]]:
    found, traceback = [], error.__traceback__
    while traceback is not None:
        found.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _innermost(routine: Any) -> str:
    while getattr(routine, "gi_yieldfrom", None) is not None and hasattr(routine.gi_yieldfrom, "gi_frame"):
        routine = routine.gi_yieldfrom
    frame = routine.gi_frame
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}: {frame.f_code.co_name}()"


def _cure_of(error: BaseException) -> str:
    """What to do where a text asks an object for what it has not; empty where that is not known."""
    if not isinstance(error, AttributeError) or not error.name:
        return ""
    renamed = _RENAMED.fullmatch(error.name)
    asked = f"__{renamed['name']}" if renamed else error.name
    there = [name for name in dir(error.obj) if not name.startswith("__")]
    if isinstance(error.obj, KernelText):
        kernel = type(error.obj)
        ours = next((name for name in there if c_name(kernel, name) == asked), None)
        if ours is not None:
            return f": C's {asked}() is {ours}() here"
    close = difflib.get_close_matches(asked.lstrip("_"), there, 1, 0.8)
    return f": did you mean {close[0]}?" if close else ""
