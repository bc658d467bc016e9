"""A task's graph made lean in two steps, first by all that any property may follow, is what one step makes of it."""

from __future__ import annotations

import pytest

from kernelmodel.graphs.automaton import Graph, Node
from kernelmodel.graphs.folded_graph import terms_of
from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.terms import atoms, reg
from properties.catalogue import PROPERTIES
from verify.bmc import slice as slices
from verify.bmc.contract import contract, merged
from verify.bmc.sections import renamed
from verify.bmc.signature import Signatures
from verify.scenario import Scenario


def _without_gone(graph, judged):
    """The graph with one name for all values of operations that are gone, and merged by that: nobody reads them."""
    while True:
        there = {str(n.number) for n in graph.nodes}
        used = {a for n in graph.nodes for t in terms_of(n.op) for a in atoms(t, "reg")}
        parts = [(a, *a.args[0].partition(".")) for a in used]
        gone = {a.args[0]: reg(f"gone.{i}", a.sort) for a, node, _, i in parts if node.isdigit() and node not in there}
        nodes = [Node(n.number, renamed(n.op, gone), n.stack, n.edges) for n in graph.nodes]
        left = merged(Graph(graph.entry, nodes), judged)
        if len(left.nodes) == len(nodes):
            return left
        graph = left


def _compared(made, scenario, names, monkeypatch):
    """For each graph that a slice of some properties asks for, whether one step and two make the same of it."""
    rendered, same, plain = Signatures(), [], slices.Model._lean_of

    def both(model, task, cells, judged, cpu):
        two = plain(model, task, cells, judged, cpu)
        one = contract(task, cells, judged, cpu, model._elsewhere(task, cpu))
        a, b = (rendered._graph(_without_gone(g, judged), cpu, cells) for g in (one, two))
        same.append(a == b and len(two.nodes) <= len(one.nodes))
        return two

    monkeypatch.setattr(slices.Model, "_lean_of", both)
    model = slices.Model(made, scenario, ("misplaced",))
    for name in names:
        model.slices(PROPERTIES[name])
    return same


FEW = ("no_stray_page", "limits_exclusive", "lock_order", "offline_progress")


@pytest.mark.parametrize("name", ["v5.11", "no-mutex", "v6.1"])
def test_two_steps_make_what_one_makes(name, monkeypatch):
    made = kernel(name) if name in KERNELS else mutant(name)
    same = _compared(made, Scenario(cpus=2), FEW, monkeypatch)
    assert len(same) > 20 and all(same)


@pytest.mark.deep
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("hotplugs", [0, 1])
def test_two_steps_make_what_one_makes_for_every_property(name, hotplugs, monkeypatch):
    made, scenario = kernel(name), Scenario(cpus=3).having(hotplugs=hotplugs)
    judged = [p.name for p in PROPERTIES.values() if p.applies_to(made) and not (p.rest or p.stuck)]
    wanted = [n for n in judged if hotplugs or not PROPERTIES[n].needs_tasks]
    assert all(_compared(made, scenario, wanted, monkeypatch))


def test_a_step_that_forgets_a_cell_shows(monkeypatch):
    def forgets(task, cells, *rest):
        return contract(task, frozenset(c for c in cells if c.name != "pcp.high"), *rest)

    monkeypatch.setattr(slices, "contract", forgets)
    assert not all(_compared(kernel("v5.11"), Scenario(cpus=2), FEW[:1], monkeypatch))
