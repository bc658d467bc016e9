"""Random histories end where the user interrupts them, wherever that is."""

import os
import signal
import threading
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from kernelmodel.kernels import kernel
from properties.history import History
from properties.hunt import hunt
from properties.profiles import RACE_RULES
from properties.stateful import DrainRace, machine_for

FEW = settings(
    max_examples=2, stateful_step_count=2, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def _interrupts(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    monkeypatch.undo()
    signal.signal(signal.SIGINT, before)


class Swallows(RuleBasedStateMachine):
    """A step that takes an interrupt for its own, as an import does, and what a collector calls."""

    @rule()
    def step(self):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        except KeyboardInterrupt:
            pass
        time.sleep(0.5)


def test_an_interrupt_that_somebody_swallows_comes_again():
    with pytest.raises(KeyboardInterrupt):
        hunt(Swallows, FEW)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # none is left that comes afterwards
    time.sleep(0.4)


def test_without_that_it_is_lost(monkeypatch):
    monkeypatch.setattr(threading.Timer, "start", lambda _: None)
    hunt(Swallows, FEW)


class Collects(RuleBasedStateMachine):
    """An interrupt while Python collects, where what is raised is printed and forgotten."""

    @rule()
    def step(self):
        def gc_callback():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

        gc_callback()
        time.sleep(0.5)


def test_nothing_is_raised_where_it_would_be_forgotten():
    with pytest.raises(KeyboardInterrupt) as stopped:
        hunt(Collects, FEW)
    assert "gc_callback" not in [entry.name for entry in stopped.traceback]


def test_an_interrupted_history_is_not_judged_at_its_end(monkeypatch):
    """The routine in which the interrupt comes ends with it, and nobody gives back what it holds."""
    original, ended = History.advance, []

    def advance(self, task, *rest):
        holds = [c for c, v in self.machine.state.stored.items() if c.name == "mutex" and v == task.number]
        if holds and not ended:
            ended.append(task)
            task.routine.close()
            raise KeyboardInterrupt
        return original(self, task, *rest)

    monkeypatch.setattr(History, "advance", advance)
    machine = machine_for(kernel("v5.11"), DrainRace)
    with pytest.raises(KeyboardInterrupt):
        hunt(machine, settings(FEW, max_examples=20, stateful_step_count=RACE_RULES))
