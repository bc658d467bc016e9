"""What kernelmodel raises: for misuse, for a kernel that does what cannot be done, and for a bug of the model itself."""

from __future__ import annotations

import difflib
import re
from typing import Any


class ModelError(Exception):
    """A misuse of the model: a double free, an enable without a disable, an unknown CPU, a step that is not enabled.

    The message is one line that names the cause and, where there is one, the cure.  Whoever raises it does so before
    the first change, so the state is what it was before the call.
    """


class BugError(ModelError):
    """A kernel does what cannot be done: it frees a free page, offlines one in use, unlocks what it does not hold.

    Where the C would corrupt a list or come to a BUG_ON(), the concrete model stops.  ``step`` is the step of a history
    that could not be made, where a machine has raised it.
    """

    step: Any = None


class RefinementError(AssertionError):
    """A bug of the model itself: a concrete step did something that the abstract half of its operation does not allow."""


#: what Python makes of a name that begins with two underscores where a class uses it
_RENAMED = re.compile(r"_[A-Za-z0-9]+\w*?__(?P<name>\w+)")


def cure_of(error: BaseException) -> str:
    """What to do where a text asks an object for what it has not; empty where that is not known."""
    if not isinstance(error, AttributeError) or not error.name:
        return ""
    renamed = _RENAMED.fullmatch(error.name)
    asked = f"__{renamed['name']}" if renamed else error.name
    there = [name for name in dir(error.obj) if not name.startswith("__")]
    for name in there:
        # a routine's first line has the C file and function that it is
        source = (getattr(getattr(type(error.obj), name, None), "__doc__", None) or "").partition("\n")[0]
        if f": {asked}(" in source:
            return f": C's {asked}() is {name}() here"
    close = difflib.get_close_matches(asked.lstrip("_"), there, 1, 0.8)
    return f": did you mean {close[0]}?" if close else ""
