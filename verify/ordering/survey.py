"""Every property of every kernel under every memory model, in one small configuration: a table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmodel.kernels import kernel
from kernelmodel.memory_model import MODELS, Memory
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from properties.property import Property
from verify import page
from verify.explore.finite import Finite
from verify.explore.search import Limits, room_mb
from verify.explore.solve import NO_DEADLOCK, Explorer
from verify.forked import mapped
from verify.scenario import Scenario, option_of, usual
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


def decide(asked: tuple[str, Memory]) -> Cell:
    """A kernel under a memory model; what cannot be followed, or takes too long, is undecided."""
    name, memory = asked
    chosen = kernel(name)
    groups: dict[tuple[str, ...], list[Property]] = {}
    for prop in PROPERTIES.values():
        groups.setdefault(missing(prop), []).append(prop)
    results: dict[str, Result] = {}
    for more, properties in groups.items():
        limits = Limits(time.monotonic() + _SECONDS, room_mb())
        explorer = Explorer(chosen, Finite(scenario(more, chosen), PAGES), limits=limits, memory=memory)
        results |= {v.property: v.result for v in explorer.decide(properties, deadlock=not more)}
    return Cell(name, memory, {n: results[n] for n in (*PROPERTIES, NO_DEADLOCK)})


def scenario(more: Sequence[str] = (), text: type[KernelText] | None = None) -> Scenario:
    """The configuration, with one more task of some kinds, and those of its own that a kernel usually has."""
    # made anew: a kernel may have declared tasks of its own meanwhile
    return Scenario(2, **{**TASKS, **dict.fromkeys(more, 1), **usual(text)})


def missing(prop: Property) -> tuple[str, ...]:
    """The tasks without which a property says nothing, and of which the configuration has none."""
    return tuple(t for t in prop.needs_tasks if not TASKS.get(t))


def survey(kernels: Sequence[str]) -> Iterator[Cell]:
    """All cells, kernel by kernel."""
    yield from mapped(decide, [(k, m) for k in kernels for m in MODELS], os.cpu_count() or 1)


def _with_more(kernels: Sequence[str]) -> Iterator[tuple[str, str]]:
    for prop in PROPERTIES.values():
        if more := missing(prop):
            yield prop.name, ", ".join(f"{option_of(t)} 1" for t in more)
    for name in kernels:
        if own := usual(kernel(name)):
            words = {k.option: k.words for k in kernel(name).tasks}
            yield name, ", ".join(f"{n} {words[option]}" for option, n in own.items())


def print_survey(kernels: Sequence[str], markdown: bool = False) -> Exit:
    """Print the table as it comes; undecided if anything under sequential consistency is."""
    rows: dict[str, dict[str, str]] = {}
    bad = False
    for cell in survey(kernels):
        page.progress(f"{cell.kernel} {cell.memory}")
        for name, result in cell.results.items():
            row = rows.setdefault(name, {})
            row[cell.kernel] = row.get(cell.kernel, "") + MARKS[result]
        bad |= cell.memory == "sc" and Result.UNDECIDED in cell.results.values()
    page.progress("")
    if markdown:
        lines = [f"| property | {' | '.join(kernels)} |", "|---" * (len(kernels) + 1) + "|"]
        lines += [f"| `{n}` | {' | '.join(f'`{row[k]}`' for k in kernels)} |" for n, row in rows.items()]
        print("\n".join(lines))
    else:
        print(page.paragraph(f"each mark, in this order: {', '.join(MODELS.values())}"))
        words = "+ holds, x violated, ? undecided, o vacuous, . says nothing of that kernel"
        print(page.paragraph(words, "  "))
        print(page.paragraph(f"bound: {Finite(scenario(), PAGES).bound(V5_11)}", "  ", "    "))
        for name, more in _with_more(kernels):
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
