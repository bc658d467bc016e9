"""``--tree``: a kernel's own C is read, judged and mapped; what cannot be read is named, with file and line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelmodel.ctext.configured import USUAL, configured
from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.functions import _uncast
from kernelmodel.ctext.kernel import kernel_from, reading_of
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from tests.ctree import DRAIN, ERA, UNLOCKED, make
from verify.bmc.__main__ import main as bmc
from verify.compare.__main__ import main as compare
from verify.compare.__main__ import parser as compare_parser
from verify.compare.__main__ import sides_of
from verify.explore.__main__ import main as explore
from verify.replay.__main__ import main as replay
from verify.tree.__main__ import main as tree_map
from verify.verdict import Exit

ROOT = Path(__file__).parent.parent
STRAY = ["--property", "no_stray_page"]
SMALL = ["--cpus", "2", "--frees", "1", "--allocs", "1", "--updates", "0"]


def refusal(tmp_path: Path, function: str) -> str:
    """What is said of a tree that cannot be read."""
    with pytest.raises(ModelError) as refused:
        kernel_from(str(TreeSpec(str(make(tmp_path, function)))))
    return str(refused.value)


def drain(*statements: str) -> str:
    """A drain of these statements."""
    body = "\n\t".join(statements)
    return f"\nstatic void drain_pages_zone(unsigned int cpu, struct zone *zone)\n{{\n\t{body}\n}}\n"


# --- verdicts ---


def test_a_drain_in_c_holds_and_the_verdict_says_what_it_takes_for_granted(tmp_path, capsys):
    assert explore(["--tree", str(make(tmp_path, DRAIN)), *STRAY, *SMALL]) == Exit.OK
    said = " ".join(capsys.readouterr().out.split())
    assert "no_stray_page holds" in said and "read: the C of 1 functions, as v6.1's" in said
    assert "given that free_pcppages_bulk() still does what the model's summary says: it differs from that of" in said
    assert "not in the tree, so that v6.1's text stands for it: free_unref_page()" in said


def test_a_look_outside_of_the_lock_is_found_in_the_c_with_the_tree_s_lines(tmp_path):
    tree, trace = make(tmp_path / "t", UNLOCKED), tmp_path / "trace.json"
    command = [sys.executable, "-m", "verify.bmc", "--tree", str(tree), *STRAY, *SMALL, "--trace", str(trace)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout
    assert done.returncode == Exit.VIOLATED, done.stderr
    assert "replayed on the concrete model" in said and "lines: mm/page_alloc.c" in said
    line = next(
        n for n, text in enumerate((tree / "mm/page_alloc.c").read_text().splitlines(), 1) if "!lists->count" in text
    )
    assert re.search(rf"^ *{line}: +pcp\[\d\]->count", said, re.M)
    # the line of C itself is in the trace, for whoever has not the tree
    assert any(
        f"mm/page_alloc.c:{line}: if (!lists->count)" in step["pc"] for step in json.loads(trace.read_text())["steps"]
    )
    assert replay([str(trace)]) == Exit.VIOLATED


def test_a_patch_is_judged_before_and_after(tmp_path, capsys):
    before, after = make(tmp_path / "a", DRAIN), make(tmp_path / "b", UNLOCKED)
    done = subprocess.run(
        ["git", "diff", "--no-index", "a", "b"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    patch = tmp_path / "gate.patch"
    patch.write_text(re.sub(r"([ab])/[ab]/", r"\1/", done.stdout))
    (before / "mm/page_alloc.c").chmod(0o444)
    assert compare(["--tree", str(before), "--patch", str(patch), "--engines", "bmc", *STRAY, *SMALL]) == Exit.VIOLATED
    said = capsys.readouterr().out
    assert "NEW COUNTEREXAMPLE" in said and "+	if (!lists->count)" in said and "drain_pages_zone()" in said
    assert (before / "mm/page_alloc.c").read_text() != (after / "mm/page_alloc.c").read_text()


def test_revisions_are_read_from_git_without_checking_out(tmp_path):
    tree = make(tmp_path / "t", DRAIN)
    git = ["git", "-c", "user.email=a@b.c", "-c", "user.name=n"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], cwd=tree, check=True)
    make(tree, UNLOCKED)
    assert "again:" in (Tree(TreeSpec(str(tree), "HEAD")).text("mm/page_alloc.c") or "")
    assert "again:" not in (Tree(TreeSpec(str(tree))).text("mm/page_alloc.c") or "")
    with pytest.raises(ModelError, match="has no revision 'nope'"):
        Tree(TreeSpec(str(tree), "nope"))
    # the second of a comparison may be a revision of the first
    options = compare_parser().parse_args(["--tree", str(tree), "--tree", "HEAD"])
    assert sides_of(options) == (f"tree:{tree}", f"tree:{tree}@HEAD")


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["frobnicate(zone);"], r"mm/page_alloc.c:9: drain_pages_zone\(\): frobnicate\(\) is neither read, nor summed up"),
        (["trace_android_vh_drain(&zone, cpu);"], "trace_android_vh_drain.*say with --assume what it does"),
        (["zone->pageset_secret = 1;"], "struct zone has a field pageset_secret that is not in the vocabulary"),
        (["int x = secret_limit;"], "secret_limit is not in the vocabulary"),
        (["switch (cpu) { cpu = 1; case 0: break; }"], "a switch that has a statement before its first case has no meaning here"),
        (["int cpu = 1;"], "cpu hides another variable of that name"),
        (["int x[2];"], "a local array has no meaning here"),
        (["*zone = 0;"], "a store to a place that is not in the vocabulary"),
        (["unsigned int x = 1;", "x = x - cpu;"], "x is unsigned, and may be set to less than 0"),
        (["if (cpu) goto nowhere;"], "goto nowhere, which is not at the outermost level"),
        (["asm volatile(\"nop\");"], "has no meaning here|does not parse"),
        (["mutex_lock(&some_other_lock);"], "some_other_lock is not in the vocabulary"),
        (["int x = (other) - 1;", "if (x)", "\treturn;"], "other is not in the vocabulary"),
        (["unsigned int a = 1;", "if (a - 2 > 0)", "\treturn;"], "this is unsigned, and less than 0: C makes that a large"),
        (["unsigned int a = cpu;", "if (a - 2 > 0)", "\treturn;"], "an unsigned number is compared with one that may be less"),
        (["int x = (unsigned int)(cpu - 2);"], "what may be less than 0 is made unsigned"),
        (["int x = (cpu - 5) >> 1;"], "of a number that may be less than 0 has no meaning here"),
        (["unsigned int x = cpu;", "while (x-- > 0)", "\treturn;"], "x is unsigned, and may be set to less than 0"),
        (["unsigned int x = min(cpu - 2, 5);"], "x is unsigned, and may be set to less than 0"),
        (["zone->nr_isolate_pageblock -= 1;"], "this is changed under zone->lock everywhere else, and is not here"),
        (["int n = 1;", "free_pcppages_bulk(zone, 1, per_cpu_ptr(zone->per_cpu_pageset, cpu), &n);"],
         r"free_pcppages_bulk\(\) may change n, of which its meaning says nothing"),
        (["pr_debug(cpu++);"], "something is changed in the arguments of a call that is taken to be without effect"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_named_with_file_line_and_text(statements, said, tmp_path):
    assert re.search(said, refusal(tmp_path, drain(*statements)), re.S)


def read_as(tmp_path: Path, *statements: str, assume: tuple[str, ...] = ()) -> str:
    """A drain of these statements, as it is read."""
    _, reading = reading_of(TreeSpec(str(make(tmp_path, drain(*statements))), assume=assume))
    assert not reading.refused, reading.refused
    return reading.translated["c_drain_pages_zone"].python


@pytest.mark.parametrize(
    ("condition", "positive"),
    [("left > 0", True), ("cpu && (left > 0)", True), ("cpu || left > 0", False), ("!(left > 0)", False), ("left >= 0", False)],
)  # fmt: skip
def test_a_loop_s_number_is_positive_only_where_its_whole_condition_says_so(condition, positive, tmp_path):
    text = read_as(
        tmp_path,
        "int left = READ_ONCE(zone->pageset_batch);",
        f"while ({condition})",
        "\tleft -= READ_ONCE(zone->pageset_batch);",
    )
    assert ("_c.at_least(left, 1)" in text) is positive


def test_what_a_hook_is_given_stays_as_it_is_where_it_is_assumed_away(tmp_path):
    statements = ("int n = 1;", "hook(&n);", "n = n + cpu;")
    assert "Unknown" not in read_as(tmp_path, *statements, assume=("hook=nothing",))


def test_an_argument_that_may_be_below_0_is_refused_where_it_is_unsigned(tmp_path):
    helper = "\nstatic void helper(unsigned int n)\n{\n\tif (n > 1)\n\t\treturn;\n}\n"
    assert "argument 1 is unsigned, and may be less than 0 here" in refusal(
        tmp_path, helper + drain("helper(cpu - 2);")
    )


def test_functions_of_one_name_in_two_files_are_two(tmp_path):
    static = "\nstatic int helper(int n)\n{\n\treturn n + %d;\n}\n"
    tree = make(tmp_path, static % 1, DRAIN)
    (tree / "mm/memory_hotplug.c").write_text(static % 2)
    _, reading = reading_of(TreeSpec(str(tree)))
    methods = []
    for file in ("mm/page_alloc.c", "mm/memory_hotplug.c"):
        function = reading.function("helper", file)
        assert function is not None
        methods.append(reading.read("helper", function))
    texts = [reading.translated[m].python for m in methods]
    assert "(n + 1)" in texts[0] and "(n + 2)" in texts[1]


def rounds(head: str, tail: str) -> str:
    """A drain that goes on as long as its own number says."""
    return drain(
        "struct per_cpu_pages *pcp = per_cpu_ptr(zone->per_cpu_pageset, cpu);", "int left = READ_ONCE(pcp->count), now;", head,
        "\tnow = min(left, pcp->batch << 5);", "\tpcp_spin_lock_maybe_irqsave(pcp, flags);", "\tleft -= now;",
        "\tfree_pcppages_bulk(zone, now, pcp, 0);", "\tpcp_spin_unlock_maybe_irqrestore(pcp, flags);", tail,
    )  # fmt: skip


def test_a_number_that_is_carried_from_round_to_round_is_exact_in_the_first(tmp_path, capsys):
    """The snapshot of v6.10's drain."""
    assert bmc(["--tree", str(make(tmp_path, rounds("while (left) {", "}"))), *STRAY, *SMALL]) == Exit.VIOLATED
    said = " ".join(capsys.readouterr().out.split())
    assert "left of drain_pages_zone() is taken to be any number from the second round of its loop on" in said


def test_a_value_that_grows_from_round_to_round_is_refused_soon(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bmc(["--tree", str(make(tmp_path, rounds("again:", "if (left)\n\t\tgoto again;"))), *STRAY, *SMALL])
    assert "a value grows from one round of a loop to the next" in capsys.readouterr().err


def test_a_helper_that_a_patch_adds_is_read_as_well(tmp_path):
    helper = "\nstatic int how_many(struct per_cpu_pages *pcp)\n{\n\treturn pcp->count;\n}\n"
    text = helper + DRAIN.replace("left = lists->count;", "left = how_many(lists);")
    _, reading = reading_of(TreeSpec(str(make(tmp_path, text))))
    assert not reading.refused and "c_how_many" in reading.translated
    broken = text.replace("return pcp->count;", "return pcp->secret;")
    assert "how_many(): struct per_cpu_pages has a field secret" in refusal(tmp_path / "broken", broken)


def test_a_hook_that_is_assumed_away_is_said_in_the_verdict(tmp_path, capsys):
    tree = make(tmp_path, DRAIN.replace("if (left)", "trace_android_vh_drain(zone);\n\tif (left)"))
    assert bmc(["--tree", str(tree), "--assume", "trace_android_vh_drain=nothing", *STRAY, *SMALL]) == Exit.OK
    assert "given that trace_android_vh_drain() has no effect (--assume)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tree", "/nonexistent"], "/nonexistent is no directory"),
        (["--tree", "{}", "--kernel", "v6.1"], "not allowed with argument --tree"),
        (
            ["--tree", "{}", "--era", "v9"],
            "--era v9: the C of v7.3, v6.11, v6.8, v6.1, v5.14, v5.11, v5.10 can be read",
        ),
        (["--tree", "{}", "--assume", "x=all"], "give HOOK=nothing, HOOK=open"),
        (["--tree", "{}", "--patch", "/nonexistent"], "patch /nonexistent cannot be read"),
        (["--tree", "{}", "--config", "/nonexistent"], "configuration /nonexistent cannot be read"),
        (["--patch", "x"], "give --tree PATH"),
        (["--tree", "{}/mm"], "has no mm/page_alloc.c"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, said, tmp_path, capsys):
    tree = make(tmp_path, DRAIN)
    with pytest.raises(SystemExit) as left:
        bmc([a.format(tree) for a in arguments])
    err = capsys.readouterr().err
    assert left.value.code == Exit.USAGE and said in err and err.count("\n") == 1


def test_a_patch_that_does_not_apply_is_one_line(tmp_path):
    patch = tmp_path / "x.patch"
    patch.write_text("--- a/mm/page_alloc.c\n+++ b/mm/page_alloc.c\n@@ -1 +1 @@\n-nothing like it\n+x\n")
    with pytest.raises(ModelError, match=r"x\.patch does not apply to .*: patch failed: mm/page_alloc\.c:1"):
        Tree(TreeSpec(str(make(tmp_path / "t", DRAIN)), patch=str(patch)))


# --- the map ---


def test_the_map_says_what_is_read_and_where_it_is_the_text(tmp_path, capsys):
    assert tree_map([str(make(tmp_path, DRAIN))]) == Exit.VACUOUS
    said = " ".join(capsys.readouterr().out.split())
    assert "6.1.0, read as v6.1's C, beside v6.1's text" in said
    assert "drain_pages_zone() mm/page_alloc.c:7 read, as v6.1's text" in said
    assert "free_unref_page() mm/page_alloc.c absent" in said
    assert re.search(r"free_pcppages_bulk\(\) mm/page_alloc.c:\d+ CHANGED: not as in Debian", said)


def test_the_map_tells_the_first_difference(tmp_path, capsys):
    tree_map([str(make(tmp_path, UNLOCKED))])
    assert "read; the C does pcp[1]->count, the text spin_lock(&pcp[1]->lock)" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_map_has_what_could_not_be_read_and_exits_3(tmp_path, capsys):
    assert tree_map([str(make(tmp_path, drain("frobnicate(zone);")))]) >= Exit.UNDECIDED
    assert "not read: mm/page_alloc.c:9: drain_pages_zone(): frobnicate()" in " ".join(capsys.readouterr().out.split())


def test_a_function_can_be_seen_as_it_is_read(tmp_path, capsys):
    tree = str(make(tmp_path, DRAIN))
    assert tree_map([tree, "--python", "drain_pages_zone"]) == Exit.OK
    assert "spin_lock('pcp.lock'" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tree_map([tree, "--python", "drain_page_zone"])
    assert "did you mean drain_pages_zone()?" in capsys.readouterr().err


# --- the configuration ---


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("x = (a) && b > 1", "x =  a  && b > 1"),
        ("if (!(min(c, c)) && max(c, 2) > 3)", "if (! min(c, c)  && max(c, 2) > 3)"),
        ("return ((f(p)->n[3])) & w", "return   f(p)->n[3]   & w"),
        ("x = (u64) - 1 + (int)-y", "x = (u64) - 1 + (int)-y"),
        ("x = sizeof(y) - 1 + f(a) - (a + b) - c", "x = sizeof(y) - 1 + f(a) - (a + b) - c"),
    ],
)
def test_brackets_around_a_value_are_no_cast(text, meant):
    assert _uncast(text) == meant


def test_conditions_are_decided_and_lines_keep_their_numbers():
    text = "#ifdef CONFIG_SMP\none\n#else\ntwo\n#endif\n#if defined(CONFIG_PREEMPT_RT) || !IS_ENABLED(CONFIG_NUMA)\nthree\n"
    text += "#elif 2 > 1 && CONFIG_X\nfour\n#else\nfive /* a\ncomment */ six\n#endif\n#define A \\\n  1\n#if A\nseven\n#endif\n"
    kept = configured(text, set(USUAL))
    assert kept.text.split() == ["one", "five", "six", "seven"]
    assert kept.text.count("\n") == text.count("\n")
    assert (1, "#ifdef CONFIG_SMP", True) in kept.decided
    assert configured("#ifdef CONFIG_SMP\none\n#else\ntwo\n#endif\n", set()).text.split() == ["two"]


def test_a_config_file_decides(tmp_path):
    text = "\n#ifdef CONFIG_SMP\n" + DRAIN + "\n#else\n" + UNLOCKED + "\n#endif\n"
    config = tmp_path / "config"
    config.write_text("CONFIG_NUMA=y\n# CONFIG_SMP is not set\n")
    tree = str(make(tmp_path / "t", text))
    for spec, goes in ((TreeSpec(tree), True), (TreeSpec(tree, config=str(config)), False)):
        _, reading = reading_of(spec)
        assert ("goto" in reading.translated["c_drain_pages_zone"].python) is goes


def test_a_tree_s_name_is_read_back(tmp_path):
    spec = TreeSpec(str(tmp_path), "HEAD~3", "a b.patch", "v6.1", "c", ("x=nothing", "y=nothing"))
    assert TreeSpec.parse(str(spec)) == spec
    assert "--patch 'a b.patch'" in spec.options and ERA


def test_a_function_that_is_not_read_is_named_with_the_reason_and_a_change_of_it_is_noticed(tmp_path, capsys):
    own = "\nvoid zone_pcp_reset(struct zone *zone)\n{\n\tzone->something = 0;\n}\n"
    tree = make(tmp_path, DRAIN, own)
    tree_map([str(tree)])
    assert re.search(
        r"the model's text stands for them: zone_pcp_reset\(\) mm/page_alloc.c:\d+, replaces the per-CPU sets.*CHANGED",
        " ".join(capsys.readouterr().out.split()),
    )
    assert "given that zone_pcp_reset() still does what the model's text says" in " ".join(
        kernel_from(f"tree:{tree}").given
    )
