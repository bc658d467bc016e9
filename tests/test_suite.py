"""python -m verify: what there is; the whole suite into a folder, its files and exit codes; jobs that go wrong."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from test_html import Browser, needs_browser

from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties.catalogue import PROPERTIES
from verify.__main__ import main as verify
from verify.prove import engine as prove_engine
from verify.replay.__main__ import main as replay
from verify.suite.__main__ import main
from verify.suite.board import Board
from verify.suite.folder import hang
from verify.suite.jobs import Job, State, run
from verify.suite.junit import junit
from verify.suite.overview import VERBS, overview
from verify.suite.plan import GROUPS, NO_DEADLOCK, PROVABLE, plan, races
from verify.suite.results import Results, contradictions, gather, verdict_of
from verify.suite.summary import page
from verify.tracefile import KernelSpec
from verify.verdict import Exit, Result, Verdict

ROOT = Path(__file__).parent.parent
SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "1", "--only", "bmc", "--only", "explore"]
V5_11 = KernelSpec("kernel", "v5.11")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run of a mutant that is violated."""
    path = tmp_path_factory.mktemp("run") / "out"
    assert main(["--mutant", "no-drain", "--out", str(path), *SMALL]) == 1
    return path


def start(job):
    interrupted = run([job], 1)
    return job.answer(), interrupted


# --- what there is ---


@pytest.mark.parametrize("program", ["straypage", "python -m verify"])
def test_the_overview_fits_a_screen_and_names_every_verb(program):
    lines = overview(program).splitlines()
    assert len(lines) <= 28 and max(map(len, lines)) <= 96
    for name in VERBS:
        assert any(line.startswith(f"  {name} ") for line in lines)


def test_no_verb_prints_the_overview(capsys):
    assert verify([]) == 0
    assert capsys.readouterr().out.rstrip("\n") == overview("python -m verify")


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_a_command(name, capsys):
    with pytest.raises(SystemExit) as left:
        verify([name, "--help"])
    assert left.value.code == 0 and "exit codes" in capsys.readouterr().out


@pytest.mark.parametrize(("verb", "said"), [("compere", "did you mean compare?"), ("qqq", "there are bmc, explore")])
def test_an_unknown_verb_is_one_line(verb, said, capsys):
    with pytest.raises(SystemExit) as left:
        verify([verb])
    err = capsys.readouterr().err
    assert left.value.code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_the_console_script_is_this_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["straypage"].split(":")
    assert getattr(import_module(module), function) is verify
    assert any(d.startswith("rich") for d in project["dependencies"])
    assert any(d.startswith("argcomplete") for d in project["optional-dependencies"]["completion"])


def completed(line, tmp_path):
    said = tmp_path / "said"
    environment = {
        **os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_STDOUT_FILENAME": str(said),
    }  # fmt: skip
    command = [sys.executable, "-m", "verify"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return done, {word.strip() for word in said.read_text().splitlines()} if said.exists() else set()


@pytest.mark.skipif(importlib.util.find_spec("argcomplete") is None, reason="argcomplete is not installed")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("straypage comp", {"compare"}),
        ("straypage bmc --mut", {"--mutant"}),
        ("straypage bmc --mutant no-f", {"no-force-all-cpus", "no-flush"}),
        ("straypage explore --property no_st", {"no_stray_page"}),
        ("straypage compare ba", {"base", "batch-left-old"}),
        ("straypage all --only m", {"mutants"}),
    ],
)
def test_a_shell_completes_verbs_options_and_names(line, words, tmp_path):
    assert completed(line, tmp_path)[1] == words


# --- a run ---


def test_a_run_leaves_its_files(folder):
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert {"index.html", "commands.txt", "versions.json", "verdicts.json", "junit.xml", "smt2/bmc.smt2"} <= names
    assert {"engines/bmc.json", "engines/explore.txt", "traces/bmc-no_stray_page.txt"} <= names
    for stem in {n.rsplit(".", 1)[0] for n in names if n.startswith("traces/")}:
        assert {f"{stem}.json", f"{stem}.txt", f"{stem}.html"} <= names
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["python"].startswith("3.") and versions["packages"]["z3-solver"]


def test_the_commands_are_those_that_ran(folder):
    lines = [x for x in (folder / "commands.txt").read_text().splitlines() if not x.startswith("#")]
    runs = json.loads((folder / "verdicts.json").read_text())["runs"]
    assert lines == [r["command"] for r in runs] and [r["exit"] for r in runs] == [1, 1]
    assert "verify.bmc --mutant no-drain --cpus 2 --frees 1 --allocs 1 --property all" in lines[0]


def test_the_verdicts_are_the_engines_own(folder):
    record = json.loads((folder / "verdicts.json").read_text())
    for engine in ("bmc", "explore"):
        own = json.loads((folder / "engines" / f"{engine}.json").read_text())["verdicts"]
        together = {v["property"]: v for v in record["verdicts"] if v["engine"] == engine}
        assert {v["property"]: v["result"] for v in own} == {p: v["result"] for p, v in together.items()}
        assert {*PROPERTIES} <= {*together}
    assert replay([str(folder / "verdicts.json")]) == 1


def test_each_trace_is_violated_again(folder):
    traces = sorted((folder / "traces").glob("*.json"))
    assert len(traces) >= 4
    for trace in traces[::3]:
        assert replay([str(trace)]) == 1


def test_the_junit_file_has_a_case_for_each_engine_and_property(folder):
    root = ET.parse(folder / "junit.xml").getroot()
    suites = {s.get("name"): {c.get("name"): c for c in s} for s in root}
    assert set(suites["bmc"]) == set(PROPERTIES) and set(suites["explore"]) == {*PROPERTIES, NO_DEADLOCK}
    failed = suites["explore"]["no_stray_page"].find("failure")
    assert failed.get("type") == "violated" and "CPU0" in failed.text
    assert suites["explore"]["lock_order"].find("failure") is None
    for element in root.iter("testsuite"):
        assert int(element.get("tests")) == len(list(element))
        assert int(element.get("failures")) == len(list(element.iter("failure"))) > 0


class Links(HTMLParser):
    """Where the page leads, and what it opens and closes."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.open, self.wrong = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.targets += [v for k, v in attrs if k in ("href", "src") and not v.startswith("data:")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(tag)


def test_the_page_leads_to_what_is_there_and_asks_for_nothing(folder):
    text = (folder / "index.html").read_text()
    links = Links(text)
    assert (links.open, links.wrong) == ([], [])
    assert any(t.startswith("traces/") for t in links.targets)
    assert all((folder / t).is_file() for t in links.targets)
    assert "http" not in re.sub(r"http-equiv", "", text) and "<script" not in text and "default-src 'none'" in text
    assert "4 properties are violated" in text


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_opens_without_complaints(folder, tmp_path, width, dark):
    browser = Browser(tmp_path / "profile")
    try:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.call("Emulation.setEmulatedMedia", features=[scheme])
        browser.call("Page.navigate", url=(folder / "index.html").as_uri())
        until = time.monotonic() + 20
        while browser.run("document.readyState") != "complete" or not browser.run(
            "document.querySelector('h1')?.innerText"
        ):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert browser.run("document.querySelector('h1').innerText") == "4 properties are violated"
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.complaints() == []
    finally:
        browser.close()


def test_a_folder_that_holds_something_is_refused(folder, capsys):
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as left:
        main(["--out", str(folder), *SMALL])
    assert left.value.code == 2 and "is not empty" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernel", "v5.12"], "did you mean v5.15?"),
        (["--variant", "nowhere.py"], "nowhere.py does not exist"),
        (["--cpus", "0"], "--cpus 0 is out of range"),
        (["--only", "spin"], "invalid choice: 'spin'"),
        (["--jobs", "0"], "--jobs 0 is out of range"),
        (["--out", str(ROOT / "README.md")], "name a folder"),
        (["--out", str(ROOT / "README.md" / "x")], "name a folder"),
        (["--outt", "x"], "did you mean --out?"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    err = capsys.readouterr().err
    assert left.value.code == 2 and said in err and len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_an_engine_refuses_is_one_line_and_leaves_nothing(tmp_path, capsys):
    file, out = tmp_path / "three.py", tmp_path / "out"
    file.write_text(
        "from kernelmodel import V5_11\nclass A(V5_11):\n    def zone_pcp_disable(self, zone):\n        yield 3\n"
    )
    with pytest.raises(SystemExit) as left:
        main(["--variant", str(file), "--only", "explore", "--out", str(out)])
    err = capsys.readouterr().err
    assert left.value.code == 2 and "yields 3" in err and len(err.strip().splitlines()) == 1
    assert not out.exists()


def test_an_interrupt_keeps_what_was_decided(tmp_path):
    out = tmp_path / "out"
    asked = ["--only", "bmc", "--only", "explore", "--cpus", "6", "--jobs", "2", "--out", str(out)]
    command = [sys.executable, "-m", "verify", "all", *asked]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while not (out / "engines" / "explore.txt").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    try:
        said, errors = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == 3 and "Traceback" not in errors and "interrupted" in said
    record = json.loads((out / "verdicts.json").read_text())
    assert record["interrupted"] and record["exit"] == 3
    assert "Interrupted" in (out / "index.html").read_text()
    assert ET.parse(out / "junit.xml").getroot().find(".//error") is not None


def test_a_reader_that_goes_away_stops_nothing(tmp_path):
    out = tmp_path / "out"
    asked = ["--only", "explore", "--cpus", "2", "--frees", "0", "--allocs", "1", "--out", str(out)]
    command = [sys.executable, "-m", "verify", "all", *asked]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(30) == 0 and process.stderr.read() == b""
    assert (out / "index.html").is_file()


# --- the suite as data ---


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


@pytest.mark.deep
def test_the_whole_suite(tmp_path):
    out = tmp_path / "out"
    assert main(["--out", str(out)]) == 0
    root = ET.parse(out / "junit.xml").getroot()
    assert root.get("failures") == root.get("errors") == "0" and int(root.get("tests")) > 40
    assert len(list((out / "traces").glob("race-*.html"))) == len(races())
    assert len(list((out / "smt2" / "prove").iterdir())) > 500
