"""Random histories of a state machine, each drawn anew, which an interrupt ends wherever it comes.

After its first ten examples Hypothesis draws one in six and makes the others from it, by copying one part over another:
that finds where equal values matter.  What a history finds depends on how it starts and who waits where, which these
share.  So histories are made in rounds that end before that: they find a bug among a few times fewer.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any
from unittest import SkipTest

from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

#: histories in a round: Hypothesis's health checks look at as many, and only then it begins to change what it has drawn
ROUND = 10
#: what Hypothesis has Python call when it collects: what is raised there is printed and forgotten
_CALLBACK = "gc_callback"
#: seconds after which an interrupt that did not get out comes again
_AGAIN = 0.25


def hunt(machine: Any, chosen: settings, number: int | None = None) -> None:
    """Run the histories; AssertionError where one fails, KeyboardInterrupt where the user has had enough.

    The same ``number`` draws the same ones; without one they are others every time, unless the settings say otherwise.
    """
    if number is None:
        number = 0 if chosen.derandomize else secrets.randbits(32)
    with _interrupts_get_out():
        if chosen.database is not None and Phase.reuse in chosen.phases:
            # all of it at once: a round may end before the one that fails; SkipTest where there is nothing
            with suppress(SkipTest):
                phases = [p for p in chosen.phases if p is not Phase.generate]
                run_state_machine_as_test(machine, settings=settings(chosen, phases=phases))
        for nth, part in enumerate(_rounds(chosen)):
            run_state_machine_as_test(seed(number << 32 | nth)(machine), settings=part)


def _rounds(chosen: settings) -> Iterator[settings]:
    """As many histories as were asked for, all drawn."""
    phases = [p for p in chosen.phases if p is not Phase.reuse]
    for made in range(0, chosen.max_examples, ROUND):
        yield settings(chosen, max_examples=min(ROUND, chosen.max_examples - made), phases=phases)


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
