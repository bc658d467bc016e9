"""Campaigns of random histories: what is found is real and found again at once, and nothing found is said to be nothing."""

from __future__ import annotations

import json

import pytest

from verify.random import campaign
from verify.random.__main__ import main
from verify.random.campaign import Campaign, Folder, run
from verify.tracefile import KernelSpec

SOUND, NO_DRAIN = KernelSpec("kernel", "v5.11"), KernelSpec("mutant", "no-drain")
WATCHED = ("no_stray_page",)


def _quick(spec, histories=60, seed=0, machine="race", examples=None):
    return run(Campaign(spec, machine, WATCHED, histories, seed, examples or {}))


def test_a_race_is_found_as_a_program_and_found_again_at_once():
    found = _quick(NO_DRAIN, 400)
    assert found.violated == "no_stray_page" and found.said.startswith("no_stray_page: 1 page left on CPU")
    assert "machine_for(mutant('no-drain'), DrainRace, ('no_stray_page',))" in found.program
    assert "state.boot(" in found.program and "state.teardown()" in found.program
    again = _quick(NO_DRAIN, 400, seed=7, examples=found.examples)
    assert again.violated == "no_stray_page" and again.histories < 10 < found.histories
    # the same examples are no race of a kernel that has none
    assert _quick(SOUND, 10, examples=found.examples).violated == ""


def test_a_campaign_is_what_its_seed_says():
    one, two, other = _quick(SOUND, 30, 1), _quick(SOUND, 30, 1), _quick(SOUND, 30, 2)
    assert (one.histories, one.examples) == (two.histories, two.examples)
    assert one.violated == "" and one.histories >= 30
    assert _quick(SOUND, 5, machine="allocator").violated == ""
    assert other.seed == 2


def test_examples_are_kept_between_runs(tmp_path):
    folder = Folder(str(tmp_path), NO_DRAIN, "race")
    assert folder.examples() == {}
    folder.keep({"": frozenset({b"x"}), ".secondary": frozenset({b"y", b"z"})})
    assert Folder(str(tmp_path), NO_DRAIN, "race").examples() == {"": {b"x"}, ".secondary": {b"y", b"z"}}
    assert Folder(str(tmp_path), SOUND, "race").examples() == {}
    shared = campaign.Shared(folder.examples())
    assert list(shared.fetch(b"any name")) == [b"x"] and list(shared.fetch(b"any name.secondary")) == [b"y", b"z"]
    shared.delete(b"another name", b"x")
    assert list(shared.fetch(b"any name")) == []


def test_the_command(tmp_path, capsys):
    target, database = tmp_path / "found.json", tmp_path / "examples"
    asked = ["--mutant", "no-drain", "--property", "no_stray_page", "--histories", "400", "--campaigns", "2"]
    assert main([*asked, "--json", str(target), "--database", str(database)]) == 1
    out = capsys.readouterr().out
    assert "v5.11 with no-drain, random histories (race)" in out and "state.boot(" in out
    assert out.rstrip().endswith("exit 1: a property is violated")
    record = json.loads(target.read_text())
    assert [c["seed"] for c in record["campaigns"]] == [0, 1]
    assert {c["violated"] for c in record["campaigns"]} == {"no_stray_page"} and record["exit"] == 1
    assert len(list(database.iterdir())) == 1
    assert main(["--histories", "5", "--campaigns", "1", "--property", "dead_cpu_drained"]) == 0
    out = capsys.readouterr().out
    assert "never reached: dead_cpu_drained" in out and "nothing found, which proves nothing" in out


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--campaigns", "0"], "--campaigns 0 is out of range: give at least 1"),
        (["--histories", "-3"], "--histories -3 is out of range: give at least 1"),
        (["--kernel", "v5.12"], "v5.12"),
        (["--property", "no_stray_pag"], "did you mean no_stray_page?"),
        (["--database", "/proc/nothing"], "--database /proc/nothing: cannot be made"),
        (["--variant", "mine.py", "--scheduler", "tcp://nowhere:1"], "no worker has the file mine.py"),
    ],
)
def test_bad_input_is_one_line(asked, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(asked)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_time_that_is_over_keeps_what_was_found(capsys):
    for jobs in ("1", "2"):
        assert main(["--campaigns", "2", "--jobs", jobs, "--histories", "100000", "--timeout", "0.5"]) == 3
        said = capsys.readouterr()
        assert "out of time after 0 of 2 campaigns; what was found is kept" in said.err
        assert "exit 3: undecided" in said.out
