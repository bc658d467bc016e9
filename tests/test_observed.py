"""What explore merges and forgets: registers that tell nothing apart, ghosts of sections that are over, and what tables keep."""

from __future__ import annotations

import numpy as np
import pytest

from kernelmodel import ops
from kernelmodel.cells import section_of
from kernelmodel.graphs.folded import fold
from kernelmodel.kernels import kernel, mutant
from kernelmodel.ops import read, write
from kernelmodel.terms import lift
from kernelmodel.versions.v6_1 import V6_1
from properties.catalogue import PROPERTIES, find
from verify.explore.decisions import Noted
from verify.explore.finite import Finite
from verify.explore.forgotten import held
from verify.explore.model import Model
from verify.explore.movers import Movers
from verify.explore.observed import Observed
from verify.explore.search import Limits, Search, initial_rows
from verify.explore.solve import Explorer
from verify.explore.symmetry import Symmetric
from verify.explore.table import Table, Transitions
from verify.museum import tour
from verify.museum.tour import EXHIBITS
from verify.scenario import Scenario

SMALL = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1)
ALLOC = Finite(Scenario(cpus=2, frees=0, allocs=1, updates=0), 2)


class Sums(V6_1):
    """Of two numbers only the sum is looked at."""

    name = "sums"

    def free_unref_page_commit(self, page, migratetype, cpu):
        a = yield ops.part_of("a", "a", 2, "a number")
        b = yield ops.part_of("b", "b", 2, "a number")
        yield from super().free_unref_page_commit(page, migratetype, cpu)
        yield write(lift(a) + b, "pcp.batch", page.zone.index, cpu)


def searched(text, finite, merge, property_name="no_stray_page"):
    """The states of a search with or without merging registers, and whether it finds a violation."""
    model = Model(text, finite, [PROPERTIES[property_name]])
    found = Search(Transitions(model, Movers(model), False, merge=merge), Limits(), 0).run(initial_rows(model, True))
    return found.states, bool(found.violated)


@pytest.mark.parametrize(("name", "violated"), [("v6.11", False), ("v6.10", True), ("v6.0", True)])
def test_registers_that_tell_nothing_apart_are_merged_and_no_verdict_changes(name, violated):
    kept, before = searched(kernel(name), ALLOC, False)
    merged, after = searched(kernel(name), ALLOC, True)
    assert before is after is violated
    assert merged <= kept
    if name == "v6.11":
        assert merged < 0.8 * kept


def test_what_is_looked_at_is_told_apart(monkeypatch):
    """The twin: where nothing counts as looked at, whoever has read closed limits goes on as if they were open."""
    assert not searched(kernel("v6.11"), ALLOC, True)[1]
    monkeypatch.setattr(Observed, "_tables", lambda *_: ())
    assert searched(kernel("v6.11"), ALLOC, True)[1]


def test_values_are_alike_where_what_is_made_of_them_is():
    model = Model(Sums, SMALL, [PROPERTIES["no_stray_page"]])
    transitions = Transitions(model, None, False, merge=True)
    observed = transitions.observed
    free = next(t for t in model.tasks if t.spec.kind.holds_page)
    # where both are read, and the page is not yet on the list
    location, (x, y) = next(
        (i, pair)
        for i, live in enumerate(free.live)
        if len(pair := sorted(r for r in live if _chosen(free, r))) == 2
    )  # fmt: skip

    def standing(a, b):
        v = [0] * transitions.extent
        v[free.location], v[free.slots[x]], v[free.slots[y]] = location, a, b
        w = observed.canonical(free, v)
        return w[free.slots[x]], w[free.slots[y]]

    assert standing(0, 2) == standing(1, 1) == standing(2, 0)
    assert len({standing(a, b) for a in range(3) for b in range(3)}) == 5


def _chosen(task, register):
    node = next((n for n in task.graph.kept if register == f"{n.number}.0"), None)
    return node is not None and any(c.args[0] in ("a", "b") for c in node.op.choices)


# --- tables ---


class Checked(Table):
    """A table that computes what it has learnt once more, for the values themselves."""

    wrong = 0

    def _compute(self, values, hashes):
        super()._compute(values, hashes)
        for column in values.T.tolist():
            v = [0] * self.engine.extent
            for address, x in zip(self.addresses, column, strict=True):
                v[address] = x
            kept = self._decisions.find(v)
            # a plain list is followed step by step, whatever was worked out before
            now = self.engine.outcomes(self, v[:])
            assert len(kept) == len(now)
            learnt = self._outcomes.settled()
            for outcome, (w, wrong) in zip(kept, now, strict=True):
                old = np.where(learnt.written[:, outcome], learnt.values[:, outcome], [v[a] for a in self.writes])
                delta = self.engine.delta(self, v, w, self.writes)
                if old.tolist() != [w[a] for a in self.writes] or list(delta) != learnt.deltas[:, outcome].tolist():
                    Checked.wrong += 1
                assert learnt.wrong[outcome] == wrong


@pytest.mark.parametrize("name", ["v5.11", "v6.11", "no-migratetype-reread"])
def test_outcomes_hold_for_all_values_that_agree_where_they_were_looked_at(name, monkeypatch):
    monkeypatch.setattr("verify.explore.table.Table", Checked)
    monkeypatch.setattr(Checked, "wrong", 0)
    text = kernel(name) if name.startswith("v") else mutant(name)
    finite = SMALL if name == "v5.11" else ALLOC
    model = Model(
        text, finite, [p for p in PROPERTIES.values() if not Explorer(text, finite).why_not(p)], any_order=True
    )
    Search(Symmetric(model, Movers(model)), Limits(), 0).run(initial_rows(model, True))
    assert Checked.wrong == 0


def test_a_look_that_is_not_noted_is_found_out(monkeypatch):
    """The twin: outcomes that are kept for more values than they hold for."""
    monkeypatch.setattr("verify.explore.table.Table", Checked)
    monkeypatch.setattr(Checked, "wrong", 0)
    model = Model(kernel("v6.11"), ALLOC, [PROPERTIES["no_stray_page"]], any_order=True)
    forgotten = model.address[next(c for c in model.address if c.name == "pcp.high_min")]

    def get(self, place):
        found = list.__getitem__(self, place)
        if place.__class__ is slice:
            return Noted(found, self.looked, self.changes)
        if place != forgotten:
            self.looked[place] = None
        return found

    monkeypatch.setattr(Noted, "__getitem__", get)
    with pytest.raises(AssertionError):
        Search(Symmetric(model, Movers(model)), Limits(), 0).run(initial_rows(model, True))
        assert Checked.wrong == 0


# --- sections that are over ---


def test_a_task_is_in_a_section_where_every_way_has_taken_the_lock():
    model = Model(kernel("v6.11"), ALLOC, [])
    alloc = next(t for t in model.tasks if "migratetype" in t.spec.kind.inputs)
    lock = section_of(model.config, 0, 0)
    inside = held(alloc.graph, lock, 0)
    for node in alloc.graph.kept:
        if node.op.does.releases == lock:
            assert node.number in inside
        if node.op.does.acquires == lock:
            assert node.number not in inside
    assert 0 < len(inside) < len(alloc.graph.kept)


def test_ghosts_of_a_section_are_forgotten_when_it_is_over():
    model = Model(kernel("v6.11"), ALLOC, [PROPERTIES["isolated_page_not_allocated"]])
    ends = [n for t in model.tasks for n in t.graph.kept if n.op.does.releases == section_of(model.config, 0, 0)]
    ghosts = {c.name for n in ends for c, t in n.op.updates if t.key == ("const", "int", 0)} - {"pcp.lock"}
    assert ghosts == {"isolated_at_entry"}


class OpensItself(V6_1):
    """A text that sets a lock to 0 with an operation of its own, whoever holds it."""

    name = "opens-itself"

    def free_unref_page_commit(self, page, migratetype, cpu):
        yield write(0, "pcp.lock", page.zone.index, cpu)
        yield from super().free_unref_page_commit(page, migratetype, cpu)


def test_nothing_is_forgotten_where_a_text_breaks_its_sections():
    finite = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)
    model = Model(OpensItself, finite, [PROPERTIES["isolated_page_not_allocated"]])
    ends = [n for t in model.tasks for n in t.graph.kept if n.op.does.releases == section_of(model.config, 0, 0)]
    assert ends
    assert {c.name for n in ends for c, _ in n.op.updates} == {"pcp.lock"}


def test_the_graph_alone_says_where_a_task_is_in_a_section():
    text = V6_1(ALLOC.scenario.config)
    lock = section_of(text.config, 0, 0)

    def sometimes():
        taken = yield ops.spin_trylock("pcp.lock", 0, 0)
        if taken:
            yield read("pcp.count", 0, 0)
            yield ops.spin_unlock("pcp.lock", 0, 0)
        yield read("pcp.batch", 0, 0)

    graph = fold(text, sometimes, [0], {}, False)
    inside = {n.op.text for n in graph.kept if n.number in held(graph, lock, 0)}
    assert inside == {"pcp[0]->count", "spin_unlock(&pcp[0]->lock)"}


def test_the_same_trace_is_found_whatever_was_searched_before() -> None:
    exhibit = EXHIBITS["lru-left-disabled"]
    found = [
        Explorer(exhibit.faulty, tour.finite(exhibit)).decide([find(exhibit.prop)], deadlock=False) for _ in range(3)
    ]
    assert found[0][0].schedule and {v.schedule == found[0][0].schedule for (v,) in found} == {True}
