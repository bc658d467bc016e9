"""Engines as processes: started a few at a time, listened to, interrupted; what they decided is read from their JSON.

An engine counts as having answered only if its JSON is there and names the exit code that the process ended with: a
Python process that crashes ends with 1, which would else read as "a property is violated".
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import verify
from kernelmodel.errors import ModelError
from verify.verdict import Exit

#: the engines are found where this package was found, whatever the current folder
_ROOT = Path(verify.__file__).parent.parent
#: seconds between looks at the processes, and seconds in which an interrupted one has to write what it decided
_TICK, _GRACE = 0.05, 20.0
_SIGNALS = {int(s): s.name for s in signal.Signals}


class State(Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"


@dataclass(slots=True)
class Job:
    """One command: ``module`` with ``arguments`` and --json; its files are ``folder/name`` with .json, .txt and .err.

    ``group`` says to which engine's row it belongs; after ``limit`` seconds it is interrupted.
    """

    group: str
    name: str
    module: str
    arguments: tuple[str, ...]
    folder: Path
    limit: float | None = None
    state: State = State.WAITING
    code: int | None = None
    seconds: float = 0.0
    stopped: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _began: float = 0.0

    @property
    def words(self) -> list[str]:
        """The command, but for the interpreter."""
        return ["-m", self.module, *self.arguments, "--json", str(self.file("json"))]

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return shlex.join(["python", *self.words])

    def file(self, suffix: str) -> Path:
        """One of its files."""
        return self.folder / f"{self.name}.{suffix}"

    def start(self) -> None:
        """Start the process."""
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        # a session of its own: Ctrl-C reaches it through us, once, and not in the middle of what it then writes
        with self.file("txt").open("wb") as out, self.file("err").open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, *self.words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self.state, self._began = State.RUNNING, time.monotonic()

    def look(self) -> None:
        """Take note of the end of the process, or of its time."""
        if self._process is None or self.state is not State.RUNNING:
            return
        self.seconds = time.monotonic() - self._began
        self.code = self._process.poll()
        if self.code is not None:
            self.state = State.DONE
            if self.code < 0:
                # who is killed leaves its workers behind
                self._kill()
        elif self.limit is not None and self.seconds > self.limit + (_GRACE if self.stopped else 0):
            self.interrupt(hard=bool(self.stopped), why=f"out of time after {self.limit:g} s")

    def interrupt(self, hard: bool = False, why: str = "interrupted") -> None:
        """Ask the engine to keep what it has and to end; ``hard``: end it."""
        if self._process is None or self.state is not State.RUNNING:
            return
        self.stopped = self.stopped or why
        if hard:
            self._kill()
            self._process.wait()
            self.look()
        else:
            self._process.send_signal(signal.SIGINT)

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def lines(self) -> list[str]:
        """What it has printed so far."""
        return _lines(self.file("txt"))

    def answer(self) -> Answer:
        """What it decided."""
        if self.state is State.WAITING:
            return Answer(self, None, "not started: interrupted")
        complaint = (_lines(self.file("err")) or ["it said nothing"])[-1]
        if self.code == int(Exit.USAGE):
            return Answer(self, None, complaint, usage=True)
        try:
            record = json.loads(self.file("json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return Answer(self, None, self._died(complaint))
        if not isinstance(record, dict) or record.get("exit") != self.code:
            return Answer(self, None, self._died(complaint))
        return Answer(self, record, self.stopped)

    def _died(self, complaint: str) -> str:
        if self.stopped:
            return self.stopped
        if self.code is not None and self.code < 0:
            return f"ended by {_SIGNALS.get(-self.code, -self.code)}, without verdicts"
        return f"ended with {self.code} and without verdicts: {complaint}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job: its JSON document, or None and why; ``usage``: the engine refused its input."""

    job: Job
    record: dict[str, Any] | None
    why: str = ""
    usage: bool = False

    @property
    def code(self) -> Exit:
        """The exit code that this calls for: nothing was computed means undecided."""
        if self.record is None:
            return Exit.UNDECIDED
        return max(Exit(int(self.record["exit"])), Exit.UNDECIDED if self.why else Exit.OK)


def run(jobs: Sequence[Job], slots: int, watch: Callable[[], None] = lambda: None) -> bool:
    """Run jobs, so many at a time; True if Ctrl-C or SIGTERM ended it early, with what was decided kept.

    ``watch`` is called some twenty times a second.
    """
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    with _Interrupts() as interrupts:
        try:
            while not interrupts.count and any(j.state is not State.DONE for j in jobs):
                _turn(jobs, slots)
                watch()
                time.sleep(_TICK)
            for job in jobs:
                job.interrupt()
            # they write what they have; a second Ctrl-C waits no longer
            until = time.monotonic() + _GRACE
            while interrupts.count == 1 and any(j.state is State.RUNNING for j in jobs) and time.monotonic() < until:
                _turn(jobs, 0)
                watch()
                time.sleep(_TICK)
        finally:
            for job in jobs:
                job.interrupt(hard=True)
        watch()
    return bool(interrupts.count)


def _turn(jobs: Sequence[Job], slots: int) -> None:
    for job in jobs:
        job.look()
    running = sum(j.state is State.RUNNING for j in jobs)
    for job in [j for j in jobs if j.state is State.WAITING][: max(0, slots - running)]:
        job.start()


class _Interrupts:
    """Counts Ctrl-C and SIGTERM instead of being thrown out of whatever is under way."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        # only the main thread gets signals; whoever runs us elsewhere has his own ways
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, *_: object) -> None:
        self.count += 1


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def refuse(answers: Sequence[Answer], who: str = "") -> None:
    """ModelError with an engine's own words if it refused its input; ``who`` says of what."""
    for answer in answers:
        if answer.usage:
            raise ModelError(who + answer.why.removeprefix(f"python -m {answer.job.module}: "))
