"""A process with its children: its time, and the memory of all of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rows import (
    ROOT,
)


@dataclass(slots=True)
class Process:
    """A process that has ended, and everything it started."""

    seconds: float
    code: int
    peak_mb: float
    output: str
    timed_out: bool


def _tree(pid: int) -> Iterable[int]:
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _tree(int(child))


def _proportional_mb(pid: int) -> float:
    """Memory of one process; a page that forked processes share is split among them."""
    with suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def environment_for(path: str, **more: str) -> dict[str, str]:
    """What a benchmark's command finds: modules on ``path``, and what Python has compiled is kept, as on a user's machine."""
    environment = {**os.environ, "PYTHONPATH": path, **more}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run(command: Sequence[str], limit: float, cwd: str | Path | None = None) -> Process:
    """Run a command to its end or to the limit; the peak is that of the whole process tree where /proc tells it."""
    environment = environment_for(os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    sampled, over = 0.0, threading.Event()
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd, env=environment, start_new_session=True
        )

        def watch() -> None:
            nonlocal sampled
            while not over.wait(0.1):
                sampled = max(sampled, sum(map(_proportional_mb, _tree(child.pid))))
                if time.perf_counter() - began > limit:
                    with suppress(OSError):
                        os.killpg(child.pid, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            over.set()
        seconds = time.perf_counter() - began
        watcher.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    own = usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return Process(seconds, child.returncode, max(own, sampled), text, child.returncode == -signal.SIGKILL)
