"""Random histories: Hypothesis draws operations and interleavings for the scheduler, the properties are invariants.

``PageAllocator`` does everything at once; ``DrainRace`` only what the race between draining and the limits needs, so
that it comes upon rare interleavings.  After each step the machine compares the abstract cells with what the abstract
operation allows (kernelmodel.machine: ``check``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernelmodel.base import Base
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine, Task
from kernelmodel.memory_failure import get_hwpoison_page
from kernelmodel.mmzone import PCPTYPES, MigrateType, PageRange
from kernelmodel.state import Place
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText
from kernelmodel.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from properties.monitor import Monitor

#: what random histories find broken before the patch: the race that it closes
RACE = ("no_isolated_page_left", "isolated_page_not_allocated", "offline_progress")
FAULTS = ("range_invalid", "unmovable", "notifier_fails", "signal", "dissolve_fails")
#: tasks alive at a time
MOST_TASKS = 5
CPUS, BLOCKS = 2, 3

_cpus = st.integers(0, CPUS - 1)
_types = st.integers(0, PCPTYPES - 1)
_picks = st.integers(0, 30)


class History(RuleBasedStateMachine):
    """What both machines share: a booted machine, stepping its tasks, and the properties as invariants."""

    kernel: type[KernelText] = V5_11
    properties: Iterable[str] = tuple(PROPERTIES)

    def __init__(self) -> None:
        """The zone is set up by the first rule."""
        super().__init__()
        self.machine: Any = None
        self.monitor: Any = None
        self.tasks: list[Task] = []

    @initialize(
        high=st.integers(0, 5), batch=st.integers(1, 3),
        listed=st.lists(st.tuples(_cpus, st.integers(0, BLOCKS - 1), _types), max_size=3),
        used=st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=3),
    )  # fmt: skip
    def boot(self, high: int, batch: int, listed: list[tuple[int, int, int]], used: list[int]) -> None:
        """A zone with some pages on pcplists and some in use."""
        types = (MigrateType.MOVABLE, MigrateType.MOVABLE, MigrateType.UNMOVABLE)
        self.machine = Machine(self.kernel, Config(CPUS, block_types=types), limits=(high, batch))
        for cpu, block, migratetype in listed:
            self.machine.put_on_pcplist(cpu, block, migratetype)
        for block in used:
            if any(self.machine.state.place[p] is Place.BUDDY for p in self.machine.state.pfns(block)):
                self.machine.allocate(block)
        self.monitor = Monitor(self.machine, [PROPERTIES[name] for name in self.properties])

    def spawn(self, name: str, routine: Any, cpu: int, **environment: int) -> None:
        """A task on ``cpu``, or on the first CPU if that is offline."""
        self.tasks.append(self.machine.spawn(f"{name}{len(self.machine.tasks)}", routine, self.usable(cpu), environment))

    def usable(self, cpu: int) -> int:
        """``cpu`` if it is online, else the first that is."""
        online = [c for c in self.machine.config.cpus if self.machine.state.stored[Cell("cpu_online", (c,))]]
        return cpu if cpu in online else online[0]

    def room(self) -> bool:
        """Whether another task may start."""
        self.tasks = [t for t in self.tasks if not t.done]
        return len(self.tasks) < MOST_TASKS

    @rule(which=_picks, steps=st.sampled_from([1, 2, 3, 4, 5, 7, 9, 12, 30, 60]))
    def step(self, which: int, steps: int) -> None:
        """Let one task go on for some steps, or until it waits."""
        ready = self.machine.ready()
        if ready:
            task = ready[which % len(ready)]
            for _ in range(steps):
                if self.machine.why_not(task):
                    break
                self.machine.step(task)
                self.holds()

    @rule(which=_picks, cpu=_cpus)
    def migrate(self, which: int, cpu: int) -> None:
        """Preempt a task and continue it on another CPU; nothing happens to one that may not move."""
        if self.tasks:
            task = self.tasks[which % len(self.tasks)]
            state = self.machine.state
            if not task.done and state.stored[Cell("irqs_off", (task.cpu,))] != task.number:
                self.machine.migrate(task, self.usable(cpu))

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, migratetype=_types)
    def alloc(self, cpu: int, migratetype: int) -> None:
        """A task that allocates a page."""
        self.spawn("alloc", self.machine.kernel.rmqueue_pcplist(self.machine.zone(), MigrateType(migratetype)), cpu)

    @precondition(lambda self: self.room())
    @rule(which=_picks, cpu=_cpus)
    def free(self, which: int, cpu: int) -> None:
        """A task that frees a page in use."""
        pages = list(self.machine.pages_in_use())
        if pages:
            name = f"free{len(self.machine.tasks)}"
            self.tasks.append(self.machine.free(name, pages[which % len(pages)].pfn, self.usable(cpu)))

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, high=st.integers(0, 5), batch=st.integers(1, 3))
    def update(self, cpu: int, high: int, batch: int) -> None:
        """zone_pcp_update() with new limits."""
        self.spawn("update", self.machine.kernel.zone_pcp_update(self.machine.zone()), cpu, new_high=high, new_batch=batch)

    @precondition(lambda self: self.room())
    @rule(block=st.integers(0, 1), cpu=_cpus, fault=st.sampled_from(("", "", "", *FAULTS)))
    def offline(self, block: int, cpu: int, fault: str) -> None:
        """offline_pages(), possibly with one thing that goes wrong."""
        isolating = any("offline" in t.name or "online" in t.name for t in self.tasks)
        if not isolating and self.machine.state.place[block << 2] is not Place.OFFLINE:
            faults = {fault: 1} if fault else {}
            self.spawn("offline", self.machine.kernel.offline_pages(PageRange(block, block)), cpu, **faults)

    @invariant()
    def holds(self) -> None:
        """Every property of the catalogue."""
        if self.monitor is not None and self.monitor.violations:
            violation = self.monitor.violations[0]
            last = "\n".join(map(str, self.machine.history[-12:]))
            raise AssertionError(f"{violation.name}: {violation.found}, after\n{last}")


class DrainRace(History):
    """Freeing, allocating, zone_pcp_update() and offline_pages(), with nothing else in the way."""


class PageAllocator(History):
    """Everything that the model can do."""

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, order=st.integers(1, 2), migratetype=_types)
    def alloc_order(self, cpu: int, order: int, migratetype: int) -> None:
        """A task that allocates past the pcplists."""
        kernel = self.machine.kernel
        self.spawn("rmqueue", kernel.rmqueue(self.machine.zone(), MigrateType(migratetype), order), cpu)

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, fraction=st.sampled_from([0, 8, 9, 16]))
    def sysctl(self, cpu: int, fraction: int) -> None:
        """A write to percpu_pagelist_fraction."""
        self.spawn("sysctl", self.machine.kernel.percpu_pagelist_fraction_sysctl_handler(fraction), cpu)

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus)
    def reclaim(self, cpu: int) -> None:
        """Direct reclaim drains all zones, unless somebody else drains."""
        self.spawn("reclaim", self.machine.kernel.direct_reclaim(), cpu)

    @precondition(lambda self: self.room() and hasattr(self.kernel, "zone_pcp_disable"))
    @rule(cpu=_cpus)
    def hwpoison(self, cpu: int) -> None:
        """Memory failure handling disables and enables, without keeping CPUs from going down."""
        self.spawn("hwpoison", get_hwpoison_page(self.machine.kernel, self.machine.zone()), cpu)

    @precondition(lambda self: self.room())
    @rule(block=st.integers(0, 1), cpu=_cpus, fails=st.booleans())
    def online(self, block: int, cpu: int, fails: bool) -> None:
        """online_pages() of a range that is offline."""
        busy = any("offline" in t.name or "online" in t.name for t in self.tasks)
        if not busy and self.machine.state.place[block << 2] is Place.OFFLINE:
            faults = {"notifier_fails": 1} if fails else {}
            self.spawn("online", self.machine.kernel.online_pages(PageRange(block, block)), cpu, **faults)

    @precondition(lambda self: self.room())
    @rule(up=st.booleans())
    def hotplug(self, up: bool) -> None:
        """CPU 1 goes down or comes up."""
        if any("cpu" in t.name for t in self.tasks):
            return
        online = bool(self.machine.state.stored[Cell("cpu_online", (1,))])
        if up != online:
            routine = self.machine.kernel.cpu_up(1) if up else self.machine.kernel.cpu_down(1)
            self.spawn("cpu_up" if up else "cpu_down", routine, 0)

    def teardown(self) -> None:
        """Whatever can finish does, and the pages are all there."""
        if self.machine is None or self.monitor.violations:
            return
        for _ in range(2000):
            ready = [t for t in self.machine.ready() if not t.done]
            if not ready:
                break
            self.machine.step(ready[0])
            self.holds()
        if self.machine.state.audit():
            raise AssertionError("; ".join(self.machine.state.audit()))


def machine_for(kernel: type[KernelText], narrow: bool = False, properties: Iterable[str] | None = None) -> type[History]:
    """A state machine for a kernel: DrainRace if ``narrow``, else PageAllocator.

    Before the patch the properties of the race are left out unless asked for: they are violated there.
    """
    if properties is None:
        before = not issubclass(kernel, V5_11) and issubclass(kernel, Base)
        properties = tuple(p for p in PROPERTIES if not (before and p in RACE))
    members = {"kernel": kernel, "properties": tuple(properties), "__doc__": f"Random histories of {kernel.name}."}
    base = DrainRace if narrow else PageAllocator
    return type(f"{base.__name__}_{kernel.__name__}", (base,), members)


__all__ = ["RACE", "DrainRace", "History", "ModelError", "PageAllocator", "machine_for"]
