"""One job in a process of its own: what it does to its process, or its process to it, costs the job and nothing else."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernelmodel.errors import ModelError

_ROOT = Path(__file__).parents[2]


class LostError(ModelError):
    """A job came to nothing, however often it was tried: nothing more is decided."""


def why_stopped(stop: BaseException) -> str:
    """What ended a row of jobs before its end, for people."""
    if isinstance(stop, TimeoutError):
        return "out of time"
    return str(stop) if isinstance(stop, LostError) else "interrupted"


class JobError(Exception):
    """A job came to nothing: its process died, took too long, or had too little memory."""


def alone(function: Callable[[Any], Any], item: Any, seconds: float, memory: int = 0) -> Any:
    """``function(item)`` in a new process, which may take so many seconds and bytes (0: as many as there are).

    Raises what the function raises, and :class:`JobError` where there is no answer.
    """
    with tempfile.TemporaryDirectory(prefix="straypage-") as folder:
        answer = Path(folder) / "answer"
        command = [sys.executable, "-m", "verify.spread.job", str(answer), str(memory)]
        try:
            done = subprocess.run(
                command, input=pickle.dumps((function, item)), cwd=_ROOT, timeout=seconds, check=False, capture_output=True
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise JobError(f"it took longer than {seconds:.0f} s") from None
        try:
            failed, value = pickle.loads(answer.read_bytes())
        except (OSError, EOFError, pickle.UnpicklingError):
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            words = f": {last[0]}" if last else ""
            raise JobError(f"its process ended with {done.returncode} and no answer{words}") from None
    if failed:
        if isinstance(value, MemoryError):
            raise JobError("out of memory")
        raise value
    return value
