"""verify.compare: what a change breaks or mends, in one word each; the functions that differ; exit codes; bad input."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel.kernels import KERNELS
from verify import page
from verify.compare import __main__ as command
from verify.compare.change import Change, Pair, exit_code, gone, new, pairs
from verify.compare.in_c import in_c
from verify.compare.sides import changed, functions, meaning, side, source
from verify.replay.__main__ import main as replay
from verify.suite.jobs import Job
from verify.suite.results import contradictions
from verify.verdict import Exit, Result, Verdict

ROOT = Path(__file__).parent.parent
#: decided at once
QUICK = ["--cpus", "2", "--frees", "0", "--allocs", "0", "--migrations", "0", "--property", "limits_exclusive"]
SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "1", "--property", "no_stray_page"]
H, P, V, U, N, X = (
    Result.HOLDS, Result.PROVED, Result.VIOLATED, Result.UNDECIDED, Result.NOT_APPLICABLE, Result.VACUOUS,
)  # fmt: skip


def verdict(result, steps=0, switches=None, engine="explore", name="no_stray_page", seconds=0.0, **more):
    """A verdict as an engine could give it; ``steps`` of a counterexample."""
    statistics = {} if switches is None else {"context_switches": switches}
    schedule = tuple({"step": n} for n in range(steps + 1)) if steps else ()
    replayed = True if result is V else None
    return Verdict(name, "k", engine, "2 CPUs", result, schedule=schedule, statistics=statistics, seconds=seconds,
                   **{"replayed": replayed, **more})  # fmt: skip


# --- the word ---


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (H, H, Change.SAME), (P, P, Change.SAME), (U, U, Change.SAME), (N, N, Change.SAME), (X, X, Change.SAME),
        (H, V, Change.NEW), (P, V, Change.NEW), (U, V, Change.NEW), (N, V, Change.NEW), (X, V, Change.NEW),
        (V, H, Change.GONE), (V, P, Change.GONE), (V, N, Change.GONE),
        (V, U, Change.NO_LONGER_DECIDED), (H, U, Change.NO_LONGER_DECIDED), (P, U, Change.NO_LONGER_PROVED),
        (V, X, Change.NOW_VACUOUS), (H, X, Change.NOW_VACUOUS),
        (U, H, Change.NOW_DECIDED), (U, P, Change.NOW_PROVED), (X, H, Change.NOW_DECIDED),
        (N, H, Change.NOW_APPLIES), (N, P, Change.NOW_APPLIES), (H, N, Change.NO_LONGER_APPLIES),
    ],
)  # fmt: skip
def test_the_word_for_each_change_of_a_result(a, b, word):
    assert Pair("explore", "p", verdict(a), verdict(b)).change is word


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [((5, 1), (7, 1), Change.LONGER), ((7, 1), (5, 2), Change.SHORTER), ((5, 1), (5, 2), Change.LONGER),
     ((5, 1), (5, 1), Change.STILL)],
)  # fmt: skip
def test_lengths_of_shortest_counterexamples_are_compared(before, after, word):
    pair = Pair("explore", "p", verdict(V, *before), verdict(V, *after))
    assert pair.change is word
    assert ("->" in pair.note) == (before != after)
    # a solver's counterexample may be of any length
    assert Pair("bmc", "p", pair.a, pair.b).change is Change.STILL
    # and a shortest one of other tasks is another question
    assert Pair("explore", "p", pair.a, replace(pair.b, scenario={"cpus": 4})).change is Change.STILL


def test_times_are_told_only_where_they_are_clearly_different():
    assert Pair("bmc", "p", verdict(H, seconds=1.0), verdict(H, seconds=4.0)).note == "1.0 s -> 4.0 s"
    assert Pair("bmc", "p", verdict(H, seconds=0.1), verdict(H, seconds=0.4)).note == ""
    assert Pair("bmc", "p", verdict(H, seconds=10.0), verdict(H, seconds=12.0)).note == ""


def test_what_another_engine_has_found_before_is_not_new():
    every = pairs([
        ("bmc", [verdict(V, 9, engine="bmc")], [verdict(V, 9, engine="bmc")]),
        ("explore", [verdict(H)], [verdict(V, 5, 1)]),
        ("prove", [verdict(V, engine="prove")], [verdict(U, engine="prove")]),
    ])  # fmt: skip
    assert [p.change for p in every] == [Change.STILL, Change.NOW_HERE, Change.NO_LONGER_DECIDED]
    assert new(every) == [] and exit_code(every, False, False) is Exit.UNDECIDED
    back = pairs([(p.engine, [p.b], [p.a]) for p in every[:2]])
    assert [p.change for p in back] == [Change.STILL, Change.GONE_HERE] and gone(back) == []


def test_the_shortest_new_counterexample_stands_for_a_property():
    every = pairs([("bmc", [verdict(H)], [verdict(V, 9, engine="bmc")]), ("explore", [verdict(H)], [verdict(V, 5, 1)])])
    assert [v.engine for v in new(every)] == ["explore"]


@pytest.mark.parametrize(
    ("a", "b", "code"),
    [
        (H, H, Exit.OK), (V, H, Exit.OK), (V, V, Exit.OK), (U, H, Exit.OK), (H, V, Exit.VIOLATED), (U, V, Exit.VIOLATED),
        (H, U, Exit.UNDECIDED), (U, U, Exit.UNDECIDED), (H, X, Exit.VACUOUS), (H, N, Exit.OK),
    ],
)  # fmt: skip
def test_exit_codes(a, b, code):
    assert exit_code(pairs([("explore", [verdict(a)], [verdict(b)])]), False, False) is code


def test_a_new_counterexample_wins_over_all_that_is_open():
    every = pairs([("explore", [verdict(H)], [verdict(V, 3)]), ("prove", [verdict(P)], [verdict(U)])])
    assert exit_code(every, True, True) is Exit.VIOLATED
    same = pairs([("explore", [verdict(H)], [verdict(H)])])
    assert exit_code(same, False, True) is Exit.UNDECIDED
    assert exit_code(same, True, True) is Exit.DISAGREE


def test_a_counterexample_that_is_not_confirmed_is_no_counterexample():
    doubtful = verdict(V, 3, replayed=False)
    every = pairs([("explore", [verdict(H)], [doubtful])])
    assert every[0].change is Change.NOT_CONFIRMED and new(every) == []
    assert exit_code(every, False, False) is Exit.DISAGREE
    assert "does not confirm" in contradictions([doubtful])[0]


def test_what_was_not_run_is_undecided():
    every = pairs([("explore", [verdict(H)], [])])
    assert every[0].change is Change.NOT_RUN and exit_code(every, False, False) is Exit.UNDECIDED


# --- the functions that differ ---


def test_the_functions_that_differ_are_those_of_the_patch():
    found = {c.name: c for c in changed(side("A", "base"), side("B", "v5.11"))}
    assert set(found) == {
        "drain_all_pages", "_drain_all_pages", "set_pageset_high_and_batch", "zone_set_pageset_high_and_batch",
        "zone_pcp_disable", "zone_pcp_enable", "offline_pages",
        # given the same shield by another patch of v5.11
        "get_hwpoison_page",
    }  # fmt: skip
    assert found["_drain_all_pages"].title == "__drain_all_pages() [_drain_all_pages]"
    assert "+        yield from self.zone_pcp_disable(zone)" in found["offline_pages"].diff
    assert changed(side("A", "v5.11"), side("B", "v5.11")) == []


def test_a_mutants_diff_is_its_one_function():
    (only,) = changed(side("A", "v5.11"), side("B", "no-drain"))
    assert only.name == "zone_pcp_disable"
    removed = [x for x in only.diff.splitlines() if x.startswith("-") and not x.startswith("---")]
    assert removed == ["-    yield from self._drain_all_pages(zone, True)"]


@pytest.mark.parametrize("name", KERNELS)
def test_every_routine_can_be_written_as_c(name):
    for routine, function in functions(KERNELS[name]).items():
        text = "\n".join(in_c(KERNELS[name], source(function)))
        left = re.findall(r"\byield\b|\bself\b|\bNone\b|\bTrue\b|\bFalse\b|\bnot\b|\belif\b", text)
        # what makes an operation of its own is no C
        assert not left or "def " in text or "Op(" in text or "raise " in text, (routine, text)
        assert text.count("{") == text.count("}") or "f'" in text or 'f"' in text


def test_a_routine_as_c_has_the_kernels_names_and_style():
    kernel = KERNELS["v5.11"]
    every = functions(kernel)
    assert in_c(kernel, source(every["pageset_update"])) == [
        "pageset_update(zone, cpu, high, batch)", "{", "\tWRITE_ONCE(pcp[cpu]->batch, batch);",
        "\tWRITE_ONCE(pcp[cpu]->high, high);", "}",
    ]  # fmt: skip
    drain = in_c(kernel, source(every["_drain_all_pages"]))
    assert drain[0] == "__drain_all_pages(zone, force_all_cpus)" and "\tfor_each_possible_cpu(cpu) {" in drain
    # a part of drain_all_pages() that has no name in C keeps its own
    assert "\tif (!drain_lock(zone))" in drain and "\tmutex_unlock(&pcpu_drain_mutex);" in drain
    assert in_c(kernel, ["no python ("]) == ["no python ("]


def test_what_does_nothing_is_no_difference():
    one = ["def f(self, zone: Zone) -> Routine:", '    """Doc."""', "    yield 1"]
    assert meaning(one) == meaning(["def f(self, zone):", "    # a comment", "    yield 1"])
    assert meaning(one) != meaning(["def f(self, zone):", "    yield 2"])


# --- the command ---


@pytest.mark.deep
def test_a_mutant_against_v5_11(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "_chosen", [page.IN_A_PIPE])
    files = {n: tmp_path / n for n in ("c.json", "c.md", "traces")}
    asked = [*SMALL, "--engines", "bmc,explore", "--json", str(files["c.json"]), "--markdown", str(files["c.md"])]
    assert command.main(["v5.11", "no-drain", *asked, "--trace", str(files["traces"])]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    for line in (
        "1 function differs: zone_pcp_disable()",
        "-\t__drain_all_pages(zone, true);",
        "-    yield from self._drain_all_pages(zone, True)",
        "new in no-drain: no_stray_page, explore, 18 steps, 1 context switch",
        "exit 1: no-drain has a counterexample that v5.11 has not",
    ):
        assert line in out.splitlines()
    # which of the two equal CPUs keeps it is the search's choice
    assert re.search(r"^=> 1 page left on CPU[01]'s pcplist after zone_pcp_disable\(\)$", out, re.MULTILINE)
    # the difference of the texts is shown as it is
    prose = [x for x in out.splitlines() if not x.startswith(("-", "+", "@@", "    ", " \t"))]
    assert out.count("NEW COUNTEREXAMPLE") == 2 and max(map(len, prose)) <= page.IN_A_PIPE
    record = json.loads(files["c.json"].read_text())
    assert (record["exit"], record["new"], record["gone"]) == (1, ["no_stray_page"], [])
    assert [(p["engine"], p["a"]["result"], p["b"]["result"]) for p in record["properties"]] == [
        ("bmc", "holds", "violated"), ("explore", "holds", "violated"),
    ]  # fmt: skip
    assert [f["function"] for f in record["changed"]] == ["zone_pcp_disable"]
    markdown = files["c.md"].read_text()
    assert "| explore | no_stray_page | holds | violated | NEW COUNTEREXAMPLE (18 steps, 1 switch) |" in markdown
    assert "```diff" in markdown and re.search("=> 1 page left on CPU[01]'s pcplist", markdown)
    trace = files["traces"] / "new-no_stray_page.json"
    assert replay([str(trace)]) == 1
    assert {f.suffix for f in files["traces"].iterdir()} == {".json", ".txt", ".html"}


def test_the_other_way_round_the_counterexample_is_gone(capsys):
    assert command.main(["no-drain", "v5.11", *SMALL, "--engines", "explore"]) == 0
    out = capsys.readouterr().out
    assert "counterexample gone (was 18 steps, 1 switch)" in out
    told = r"gone: no_stray_page, 1 page left on CPU[01]'s pcplist after zone_pcp_disable\(\) \(explore, 18 steps, 1"
    assert re.search(told, out)
    assert "exit 0: v5.11 violates nothing that no-drain does not violate" in out


def test_prove_is_asked_only_what_it_can():
    asked = command.parser().parse_args(
        ["v5.11", "v5.11", "--property", "limits_exclusive", "--property", "lock_order"]
    )
    assert command.wanted("prove", asked) == ("limits_exclusive",)
    assert command.wanted("bmc", asked) == ("limits_exclusive", "lock_order")


@pytest.mark.deep
def test_what_prove_is_not_asked_has_one_row(capsys):
    examples = ROOT / "docs" / "examples"
    asked = ["v5.11", str(examples / "last_cpu_first.py"), "--engines", "bmc,prove"]
    bound = ["--cpus", "2", "--frees", "1", "--allocs", "0"]
    assert command.main([*asked, *bound, "--property", "limits_exclusive", "--property", "lock_order"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(x.split() == ["limits_exclusive", "proved", "proved", "same"] for x in lines)
    assert sum(x.startswith("  lock_order") for x in lines) == 1


def test_json_on_stdout_is_all_that_is_printed(capsys):
    assert command.main(["v5.11", "v5.11", *QUICK, "--engines", "bmc", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["changed"] == [] and record["properties"][0]["change"] == "same"


def test_quiet_prints_nothing(capsys):
    assert command.main(["v5.11", "v5.11", *QUICK, "--engines", "bmc", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_out_of_time_is_undecided(capsys):
    assert command.main(["v5.11", "no-drain", *SMALL, "--engines", "bmc", "--timeout", "0.001"]) == 3
    assert "undecided" in capsys.readouterr().out


def test_an_engine_that_crashes_is_no_violation(monkeypatch, capsys):
    """Python's own exit code after an exception is 1."""

    def crash(engine, *_, name, **__):
        return Job(engine, name, "verify.no_such_engine", (), _[1])

    monkeypatch.setattr(command, "engine_job", crash)
    assert command.main(["v5.11", "no-drain", "--engines", "bmc"]) == 3
    assert "ended with 1 and without verdicts: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["v5.11"], "two kernels are compared: name both"),
        (["v5.11", "no-drian"], "B: unknown kernel, mutant or FILE.py 'no-drian': did you mean no-drain?"),
        (
            ["zzz", "v5.11"],
            "A: 'zzz' is no kernel (v5.10, base, v5.11, v5.14, v5.15, v6.0, v6.1, v6.2, v6.8, v6.10, v6.11, v6.15), no mutant",
        ),
        (["v5.11", "nowhere.py"], "B: variant file nowhere.py does not exist"),
        (["v5.11", "base", "--cpus", "0"], "--cpus 0 is out of range"),
        (["v5.11", "base", "--engines", "spin"], "--engines: 'spin' is none of bmc, explore, prove"),
        (["v5.11", "base", "--engines", ","], "--engines names none"),
        (["v5.11", "base", "--property", "no_stray"], "did you mean no_stray_page?"),
        (["v5.11", "base", "--property", "lock_order", "--engines", "prove"], "nothing to compare among lock_order"),
        (["v5.11", "base", "--json", "-", "--markdown", "-"], "both want stdout"),
        (["v5.11", "base", "--json", "/nonexistent/x"], "cannot write /nonexistent/x"),
        (["v5.11", "base", "--trace", str(ROOT / "README.md")], "there is a file of that name"),
        (["v5.11", "base", "--timeout", "-1"], "give a number above 0"),
        (["v5.11", "base", "--frees", "30", "--engines", "explore"], "A, v5.11: "),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "") and said in err and len(err.strip().splitlines()) == 1


def test_a_variant_that_an_engine_refuses_is_one_line(tmp_path, capsys):
    file = tmp_path / "three.py"
    file.write_text(
        "from kernelmodel import V5_11\nclass A(V5_11):\n    def zone_pcp_disable(self, zone):\n        yield 3\n"
    )
    with pytest.raises(SystemExit) as left:
        command.main(["v5.11", str(file), *SMALL, "--engines", "explore"])
    err = capsys.readouterr().err
    assert left.value.code == 2 and err.startswith(f"python -m verify.compare: B, {file}: ")
    assert len(err.strip().splitlines()) == 1 and "yields 3" in err


@pytest.mark.deep
def test_the_docs_show_what_is_printed_today(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(page, "_chosen", [page.IN_A_PIPE])
    asked = ["--engines", "explore", "--property", "no_stray_page", "--property", "lock_order"]
    assert command.main(["v5.11", "docs/examples/skip_idle_cpus.py", *asked]) == 1
    shown = (ROOT / "docs" / "comparing-kernels.md").read_text()
    printed = [x for x in capsys.readouterr().out.splitlines() if not x.startswith(("explore: ", "A ", "CPU0"))]
    # which of several equally short traces comes first may change
    assert [x for x in printed[: printed.index("----" + " " * 36 + "----")] if x and x not in shown] == []
    words = {c.value for c in Change}
    assert all(w in shown for w in words - {Change.NOT_RUN.value})


@pytest.mark.deep
def test_a_change_that_holds_without_allocations(capsys):
    bound = ["--cpus", "2", "--allocs", "0", "--migrations", "0", "--engines", "bmc", "--property", "no_stray_page"]
    assert command.main(["v5.11", "no-force-all-cpus", *bound]) == 0
    assert "same" in capsys.readouterr().out
