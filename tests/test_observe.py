"""verify.observe: traces of a real kernel, clean and with what each mutant does; parsers that meet anything."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_observe_machine import has_qemu

from kernelmodel.errors import ModelError
from tools.trim_trace import trimmed
from verify.observe.__main__ import main
from verify.observe.events import Quality, events, lines_of
from verify.observe.judge import Judge
from verify.observe.script import script
from verify.observe.show import exit_code, verdicts
from verify.verdict import Exit, Result

DATA = Path(__file__).parent / "data"
FOUND = {
    "none": set[str](), "noforce": set[str](), "nohigh": {"no_stray_page", "limits_exclusive"}, "nodrain": {"no_stray_page"},
    "late": {"no_stray_page"},
}  # fmt: skip


def recorded(name: str) -> list[str]:
    return list(lines_of(str(DATA / f"{name}.trace.gz")))


def judged(lines: Iterable[str]) -> tuple[Judge, Quality]:
    judge, quality = Judge(), Quality()
    judge.follow(events(lines, quality), quality)
    return judge, quality


def broken(lines: Iterable[str]) -> dict[str, Result]:
    return {v.property: v.result for v in verdicts(*judged(lines))}


# --- traces of a real kernel ---


@pytest.mark.parametrize("name", FOUND)
def test_recorded_traces(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The control is clean, each mutant is noticed, with columns; but for the one that takes a store buffer."""
    code = main(["check", str(DATA / f"{name}.trace.gz")])
    said = capsys.readouterr().out
    results = broken(recorded(name))
    assert {p for p, r in results.items() if r is Result.VIOLATED} == FOUND[name]
    assert code == (1 if FOUND[name] else 0)
    assert ("=> " in said) is bool(FOUND[name])
    assert re.search(r"6\.1\.0-5\d-cloud-amd64, observe", said)
    if name == "late":
        assert "=> pcp->count is 23 on CPU0 when a free begins, while the pcplists are disabled" in said
        assert "CPU0" in said
        assert "free_unref_page_commit()" in said


def test_the_lists_agree_with_the_counts() -> None:
    """What is rebuilt page by page is what pcp->count says, at nearly every free."""
    judge, quality = judged(recorded("none"))
    assert sum(judge.lists.differences.values()) > 40
    assert set(judge.lists.differences) <= {0, 1, 2}
    assert quality.unreadable == quality.lost_in_all == 0


def test_a_trace_without_its_frees_says_nothing() -> None:
    """The twin of every "holds": without what is looked at, it is vacuous or undecided."""
    results = broken(line for line in recorded("none") if ": commit" not in line)
    assert results["limits_exclusive"] is Result.VACUOUS
    assert Result.HOLDS not in {r for p, r in results.items() if p not in ("enable_on_every_exit",)}
    results = broken(line for line in recorded("none") if ": pcp_" not in line)
    assert set(results.values()) == {Result.UNDECIDED}
    results = broken(line for line in recorded("none") if ": pcp_enable:" not in line)
    assert results["enable_on_every_exit"] is Result.VIOLATED


def test_lost_events_leave_it_undecided() -> None:
    """Who knows what was in them; limits are read from each event itself."""
    lines = recorded("none")
    half = len(lines) // 2
    for lost in ("CPU:1 [LOST 12 EVENTS]\n", "CPU 1 [7 EVENTS DROPPED]\n"):
        results = broken([*lines[:half], lost, *lines[half:]])
        assert results["no_stray_page"] is Result.UNDECIDED
    assert broken([line.replace("lost 0", "lost 3") for line in lines])["no_stray_page"] is Result.UNDECIDED
    results = broken([line.replace("lost 0", "lost 3") for line in recorded("nohigh")])
    assert results["no_stray_page"] is Result.UNDECIDED
    assert results["limits_exclusive"] is Result.VIOLATED


def test_a_clock_that_goes_back_leaves_it_undecided() -> None:
    """Lines of several CPUs that are not in order cannot be judged."""
    lines = recorded("none")
    swapped = [*lines[:60], *reversed(lines[60:120]), *lines[120:]]
    assert broken(swapped)["no_stray_page"] is Result.UNDECIDED


# --- every rule ---


class Made:
    """A trace made by hand: one zone, a pcplist on each of two CPUs, a range that is isolated."""

    BASE, PCP = 0x1000_0000, 0x9000

    def __init__(self) -> None:
        self.lines = [
            "# straypage: kernel 6.1.0-test\n", "# straypage: isolate 4\n", "# straypage: lost 0\n", "# straypage: not-there\n"
        ]  # fmt: skip
        self.add("offline", "start=0x100 pages=0x100 zone=0xa")
        self.add("pages", f"base={self.BASE:#x}")

    def add(self, name: str, fields: str, cpu: int = 0, pid: int = 7) -> None:
        self.lines.append(f"    task-{pid}  [{cpu:03d}] d..2. {len(self.lines)}: {name}: (f+0x0/0x10) {fields}\n")

    def window(self) -> None:
        self.add("pcp_disable", "zone=0xa")
        self.add("pcp_disable_r", "")
        self.add("isolate", "start=0x100 end=0x200")
        self.add("isolate_r", "ret=0")

    def free(self, frame: int, count: int = 0, high: int = 0, leaves: bool = True, cpu: int = 0) -> None:
        page = self.BASE + 64 * frame
        fields = f"zone=0xa pcp={self.PCP + cpu * 0x10000:#x} page={page:#x} type=1 order=0 count={count} high={high} batch=1"
        self.add("commit", fields, cpu)
        if leaves:
            self.drain(frame, cpu)
        self.add("commit_r", "", cpu)

    def drain(self, frame: int, cpu: int = 0) -> None:
        self.add(
            "mm_page_pcpu_drain",
            f"page=00 pfn={frame:#x} order=0 migratetype={4 if 0x100 <= frame < 0x200 else 1}",
            cpu,
        )

    def end(self) -> None:
        self.add("pcp_enable", "zone=0xa")
        self.add("offline_r", "ret=0")


def test_a_free_that_leaves_its_page() -> None:
    """By the page alone, whatever count and limits say."""
    for leaves, expected in ((True, Result.HOLDS), (False, Result.VIOLATED)):
        trace = Made()
        trace.window()
        trace.free(0x30, leaves=True, cpu=1)
        trace.free(0x110, leaves=leaves)
        trace.end()
        results = broken(trace.lines)
        assert results["no_stray_page"] is expected
        assert results["no_isolated_page_left"] is expected


def test_a_page_that_was_there_when_disable_returned() -> None:
    """In the second window, for what was there before the first is unknown."""
    for late, expected in ((False, Result.HOLDS), (True, Result.VIOLATED)):
        trace = Made()
        trace.window()
        trace.free(0x31, cpu=1)
        trace.end()
        trace.free(0x30, high=9, leaves=False)
        if not late:
            trace.drain(0x30)
        trace.add("offline", "start=0x100 pages=0x100 zone=0xa")
        trace.window()
        trace.drain(0x30) if late else trace.drain(0x31)
        trace.free(0x32)
        trace.end()
        assert broken(trace.lines)["no_stray_page"] is expected


def test_pages_of_the_isolated_range() -> None:
    """They go to the ISOLATE list, and nobody gets one."""
    trace = Made()
    trace.window()
    trace.free(0x110)
    trace.end()
    assert broken(trace.lines)["isolated_page_on_isolate_list"] is Result.HOLDS
    wrong = [line.replace("migratetype=4", "migratetype=1") for line in trace.lines]
    assert broken(wrong)["isolated_page_on_isolate_list"] is Result.VIOLATED
    for frame, expected in ((0x50, Result.HOLDS), (0x150, Result.VIOLATED)):
        trace = Made()
        trace.window()
        trace.add("refill", "zone=0xa order=0 list=0x9030 type=1")
        trace.add("mm_page_alloc_zone_locked", f"page=00 pfn={frame:#x} order=0 migratetype=1")
        trace.add("refill_r", "")
        trace.add("mm_page_alloc", f"page=00 pfn={frame:#x} order=0 migratetype=1")
        trace.free(0x30)
        trace.end()
        assert broken(trace.lines)["isolated_page_not_allocated"] is expected


def test_a_page_on_a_list_when_its_range_goes() -> None:
    """At __offline_isolated_pages() none of the range is on a pcplist."""
    for leaves, expected in ((True, Result.HOLDS), (False, Result.VIOLATED)):
        trace = Made()
        trace.window()
        trace.free(0x120, leaves=leaves)
        trace.add("taken_off", "start=0x100 end=0x200")
        trace.end()
        assert broken(trace.lines)["no_isolated_page_left"] is expected


def test_pcplists_of_other_zones_are_told_apart() -> None:
    """The structs of several zones lie close together: a refill is of the one whose list it names."""
    trace = Made()
    other = "zone=0xb pcp=0x8fc0 page=0x10000000 type=1 order=0 count=0 high=9 batch=1"
    trace.add("commit", other, pid=9)
    trace.window()
    trace.free(0x30)
    trace.add("refill", "zone=0xa order=0 list=0x9030 type=1")
    trace.add("mm_page_alloc_zone_locked", "page=00 pfn=0x51 order=0 migratetype=1")
    trace.add("refill_r", "")
    judge, _ = judged(trace.lines)
    assert judge.lists.stays[0x51].pcp == Made.PCP


# --- formats ---


def test_trace_cmd_and_packed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events as trace-cmd prints them, and through gzip and zstd; what is broken is one line."""
    plain = recorded("nohigh")
    as_report = [
        re.sub(r"^\s*(\S+)-(\d+)\s+\[(\d+)\] (\S+)\s+(\d+): (\w+):", r"  \1-\2   [\3] \4  \5.000000: \6:  ", line)
        for line in plain
        if not line.startswith("#")
    ]
    assert broken(["cpus=2\n", *plain[:6], *as_report]) == broken(plain)
    file = tmp_path / "trace.txt"
    file.write_text("".join(plain))
    assert list(lines_of(str(file))) == plain
    if shutil.which("zstd"):
        subprocess.run(["zstd", "-q", str(file)], check=True)
        assert list(lines_of(f"{file}.zst")) == plain
    packed = (DATA / "nohigh.trace.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ModelError, match="a broken gzip file"):
        list(lines_of(str(tmp_path / "cut.gz")))
    (tmp_path / "trace.dat").write_bytes(b"\x17\x08\x44tracing6")
    with pytest.raises(ModelError, match="trace-cmd"):
        list(lines_of(str(tmp_path / "trace.dat")))
    # a trace.dat has its notes beside it, and is written by trace-cmd or not at all
    (tmp_path / "trace-cmd").write_text('#!/bin/sh\n[ "$1 $2" = "report -i" ] && cat "$3.said"\n')
    (tmp_path / "trace-cmd").chmod(0o755)
    (tmp_path / "trace.dat.said").write_text("".join(as_report))
    (tmp_path / "trace.dat.notes").write_text("".join(plain[:6]))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert broken(lines_of(str(tmp_path / "trace.dat"))) == broken(plain)
    (tmp_path / "record.sh").write_text(script())
    ran = subprocess.run(
        ["/bin/sh", str(tmp_path / "record.sh"), "x.dat", "true"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": ""},
    )
    assert ran.returncode == 2 and "x.dat is written by trace-cmd, which is not there" in ran.stderr
    with pytest.raises(ModelError, match="cannot read"):
        list(lines_of(str(tmp_path / "none")))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_parsers_meet_anything(data: st.DataObject) -> None:
    """Lines that are cut, swapped, doubled, or not ours: never a crash, and never a violation from a line that is cut."""
    lines = recorded("none")
    cut = data.draw(st.lists(st.tuples(st.integers(0, len(lines) - 1), st.integers(0, 120)), max_size=30))
    for number, at in cut:
        lines[number] = lines[number][:at] + "\n"
    junk = data.draw(st.lists(st.tuples(st.integers(0, len(lines)), st.text(max_size=60)), max_size=10))
    for number, text in junk:
        lines.insert(number, text + "\n")
    found = verdicts(*judged(lines))
    assert exit_code(found) in Exit
    assert all(v.result is not Result.PROVED for v in found)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cause and cure, exit code 2."""
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.write_text("nothing\n")
    other.write_text("  sh-1 [000] ..... 5: sched_switch: prev=1\n")
    for arguments, words in (
        (["check", str(empty)], "no line in it is an event"), (["check", str(other)], "none of its events are ours"),
        (["record", str(tmp_path / "out")], "give the command"), (["zoneinfo", str(empty)], "no pagesets in it"),
        (["lab", "--cpus", "0"], "at least 1"), (["lab", "--kernel", "x"], "not there" if not has_qemu() else "give a kernel"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as refused:
            main(arguments)
        assert refused.value.code == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdicts as other commands write them."""
    file = tmp_path / "v.json"
    assert main(["check", str(DATA / "late.trace.gz"), "--json", str(file), "--all"]) == 1
    document = json.loads(file.read_text())
    assert document["schema"] == "straypage-verdicts-1"
    assert document["exit"] == 1
    stray = next(v for v in document["verdicts"] if v["property"] == "no_stray_page")
    assert stray["statistics"]["violations"] > 100
    assert "line " in capsys.readouterr().out


# --- the script ---


def test_tools_trim(tmp_path: Path) -> None:
    """What is cut out of a recording is judged as before; a recording with no offlining is refused."""
    lines = recorded("late")
    assert trimmed(lines) == lines
    with pytest.raises(ValueError, match="no offlining"):
        trimmed([line for line in lines if "offline_r" not in line])
    packed = gzip.compress("".join(lines).encode(), mtime=0)
    assert gzip.decompress(packed) == gzip.decompress((DATA / "late.trace.gz").read_bytes())


# --- zoneinfo ---


def left_behind() -> list[str]:
    """A trace in which a free leaves its page."""
    trace = Made()
    trace.window()
    trace.free(0x30, leaves=True, cpu=1)
    trace.free(0x110, leaves=False)
    trace.end()
    return trace.lines


def test_a_violation_is_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The timeline of counterexamples, with the page that was left where it is."""
    file, target = tmp_path / "trace.txt", tmp_path / "page.html"
    file.write_text("".join(left_behind()))
    assert main(["check", str(file), "--html", str(target)]) == 1
    capsys.readouterr()
    text = target.read_text()
    assert "<!--@" not in text
    shown = json.loads(re.findall(r'<script type="application/json" id="trace">(.*?)</script>', text, re.DOTALL)[0])
    assert shown["violatedAt"] == len(shown["steps"])
    assert shown["stray"] == [0x110]
    assert len(shown["states"]) == len(shown["steps"]) + 1
    assert any(state.get("cpu0", {}).get("lists", [[], [], []])[1] == [0x110] for state in shown["states"])
    assert [span["label"] for span in shown["spans"]] == ["pcplists disabled", "the range is isolated"]
    assert main(["check", str(DATA / "none.trace.gz"), "--html", str(tmp_path / "none.html")]) == 0
    assert not (tmp_path / "none.html").exists()
