"""The engines of a run on other machines: the same commands, and files as if they had been run here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from verify.spread.alone import LostError
from verify.spread.cluster import spread
from verify.suite.jobs import Job, State, run

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


def ran(words: Words) -> tuple[int | None, float, str, dict[str, bytes]]:
    """The exit code of a command, its seconds, why it was stopped, and its files by suffix; run where this is."""
    with tempfile.TemporaryDirectory(prefix="straypage-") as folder:
        job = Job("", "job", words.module, words.arguments, Path(folder), words.limit)
        run([job], 1)
        files = {suffix: job.file(suffix) for suffix in _FILES}
        return job.code, job.seconds, job.stopped, {s: f.read_bytes() for s, f in files.items() if f.exists()}


def run_elsewhere(jobs: Sequence[Job], scheduler: str, watch: Callable[[], None] = lambda: None) -> bool:
    """Run jobs on the workers of a scheduler; True if an interrupt, or a job that came to nothing, ended it early.

    Raises ModelError where there is no scheduler or worker.
    """
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    items = [Words(job.module, job.arguments, job.limit) for job in jobs]
    left = iter(jobs)
    try:
        for code, seconds, stopped, files in spread(ran, items, scheduler):
            job = next(left)
            for suffix, text in files.items():
                job.file(suffix).write_bytes(text)
            job.state, job.code, job.seconds, job.stopped = State.DONE, code, seconds, stopped
            watch()
    except KeyboardInterrupt:
        return True
    except LostError as error:
        lost = next(left)
        lost.state, lost.stopped = State.DONE, str(error)
        watch()
        return True
    return False
