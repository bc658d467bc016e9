"""verify.observe zoneinfo --log: what the kernel's log says of an offlining that hangs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify.observe.__main__ import main
from verify.observe.kernel_log import findings, read

LOG = """[ 1984.1] migrating pfn 12af3 failed ret:-11
[ 1984.1] page:ffffea00004abcc0 refcount:3 mapcount:0 mapping:0000000000000000 index:0x1 pfn:0x12af3
[ 1984.1] page dumped because: migration failure
[ 1985.2] migrating pfn 12af3 failed ret:1
[ 1985.2] page dumped because: migration failure
[ 1985.3] failed to isolate pfn 12b00
[ 1985.3] page dumped because: isolation failed
[ 1990.0] memory offlining [mem 0x10000000-0x17ffffff] failed due to signal backoff
"""
ZONE = """Node 0, zone  Movable
  pagesets
    cpu: 0
              count: 0
              high:  0
              batch: 1
"""


def test_pages_that_cannot_be_migrated_are_named() -> None:
    said = [f.text for f in findings(read(LOG.splitlines()))]
    assert said[0] == "the log: offlining of [mem 0x10000000-0x17ffffff] failed due to signal backoff"
    assert "2 pages could not be migrated: 0x12af3 (2 times, EAGAIN), 0x12b00 (1 time)" in said[1]
    assert "dumped: migration failure (2); isolation failed (1)" in said[1]
    assert not any(f.bad or f.open for f in findings(read(LOG.splitlines())))


def test_a_log_of_something_else_says_how_to_have_more() -> None:
    (only,) = findings(read(["[    0.0] Linux version 6.1.0"]))
    assert "nothing in it is of a memory offlining" in only.text and "memory_hotplug.c +p" in only.text
    (only,) = findings(read(["[ 3.0] Offlined Pages 32768"]))
    assert only.text == "the log: memory went offline 1 time"


def test_many_pages_are_counted() -> None:
    lines = [f"migrating pfn {n:x} failed ret:-16" for n in range(9)]
    assert "9 pages could not be migrated" in findings(read(lines))[0].text
    assert "and 5 more" in findings(read(lines))[0].text


@given(st.text(), st.integers(0, 400))
def test_any_text_can_be_read(text: str, cut: int) -> None:
    assert findings(read((text + LOG[:cut]).splitlines()))


def test_with_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "log").write_text(LOG)
    assert main(["zoneinfo", str(tmp_path / "zone"), "--log", str(tmp_path / "log")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "disabled on all 1 CPU, and no page stays on a pcplist" in said and "0x12af3" in said
    with pytest.raises(SystemExit) as left:
        main(["zoneinfo", str(tmp_path / "zone"), "--log", str(tmp_path / "none")])
    assert left.value.code == 2 and "No such file" in capsys.readouterr().err
