"""Random histories are drawn anew, and end where the user interrupts them, wherever that is."""

import copy
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kernelmodel.kernels import kernel
from properties import hunt as hunting
from properties.history import History
from properties.hunt import hunt
from properties.profiles import FINDING, RACE_RULES
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


class Starts(RuleBasedStateMachine):
    """How each history starts."""

    starts: ClassVar[list[int]] = []

    @initialize(start=st.integers(0, 10**6))
    def begin(self, start):
        self.starts.append(start)

    @rule(said=st.integers(0, 10))
    def step(self, said):
        pass


def _starts(number, **more):
    Starts.starts.clear()
    hunt(Starts, settings(FEW, **{"max_examples": 200, "phases": FINDING, "derandomize": True, **more}), number)
    return list(Starts.starts)


def test_each_history_starts_anew(monkeypatch):
    starts = _starts(0)
    assert len(starts) >= 200 and len(set(starts)) > 0.6 * len(starts)
    # the twin: as Hypothesis makes so many
    monkeypatch.setattr(hunting, "ROUND", 200)
    starts = _starts(0)
    assert len(starts) >= 200 and len(set(starts)) < 0.6 * len(starts)


def test_a_number_says_which_histories():
    few = {"max_examples": 30}
    assert _starts(3, **few) == _starts(3, **few) != _starts(4, **few)
    assert _starts(None, **few) == _starts(0, **few)
    assert _starts(None, **few, derandomize=False) != _starts(None, **few, derandomize=False)


class Fails(RuleBasedStateMachine):
    """Starts that fail, each of which a database keeps."""

    bad: ClassVar[Callable[[int], bool]]

    @initialize(start=st.integers(0, 10**9))
    def begin(self, start):
        assert not type(self).bad(start), f"starts at {start}"

    @rule()
    def step(self):
        pass


def test_whatever_a_database_has_is_tried_however_much_it_is():
    database, starts = InMemoryExampleDatabase(), []
    while len(starts) < 15:
        Fails.bad = lambda start: start > 10**6 and start not in starts
        with pytest.raises(AssertionError, match=r"^starts at") as failure:
            hunt(Fails, settings(FEW, max_examples=30, database=database, phases=FINDING), len(starts))
        starts.append(int(str(failure.value).split()[2]))
    assert len(set(starts)) == 15
    for start in starts:
        # one that no longer fails is forgotten
        kept = InMemoryExampleDatabase()
        kept.data = copy.deepcopy(database.data)
        Fails.bad = start.__eq__
        with pytest.raises(AssertionError, match=rf"^starts at {start}\b"):
            hunt(Fails, settings(FEW, max_examples=30, database=kept, phases=[Phase.reuse, Phase.generate]), 99)
    hunt(Fails, settings(FEW, database=InMemoryExampleDatabase(), phases=[Phase.reuse, Phase.generate]), 99)


def test_rounds_are_as_many_histories_as_were_asked_for_and_none_is_from_the_database():
    chosen = settings(FEW, max_examples=25, database=InMemoryExampleDatabase(), phases=[Phase.reuse, Phase.generate])
    rounds = list(hunting._rounds(chosen))
    assert [r.max_examples for r in rounds] == [10, 10, 5]
    assert not any(Phase.reuse in r.phases for r in rounds)
    assert all(Phase.generate in r.phases and r.stateful_step_count == chosen.stateful_step_count for r in rounds)


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
