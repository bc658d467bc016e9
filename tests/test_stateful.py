"""Random histories: the patch survives them, the race before it and most mutants are found by them."""

import contextlib
import io
import os

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from properties.profiles import EXAMPLES, register
from properties.stateful import RACE, machine_for

PROFILE = register()
EXAMPLE_COUNT = EXAMPLES[PROFILE]

#: random search does not come upon these in the ci profile; tests/test_bmc.py shows that this engine finds them
NOT_BY_RANDOM = {
    "no-force-all-cpus": "bmc",
    "no-mutex": "bmc",
    "high-read-irqs-on": "bmc",
    "enable-before-unisolate": "bmc",
    "no-migratetype-reread": "bmc",
}
KILLED = [m for m in MUTANTS.values() if m.breaks != EQUIVALENT]


def run(machine, examples=EXAMPLE_COUNT, phases=(Phase.generate,)):
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, phases=phases))


@pytest.mark.parametrize("narrow", [True, False], ids=["DrainRace", "PageAllocator"])
@pytest.mark.parametrize("name", KERNELS)
def test_kernel_survives_random_histories(name, narrow):
    run(machine_for(kernel(name), narrow))


@pytest.mark.parametrize("name", [m.name for m in MUTANTS.values() if m.breaks == EQUIVALENT])
def test_control_survives_random_histories(name):
    run(machine_for(mutant(name)))


@pytest.mark.parametrize("name", [m.name for m in KILLED if m.name not in NOT_BY_RANDOM])
def test_mutant_is_found(name):
    expected = MUTANTS[name].breaks
    with pytest.raises(AssertionError, match=f"^{expected}: "):
        run(machine_for(mutant(name), properties=[expected]), examples=1000)


@pytest.mark.deep  # minutes of luck; tests/test_bmc.py shows the same race in seconds
@pytest.mark.parametrize("name", ["base", "v5.10"])
def test_race_before_the_patch_is_found(name):
    with pytest.raises(AssertionError, match=f"^({'|'.join(RACE)}): "):
        run(machine_for(kernel(name), properties=RACE), examples=20000)


def test_what_random_search_misses_is_listed_with_an_engine_that_exists():
    assert set(NOT_BY_RANDOM) <= {m.name for m in KILLED}
    assert set(NOT_BY_RANDOM.values()) == {"bmc"}
    assert set(RACE) <= set(PROPERTIES)


def test_failing_example_is_a_program_that_can_be_pasted():
    """What Hypothesis prints for a mutant fails again, with the same property, when it is executed as it stands."""
    machine = machine_for(mutant("refill-not-counted"), properties=["pages_conserved"])
    printed = io.StringIO()
    with pytest.raises(AssertionError) as failure, contextlib.redirect_stdout(printed):
        run(machine, phases=(Phase.generate, Phase.shrink))
    notes = "\n".join([*getattr(failure.value, "__notes__", []), printed.getvalue()])
    lines = notes.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("state = "))
    last = next(i for i, line in enumerate(lines) if line.startswith("state.teardown()"))
    program = os.linesep.join(lines[first : last + 1])
    with pytest.raises(AssertionError, match=r"^pages_conserved: "):
        exec(program, {machine.__name__: machine})
