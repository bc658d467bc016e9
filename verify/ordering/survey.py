"""Every property of every kernel under every memory model, in one small configuration: a table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.kernels import kernel
from kernelmodel.memory_model import MODELS, Memory
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from properties.property import Property
from verify import page
from verify.explore.finite import Finite
from verify.explore.search import Limits, room_mb
from verify.explore.solve import NO_DEADLOCK, Explorer
from verify.forked import children
from verify.scenario import Scenario, option_of
from verify.verdict import Exit, Result

#: frees alone: where under sequential consistency the free path has no race with the drain
TASKS: dict[str, Any] = {"frees": 1, "allocs": 0, "updates": 1, "migrations": 0}
PAGES = 2
MARKS = {
    Result.HOLDS: "+", Result.PROVED: "+", Result.VIOLATED: "x", Result.UNDECIDED: "?", Result.VACUOUS: "o",
    Result.NOT_APPLICABLE: ".",
}  # fmt: skip
#: a search that takes longer is left undecided
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Cell:
    """What a kernel's properties are under one memory model."""

    kernel: str
    memory: Memory
    results: dict[str, Result]


def decide(name: str, memory: Memory) -> Cell:
    """One search; a model that cannot be followed leaves everything undecided."""
    groups: dict[tuple[str, ...], list[Property]] = {}
    for prop in PROPERTIES.values():
        groups.setdefault(missing(prop), []).append(prop)
    results: dict[str, Result] = {}
    for more, properties in groups.items():
        names = [p.name for p in properties]
        try:
            explorer = Explorer(kernel(name), Finite(scenario(more), PAGES), limits=_limits(), memory=memory)
            found = explorer.decide(properties, deadlock=not more)
        except ModelError:
            results |= dict.fromkeys(names, Result.UNDECIDED)
        else:
            results |= {v.property: v.result for v in found}
    order = [*PROPERTIES, NO_DEADLOCK]
    return Cell(name, memory, {n: results.get(n, Result.UNDECIDED) for n in order})


def _limits() -> Limits:
    return Limits(time.monotonic() + _SECONDS, room_mb())


def scenario(more: Sequence[str] = ()) -> Scenario:
    """The configuration, with one more task of some kinds."""
    # made anew: a kernel may have declared tasks of its own meanwhile
    return Scenario(2, **{**TASKS, **dict.fromkeys(more, 1)})


def missing(prop: Property) -> tuple[str, ...]:
    """The tasks without which a property says nothing, and of which the configuration has none."""
    return tuple(t for t in prop.needs_tasks if not TASKS.get(t))


def survey(kernels: Sequence[str], jobs: int | None = None) -> Iterator[Cell]:
    """All cells, kernel by kernel."""
    work = [(k, m) for k in kernels for m in MODELS]
    with children(min(jobs or os.cpu_count() or 1, len(work))) as pool:
        yield from pool.map(decide, *zip(*work, strict=True))


def bound() -> str:
    """What was searched, in words."""
    return Finite(scenario(), PAGES).bound(V5_11)


def _with_more() -> Iterator[tuple[str, str]]:
    for prop in PROPERTIES.values():
        if more := missing(prop):
            yield prop.name, ", ".join(f"{option_of(t)} 1" for t in more)


def print_survey(kernels: Sequence[str], markdown: bool = False) -> Exit:
    """Print the table as it comes; undecided if anything under sequential consistency is."""
    rows: dict[str, dict[str, str]] = {}
    bad = False
    for cell in survey(kernels):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{cell.kernel} {cell.memory}", end="", file=sys.stderr, flush=True)
        for name, result in cell.results.items():
            row = rows.setdefault(name, {})
            row[cell.kernel] = row.get(cell.kernel, "") + MARKS[result]
        bad |= cell.memory == "sc" and Result.UNDECIDED in cell.results.values()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if markdown:
        lines = [f"| property | {' | '.join(kernels)} |", "|---" * (len(kernels) + 1) + "|"]
        lines += [f"| `{n}` | {' | '.join(f'`{row[k]}`' for k in kernels)} |" for n, row in rows.items()]
        print("\n".join(lines))
    else:
        print(page.paragraph(f"each mark, in this order: {', '.join(MODELS.values())}"))
        words = "+ holds, x violated, ? undecided, o vacuous, . says nothing of that kernel"
        print(page.paragraph(words, "  "))
        print(page.paragraph(f"bound: {bound()}", "  ", "    "))
        for name, more in _with_more():
            print(page.paragraph(f"{name}: also {more}", "  ", "    "))
        wide = max(map(len, rows), default=0)
        for part in _parts(kernels, page.width() - wide - 1):
            print(f"\n{'':{wide}} {' '.join(f'{k:6}' for k in part)}".rstrip())
            for name, row in rows.items():
                print(f"{name:{wide}} {' '.join(f'{row[k]:6}' for k in part)}".rstrip())
    return Exit.UNDECIDED if bad else Exit.OK


def _parts(kernels: Sequence[str], room: int) -> Iterator[Sequence[str]]:
    each = max(1, room // 7)
    for i in range(0, len(kernels), each):
        yield kernels[i : i + each]
