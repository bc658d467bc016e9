"""What kernelmodel raises: for misuse, for a kernel that does what cannot be done, and for a bug of the model itself."""

from __future__ import annotations

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
