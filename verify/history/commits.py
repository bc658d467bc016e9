"""The commits of a range, each as a tree that can be read, and the verdict on each."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from kernelmodel.ctext.kernel import class_of, reading_of
from kernelmodel.ctext.reader import Reading
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from properties.catalogue import find
from verify.bmc.solve import Engine
from verify.forked import mapped
from verify.scenario import Scenario
from verify.verdict import Result

#: the files with routines that are read, or summed up
FILES = ("mm/page_alloc.c", "mm/memory_hotplug.c", "mm/page_isolation.c", "mm/memory-failure.c")
NOT_READ = "not read"


@dataclass(frozen=True, slots=True)
class Row:
    """A commit with its verdict; ``like`` is an earlier one of which every function that is looked at is the same.

    ``key`` stands for these functions, the property and the bound: what has the same has the same verdict.
    """

    commit: str
    subject: str
    key: str
    result: str
    note: str = ""
    seconds: float = 0.0
    like: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return asdict(self)


def commits(spec: TreeSpec, span: str) -> list[tuple[str, str]]:
    """(hash, subject) of the first commit of a range A..B, and of those in it that touch the files, oldest first."""
    first, dots, last = span.partition("..")
    if not dots or not first or not last:
        raise ModelError(f"{span!r} is no range: give two revisions, such as v6.9..v6.11")
    start = _git(spec, "log", "-1", "--format=%H%x09%s", first, "--")
    between = _git(spec, "log", "--reverse", "--format=%H%x09%s", f"{first}..{last}", "--", *FILES)
    found = [tuple(line.split("\t", 1)) for line in (start + between).splitlines() if line]
    return [(commit, subject) for commit, subject in found]


def _git(spec: TreeSpec, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", spec.path, *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as error:
        raise ModelError("git is not installed: it knows the history of a tree") from error
    if done.returncode:
        why = next(iter(done.stderr.strip().splitlines()), "git refuses it")
        raise ModelError(f"{spec.path}: {why.removeprefix('fatal: ')}")
    return done.stdout


def key_of(reading: Reading, prop: str, bound: Scenario) -> str:
    """What stands for all that a verdict on a tree depends on."""
    parts = [reading.words.era, prop, bound.bound()]
    parts += sorted(f"{name} {function.fingerprint}" for name, function in reading.functions().items())
    parts += sorted(reading.refused.values())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def judged(spec: TreeSpec, prop: str, bound: Scenario, commit: tuple[str, str]) -> Row:
    """The verdict on one commit."""
    began = time.monotonic()
    here = replace(spec, revision=commit[0])
    key = ""
    try:
        era, reading = reading_of(here)
        key = key_of(reading, prop, bound)
        if reading.refused:
            raise ModelError(next(iter(reading.refused.values())))
        kernel = class_of(here, era, reading)
        kernel.sized(bound.config)
        verdict = Engine(kernel, bound).decide(find(prop))
        note = verdict.found or verdict.reason
        return Row(*commit, key, verdict.result.value, note, time.monotonic() - began)
    except ModelError as error:
        return Row(*commit, key, NOT_READ, str(error), time.monotonic() - began)


def each(
    spec: TreeSpec, prop: str, bound: Scenario, every: Sequence[tuple[str, str]], known: Mapping[str, Row], jobs: int
) -> Iterator[Row]:  # fmt: skip
    """The verdicts on commits, in their order; what ``known`` has by its key, or an earlier one had, is not asked again."""
    # what cannot be read has no key, and is asked for itself
    keys = [_key(spec, prop, bound, c) or c[0] for c in every]
    first = dict(zip(reversed(keys), reversed(every), strict=True))
    wanted = [commit for key, commit in zip(keys, every, strict=True) if key not in known and first[key] == commit]
    found = mapped(partial(judged, spec, prop, bound), wanted, jobs)
    done: dict[str, Row] = dict(known)
    for (commit, subject), key in zip(every, keys, strict=True):
        if key not in done:
            done[key] = next(found)
        row = done[key]
        like = row.commit if row.commit != commit else ""
        yield replace(row, commit=commit, subject=subject, like=like, seconds=0.0 if like else row.seconds)


def _key(spec: TreeSpec, prop: str, bound: Scenario, commit: tuple[str, str]) -> str:
    try:
        return key_of(reading_of(replace(spec, revision=commit[0]))[1], prop, bound)
    except ModelError:
        return ""


def bisected(spec: TreeSpec, prop: str, bound: Scenario, every: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """The verdicts on the first and the last commit, and on those between that lead to the first that differs."""
    low, high = 0, len(every) - 1
    first = judged(spec, prop, bound, every[low])
    yield first
    if high == low:
        return
    last = judged(spec, prop, bound, every[high])
    yield last
    if last.result == first.result:
        return
    while high - low > 1:
        middle = (low + high) // 2
        row = judged(spec, prop, bound, every[middle])
        yield row
        low, high = (middle, high) if row.result == first.result else (low, middle)


def turns(rows: Sequence[Row]) -> list[Row]:
    """The commits whose verdict is another one than that of the one before."""
    return [b for a, b in pairwise(rows) if a.result != b.result]


def bad(rows: Sequence[Row]) -> bool:
    """Whether a commit violates the property."""
    return any(r.result == Result.VIOLATED.value for r in rows)
