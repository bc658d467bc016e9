"""verify.bmc: the patch holds, the race before it and every mutant are found, and no answer is vacuous or unreplayed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import z3

from kernelmodel import ops, page_ops
from kernelmodel.kernels import kernel, mutant
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import FALSE, Cell
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc import solve
from verify.bmc.contract import AGGREGATES
from verify.bmc.encode import Encoding
from verify.bmc.slice import Model
from verify.bmc.solve import Engine
from verify.scenario import Scenario
from verify.verdict import Result

SMALL = Scenario(cpus=2, frees=1, allocs=1)
DEFAULT = Scenario()
#: what bmc decides: not what is judged where a run has ended
DECIDED = {n: p for n, p in PROPERTIES.items() if not p.rest and "hotplugs" not in p.needs_tasks}


#: of the mutants that break the same property the first; the rest is left to `make deep`
FIRST = {m.breaks: m.name for m in reversed(MUTANTS.values())}.values()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(m.name, marks=() if m.name in FIRST else pytest.mark.deep)
        for m in MUTANTS.values()
        # it takes a second drain: tests/test_second_drain.py
        if m.breaks in DECIDED and m.name != "unlock-before-flush"
    ],
)
def test_mutant_is_violated_and_replays(name):
    verdict = Engine(mutant(name), DEFAULT).decide(PROPERTIES[MUTANTS[name].breaks])
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    assert verdict.trace.splitlines()[-1].startswith("=> ")


@pytest.mark.parametrize("prop", DECIDED)
def test_patch_holds_in_a_small_bound_and_is_reachable(prop):
    verdict = Engine(kernel("v5.11"), SMALL).decide(PROPERTIES[prop])
    assert (verdict.result, verdict.reachable) == (Result.HOLDS, True)


#: of the controls the rest is left to `make deep`
TELLING = ("no_stray_page", "limits_restored", "isolated_page_not_allocated")


@pytest.mark.parametrize("prop", [p if p in TELLING else pytest.param(p, marks=pytest.mark.deep) for p in DECIDED])
@pytest.mark.parametrize("name", [m.name for m in MUTANTS.values() if m.breaks == EQUIVALENT])
def test_control_is_equivalent(name, prop):
    assert Engine(mutant(name), SMALL).decide(PROPERTIES[prop]).result is Result.HOLDS


@pytest.mark.parametrize("name", ["base", pytest.param("v5.10", marks=pytest.mark.deep)])
@pytest.mark.parametrize("prop", ["no_isolated_page_left", "isolated_page_not_allocated", "offline_progress"])
def test_race_before_the_patch(name, prop):
    verdict = Engine(kernel(name), DEFAULT).decide(PROPERTIES[prop])
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)


def test_without_allocations_the_racy_count_check_is_harmless():
    scenario = Scenario(allocs=0)
    assert Engine(mutant("no-force-all-cpus"), scenario).decide(PROPERTIES["no_stray_page"]).result is Result.HOLDS


def test_a_property_at_rest_does_not_apply():
    verdict = Engine(mutant("no-undo"), SMALL).decide(PROPERTIES["isolation_undone"])
    assert verdict.result is Result.NOT_APPLICABLE and "verify.explore does" in verdict.reason


def test_a_property_without_its_routines_does_not_apply():
    verdict = Engine(kernel("base"), SMALL).decide(PROPERTIES["no_stray_page"])
    assert verdict.result is Result.NOT_APPLICABLE and "zone_pcp_disable()" in verdict.reason


def test_without_an_offliner_the_window_is_never_reached():
    verdict = Engine(kernel("v5.11"), Scenario(cpus=2, frees=1, allocs=1, offlines=0)).decide(
        PROPERTIES["no_stray_page"]
    )
    assert verdict.result is Result.VACUOUS


def test_no_time_is_undecided():
    verdict = Engine(kernel("v5.11"), DEFAULT, deadline=0.0).decide(PROPERTIES["no_stray_page"])
    assert verdict.result is Result.UNDECIDED and "out of time" in verdict.reason


def test_slices_of_cpus_differ_in_the_number_only():
    model = Model(kernel("v5.11"), DEFAULT, ["misplaced"])
    pieces = [model._slice(PROPERTIES["no_stray_page"], cpu) for cpu in range(3)]
    assert len({model.signature(p) for p in pieces}) == 1
    assert len(model.slices(PROPERTIES["no_stray_page"])) == 1


def test_slices_tell_cpus_apart_that_are_treated_differently():
    class SparesCpu0(kernel("v5.11")):
        def flush_work(self, cpu):
            if cpu != 0:
                yield from super().flush_work(cpu)

    model = Model(SparesCpu0, DEFAULT, ["misplaced"])
    assert len(model.slices(PROPERTIES["no_stray_page"])) == 2
    assert Engine(SparesCpu0, DEFAULT).decide(PROPERTIES["no_stray_page"]).result is Result.VIOLATED


def test_only_sums_are_written_by_tasks_that_a_slice_leaves_out():
    model = Model(kernel("v5.11"), DEFAULT, ["misplaced"])
    for prop in PROPERTIES.values():
        for piece in model.slices(prop):
            assert {c.name for c in model.interference(piece)} <= AGGREGATES


def test_a_shared_cell_written_by_every_cpu_is_refused_not_guessed():
    class Touches(kernel("v5.11")):
        """A free that writes a shared variable, which offlining reads."""

        def free_unref_page_prepare(self, page):
            from kernelmodel.ops import write

            yield write(1, "zone.nr_isolate_pageblock", page.zone.index)
            return (yield from super().free_unref_page_prepare(page))

    verdict = Engine(Touches, SMALL).decide(PROPERTIES["no_stray_page"])
    assert verdict.result is Result.UNDECIDED and "zone.nr_isolate_pageblock" in verdict.reason


def test_lemmas_are_proved_before_they_count():
    """With a lemma that fails, a property that holds only under it is not reported to hold."""
    engine = Engine(mutant("refill-not-counted"), Scenario(cpus=1, frees=0, allocs=1, updates=0))
    assert not engine.holds("pages_conserved")
    assert engine.decide(PROPERTIES["no_stray_page"]).result is Result.VIOLATED


def test_constraints_alone_are_satisfiable_with_every_task_finished():
    model = Model(kernel("v5.11"), SMALL, ["misplaced"])
    (piece,) = model.slices(PROPERTIES["no_stray_page"])
    encoding = Encoding(piece, model.known)
    solver = z3.Solver()
    solver.add(*encoding.constraints, encoding.finished)
    assert solver.check() == z3.sat
    solver.add(encoding.reached)
    assert solver.check() == z3.sat
    assert Cell("pcp.nr", (0, 0, 1, 1)) in encoding.private


def test_smt2_file_decides_the_same_way(tmp_path):
    from verify.bmc.__main__ import main

    file = tmp_path / "query.smt2"
    assert main(["--kernel", "v5.11", "--cpus", "2", "--frees", "1", "--allocs", "1", "--property", "no_stray_page",
                 "--smt2", str(file), "--quiet"]) == 0  # fmt: skip
    z3_binary = Path(sys.executable).parent / "z3"
    run = subprocess.run([z3_binary, str(file)], capture_output=True, text=True, check=False)
    expected = [line.rsplit(" ", 1)[1] for line in file.read_text().splitlines() if "expected" in line]
    assert run.stdout.split() == expected
    assert expected and set(expected) == {"unsat"}


@pytest.mark.parametrize("prop", DECIDED.values(), ids=DECIDED)
def test_every_property_has_a_twin_that_breaks_it(prop):
    verdict = Engine(mutant(prop.broken_by), SMALL if prop.broken_by != "no-mutex" else DEFAULT).decide(prop)
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)


class DeadWorker(V5_11):
    """The worker of the last CPU never runs its work item, so that flush_work() waits for ever."""

    def drain_worker(self, cpu):
        """mm/page_alloc.c: drain_local_pages_wq()."""
        if cpu == self.config.nr_cpus - 1:
            yield ops.never("this CPU's worker sleeps")
        yield from super().drain_worker(cpu)


def test_a_premise_counts_as_reached_only_by_a_run_of_all_tasks(monkeypatch):
    """A slice follows one CPU, and does not see that another CPU's worker holds everybody up."""
    prop = PROPERTIES["no_stray_page"]
    monkeypatch.setattr(solve, "_MORE_RUNS", 40)
    verdict = Engine(DeadWorker, SMALL).decide(prop)
    assert verdict.result is Result.UNDECIDED
    assert "no run of all tasks is found" in verdict.reason and "offline0 waits at flush_work(cpu 1)" in verdict.reason
    monkeypatch.setattr(Engine, "_witnessed", lambda *_: Result.HOLDS)
    assert Engine(DeadWorker, SMALL).decide(prop).result is Result.HOLDS


def test_where_random_runs_miss_a_premise_the_solvers_own_run_is_replayed(monkeypatch):
    prop = PROPERTIES["isolated_page_not_allocated"]
    monkeypatch.setattr(solve, "_RUNS", 0)
    monkeypatch.setattr(solve, "_MORE_RUNS", 0)
    assert Engine(kernel("v5.11"), SMALL).decide(prop).result is Result.HOLDS
    monkeypatch.setattr(solve, "witnessed", lambda *_: False)
    verdict = Engine(kernel("v5.11"), SMALL).decide(prop)
    assert verdict.result is Result.UNDECIDED and "neither the solver's nor 0 random ones" in verdict.reason


def test_a_check_whose_premise_is_never_reached_is_named():
    stray = PROPERTIES["no_stray_page"]

    def checks(config):
        zero, one = stray.state_checks(config)
        return [zero, replace(one, premise=FALSE, violation=FALSE)]

    verdict = Engine(kernel("v5.11"), SMALL).decide(replace(stray, state=checks))
    assert (verdict.result, verdict.reason) == (Result.HOLDS, "its premise is never reached for CPU 1")
    assert Engine(kernel("v5.11"), SMALL).decide(stray).reason == ""


@pytest.mark.parametrize("name", ["no-mutex", "no-drain"])
def test_a_hunt_finds_a_violation_with_as_few_tasks(name, monkeypatch):
    prop = PROPERTIES[MUTANTS[name].breaks]
    found = Engine(mutant(name), DEFAULT).decide(prop)
    asked = []
    anew = Engine._decide_anew
    monkeypatch.setattr(
        Engine, "_decide_anew", lambda e, *rest, **named: asked.append(e.scenario) or anew(e, *rest, **named)
    )
    hunted = Engine(mutant(name), DEFAULT, hunting=True).decide(prop)
    assert (hunted.result, hunted.replayed) == (Result.VIOLATED, True)
    assert (hunted.scenario, hunted.reason) == (found.scenario, found.reason)
    assert DEFAULT not in asked


def test_a_hunt_for_what_is_not_there_is_a_proof_of_the_whole_scenario(monkeypatch):
    prop = PROPERTIES["limits_restored"]
    verdict = Engine(kernel("v5.11"), DEFAULT, hunting=True).decide(prop)
    assert verdict.result is Result.HOLDS and verdict.scenario == DEFAULT.numbers()
    monkeypatch.setattr(Engine, "_hunted", lambda *_: solve.Outcome(Result.HOLDS))
    assert Engine(kernel("v5.11"), DEFAULT, hunting=True).decide(prop).statistics["events"] == 0


class TwoSections(V5_11):
    """A free in two sections, between which another may come on the same CPU: its count is stale then."""

    def free_unref_page(self, page):
        yield from self.free_unref_page_prepare(page)
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        count = yield ops.read("pcp.count", page.zone.index, cpu)
        yield ops.local_irq_restore(cpu)
        cpu = yield ops.local_irq_save(self.config.nr_blocks)
        yield page_ops.list_add(self.config, page, cpu, int(MigrateType.MOVABLE))
        yield ops.write(count + 1, "pcp.count", page.zone.index, cpu)
        yield ops.local_irq_restore(cpu)


def test_the_order_of_equal_tasks_lets_them_overlap():
    """It says who begins first, not who is done first."""
    alone = Scenario(cpus=1, frees=2, allocs=0, updates=0, offlines=0)
    verdict = Engine(TwoSections, alone).decide(PROPERTIES["pages_conserved"])
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
