"""Random histories of a state machine, which an interrupt ends wherever it comes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

#: what Hypothesis has Python call when it collects: what is raised there is printed and forgotten
_CALLBACK = "gc_callback"
#: seconds after which an interrupt that did not get out comes again
_AGAIN = 0.25


def hunt(machine: Any, chosen: settings) -> None:
    """Run the histories; AssertionError where one fails, KeyboardInterrupt where the user has had enough."""
    with _interrupts_get_out():
        run_state_machine_as_test(machine, settings=chosen)


@contextmanager
def _interrupts_get_out() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = before
    waiting: list[threading.Timer] = []

    def come(number: int, frame: FrameType | None) -> Any:
        again = threading.Timer(_AGAIN, os.kill, (os.getpid(), number))
        again.daemon = True
        waiting.append(again)
        again.start()
        if frame is None or frame.f_code.co_name != _CALLBACK:
            handler(number, frame)

    signal.signal(signal.SIGINT, come)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for again in waiting:
            again.cancel()
