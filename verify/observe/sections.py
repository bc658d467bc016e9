"""Does nobody but one task work on a CPU's pcplist at a time, as the text of the kernel's era has it?

In the text free_unref_page_commit() and rmqueue_bulk() run in the critical section of the CPU's own pcplist; that is looked up
in its control graphs, not believed.  So between the entry and the return of one of them no other task, and no interrupt,
enters one for the same zone on that CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from kernelmodel.cells import section_of
from kernelmodel.graphs.folded import fold
from kernelmodel.text import KernelText
from verify.explore.forgotten import held
from verify.observe.events import Event
from verify.scenario import Scenario

#: the recorded functions that work on the CPU's own pcplist, by their events, with the routine in our text
WORKS = {"commit": "free_unref_page_commit", "refill": "rmqueue_bulk"}
#: at most so many are kept
_KEPT = 3


def in_section(kernel: type[KernelText], routine: str) -> bool:
    """Whether a text performs each operation of a routine in the critical section of a pcplist."""
    scenario = Scenario(cpus=1)
    made = kernel(scenario.config)
    section, met = section_of(made.config, 0, 0), False
    for spec in scenario.tasks():
        if spec.kind.name not in ("free", "alloc"):
            continue
        graph = fold(made, partial(spec.make, made), (0,), {})
        mine = {n.number for n in graph.kept if routine in n.stack}
        if mine - held(graph, section, 0):
            return False
        met |= bool(mine)
    return met


@dataclass(slots=True)
class Sections:
    """Who is at work on which CPU's pcplist of which zone, and who came while somebody was."""

    entered: int = 0
    broken: list[tuple[Event, Event]] = field(default_factory=list)
    _open: dict[tuple[int, int], Event] = field(default_factory=dict)
    _mine: dict[tuple[int, int, str], list[tuple[int, int]]] = field(default_factory=dict)

    def watch(self, found: Iterable[Event]) -> Iterator[Event]:
        """The same events."""
        for event in found:
            if event.name in WORKS and "zone" in event.fields:
                self._enter(event)
            elif event.name.removesuffix("_r") in WORKS:
                self._leave(event)
            yield event

    def _enter(self, event: Event) -> None:
        self.entered += 1
        place, who = (event.cpu, event["zone"]), _who(event)
        other = self._open.get(place)
        if other is not None and _who(other) != who and len(self.broken) < _KEPT:
            self.broken.append((other, event))
        self._open[place] = event
        self._mine.setdefault(who, []).append(place)

    def _leave(self, event: Event) -> None:
        mine = self._mine.get(_who(event))
        if mine:
            self._open.pop(mine.pop(), None)
            if not mine:
                del self._mine[_who(event)]


def _who(event: Event) -> tuple[int, int, str]:
    return (event.cpu, event.pid, event.context)
