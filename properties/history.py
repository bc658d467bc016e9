"""Histories: a machine whose tasks are stepped as Hypothesis draws it, and whose properties are its invariants.

After each step the machine compares the abstract cells with what the abstract operation allows (kernelmodel.machine:
``check``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import currently_in_test_context, note
from hypothesis.stateful import RuleBasedStateMachine, invariant

from kernelmodel.config import Config
from kernelmodel.machine import Machine, Task
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import MigrateType, Page, PageRange
from kernelmodel.ops import Op, Routine
from kernelmodel.tasks import Given, TaskKind
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from properties.monitor import Monitor

#: how offline_pages() can fail: name -> (part of the operation's text at which it does, the environment's choice there)
FAULTS: dict[str, tuple[str, str]] = {
    "range_invalid": ("walk_system_ram_range()", "range_invalid"),
    "isolation": ("move_freepages_block()", "unmovable"),
    "notifier_fails": ("memory_notify(MEM_GOING_OFFLINE)", "notifier_fails"),
    "signal": ("signal_pending(current)", "signal"),
    "scan_fails": ("scan_movable_pages() != -ENOENT", "scan_fails"),
    "dissolve_fails": ("dissolve_free_huge_pages()", "dissolve_fails"),
}

#: the pageblocks of every machine here, four pages each; the last is never offlined, so the zone stays populated
BLOCK_TYPES = (MigrateType.MOVABLE, MigrateType.MOVABLE, MigrateType.UNMOVABLE)
#: a burst ends here at the latest
LONGEST_BURST = 100
#: and before the second such operation: an offline_pages() that goes round and round does not use up the history
GOES_ROUND = "test_pages_isolated"
#: steps in which everything must come to rest after the last rule
SETTLING = 3000
#: cells that are 0 when nobody runs
AT_REST = ("irqs_off", "mutex", "cpu_hotplug_readers", "work.pending", "work.running", "pcp_disabled_by")


class History(RuleBasedStateMachine):
    """A booted machine, its tasks and how they are stepped, and the properties as invariants."""

    kernel: ClassVar[type[KernelText]] = V5_11
    #: the kinds of tasks that the kernel has, by name
    kinds: ClassVar[Mapping[str, TaskKind]] = {}
    properties: ClassVar[tuple[str, ...]] = tuple(PROPERTIES)
    #: Python text that defines this class, printed before a failing example
    header: ClassVar[str] = ""
    nr_cpus: ClassVar[int] = 2
    #: properties whose premises were reached by any example of this class
    reached: ClassVar[set[str]] = set()

    machine: Machine
    monitor: Monitor

    def __init__(self) -> None:
        """Nothing runs yet: the first rule boots."""
        super().__init__()
        self.tasks: list[Task] = []
        self.faults: dict[str, tuple[str, str]] = {}
        self.ranges: dict[str, PageRange] = {}
        if self.header and currently_in_test_context():
            note(self.header)

    @classmethod
    def rules_of(
        cls, kernel: type[KernelText], kinds: Mapping[str, TaskKind], always: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The rules that depend on the kernel, by name; ``always``: kinds of tasks of which every history has one."""
        raise NotImplementedError

    def start(self, high: int, batch: int, listed: Iterable[tuple[int, int, int]], used: Iterable[int]) -> None:
        """Boot with these limits, pages ``listed`` on pcplists (CPU, block, type) and pages ``used`` of these blocks."""
        config = Config(self.nr_cpus, block_types=BLOCK_TYPES)
        config = replace(config, pcp_order=min(self.kernel.pcp_order, config.pageblock_order))
        self.machine = Machine(self.kernel, config, limits=(high, batch))
        for cpu, block, migratetype in listed:
            self.machine.put_on_pcplist(cpu % self.nr_cpus, block, migratetype)
        for block in used:
            self.machine.allocate(block)
        self.monitor = Monitor(self.machine, [find(name) for name in self.properties])

    def spawn(self, name: str, routine: Routine, cpu: int, environment: Mapping[str, int] | None = None) -> None:
        """Create a task on ``cpu``, or on the first online CPU if that one is offline."""
        self.tasks.append(self.machine.spawn(self.fresh(name), routine, self.usable(cpu), environment))

    def fresh(self, name: str) -> str:
        """``name`` with a number that no task has yet."""
        return f"{name}{sum(t.name.startswith(name) for t in self.machine.tasks)}"

    def usable(self, cpu: int) -> int:
        """``cpu`` if it exists and is online, else the first that is."""
        online = [c for c in self.machine.config.cpus if self.machine.state.stored[Cell("cpu_online", (c,))]]
        return cpu if cpu in online else online[0]

    def begin(
        self, kind: TaskKind, cpu: int, which: int = 0, migratetype: int = 0, blocks: tuple[int, int] = (0, 0),
        fault: str = "", wanted: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Create a task of a kind, on ``cpu`` unless it takes that one down; none where it lacks what it needs.

        ``which`` of the pages in use it frees, for pages of which ``migratetype`` it asks, the blocks from first to last of
        its range, what goes wrong with it, and the limits that its environment wants: each as far as the kind has it.
        """
        machine, page = self.machine, Page(0, 0)
        if kind.takes_down and not (cpu and machine.state.stored[Cell("cpu_online", (cpu,))]):
            return
        if kind.holds_page:
            pages = list(machine.pages_in_use())
            if not pages:
                return
            page = pages[which % len(pages)]
            if machine.state.order_in_use.get(page.pfn, 0):
                # how a compound page is freed depends on its order
                self.tasks.append(machine.free(self.fresh(kind.name), page.pfn, self.usable(cpu)))
                return
            page = machine.drop(page.pfn)
        page_range = PageRange(*blocks)
        given = Given(cpu, machine.zone(), page, MigrateType(migratetype), page_range)
        environment = dict(zip(kind.wants, wanted, strict=False))
        self.spawn(kind.name, kind.make(machine.kernel, given), 0 if kind.takes_down else cpu, environment)
        name = self.tasks[-1].name
        if kind.has_range:
            self.ranges[name] = page_range
        if fault:
            self.faults[name] = FAULTS[fault]

    def alive(self) -> list[Task]:
        """Tasks that have not finished, workers included only while they have work."""
        self.tasks = [t for t in self.tasks if not t.done]
        return [*self.tasks, *filter(self.machine.can_step, self.machine.workers)]

    def choices(self, task: Task) -> dict[str, int]:
        """What the environment decides at the task's next step."""
        op = self.machine.operation(task)
        where, name = self.faults.get(task.name, ("", ""))
        made: dict[str, int] = {name: True} if where and where in op.text else {}
        if task.name in self.ranges and FAULTS["range_invalid"][0] in op.text:
            # another offliner was faster: walk_system_ram_range() finds a hole
            blocks = self.ranges[task.name].blocks
            if any(self.machine.state.place[self.machine.state.pfns(b)[0]] is Place.OFFLINE for b in blocks):
                made["range_invalid"] = True
        return made

    def advance(self, task: Task, more: Mapping[str, int] | None = None) -> None:
        """One step of ``task``."""
        self.machine.step(task, {**self.choices(task), **(more or {})})

    def go(self, who: int, stop: int | str, alone: bool) -> None:
        """Let one task go on until ``stop``; unless ``alone``, the drain workers run while it has to wait."""
        alive = self.alive()
        if not alive:
            return
        task = alive[who % len(alive)]
        steps = rounds = 0
        for _ in range(LONGEST_BURST):
            if self.monitor.violations or task.done or steps == stop:
                break
            if not self.machine.can_step(task):
                helpers = [] if alone else list(filter(self.machine.can_step, self.machine.workers))
                if not helpers:
                    break
                self.advance(helpers[0])
                continue
            op = self.machine.operation(task)
            rounds += op.tag == GOES_ROUND
            # at least one step, else a task that stands before its stop would never pass it
            if rounds > 1 or (steps and isinstance(stop, str) and stop in op.text):
                break
            self.advance(task)
            steps += 1
        if currently_in_test_context():
            # printed as a comment before the call
            note(f"# {task.name} on CPU{task.cpu}: {steps} steps, {self._whereabouts(task)}")

    def _whereabouts(self, task: Task) -> str:
        if task.done:
            return "finished"
        op: Op = self.machine.operation(task)
        return f"now at {op.text.split('{')[0].strip()}"

    @invariant()
    def holds(self) -> None:
        """Every property of the catalogue that this class looks at."""
        type(self).reached.update(self.monitor.reached)
        if self.monitor.violations:
            violation = self.monitor.violations[0]
            last = "\n".join(map(str, self.machine.history[-12:]))
            raise AssertionError(f"{violation.name}: {violation.found}, after\n{last}")

    def teardown(self) -> None:
        """Whatever can finish does; then the pages are all there, and nobody has a lock or interrupts off."""
        # the routine in which an interrupt came has ended with it
        if not hasattr(self, "monitor") or self.monitor.violations or isinstance(sys.exc_info()[1], KeyboardInterrupt):
            return
        # a signal ends offline_pages() where memory is too short to migrate a page, or another task hangs
        for _ in range(SETTLING):
            ready = [t for t in self.machine.ready() if not self.monitor.violations]
            for task in ready:
                if self.machine.can_step(task):
                    self.advance(task, {"signal": True})
            if not ready:
                break
        self.holds()
        found = self.machine.state.audit()
        stored = self.machine.state.stored
        if not self.alive():
            found += [f"{c} is {v} when all tasks have finished" for c, v in stored.items() if c.name in AT_REST and v]
        if found:
            raise AssertionError("at the end: " + "; ".join(found))
