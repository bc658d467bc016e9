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

from kernelmodel.ctext.files import TreeSpec
from kernelmodel.ctext.kernel import class_of, reading_of
from kernelmodel.errors import ModelError
from properties.catalogue import find
from verify.bmc.solve import Engine
from verify.forked import can_fork, children
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


def key_of(spec: TreeSpec, prop: str, bound: Scenario) -> str:
    """What stands for all that a verdict on a tree depends on."""
    era, reading = reading_of(spec)
    parts = [era.name, prop, bound.bound(), *sorted(f"{n} {f.fingerprint}" for n, f in reading.functions().items())]
    parts += sorted(reading.refused.values())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def judged(spec: TreeSpec, prop: str, bound: Scenario, commit: tuple[str, str]) -> Row:
    """The verdict on one commit."""
    began = time.monotonic()
    here = replace(spec, revision=commit[0])
    key = ""
    try:
        key = key_of(here, prop, bound)
        era, reading = reading_of(here)
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
    keys = [_key(spec, prop, bound, c) for c in every]
    first: dict[str, tuple[str, str]] = {}
    for commit, key in zip(every, keys, strict=True):
        if not key or key not in known:
            first.setdefault(key or commit[0], commit)
    done: dict[str, Row] = dict(known)
    ask = partial(judged, spec, prop, bound)
    wanted = list(first.values())

    def rows(found: Iterator[Row]) -> Iterator[Row]:
        for commit, key in zip(every, keys, strict=True):
            name = key or commit[0]
            if name not in done:
                done[name] = next(found)
            row = done[name]
            like = row.commit if row.commit != commit[0] else ""
            yield replace(row, commit=commit[0], subject=commit[1], like=like, seconds=0.0 if like else row.seconds)

    if min(jobs, len(wanted)) < 2 or not can_fork():
        yield from rows(map(ask, wanted))
        return
    with children(min(jobs, len(wanted))) as pool:
        yield from rows(pool.map(ask, wanted))


def _key(spec: TreeSpec, prop: str, bound: Scenario, commit: tuple[str, str]) -> str:
    try:
        return key_of(replace(spec, revision=commit[0]), prop, bound)
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
