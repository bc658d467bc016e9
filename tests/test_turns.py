"""Threads of the compiled search: turns in Python, at the same time in C, and nothing moves under who is away."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from tests.test_native import ONE_CPU, TWO_CPUS, compiled, found_by, transitions_of
from verify.explore import library as c
from verify.explore import native
from verify.explore.arena import UNKNOWN, Arena
from verify.explore.native import NativeSearch
from verify.explore.search import Limits, initial_rows
from verify.explore.turns import EndedError, Turns


def test_who_waits_to_be_alone_is_alone():
    turns, seen = Turns(), []
    leaves, may_return = threading.Event(), threading.Event()

    def away():
        with turns:
            turns.give_way()
            with turns.away():
                leaves.set()
                may_return.wait(10)
                seen.append("returned")

    thread = threading.Thread(target=away)
    thread.start()
    assert leaves.wait(10)
    with turns:
        threading.Timer(0.05, may_return.set).start()
        turns.alone()
        seen.append("alone")
    thread.join()
    assert seen == ["returned", "alone"]


@pytest.mark.parametrize("waits", [Turns.alone, Turns.give_way])
def test_nobody_waits_for_who_has_failed(waits):
    turns, ended = Turns(), []

    def work():
        with turns, pytest.raises(EndedError):
            # of both, one waits for ever otherwise
            turns._away += 1
            turns._wait_to_be_alone += 1
            waits(turns)
        ended.append(True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while not turns._wait_to_be_alone:
        pass
    with turns:
        turns.end()
    thread.join(10)
    assert ended == [True]


@compiled
@pytest.mark.parametrize(("reduce", "finite"), [("full", TWO_CPUS), ("movers", ONE_CPU)])
def test_eight_threads_find_what_one_does(monkeypatch, reduce, finite):
    whole = found_by("none", transitions_of("v5.11", finite, reduce))
    monkeypatch.setattr(native, "_ROOM", 64)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert found_by("auto", transitions_of("v5.11", finite, reduce), threads=8) == whole
    finally:
        sys.setswitchinterval(before)


@compiled
def test_what_goes_wrong_in_a_thread_ends_them_all(monkeypatch):
    """The error of a thread that is not the first reaches who asked."""
    main = threading.current_thread()
    busy = NativeSearch._busy

    def fails(self, worker):
        if threading.current_thread() is not main:
            raise MemoryError
        return busy(self, worker)

    monkeypatch.setattr(native, "_ROOM", 64)
    monkeypatch.setattr(NativeSearch, "_busy", fails)
    transitions = transitions_of("v5.11", TWO_CPUS, "full")
    search = NativeSearch(c.library(), 2, "", transitions, Limits(), 0)
    assert search.run(initial_rows(transitions.model, True)).stopped == "out of memory"


def _only_what_is_full(self, **more):
    for name, n in more.items():
        if not self.arrays[name].has_room(n):
            self.arrays[name].move(n)


@compiled
@pytest.mark.parametrize("nodes_move_as_well", [True, False])
def test_who_walks_arrays_that_have_moved_is_led_to_nothing_new(nodes_move_as_well, monkeypatch):
    """At each moment a thread may begin to walk; wherever it is led is in what it has.  Not if the nodes stay."""
    if not nodes_move_as_well:
        monkeypatch.setattr(Arena, "_make_room", _only_what_is_full)
    arena = Arena(transitions_of("v5.11", ONE_CPU, "full"), 1, c.library())
    dice, walked = np.random.default_rng(1), []
    for _ in range(300):
        v = dice.integers(0, 9, 6).tolist()
        if not arena.knows(arena.root(0), v):
            arena._make_room(leaves=1)
            leaf = arena.arrays["leaves"].append([(0, 0)])
            arena.plant(0, arena.learn(arena.root(0), v, [0, 1 + v[0] % 5], leaf))
        walked.append({name: arena.arrays[name].array for name in ("roots", "nodes", "leaves")})

    def inside(arrays):
        leads = (*arrays["roots"], *arrays["nodes"]["other"], *arrays["nodes"]["target"])
        return all(x == UNKNOWN or -len(arrays["leaves"]) <= x < len(arrays["nodes"]) for x in map(int, leads))

    assert len({len(w["leaves"]) for w in walked}) > 2
    assert all(map(inside, walked)) is nodes_move_as_well
