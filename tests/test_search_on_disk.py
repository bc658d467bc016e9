"""The search beyond its memory: what it finds with fingerprints and states on disk is what it finds without."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.test_native import ONE_CPU, TWO_CPUS, compiled, transitions_of
from verify.explore import blocks, native
from verify.explore import library as c
from verify.explore.__main__ import main
from verify.explore.blocks import PrintSet, key_of
from verify.explore.disk import Disk, Runs
from verify.explore.native import NativeSearch
from verify.explore.search import Limits, initial_rows
from verify.explore.symmetry import Symmetric


class _NoEnd(Limits):
    """Memory is short from the first state on."""

    def exceeded(self):
        return ""


def _found(transitions, disk="", threads=2, memory_mb=1.0):
    search = NativeSearch(c.library(), threads, str(disk), transitions, _NoEnd(None, memory_mb), 0)
    found = search.run(initial_rows(transitions.model, isinstance(transitions, Symmetric)))
    return search, (
        found.states, found.transitions, found.levels, found.violated, found.reached, found.deadlocks,
        found.widest, found.stopped,
    )  # fmt: skip


@pytest.fixture
def few(monkeypatch):
    """Blocks of few states, so that there is something to keep."""
    monkeypatch.setattr(native, "_ROOM", 512)
    monkeypatch.setattr(blocks, "_FIRST", 256)


@compiled
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("reduce", "finite", "name"),
    [("full", TWO_CPUS, "v5.11"), ("full", TWO_CPUS, "isolate-before-disable"), ("movers", ONE_CPU, "v5.11")],
)
def test_the_same_is_found(few, tmp_path, reduce, finite, name, threads):
    whole, without = _found(transitions_of(name, finite, reduce))
    search, found = _found(transitions_of(name, finite, reduce), tmp_path, threads)
    assert found == without
    assert whole.disk is None and len(search.disk.runs._runs) > (reduce == "full") and search.found.disk_mb > 0
    assert list(tmp_path.iterdir()) == []


@compiled
def test_frontiers_alone_may_be_on_disk(few, tmp_path, monkeypatch):
    left = iter([0])
    monkeypatch.setattr(NativeSearch, "_left", lambda _: next(left, 1e9))
    transitions = transitions_of("v5.11", TWO_CPUS, "full")
    search, found = _found(transitions, tmp_path)
    assert found == _found(transitions_of("v5.11", TWO_CPUS, "full"))[1]
    assert search._on_disk and not search.disk.runs


@compiled
def test_states_that_are_not_held_against_the_runs_show(few, tmp_path, monkeypatch):
    """The comparison above fails where it should: what was written out is found again, and again."""
    monkeypatch.setattr(Runs, "known", lambda _, keys: np.zeros(len(keys), bool))
    search = NativeSearch(c.library(), 2, str(tmp_path), transitions_of("v5.11", ONE_CPU, "full"), Limits(), 0)
    rest = _found(transitions_of("v5.11", ONE_CPU, "full"))[1]
    search.limits = _After(rest[2] + 20, 1.0)
    assert search.run(initial_rows(search.model, True)).states > rest[0]


class _After(Limits):
    """Without an end it would have none."""

    def __init__(self, times, memory_mb):
        super().__init__(None, memory_mb)
        self.times = 50 * times

    def exceeded(self):
        self.times -= 1
        return "" if self.times > 0 else "out of time"


@compiled
def test_a_set_comes_out_in_order():
    dice = np.random.default_rng(3)
    for n in (0, 1, 100, 3000, 50000):
        found = PrintSet(c.library())
        prints = np.unique(dice.integers(0, 1 << 63, n, dtype=np.uint64) * np.uint64(2))
        found.add(prints)
        # as many as there is room for, at the end of the set: some of them lie at its beginning
        keys = np.arange(-40, 0, dtype=np.int64).astype(np.uint64)
        last = keys * np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
        found.add(last)
        parts = list(found.in_order())
        whole = np.concatenate(parts)
        assert np.array_equal(whole, np.sort(key_of(np.concatenate([prints, last]))))
        assert n < 50000 or len(parts) > 1
        found.clear()
        assert list(found.in_order()) == []


def test_runs_know_what_is_in_them(tmp_path, monkeypatch):
    monkeypatch.setattr("verify.explore.disk._CHUNK", 64)
    dice = np.random.default_rng(4)
    runs = Runs(tmp_path)
    assert not runs
    kept = [np.unique(dice.integers(0, 5000, n, dtype=np.uint64)) for n in (1000, 1, 300, 0)]
    for run in kept:
        assert runs.write(np.array_split(run, 7)) == 8 * len(run)
    asked = np.arange(0, 6000, dtype=np.uint64)
    assert np.array_equal(runs.known(asked), np.isin(asked, np.concatenate(kept)))
    for few_keys in (asked[:1], asked[-1:], asked[:0], asked[::97]):
        assert np.array_equal(runs.known(few_keys), np.isin(few_keys, np.concatenate(kept)))


SMALL = ["--cpus", "1", "--allocs", "0", "--updates", "0", "--property", "no_stray_page", "--beside", "none"]


@compiled
def test_the_command_goes_on_on_disk_and_says_so(tmp_path, monkeypatch):
    target = tmp_path / "found.json"
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(native, "_ROOM", 64)
    monkeypatch.setattr(native, "now_mb", lambda: 1e9)
    asked = [*SMALL, "--disk", str(tmp_path / "there"), "--json", str(target), "--quiet"]
    assert main(asked) == 0
    assert json.loads(target.read_text())["verdicts"][0]["statistics"]["disk_mb"] > 0
    assert list((tmp_path / "there").iterdir()) == []


@compiled
def test_a_full_disk_is_undecided(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(native, "now_mb", lambda: 1e9)
    monkeypatch.setattr(Disk, "store", full)
    assert main([*SMALL, "--disk", str(tmp_path)]) == 3
    assert "no more room on disk (--disk): No space left on device" in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.iterdir()) == []


@compiled
def test_an_interrupt_leaves_nothing_behind(tmp_path):
    """The searches are processes of their own then, which are ended where they are."""
    command = [sys.executable, "-m", "verify.explore", "--cpus", "4", "--pages", "4", "--frees", "3", "--quiet"]
    there = subprocess.Popen(
        [*command, "--memory-limit", "200", "--disk", str(tmp_path), "--jobs", "2"], start_new_session=True
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob("*/straypage-search-*/states-*")) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) and there.poll() is None
    os.killpg(there.pid, signal.SIGINT)
    assert there.wait(60) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--disk", "/nowhere/at/all"], "--disk /nowhere/at/all: no such folder"),
        (["--disk", "/proc"], "--disk /proc: nothing can be written there"),
        (["--disk", ".", "--compiler", "none"], "--disk needs the compiled loop"),
    ],
)
def test_a_disk_that_cannot_be_used_is_said(more, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*SMALL, *more])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
