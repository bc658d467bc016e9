"""The one error that kernelmodel raises for misuse."""

from __future__ import annotations


class ModelError(Exception):
    """A misuse of the model: a double free, an enable without a disable, an unknown CPU, a step that is not enabled.

    The message is one line that names the cause and, where there is one, the cure.  Whoever raises it does so before
    the first change, so the state is what it was before the call.
    """


class RefinementError(AssertionError):
    """A bug of the model itself: a concrete step did something that the abstract half of its operation does not allow."""
