"""What sections hand over in bmc, what is told apart in time, and what is worked out once for tasks that are alike."""

import pytest
import z3

from kernelmodel.graphs.folded_graph import op_key
from kernelmodel.kernels import kernel, mutant
from kernelmodel.versions.mutants import MUTANTS
from properties.catalogue import PROPERTIES
from verify.bmc import handover, slice, solve
from verify.bmc.alike import as_of, first_like
from verify.bmc.slice import Model
from verify.bmc.solve import Engine
from verify.runs import Values, WholeRuns
from verify.scenario import Scenario
from verify.smt import apart, same
from verify.verdict import Result

SMALL = Scenario(cpus=2, frees=1, allocs=1)
DECIDED = {p.name: p for p in PROPERTIES.values() if not p.rest and not p.stuck and p.applies_to(kernel("v5.11"))}
#: kernels of which some properties hold and some do not; made in the tests, for a later kernel brings tasks of its own
ASKED = ["v5.11", "no-mutex", "v6.11", "base", "high-read-irqs-on", "no-count-clamp"]
FEW = [*ASKED[:2], *(pytest.param(name, marks=pytest.mark.deep) for name in ASKED[2:])]


def made(name):
    return mutant(name) if name in MUTANTS else kernel(name)


def answers(text, prop):
    """The answer of the solver for each of a property's slices under each strength, the weakest first."""
    engine = Engine(text, SMALL)
    model = engine.model(misplaced=prop.name != solve.LEMMA_MISPLACED, exact=False)
    found = []
    for piece in model.slices(prop):
        with apart():
            found.append([engine._violated(*engine._encode(prop, model, piece, True, s)) for s in solve._STRENGTHS])
    return found


def monotone(text):
    """Whether what has no run under a weaker hand-over has none under a stronger one, for every property."""
    return all(
        stronger == z3.unsat
        for prop in DECIDED.values()
        if prop.applies_to(text)
        for piece in answers(text, prop)
        for i, weaker in enumerate(piece)
        if weaker == z3.unsat
        for stronger in piece[i:]
    )


@pytest.mark.parametrize("name", FEW)
def test_less_handed_over_is_never_fewer_runs(name):
    assert monotone(made(name))


def test_a_section_that_is_told_more_than_it_knows_shows(monkeypatch):
    def empty(self, found, left):
        return same(found, z3.IntVal(0)) if self.handed == "zeros" and z3.is_int(found) else same(found, left)

    monkeypatch.setattr(handover.HandOver, "_taken", empty)
    assert not monotone(made("no-mutex"))


def strengths(monkeypatch, text, prop, **lemmas):
    asked = []
    original = Engine._encode

    def recorded(self, prop, model, piece, counts, handed="values"):
        asked.append(handed)
        return original(self, prop, model, piece, counts, handed)

    monkeypatch.setattr(Engine, "_encode", recorded)
    return Engine(text, SMALL)._decide(PROPERTIES[prop], **lemmas).result, asked


def test_the_guarantee_is_decided_by_what_is_zero(monkeypatch):
    found = strengths(monkeypatch, kernel("v5.11"), "no_stray_page", counts=True, misplaced=True)
    assert found == (Result.HOLDS, ["zeros"])


def test_a_lemma_is_decided_section_by_section(monkeypatch):
    found = strengths(monkeypatch, kernel("v5.11"), "pages_conserved", counts=True, misplaced=True)
    assert found == (Result.HOLDS, ["nothing"])


def test_where_zeros_do_not_do_values_are_handed_over(monkeypatch):
    """Without the lemma that it is itself, a count follows from the one before."""
    result, asked = strengths(monkeypatch, kernel("v5.11"), "pages_conserved", counts=False, misplaced=True)
    assert (result, asked[:2]) == (Result.HOLDS, ["zeros", "values"])
    monkeypatch.setattr(solve, "_STRENGTHS", ("nothing", "zeros"))
    monkeypatch.setattr(solve, "_MODELS", 1)
    result, _ = strengths(monkeypatch, kernel("v5.11"), "pages_conserved", counts=False, misplaced=True)
    assert result is Result.UNDECIDED


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("prop", ["no_stray_page", "pages_conserved", "limits_exclusive"])
def test_who_writes_what_others_read_is_told_apart_in_time(name, prop):
    engine = Engine(made(name), SMALL)
    model = engine.model(misplaced=True, exact=False)
    for piece in model.slices(PROPERTIES[prop]):
        encoding, _ = engine._encode(PROPERTIES[prop], model, piece, True)
        for e in encoding.events:
            for cell in e.reads:
                writers = [w for w in encoding._writers.get(cell, ()) if w.task is not e.task]
                assert all(w.timed for w in writers) and (e.timed or not writers)
        assert any(not e.timed for e in encoding.events)


@pytest.mark.parametrize("name", ["v5.11", "base", "v5.14", "v6.11"])
def test_tasks_that_are_alike_have_one_graph_but_for_their_inputs(name):
    model = Model(kernel(name), Scenario(cpus=2, frees=3, allocs=2))
    seen = 0
    for spec in model.specs:
        like = first_like(spec, model.specs)
        if like is not spec:
            seen += 1
            own, lent = model._graph(spec, 1), as_of(model._graph(like, 1), like, spec)
            assert shape(own) == shape(lent) != shape(model._graph(like, 1)) or not spec.parameters
    assert seen == 3


def shape(graph):
    edges = [
        [([c.key for c in e.conditions], e.target) for e in some]
        for some in (graph.entry, *(n.edges for n in graph.nodes))
    ]
    return [(n.number, op_key(n.op), n.op.text, n.stack) for n in graph.nodes], edges


def test_a_lean_graph_is_made_once_for_properties_and_tasks(monkeypatch):
    found = []
    contract = slice.contract
    monkeypatch.setattr(slice, "contract", lambda task, *rest: found.append(task.spec.name) or contract(task, *rest))
    model = Model(kernel("v5.11"), Scenario(cpus=2, frees=3, allocs=2), ["misplaced"])
    (first,) = model.slices(PROPERTIES["no_stray_page"])
    assert found and {"free1", "free2", "alloc1"}.isdisjoint(found)
    before = len(found)
    (again,) = model.slices(PROPERTIES["no_stray_page"])
    assert len(found) == before
    assert [shape(t.graph) for t in first.tasks] == [shape(t.graph) for t in again.tasks]


@pytest.mark.parametrize("name", ["v5.11", "no-drain"])
def test_runs_that_all_properties_share_are_those_of_each_alone(name):
    """Also where one property is violated, at which a run ends for those that are watched with it."""
    shared = WholeRuns(made(name), SMALL, Values(rounds=True))
    for prop in DECIDED.values():
        alone = WholeRuns(made(name), SMALL, Values(rounds=True))
        alone._watched = [prop]
        assert shared.reaching(prop, 6).reached == alone.reaching(prop, 6).reached
