"""Proofs, the suite and campaigns on a Dask cluster: what they say is what they say here."""

from __future__ import annotations

import json
import os

import pytest
from distributed import LocalCluster

from properties.catalogue import find
from verify.prove import engine, portions
from verify.prove.__main__ import main as prove
from verify.prove.engine import PROVABLE
from verify.prove.obligations import FAILED, TOGETHER, Prover
from verify.random.__main__ import main as random
from verify.suite.__main__ import main as suite
from verify.suite.elsewhere import Words, ran
from verify.tracefile import KernelSpec


@pytest.fixture(scope="module")
def address():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit="4GB"
    ) as local:
        yield local.scheduler_address


def _json(path):
    return json.loads(path.read_text())


def test_obligations_are_those_of_this_machine(address, tmp_path, monkeypatch):
    """Which lemmas an answer rests on depends on what the solver was asked before: it may differ."""
    # each job reads the kernel anew: few of them
    monkeypatch.setattr(engine, "LARGE_PORTION", 150)
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    for target, more in ((here, []), (there, ["--scheduler", address])):
        assert prove(["--mutant", "swapped-limit-stores", "--quiet", "--json", str(target), *more]) == 0
    told = [
        (
            [(a["where"], a["goal"], a["result"]) for a in _json(f)["obligations"]],
            [(v["property"], v["result"]) for v in _json(f)["verdicts"]],
        )
        for f in (here, there)
    ]
    assert told[0] == told[1] and told[0][0]


def test_what_fails_there_fails_as_it_does_here():
    spec = KernelSpec("mutant", "enable-without-restore")
    prover = Prover(spec.load(), [find(name) for name in PROVABLE])
    numbers = tuple(n for n, t in enumerate(prover.transitions) if "zone_pcp_enable" in t.label)[:6]
    (chunk,) = map(portions.answered, [portions.Portion(spec, "sc", numbers, TOGETHER, None)])
    results = [[(a.goal, a.result) for a in answers] for answers, _ in chunk]
    assert results == [[(a.goal, a.result) for a in prover.step(n, TOGETHER)[0]] for n in numbers]
    assert any(result == FAILED for answers in results for _, result in answers)


def test_obligations_that_come_to_nothing_leave_the_proof_undecided(address, monkeypatch, capsys):
    monkeypatch.setattr(portions, "answered", _dies)
    assert prove(["--quiet", "--scheduler", address]) == 3
    assert "obligations of v5.11, transitions 0 to 47: came to nothing on 3 tries" in capsys.readouterr().err


def _dies(_):
    os._exit(7)


def test_the_suite_has_the_same_files(address, tmp_path):
    asked = ["--cpus", "1", "--frees", "1", "--allocs", "0", "--only", "explore"]
    told = []
    for name, more in (("here", []), ("there", ["--scheduler", address])):
        assert suite([*asked, "--out", str(tmp_path / name), "--quiet", *more]) == 0
        record = _json(tmp_path / name / "verdicts.json")
        told.append({(v["engine"], v["property"]): v["result"] for v in record["verdicts"]})
        assert (tmp_path / name / "index.html").exists()
    assert told[0] == told[1] != {}


def test_campaigns_are_those_of_this_machine(address, tmp_path):
    found = []
    for name, more in (("here", ["--jobs", "1"]), ("there", ["--scheduler", address])):
        target = tmp_path / name
        asked = ["--mutant", "no-drain", "--property", "no_stray_page", "--histories", "30", "--campaigns", "2"]
        code = random([*asked, "--quiet", "--json", str(target), *more])
        found.append((code, [{**c, "seconds": 0} for c in _json(target)["campaigns"]]))
    assert found[0] == found[1]


def test_a_command_that_takes_too_long_is_ended():
    code, seconds, stopped, files = ran(Words("verify.explore", ("--cpus", "4", "--pages", "4", "--frees", "3"), 1.0))
    assert code != 0 and seconds < 30 and set(files) >= {"txt", "err"}
    # as it would here, it is asked to keep what it has
    assert stopped == "out of time after 1 s" and code == 3 and json.loads(files["json"])["interrupted"]


@pytest.mark.parametrize("main", [prove, suite])
def test_a_file_that_no_worker_has_is_refused(main, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--variant", "mine.py", "--scheduler", "tcp://nowhere:1"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
