"""Lines that fit where they are pasted: nothing is wider than asked, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify import page
from verify.options import Parser

WORDS = st.lists(st.sampled_from(["a", "pcp[0]->count", "*/", "/*", "x" * 90, "__zone_set_pageset_high_and_batch()"]))


@given(WORDS, st.integers(24, 120), st.integers(0, 8), st.integers(0, 12))
def test_filled_text_fits_and_is_whole(words: list[str], room: int, first: int, rest: int) -> None:
    text = " ".join(words)
    lines = page.fill(text, " " * first, " " * rest, room)
    assert max(map(len, lines)) <= room
    assert "".join("".join(lines).split()) == "".join(words)
    assert lines[0].startswith(" " * first) and all(line.startswith(" " * rest) for line in lines[1:])


@pytest.mark.parametrize(
    ("text", "room", "lines"),
    [
        ("one two three", 8, ["one two", "three"]),
        ("/* it is over */", 14, ["/* it is", "over */"]),
        ("__zone_set_pageset_high_and_batch()", 30, ["__zone_set_pageset_high_and_", "batch()"]),
        ("x" * 10, 6, ["x" * 6, "x" * 4]),
        ("", 10, [""]),
    ],
)
def test_where_lines_end(text: str, room: int, lines: list[str]) -> None:
    assert page.fill(text, room=room) == lines


@pytest.mark.parametrize(
    ("words", "width"),
    [
        (["verify.explore", "--mutant", "no-drain"], None),
        (["verify.explore", "--mutant", "no-drain"], 72),
        (["verify.bmc", "--property", "cpus_stay"], None),
        pytest.param(["verify.prove", "--property", "limits_exclusive", "--explain"], 72, marks=pytest.mark.deep),
        pytest.param(
            ["verify.compare", "v5.11", "v5.11", "--engines", "explore", "--property", "lock_order"],
            72,
            marks=pytest.mark.deep,
        ),
    ],
)
def test_what_is_piped_is_no_wider_than_80_or_asked(words: list[str], width: int | None) -> None:
    asked = [] if width is None else ["--width", str(width)]
    run = subprocess.run(
        [sys.executable, "-m", *words, *asked], capture_output=True, text=True, timeout=100, check=False
    )
    lines = run.stdout.splitlines()
    assert run.returncode in (0, 1) and len(lines) > 3
    assert [line for line in lines if len(line) > (width or 80)] == []


@pytest.mark.parametrize("words", ["10", "wide", "-80", "100000"])
def test_a_width_that_is_none_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        Parser(prog="x").parse_args([f"--width={words}"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip() == f"x: --width {words}: give 72 to 500; --help lists the options"


def test_a_terminal_says_how_wide_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_chosen", [])
    assert page.width() == page.IN_A_PIPE
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for columns, width in (("100", 100), ("40", 72), ("300", 120)):
        monkeypatch.setenv("COLUMNS", columns)
        assert page.width() == width
