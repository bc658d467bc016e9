"""Children end with their parent, whatever ends it."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verify.forked import children, mapped

ROOT = Path(__file__).parent.parent
#: a parent that says the numbers of its children, which are busy for ever
PARENT = """
import time
from verify.forked import children
with children(2) as pool:
    busy = [pool.submit(time.sleep, 1000) for _ in range(2)]
    print(*pool._processes, flush=True)
    time.sleep(1000)
"""


def alive(number: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    numbers = [int(n) for n in parent.stdout.readline().split()]
    assert len(numbers) == 2 and all(map(alive, numbers))
    os.kill(parent.pid, how)
    parent.wait(20)
    until = time.monotonic() + 10
    while any(map(alive, numbers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, numbers))


def test_an_interrupt_is_the_parents() -> None:
    with children(1) as pool:
        (number,) = pool._processes
        os.kill(number, signal.SIGINT)
        assert pool.submit(max, 1, 2).result() == 2


def test_an_error_in_the_block_comes_out() -> None:
    with pytest.raises(ZeroDivisionError), children(1) as pool:
        pool.submit(time.sleep, 1000)
        raise ZeroDivisionError


def begun(file: Path, item: str) -> str:
    with file.open("a") as noted:
        noted.write(item)
    return item


def test_what_takes_long_is_begun_first_and_comes_in_its_place(tmp_path: Path) -> None:
    noted, until = tmp_path / "begun", time.monotonic() + 60
    found = mapped(functools.partial(begun, noted), "abcd", 1, deadline=until, is_long=lambda x: x == "c")
    assert list(found) == list("abcd") and noted.read_text() == "cabd"
