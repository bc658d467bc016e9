"""Columns: what users see, letter by letter, for stored schedules; how short the engines' columns are; what is folded.

The searches may find another of several equally good traces from one version to the next, so snapshots are taken of
schedules that are written down here.  ``python tests/test_columns.py`` writes the snapshots anew.
"""

import re
import sys
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

from kernelmodel import isolation_ops, ops, page_ops
from kernelmodel.cells import stops_others
from kernelmodel.config import Config
from kernelmodel.kernels import KERNELS, kernel, mutant
from kernelmodel.mmzone import MEMORY_OFFLINE, Page, PageRange, Zone
from kernelmodel.ops import Op
from kernelmodel.versions.mutants import MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from verify import page
from verify.bmc.__main__ import main as bmc
from verify.bmc.solve import Engine
from verify.columns import columns, comment
from verify.explore.__main__ import main as explore
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.prove.__main__ import main as prove
from verify.replay.__main__ import main as replay
from verify.replay.show import as_columns
from verify.scenario import Scenario
from verify.trace import Start
from verify.tracefile import KernelSpec, load, parse_schedule, play, record, save

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.fixture(autouse=True)
def as_in_a_pipe(monkeypatch, wide_page):
    """As wide as what is piped into a file."""
    monkeypatch.setattr(page, "_chosen", [page.IN_A_PIPE])


_OFFLINE = "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=0 | offline0@0*3 offline0@0{range_invalid=false}"
#: each breaks its property: the race of the patch, both paths into a stray page, limits, locks, exits, buddy, counts
SCHEDULES = {
    "base": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=1 cpu:free0=0 block:free0=1 | free0@0*3"
    " offline0@1*3 offline0@1{range_invalid=false} offline0@1{unmovable=false} offline0@1*14 free0@0*4",
    "no-drain": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=1 cpu:free0=0 block:free0=1 | free0@0*7"
    " offline0@1*3 offline0@1{range_invalid=false} offline0@1*7",
    "no-force-all-cpus": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=1 cpu:alloc0=0 type:alloc0=1"
    " | alloc0@0*3 offline0@1*3 offline0@1{range_invalid=false} offline0@1*19 alloc0@0{got0=2,got1=0}"
    " alloc0@0 alloc0@0{take0.0=0,take0.1=0,take1.0=1,take1.1=0,take2.0=0,take2.1=0} alloc0@0*2",
    "batch-left-old": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=0 cpu:alloc0=1 type:alloc0=1"
    " | offline0@0*3 offline0@0{range_invalid=false} offline0@0*19 kworker/1@1*9 kworker/0@0*9 alloc0@1*3"
    " alloc0@1{got0=0,got1=2} alloc0@1 alloc0@1{take0.0=0,take0.1=0,take1.0=0,take1.1=1,take2.0=0,take2.1=0}"
    " alloc0@1*2 offline0@0*5",
    "no-mutex": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=0 cpu:update0=1 | offline0@0*3"
    " offline0@0{range_invalid=false} offline0@0*18 kworker/1@1*9 kworker/0@0*9 offline0@0*5"
    " update0@1{new_batch=3,new_high=3} update0@1*5",
    "no-migratetype-reread": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=1 cpu:free0=0 block:free0=1"
    " | offline0@1*3 offline0@1{range_invalid=false} offline0@1*17 kworker/0@0*9 free0@0*8"
    " free0@0{k0.0=0,k0.1=0,k1.0=0,k1.1=1,k2.0=0,k2.1=0} kworker/1@1*9 offline0@1*6 offline0@1{unmovable=false}"
    " free0@0{misplaced0=0,misplaced1=4}",
    "update-inside-window": f"{_OFFLINE} offline0@0*18 kworker/0@0*9 kworker/1@1*9 offline0@0*5"
    " offline0@0{unmovable=false} offline0@0*2 offline0@0{notifier_fails=false} offline0@0{signal=false}"
    " offline0@0{block=1,found=false} offline0@0{scan_fails=false} offline0@0{dissolve_fails=false} offline0@0*8",
    "missed-enable-on-isolation-failure": f"{_OFFLINE} offline0@0*18 kworker/0@0*9 kworker/1@1*9 offline0@0*5"
    " offline0@0{unmovable=true} offline0@0*4",
    "missed-enable-on-removal-failure": f"{_OFFLINE} offline0@0*18 kworker/0@0*9 kworker/1@1*9 offline0@0*5"
    " offline0@0{unmovable=false} offline0@0*2 offline0@0{notifier_fails=true} offline0@0*6",
    "refill-not-counted": "straypage-schedule-1 high=2 batch=2 types=1,1 cpu:offline0=1 cpu:alloc0=0 type:alloc0=1"
    " | alloc0@0*3 alloc0@0{got0=0,got1=2} alloc0@0{take0.0=0,take0.1=0,take1.0=0,take1.1=1,take2.0=0,take2.1=0}"
    " alloc0@0*2",
}  # fmt: skip


def prop_of(name):
    return MUTANTS[name].breaks if name in MUTANTS else "no_isolated_page_left"


def named(name):
    return kernel(name) if name in KERNELS else mutant(name)


def document(name):
    """The trace file of a schedule."""
    schedule = parse_schedule(SCHEDULES[name])
    spec = KernelSpec("kernel" if name in KERNELS else "mutant", name)
    start = schedule.start
    scenario = Scenario(cpus=2, frees=len(start.block_of), allocs=len(start.type_of))
    return record(spec, scenario, find(prop_of(name)), "hand", start, schedule.steps)


@pytest.fixture(scope="module")
def films():
    return {name: play(document(name)) for name in SCHEDULES}


def body(text):
    """The lines between the header and the broken property."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("----"))
    return [*takewhile(lambda line: not line.startswith("=> "), lines[first + 1 :])]


# --- what users see ---


@pytest.mark.parametrize("name", SCHEDULES)
def test_columns_are_as_they_were(films, name):
    assert as_columns(films[name]) + "\n" == (SNAPSHOTS / f"columns-{name}.txt").read_text()


def test_full_columns_are_as_they_were(films):
    assert as_columns(films["no-drain"], full=True) + "\n" == (SNAPSHOTS / "columns-no-drain-full.txt").read_text()


def test_no_snapshot_is_left_over():
    wanted = {f"columns-{name}.txt" for name in [*SCHEDULES, "no-drain-full"]}
    assert {file.name for file in SNAPSHOTS.glob("columns-*")} == wanted


@pytest.mark.parametrize("full", [False, True], ids=["folded", "full"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("width", [72, 80, 100])
def test_columns_can_be_pasted_into_a_mail(films, name, full, width, monkeypatch):
    """As wide as was asked for, plain ASCII, and the broken property in kernel words at the end."""
    monkeypatch.setattr(page, "_chosen", [width])
    text = as_columns(films[name], full=full)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert text.isascii() and "\t" not in text and all(line == line.rstrip() for line in lines)
    told = lines[len(lines) - 1 - lines[::-1].index("") + 1 :]
    assert " ".join(line.strip() for line in told) == f"=> {films[name].violation.found}"
    assert re.fullmatch(r"CPU0( +CPU1)?", lines[lines.index("") + 1])


def test_a_short_comment_is_not_cut(films):
    for film in films.values():
        for line in as_columns(film, full=True).splitlines():
            # what stands in one column is at most that wide, so only longer comments may go on in the next line
            if line.count("/*") > line.count("*/"):
                assert len(line.strip()) > 20


def test_values_are_in_the_kernels_words(films):
    texts = {name: as_columns(film) for name, film in films.items()}
    assert "/* MIGRATE_MOVABLE */" in texts["base"]
    assert "rmqueue_bulk(2)  /* 2 pages */" in texts["no-force-all-cpus"]
    assert "list_del(page)  /* of block 0 */" in texts["no-force-all-cpus"]
    assert "-EBUSY */" in texts["missed-enable-on-isolation-failure"]
    assert "memory_notify(MEM_GOING_OFFLINE)  /* fails */" in texts["missed-enable-on-removal-failure"]
    assert "MIGRATE_MOVABLE)" in texts["missed-enable-on-removal-failure"]
    assert "scan_movable_pages()  /* none left */" in texts["update-inside-window"]
    assert not re.search(r"\b1 pages\b|\bTrue\b|\bFalse\b", "".join(texts.values()))


HERE, WHOLE = Config(nr_cpus=1), PageRange(1, 1)


@pytest.mark.parametrize(
    ("op", "returned", "said"),
    [
        (ops.read("pcp.count", 0, 0), (0,), "0"),
        (page_ops.list_empty(HERE, Zone(0), 0, 1), (False,), "false"),
        (page_ops.store_migratetype(HERE, Page(0, 0)), (4,), "MIGRATE_ISOLATE"),
        (page_ops.list_del_bulk(HERE, Zone(0), 0, 3), (2, 1), "2 of block 0, 1 of block 1"),
        (isolation_ops.all_free(HERE, WHOLE, MEMORY_OFFLINE, False), (False,), "not all free: -EBUSY"),
        (V5_11(HERE).scan_movable_pages(WHOLE), (True, 1), "a page of block 1"),
        (ops.environment("signal", "signal_pending(current)", "", None), (True,), "true"),
        (ops.environment("dissolve_fails", "dissolve_free_huge_pages()"), (True,), "fails"),
        (ops.local_irq_save(1).at(0), (0,), ""),
        (ops.write(0, "pcp.high", 0, 0), (), ""),
    ],
    ids=lambda x: x.text if isinstance(x, Op) else "",
)
def test_what_is_said_of_a_step(films, op, returned, said):
    step = replace(films["base"].steps[0], op=op, returned=returned, written=())
    assert comment(step) == said


def test_what_is_broken_at_the_start_needs_no_columns():
    start = Start(limits=(2, 2), block_types=(1, 1), cpu_of={}, block_of={}, type_of={})
    text = columns(start, [], [], "a CPU has other limits", None)
    assert text.splitlines()[-1] == "=> a CPU has other limits" and "CPU0" not in text


# --- what is folded ---


@pytest.mark.parametrize("name", SCHEDULES)
def test_full_columns_have_all_that_folded_ones_have(films, name, monkeypatch):
    # wide enough that nothing is cut; a CPU of which nothing is left has no column in the folded ones
    monkeypatch.setattr(page, "_chosen", [400])
    folded, full = ([x.strip() for x in body(as_columns(films[name], full=full))] for full in (False, True))
    rest = iter(full)
    # each folded line comes again, in the same order; "..." stands for what was left out
    lost = [line for line in folded if line.strip() != "..." and line not in rest]
    assert lost == []
    assert len(full) >= len(folded) - sum(line.strip() == "..." for line in folded)
    assert "..." not in {line.strip() for line in full}


def test_full_columns_have_every_step(films):
    for film in films.values():
        text = " ".join(" ".join(body(as_columns(film, full=True))).split())
        assert text.count("local_irq_save(flags)") == sum(stops_others(s.op.does.acquires) for s in film.steps)
        assert text.count("/* the drain is done */") == sum(s.op.does.ends is not None for s in film.steps)
        assert text.count("cpu_online[") == sum(s.text.startswith("cpu_online[") for s in film.steps)


def test_other_cpus_are_folded_where_the_property_speaks_of_one(films):
    text = as_columns(films["batch-left-old"])
    assert "pcp[0]->" not in text and "kworker/0" not in text and "cpu 0" not in text
    assert "pcp[0]->" in as_columns(films["batch-left-old"], full=True)


def test_drains_that_find_nothing_are_folded_where_the_property_speaks_of_none(films):
    text = as_columns(films["no-mutex"])
    assert "kworker" not in text and "flush_work(cpu 0)" in text
    assert "kworker" in as_columns(films["no-mutex"], full=True)


def test_a_drain_that_finds_a_page_is_shown():
    """The planted twin: in v5.11 the page of the race is drained, and a property of no CPU keeps its drain in sight."""
    start = "high=2 batch=2 types=1,1 cpu:offline0=1 cpu:free0=0 block:free0=1"
    line = f"straypage-schedule-1 {start} | free0@0*7 offline0@1*3 offline0@1{{range_invalid=false}} offline0@1*18"
    schedule = parse_schedule(f"{line} kworker/1@1*9 kworker/0@0*12")
    film = play(
        record(KernelSpec("kernel", "v5.11"), Scenario(cpus=2, frees=1, allocs=0), find("limits_exclusive"), "hand",
               schedule.start, schedule.steps)
    )  # fmt: skip
    text = as_columns(film)
    assert "/* kworker/0 */" in text and "list_del(1 page)" in text and "kworker/1" not in text


def test_the_last_step_is_never_folded(films):
    film = films["update-inside-window"]
    assert film.steps[-1].op.does.asks is not None
    assert body(as_columns(film))[-2].strip() == "mutex_lock(&pcp_batch_high_lock)  /* asked for */"


@pytest.mark.parametrize("engine", [bmc, explore, pytest.param(prove, marks=pytest.mark.deep)])
def test_every_engine_takes_full(engine, tmp_path, capsys):
    command = ["--mutant", "no-drain", "--property", "no_stray_page"]
    made = tmp_path / "trace.json"
    assert engine([*command, "--full", "--trace", str(made), "--html", str(tmp_path / "x.html")]) == 1
    text = capsys.readouterr().out
    assert as_columns(play(load(str(made))), full=True) in text and "cpus_read_lock()" in text
    assert "cpus_read_lock" in (tmp_path / "x.html").read_text()


def test_replay_takes_full_and_list(tmp_path, capsys, films):
    file = tmp_path / "trace.json"
    save(films["no-drain"].recorded(), str(file))
    assert replay([str(file), "--full"]) == 1
    assert as_columns(films["no-drain"], full=True) in capsys.readouterr().out
    assert replay([str(file), "--list"]) == 1
    assert "\n  18  CPU1 offline0  " in capsys.readouterr().out


# --- how short they are ---


@pytest.mark.parametrize(
    ("name", "frees", "allocs", "updates", "steps", "switches", "lines"),
    [
        ("base", 1, 0, 0, 26, 2, 28),
        ("no-drain", 1, 0, 0, 18, 1, 22),
        ("no-flush", 1, 0, 0, 30, 1, 26),
        ("no-force-all-cpus", 0, 1, 0, 31, 2, 26),
        ("isolate-before-disable", 1, 1, 0, 16, 2, 28),
        ("batch-left-old", 0, 1, 0, 54, 4, 40),
        ("no-mutex", 0, 0, 1, 51, 4, 34),
        ("no-migratetype-reread", 1, 0, 0, 56, 5, 50),
    ],
)
def test_explores_columns_are_short(name, frees, allocs, updates, steps, switches, lines, monkeypatch):
    """The fewest steps and context switches are the search's; the lines are what folding makes of them."""
    monkeypatch.setattr(page, "_chosen", [100])
    finite = Finite(Scenario(cpus=2, frees=frees, allocs=allocs, updates=updates), 2)
    (verdict,) = Explorer(named(name), finite).decide([PROPERTIES[prop_of(name)]], deadlock=False)
    assert (verdict.statistics["steps"], verdict.statistics["context_switches"]) == (steps, switches)
    assert len(body(verdict.trace)) <= lines
    assert max(map(len, verdict.trace.splitlines())) <= 100


@pytest.mark.parametrize(("name", "lines"), [("base", 32), ("no-drain", 24), ("no-force-all-cpus", 32)])
def test_bmcs_columns_are_short(name, lines):
    """A solver's counterexample need not be shortest: cut to its causes, it is short enough for a mail."""
    verdict = Engine(named(name), Scenario(cpus=2, frees=1, allocs=1)).decide(PROPERTIES[prop_of(name)])
    assert len(body(verdict.trace)) <= lines
    assert max(map(len, verdict.trace.splitlines())) <= 100


def test_an_engine_prints_what_replay_prints(films):
    film = films["no-drain"]
    check = film.violation.check
    accesses = [f.access for f in film.frames[1:]]
    text = columns(film.trace.start, film.steps, accesses, film.violation.found, check.cpu)
    assert text == as_columns(film)


def write():
    """Write the snapshots anew: look at the difference before you commit it."""
    SNAPSHOTS.mkdir(exist_ok=True)
    for old in SNAPSHOTS.glob("columns-*"):
        old.unlink()
    for name in SCHEDULES:
        (SNAPSHOTS / f"columns-{name}.txt").write_text(as_columns(play(document(name))) + "\n")
    full = as_columns(play(document("no-drain")), full=True)
    (SNAPSHOTS / "columns-no-drain-full.txt").write_text(full + "\n")


if __name__ == "__main__":
    sys.exit(write())
