"""Graphs in the user's cache: the same as anew, and never those of another text."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel import cache_folders
from kernelmodel.cells import Cell
from kernelmodel.graphs import digest, on_disk, remembered
from kernelmodel.graphs.folded_graph import op_key
from kernelmodel.graphs.reach import reach
from kernelmodel.kernels import kernel
from kernelmodel.ops import read
from kernelmodel.tasks import TASKS
from kernelmodel.terms import reg
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from tests.kept_files import files_in, own_cache
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.scenario import Scenario

ROOT = Path(__file__).parents[1]
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1)
STRAY = [PROPERTIES["no_stray_page"]]
WORKER = reach(V5_11, TASKS["worker"].make)
TOLD = """
from kernelmodel.kernels import kernel
from properties.catalogue import PROPERTIES
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.scenario import Scenario
model = Model(kernel("v5.11"), Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1), [PROPERTIES["no_stray_page"]])
print([n.op.text for t in model.tasks for n in t.graph.kept])
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(remembered, "_kept", type(remembered._kept)())
    return own_cache(monkeypatch, tmp_path, "graphs")


def graphs(model: Model) -> list:
    return [
        ([(n.number, op_key(n.op), n.stack, n.cpu, n.irqs_off) for n in t.graph.nodes], t.graph.locations, [
            [([c.key for c in cs], to) for cs, to in edges] for edges in (t.graph.entry, *(n.edges for n in t.graph.nodes))
        ])
        for t in model.tasks
    ]  # fmt: skip


def anew() -> list:
    remembered._kept.clear()
    return graphs(Model(V5_11, SMALL, STRAY))


def test_the_next_command_has_equal_graphs_and_runs_no_routine(cache, monkeypatch):
    first = anew()
    files = files_in(cache)
    assert files
    monkeypatch.setattr("verify.explore.model.fold", lambda *_, **__: pytest.fail("extracted again"))
    assert anew() == first
    assert files_in(cache) == files


def told(root: Path) -> str:
    done = subprocess.run([sys.executable, "-c", TOLD], cwd=root, check=True, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(root)})  # fmt: skip
    return done.stdout


def test_a_changed_text_never_meets_an_old_graph(cache, tmp_path):
    for name in digest.PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = told(tmp_path)
    assert told(tmp_path) == before
    routine = tmp_path / "kernelmodel" / "versions" / "v5_11.py"
    routine.write_text(routine.read_text() + "\n\nV5_11._drain_all_pages = None\n")
    with pytest.raises(subprocess.CalledProcessError):
        told(tmp_path)
    shutil.copy(ROOT / "kernelmodel" / "versions" / "v5_11.py", routine)
    assert told(tmp_path) == before
    # no routine is another, but what it is made of
    operations = tmp_path / "kernelmodel" / "ops.py"
    operations.write_text(operations.read_text().replace("mutex_lock(&", "mutex_lock_nested(&"))
    assert told(tmp_path) == before.replace("mutex_lock(&", "mutex_lock_nested(&") != before


def test_what_somebody_puts_into_a_class_is_another_text(monkeypatch):
    def said(key="key", kind=V5_11):
        return digest.of(reach(kind, TASKS["worker"].make), key)

    before = said()
    assert said() == before

    def drain_pages_zone(self, cpu, zone):
        yield read("pcp.count", zone.index, cpu)

    with monkeypatch.context() as patched:
        patched.setattr(kernel("base"), "drain_pages_zone", drain_pages_zone)
        changed = said()
    assert changed != before
    assert said() == before
    limits = V5_11.__mro__[1]
    with monkeypatch.context() as patched:
        patched.setattr(limits, "section", "zone_lock")
        assert said() != before
    assert said("another") != before
    assert said(kind=kernel("v5.14")) != before
    # what it is called, and what no drain worker comes to, makes no difference
    with monkeypatch.context() as patched:
        patched.setattr(limits, "name", "another")
        patched.setattr(V5_11, "zone_pcp_disable", drain_pages_zone)
        assert said() == before


def test_values_that_differ_are_said_differently():
    values = [
        0, False, "0", None, (0,), [0], {0}, {0: 1}, range(1), Cell("pcp.high", (0, 0)), Cell("pcp.high", (0, 1)), reg("a"),
        reg("a", "bool"), SMALL, replace(SMALL, pages=2), lambda: 0, lambda: 1, V5_11, PROPERTIES["no_stray_page"].needs,
    ]  # fmt: skip
    said = [repr(digest.said(v)) for v in values]
    assert len(set(said)) == len(said)
    assert digest.said({1, 2, 3}) == digest.said({3, 2, 1})
    two = [(lambda: n) for n in (1, 2)]  # noqa: B023 - what they hold is what they differ in
    assert digest.said(two[0]) == digest.said(two[1])
    with pytest.raises(digest.UnknownError):
        digest.said(object())


def test_what_cannot_be_told_from_another_is_made_each_time(cache):
    made = []
    for _ in range(2):
        assert on_disk.kept(WORKER, object(), lambda: made.append(1) or 7) == 7
    assert len(made) == 2
    assert not list(cache.rglob("*.pickle"))


def test_a_file_that_was_not_written_to_its_end_is_made_again(cache):
    first = anew()
    for file in cache.rglob("*.pickle"):
        file.write_bytes(file.read_bytes()[:-20])
    assert anew() == first
    assert anew() == first


def test_nothing_is_kept_where_the_user_wants_it_so(cache, monkeypatch):
    monkeypatch.setenv("STRAYPAGE_NO_CACHE", "1")
    first = anew()
    assert not cache.exists()
    monkeypatch.setenv("STRAYPAGE_NO_CACHE", "0")
    assert anew() == first
    assert list(cache.rglob("*.pickle"))


def test_a_folder_of_somebody_else_is_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    mine = next(cache_folders.folders("graphs"))
    assert mine.is_relative_to(tmp_path / "cache")
    (tmp_path / "cache" / "straypage").chmod(0o777)
    assert next(cache_folders.folders("graphs")).is_relative_to(tmp_path / "tmp")
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert not list(cache_folders.folders("graphs"))
    made = []
    for _ in range(2):
        on_disk.kept(WORKER, "key", lambda: made.append(1))
    assert len(made) == 2


def test_a_text_that_is_new_takes_the_oldest_one_s_place(cache, monkeypatch):
    for number in range(on_disk.TEXTS + 3):
        monkeypatch.setattr(digest, "sources", lambda number=number: f"{number:02}")
        on_disk.kept(WORKER, "key", lambda number=number: number)
        os.utime(cache / f"{number:02}", (number, number))
    assert sorted(f.name for f in cache.iterdir()) == [f"{n:02}" for n in range(3, on_disk.TEXTS + 3)]


def test_an_effect_stays_behind_and_says_so():
    model = Model(V5_11, SMALL, STRAY)
    effects = [n.op.effect for t in model.tasks for n in t.graph.nodes if n.op.effect is not None]
    assert effects
    with pytest.raises(AssertionError, match="operations of its own"):
        effects[0](None, {})
