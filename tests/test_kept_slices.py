"""Slices that bmc keeps: those that it would work out again, and never those of another model."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel.graphs import on_disk
from kernelmodel.graphs.folded_graph import op_key
from kernelmodel.kernels import kernel, mutant
from kernelmodel.terms import FALSE, atoms
from properties.catalogue import PROPERTIES
from properties.property import Check
from tests.kept_files import files_in, own_cache
from verify.bmc import slice as slices
from verify.bmc.slice import Model
from verify.bmc.solve import USUALLY_ZERO, Engine
from verify.keeping import files
from verify.scenario import Scenario
from verify.verdict import Result

SMALL = Scenario(cpus=2, frees=1, allocs=1, updates=0)
TWO = Scenario(cpus=2, frees=2, allocs=0, updates=0)
JUDGED = [p for p in PROPERTIES.values() if not p.rest and not p.stuck]
STRAY = PROPERTIES["no_stray_page"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    return own_cache(monkeypatch, tmp_path, "slices")


def edges(found):
    return [([c.key for c in e.conditions], e.target) for e in found]


def graph(g):
    return edges(g.entry), [(n.number, op_key(n.op), n.op.text, n.stack, edges(n.edges)) for n in g.nodes]


def terms(check: Check):
    return check.premise.key, check.violation.key, check.found, check.cpu


def said(piece):
    return (
        piece.cpu, piece.cells, piece.places, piece.lists, piece.scenario, piece.config,
        [(t.spec.name, t.cpu, graph(t.graph)) for t in piece.tasks], list(map(terms, piece.state_checks)),
        [(s.task.spec.name, s.node.number, terms(s.check)) for s in piece.step_checks],
    )  # fmt: skip


def model(of="v5.11", scenario=SMALL, exact=False, zeros=USUALLY_ZERO):
    return Model(kernel(of), scenario, zeros, exact)


@pytest.mark.parametrize(
    ("of", "scenario"),
    [("v5.11", SMALL), ("v5.11", Scenario(cpus=2, frees=2, allocs=2, spread=True)), ("v6.11", SMALL)],
    ids=["v5.11", "spread", "v6.11"],
)
def test_what_is_kept_is_what_would_be_worked_out(of, scenario, cache, monkeypatch):
    def every():
        one = model(of, scenario)
        return [list(map(said, one.slices(p))) for p in JUDGED]

    with monkeypatch.context() as m:
        m.setenv("STRAYPAGE_NO_CACHE", "1")
        plain = every()
        assert not files_in(cache)
    first = every()
    there = files_in(cache)
    monkeypatch.setattr(Model, "_slices", lambda *_: pytest.fail("worked out again"))
    monkeypatch.setattr(slices._written, "_first", [])
    assert plain == first == every()
    assert len(there) == len(JUDGED) and files_in(cache) == there


def test_verdicts_on_what_is_kept_are_those_of_before(cache):
    for of, wrong in ((kernel("v5.11"), False), (mutant("no-drain"), True)):
        found = [Engine(of, SMALL).decide(STRAY) for _ in range(2)]
        assert files_in(cache)
        assert [v.result for v in found] == [Result.VIOLATED if wrong else Result.HOLDS] * 2
        assert found[0].schedule == found[1].schedule and all(v.replayed for v in found if wrong)


SAID = """
from kernelmodel.kernels import kernel
from properties.catalogue import PROPERTIES
from verify.bmc.slice import Model
from verify.scenario import Scenario
print(Model(kernel("v5.11"), Scenario(cpus=2, frees=1, allocs=1, updates=0), (), False)._named.place(PROPERTIES["no_stray_page"]))
"""


def test_another_process_has_the_same_name_for_it():
    def name(seed):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", SAID], check=True, capture_output=True, text=True, env=environment
        ).stdout

    # which cells there are depends on which kernels have come before
    assert name("1") == name("2") != "None\n"


def _none(*_):
    return []


def _of_the_second(config, op):
    """What no property should say: it depends on which of two equal tasks does it."""
    named = {a.args[0] for _, t in op.updates for a in atoms(t, "reg")}
    return STRAY.state_checks(config) if any(n.startswith("free1.") for n in named) else []


def test_each_question_has_a_name_of_its_own():
    every = [
        model()._named.place(STRAY), model()._named.place(PROPERTIES["pages_conserved"]),
        model("v6.11", exact=True)._named.place(STRAY),
        model(zeros=())._named.place(STRAY), model("v5.10", SMALL)._named.place(STRAY), model("v6.11")._named.place(STRAY),
        model(scenario=replace(SMALL, cpus=3))._named.place(STRAY), model(scenario=replace(SMALL, rounds=2))._named.place(STRAY),
        model()._named.place(replace(STRAY, state=lambda c: STRAY.state_checks(c)[:1])),
        model()._named.place(replace(STRAY, state=lambda c: [replace(x, found="else") for x in STRAY.state_checks(c)])),
        *(model(scenario=TWO)._named.place(replace(STRAY, state=None, step=s)) for s in (_of_the_second, _none)),
        *(Model(mutant(n), SMALL, USUALLY_ZERO, False)._named.place(STRAY) for n in ("no-drain", "no-flush", "batch-left-old")),
    ]  # fmt: skip
    assert None not in every and len(set(every)) == len(every)


@pytest.mark.parametrize("which", ["guard", "update", "does", "edge", "stack", "text", "entry"])
def test_whatever_is_changed_in_a_graph_it_has_another_name(which):
    changed = model()
    spec = next(s for s in changed.specs if not s.kind.serves)
    g = changed.graph(spec, spec.cpu or 0)
    node = next(n for n in g.nodes if n.op.updates)
    if which == "guard":
        node.op = replace(node.op, guard=FALSE)
    elif which == "update":
        node.op = replace(node.op, updates=node.op.updates[1:])
    elif which == "does":
        node.op = replace(node.op, does=replace(node.op.does, hangs=True))
    elif which == "text":
        node.op = replace(node.op, text="another")
    elif which == "stack":
        node.stack = (*node.stack, "another")
    else:
        found = node.edges if which == "edge" else g.entry
        found[0] = replace(found[0], conditions=(*found[0].conditions, FALSE))
    assert changed._named.place(STRAY) != model()._named.place(STRAY)


def test_nothing_is_kept_where_the_engine_is_not_as_written(cache, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(slices, "contract", lambda *a, contract=slices.contract: contract(*a))
        model().slices(STRAY)
        assert not files_in(cache)
    model().slices(STRAY)
    assert files_in(cache)


def test_a_file_of_something_else_counts_as_none(cache):
    first = list(map(said, model().slices(STRAY)))
    (file,) = files_in(cache)
    for bad in (b"", file.read_bytes()[:-20]):
        file.write_bytes(bad)
        assert list(map(said, model().slices(STRAY))) == first
    files.keep(file, "no slices")
    assert list(map(said, model().slices(STRAY))) == first


def test_what_can_only_be_read_is_read(cache, monkeypatch):
    first = list(map(said, model().slices(STRAY)))

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Model, "_slices", lambda *_: pytest.fail("worked out again"))
    monkeypatch.setattr(slices._written, "_first", [])
    assert files_in(cache) and list(map(said, model().slices(STRAY))) == first


def test_a_name_that_two_models_had_in_common_would_show(cache, monkeypatch):
    """The twin of the names: with the slices of another text a mutant passes."""
    monkeypatch.setattr(slices._written, "_first", [])
    monkeypatch.setattr(on_disk, "place", lambda folder, _, place=on_disk.place: place(folder, "0" * 48))
    small = replace(SMALL, allocs=0)
    assert Engine(kernel("v5.11"), small).decide(STRAY).result is Result.HOLDS
    assert Engine(mutant("no-drain"), small).decide(STRAY).result is not Result.VIOLATED
