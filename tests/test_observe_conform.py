"""verify.observe: recorded steps are held against the text of the kernel's era, and what does not fit is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from kernelmodel import ops
from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine
from kernelmodel.versions.v6_1 import V6_1
from verify.observe import conform, difference
from verify.observe import text as conform_text
from verify.observe.__main__ import main
from verify.observe.conform import Conformance, Offlinings, conformance, era_of
from verify.observe.events import Quality, events, lines_of
from verify.observe.sections import WORKS, in_section
from verify.observe.text import Text
from verify.verdict import Result

DATA = Path(__file__).parent / "data"
#: a whole offlining on two CPUs, and one whose range cannot be isolated
WHOLE = (
    "offline zone=0x1", "pcp_disable zone=0x1", "limits zone=0x1 high=0", "drain zone=0x1 force=1",
    "drain_zone cpu=0 zone=0x1", "drain_zone cpu=1 zone=0x1", "pcp_disable_r", "isolate start=0x8 end=0x9",
    "isolate_r ret=0", "taken_off start=0x8 end=0x9", "pcp_enable zone=0x1", "limits zone=0x1 high=7", "offline_r ret=0",
)  # fmt: skip
REFUSED = (*WHOLE[:8], "isolate_r ret=-16", "pcp_enable zone=0x1", "limits zone=0x1 high=7", "offline_r ret=-16")


def trace(steps: Iterable[str], *, release: str = "6.1.0", said: str = "missed 0") -> list[str]:
    """Steps of one task as tracefs writes them."""
    lines = [f"# straypage: kernel {release}", f"# straypage: {said}"]
    for i, step in enumerate(steps):
        name, _, rest = step.partition(" ")
        lines.append(f"  sh-7  [00{i % 2}] .....  {100 + i}: {name}: (f+0x0/0x1) {rest}")
    return lines


def held(lines: Iterable[str], era: str = "") -> Conformance:
    quality, found = Quality(), Offlinings()
    for _ in found.watch(events(lines, quality)):
        pass
    return conformance(found, quality, era)


@pytest.mark.parametrize("name", ["none", "nohigh", "late", "noforce"])
def test_a_recorded_offlining_does_what_the_text_does(name: str) -> None:
    made = held(lines_of(str(DATA / f"{name}.trace.gz")))
    assert made.fits and made.era == "v6.1" and made.steps > 10
    assert difference.result(made) is Result.HOLDS


def test_a_drain_that_drains_nothing_leaves_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "found.json"
    assert main(["check", str(DATA / "nodrain.trace.gz"), "--json", str(told)]) == 1
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "before this it does drain_pages_zone(cpu=0), drain_pages_zone(cpu=1)" in said
    assert "this looks like the kernel: it left out what its version does; and no_stray_page is violated" in said
    found = json.loads(told.read_text())["conformance"]
    assert found["result"] == "violated" and found["misfits"][0]["event"] == "pcp_disable_r"


@pytest.mark.parametrize("release", ["6.0.1", "6.1.0-56-cloud-amd64", "6.6.3", "6.8-rc1", "6.10.2", "6.12.1"])
@pytest.mark.parametrize("steps", [WHOLE, REFUSED])
def test_each_era_allows_what_its_offlining_does(release: str, steps: tuple[str, ...]) -> None:
    made = held(trace(steps, release=release))
    assert made.fits and made.steps == len(steps) and made.repeated == 0


#: what is changed, in words; where the text is left; what it had to do first, None where it never does this
CHANGED = {
    "one CPU is spared": ([*WHOLE[:4], *WHOLE[5:]], "drain_zone", ["drain_pages_zone(cpu=0)"]),
    "limits after the drain": (
        [*WHOLE[:2], *WHOLE[3:6], WHOLE[2], *WHOLE[6:]], "drain", ["__zone_set_pageset_high_and_batch(high=0)"],
    ),
    "never enabled": ([*WHOLE[:10], WHOLE[12]], "offline_r", ["zone_pcp_enable()", "__zone_set_pageset_high_and_batch()"]),
    "limits left as they are": ([*WHOLE[:2], "limits zone=0x1 high=7", *WHOLE[3:]], "limits", None),
    "not every CPU is forced": ([*WHOLE[:3], "drain zone=0x1 force=0", *WHOLE[4:]], "drain", None),
    "success where isolation failed": ([*REFUSED[:-1], "offline_r ret=0"], "offline_r", None),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGED)
def test_what_leaves_the_text_is_told(change: str) -> None:
    steps, event, first = CHANGED[change]
    made = held(trace(steps))
    (misfit,) = made.misfits
    assert misfit.event.name == event
    if misfit.other_values:
        assert first is None
    else:
        assert (None if misfit.skipped is None else list(map(str, misfit.skipped))) == first
    # a step that comes with other values than the text gives it, or too early, is the kernel's doing
    assert difference.result(made) is Result.VIOLATED
    said = list(difference.lines(made, []))
    assert any("this looks like the kernel" in line for line in said)
    assert any("does with other values" in line for line in said) is misfit.other_values


def test_a_step_that_the_text_never_does_may_be_the_texts_fault() -> None:
    made = held(trace([*WHOLE[:9], WHOLE[1], *WHOLE[9:]]))
    assert made.misfits[0].skipped is None and difference.result(made) is Result.UNDECIDED
    assert any("this looks like our text of v6.1" in line for line in difference.lines(made, []))


def test_a_violation_is_one_whatever_else_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page is left on its list, and what was done with the limits is in no text: 1, not the 3 of what is open."""
    left = [
        "  dd-8  [001] ..... 300: commit: (f+0x0/0x1) zone=0x1 pcp=0x5 page=0x9 type=1 order=0 count=3 high=0",
        "  dd-8  [001] ..... 301: commit_r: (f <- f)",
    ]
    lines = trace([*WHOLE[:9], WHOLE[1], *WHOLE[9:]])
    at = next(i for i, line in enumerate(lines) if "taken_off" in line)
    file = tmp_path / "trace.txt"
    file.write_text("\n".join([*lines[:at], *left, *lines[at:]]))
    assert difference.result(held(lines_of(str(file)))) is Result.UNDECIDED
    capsys.readouterr()
    main(["check", str(file), "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    results = {v["property"]: v["result"] for v in found["verdicts"]}
    assert found["exit"] == (1 if "violated" in results.values() else 3), results
    assert "violated" in results.values(), results


def test_what_a_loop_returns_anew_is_not_what_it_returned_before() -> None:
    """Of a register that was known in one round, another round's value may be any."""
    text = Text(KERNELS["v6.1"], 1)
    node = next(n for n in text._graph.kept if n.op.returns and n.op.returns[0].op == "cell" and n.edges)
    at = conform_text._At(0, registers=frozenset({(f"{node.number}.0", 7), ("other.0", 1)}))
    assert [dict(to.registers) for to in text._step(node, at)] == [{"other.0": 1}] * len(node.edges)


def test_updates_after_the_window_may_come_more_often() -> None:
    made = held(trace([*WHOLE[:12], *[WHOLE[11]] * 3, WHOLE[12]]))
    assert made.fits and made.repeated == 2
    # but not in the window
    assert not held(trace([*WHOLE[:9], WHOLE[11], *WHOLE[9:]])).fits


def test_another_text_that_fits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conform, "ERAS", {(6, 0): "base", (6, 1): "v6.1"})
    made = held(trace(WHOLE, release="6.0.1"))
    assert not made.fits and made.others == ("v6.1",) and difference.result(made) is Result.UNDECIDED
    assert any("the text of v6.1 allows all of it" in line for line in difference.lines(made, []))


@pytest.mark.parametrize(
    ("said", "doubt"),
    [
        ("missed 2", "2 hits were missed by probes, and the recorder did not note by which"),
        ("missed 2 drain_zone=2", "the probe of drain_zone missed hits"),
        ("missed 3 commit=3", ""),
    ],
)
def test_a_hit_that_a_probe_missed_is_no_step_left_out(said: str, doubt: str) -> None:
    made = held(trace([*WHOLE[:4], *WHOLE[5:]], said=said))
    assert made.doubt == doubt
    assert difference.result(made) is (Result.UNDECIDED if doubt else Result.VIOLATED)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (trace(WHOLE, release="5.10.4"), "there is a text from v6.0 on"),
        (trace(WHOLE, said="lost 3"), "events were lost"),
        (trace(WHOLE, said="not-there drain_zone"), "could not see drain_zone"),
        (trace(WHOLE[1:]), "no offline_pages"),
    ],
)
def test_where_nothing_can_be_said(lines: list[str], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        held(lines)


def at_work(*steps: str) -> list[str]:
    """A whole offlining, and then steps of tasks on CPU0, each with its pid and its context."""
    lines = trace(WHOLE)
    for i, step in enumerate(steps):
        pid, context, rest = step.split(" ", 2)
        name, _, fields = rest.partition(" ")
        lines.append(f"  dd-{pid}  [000] ..{context}2.  {200 + i}: {name}: (f+0x0/0x1) {fields}")
    return lines


ONE, TWO = "commit zone=0x1 pcp=0x5 page=0x9 order=0", "refill zone=0x1 order=0 list=0x6 type=1"


@pytest.mark.parametrize(
    ("steps", "together"),
    [
        ((f"8 . {ONE}", "8 . commit_r", f"9 . {TWO}", "9 . refill_r"), False),
        # two tasks, and an interrupt in a task
        ((f"8 . {ONE}", f"9 . {TWO}", "9 . refill_r", "8 . commit_r"), True),
        ((f"8 . {ONE}", f"8 h {ONE}", "8 h commit_r", "8 . commit_r"), True),
        # another zone's list is another one's section
        ((f"8 . {ONE}", f"8 h {ONE.replace('0x1', '0x2')}", "8 h commit_r", "8 . commit_r"), False),
    ],
)
def test_nobody_works_on_a_pcplist_while_another_one_does(steps: tuple[str, ...], together: bool) -> None:
    made = held(at_work(*steps))
    assert bool(made.together) is together and made.sections == 2 and not made.misfits
    assert difference.result(made) is (Result.VIOLATED if together else Result.HOLDS)
    assert (
        any("two were at work on one pcplist" in re.sub(r"\s+", " ", x) for x in difference.lines(made, [])) is together
    )


def test_a_return_that_was_missed_leaves_it_open() -> None:
    lines = at_work(f"8 . {ONE}", f"9 . {TWO}", "9 . refill_r")
    lines[1] = "# straypage: missed 1 commit_r=1"
    made = held(lines)
    assert made.together and difference.result(made) is Result.UNDECIDED
    assert any("the probe of commit_r missed hits" in line for line in difference.lines(made, []))


class Unlocked(V6_1):
    def pcp_spin_trylock(self, zone: Zone) -> Routine:
        del zone
        return (yield ops.local_irq_save(0))

    def pcp_spin_unlock(self, zone: Zone, cpu: int) -> Routine:
        del zone
        yield ops.local_irq_restore(cpu)


def test_that_a_routine_is_in_the_section_is_looked_up_in_the_text() -> None:
    """The twin: a text that takes no lock."""
    assert all(in_section(k, r) for k in KERNELS.values() for r in WORKS.values())
    assert not in_section(Unlocked, "free_unref_page_commit")
    assert not in_section(KERNELS["v6.1"], "zone_pcp_disable")


def test_eras() -> None:
    assert [era_of(r) for r in ("6.0", "6.1.192-2", "6.9.1", "6.99")] == ["v6.0", "v6.1", "v6.8", "v6.11"]
    assert set(conform.ERAS.values()) <= set(KERNELS)


def test_a_task_knows_what_it_has_written_under_its_mutex(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the mask of CPUs is known is what makes a forced drain one of every CPU: without that nothing is left out."""
    lines = trace([*WHOLE[:4], *WHOLE[5:]])
    assert not held(lines).fits
    step = Text._step

    def forgetful(self: Text, node: object, at: conform.Text) -> object:
        return (type(to)(to.location) for to in step(self, node, at))  # type: ignore[arg-type, attr-defined]

    monkeypatch.setattr(Text, "_step", forgetful)
    assert held(lines).fits
