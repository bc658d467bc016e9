"""verify.explore: reductions change no verdict, and are derived, not listed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from configurations import EXAMPLES, NAMES, SMALL, TINY, UPDATED, named

from kernelmodel.cells import value
from kernelmodel.graphs.folded_graph import RETURNED
from kernelmodel.kernels import kernel, mutant, variant
from kernelmodel.ops import Op
from kernelmodel.terms import TRUE, land, lnot
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from properties.property import Check
from verify.explore import footprints
from verify.explore.compiled import Compiler
from verify.explore.finite import Finite
from verify.explore.footprints import accusers
from verify.explore.model import Model
from verify.explore.movers import Movers
from verify.explore.search import Limits, Search, initial_rows
from verify.explore.solve import Explorer
from verify.explore.symmetry import AsymmetryError, Symmetric
from verify.explore.table import Transitions
from verify.scenario import Scenario
from verify.verdict import Result


def findings(name, finite, reduce):
    """What complete searches say: violated properties, reached premises, whether there is a deadlock."""
    explorer = Explorer(named(name), finite, reduce)
    properties = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
    group = explorer.search(properties)
    assert not group.found.stopped
    return [(p.name, *group.verdict(p)) for p in properties], bool(group.found.deadlocks), group.found.states


#: a kernel or mutant for each property that the reductions must not lose; the rest is left to `make deep`
REDUCED = (
    ("v5.11", UPDATED), ("no-force-all-cpus", SMALL), ("isolate-before-disable", SMALL),
    ("no-migratetype-reread", SMALL), ("refill-not-counted", SMALL), ("no-mutex", UPDATED), ("no-count-clamp", SMALL),
    ("update-inside-window", UPDATED), ("missed-enable-on-isolation-failure", UPDATED), ("no-drain", UPDATED),
    ("missed-done-on-failure", UPDATED), ("no-cpus-read-lock", UPDATED), ("no-undo", UPDATED), ("page-never-freed", UPDATED),
    ("enable-without-restore", UPDATED), ("enable-before-unisolate", SMALL), ("count-irqs-on", SMALL),
)  # fmt: skip


def test_each_property_is_among_what_reductions_must_not_lose():
    # that of CPU hotplug is in test_explore_hotplug.py, and that of a second drain in test_second_drain.py
    broken = {MUTANTS[name].breaks for name, _ in REDUCED if name in MUTANTS} | {"dead_cpu_drained"}
    assert broken >= {m.breaks for m in MUTANTS.values() if m.breaks != EQUIVALENT}


@pytest.mark.parametrize(
    ("name", "finite"),
    [
        pytest.param(name, finite, id=f"{name}-{word}", marks=() if (name, finite) in REDUCED else pytest.mark.deep)
        for name in NAMES
        for finite, word in ((SMALL, "alloc"), (UPDATED, "update"))
    ],
)
def test_reductions_change_no_verdict(name, finite):
    if name == "no-flush" and finite is SMALL:
        finite = Finite(Scenario(cpus=1, frees=1, allocs=1, updates=0), 2)  # else 7 million states unreduced
    none, movers, full = (findings(name, finite, r) for r in ("none", "movers", "full"))
    assert none[:2] == movers[:2] == full[:2]
    assert movers[2] < none[2] / 3


@pytest.mark.deep
def test_reductions_agree_on_two_frees_of_one_cpu():
    finite = Finite(Scenario(cpus=1, frees=2, allocs=1, updates=0), 3)
    for name in ("v5.11", "no-migratetype-reread"):
        assert findings(name, finite, "none")[:2] == findings(name, finite, "full")[:2]


@pytest.mark.parametrize("finite", [Finite(Scenario(cpus=2, frees=f, allocs=1 - f, updates=0), 1) for f in (0, 1)])
@pytest.mark.parametrize("name", ["v6.1", "v6.11"])
def test_reductions_change_no_verdict_where_no_worker_drains(name, finite):
    assert findings(name, finite, "none")[:2] == findings(name, finite, "full")[:2]


def plain_search(model, exact=True):
    """The number of reachable states, by a set of tuples and nothing else."""
    compiler = Compiler(model, exact)
    functions = {
        (t.number, i): compiler.functions(t, t.at(i)) for t in model.tasks for i in range(len(t.graph.locations))
    }
    seen = {tuple(row) for row, _ in model.initial_rows(False)}
    todo = list(seen)
    while todo:
        state = todo.pop()
        for task in model.tasks:
            if state[task.location] == RETURNED:
                continue
            for function in functions[task.number, state[task.location]]:
                out = []
                function(list(state), out)
                for w, *_ in out:
                    after = tuple(w)
                    if after not in seen:
                        seen.add(after)
                        todo.append(after)
    return len(seen)


@pytest.mark.parametrize("name", ["v5.11", "base", "drain-before-high"])
def test_state_count_is_that_of_a_plain_search(name):
    model = Model(named(name), TINY, [PROPERTIES["no_isolated_page_left"]])
    found = Search(Transitions(model), Limits(), 0).run(initial_rows(model, False))
    assert found.states == plain_search(model)


def test_page_identities_and_counts_see_the_same_traces():
    """With one page there is nothing to tell apart, so the numbers of states are equal too."""
    properties = [PROPERTIES["offline_progress"]]
    counts = []
    for identities in (False, True):
        model = Model(kernel("base"), TINY, properties, identities=identities)
        counts.append(Search(Transitions(model), Limits(), 0).run(initial_rows(model, False)).states)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["no_isolated_page_left", "offline_progress"])
def test_the_order_in_which_a_refill_finds_pages_of_two_blocks_is_found_again(name):
    """The page that is left must be of the isolated block, so the buddy has to hand out the other one first."""
    verdict = Explorer(mutant("batch-left-old"), replace(SMALL, pages=3)).demonstrate(PROPERTIES[name])
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    (refill,) = [s["choices"] for s in verdict.schedule[1:] if s["operation"].startswith("rmqueue_bulk")]
    if refill["got0"]:
        assert (refill["nth0"], refill["nth1"]) == (0, 1)


def test_movers_are_derived_not_listed():
    """A step inside a section moves, until somebody else reads what it writes."""

    def moves(text, kind):
        model = Model(kernel(kind), SMALL, [PROPERTIES["no_isolated_page_left"]])
        movers = Movers(model)
        (task,) = [t for t in model.tasks if t.spec.kind.name == "free"]
        places = [i for i, ns in enumerate(task.graph.locations) if task.graph.nodes[ns[0]].op.text.startswith(text)]
        return {movers.conditions.get((task.number, i)) is not None for i in places}

    assert moves("list_add(", "v5.11") == {True}
    counted = "pcp[0]->count +="
    assert moves(counted, "v5.11") == {True}
    base = Movers(Model(kernel("base"), SMALL, [PROPERTIES["no_isolated_page_left"]]))
    # base reads the count of other CPUs: raising it may move only where no offliner will look any more
    raising = [
        c
        for (number, location), c in base.conditions.items()
        if base.at[number, location][0].node.op.text.startswith(counted)
    ]
    assert raising and all(c.away for c in raising)


#: nothing is free at first: a page that is taken comes from a pcplist
ACCUSED = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 1)


def accused(excused):
    """A property of what a section takes from a block, by whether the block has been isolated since it began, or has not."""

    def step(config, op):
        for block, n in op.info["taken"].items() if op.tag == "take" else ():
            ghost = value("isolated_at_entry", op.info["cpu"], block)
            yield Check(TRUE, land(lnot(ghost) if excused else ghost, value("isolated", block), n > 0), "taken")

    return replace(PROPERTIES["isolated_page_not_allocated"], name="accused", step=lambda c, op: list(step(c, op)))


def test_a_ghost_that_only_accuses_is_known_by_its_readers():
    def names(*properties):
        return {c.name for c in accusers(Model(kernel("base"), ACCUSED, list(properties)))}

    prop = PROPERTIES["isolated_page_not_allocated"]
    assert names(prop) == names(accused(False)) == {"isolated_at_entry"}
    assert names(accused(True)) == names(prop, accused(True)) == set()

    watched = replace(prop, state=lambda _: [Check(TRUE, value("isolated_at_entry", 0, 1), "it has")])
    assert {c.index for c in accusers(Model(kernel("base"), ACCUSED, [watched]))} == {(1, 1)}

    class Asks(kernel("base")):
        """A text that waits for the ghost."""

        def drain_local_pages(self, zone):
            yield Op("ask", guard=lnot(value("isolated_at_entry", 0, 1)))
            yield from super().drain_local_pages(zone)

    assert {c.index for c in accusers(Model(Asks, ACCUSED, [prop]))} == {(1, 1)}


def test_what_accuses_may_move_and_what_excuses_may_not(monkeypatch):
    def violated(excused, reduce):
        prop = accused(excused)
        group = Explorer(kernel("base"), ACCUSED, reduce).search([prop])
        return group.verdict(prop)[0] is Result.VIOLATED, group.found.states

    for excused in (False, True):
        assert violated(excused, "full")[0] == violated(excused, "none")[0] is True
    monkeypatch.setattr(footprints, "_rises", lambda *_: True)
    assert violated(False, "full")[0]
    assert not violated(True, "full")[0]


def test_all_properties_cost_hardly_more_states_than_none():
    for name in ("v5.11", "v6.11"):
        explorer = Explorer(kernel(name), ACCUSED)
        every = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
        assert len(every) > 10
        none, judged = explorer.search([]).found.states, explorer.search(every).found.states
        assert none <= judged <= 1.05 * none


def test_an_order_of_cpus_is_noticed():
    made = variant(str(EXAMPLES / "last_cpu_first.py"))
    model = Model(made, SMALL, [PROPERTIES["no_stray_page"]], any_order=True)
    with pytest.raises(AsymmetryError, match="does not treat CPU 0 and CPU 1 alike"):
        Symmetric(model)
    group = Explorer(made, SMALL).search([PROPERTIES["no_stray_page"]])
    assert "does not treat" in group.how
    assert group.verdict(PROPERTIES["no_stray_page"])[0] is Result.HOLDS


def test_a_kernel_that_spares_one_cpu_is_not_taken_for_a_symmetric_one():
    class SparesCpu1(kernel("v5.11")):
        def flush_work(self, cpu):
            if cpu != 1:
                yield from super().flush_work(cpu)

    group = Explorer(SparesCpu1, SMALL).search([PROPERTIES["no_stray_page"]])
    assert "movers, equal pages and registers (" in group.how
    assert group.verdict(PROPERTIES["no_stray_page"])[0] is Result.VIOLATED


def test_a_cell_that_was_taken_to_be_zero_is_watched():
    explorer = Explorer(mutant("no-migratetype-reread"), SMALL)
    group = explorer.search([PROPERTIES["isolated_page_not_allocated"]])
    assert group.verdict(PROPERTIES["isolated_page_not_allocated"])[0] is Result.VIOLATED
