"""What searches keep: the next one of an equal model finds the same, having worked out nothing; no other one finds it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel.cells import CELLS
from kernelmodel.kernels import kernel, mutant
from kernelmodel.terms import FALSE, TRUE
from kernelmodel.versions.mutants import MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from tests.kept_files import files_in, own_cache
from verify.explore import kept, library, movers
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.explore.movers import Movers
from verify.explore.prepared import Tables
from verify.explore.solve import Explorer
from verify.explore.symmetry import Symmetric
from verify.keeping import files
from verify.scenario import Scenario

compiled = pytest.mark.skipif(library.library() is None, reason="there is no C compiler")
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 2)
EVERY = list(PROPERTIES.values())
STRAY = [PROPERTIES["no_stray_page"]]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    return own_cache(monkeypatch, tmp_path, "searches")


def model(of=V5_11, finite=SMALL, properties=STRAY, **how):
    return Model(of, finite, list(properties), any_order=True, **how)


def found(group):
    return dataclasses.replace(group.found, seconds=0), group.names, group.how, group.watched, group.missed


class Watched:
    """How often tables were asked for something that they did not know, and movers worked out."""

    def __init__(self, m: pytest.MonkeyPatch) -> None:
        self.asked = self.analysed = 0
        ask, analyse = Tables.learn, Movers.__init__

        def learn(tables, number, states, what):
            self.asked += len(states)
            return ask(tables, number, states, what)

        def init(self_, *arguments, **named):
            self.analysed += 1
            analyse(self_, *arguments, **named)

        m.setattr(Tables, "learn", learn)
        m.setattr(Movers, "__init__", init)
        # it is told that this is as it should be
        m.setattr(kept, "as_written", lambda: True)


@compiled
@pytest.mark.parametrize(
    ("of", "finite"),
    [
        ("v5.11", SMALL),
        ("v5.11", replace(SMALL, scenario=Scenario(cpus=2, frees=1, allocs=0, updates=0, hotplugs=1))),
        ("v5.10", replace(SMALL, scenario=Scenario(cpus=2, frees=1, allocs=1, updates=0))),
        ("no-mutex", replace(SMALL, scenario=Scenario(cpus=2, frees=0, allocs=0, updates=1))),
        ("v6.11", SMALL),
    ],
    ids=["v5.11", "hotplug", "v5.10", "no-mutex", "v6.11"],
)
def test_the_next_search_finds_the_same_and_works_out_nothing(of, finite, cache, monkeypatch):
    text = mutant(of) if of in MUTANTS else kernel(of)
    with monkeypatch.context() as m:
        m.setenv("STRAYPAGE_NO_CACHE", "1")
        plain = [found(g) for g in Explorer(text, finite).search_all(EVERY)]
        assert not files_in(cache)
    with monkeypatch.context() as m:
        learnt = Watched(m)
        first = [found(g) for g in Explorer(text, finite).search_all(EVERY)]
    there = files_in(cache)
    with monkeypatch.context() as m:
        watched = Watched(m)
        again = [found(g) for g in Explorer(text, finite).search_all(EVERY)]
    assert plain == first == again
    assert there and files_in(cache) == there
    # of states that renaming makes of each other another one may come first
    assert watched.analysed == 0 and 4 * watched.asked <= learnt.asked


SEARCH = """
from kernelmodel.kernels import kernel
from properties.catalogue import PROPERTIES
from verify.explore.finite import Finite
from verify.explore.prepared import Tables
from verify.explore import kept
from verify.explore.solve import Explorer
from verify.scenario import Scenario
BEFORE
asked = [0]
learn = Tables.learn
def noted(tables, number, states, what):
    asked[0] += len(states)
    return learn(tables, number, states, what)
Tables.learn = noted
kept.as_written = lambda: True
finite = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 2)
(group,) = Explorer(kernel("v5.11"), finite).search_all(list(PROPERTIES.values()))
print(asked[0], group.found.states, group.found.transitions, group.found.levels)
"""


@compiled
def test_another_process_finds_it_again_however_it_counts_hashes(cache):
    """Sets of names are in another order there; where another kernel has come before, cells have other columns."""

    def searched(seed, before=""):
        done = subprocess.run(
            [sys.executable, "-c", SEARCH.replace("BEFORE", before)], check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": seed},
        )  # fmt: skip
        return list(map(int, done.stdout.split()))

    first = searched("1")
    there = files_in(cache)
    assert first[0] > 0 and there
    for seed in ("2", "3"):
        asked, *rest = searched(seed)
        assert 4 * asked <= first[0] and rest == first[1:]
    assert searched("4", 'kernel("v6.11"), kernel("v5.10")')[1:] == first[1:]


def test_each_model_has_a_name_of_its_own(monkeypatch):
    bus = replace(SMALL, scenario=Scenario(cpus=2, frees=1, allocs=1, updates=0))
    every = {
        kept.name_of(model(), ()), kept.name_of(model(), ("movers",)), kept.name_of(model(finite=bus), ()),
        kept.name_of(model(finite=replace(SMALL, pages=3)), ()), kept.name_of(model(finite=replace(SMALL, batch=1)), ()),
        kept.name_of(model(properties=[PROPERTIES["pages_conserved"]]), ()), kept.name_of(model(kernel("v5.10")), ()),
        kept.name_of(model(properties=[*STRAY, PROPERTIES["pages_conserved"]]), ()),
        kept.name_of(model(properties=[PROPERTIES["pages_conserved"], *STRAY]), ()),
        kept.name_of(Model(V5_11, SMALL, STRAY), ()),
        *(kept.name_of(model(mutant(n)), ()) for n in ("no-drain", "no-flush", "drain-before-high", "no-force-all-cpus")),
    }  # fmt: skip
    assert len(every) == 14
    assert kept.name_of(model(), ()) in every
    monkeypatch.setitem(CELLS, "pcp.high", replace(CELLS["pcp.high"], ghost=True))
    assert kept.name_of(model(), ()) not in every


@pytest.mark.parametrize("which", ["guard", "where", "must", "does", "edge", "update", "return", "check", "order"])
def test_whatever_is_changed_in_a_model_it_has_another_name(which):
    """Each part of an operation, a check, and which column is whose."""

    def changed(m):
        task = next(t for t in m.tasks if any(n.op.updates for n in t.graph.kept))
        node = next(n for n in task.graph.kept if n.op.updates and n.edges)
        op = node.op
        if which == "guard":
            node.op = replace(op, guard=FALSE)
        elif which == "where":
            node.op = replace(op, where=FALSE)
        elif which == "must":
            node.op = replace(op, must="" if op.must else "not so")
        elif which == "does":
            node.op = replace(op, does=replace(op.does, hangs=True))
        elif which == "edge":
            node.edges[0] = ((*node.edges[0][0], FALSE), node.edges[0][1])
        elif which == "update":
            node.op = replace(op, updates=op.updates[1:])
        elif which == "return":
            node.op = replace(op, returns=(*op.returns, TRUE))
        elif which == "check":
            one = m.state_checks[0]
            m.state_checks[0] = replace(one, check=replace(one.check, violation=FALSE))
        else:
            m.columns[0], m.columns[1] = m.columns[1], m.columns[0]
        return m

    assert kept.name_of(changed(model()), ()) != kept.name_of(model(), ())


def test_what_is_said_to_people_is_no_part_of_the_name():
    renamed = type("Renamed", (V5_11,), {"name": "mine", "summary": "another", "__module__": __name__})
    assert kept.name_of(model(renamed), ()) == kept.name_of(model(), ())


@compiled
def test_nothing_is_kept_where_the_engine_is_not_as_written(cache, monkeypatch):
    assert kept.as_written()
    for put in (
        lambda m: m.setattr(Movers, "right", lambda *_: True),
        lambda m: m.setattr(movers, "_MOST_COMBINATIONS", 1),
        lambda m: m.setattr(Symmetric, "fingerprint", lambda _, hashes: hashes[0]),
        lambda m: m.setattr("verify.explore.table.Table", object),
        lambda m: m.setattr("kernelmodel.terms.atoms", lambda *_: ()),
    ):
        with monkeypatch.context() as m:
            put(m)
            assert not kept.as_written()
    with monkeypatch.context() as m:
        # harmless, and yet not what is written
        m.setattr(movers, "_MOST_COMBINATIONS", movers._MOST_COMBINATIONS + 1)
        Explorer(V5_11, SMALL).search(STRAY)
        assert not files_in(cache)
    Explorer(V5_11, SMALL).search(STRAY)
    (file,) = files_in(cache)
    file.write_bytes(b"")
    with monkeypatch.context() as m:
        m.setattr(movers, "_MOST_COMBINATIONS", movers._MOST_COMBINATIONS + 1)
        Explorer(V5_11, SMALL).search(STRAY)
    assert file.read_bytes() == b""


@compiled
def test_numpy_goes_on_from_what_the_loop_has_kept(cache):
    def counted(compiler):
        group = Explorer(V5_11, SMALL, compiler=compiler).search(EVERY)
        return (
            group.found.states,
            group.found.transitions,
            group.found.levels,
            group.found.reached_on,
            group.found.violated,
        )

    first = counted("none")
    assert not files_in(cache)
    assert counted("auto") == first
    assert files_in(cache) and counted("none") == first


@compiled
def test_a_file_that_was_not_written_to_its_end_counts_as_none(cache):
    first = found(Explorer(V5_11, SMALL).search(STRAY))
    (file,) = files_in(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert found(Explorer(V5_11, SMALL).search(STRAY)) == first
    assert len(file.read_bytes()) == len(whole)


@compiled
def test_a_search_that_stops_early_keeps_nothing(cache):
    broken = Explorer(mutant("no-drain"), SMALL).search(STRAY, ["no_stray_page"])
    assert broken.violates(STRAY[0])
    assert not files_in(cache)


@compiled
def test_a_name_that_two_models_had_in_common_would_show(cache, monkeypatch):
    """The twin of the names: with the tables of another text a mutant passes."""
    monkeypatch.setattr(kept, "name_of", lambda *_: "0" * 48)
    monkeypatch.setattr(kept, "as_written", lambda: True)
    assert not Explorer(V5_11, SMALL).search(STRAY).violates(STRAY[0])
    with monkeypatch.context() as m:
        m.setenv("STRAYPAGE_NO_CACHE", "1")
        assert Explorer(mutant("no-drain"), SMALL).search(STRAY).violates(STRAY[0])
    with suppress(Exception):
        # tables of other operations may not even fit
        assert Explorer(mutant("no-drain"), SMALL).search(STRAY).violates(STRAY[0]) is False


@compiled
def test_an_asymmetry_is_found_once(cache, monkeypatch):
    tells = type("Tells", (V5_11,), {"__module__": __name__, "drain_pages": _tells})
    first = Explorer(tells, SMALL).search(STRAY)
    assert first.how == "movers, equal pages and registers (the drain workers differ)"
    with monkeypatch.context() as m:
        watched = Watched(m)
        assert found(Explorer(tells, SMALL).search(STRAY)) == found(first)
    assert watched.analysed == 0


def _tells(self, cpu):
    """A drain that does more on CPU 1."""
    if cpu == 1:
        yield from V5_11.drain_pages(self, cpu)
    yield from V5_11.drain_pages(self, cpu)


@compiled
def test_of_many_the_oldest_go(cache, monkeypatch):
    monkeypatch.setattr(files, "MOST", 3)
    monkeypatch.setattr(kept, "as_written", lambda: True)
    names = []
    for pages in (1, 2, 3, 4):
        Explorer(V5_11, replace(SMALL, pages=pages)).search(STRAY)
        (new,) = set(files_in(cache)) - set(names)
        os.utime(new, (pages, pages))
        names.append(new)
    assert files_in(cache) == sorted(names[1:])
