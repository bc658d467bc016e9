"""``python -m verify.mutants --tree DIR --systematic``: every small change of each function that is read from a tree's C."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmodel.ctext.kernel import class_of, read_whole
from kernelmodel.ctext.reader import Reading
from kernelmodel.ctext.small_changes import SmallChange, small_changes
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import nearest
from properties.catalogue import PROPERTIES
from verify import page
from verify.explore.finite import Finite, default_pages
from verify.explore.solve import Explorer
from verify.forked import mapped
from verify.mutants.in_c import changed_tree, files_of
from verify.scenario import Scenario
from verify.verdict import Exit, Result, Verdict

KILLED, SAME, SURVIVES, UNREAD, OPEN = "killed", "the same", "survives", "not read", "undecided"
#: frees and allocations on two CPUs, and limits that change meanwhile
BOUND = Scenario(cpus=2, frees=1, allocs=1, updates=1)


@dataclass(frozen=True, slots=True)
class Changed:
    """A function with one small change, in the file and at the line where the tree has it."""

    function: str
    file: str
    line: int
    change: SmallChange


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of it: ``why`` has the property that is violated, or the reason."""

    changed: Changed
    status: str
    why: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        c = self.changed
        return {
            "function": c.function, "file": c.file, "line": c.line, "change": c.change.words, "status": self.status,
            "why": self.why, "seconds": self.seconds,
        }  # fmt: skip


def changes_of(reading: Reading, of: Sequence[str]) -> list[Changed]:
    """The changes of all functions of a tree that are read, or of some; ModelError where one of them is not read."""
    functions = {made.function.name: made.function for made in reading.translated.values()}
    for name in of:
        if name not in functions:
            raise nearest("function of the tree that is read", name, functions)
    found = []
    for name, function in functions.items():
        if not of or name in of:
            found += [Changed(name, function.file, function.line + c.line, c) for c in small_changes(function.text)]
    return found


def visit(spec: TreeSpec, of: Sequence[str], jobs: int) -> Iterator[Judged]:
    """The rows of a tree, in their order; ModelError where it cannot be read."""
    era, reading = read_whole(spec)
    changes = changes_of(reading, of)
    unchanged = {v.property: v.result for v in _verdicts(class_of(spec, era, reading))}
    return mapped(functools.partial(_judged, spec, files_of(reading), _texts(reading), unchanged), changes, jobs)


def _texts(reading: Reading) -> dict[str, str]:
    return {method: made.python for method, made in reading.translated.items()}


def _verdicts(kernel: type[KernelText]) -> list[Verdict]:
    kernel.sized(BOUND.config)
    explorer = Explorer(kernel, Finite(BOUND, default_pages(BOUND)))
    return explorer.decide([p for p in PROPERTIES.values() if not explorer.why_not(p)])


def _judged(
    spec: TreeSpec, files: dict[str, str], texts: dict[str, str], unchanged: dict[str, Result], changed: Changed
) -> Judged:
    began = time.monotonic()
    try:
        status, why = _status(spec, files, texts, unchanged, changed)
    except ModelError as error:
        status, why = UNREAD, str(error)
    return Judged(changed, status, why, time.monotonic() - began)


def _status(
    spec: TreeSpec, files: dict[str, str], texts: dict[str, str], unchanged: dict[str, Result], changed: Changed
) -> tuple[str, str]:
    with changed_tree(spec, files, changed.file, changed.function, changed.change) as copy:
        era, reading = read_whole(copy)
        if _texts(reading) == texts:
            return SAME, "what is read is the same"
        verdicts = _verdicts(class_of(copy, era, reading))
    for verdict in verdicts:
        if verdict.result is Result.VIOLATED and verdict.replayed is not False:
            return KILLED, verdict.property
    for verdict in verdicts:
        if verdict.result is Result.VACUOUS and unchanged.get(verdict.property) is not Result.VACUOUS:
            return KILLED, f"{verdict.property} is vacuous: nothing comes to where it says something"
    unsure = [v for v in verdicts if v.result in (Result.UNDECIDED, Result.VIOLATED)]
    return (OPEN, f"{unsure[0].property}: {unsure[0].reason}") if unsure else (SURVIVES, "no property is violated")


def line(row: Judged) -> str:
    """One row, for people."""
    c = row.changed
    head = f"  {row.status:9} {c.file}:{c.line}: "
    return page.paragraph(f"{c.function}(): {c.change.words}: {row.why}; {row.seconds:.1f} s", head, " " * 14)


def summary(rows: Sequence[Judged]) -> str:
    """What they come to."""
    counts = Counter(r.status for r in rows)
    told = ", ".join(f"{counts[s]} {s}" for s in (KILLED, SAME, SURVIVES, UNREAD, OPEN) if counts[s])
    return f"{len(rows)} small changes of the C: {told or 'none'}"


def exit_code(rows: Sequence[Judged], interrupted: bool) -> Exit:
    """3 if something was not decided; who survives is told, for a person to say whether it may."""
    return Exit.UNDECIDED if interrupted or any(r.status == OPEN for r in rows) else Exit.OK
