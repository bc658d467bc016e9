"""``python -m verify.spread.job FILE BYTES``: the process of one job.

It reads a function and its argument from standard input, may have so many bytes of memory (0: as many as there are), and
writes to the file whether it raised something, and what it returned or raised.
"""

from __future__ import annotations

import contextlib
import pickle
import resource
import sys
from pathlib import Path

from verify.spread.alone import JobError


def main(arguments: list[str]) -> int:
    """Do one job; returns 0."""
    answer, memory = arguments
    if int(memory):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    function, item = pickle.loads(sys.stdin.buffer.read())
    try:
        found = (False, function(item))
    except Exception as error:
        found = (True, error)
    try:
        written = pickle.dumps(found)
    except Exception as error:
        written = pickle.dumps((True, JobError(f"what it found cannot be sent: {error}")))
    Path(answer).write_bytes(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
