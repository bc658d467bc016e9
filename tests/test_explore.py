"""verify.explore: reductions change no verdict, traces are shortest and replay, and giving up is said, not hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kernelmodel import ops, page_ops
from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.folded_graph import RETURNED
from kernelmodel.kernels import KERNELS, kernel, mutant, variant
from kernelmodel.mmzone import EBUSY, MigrateType, Zone
from kernelmodel.ops import Routine, read, write, write_once
from kernelmodel.terms import IntTerm
from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import NO_DEADLOCK as NO_DEADLOCK_PROPERTY
from properties.catalogue import PROPERTIES
from verify.explore.__main__ import main
from verify.explore.beside import beside
from verify.explore.compiled import Compiler
from verify.explore.distance import Distance
from verify.explore.finite import DEFAULT, Finite
from verify.explore.model import Model
from verify.explore.movers import Movers
from verify.explore.search import Limits, Search, initial_rows, room_mb
from verify.explore.seen import Seen, distinct
from verify.explore.shortest import Shortest
from verify.explore.solve import NO_DEADLOCK, Explorer
from verify.explore.symmetry import AsymmetryError, Symmetric
from verify.explore.table import Transitions
from verify.scenario import Scenario
from verify.tracefile import from_verdicts, play
from verify.verdict import Exit, Result

#: one page that is freed, one that may be allocated, two CPUs
SMALL = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)
#: nobody allocates, the limits change
UPDATED = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=1), 1)
TINY = Finite(Scenario(cpus=1, frees=1, allocs=0, updates=0), 1)
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

NAMES = [*KERNELS, *MUTANTS]


def named(name):
    return kernel(name) if name in KERNELS else mutant(name)


def findings(name, finite, reduce):
    """What complete searches say: violated properties, reached premises, whether there is a deadlock."""
    explorer = Explorer(named(name), finite, reduce)
    properties = [p for p in PROPERTIES.values() if not explorer.why_not(p)]
    groups = [explorer.search(g) for g in explorer.groups_of(properties)]
    assert not any(g.found.stopped for g in groups)
    mine = [(p.name, *next(g.verdict(p) for g in groups if p.name in g.names)) for p in properties]
    return mine, any(g.found.deadlocks for g in groups), sum(g.found.states for g in groups)


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


def test_a_smaller_configuration_is_shown_where_it_suffices():
    finite = Finite(Scenario(cpus=3, frees=2, allocs=1, updates=1), 4)
    verdict = Explorer(mutant("no-drain"), finite).demonstrate(PROPERTIES["no_stray_page"])
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    assert verdict.trace.splitlines()[-1].startswith("=> ")
    assert verdict.statistics["steps"] == len(verdict.schedule) - 1
    assert (verdict.scenario["cpus"], verdict.scenario["frees"], verdict.scenario["allocs"]) == (2, 1, 0)


@pytest.mark.parametrize("name", ["no-drain", "no-flush", "isolate-before-disable", "no-migratetype-reread", "base"])
def test_trace_is_as_short_as_breadth_first_search_says(name):
    prop = PROPERTIES[MUTANTS[name].breaks if name in MUTANTS else "no_isolated_page_left"]
    finite = Finite(Scenario(cpus=2, frees=1, allocs=1 if prop.needs_tasks else 0, updates=0), 2)
    model = Model(named(name), finite, [prop])
    path = Shortest(model, 0, Limits()).find()
    found = Search(Transitions(model), Limits(), 1).run(initial_rows(model, True))
    # the level in which the violating step is made; a violated state is found as soon as it is made
    assert found.violated and len(path.moves) == found.levels - 1


class FlushFirst(V5_11):
    """What is queued after the last flush_work() is waited for by nobody."""

    def drain_cpus_with_pcps(self, zone):  # noqa: ARG002
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield from self.flush_work(cpu)
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield from self.queue_work_on(cpu)


class DrainsTheFirst(V5_11):
    """The worker of CPU 1 can meet a need of the property (interrupts on there) with steps that it has to make anyway."""

    def drain_local_pages(self, drain_zone):
        yield ops.smp_processor_id()
        for zone in self.config.zones:
            if drain_zone == zone.index:
                yield from self.drain_pages_zone(0, zone)


@pytest.mark.parametrize("chosen", [mutant("drain-before-high"), FlushFirst, DrainsTheFirst])
def test_lower_bound_never_exceeds_what_is_left(chosen):
    prop = PROPERTIES["no_stray_page"]
    model = Model(chosen, Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1), [prop])
    path = Shortest(model, 0, Limits()).find()
    distance, compiler = Distance(model, 0), Compiler(model, True)
    state = list(path.first)
    for i, move in enumerate(path.moves):
        assert distance.of(np.array([state], np.int16).T)[0] <= len(path.moves) - i
        out = []
        compiler.functions(move.task, move.task.at(move.location))[move.which](state, out)
        state = next(w for w, _, _, _, choices in out if choices == move.choices)


def test_a_shortest_trace_is_as_long_as_one_that_is_found_without_a_lower_bound():
    model = Model(
        DrainsTheFirst, Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1), [PROPERTIES["no_stray_page"]]
    )
    blind = Shortest(model, 0, Limits())
    blind.distance = SimpleNamespace(of=lambda rows: np.zeros(rows.shape[1], np.int16))  # type: ignore[assignment]
    found = Shortest(model, 0, Limits()).find()
    assert len(found.moves) == len(blind.find().moves) and found.switches == blind.find().switches


class FreesTwice(V5_11):
    def free_one_page(self, zone, page, migratetype, order=0):
        for _ in "ab":
            yield from super().free_one_page(zone, page, migratetype, order)


class ListsWhatIsFree(V5_11):
    def free_one_page(self, zone, page, migratetype, order=0):
        yield from super().free_one_page(zone, page, migratetype, order)
        yield page_ops.list_add(self.config, page, 0, int(MigrateType.MOVABLE))


class TakesAnythingForIsolated(V5_11):
    def test_pages_isolated(self, page_range, isol_flags):  # noqa: ARG002
        yield ops.happens(f"every page of {len(page_range.blocks)} pageblocks is taken for isolated")
        return True


BUGS = {
    "double free": FreesTwice,
    "only a page that is being freed can be listed": ListsWhatIsFree,
    "not free in the buddy": TakesAnythingForIsolated,
}


@pytest.mark.parametrize("says", BUGS)
def test_what_cannot_be_done_ends_the_run_and_is_the_violation(says):
    """The kernel's bug that a property sees in the cells is where the concrete model stops, and the trace is confirmed."""
    chosen = BUGS[says]
    (verdict,) = Explorer(chosen, TINY).decide([PROPERTIES["pages_accounted"]], deadlock=False)
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    assert "cannot be done: " in verdict.found and says in verdict.found
    assert verdict.found.startswith(verdict.schedule[-1]["operation"])
    film = play(from_verdicts({"verdicts": [verdict.as_json()], "scenario": TINY.scenario.numbers()}), chosen)
    assert film.violations[0].found == verdict.found


class ForgetsFirstBlocks(V5_11):
    """start_isolate_page_range() that fails at a later pageblock leaves the first ones isolated."""

    def start_isolate_page_range(self, page_range, migratetype, flags):  # noqa: ARG002
        for block in page_range.blocks:
            if not (yield from self.set_migratetype_isolate(page_range.zone, block)):
                return -EBUSY
        return 0


def test_a_range_of_several_pageblocks_shows_what_is_not_undone():
    one, two = (Finite(replace(TINY.scenario, cpus=2, blocks=n), 1) for n in (1, 2))
    (alone,) = Explorer(ForgetsFirstBlocks, one).decide([PROPERTIES["isolation_undone"]], deadlock=False)
    (found,) = Explorer(ForgetsFirstBlocks, two).decide([PROPERTIES["isolation_undone"]], deadlock=False)
    assert (alone.result, found.result, found.replayed) == (Result.HOLDS, Result.VIOLATED, True)
    assert found.found == "every task has returned, and pageblock 1 is isolated and not offline"
    assert "offline_pages() of 2 pageblocks" in found.bound


def test_blocks_is_an_option(capsys):
    assert (
        main(["--blocks", "2", "--frees", "0", "--allocs", "0", "--updates", "0", "--property", "isolation_undone"])
        == 0
    )
    assert "offline_pages() of 2 pageblocks" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refusal:
        main(["--blocks", "0"])
    assert refusal.value.code == 2 and "--blocks 0 is out of range" in capsys.readouterr().err


def test_patch_holds_and_every_premise_is_reached():
    verdicts = Explorer(V5_11, DEFAULT, beside=beside(V5_11, DEFAULT, altered=False)).decide(list(PROPERTIES.values()))
    expected = (Result.HOLDS, True)
    assert {v.property: (v.result, v.reachable) for v in verdicts} == dict.fromkeys(
        (*PROPERTIES, NO_DEADLOCK), expected
    )


def test_a_task_that_waits_for_itself_is_a_deadlock():
    explorer = Explorer(mutant("missed-enable-on-isolation-failure"), UPDATED)
    verdict = explorer.decide([PROPERTIES["limits_exclusive"]])[-1]
    assert (verdict.property, verdict.result) == (NO_DEADLOCK, Result.VIOLATED)
    assert verdict.found == "deadlock: update0 waits at mutex_lock(&pcp_batch_high_lock), held by offline0"
    assert verdict.replayed and verdict.trace.splitlines()[-1] == f"=> {verdict.found}"
    film = play(from_verdicts({"verdicts": [verdict.as_json()]}), explorer.kernel)
    assert [v.found for v in film.violations] == [verdict.found]


def test_a_deadlock_is_where_nobody_can_go_on_and_not_where_all_have_returned():
    model = Model(kernel("v5.11"), TINY, [NO_DEADLOCK_PROPERTY], rest_as_state=True)
    assert Shortest(model, 0, Limits()).find() is None


class WaitsForItself(V5_11):
    """The lock that a drain takes is asked for again under it: two tasks are not needed."""

    def drain_cpus_with_pcps(self, zone):
        yield from self.mutex_lock("pcpu_drain_mutex")
        yield from super().drain_cpus_with_pcps(zone)


class LocksInEitherOrder(V5_11):
    """A free takes pcp_batch_high_lock and then wants mem_hotplug_lock, which offline_pages() takes first."""

    def free_unref_page(self, page):
        yield from self.mutex_lock("pcp_batch_high_lock")
        yield from self.mutex_lock("mem_hotplug_lock")
        yield from self.mutex_unlock("mem_hotplug_lock")
        yield from self.mutex_unlock("pcp_batch_high_lock")
        yield from super().free_unref_page(page)


class UnlocksTwice(V5_11):
    """mutex_unlock() by a task that does not hold the mutex: nothing that the cells of a property show."""

    def zone_pcp_enable(self, zone):
        yield from super().zone_pcp_enable(zone)
        yield from self.mutex_unlock("pcp_batch_high_lock")


def test_an_unlock_of_what_is_not_held_is_found():
    verdict = Explorer(UnlocksTwice, UPDATED).decide([PROPERTIES["limits_exclusive"]])[-1]
    assert (verdict.property, verdict.result, verdict.replayed) == (NO_DEADLOCK, Result.VIOLATED, True)
    assert verdict.found.startswith("mutex_unlock(&pcp_batch_high_lock) cannot be done: ")
    film = play(from_verdicts({"verdicts": [verdict.as_json()]}), UnlocksTwice)
    assert [v.found for v in film.violations] == [verdict.found]


@pytest.mark.parametrize(
    ("chosen", "waits"),
    [
        (WaitsForItself, ["offline0 waits at mutex_lock(&pcpu_drain_mutex), held by itself"]),
        (LocksInEitherOrder, ["offline0 waits at mutex_lock(&pcp_batch_high_lock), held by free0",
                              "free0 waits at mutex_lock(&mem_hotplug_lock), held by offline0"]),
    ],
)  # fmt: skip
def test_a_deadlock_says_who_waits_for_whom(chosen, waits):
    verdict = Explorer(chosen, UPDATED).decide([PROPERTIES["limits_exclusive"]])[-1]
    assert (verdict.property, verdict.result, verdict.replayed) == (NO_DEADLOCK, Result.VIOLATED, True)
    assert all(w in verdict.found for w in waits)


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


def test_a_value_kept_across_rounds_of_a_loop_is_refused():
    class Keeps(kernel("v5.11")):
        def zone_pcp_update(self, zone):
            old = 0
            while True:
                new = yield read("pcp.high", zone.index, 0)
                if new == old:
                    break
                old = new
                yield write(1, "pcp.batch", zone.index, 0)

    with pytest.raises(ModelError, match="earlier round of a loop"):
        Explorer(Keeps, UPDATED).search([PROPERTIES["limits_restored"]])


def test_out_of_time_and_out_of_memory_are_undecided():
    explorer = Explorer(kernel("v5.11"), SMALL, limits=Limits(deadline=0.0))
    verdict = explorer.decide([PROPERTIES["no_stray_page"]], deadlock=False)[0]
    assert verdict.result is Result.UNDECIDED and "out of time after" in verdict.reason
    explorer = Explorer(kernel("v5.11"), SMALL, limits=Limits(memory_mb=1.0))
    verdict = explorer.decide([PROPERTIES["no_stray_page"]], deadlock=False)[0]
    assert verdict.result is Result.UNDECIDED and "out of memory" in verdict.reason


@pytest.mark.parametrize("bits", [64, 12, 3])
@pytest.mark.parametrize("spread", [1, 1 << 40])
def test_distinct_finds_what_numpy_unique_finds(bits: int, spread: int):
    """With 12 bits fingerprints repeat; with 3, and 1000 of them, those that differ in the low bits only lie mixed."""
    rng = np.random.default_rng(bits)
    prints = rng.integers(0, 2**bits, 1000, dtype=np.uint64) * np.uint64(spread)
    expected, first = np.unique(prints, return_index=True)
    found, at = distinct(prints)
    assert found.tolist() == expected.tolist()
    assert prints[at].tolist() == expected.tolist()
    if bits > 12:
        assert at.tolist() == first.tolist()


def test_a_set_of_fingerprints_in_sorted_runs():
    rng = np.random.default_rng(1)
    seen, reference = Seen(), set()
    for _ in range(30):
        batch = np.unique(rng.integers(0, 500, 40).astype(np.uint64))
        fresh = batch[seen.unknown(batch)]
        assert set(fresh.tolist()) == set(batch.tolist()) - reference
        if len(fresh):
            seen.add(fresh)
        reference |= set(batch.tolist())
    assert len(seen) == len(reference)


def test_a_folded_graph_comes_back_to_its_loop():
    k = kernel("v5.11")(SMALL.scenario.config)
    graph = fold(k, lambda: k.drain_worker(0), [0], {})
    ends = [n for n in graph.kept if n.op.tag == "work_end"]
    assert [t for _, t in ends[0].edges] == [graph.entry[0][1]]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--pages", "0"], "--pages 0 is out of range: give 1 to 16 (each of the 1 frees holds one)"),
        (["--pages", "two"], "invalid int value: 'two'"),
        (["--frees", "3", "--pages", "2"], "--pages 2 is out of range: give 3 to 16"),
        (["--frees", "30"], "--frees 30 is too many here: give at most 16, for each holds one of 16 pages"),
        (["--batch", "0"], "--batch 0 is out of range: give 1 to 16"),
        (["--reduce", "some"], "invalid choice: 'some'"),
        (["--jobs", "0"], "--jobs 0 is out of range: give at least 1"),
        (["--memory-limit", "-3"], "-3: give a number above 0"),
        (["--pagse", "3"], "did you mean --pages?"),
        (["--mutant", "no-drian"], "did you mean no-drain?"),
        (["--json", "/nonexistent/x.json"], "cannot write /nonexistent/x.json"),
    ],
)
def test_bad_input_is_one_line(arguments, line, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()
    assert left.value.code == int(Exit.USAGE)
    assert line in err and len(err.strip().splitlines()) == 1 and not out


def test_json_and_exit_code(tmp_path, capsys):
    file = tmp_path / "verdicts.json"
    assert main(["--mutant", "no-drain", "--json", str(file)]) == 1
    record = json.loads(file.read_text())
    (verdict,) = record["verdicts"]
    assert (verdict["property"], verdict["result"], verdict["replayed"]) == ("no_stray_page", "violated", True)
    assert verdict["statistics"]["steps"] == 18 and verdict["statistics"]["context_switches"] == 1
    assert record["finite"] == {"pages": 3, "high": 2, "batch": 2, "reduce": "full"}
    assert "CPU0" in capsys.readouterr().out


def test_no_time_exits_with_3_and_keeps_what_there_is(tmp_path, capsys):
    file = tmp_path / "verdicts.json"
    assert main(["--timeout", "0.0001", "--json", str(file), "--jobs", "1"]) == int(Exit.UNDECIDED)
    assert "out of time" in capsys.readouterr().out
    assert {v["result"] for v in json.loads(file.read_text())["verdicts"]} == {"undecided"}


LARGE = Finite(Scenario(cpus=4, frees=3, allocs=2), 4)


@pytest.mark.parametrize(("name", "broken"), [("no-drain", True), ("swapped-limit-stores", False)])
def test_a_probe_tells_what_small_configurations_violate(name: str, broken: bool):
    found = Explorer(mutant(name), LARGE).probe([PROPERTIES["no_stray_page"], PROPERTIES["limits_restored"]])
    assert [p.name for p in found] == (["no_stray_page"] if broken else [])


def test_a_mutant_of_a_large_configuration_is_shown_in_a_small_one(capsys: pytest.CaptureFixture[str]):
    options = ["--cpus", "4", "--pages", "4", "--frees", "3", "--allocs", "2", "--property", "no_stray_page"]
    assert main(["--mutant", "no-drain", *options]) == Exit.VIOLATED
    printed = capsys.readouterr().out
    assert "(2 CPUs, 1 free, 1 offline_pages() suffice)" in printed
    assert "CPU0" in printed


def test_the_room_is_what_the_machine_or_its_container_leaves(monkeypatch: pytest.MonkeyPatch):
    texts = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  2048000 kB\n",
        "/sys/fs/cgroup/memory.max": "1048576000\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda self: texts[str(self)])
    assert room_mb() == pytest.approx(900)
    texts["/sys/fs/cgroup/memory.max"] = "max\n"
    assert room_mb() == pytest.approx(1800)
    texts["/proc/meminfo"] = ""
    assert room_mb() is None


def limits_of(value: int) -> type[KernelText]:
    class Wide(V5_11):
        def pageset_update(self, zone: Zone, cpu: int, high: IntTerm, batch: IntTerm) -> Routine:
            yield write_once(batch, "pcp.batch", zone.index, cpu)
            yield write_once(high + value, "pcp.high", zone.index, cpu)

    return Wide


@pytest.mark.parametrize("value", [65536, 2**70])
def test_a_value_that_a_column_cannot_hold_is_refused(value: int):
    # 65536 would be 0 in 16 bits, and the kernel hold
    with pytest.raises(ModelError, match="16 bits"):
        Explorer(limits_of(value), Finite(Scenario(cpus=1))).probe([PROPERTIES["no_stray_page"]])
    assert Explorer(limits_of(2), Finite(Scenario(cpus=1))).probe([PROPERTIES["no_stray_page"]])


# --- properties at rest ---

AT_REST = ("exits_give_back", "isolation_undone", "pages_accounted")
#: mutant -> (what it breaks, what is found)
LEFT = {
    "missed-done-on-failure": ("exits_give_back", "mem_hotplug_lock is still held"),
    "no-undo": ("isolation_undone", "pageblock 1 is isolated and not offline"),
    "page-never-freed": ("pages_accounted", "a page of block 1 is neither in use nor free"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_a_run_leaves_behind_is_found_where_it_ends(name: str) -> None:
    prop, found = LEFT[name]
    (verdict,) = Explorer(mutant(name), UPDATED).decide([PROPERTIES[prop]], deadlock=False)
    assert verdict.result is Result.VIOLATED and verdict.replayed
    assert found in verdict.found and "every task has returned" in verdict.found


@pytest.mark.parametrize("reduce", ["none", "movers", "full"])
def test_a_run_of_v5_11_leaves_nothing_behind(reduce: str) -> None:
    finite = Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 2)
    for verdict in Explorer(V5_11, finite, reduce).decide([PROPERTIES[n] for n in AT_REST], deadlock=False):
        assert (verdict.result, verdict.reachable) == (Result.HOLDS, True)


class NeverReturns(V5_11):
    """offline_pages() waits for what never comes: no run ends."""

    def mem_hotplug_begin(self):  # type: ignore[no-untyped-def]
        """mm/memory_hotplug.c: mem_hotplug_begin()."""
        yield ops.never("waits for ever")


def test_where_no_run_ends_a_property_at_rest_is_vacuous() -> None:
    finite = Finite(Scenario(cpus=1, frees=1, allocs=0, updates=0), 1)
    found = Explorer(NeverReturns, finite).decide([PROPERTIES[n] for n in AT_REST], deadlock=False)
    assert {v.result for v in found} == {Result.VACUOUS}
