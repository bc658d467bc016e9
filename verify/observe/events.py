"""A trace as events: the text of tracefs or of ``trace-cmd report``, plain, gzip or zstd, line by line in bounded memory."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from kernelmodel.errors import ModelError
from verify.observe.probes import GROUP

_LINE = re.compile(
    r"^\s*(?P<task>.+?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?\[(?P<cpu>\d+)\]\s+(?:(?P<flags>[^\s\d]\S{3,5}|\S*\.\S*\D\S*|d\S+)\s+)?"
    r"(?P<stamp>\d+(?:\.\d+)?):\s+(?:\w+:)?(?P<name>\w+):\s?(?P<rest>.*)$"
)
_FIELD = re.compile(r"(\w+)=(\S+)")
_LOST = re.compile(r"CPU[: ]*\d+.*?(\d+) EVENTS|\[LOST (\d+) EVENTS\]|\[(\d+) EVENTS DROPPED\]")
_SAID = re.compile(rf"^#\s*{GROUP}: (\S+)\s*(.*)$")
#: fields that are addresses, which some kernels print without 0x
_ADDRESSES = frozenset(("zone", "pcp", "page", "list"))
_TRACE_DAT = b"\x17\x08\x44tracing"


@dataclass(frozen=True, slots=True)
class Event:
    """One line: its number, stamp (in whatever unit), CPU, task and context, the event's name and its fields."""

    line: int
    stamp: float
    cpu: int
    pid: int
    task: str
    context: str
    name: str
    fields: dict[str, int]

    def __getitem__(self, name: str) -> int:
        """A field; KeyError where the line has none of that name."""
        return self.fields[name]


@dataclass(slots=True)
class Quality:
    """What is known of how complete a trace is."""

    said: dict[str, str] = field(default_factory=dict)
    events: int = 0
    lost: int = 0
    unreadable: int = 0
    backwards: int = 0
    last: float = float("-inf")

    @property
    def lost_in_all(self) -> int:
        """Events that the buffers had no room for, by the trace itself and by what the recorder counted."""
        return max(self.lost, self.number("lost"))

    @property
    def missed(self) -> frozenset[str] | None:
        """The events of which probes missed some; None where the recorder has noted only that they did."""
        words = self.said.get("missed", "0").split()
        if words[:1] != ["0"] and len(words) == 1:
            return None
        return frozenset(w.partition("=")[0] for w in words[1:])

    def number(self, name: str) -> int:
        """A number that the recorder has noted; 0 where it has not."""
        word = self.said.get(name, "0").split(" ")[0]
        return int(word) if word.isdecimal() else 0


def events(lines: Iterable[str], quality: Quality) -> Iterator[Event]:
    """The events of a trace; what is noted of its quality goes to ``quality``."""
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            if said := _SAID.match(line):
                quality.said[said[1]] = said[2].strip()
            continue
        found = _LINE.match(line)
        if found is None:
            if lost := _LOST.search(line):
                quality.lost += int(next(n for n in lost.groups() if n))
            elif line.strip() and not _CPUS.match(line):
                quality.unreadable += 1
            continue
        fields = {}
        for name, word in _FIELD.findall(found["rest"]):
            value = _number(name, word)
            if value is not None:
                fields[name] = value
        stamp = float(found["stamp"])
        quality.events += 1
        quality.backwards += stamp < quality.last
        quality.last = stamp
        flags = found["flags"] or ""
        yield Event(
            number, stamp, int(found["cpu"]), int(found["pid"]), found["task"].strip(), flags[2:3], found["name"], fields
        )  # fmt: skip


#: how trace-cmd begins
_CPUS = re.compile(r"^\s*(cpus=\d+|version = \d+)\s*$")


def _number(name: str, word: str) -> int | None:
    word = word.rstrip(",)")
    try:
        return int(word, 16) if name in _ADDRESSES else int(word, 0)
    except ValueError:
        return None


def lines_of(path: str) -> Iterator[str]:
    """The lines of a trace file, whatever it is packed with; ModelError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    notes = Path(f"{path}.notes")
    if notes.is_file():
        # what the recorder notes has no place in a trace.dat
        yield from notes.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if start.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as text:
                yield from text
        except (EOFError, OSError) as error:
            raise ModelError(f"{path}: a broken gzip file: {error}") from error
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        yield from _through("zstd", ["-dcq", path])
    elif start.startswith(_TRACE_DAT):
        yield from _through("trace-cmd", ["report", "-i", path])
    else:
        with Path(path).open("r", encoding="utf-8", errors="replace") as text:
            yield from text


def _through(program: str, arguments: list[str]) -> Iterator[str]:
    if shutil.which(program) is None:
        raise ModelError(f"{arguments[-1]} is read by {program}, which is not there: install {program}, or unpack it")
    with subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
        out: IO[Any] | None = made.stdout
        assert out is not None
        yield from io.TextIOWrapper(out, encoding="utf-8", errors="replace")
    if made.returncode:
        raise ModelError(f"{program} cannot read {arguments[-1]}: it ended with {made.returncode}")
