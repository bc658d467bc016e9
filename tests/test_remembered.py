"""Graphs that are kept: who asks twice gets an equal one of his own, and nobody gets that of another text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernelmodel.does import Does
from kernelmodel.errors import ModelError
from kernelmodel.graphs import remembered as module
from kernelmodel.graphs.automaton import Graph, extract
from kernelmodel.graphs.remembered import remembered
from kernelmodel.kernels import kernel, variant
from kernelmodel.ops import read, write
from kernelmodel.tasks import TASKS
from kernelmodel.terms import Cell
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc import slice as bounded_slice
from verify.bmc.slice import Model as Bounded
from verify.bmc.solve import USUALLY_ZERO
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.prove.population import texts
from verify.scenario import Scenario

SMALL = Scenario(cpus=2, frees=1, allocs=0, updates=0)
STRAY = [PROPERTIES["no_stray_page"]]


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch):
    monkeypatch.setenv("STRAYPAGE_NO_CACHE", "1")
    monkeypatch.setattr(module, "_kept", type(module._kept)())


def ops_of(model: Model) -> list[str]:
    return [n.op.text for t in model.tasks for n in t.graph.kept]


def test_what_an_engine_does_to_a_graph_is_its_own_affair():
    first = Model(V5_11, Finite(SMALL, 1), STRAY)
    told = ops_of(first)
    for task in first.tasks:
        for node in task.graph.nodes:
            node.op, node.edges[:] = replace(node.op, text="gone"), []
    assert ops_of(Model(V5_11, Finite(SMALL, 1), STRAY)) == told
    bounded = Bounded(V5_11, SMALL)
    graph = bounded.graph(bounded.specs[0], 0)
    size = [len(n.edges) for n in graph.nodes]
    for node in graph.nodes:
        node.edges.clear()
    again = Bounded(V5_11, SMALL)
    assert [len(n.edges) for n in again.graph(again.specs[0], 0).nodes] == size
    for text in texts(V5_11):
        for proved in text.graph.nodes:
            proved.edges.clear()
    assert all(n.edges for t in texts(V5_11) for n in t.graph.kept)


def test_a_bounded_graph_is_made_once_for_bounds_that_differ_in_other_tasks(monkeypatch):
    made = []

    def counted(kernel, *given, **more):
        made.append(kernel)
        return extract(kernel, *given, **more)

    kind = made_of(1)
    monkeypatch.setattr(bounded_slice, "extract", counted)
    for scenario, fresh in (
        (SMALL, True), (replace(SMALL, frees=2), False), (replace(SMALL, rounds=2), True), (replace(SMALL, cpus=3), True),
    ):  # fmt: skip
        made.clear()
        Bounded(kind, scenario)
        assert (kind in made) == fresh, scenario


def known_as_if_it_had_no_base(kind, scenario, zeros, monkeypatch):
    with monkeypatch.context() as alone:
        alone.setattr(Bounded, "_known_of_its_base", lambda *_: {})
        return Bounded(kind, scenario, zeros).known


class Writes(V5_11):
    """Writes to a cell to which nobody else does."""

    def zone_pcp_disable(self, zone):
        yield from super().zone_pcp_disable(zone)
        yield write(9, "percpu_pagelist_fraction")


def test_what_is_known_is_taken_from_the_kernel_that_a_text_is_derived_from_where_it_holds(monkeypatch):
    for zeros in ((), USUALLY_ZERO):
        for kind in (made_of(1), variant("docs/examples/skip_idle_cpus.py")):
            found = Bounded(kind, SMALL, zeros).known
            assert (
                found
                == known_as_if_it_had_no_base(kind, SMALL, zeros, monkeypatch)
                == Bounded(V5_11, SMALL, zeros).known
            )
    # the twin: what it writes is not known, though it is in its kernel
    plain, own = Bounded(V5_11, SMALL).known, Bounded(Writes, SMALL).known
    assert {c.name for c in plain.keys() - own.keys()} == {"percpu_pagelist_fraction"}
    assert own == known_as_if_it_had_no_base(Writes, SMALL, (), monkeypatch)


def test_constants_that_nobody_asks_for_make_no_other_graph():
    made = []
    high, other = Cell("pcp.high", (0, 0)), Cell("pcp.batch", (0, 0))

    def asks(constants):
        remembered(
            V5_11, TASKS["drain"].make, "key", lambda **_: made.append(constants) or Graph([], [], frozenset((high,))),
            lambda g: g, constants,
        )  # fmt: skip
        return len(made)

    assert [asks(c) for c in ({}, {other: 1}, {high: 1}, {high: 1, other: 2}, {high: 2}, {})] == [1, 1, 2, 2, 3, 3]


def test_a_bound_of_a_loop_that_there_is_not_is_named():
    op = replace(read("pcp.count", 0, 0), does=Does(bounded_by="frees"))
    with pytest.raises(ModelError, match="'frees', which is no bound of loops: give rounds or migrations"):
        SMALL.visits(op)


def test_another_size_or_kernel_has_graphs_of_its_own():
    one = len(ops_of(Model(V5_11, Finite(SMALL, 1), STRAY)))
    assert len(ops_of(Model(V5_11, Finite(replace(SMALL, cpus=3), 1), STRAY))) > one
    assert ops_of(Model(kernel("v5.14"), Finite(SMALL, 1), STRAY)) != ops_of(Model(V5_11, Finite(SMALL, 1), STRAY))


FACTOR = 1


def made_of(closed):
    class Changed(V5_11):
        number = 1

        def drain_pages_zone(self, cpu, zone):
            del zone
            yield read("pcp.count", 0, cpu * FACTOR * closed)

        def another(self, cpu, zone):
            yield read("pcp.high", zone.index, cpu)

    return Changed


def asked(kind, begin=TASKS["worker"].make):
    """Whether a graph of a class was made, and not found."""
    made = []
    remembered(kind, begin, "key", lambda **how: made.append(how), lambda g: g)
    return bool(made)


def test_a_text_that_is_not_ours_is_kept_while_it_is_the_same(monkeypatch):
    kind = made_of(1)
    routine = kind.drain_pages_zone
    assert asked(kind) and not asked(kind)
    assert asked(made_of(1)), "another class with the same text"
    changes = {
        "a routine": lambda m: m.setattr(kind, "drain_pages_zone", kind.another),
        "an attribute": lambda m: m.setattr(kind, "number", 2),
        "code": lambda m: m.setattr(routine, "__code__", routine.__code__.replace(co_name="other")),
        "a global": lambda m: m.setitem(globals(), "FACTOR", 2),
        "what is closed over": lambda m: m.setattr(routine.__closure__[0], "cell_contents", 7),
        "a default": lambda m: m.setattr(routine, "__defaults__", (1,)),
        "a name": lambda m: (m.setattr(kind, "renamed", kind.another, raising=False), m.delattr(kind, "another")),
    }
    for what, change in changes.items():
        with monkeypatch.context() as m:
            change(m)
            assert asked(kind), what
            assert not asked(kind), what


def test_without_a_look_at_globals_a_changed_text_meets_an_old_graph(monkeypatch):
    kind = made_of(1)
    monkeypatch.setattr(module, "words_of", lambda _: frozenset())
    assert asked(kind)
    monkeypatch.setitem(globals(), "FACTOR", 2)
    assert not asked(kind)


def test_a_text_that_is_not_ours_is_never_kept_on_disk_and_run_twice(monkeypatch):
    monkeypatch.setattr(module.on_disk, "kept", lambda *_: pytest.fail("it is asked for on disk"))
    made = []
    remembered(made_of(1), TASKS["worker"].make, "key", lambda **how: made.append(how), lambda g: g)
    assert made == [{}]
    for kind in (V5_11, made_of(1)):
        with pytest.raises(pytest.fail.Exception):
            remembered(kind, TASKS["update"].make, "key", lambda **how: made.append(how), lambda g: g)


def test_the_oldest_make_room(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    made = []
    for key in (1, 2, 1, 3, 1, 2):
        remembered(V5_11, TASKS["drain"].make, key, lambda key=key, **_: made.append(key), lambda g: g)
    assert made == [1, 2, 3, 2]
