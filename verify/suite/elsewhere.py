"""The engines of a run on other machines: the same commands, and files as if they had been run here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from verify.spread.alone import LostError
from verify.spread.cluster import SECONDS, spread
from verify.suite.jobs import Job, State

#: of a job: on standard output and standard error, and what --json writes
_FILES = ("txt", "err", "json")


@dataclass(frozen=True, slots=True)
class Words:
    """A command without files: it is interrupted after ``limit`` seconds."""

    module: str
    arguments: tuple[str, ...]
    limit: float | None

    def __str__(self) -> str:
        return " ".join(["python", "-m", self.module, *self.arguments])


def ran(words: Words) -> tuple[int, float, dict[str, bytes]]:
    """The exit code of a command, its seconds, and its files by suffix; run where this is."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="straypage-") as folder:
        files = {suffix: Path(folder) / f"job.{suffix}" for suffix in _FILES}
        with files["txt"].open("wb") as out, files["err"].open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", words.module, *words.arguments, "--json", str(files["json"])],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
            try:
                code = process.wait(words.limit)
            except subprocess.TimeoutExpired:
                process.terminate()
                code = process.wait()
        return code, time.monotonic() - began, {s: f.read_bytes() for s, f in files.items() if f.exists()}


def run_elsewhere(jobs: Sequence[Job], scheduler: str, watch: Callable[[], None] = lambda: None) -> bool:
    """Run jobs on the workers of a scheduler; True if an interrupt, or a job that came to nothing, ended it early.

    Raises ModelError where there is no scheduler or worker.
    """
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    items = [Words(job.module, job.arguments, job.limit) for job in jobs]
    left = iter(jobs)
    try:
        for code, seconds, files in spread(ran, items, scheduler, seconds=SECONDS):
            job = next(left)
            for suffix, text in files.items():
                job.file(suffix).write_bytes(text)
            job.state, job.code, job.seconds = State.DONE, code, seconds
            watch()
    except KeyboardInterrupt:
        return True
    except LostError as error:
        lost = next(left)
        lost.state, lost.stopped = State.DONE, str(error)
        watch()
        return True
    return False
