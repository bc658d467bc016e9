"""Who runs: the routines that any number of tasks execute any number of times, seen from one CPU and one zone.

The tracked CPU stands in the middle of three: the one before it for all CPUs that a loop visits earlier, the one after
it for all that it visits later.  The tracked zone is the first of two: the other stands for all other zones.  One
pageblock of the zone stands for all of them, since nothing that is read from a pageblock is followed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kernelmodel.cells import names
from kernelmodel.config import Config
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.folded_graph import FoldedGraph, copied
from kernelmodel.graphs.remembered import remembered
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, PageRange, Zone
from kernelmodel.ops import Routine
from kernelmodel.tasks import Given, TaskKind, kinds_of
from kernelmodel.terms import Cell, reg
from kernelmodel.text import KernelText
from verify.ordering.loosened import Loose

#: numbers of CPUs and zones, and the tracked ones among them
CPUS, CPU, ZONES, ZONE = 3, 1, 2, 0


@dataclass(frozen=True, slots=True)
class Size:
    """A machine as the projection sees it: so many CPUs, of which ``cpu`` is the tracked one.

    ``pcp_order`` is the largest order of a page on a pcplist.
    """

    cpus: int = CPUS
    cpu: int = CPU
    pcp_order: int = 0

    def of(self, kernel: type[KernelText]) -> Size:
        """The same with the larger pages of a kernel's pcplists: those of order 1 stand for all."""
        return replace(self, pcp_order=min(kernel.pcp_order, 1))

    @property
    def config(self) -> Config:
        """The machine's size for the kernel's text."""
        return Config(
            nr_cpus=self.cpus, nr_zones=ZONES, block_types=(MigrateType.MOVABLE,) * ZONES, pcp_order=self.pcp_order
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task: the routine that it executes, the CPU it is on, and the range of its open inputs."""

    name: str
    make: Callable[[Any], Routine]
    cpu: int
    worker: bool = False
    inputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    #: the name of the kind of task, wherever it runs
    task: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """The control graph of one kind of task."""

    kind: Kind
    graph: FoldedGraph


def kinds(kernel: type[KernelText], size: Size) -> Iterator[Kind]:
    """All kinds of tasks; those that work on the lists of the CPU on which they are appear on the tracked one and on another."""
    here = size.cpu
    for task in kinds_of(kernel).values():
        if not task.proved:
            continue
        on_lists = task.on_lists or (task.of_order and size.pcp_order)
        for cpu in [here, *([0] if here and on_lists else [])]:
            at = "" if cpu == here else " elsewhere"
            for z in range(ZONES if task.zones else 1):
                zone = Zone(z)
                types = {"migratetype": (0, PCPTYPES - 1)} if task.asks_for_page else {}
                given = Given(cpu, zone, Page(-1, z, zone), reg("migratetype"), PageRange(z, z, zone))
                of = f"{at} of another zone" if z else at
                yield Kind(f"{task.name}{of}", _making(task, given), cpu, task.serves and cpu == here, types, task.name)


def _making(task: TaskKind, given: Given) -> Callable[[Any], Routine]:
    return lambda kernel: task.make(kernel, given)


def texts(kernel: type[KernelText], size: Size | None = None, loose: Loose | None = None) -> list[Text]:
    """The control graphs of all kinds of tasks, with ``loose`` loads in them; ModelError where a routine cannot be folded."""
    size = (size or Size()).of(kernel)
    instance = kernel(size.config)
    tasks = kinds_of(kernel)
    found = [
        Text(
            k,
            remembered(
                kernel, tasks[k.task].make, (size, k.name, k.cpu), functools.partial(_graph, instance, k), copied
            ),
        )
        for k in kinds(kernel, size)
    ]
    if loose is not None:
        for text in found:
            loose.apply(text.kind.task, text.graph)
    return found


def _graph(instance: KernelText, kind: Kind, twice: bool | None = None) -> FoldedGraph:
    # a zone that has pages keeps some: see the assumptions
    populated = {Cell(name, (z,)): 1 for name in names(lambda kind: kind.never_zero) for z in range(ZONES)}
    return fold(instance, lambda: kind.make(instance), (kind.cpu,), populated, twice=twice)
