"""The peer: the hand-written SPIN model is right, SPIN agrees on what we export, and the benchmark counts correctly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import explore_vs_spin as bench
import growth
import pytest
from goals import goals
from processes import Process, run
from programs import explore_row, expressible, pan_outcome, reduced_promela
from rows import ALL, BY_HAND, CONFIGS, HAND, HOLDS, PAGEBLOCKS, SOME, SPINS_PROPERTIES, UNREDUCED, WITHOUT, Config, Row
from tables import markers, ratios

from kernelmodel import V5_11
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS, build
from properties.catalogue import find
from verify.explore.finite import Finite
from verify.explore.model import Model
from verify.explore.promela import expected_states, promela
from verify.scenario import Scenario

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

_ABSENT = [p for p in ("spin", "gcc") if shutil.which(p) is None]
needs_spin = pytest.mark.skipif(bool(_ABSENT), reason=f"{' and '.join(_ABSENT)} not installed: apt install spin gcc")

#: property -> how its assertion in the hand-written model looks in pan's messages
ASSERTIONS = {
    "no_stray_page": r"disabled&&\(\(nr\[",
    "limits_exclusive": r"\(0\|\| ?!\(disabled\)\)",
    "bulk_free_terminates": r"n<=count\[",
    "pages_conserved": r"\(nr\[\w+\]==count\[",
    "limits_restored": r"==pageset_high\)",
    "no_isolated_page_left": r"isolated_and_drained&&",
    "isolated_page_not_allocated": r"began_isolated\)&&isolated",
}
#: mutants that the hand-written model has, and that break something
BREAKING = sorted(m.name for m in MUTANTS.values() if m.name in expressible() and m.breaks != EQUIVALENT)


def _pan(folder: Path, model: Path, *defines: str, every_error: bool = False) -> str:
    for command in (
        ["spin", "-a", *defines, str(model)],
        ["gcc", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    command = ["./pan", "-m100000", *(["-c0"] if every_error else [])]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout


# --- the model by hand ---


@needs_spin
@pytest.mark.parametrize("defines", [(), ("-DISOLATION",), ("-DMUTANT_swapped_limit_stores",)])
def test_the_hand_written_model_holds(tmp_path: Path, defines: tuple[str, ...]) -> None:
    output = _pan(tmp_path, HAND, *CONFIGS["s"].defines(), *defines)
    outcome, states = pan_outcome(Process(1.0, 0, 1.0, output, False))
    assert outcome == HOLDS
    assert states > 1000


@needs_spin
@pytest.mark.parametrize("mutant", [*BREAKING, "base"])
def test_each_mutant_of_the_hand_written_model_fails_as_ours_does(tmp_path: Path, mutant: str) -> None:
    breaks = "no_isolated_page_left" if mutant == "base" else MUTANTS[mutant].breaks
    define = f"-DMUTANT_{mutant.replace('-', '_')}"
    output = _pan(tmp_path, HAND, *CONFIGS["s"].defines(), define, every_error=True)
    violated = re.findall(r"assertion violated (.*)", output)
    assert any(re.search(ASSERTIONS[breaks], v) for v in violated), violated[:3]


def test_the_hand_written_model_has_most_mutants() -> None:
    assert len(BREAKING) >= 12
    assert set(SPINS_PROPERTIES) <= set(ASSERTIONS)


# --- what verify.explore exports ---


def _exported(folder: Path, kernel: type) -> tuple[Model, Path]:
    names = ("no_stray_page", "pages_conserved", "limits_restored")
    finite = Finite(Scenario(cpus=1, frees=1, allocs=1, updates=0), 2)
    model = Model(kernel, finite, [find(n) for n in names])
    path = folder / "exported.pml"
    path.write_text(promela(model))
    return model, path


@needs_spin
def test_spin_finds_as_many_states_as_we_do(tmp_path: Path) -> None:
    model, path = _exported(tmp_path, V5_11)
    output = _pan(tmp_path, path)
    assert pan_outcome(Process(1.0, 0, 1.0, output, False)) == (HOLDS, expected_states(model))


@needs_spin
def test_spin_agrees_on_the_export_with_movers_and_stores_less(tmp_path: Path) -> None:
    model, path = _exported(tmp_path, V5_11)
    path.write_text(reduced_promela(model))
    outcome, states = pan_outcome(Process(1.0, 0, 1.0, _pan(tmp_path, path), False))
    assert outcome == HOLDS
    assert states * 3 < expected_states(model)


@needs_spin
@pytest.mark.parametrize("reduced", [False, True])
def test_spin_finds_the_mistake_in_an_exported_mutant(tmp_path: Path, reduced: bool) -> None:
    model, path = _exported(tmp_path, build(MUTANTS["no-drain"]))
    if reduced:
        path.write_text(reduced_promela(model))
    assert "errors: 1" in _pan(tmp_path, path)


# --- the benchmark: parsing ---


@pytest.mark.parametrize(
    ("output", "timed_out", "expected"),
    [
        ("State-vector 88 byte, errors: 0\n   107665 states, stored\n", False, ("holds", 107665)),
        ("errors: 0\n1.1710537e+08 states, stored\n", False, ("holds", 117105370)),
        ("pan:1: assertion violated\nerrors: 1\n    12 states, stored\n", False, ("violated", 12)),
        ("Depth= 9 States=    1e+06 Tr\nDepth= 9 States= 4.7e+07 Tr\n", True, ("not finished", 47000000)),
        ("", True, ("not finished", None)),
        ("pan: reached -DMEMLIM bound\nerrors: 0\n   5 states, stored\n", False, ("out of memory", 5)),
        ("error: max search depth too small\nerrors: 0\n   5 states, stored\n", False, ("failed", 5)),
        ("Segmentation fault\n", False, ("failed", None)),
    ],
)
def test_what_pan_prints_is_understood(output: str, timed_out: bool, expected: tuple[str, int | None]) -> None:
    assert pan_outcome(Process(1.0, 0, 1.0, output, timed_out)) == expected


def _statistics(states: int, seconds: float) -> dict[str, Any]:
    return {"statistics": {"states": states, "transitions": 2 * states, "seconds_of_search": seconds}, "reason": ""}


def test_a_search_counts_once_however_many_properties_it_decides() -> None:
    record = {"verdicts": [_statistics(100, 0.5), _statistics(100, 0.5), _statistics(300, 1.5)]}
    row = explore_row("s", ALL, Process(2.0, 0, 70.0, "", False), record)
    assert (row.outcome, row.states, row.states_per_second, row.seconds) == ("holds", 400, 200, 2.0)


@pytest.mark.parametrize(
    ("code", "timed_out", "reason", "outcome"),
    [
        (1, False, "", "violated"), (3, False, "out of time", "not finished"), (3, False, "out of memory", "out of memory"),
        (-9, True, "", "not finished"), (70, False, "", "failed"),
    ],
)  # fmt: skip
def test_exit_codes_of_explore_are_understood(code: int, timed_out: bool, reason: str, outcome: str) -> None:
    record = {"verdicts": [{"statistics": {}, "reason": reason}]}
    assert explore_row("s", ALL, Process(2.0, code, 70.0, "", timed_out), record).outcome == outcome


def test_a_process_is_stopped_at_its_limit_and_its_memory_is_seen() -> None:
    process = run([sys.executable, "-c", "x = bytearray(50_000_000); print('here', flush=True); input()"], 20)
    assert "here" in process.output
    assert process.peak_mb > 45
    process = run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    assert process.timed_out
    assert process.seconds < 20


# --- the benchmark: goals ---


def _row(config: str, tool: str, seconds: float, outcome: str = "holds", mb: float = 100.0, **more: Any) -> Any:
    return Row(config, tool, outcome, seconds, peak_mb=mb, **more)


def _judged(rows: list[Any], mutants: list[Any] | None = None, limit: float = 600) -> dict[str, list[bool | None]]:
    found: dict[str, list[bool | None]] = {}
    for goal in goals(rows, mutants or [], limit):
        found.setdefault(goal.what, []).append(goal.met)
    return found


@pytest.mark.parametrize(
    ("config", "enough", "too_long"), [("s", 0.49, 0.51), ("m", 0.2, 0.6), ("l", 1.5, 1.6), ("x", 10, 11)]
)
def test_a_proof_in_time_meets_its_goal(config: str, enough: float, too_long: float) -> None:
    what = f"{config}: {ALL}"
    assert _judged([_row(config, ALL, enough)])[what][0] is True
    assert _judged([_row(config, ALL, too_long)])[what][0] is False
    assert _judged([_row(config, ALL, enough, "not finished")])[what][0] is False
    assert _judged([])[what][0] is None


def test_memory_on_x_is_a_goal() -> None:
    what = f"x: {ALL}"
    assert _judged([_row("x", ALL, 9, mb=1499)])[what] == [True, True]
    assert _judged([_row("x", ALL, 9, mb=1600)])[what] == [True, False]


def test_spin_not_finishing_is_believed_after_600_seconds_only() -> None:
    what = f"x: {BY_HAND}"
    assert _judged([_row("x", BY_HAND, 600, "not finished")])[what] == [True]
    assert _judged([_row("x", BY_HAND, 151)])[what] == [False]
    assert _judged([_row("x", BY_HAND, 60, "not finished")], limit=60)[what] == [None]
    assert _judged([_row("x", BY_HAND, 300, "out of memory")])[what] == [None]
    assert _judged([Row("x", BY_HAND, "not run")])[what] == [None]


def test_one_slow_mutant_fails_the_goal() -> None:
    what = "x: each mutant's counterexample, explore"
    fast = _row("x", "explore", 4.9, "violated", mutant="no-drain")
    slow = _row("x", "explore", 5.1, "violated", mutant="no-flush")
    lost = _row("x", "explore", 1.0, "not finished", mutant="no-mutex")
    assert _judged([], [fast])[what] == [True]
    assert _judged([], [fast, slow])[what] == [False]
    assert _judged([], [fast, lost])[what] == [False]
    assert _judged([])[what] == [None]


def test_states_a_second_unreduced_is_a_goal() -> None:
    what = f"l: {UNREDUCED}"
    assert _judged([_row("l", UNREDUCED, 50, states_per_second=1_000_000.0)])[what] == [True]
    assert _judged([_row("l", UNREDUCED, 50, states_per_second=999_999.0)])[what] == [False]
    assert _judged([])[what] == [None]


def test_without_the_compiler_is_judged_apart() -> None:
    rows = [_row("s", ALL, 0.4), _row("s", ALL + WITHOUT, 0.9)]
    found = _judged(rows)
    assert (found[f"s: {ALL}"], found[f"s: {ALL}{WITHOUT}"]) == ([True], [False])


def test_ratios_compare_the_same_questions() -> None:
    rows = [
        _row("l", SOME, 2.0, states=100), _row("l", BY_HAND, 5.0, states=150),
        _row("l", ALL, 3.0, states=400), _row("l", PAGEBLOCKS, 60.0, "not finished", states=2000),
    ]  # fmt: skip
    first, second = ratios(rows)
    assert "2.50 times as long" in first
    assert "1.5 times the states" in first
    assert "more than 20.00 times as long" in second


# --- the benchmark: the command ---


@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        (bench, ["--configs", "s,q"], "'q' is none of s, m, l, x"), (bench, ["--limit", "0"], "not a positive number"),
        (bench, ["--limit", "nan"], "not a positive number"), (bench, ["--runs", "1.5"], "not a whole number"),
        (bench, ["--bogus"], "--bogus"), (bench, ["--json", "/nowhere/x.json"], "cannot write /nowhere/x.json"),
        (bench, ["--read", "/nowhere/x.json"], "cannot read /nowhere/x.json"),
        (growth, ["--limit", "soon"], "not a positive number"), (growth, ["--bogus"], "--bogus"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line(
    program: ModuleType, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        program.main(options)
    said = capsys.readouterr()
    assert refused.value.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def _record(**more: Any) -> dict[str, Any]:
    rows = [_row("s", ALL, 0.4, states=5), _row("s", BY_HAND, 1.5, parts=[0.1, 1.2, 0.2])]
    mutants = [
        _row("x", "explore", 1.25, "violated", mutant="no-drain"), Row("x", BY_HAND, "not run", mutant="no-drain"),
    ]  # fmt: skip
    return {
        "date": "2026-01-02", "machine": "a machine", "limit": 600.0, "mutants_on": "x", "mutant_limit": 60.0,
        "rows": [asdict(r) for r in rows], "mutants": [asdict(m) for m in mutants], **more,
    }  # fmt: skip


def test_an_earlier_run_is_written_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, saved = tmp_path / "performance.md", tmp_path / "run.json"
    begin, end = markers()
    page.write_text(f"before\n{begin}\nof yesterday\n{end}\nafter\n")
    saved.write_text(json.dumps(_record()))
    monkeypatch.setattr(bench, "PERFORMANCE", page)
    for _ in range(2):
        assert bench.main(["--read", str(saved), "--write"]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "yesterday" not in text
    assert "Measured on 2026-01-02, at most 600 s each: a machine." in text
    assert "| **s** SPIN, by hand | 1.50 | 0.10 + 1.20 + 0.20 |" in text
    assert "| `no-drain` | 1.25 | not expressible |" in text
    assert "| s: explore, all properties | under 0.5 s | 0.40 s | met |" in text
    assert "not met" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}', json.dumps(_record(rows=[{"bogus": 1}]))])
def test_a_file_that_is_no_earlier_run_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "run.json"
    saved.write_text(text)
    with pytest.raises(SystemExit) as refused:
        bench.main(["--read", str(saved)])
    assert refused.value.code == 2
    assert "is not what --json writes" in capsys.readouterr().err


def test_without_spin_explore_is_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "missing", lambda: ["spin"])
    monkeypatch.setattr(bench, "has_compiler_option", lambda: False)
    monkeypatch.setitem(CONFIGS, "s", Config(1, 1, 1, 0))
    assert bench.main(["--configs", "s", "--runs", "1"]) == bench.EXIT_OK
    said = capsys.readouterr()
    assert "spin missing: only explore is measured; for SPIN's rows: apt install spin gcc" in said.out
    assert re.search(r"^s +explore, all properties .* holds$", said.out, re.MULTILINE)
    assert "SPIN, by hand  " not in said.out.split("goals")[0]
    assert not said.err


def test_the_benchmark_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "explore", interrupt)
    monkeypatch.setattr(bench, "has_compiler_option", lambda: False)
    saved = tmp_path / "run.json"
    assert bench.main(["--configs", "s", "--json", str(saved)]) == bench.EXIT_INTERRUPTED
    assert json.loads(saved.read_text())["rows"] == []
    assert "interrupted" in capsys.readouterr().err


# --- growth ---


def _points(axis: str) -> list[Any]:
    labels = [label for label, _ in growth.AXES[axis][1]]
    explore = [growth.Point(axis, x, "explore", "holds", 10.0**i, 10**i) for i, x in enumerate(labels[:3])]
    return [
        *explore, growth.Point(axis, labels[3], "explore", "not finished", 60.0, 10**4),
        growth.Point(axis, labels[0], "bmc", "holds", 1.0), growth.Point(axis, labels[1], "bmc", "not finished", 60.0),
    ]  # fmt: skip


def test_the_picture_is_drawn_from_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib not installed: pip install 'straypage[plots]'")
    data, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    points = [asdict(p) for axis in growth.AXES for p in _points(axis)]
    data.write_text(json.dumps({"date": "2026-01-02", "machine": "a machine", "limit": 60.0, "points": points}))
    monkeypatch.setattr(growth, "DATA", data)
    monkeypatch.setattr(growth, "PICTURE", picture)
    assert growth.main(["--plot"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as refused:
        growth.draw({"limit": 60.0, "points": []}, tmp_path / "growth.png")
    assert refused.value.code == 2
    assert capsys.readouterr().err == "growth.py: the picture needs matplotlib: pip install 'straypage[plots]'\n"


def test_nothing_is_tried_beyond_a_point_that_does_not_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def decide(axis: str, label: str, config: object, **_: object) -> Any:
        tried.append((axis, label))
        return growth.Point(axis, label, "explore", "not finished" if label == "2" else "holds", 1.0, 5)

    for name in ("_explore", "_bmc"):
        monkeypatch.setattr(growth, name, decide)
    growth.measure(growth.parser().parse_args([]), with_spin=False)
    assert tried.count(("cpus", "2")) == 2
    assert ("cpus", "3") not in tried
    assert ("tasks", "4 + 4") in tried
