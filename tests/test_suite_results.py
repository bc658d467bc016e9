"""verify.suite: what a run says: plan, exit codes, races, JUnit, and jobs that do not end well."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from verify.prove import engine as prove_engine
from verify.suite.__main__ import main
from verify.suite.board import Board
from verify.suite.folder import hang
from verify.suite.jobs import Job, State, run
from verify.suite.junit import junit
from verify.suite.plan import GROUPS, PROVABLE, plan, races
from verify.suite.results import Results, contradictions, gather, verdict_of
from verify.suite.summary import page
from verify.tracefile import KernelSpec
from verify.verdict import Exit, Result, Verdict

V5_11 = KernelSpec("kernel", "v5.11")


def start(job):
    interrupted = run([job], 1)
    return job.answer(), interrupted


def test_the_plan_runs_everything_and_quick_runs_less(tmp_path):
    whole = plan(V5_11, GROUPS, tmp_path, {})
    assert {j.group for j in whole.jobs} == set(GROUPS)
    assert {j.name for j in whole.jobs if j.group == "races"} == {"base", *(s.name for s, _ in races()[1:])}
    assert {s.name for s, _ in races()[1:]} == {m.name for m in MUTANTS.values() if m.breaks != EQUIVALENT}
    assert any("--smt2" in j.arguments for j in whole.jobs)
    quick = plan(V5_11, GROUPS[:4], tmp_path, {"cpus": 2, "rounds": 2}, quick=True, timeout=9)
    words = {j.name: " ".join(j.arguments) for j in quick.jobs}
    assert "--rounds 2" in words["bmc"] and "--rounds" not in words["explore"] and "--cpus" not in words["prove"]
    assert (
        all("--timeout 9" in words[e] for e in ("bmc", "explore", "prove")) and words["mutants"] == "--engine explore"
    )


def test_prove_is_asked_what_it_can_prove():
    assert PROVABLE == prove_engine.PROVABLE


def test_a_verdict_survives_its_json():
    verdict = Verdict(
        "no_stray_page", "k", "bmc", "b", Result.HOLDS, expected=Result.HOLDS, reachable=True, seconds=1.5
    )
    assert verdict_of(json.loads(json.dumps(verdict.as_json()))) == verdict


def done(group, name, record, tmp_path, code=0):
    """The answer of a job that ended with ``code`` and wrote ``record``."""
    job = Job(group, name, "verify.x", (), tmp_path, state=State.DONE, code=code)
    if record is not None:
        job.file("json").write_text(json.dumps({**record, "exit": record.get("exit", code)}))
    return job.answer()


def verdicts(*found):
    return {"verdicts": [v.as_json() for v in found]}


def verdict(result, engine="bmc", **more):
    return Verdict("no_stray_page", "v5.11", engine, "b", result, **more)


@pytest.mark.parametrize(
    ("record", "code", "expected"),
    [
        (verdicts(verdict(Result.HOLDS)), 0, Exit.OK),
        (verdicts(verdict(Result.VIOLATED, replayed=True)), 1, Exit.VIOLATED),
        (verdicts(verdict(Result.UNDECIDED)), 3, Exit.UNDECIDED),
        (verdicts(verdict(Result.VACUOUS)), 4, Exit.VACUOUS),
        (verdicts(verdict(Result.VIOLATED, replayed=False)), 70, Exit.DISAGREE),
        # Python's own 1 after an exception, an unfinished file, a file of another run
        (None, 1, Exit.UNDECIDED),
        (None, -9, Exit.UNDECIDED),
        ({**verdicts(), "exit": 0}, 1, Exit.UNDECIDED),
    ],
)
def test_the_exit_code_is_the_worst_of_what_was_computed(record, code, expected, tmp_path):
    good = done("explore", "explore", verdicts(verdict(Result.HOLDS, "explore")), tmp_path)
    assert gather(V5_11, [good, done("bmc", "bmc", record, tmp_path, code)], False).code is expected


def test_engines_that_contradict_each_other_end_with_70(tmp_path):
    broken = done("bmc", "bmc", verdicts(verdict(Result.VIOLATED, replayed=True)), tmp_path, 1)
    proved = done("prove", "prove", verdicts(verdict(Result.PROVED, "prove")), tmp_path)
    results = gather(V5_11, [broken, proved], False)
    assert results.code is Exit.DISAGREE
    assert results.problems == ["no_stray_page of v5.11: prove says proved, bmc has a counterexample"]
    assert contradictions([verdict(Result.HOLDS, expected=Result.VIOLATED)])[0].endswith("recorded is violated")
    assert contradictions([verdict(Result.PROVED, "prove"), verdict(Result.HOLDS)]) == []


@pytest.mark.parametrize(
    ("result", "code", "expected"),
    [(Result.VIOLATED, 1, Exit.OK), (Result.HOLDS, 0, Exit.DISAGREE), (Result.UNDECIDED, 3, Exit.UNDECIDED)],
)
def test_a_race_is_expected_to_be_found(result, code, expected, tmp_path):
    record = verdicts(verdict(result, "explore", replayed=True if code == 1 else None))
    assert gather(V5_11, [done("races", "base", record, tmp_path, code)], False).code is expected


def test_nothing_decided_is_no_success(tmp_path):
    assert gather(V5_11, [], False).code is Exit.UNDECIDED
    assert gather(V5_11, [done("bmc", "bmc", verdicts(), tmp_path)], True).code is Exit.UNDECIDED


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """The kill matrix of one mutant, and a shortest race of it, as the engines give them."""
    out = tmp_path_factory.mktemp("matrix")
    jobs = [
        Job("mutants", "mutants", "verify.mutants", ("no-drain", "--engine", "explore"), out),
        Job("races", "no-drain", "verify.explore", ("--mutant", "no-drain", "--property", "no_stray_page"), out),
    ]
    assert run(jobs, 2) is False
    return out, gather(V5_11, [j.answer() for j in jobs], False), jobs


def test_mutants_and_their_races_are_on_the_page_and_in_junit(matrix):
    out, results, _ = matrix
    assert results.code is Exit.OK and results.rows[0]["killed"]
    gallery = hang(out, results)
    text = page(results, gallery, ["python -m x"], {"python": "3"}, "today")
    assert 'href="traces/race-no-drain.html"' in text and "18 steps, 1 context switch" in text
    # the picture of the race leads to it: a page strays, in the part where none must, after a read that came too early
    picture = re.search(r'<a class="picture" href="traces/race-no-drain.html">(<svg.*?</svg>)</a>', text)[1]
    svg = ET.fromstring(picture)
    marks = [e.get("class") for e in svg.iter() if e.get("class")]
    assert svg.get("role") == "img" and svg.get("aria-label").startswith(results.races["no-drain"].found)
    assert {"window", "run"} <= set(marks) and [t.text for t in svg.findall("text")] == ["CPU0", "CPU1"]
    assert "mutants: 1 of 1 killed" in text and (out / "traces" / "race-no-drain.html").is_file()
    root = ET.fromstring(junit(results, {"mutants": ("no-drain", "no-flush")}).split("\n", 1)[1])
    cases = {c.get("name"): c for c in root.iter("testcase")}
    assert len(cases["no-drain"]) == 0 and cases["no-flush"].find("error").get("type") == "not decided"


@pytest.mark.parametrize(
    ("change", "tag", "kind"),
    [
        ({"survives": True, "killed": False}, "failure", "survives"),
        ({"expected": EQUIVALENT}, "failure", "killed"),
        ({"undecided": "out of time"}, "error", "undecided"),
        ({"kills": [{"engine": "bmc", "killed": None, "seconds": 1.0, "note": "?"}]}, "error", "undecided"),
    ],
)
def test_a_mutant_that_is_not_as_recorded_is_no_pass(matrix, change, tag, kind):
    _, results, _ = matrix
    changed = Results(V5_11, [], [], rows=[{**results.rows[0], **change}])
    root = ET.fromstring(junit(changed, {"mutants": ("no-drain",)}).split("\n", 1)[1])
    assert [(e.tag, e.get("type")) for e in next(root.iter("testcase"))] == [(tag, kind)]


@pytest.mark.parametrize(
    ("found", "tag", "kind"),
    [
        (verdict(Result.VACUOUS), "failure", "vacuous"),
        (verdict(Result.UNDECIDED, reason="out of \x00 time"), "error", "undecided"),
        (verdict(Result.NOT_APPLICABLE), "skipped", None),
        (verdict(Result.HOLDS, expected=Result.VIOLATED), "failure", "contradiction"),
        (None, "error", "not decided"),
    ],
)
def test_only_what_was_computed_is_a_pass(found, tag, kind):
    results = Results(V5_11, [], [found] if found else [])
    root = ET.fromstring(junit(results, {"bmc": ("no_stray_page",)}).split("\n", 1)[1])
    first = next(root.iter("testcase"))[0]
    assert (first.tag, first.get("type")) == (tag, kind)


# --- jobs ---


def test_a_job_that_crashes_has_no_answer(tmp_path):
    answer, _ = start(Job("bmc", "bmc", "verify.no_such_engine", (), tmp_path))
    assert (answer.record, answer.code, answer.job.code) == (None, Exit.UNDECIDED, 1)
    assert answer.why.startswith("ended with 1 and without verdicts: ") and "no_such_engine" in answer.why


def test_a_job_beyond_its_time_is_stopped_and_keeps_what_it_has(tmp_path):
    began = time.monotonic()
    answer, interrupted = start(Job("mutants", "mutants", "verify.mutants", ("--jobs", "1"), tmp_path, limit=2.5))
    # stopped at once, or after the grace that a busy machine may need
    assert not interrupted and time.monotonic() - began < 60
    assert answer.code is Exit.UNDECIDED and answer.why == "out of time after 2.5 s"


def test_a_killed_job_is_told(tmp_path):
    job = Job("bmc", "bmc", "verify.bmc", ("--cpus", "6"), tmp_path)
    job.start()
    os.kill(job._process.pid, signal.SIGKILL)
    while job.state is not State.DONE:
        job.look()
        time.sleep(0.02)
    assert job.answer().why == "ended by SIGKILL, without verdicts" and job.answer().code is Exit.UNDECIDED


def test_the_board_is_a_table_on_a_terminal_and_lines_in_a_pipe(matrix, capsys):
    _, _, jobs = matrix
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    with Board(jobs, console, {"races": 1}) as board:
        board.watch()
    shown = console.export_text()
    assert "mutants" in shown and "1 of 1 killed" in shown and "1 found" in shown
    waiting = replace(jobs[0], state=State.WAITING)
    piped = Console(file=io.StringIO())
    with Board([waiting, jobs[1]], piped, {"races": 1}) as board:
        board.watch()
        board.watch()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("  races          1 found; ")


def test_quiet_prints_nothing(tmp_path, capsys):
    asked = [
        "--only",
        "explore",
        "--cpus",
        "2",
        "--frees",
        "0",
        "--allocs",
        "1",
        "--quiet",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(asked) == 0
    assert capsys.readouterr() == ("", "")
