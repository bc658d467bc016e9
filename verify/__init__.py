"""Engines that decide properties of the kernel's text, the commands that run them, and :func:`check` for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify.api import check

__all__ = ["check"]


def __getattr__(name: str) -> Any:
    """``check``, imported when it is asked for: the commands start without it."""
    if name != "check":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from verify.api import check

    return check
