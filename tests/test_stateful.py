"""Random histories: the patch survives them, the race before it and nearly every mutant are found by them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from kernelmodel import ModelError
from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from properties.profiles import EXAMPLES, FINDING, HUNTS, RACE_RULES, RULES, register
from properties.stateful import RACE, DrainRace, History, PageAllocator, expected_to_hold, history_of, machine_for

PROFILE = register()
SEEDS = 4
#: mutants that random search does not come upon in the ci profile, and the engine that finds them
NOT_BY_RANDOM = {
    # a free prepared before isolation must end in the few steps between high's restoration and the undoing
    "enable-before-unisolate": "bmc",
}
#: the same for what the race breaks before the patch
RACE_NOT_BY_RANDOM = {
    # v5.10 drains before start_isolate_page_range() returns: a stale free and then an allocation must come after that
    ("v5.10", "isolated_page_not_allocated"): "bmc",
}
KILLED = [m.name for m in MUTANTS.values() if m.breaks != EQUIVALENT]
CONTROLS = [m.name for m in MUTANTS.values() if m.breaks == EQUIVALENT]
BOTH = pytest.mark.parametrize("machine", [DrainRace, PageAllocator])


def run(machine: type[History], examples: int, phases: tuple[Phase, ...] = FINDING, **more: Any) -> None:
    rules = RACE_RULES if issubclass(machine, DrainRace) else RULES
    chosen = settings(max_examples=examples, stateful_step_count=rules, phases=phases, **more)
    run_state_machine_as_test(machine, settings=chosen)


def hunt(
    text: type[KernelText], broken: str, phases: tuple[Phase, ...] = FINDING, history: type[History] = DrainRace
) -> AssertionError:
    """What is raised when random histories of this kernel break the property; an error if none does."""
    machine = machine_for(text, history, [broken])
    with pytest.raises(AssertionError, match=f"^{broken}: ") as failure:
        # the same seeds in every profile; more than one, for what Hypothesis draws also depends on the modules loaded
        for number in range(SEEDS):
            run(seed(number)(machine), HUNTS[PROFILE], phases, database=None)
    return failure.value


def test_the_patch_survives_random_histories_which_reach_every_property() -> None:
    race, allocator = [machine_for(kernel("v5.11"), m) for m in (DrainRace, PageAllocator)]
    run(allocator, EXAMPLES[PROFILE])
    run(race, 3 * EXAMPLES[PROFILE])
    assert race.properties == tuple(PROPERTIES)
    for number in range(SEEDS * 3):
        if race.reached | allocator.reached == set(PROPERTIES):
            break
        run(seed(number)(race), EXAMPLES["ci"], database=None)
    assert race.reached | allocator.reached == set(PROPERTIES)


@BOTH
@pytest.mark.parametrize("name", ["base", "v5.10", *CONTROLS])
def test_what_should_hold_elsewhere_survives_random_histories(name: str, machine: type[History]) -> None:
    run(machine_for(kernel(name) if name in KERNELS else mutant(name), machine), EXAMPLES[PROFILE] // 4)


@pytest.mark.deep
@BOTH
@pytest.mark.parametrize("name", [*KERNELS, *CONTROLS])
def test_what_should_hold_survives_many_random_histories(name: str, machine: type[History]) -> None:
    run(machine_for(kernel(name) if name in KERNELS else mutant(name), machine), 10 * EXAMPLES["ci"])


#: of the mutants that break the same property the first; those that take long and the rest are left to `make deep`
SLOW = ("isolate-before-disable", "no-mutex")
FIRST = {MUTANTS[n].breaks: n for n in reversed(KILLED) if n not in (*NOT_BY_RANDOM, *SLOW)}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FIRST.values() else pytest.mark.deep) for n in KILLED if n not in NOT_BY_RANDOM],
)
def test_mutant_is_found(name: str) -> None:
    hunt(mutant(name), MUTANTS[name].breaks, history=history_of(MUTANTS[name]))


@pytest.mark.parametrize(
    ("name", "broken"), [(k, p) for k in ("base", "v5.10") for p in RACE if (k, p) not in RACE_NOT_BY_RANDOM]
)
def test_race_before_the_patch_is_found(name: str, broken: str) -> None:
    assert broken not in expected_to_hold(kernel(name))
    hunt(kernel(name), broken)


def test_what_random_search_misses_is_listed_with_an_engine_that_exists() -> None:
    assert set(NOT_BY_RANDOM) <= set(KILLED)
    assert {k for k, _ in RACE_NOT_BY_RANDOM} <= set(KERNELS)
    assert {p for _, p in RACE_NOT_BY_RANDOM} <= set(RACE) <= set(PROPERTIES)
    assert {*NOT_BY_RANDOM.values(), *RACE_NOT_BY_RANDOM.values()} <= {"bmc", "explore"}


def test_failing_example_is_a_program_that_can_be_pasted(name: str = "no-drain") -> None:
    """What Hypothesis prints fails again, with the same property, when it is executed as it stands."""
    broken = MUTANTS[name].breaks
    notes = "\n".join(hunt(mutant(name), broken, (Phase.generate, Phase.shrink)).__notes__).splitlines()
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
    assert set(PROPERTIES) - set(machine_for(kernel("v5.10")).properties) == set(RACE)
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
