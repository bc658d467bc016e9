"""Systematic mutants: which there are, what is said of them, and that nothing said outlives the text it was said of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS
from kernelmodel.versions.systematic import KINDS, Mutation, build, mutations, routines
from kernelmodel.versions.v5_11 import V5_11
from verify.mutants import judge as judging
from verify.mutants import systematic
from verify.mutants.__main__ import main
from verify.mutants.judge import CRASHED, DISAGREE, KILLED, REFUSED, SAME, SURVIVES, UNDECIDED, UNREACHED, Record, judge
from verify.mutants.reviewed import EQUIVALENT, FILE, GAP, Reason, reason_of, reasons
from verify.mutants.survey import counts, markdown
from verify.verdict import Exit

PATIENCE = 100.0


def named(name: str) -> Mutation:
    (found,) = [m for m in mutations(V5_11, [name.partition("/")[0]]) if m.name == name]
    return found


def by_diff(routine: str, diff: str) -> Mutation:
    (found,) = [m for m in mutations(V5_11, [routine]) if m.diff == diff]
    return found


# --- which there are ---


@pytest.mark.parametrize(
    "kernel",
    [k if n in ("v5.10", "base", "v5.11") else pytest.param(k, marks=pytest.mark.deep) for n, k in KERNELS.items()],
    ids=list(KERNELS),
)
def test_each_mutation_is_another_text_that_python_takes(kernel: type) -> None:
    found = mutations(kernel)
    assert {m.kind for m in found} == set(KINDS)
    assert len({m.name for m in found}) == len({m.digest for m in found}) == len(found) > 500
    assert found == mutations(kernel)
    for m in found:
        made = build(kernel, m)
        assert m.routine in vars(made) and m.diff


def test_the_primitives_are_no_part_of_the_text() -> None:
    found = routines(V5_11)
    assert {"offline_pages", "free_pcppages_bulk", "zone_pcp_disable"} <= set(found)
    assert not {"mutex_lock", "worker_thread", "flush_work"} & set(found)


def test_an_unknown_routine_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean offline_pages"):
        mutations(V5_11, ["offline_page"])


# --- what is said of them ---


def test_a_deleted_drain_is_killed_with_its_trace() -> None:
    found = judge(
        V5_11, by_diff("zone_pcp_disable", "-yield from self._drain_all_pages(zone, True)"), ["explore"], PATIENCE
    )
    assert (found.status, found.by, found.breaks) == (KILLED, "explore", "no_stray_page")
    assert found.steps and "left on CPU" in found.why


def test_what_no_task_comes_to_is_not_called_equivalent() -> None:
    found = judge(V5_11, mutations(V5_11, ["online_pages"])[0], ["explore"], PATIENCE)
    assert found.status == UNREACHED


@pytest.mark.deep
def test_what_only_another_engine_comes_to_is_not_reached_by_those_that_are_asked() -> None:
    """An allocation past the pcplists is a task of prove, and of neither explore nor bmc."""
    mutation = by_diff("rmqueue", "-yield ops.local_irq_restore(cpu)")
    found = judge(V5_11, mutation, ["explore"], PATIENCE)
    assert (found.status, found.why) == (UNREACHED, "no task of explore comes to it")
    assert judge(V5_11, mutation, ["prove"], PATIENCE).status != UNREACHED


def test_a_change_that_no_graph_shows_is_the_same_graph() -> None:
    found = judge(V5_11, by_diff("offline_pages", "-self.check_range(page_range)"), ["explore"], PATIENCE)
    assert found.status == SAME


def test_a_text_that_has_no_value_for_a_name_is_refused() -> None:
    m = next(m for m in mutations(V5_11, ["zone_pcp_enable"]) if m.diff.startswith("+yield from self.set_pageset_high"))
    found = judge(V5_11, m, ["explore"], PATIENCE)
    assert found.status == REFUSED and "UnboundLocalError" in found.why


def test_a_harmless_double_read_survives() -> None:
    m = by_diff("zone_pcp_enable", "+high = (yield read('zone.pageset_high', zone.index))")
    assert judge(V5_11, m, ["explore"], PATIENCE).status == SURVIVES


def test_out_of_time_is_undecided() -> None:
    m = by_diff("zone_pcp_disable", "-yield from self._drain_all_pages(zone, True)")
    assert judge(V5_11, m, ["explore"], 0.05).status == UNDECIDED


def test_a_proof_of_what_is_violated_is_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "proved", lambda _: frozenset({"no_stray_page"}))
    m = by_diff("zone_pcp_disable", "-yield from self._drain_all_pages(zone, True)")
    found = judge(V5_11, m, ["explore", "prove"], PATIENCE)
    assert found.status == DISAGREE and "prove proves it" in found.why
    assert systematic.exit_code([found], {}) is Exit.DISAGREE


def test_a_crash_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(judging, "unchanged", broken)
    found = judge(V5_11, named("zone_pcp_disable/delete/1"), ["explore"], PATIENCE)
    assert found.status == CRASHED and systematic.exit_code([found], {}) is Exit.CRASHED


# --- survivors and reasons ---


def record(status: str, digest: str = "d") -> Record:
    return Record("r/delete/1", digest, "-x", status)


def test_a_survivor_needs_a_reason_for_its_very_text() -> None:
    known = {"d": Reason("r/delete/1", "d", EQUIVALENT, "because")}
    assert systematic.exit_code([record(SURVIVES)], {}) is Exit.VIOLATED
    assert systematic.exit_code([record(UNREACHED)], {}) is Exit.VIOLATED
    assert systematic.exit_code([record(SURVIVES)], known) is Exit.OK
    assert systematic.exit_code([record(SURVIVES, "another text")], known) is Exit.VIOLATED
    assert systematic.exit_code([record(KILLED)], {}) is Exit.OK
    assert systematic.exit_code([record(UNDECIDED)], {}) is Exit.UNDECIDED
    assert systematic.exit_code([record(KILLED)], {}, interrupted=True) is Exit.UNDECIDED
    assert counts([record(SURVIVES), record(SURVIVES, "e")], known) == {"reviewed: equivalent": 1, "survives": 1}
    page = markdown("v5.11", ["explore"], [record(SURVIVES), record(SURVIVES, "e")], known)
    assert "`r/delete/1` (equivalent): `-x`. because" in page


def test_each_reason_is_about_a_mutant_that_there_is() -> None:
    digests = {m.digest: m.name for k in KERNELS.values() for m in mutations(k)}
    known = reasons(FILE)
    assert known
    for key, reason in known.items():
        if reason.digest:
            assert digests.get(key) == reason.name
        else:
            assert key == reason.name and any(key in routines(k) for k in KERNELS.values())


def test_a_reason_for_a_routine_speaks_only_of_mutants_that_nobody_comes_to() -> None:
    known = {"r": Reason("r", "", GAP, "nobody calls it")}
    assert reason_of(record(UNREACHED), known) == known["r"]
    assert reason_of(record(SURVIVES), known) is None and reason_of(record(KILLED), known) is None
    assert systematic.exit_code([record(UNREACHED)], known) is Exit.OK
    assert systematic.exit_code([record(SURVIVES)], known) is Exit.VIOLATED
    page = markdown("v5.11", ["explore"], [record(UNREACHED)], known)
    assert "- `r()`, 1 mutants: nobody calls it" in page and "| reviewed: gap, not reached | 1 |" in page


def test_the_page_is_about_the_mutants_that_there_are() -> None:
    """Whether each outcome is still the same only a run of all tells; it takes a quarter of an hour."""
    page = (Path(__file__).parent.parent / "docs" / "systematic-mutants.md").read_text()
    made = {m.name: m for m in mutations(V5_11)}
    assert f"| all | {len(made)} |" in page and "## Open\n\nNone.\n" in page
    for reason in reasons(FILE).values():
        if reason.digest:
            assert made[reason.name].digest == reason.digest
            assert f"- `{reason.name}` (" in page and reason.reason in page


@pytest.mark.parametrize(
    "text",
    ['[[reviewed]]\nname = "a"\n', "[[reviewed", '[[reviewed]]\nname="a"\ndigest="d"\nverdict="fine"\nreason="x"\n',
     '[[reviewed]]\nname="a"\ndigest="d"\nverdict="gap"\nreason=" "\n'],
)  # fmt: skip
def test_a_file_of_reasons_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "reviewed.toml"
    file.write_text(text)
    with pytest.raises(ModelError, match=r"reviewed\.toml"):
        reasons(file)


# --- the command ---


def test_a_run_is_taken_up_again_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def fake(_kernel: type, m: Mutation, _engines: object, _seconds: float) -> Record:
        asked.append(m.name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return Record(m.name, m.digest, m.diff, KILLED, "", "explore", "no_stray_page", 12, 0.5)

    monkeypatch.setattr(systematic, "judge", fake)
    store, page = tmp_path / "results.jsonl", tmp_path / "out.json"
    words = ["--systematic", "--of", "zone_pcp_enable", "--jobs", "1", "--resume", str(store), "--json", str(page)]
    assert main(words) == Exit.UNDECIDED
    assert "goes on" in capsys.readouterr().err
    assert json.loads(page.read_text())["interrupted"] is True
    with store.open("a") as file:
        file.write('{"version": "cut o')
    first = asked[:3]
    assert main(words) == Exit.OK
    assert asked[3] == asked[4] and not set(first) & set(asked[3:])
    rows = json.loads(page.read_text())["mutants"]
    assert [r["name"] for r in rows] == [m.name for m in mutations(V5_11, ["zone_pcp_enable"])]
    asked.clear()
    monkeypatch.setattr(systematic, "_version", lambda *_: "another program")
    assert main([*words, "--quiet"]) in (Exit.OK, Exit.UNDECIDED)
    assert len(asked) >= 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--of", "offline_pages"], "--systematic only"),
        (["--engine", "prove"], "--systematic only"),
        (["--systematic", "no-drain"], "choose routines with --of"),
        (["--systematic", "--of", "offline_page"], "did you mean offline_pages"),
        (["--systematic", "--engine", "random"], "has no part"),
        (["--systematic", "--kernel", "v5.12"], "unknown kernel"),
    ],
)
def test_what_does_not_fit_gets_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == Exit.USAGE
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1


def test_a_record_can_be_kept_as_json() -> None:
    assert Record(**json.loads(json.dumps(record(KILLED).as_json()))) == record(KILLED)
    assert dataclasses.replace(record(KILLED), status=SURVIVES) == record(SURVIVES)


def test_the_numbers_of_an_operation_with_two_halves_are_left_alone() -> None:
    """Its abstract half says what its concrete half does, and is no line of the kernel."""
    assert not [m for m in mutations(V5_11, ["offline_isolated_pages"]) if m.kind == "constant"]
    assert [m for m in mutations(V5_11, ["pageset_init"]) if m.kind == "constant"]


def test_what_only_a_migration_comes_to_is_searched_with_one() -> None:
    lost = judge(V5_11, named("migrate_pages/delete/1"), ["explore"], PATIENCE)
    assert (lost.status, lost.breaks) == (KILLED, "pages_accounted")
    assert judge(V5_11, named("migrate_and_dissolve/constant/2"), ["explore"], PATIENCE).status == SAME
