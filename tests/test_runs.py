"""The net under a user's text: random runs of the Python text itself, held against what the engines say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kernelmodel.graphs import automaton, continuation, folded
from kernelmodel.variants import loading
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import NO_DEADLOCK, PROPERTIES
from tests.test_reading import MISREAD, TWINS, disable, load, refill, write_variant
from verify import runs
from verify.bmc import __main__ as bmc
from verify.explore import __main__ as explore
from verify.explore.finite import DEFAULT
from verify.prove import __main__ as prove
from verify.runs import Net, Values, check
from verify.scenario import Scenario
from verify.verdict import Exit, Result, Verdict

STRAY = PROPERTIES["no_stray_page"]
SMALL = Scenario(cpus=2, frees=1, allocs=1, updates=0)
SELF = "an attribute of self"
#: the attribute that a first path writes is read by the next: both branches are read as one
REMEMBERS = (
    'if {0}(yield ops.environment("late", "the administrator is quick")):\n'
    "    self.late = 0\n"
    'yield ops.happens("a pause")\n'
    'yield from self.set_pageset_high_and_batch(zone, self.__dict__.get("late", 5), 1)\n'
)
BROKEN = MISREAD["two operations at one place"]
HARMLESS = refill("if count > 1:\n    count = count + 0\n")


def holds(**changed: Any) -> Verdict:
    return Verdict(STRAY.name, "mine", "bmc", "a bound", Result.HOLDS, reachable=True, **changed)


# --- what is misread when a mend is taken out is found by the runs alone ---


@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        (bmc, "two operations at one place", ["--cpus", "2", "--frees", "1", "--allocs", "1"]),
        (explore, "two operations at one place", []),
        pytest.param(prove, "two operations at one place", [], marks=pytest.mark.deep),
        pytest.param(bmc, SELF, ["--cpus", "2"], marks=pytest.mark.deep),
        (explore, SELF, []),
    ],
)
def test_a_text_that_is_misread_is_found_by_its_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: ModuleType, name: str,
    options: list[str],
) -> None:  # fmt: skip
    # whichever branch an engine takes first
    remembers = disable(REMEMBERS.format("not " if module is bmc else ""))
    file = write_variant(tmp_path, {**MISREAD, SELF: remembers}[name])
    monkeypatch.setattr(loading, "check_source", lambda *_: None)
    for where, attribute, broken in TWINS.get(name, []):
        monkeypatch.setattr(where, attribute, broken)
    for reader in (automaton, folded, continuation):
        monkeypatch.setattr(reader, "from_a_file", lambda _: False)
    if name == "two operations at one place":
        monkeypatch.setattr(folded, "op_picture", TWINS[name][0][2])
    monkeypatch.setattr(runs, "SECONDS", 60.0)
    code = module.main(["--variant", str(file), "--property", STRAY.name, *options])
    printed = capsys.readouterr().out
    assert code == int(Exit.DISAGREE), printed
    assert "CONTRADICTED by a run of the text itself" in printed and "=> 1 page left on CPU" in printed


@pytest.mark.parametrize(
    ("module", "says"),
    [
        pytest.param(bmc, "holds", marks=pytest.mark.deep, id="bmc"),
        pytest.param(explore, "holds", id="explore"),
        pytest.param(prove, "proved", marks=pytest.mark.deep, id="prove"),
    ],
)
def test_a_harmless_text_says_how_many_runs_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], module: ModuleType, says: str
) -> None:
    options = [] if module is prove else ["--cpus", "2"]
    assert module.main(["--variant", str(write_variant(tmp_path, HARMLESS)), "--property", STRAY.name, *options]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("  no_stray_page"))
    number = int(line.split(" random runs of the text itself")[0].split("and ")[-1])
    assert says in line and number > 0


# --- a run speaks within the verdict's bound only ---


def test_the_same_runs_are_made_each_time(tmp_path: Path) -> None:
    made = load(tmp_path, BROKEN)
    first, second = (check(made, SMALL, [STRAY], Values(rounds=True), 100, 60.0) for _ in range(2))
    assert first == second and list(first.contradictions) == [STRAY.name]


@pytest.mark.parametrize(
    ("scenario", "values"),
    [
        (Scenario(), Values(rounds=True)),
        (DEFAULT.scenario, Values(DEFAULT.new_limits, DEFAULT.pages)),
        (Scenario(hotplugs=1), Values(any_size=True)),
    ],
    ids=["bmc", "explore", "prove"],
)
def test_nothing_is_found_in_the_patch(scenario: Scenario, values: Values) -> None:
    found = check(V5_11, scenario, list(PROPERTIES.values()), values, 120, 60.0)
    assert (found.number, found.contradictions) == (120, {})


def test_a_violation_with_more_pages_than_the_bound_has_is_none(tmp_path: Path) -> None:
    made = load(tmp_path, BROKEN)
    numbers = [
        len(check(made, DEFAULT.scenario, [STRAY], Values(DEFAULT.new_limits, pages), 100, 60.0).contradictions)
        for pages in (DEFAULT.pages, 1)
    ]
    assert numbers == [1, 0]


ROUNDS = disable(
    "late = 0\n"
    'while late < 3 and (yield ops.environment("again", "once more")):\n'
    "    late += 1\n"
    "if late > 2:\n"
    '    yield from self.mutex_lock("pcp_batch_high_lock")\n'
)


def test_a_violation_after_more_rounds_than_the_bound_has_is_none(tmp_path: Path) -> None:
    made = load(tmp_path, ROUNDS)
    order = PROPERTIES["lock_order"]
    scenarios = (SMALL, Scenario(cpus=2, frees=1, allocs=1, updates=0, rounds=4))
    found = [len(check(made, s, [order], Values(rounds=True), 100, 60.0).contradictions) for s in scenarios]
    assert found == [0, 1]


def test_a_run_in_which_everybody_waits_is_a_deadlock(tmp_path: Path) -> None:
    made = load(tmp_path, disable('yield from self.mutex_lock("pcp_batch_high_lock")\n'))
    (found,) = check(made, SMALL, [NO_DEADLOCK], Values(rounds=True), 50, 60.0).contradictions.values()
    assert found.found.startswith("deadlock: offline0 waits at mutex_lock(&pcp_batch_high_lock), held by itself")
    assert not check(load(tmp_path, HARMLESS), SMALL, [NO_DEADLOCK], Values(rounds=True), 50, 60.0).contradictions


# --- the record ---


def test_a_text_of_ours_needs_no_net() -> None:
    assert Net(V5_11, SMALL, [STRAY], Values()).held_against(holds()) == holds()


def test_what_does_not_hold_is_not_held_against_runs(tmp_path: Path) -> None:
    net = Net(load(tmp_path, BROKEN), SMALL, [STRAY], Values(rounds=True))
    violated = Verdict(STRAY.name, "mine", "bmc", "a bound", Result.VIOLATED, replayed=True)
    assert net.held_against(violated) == violated


def test_a_contradiction_is_in_the_record_and_in_the_exit_code(tmp_path: Path) -> None:
    net = Net(load(tmp_path, BROKEN), SMALL, [STRAY], Values(rounds=True))
    made = net.held_against(holds())
    assert made.contradicted and made.runs and made.exit_code is Exit.DISAGREE and made.schedule
    assert made.as_json()["contradicted"] is True and made.as_json()["runs"] == made.runs
    assert holds().exit_code is Exit.OK and holds(runs=3).as_json()["runs"] == 3
    assert "=> " in made.trace
