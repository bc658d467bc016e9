"""verify.explore: traces are shortest and replay, and giving up is said, not hidden."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from configurations import SMALL, UPDATED, named

from kernelmodel import ops
from kernelmodel.errors import ModelError
from kernelmodel.graphs.folded import fold
from kernelmodel.kernels import kernel, mutant
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine, read, write, write_once
from kernelmodel.terms import IntTerm
from kernelmodel.text import KernelText
from kernelmodel.versions.mutants import MUTANTS
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.explore.__main__ import main
from verify.explore.beside import beside
from verify.explore.compiled import Compiler
from verify.explore.distance import Distance
from verify.explore.finite import DEFAULT, Finite
from verify.explore.model import Model
from verify.explore.search import Limits, Search, initial_rows, room_mb
from verify.explore.seen import Seen, distinct
from verify.explore.shortest import Shortest
from verify.explore.solve import NO_DEADLOCK, Explorer
from verify.explore.table import Transitions
from verify.scenario import Scenario
from verify.verdict import Exit, Result


def test_a_smaller_configuration_is_shown_where_it_suffices():
    finite = Finite(Scenario(cpus=3, frees=2, allocs=1, updates=1), 4)
    verdict = Explorer(mutant("no-drain"), finite).demonstrate(PROPERTIES["no_stray_page"])
    assert (verdict.result, verdict.replayed) == (Result.VIOLATED, True)
    assert verdict.trace.splitlines()[-1].startswith("=> ")
    assert verdict.statistics["steps"] == len(verdict.schedule) - 1
    assert (verdict.scenario["cpus"], verdict.scenario["frees"], verdict.scenario["allocs"]) == (2, 1, 0)


@pytest.mark.parametrize("name", ["no-drain", "no-flush", "isolate-before-disable", "no-migratetype-reread", "base"])
def test_trace_is_as_short_as_breadth_first_search_says(name):
    prop = PROPERTIES[MUTANTS[name].breaks if name in MUTANTS else "no_isolated_page_left"]
    finite = Finite(Scenario(cpus=2, frees=1, allocs=1 if prop.needs_tasks else 0, updates=0), 2)
    model = Model(named(name), finite, [prop])
    path = Shortest(model, 0, Limits()).find()
    found = Search(Transitions(model), Limits(), 1).run(initial_rows(model, True))
    # the level in which the violating step is made; a violated state is found as soon as it is made
    assert found.violated and len(path.moves) == found.levels - 1


class FlushFirst(V5_11):
    """What is queued after the last flush_work() is waited for by nobody."""

    def drain_cpus_with_pcps(self, zone):  # noqa: ARG002
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield from self.flush_work(cpu)
        for cpu in self.for_each_cpu():
            if (yield read("cpus_with_pcps", cpu)):
                yield from self.queue_work_on(cpu)


class DrainsTheFirst(V5_11):
    """The worker of CPU 1 can meet a need of the property (interrupts on there) with steps that it has to make anyway."""

    def drain_local_pages(self, drain_zone):
        yield ops.smp_processor_id()
        for zone in self.config.zones:
            if drain_zone == zone.index:
                yield from self.drain_pages_zone(0, zone)


@pytest.mark.parametrize("chosen", [mutant("drain-before-high"), FlushFirst, DrainsTheFirst])
def test_lower_bound_never_exceeds_what_is_left(chosen):
    prop = PROPERTIES["no_stray_page"]
    model = Model(chosen, Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1), [prop])
    path = Shortest(model, 0, Limits()).find()
    distance, compiler = Distance(model, 0), Compiler(model, True)
    state = list(path.first)
    for i, move in enumerate(path.moves):
        assert distance.of(np.array([state], np.int16).T)[0] <= len(path.moves) - i
        out = []
        compiler.functions(move.task, move.task.at(move.location))[move.which](state, out)
        state = next(w for w, _, _, _, choices in out if choices == move.choices)


def test_a_shortest_trace_is_as_long_as_one_that_is_found_without_a_lower_bound():
    model = Model(
        DrainsTheFirst, Finite(Scenario(cpus=2, frees=1, allocs=0, updates=0), 1), [PROPERTIES["no_stray_page"]]
    )
    blind = Shortest(model, 0, Limits())
    blind.distance = SimpleNamespace(of=lambda rows: np.zeros(rows.shape[1], np.int16))  # type: ignore[assignment]
    found = Shortest(model, 0, Limits()).find()
    assert len(found.moves) == len(blind.find().moves) and found.switches == blind.find().switches


def test_blocks_is_an_option(capsys):
    assert (
        main(["--blocks", "2", "--frees", "0", "--allocs", "0", "--updates", "0", "--property", "isolation_undone"])
        == 0
    )
    assert "offline_pages() of 2 pageblocks" in capsys.readouterr().out
    with pytest.raises(SystemExit) as refusal:
        main(["--blocks", "0"])
    assert refusal.value.code == 2 and "--blocks 0 is out of range" in capsys.readouterr().err


def test_patch_holds_and_every_premise_is_reached():
    verdicts = Explorer(V5_11, DEFAULT, beside=beside(V5_11, DEFAULT, altered=False)).decide(list(PROPERTIES.values()))
    expected = (Result.HOLDS, True)
    assert {v.property: (v.result, v.reachable) for v in verdicts} == dict.fromkeys(
        (*PROPERTIES, NO_DEADLOCK), expected
    )


def test_a_value_kept_across_rounds_of_a_loop_is_refused():
    class Keeps(kernel("v5.11")):
        def zone_pcp_update(self, zone):
            old = 0
            while True:
                new = yield read("pcp.high", zone.index, 0)
                if new == old:
                    break
                old = new
                yield write(1, "pcp.batch", zone.index, 0)

    with pytest.raises(ModelError, match="earlier round of a loop"):
        Explorer(Keeps, UPDATED).search([PROPERTIES["limits_restored"]])


def test_out_of_time_and_out_of_memory_are_undecided():
    explorer = Explorer(kernel("v5.11"), SMALL, limits=Limits(deadline=0.0))
    verdict = explorer.decide([PROPERTIES["no_stray_page"]], deadlock=False)[0]
    assert verdict.result is Result.UNDECIDED and "out of time after" in verdict.reason
    explorer = Explorer(kernel("v5.11"), SMALL, limits=Limits(memory_mb=1.0))
    verdict = explorer.decide([PROPERTIES["no_stray_page"]], deadlock=False)[0]
    assert verdict.result is Result.UNDECIDED and "out of memory" in verdict.reason


@pytest.mark.parametrize("bits", [64, 12, 3])
@pytest.mark.parametrize("spread", [1, 1 << 40])
def test_distinct_finds_what_numpy_unique_finds(bits: int, spread: int):
    """With 12 bits fingerprints repeat; with 3, and 1000 of them, those that differ in the low bits only lie mixed."""
    rng = np.random.default_rng(bits)
    prints = rng.integers(0, 2**bits, 1000, dtype=np.uint64) * np.uint64(spread)
    expected, first = np.unique(prints, return_index=True)
    found, at = distinct(prints)
    assert found.tolist() == expected.tolist()
    assert prints[at].tolist() == expected.tolist()
    if bits > 12:
        assert at.tolist() == first.tolist()


def test_a_set_of_fingerprints_in_sorted_runs():
    rng = np.random.default_rng(1)
    seen, reference = Seen(), set()
    for _ in range(30):
        batch = np.unique(rng.integers(0, 500, 40).astype(np.uint64))
        fresh = batch[seen.unknown(batch)]
        assert set(fresh.tolist()) == set(batch.tolist()) - reference
        if len(fresh):
            seen.add(fresh)
        reference |= set(batch.tolist())
    assert len(seen) == len(reference)


def test_a_folded_graph_comes_back_to_its_loop():
    k = kernel("v5.11")(SMALL.scenario.config)
    graph = fold(k, lambda: k.drain_worker(0), [0], {})
    ends = [n for n in graph.kept if n.op.tag == "work_end"]
    assert [t for _, t in ends[0].edges] == [graph.entry[0][1]]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--pages", "0"], "--pages 0 is out of range: give 1 to 16 (each of the 1 that free holds one)"),
        (["--pages", "two"], "invalid int value: 'two'"),
        (["--frees", "3", "--pages", "2"], "--pages 2 is out of range: give 3 to 16"),
        (["--frees", "30"], "--frees 30 is too many here: give at most 16, for each holds one of 16 pages"),
        (["--batch", "0"], "--batch 0 is out of range: give 1 to 16"),
        (["--reduce", "some"], "invalid choice: 'some'"),
        (["--jobs", "0"], "--jobs 0 is out of range: give at least 1"),
        (["--memory-limit", "-3"], "-3: give a number above 0"),
        (["--pagse", "3"], "did you mean --pages?"),
        (["--mutant", "no-drian"], "did you mean no-drain?"),
        (["--json", "/nonexistent/x.json"], "cannot write /nonexistent/x.json"),
    ],
)
def test_bad_input_is_one_line(arguments, line, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()
    assert left.value.code == int(Exit.USAGE)
    assert line in err and len(err.strip().splitlines()) == 1 and not out


def test_json_and_exit_code(tmp_path, capsys):
    file = tmp_path / "verdicts.json"
    assert main(["--mutant", "no-drain", "--json", str(file)]) == 1
    record = json.loads(file.read_text())
    (verdict,) = record["verdicts"]
    assert (verdict["property"], verdict["result"], verdict["replayed"]) == ("no_stray_page", "violated", True)
    assert verdict["statistics"]["steps"] == 18 and verdict["statistics"]["context_switches"] == 1
    assert record["finite"] == {"pages": 3, "high": 2, "batch": 2, "reduce": "full"}
    assert "CPU0" in capsys.readouterr().out


def test_no_time_exits_with_3_and_keeps_what_there_is(tmp_path, capsys):
    file = tmp_path / "verdicts.json"
    assert main(["--timeout", "0.0001", "--json", str(file), "--jobs", "1"]) == int(Exit.UNDECIDED)
    assert "out of time" in capsys.readouterr().out
    assert {v["result"] for v in json.loads(file.read_text())["verdicts"]} == {"undecided"}


LARGE = Finite(Scenario(cpus=4, frees=3, allocs=2), 4)


@pytest.mark.parametrize(("name", "broken"), [("no-drain", True), ("swapped-limit-stores", False)])
def test_a_probe_tells_what_small_configurations_violate(name: str, broken: bool):
    found = Explorer(mutant(name), LARGE).probe([PROPERTIES["no_stray_page"], PROPERTIES["limits_restored"]])
    assert [p.name for p in found] == (["no_stray_page"] if broken else [])


def test_a_mutant_of_a_large_configuration_is_shown_in_a_small_one(capsys: pytest.CaptureFixture[str]):
    options = ["--cpus", "4", "--pages", "4", "--frees", "3", "--allocs", "2", "--property", "no_stray_page"]
    assert main(["--mutant", "no-drain", *options]) == Exit.VIOLATED
    printed = capsys.readouterr().out
    assert "(2 CPUs, 1 free, 1 offline_pages() suffice)" in printed
    assert "CPU0" in printed


def test_the_room_is_what_the_machine_or_its_container_leaves(monkeypatch: pytest.MonkeyPatch):
    texts = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  2048000 kB\n",
        "/sys/fs/cgroup/memory.max": "1048576000\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda self: texts[str(self)])
    assert room_mb() == pytest.approx(900)
    texts["/sys/fs/cgroup/memory.max"] = "max\n"
    assert room_mb() == pytest.approx(1800)
    texts["/proc/meminfo"] = ""
    assert room_mb() is None


def limits_of(value: int) -> type[KernelText]:
    class Wide(V5_11):
        def pageset_update(self, zone: Zone, cpu: int, high: IntTerm, batch: IntTerm) -> Routine:
            yield write_once(batch, "pcp.batch", zone.index, cpu)
            yield write_once(high + value, "pcp.high", zone.index, cpu)

    return Wide


@pytest.mark.parametrize("value", [65536, 2**70])
def test_a_value_that_a_column_cannot_hold_is_refused(value: int):
    # 65536 would be 0 in 16 bits, and the kernel hold
    with pytest.raises(ModelError, match="16 bits"):
        Explorer(limits_of(value), Finite(Scenario(cpus=1))).probe([PROPERTIES["no_stray_page"]])
    assert Explorer(limits_of(2), Finite(Scenario(cpus=1))).probe([PROPERTIES["no_stray_page"]])


# --- properties at rest ---
