"""Random histories: the patch survives them, the race before it and nearly every mutant are found by them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import Phase, settings

import properties.hunt
from kernelmodel import Config, Machine, ModelError
from kernelmodel.cells import CELLS
from kernelmodel.kernels import KERNELS, kernel, mutant, variant
from kernelmodel.mmzone import MigrateType
from kernelmodel.schema import CellKind
from kernelmodel.tasks import TaskKind, kinds_of
from kernelmodel.terms import Cell
from kernelmodel.versions.later_mutants import EVERY
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from properties.monitor import Monitor
from properties.profiles import EXAMPLES, FINDING, HUNTS, RACE_RULES, RULES, register
from properties.stateful import FAULTS, DrainRace, History, PageAllocator, expected_to_hold, hunter_of, machine_for

PROFILE = register()
SEEDS = 4
#: mutants that random search does not come upon in the ci profile, and the engine that finds them
NOT_BY_RANDOM = {
    # a free prepared before isolation must end in the few steps between high's restoration and the undoing
    "enable-before-unisolate": "bmc",
    # the refill must begin before high is 0, and a whole drain come within the other drain's first steps
    "unlock-before-flush": "explore",
}
#: the same for what a kernel breaks
BROKEN_NOT_BY_RANDOM = {
    # v5.10 drains before start_isolate_page_range() returns: a stale free and then an allocation must come after that
    ("v5.10", "isolated_page_not_allocated"): "bmc",
    # a page that a refill left behind must be taken again from within the window
    ("v6.0", "isolated_page_not_allocated"): "explore",
}
BROKEN = [(name, p) for name, k in KERNELS.items() for p in k.breaks if (name, p) not in BROKEN_NOT_BY_RANDOM]
#: those of the first kernel of an era; the rest are left to `make deep`
SOON = [(n, p) for n, p in BROKEN if n in ("base", "v5.10", "v5.14") or (n, p) == ("v6.2", "no_stray_page")]
KILLED = [m.name for m in MUTANTS.values() if m.breaks != EQUIVALENT]
CONTROLS = [m.name for m in MUTANTS.values() if m.breaks == EQUIVALENT]
BOTH = pytest.mark.parametrize("machine", [DrainRace, PageAllocator])


def run(
    machine: type[History], examples: int, phases: tuple[Phase, ...] = FINDING, number: int | None = None, **more: Any
) -> None:
    rules = RACE_RULES if issubclass(machine, DrainRace) else RULES
    properties.hunt.hunt(
        machine, settings(max_examples=examples, stateful_step_count=rules, phases=phases, **more), number
    )


def hunt(machine: type[History], phases: tuple[Phase, ...] = FINDING) -> AssertionError:
    """What is raised when random histories break the one property that the machine looks at; an error if none does."""
    (broken,) = machine.properties
    with pytest.raises(AssertionError, match=f"^{broken}: ") as failure:
        # the same seeds in every profile; more than one, for what Hypothesis draws also depends on the modules loaded
        for number in range(SEEDS):
            run(machine, HUNTS[PROFILE], phases, number, database=None)
    return failure.value


def test_the_patch_survives_random_histories_which_reach_every_property() -> None:
    race, allocator = [machine_for(kernel("v5.11"), m) for m in (DrainRace, PageAllocator)]
    run(allocator, EXAMPLES[PROFILE])
    run(race, EXAMPLES[PROFILE])
    assert race.properties == tuple(PROPERTIES)
    for number in range(1, SEEDS * 3):
        if race.reached | allocator.reached == set(PROPERTIES):
            break
        run(race, EXAMPLES["ci"], number=number, database=None)
    assert race.reached | allocator.reached == set(PROPERTIES)


@BOTH
@pytest.mark.parametrize("name", ["base", "v5.10", "v6.1", "v6.11", *CONTROLS])
def test_what_should_hold_elsewhere_survives_random_histories(name: str, machine: type[History]) -> None:
    run(machine_for(kernel(name) if name in KERNELS else mutant(name), machine), EXAMPLES[PROFILE] // 4)


@pytest.mark.deep
@BOTH
@pytest.mark.parametrize("name", [*KERNELS, *CONTROLS])
def test_what_should_hold_survives_many_random_histories(name: str, machine: type[History]) -> None:
    run(machine_for(kernel(name) if name in KERNELS else mutant(name), machine), 10 * EXAMPLES["ci"])


#: of the mutants that break the same property the first; the rest are left to `make deep`
FIRST = {MUTANTS[n].breaks: n for n in reversed(KILLED) if n not in NOT_BY_RANDOM}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FIRST.values() else pytest.mark.deep) for n in KILLED if n not in NOT_BY_RANDOM],
)
def test_mutant_is_found(name: str) -> None:
    hunt(hunter_of(MUTANTS[name]))


@pytest.mark.parametrize(
    ("name", "broken"), [pytest.param(*b, marks=() if b in SOON else pytest.mark.deep) for b in BROKEN]
)
def test_what_a_kernel_breaks_is_found(name: str, broken: str) -> None:
    assert broken not in expected_to_hold(kernel(name))
    hunt(machine_for(kernel(name), DrainRace, [broken]))


#: for what tasks mutants of a kernel take the first that takes them
TAKING = {(m.of.name, tuple(m.needs)): n for n, m in reversed(EVERY.items())}


@pytest.mark.parametrize("name", TAKING.values())
def test_a_mutant_is_hunted_among_the_tasks_that_it_takes(name: str) -> None:
    """One of a kind that no history has would be said to be looked for, and never be found."""
    machine = hunter_of(EVERY[name])
    taken = {k.name for k in machine.kinds.values() if EVERY[name].needs.get(k.option) and not k.has_range}
    began: dict[History, set[str]] = {}

    class Watched(machine):
        def begin(self, kind: TaskKind, *given: Any, **more: Any) -> None:
            began.setdefault(self, set()).add(kind.name)
            super().begin(kind, *given, **more)

    # it may be found at once
    with suppress(AssertionError):
        run(Watched, 3)
    assert began and all(taken <= kinds for kinds in began.values())


def test_what_random_search_misses_is_listed_with_an_engine_that_exists() -> None:
    assert set(NOT_BY_RANDOM) <= set(KILLED)
    assert {(k, p) for k, p in BROKEN_NOT_BY_RANDOM if p in KERNELS[k].breaks} == set(BROKEN_NOT_BY_RANDOM)
    assert {p for _, p in BROKEN} <= set(PROPERTIES)
    assert {*NOT_BY_RANDOM.values(), *BROKEN_NOT_BY_RANDOM.values()} <= {"bmc", "explore"}


@pytest.mark.parametrize("name", KERNELS)
def test_there_is_a_rule_for_each_kind_of_task_and_every_one_starts(name: str) -> None:
    """A kind whose task never came into being would be said to be covered."""
    race, allocator = (machine_for(kernel(name), m) for m in (DrainRace, PageAllocator))
    assert set(race.kinds) == {k.name for k in kinds_of(kernel(name)).values() if k.option}
    for kind in allocator.kinds.values():
        state = allocator()
        state.boot(high=4, batch=2, listed=[(0, 0, int(MigrateType.MOVABLE))], used=[0])
        before = len(state.machine.tasks)
        getattr(state, kind.name)(**{"fraction": 8} if kind.name == "sysctl" else {}, cpu=1)
        assert len(state.machine.tasks) == before + 1
        state.teardown()


def test_a_kind_of_task_of_a_users_kernel_has_a_rule() -> None:
    state: Any = machine_for(variant("docs/examples/own_task.py:Pauses"))()
    state.boot(high=4, batch=2, listed=[], used=[])
    state.pause(cpu=1)
    state.go_on(who=0)
    assert state.machine.tasks[-1].done and state.machine.tasks[-1].name == "pause0"


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "signal"])
def test_each_fault_makes_offlining_fail_in_every_kernel(name: str, fault: str) -> None:
    """A fault whose operation a kernel has under another name would never come."""
    state = machine_for(kernel(name))()
    state.boot(high=4, batch=2, listed=[], used=[])
    for chosen in (fault, ""):
        state.begin(state.kinds["offline"], 0, fault=chosen)
        for _ in range(3):
            state.go_on(who=0)
        assert state.machine.tasks[-1].done and bool(state.machine.tasks[-1].result) is bool(chosen)


@pytest.mark.parametrize("name", ["no-drain", "refill-not-counted"])
def test_failing_example_is_a_program_that_can_be_pasted(name: str) -> None:
    """What Hypothesis prints fails again, with the same property, when it is executed as it stands."""
    broken = MUTANTS[name].breaks
    notes = "\n".join(hunt(hunter_of(MUTANTS[name]), (Phase.generate, Phase.shrink)).__notes__).splitlines()
    program = notes[notes.index("from kernelmodel.kernels import mutant") : notes.index("state.teardown()") + 1]
    namespace: dict[str, Any] = {}
    with pytest.raises(AssertionError, match=f"^{broken}: "):
        exec("\n".join(program), namespace)
    assert namespace["state"].kernel.name == f"v5.11 with {name}"
    # and it reads like one: each burst says in a comment who went how far
    assert sum(line.startswith("state.go(") for line in program) == sum(line.startswith("# ") for line in program)


def test_a_machine_is_named_after_its_kernel_and_watches_what_should_hold() -> None:
    assert machine_for(mutant("no-drain")).__name__ == "PageAllocator_Mutant_no_drain"
    assert machine_for(kernel("base"), DrainRace).__name__ == "DrainRace_Base"
    assert set(PROPERTIES) - set(machine_for(kernel("v5.10")).properties) == set(kernel("v5.10").breaks) != set()
    assert machine_for(kernel("base"), properties=["lock_order"]).properties == ("lock_order",)
    mine = type("Mine", (kernel("v5.11"),), {"name": "mine.py:Mine", "__module__": "mine"})
    assert "from mine import Mine\n" in machine_for(mine).header


def test_unknown_names_are_errors_that_suggest(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_for(kernel("v5.11"), DrainRace, ["no_stray_pages"])()
    with pytest.raises(ModelError, match="did you mean no_stray_page"):
        machine.start(4, 2, listed=[], used=[])
    monkeypatch.setenv("STRAYPAGE_PROFILE", "night")
    with pytest.raises(ValueError, match="STRAYPAGE_PROFILE=night is no profile: choose one of dev, ci, deep"):
        register()


def test_what_a_kernel_declares_is_judged_though_another_was_judged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Properties speak of every cell that there is: what was made ready for one kernel does not do for the next."""
    watched = [PROPERTIES["exits_give_back"]]
    Monitor(Machine(kernel("v5.11"), Config(2)), watched)
    late = CellKind(meaning="of a kernel that is read late", left_over="something of its own is still held")
    monkeypatch.setitem(CELLS, "late.cell", late)
    mine = type("Late", (kernel("v5.11"),), {"name": "late", "cells": (("late.cell", late),)})
    machine = Machine(mine, Config(2))
    monitor = Monitor(machine, watched)
    machine.state.stored[Cell("late.cell")] = 1
    machine.run(machine.spawn("update", machine.kernel.zone_pcp_update(machine.zone())))
    assert [v.found for v in monitor.violations] == ["every task has returned, and something of its own is still held"]
