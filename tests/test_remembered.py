"""Graphs that are kept: who asks twice gets an equal one of his own, and nobody gets that of another text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernelmodel.graphs import remembered as module
from kernelmodel.graphs.remembered import remembered
from kernelmodel.kernels import kernel
from kernelmodel.ops import read
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc.slice import Model as Bounded
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


def test_another_size_or_kernel_has_graphs_of_its_own():
    one = len(ops_of(Model(V5_11, Finite(SMALL, 1), STRAY)))
    assert len(ops_of(Model(V5_11, Finite(replace(SMALL, cpus=3), 1), STRAY))) > one
    assert ops_of(Model(kernel("v5.14"), Finite(SMALL, 1), STRAY)) != ops_of(Model(V5_11, Finite(SMALL, 1), STRAY))


def test_a_text_that_is_not_ours_is_never_kept():
    class Changed(V5_11):
        def drain_pages_zone(self, cpu, zone):
            yield read("pcp.count", zone.index, cpu)

    Model(Changed, Finite(SMALL, 1), STRAY)
    assert not module._kept
    made = []
    for number in range(2):
        remembered(Changed, "key", lambda number=number: made.append(number), lambda g: g)
    assert made == [0, 1]


def test_the_oldest_make_room(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    made = []
    for key in (1, 2, 1, 3, 1, 2):
        remembered(V5_11, key, lambda key=key: made.append(key), lambda g: g)
    assert made == [1, 2, 3, 2]
