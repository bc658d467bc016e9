"""``python -m verify.history``: each commit of a range judged once, and the first whose verdict differs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.ctree import DRAIN, ERA, UNLOCKED, make
from verify.history import commits
from verify.history.__main__ import main
from verify.verdict import Exit

SMALL = ["--cpus", "2", "--frees", "0", "--allocs", "1", "--updates", "0"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five commits: good, good with a comment, bad, bad in another file, good again."""
    tree = tmp_path_factory.mktemp("linux")
    git = ["git", "-c", "user.email=a@b.c", "-c", "user.name=n"]
    subprocess.run([*git, "init", "-q"], cwd=tree, check=True)
    for subject, text in (
        ("mm: good", DRAIN), ("mm: a comment", "/* words */\n" + DRAIN), ("mm: look outside of the lock", UNLOCKED),
        ("mm: elsewhere", UNLOCKED), ("mm: good again", DRAIN),
    ):  # fmt: skip
        make(tree, text, era=ERA)
        (tree / "mm/page_isolation.c").write_text(f"/* {subject} */\n")
        subprocess.run([*git, "add", "."], cwd=tree, check=True)
        subprocess.run([*git, "commit", "-qm", subject], cwd=tree, check=True)
    return tree


def test_each_commit_is_judged_and_what_changes_nothing_is_not_asked_again(repository, tmp_path, capsys):
    out = tmp_path / "history.json"
    command = [str(repository), "HEAD~4..HEAD", "--jobs", "2", "--json", str(out), *SMALL]
    assert main(command) == Exit.VIOLATED
    record = json.loads(out.read_text())
    assert [r["result"] for r in record["rows"]] == ["holds", "holds", "violated", "violated", "holds"]
    assert [bool(r["like"]) for r in record["rows"]] == [False, True, False, True, True]
    said = " ".join(capsys.readouterr().out.split())
    assert "5 commits, of which 2 were judged" in said and "look outside of the lock: violated from here on" in said


def test_what_a_file_has_already_is_not_asked_again(repository, tmp_path, monkeypatch):
    out = tmp_path / "history.json"
    assert main([str(repository), "HEAD~4..HEAD~3", "--json", str(out), "--quiet", *SMALL]) == Exit.OK
    monkeypatch.setattr(commits, "judged", lambda *_: pytest.fail("asked again"))
    assert main([str(repository), "HEAD~4..HEAD~3", "--json", str(out), "--quiet", *SMALL]) == Exit.OK


def test_the_first_bad_commit_is_found_by_bisection(repository, capsys):
    assert main([str(repository), "HEAD~3..HEAD~1", "--bisect", *SMALL]) == Exit.VIOLATED
    assert "first with another verdict (violated): " in (said := " ".join(capsys.readouterr().out.split()))
    assert said.rstrip(" exit1").endswith("mm: look outside of the lock")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["HEAD"], "'HEAD' is no range"), (["nope..HEAD"], "bad revision 'nope'"),
        (["HEAD~1..HEAD", "--property", "no_stray"], "did you mean no_stray_page?"),
        (["HEAD~1..HEAD", "--jobs", "0"], "at least 1"),
        (["HEAD~1..HEAD", "--patch", "x"], "leave --patch"), (["HEAD~1..HEAD", "--json", __file__], "it is no history of ours"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(arguments, said, repository, capsys):
    with pytest.raises(SystemExit) as left:
        main([str(repository), *arguments])
    err = capsys.readouterr().err
    assert left.value.code == Exit.USAGE and said in err and err.count("\n") == 1
