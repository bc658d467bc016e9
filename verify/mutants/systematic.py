"""``python -m verify.mutants --systematic``: every one-line mutant of a kernel's text, in parallel, to be taken up again."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from kernelmodel import kernels
from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.versions.systematic import Mutation, mutations
from verify.command import write_text
from verify.forked import can_fork, children, mapped
from verify.mutants.judge import CRASHED, DISAGREE, ENGINES, UNDECIDED, Record, judge
from verify.mutants.reviewed import Reason, reason_of, reasons
from verify.mutants.survey import heading, line, markdown, open_, summary
from verify.report import write_json
from verify.spread.alone import LostError, why_stopped
from verify.spread.version import digest_of
from verify.verdict import Exit

SCHEMA = "straypage-systematic-1"
#: seconds for one mutant
PATIENCE = 120.0


def run(options: argparse.Namespace) -> int:
    """A systematic run; returns the exit code.  ModelError for options that do not fit."""
    if options.kernel and len(options.kernel) > 1:
        raise ModelError("--systematic is about one kernel: give --kernel once")
    kernel = kernels.kernel(options.kernel[0] if options.kernel else "v5.11")
    engines = tuple(e for e in ENGINES if not options.engine or e in options.engine)
    if not engines:
        raise ModelError(f"--engine {options.engine[0]} has no part in --systematic: choose of {', '.join(ENGINES)}")
    todo = mutations(kernel, options.of)
    known = reasons()
    store = Store(options.resume, _version(kernel, engines))
    records: list[Record] = []
    interrupted = False

    def say(text: str) -> None:
        if not options.quiet:
            print(text, flush=True)

    say(heading())
    try:
        for record in _all(kernel, todo, engines, options, store):
            records.append(record)
            say(line(record, known))
    except (KeyboardInterrupt, LostError) as stop:
        interrupted = True
        kept = f"; {options.resume} has them: the same command goes on" if options.resume else ""
        print(
            f"\npython -m verify.mutants: {why_stopped(stop)} after {len(records)} of {len(todo)} mutants{kept}",
            file=sys.stderr,
        )
    order = {m.digest: i for i, m in enumerate(todo)}
    records.sort(key=lambda r: order[r.digest])
    say(summary(records, known))
    code = exit_code(records, known, interrupted)
    if options.json:
        rows = [{**r.as_json(), "reviewed": _reason(reason_of(r, known))} for r in records]
        write_json(options.json, {"schema": SCHEMA, "kernel": kernel.name, "engines": list(engines),
                                  "interrupted": interrupted, "exit": int(code), "mutants": rows})  # fmt: skip
    if options.markdown and not interrupted:
        write_text(options.markdown, markdown(kernel.name, engines, records, known))
    return int(code)


def _reason(found: Reason | None) -> dict[str, str] | None:
    return None if found is None else {"verdict": found.verdict, "reason": found.reason}


def exit_code(records: Sequence[Record], known: dict[str, Reason], interrupted: bool = False) -> Exit:
    """71 for a crash, 70 where engines disagree, 3 for what is undecided, 1 for a survivor without a reason, else 0."""
    statuses = {r.status for r in records}
    if CRASHED in statuses:
        return Exit.CRASHED
    if DISAGREE in statuses:
        return Exit.DISAGREE
    if UNDECIDED in statuses or interrupted:
        return Exit.UNDECIDED
    return Exit.VIOLATED if any(open_(r, known) for r in records) else Exit.OK


class Store:
    """Results in a file of JSON lines, each of which counts only for the text and the engines that it is from."""

    def __init__(self, path: str | None, version: str) -> None:
        self.path, self.version = None if path is None else Path(path), version
        self.known: dict[str, Record] = {}
        if self.path is not None and self.path.exists():
            for text in self._lines():
                try:
                    entry = json.loads(text)
                    if entry.pop("version") == version:
                        self.known[entry["digest"]] = Record(**entry)
                except (ValueError, KeyError, TypeError, AttributeError):
                    # a line that was cut off when the run was killed
                    continue

    def _lines(self) -> list[str]:
        assert self.path is not None
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"--resume {self.path}: cannot be read: {error}") from error

    def add(self, record: Record) -> None:
        """Keep a result, at once."""
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"version": self.version, **record.as_json()}) + "\n")
        except OSError as error:
            raise ModelError(f"--resume {self.path}: cannot be written: {error.strerror}") from error


def _version(kernel: type[KernelText], engines: Sequence[str]) -> str:
    """A hash of everything that a result depends on: this program's own text, the kernel, the engines."""
    return digest_of(f"{kernel.name} {engines}")


#: set before the children are forked, for kernel classes cannot be sent to them
_task: list[tuple[type[KernelText], tuple[str, ...], float]] = []


def _one(mutation: Mutation) -> Record:
    kernel, engines, seconds = _task[0]
    return judge(kernel, mutation, engines, seconds)


def _named(kernel: str, engines: tuple[str, ...], seconds: float, digest: str) -> Record:
    """The same of a mutation that is known by its digest, where none can be sent."""
    text = kernels.kernel(kernel)
    return judge(text, next(m for m in mutations(text, []) if m.digest == digest), engines, seconds)


def _all(
    kernel: type[KernelText], todo: Sequence[Mutation], engines: tuple[str, ...], options: Any, store: Store
) -> Iterator[Record]:
    """What is known, then the rest as it comes."""
    _task[:] = [(kernel, engines, options.timeout or PATIENCE)]
    yield from (store.known[m.digest] for m in todo if m.digest in store.known)
    rest = [m for m in todo if m.digest not in store.known]
    if options.scheduler:
        one = functools.partial(_named, kernel.name, engines, _task[0][2])
        for record in mapped(one, [m.digest for m in rest], options.jobs, options.scheduler):
            store.add(record)
            yield record
        return
    if options.jobs < 2 or len(rest) < 2 or not can_fork():
        for m in rest:
            record = _one(m)
            store.add(record)
            yield record
        return
    with children(min(options.jobs, len(rest))) as pool:
        for future in as_completed([pool.submit(_one, m) for m in rest]):
            record = future.result()
            store.add(record)
            yield record
