"""python -m verify: the overview, and a run with all that it leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from browser import Browser, needs_browser

from properties.catalogue import PROPERTIES
from verify.__main__ import main as verify
from verify.replay.__main__ import main as replay
from verify.suite.__main__ import main
from verify.suite.overview import VERBS, overview
from verify.suite.plan import NO_DEADLOCK, races
from verify.tracefile import KernelSpec

V5_11 = KernelSpec("kernel", "v5.11")

ROOT = Path(__file__).parent.parent
SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "1", "--only", "bmc", "--only", "explore"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run of a mutant that is violated."""
    path = tmp_path_factory.mktemp("run") / "out"
    assert main(["--mutant", "no-drain", "--out", str(path), *SMALL]) == 1
    return path


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


@pytest.mark.deep
def test_the_whole_suite(tmp_path):
    out = tmp_path / "out"
    assert main(["--out", str(out)]) == 0
    root = ET.parse(out / "junit.xml").getroot()
    assert root.get("failures") == root.get("errors") == "0" and int(root.get("tests")) > 40
    assert len(list((out / "traces").glob("race-*.html"))) == len(races())
    assert len(list((out / "smt2" / "prove").iterdir())) > 500
