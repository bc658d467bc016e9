"""Threads that take turns in Python, and are in the loop in C at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self


class EndedError(Exception):
    """Another thread has failed, or found that there is no use in going on."""


class Turns:
    """A lock that whoever works in Python holds, and leaves to others while he is away in C."""

    def __init__(self) -> None:
        """Nobody is away."""
        self._changed = threading.Condition()
        self._away = 0
        self._wait_to_be_alone = 0
        self.ended = False

    def __enter__(self) -> Self:
        """Wait for the turn."""
        self._changed.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to others."""
        self._changed.release()

    def end(self) -> None:
        """Have who waits here wait no more: EndedError."""
        self.ended = True
        self._changed.notify_all()

    def give_way(self) -> None:
        """Let go first who waits to be alone."""
        self._wait_for(lambda: not self._wait_to_be_alone)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Leave the turn to others for a while, after :meth:`give_way`."""
        self._away += 1
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()
            self._away -= 1
            self._changed.notify_all()

    def alone(self) -> None:
        """Wait until nobody is away; nobody is, then, as long as the turn is kept.  Others may have had it meanwhile."""
        self._wait_to_be_alone += 1
        try:
            self._wait_for(lambda: not self._away)
        finally:
            self._wait_to_be_alone -= 1
            self._changed.notify_all()

    def _wait_for(self, true: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self.ended or true())
        if self.ended:
            raise EndedError
