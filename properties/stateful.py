"""Random histories: Hypothesis draws operations and interleavings for the scheduler, the properties are invariants.

``PageAllocator`` does everything that the model can do; ``DrainRace`` starts with a handful of tasks around one
disabling of pcplists and draws nothing but their interleaving, so that it comes upon rare ones.  After each step the
machine compares the abstract cells with what the abstract operation allows (kernelmodel.machine: ``check``).

What fails is printed as a program that can be pasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernelmodel.config import Config
from kernelmodel.kernels import KERNELS
from kernelmodel.machine import Machine, Task
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import PCPTYPES, MigrateType, PageRange
from kernelmodel.ops import Op, Routine
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText
from kernelmodel.versions.base import Base
from kernelmodel.versions.mutants import MUTANTS, Mutant
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from properties.monitor import Monitor

#: what the race that the patch closes breaks: known to be violated in the kernels before it
RACE = ("no_isolated_page_left", "isolated_page_not_allocated", "offline_progress")

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
#: tasks alive at a time
MOST_TASKS = 6
#: a burst ends here at the latest: an offline_pages() that goes round and round does not use up the example
LONGEST_BURST = 100
#: steps in which everything must come to rest after the last rule
SETTLING = 3000

_blocks = st.integers(0, len(BLOCK_TYPES) - 1)
_cpus = st.integers(0, 2)
_types = st.integers(0, PCPTYPES - 1)
_picks = st.integers(0, MOST_TASKS)
_ranges = st.sampled_from([(0, 0), (1, 1), (0, 1)])
_faults = st.sampled_from(["", "", "", *FAULTS])
_highs, _batches = st.integers(0, 6), st.integers(1, 4)
#: parts of operations' texts before which it is interesting to preempt a task
PLACES = (
    "local_irq_save", "local_irq_restore", "->count +=", "->high", "mutex_lock(", "mutex_unlock(&pcp_batch_high_lock)",
    "has returned", "is entered", "MIGRATE_ISOLATE", "flush_work",
)  # fmt: skip
#: where a task is preempted: after so many steps, before its next operation like that, or only when it has to wait
_stops = st.one_of(st.sampled_from(PLACES), st.sampled_from(PLACES), st.integers(1, 6), st.just(LONGEST_BURST))
#: mostly, whoever waits for the drain workers gets what it waits for
_alone = st.sampled_from([False, False, True])


class History(RuleBasedStateMachine):
    """What both machines share: a booted machine, the stepping of its tasks, and the properties as invariants."""

    kernel: ClassVar[type[KernelText]] = V5_11
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

    def start(self, high: int, batch: int, listed: Iterable[tuple[int, int, int]], used: Iterable[int]) -> None:
        """Boot with these limits, pages ``listed`` on pcplists (CPU, block, type) and pages ``used`` of these blocks."""
        config = Config(self.nr_cpus, block_types=BLOCK_TYPES)
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

    def start_free(self, which: int, cpu: int) -> None:
        """A task that frees one of the pages in use, if there is any."""
        pages = list(self.machine.pages_in_use())
        if pages:
            page = pages[which % len(pages)]
            self.tasks.append(self.machine.free(self.fresh("free"), page.pfn, self.usable(cpu)))

    def start_alloc(self, migratetype: int, cpu: int) -> None:
        """A task that allocates an order-0 page."""
        kernel = self.machine.kernel
        self.spawn("alloc", kernel.rmqueue_pcplist(self.machine.zone(), MigrateType(migratetype)), cpu)

    def start_update(self, high: int, batch: int, cpu: int) -> None:
        """A task in zone_pcp_update(), which finds that the limits should be ``high`` and ``batch``."""
        limits = {"new_high": high, "new_batch": batch}
        self.spawn("update", self.machine.kernel.zone_pcp_update(self.machine.zone()), cpu, limits)

    def start_offline(self, blocks: tuple[int, int], fault: str, cpu: int) -> None:
        """A task in offline_pages() of the blocks from first to last; ``fault`` is what goes wrong, if anything."""
        page_range = PageRange(*blocks)
        self.spawn("offline", self.machine.kernel.offline_pages(page_range), cpu)
        task = self.tasks[-1]
        self.ranges[task.name] = page_range
        if fault:
            self.faults[task.name] = FAULTS[fault]

    def start_hwpoison(self, cpu: int) -> None:
        """A task that marks a page and looks at it, without keeping CPUs from coming and going."""
        self.spawn("hwpoison", self.machine.kernel.memory_failure(self.machine.zone()), cpu)

    def alive(self) -> list[Task]:
        """Tasks that have not finished, workers included only while they have work."""
        self.tasks = [t for t in self.tasks if not t.done]
        return [*self.tasks, *(w for w in self.machine.workers if not self.machine.why_not(w))]

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

    @rule(who=_picks, stop=_stops, alone=_alone)
    def go(self, who: int, stop: int | str, alone: bool) -> None:
        """Let one task go on until ``stop``; unless ``alone``, the drain workers run while it has to wait."""
        alive = self.alive()
        if not alive:
            return
        task = alive[who % len(alive)]
        steps = 0
        for _ in range(LONGEST_BURST):
            if self.monitor.violations or task.done or steps == stop:
                break
            if self.machine.why_not(task):
                helpers = [] if alone else [w for w in self.machine.workers if not self.machine.why_not(w)]
                if not helpers:
                    break
                self.advance(helpers[0])
                continue
            # at least one step, else a task that stands before its stop would never pass it
            if steps and isinstance(stop, str) and stop in self.machine.operation(task).text:
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
        if not hasattr(self, "monitor") or self.monitor.violations:
            return
        # a signal ends offline_pages() where memory is too short to migrate a page, or another task hangs
        for _ in range(SETTLING):
            ready = [t for t in self.machine.ready() if not self.monitor.violations]
            for task in ready:
                if not self.machine.why_not(task):
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


#: cells that are 0 when nobody runs
AT_REST = ("irqs_off", "mutex", "cpu_hotplug_readers", "work.pending", "work.running", "pcp_disabled_by")


class DrainRace(History):
    """One task that disables pcplists or offlines memory, and a few others beside it: only their interleaving is drawn."""

    @initialize(
        limits=st.tuples(_highs, _batches),
        listed=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.just(int(MigrateType.MOVABLE))), max_size=2),
        poisoner=st.sampled_from([False, False, True]),
        blocks=_ranges,
        fault=_faults,
        others=st.lists(
            st.tuples(st.sampled_from(["free", "alloc", "free", "alloc", "update"]), st.integers(0, 1), st.integers(0, 8)),
            min_size=1, max_size=3,
        ),
        update=st.tuples(_highs, _batches),
    )  # fmt: skip
    def boot(
        self,
        limits: tuple[int, int],
        listed: list[tuple[int, int, int]],
        poisoner: bool,
        blocks: tuple[int, int],
        fault: str,
        others: list[tuple[str, int, int]],
        update: tuple[int, int],
    ) -> None:
        """Boot, and create all tasks.

        ``others`` run beside the one that disables: on which CPU, and how far they have come when it starts.
        """
        self.start(*limits, listed, used=[0, 1])
        if poisoner and hasattr(self.kernel, "zone_pcp_disable"):
            self.start_hwpoison(0)
        else:
            self.start_offline(blocks, fault, 0)
        for which, (kind, cpu, steps) in enumerate(others):
            if kind == "free":
                self.start_free(which, cpu)
            elif kind == "alloc":
                self.start_alloc(MigrateType.MOVABLE, cpu)
            else:
                self.start_update(*update, cpu)
            for _ in range(steps):
                if not self.monitor.violations and not self.machine.why_not(self.tasks[-1]):
                    self.advance(self.tasks[-1])


class PageAllocator(History):
    """Everything that the model can do, at any time."""

    nr_cpus = 3

    @initialize(
        high=_highs,
        batch=_batches,
        listed=st.lists(st.tuples(_cpus, _blocks, _types), max_size=3),
        used=st.lists(_blocks, max_size=4).filter(lambda used: max(map(used.count, used), default=0) < 2),
    )
    def boot(self, high: int, batch: int, listed: list[tuple[int, int, int]], used: list[int]) -> None:
        """A zone with some pages on pcplists and some in use."""
        self.start(high, batch, listed, used)

    def room(self) -> bool:
        """Whether another task may start."""
        self.tasks = [t for t in self.tasks if not t.done]
        return len(self.tasks) < MOST_TASKS

    def running(self, *names: str) -> int:
        """How many tasks with one of these names have not finished."""
        return sum(t.name.startswith(names) for t in self.tasks if not t.done)

    @rule(who=_picks, cpu=_cpus)
    def migrate(self, who: int, cpu: int) -> None:
        """Preempt a task and continue it on another CPU; nothing happens to one that may not move now."""
        tasks = [t for t in self.alive() if t not in self.machine.workers]
        if tasks:
            task = tasks[who % len(tasks)]
            if task.preemptible and self.machine.state.stored[Cell("irqs_off", (task.cpu,))] != task.number:
                self.machine.migrate(task, self.usable(cpu))

    @rule(who=_picks)
    def go_on(self, who: int) -> None:
        """Let one task go on until it has to wait: a second way to get ahead where Hypothesis leaves ``go`` out."""
        self.go(who, LONGEST_BURST, alone=False)

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, migratetype=_types, order=st.sampled_from([0, 0, 1, 2]))
    def alloc(self, cpu: int, migratetype: int, order: int) -> None:
        """A task that allocates a page; past the pcplists if its order is above 0."""
        if order:
            zone = self.machine.zone()
            self.spawn("rmqueue", self.machine.kernel.rmqueue(zone, MigrateType(migratetype), order), cpu)
        else:
            self.start_alloc(migratetype, cpu)

    @precondition(lambda self: self.room())
    @rule(which=_picks, cpu=_cpus)
    def free(self, which: int, cpu: int) -> None:
        """A task that frees a page in use, single or compound."""
        self.start_free(which, cpu)

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, high=_highs, batch=_batches)
    def update(self, cpu: int, high: int, batch: int) -> None:
        """zone_pcp_update() with other limits."""
        self.start_update(high, batch, cpu)

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

    @precondition(lambda self: self.room() and self.running("offline", "online") < 2)
    @rule(blocks=_ranges, fault=_faults, cpu=_cpus)
    def offline(self, blocks: tuple[int, int], fault: str, cpu: int) -> None:
        """offline_pages(), which succeeds or fails in one of its ways; of two at a time the ranges may overlap."""
        if not self.running("online"):
            self.start_offline(blocks, fault, cpu)

    @precondition(lambda self: self.room())
    @rule(blocks=_ranges, cpu=_cpus)
    def contig(self, blocks: tuple[int, int], cpu: int) -> None:
        """alloc_contig_range(), another isolator: of pages that are left somewhere it gives up."""
        page_range = PageRange(*blocks)
        self.spawn("contig", self.machine.kernel.alloc_contig_range(page_range, MigrateType.MOVABLE), cpu)

    @precondition(lambda self: self.room())
    @rule(which=st.integers(0, 7), cpu=_cpus)
    def free_list(self, which: int, cpu: int) -> None:
        """free_unref_page_list() of up to three pages that are in use."""
        pages = [p for p in self.machine.pages_in_use() if p.pfn not in self.machine.state.order_in_use]
        if pages:
            first = which % len(pages)
            chosen = [p.pfn for p in pages[first : first + 3]]
            self.tasks.append(self.machine.free_list(self.fresh("list"), chosen, self.usable(cpu)))

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus)
    def vmstat(self, cpu: int) -> None:
        """vmstat takes pages off a pcplist of a zone that this CPU does not use."""
        self.spawn("vmstat", self.machine.kernel.drain_zone_pages(self.machine.zone()), cpu)

    @precondition(lambda self: self.running("offline"))
    @rule()
    def kill(self) -> None:
        """The first offliner gets a signal, wherever it is."""
        task = next(t for t in self.tasks if t.name.startswith("offline") and not t.done)
        task.environment["signal"] = True

    @precondition(lambda self: self.room() and not self.running("offline", "online"))
    @rule(block=st.integers(0, 1), fails=st.booleans(), cpu=_cpus)
    def online(self, block: int, fails: bool, cpu: int) -> None:
        """online_pages() of a block that is offline; a notifier may refuse."""
        state = self.machine.state
        if state.place[state.pfns(block)[0]] is Place.OFFLINE:
            routine = self.machine.kernel.online_pages(PageRange(block, block))
            self.spawn("online", routine, cpu, {"notifier_fails": fails})

    @precondition(lambda self: self.room() and hasattr(self.kernel, "zone_pcp_disable"))
    @rule(cpu=_cpus)
    def hwpoison(self, cpu: int) -> None:
        """Memory failure handling disables and enables, without keeping CPUs from going down."""
        self.start_hwpoison(cpu)

    @precondition(lambda self: self.room() and not self.running("cpu_"))
    @rule(cpu=st.integers(1, 2))
    def hotplug(self, cpu: int) -> None:
        """A CPU that is up goes down, one that is down comes up; CPU 0 stays."""
        if self.machine.state.stored[Cell("cpu_online", (cpu,))]:
            self.spawn("cpu_down", self.machine.kernel.cpu_down(cpu), 0)
        else:
            self.spawn("cpu_up", self.machine.kernel.cpu_up(cpu), 0)


def history_of(mutant: Mutant) -> type[History]:
    """The state machine to hunt a mutant with: the one with every task where it takes some that the race lacks."""
    return PageAllocator if mutant.needs.get("hotplugs") or mutant.needs.get("reclaims") else DrainRace


def expected_to_hold(kernel: type[KernelText]) -> tuple[str, ...]:
    """The properties that a kernel should have: all, except that before the patch there is the race."""
    before = issubclass(kernel, Base) and not issubclass(kernel, V5_11)
    return tuple(name for name in PROPERTIES if not (before and name in RACE))


def machine_for(
    kernel: type[KernelText], machine: type[History] = PageAllocator, properties: Iterable[str] | None = None
) -> type[History]:
    """A state machine for a kernel, named after both; it looks at what the kernel should have unless told otherwise."""
    watched = tuple(expected_to_hold(kernel) if properties is None else properties)
    name = f"{machine.__name__}_{kernel.__name__}"
    imports, expression = _found_by(kernel)
    members: dict[str, Any] = {
        "kernel": kernel,
        "properties": watched,
        "reached": set(),
        "header": f"{imports}\nfrom properties.stateful import {machine.__name__}, machine_for\n\n"
        f"{name} = machine_for({expression}, {machine.__name__}, {watched})",
        "__doc__": f"Random histories of {kernel.name}.",
        "__module__": __name__,
    }
    return type(name, (machine,), members)


def _found_by(kernel: type[KernelText]) -> tuple[str, str]:
    """How a program gets at a kernel: the import that it needs, and an expression."""
    if KERNELS.get(kernel.name) is kernel:
        return "from kernelmodel.kernels import kernel", f"kernel({kernel.name!r})"
    changed = kernel.name.removeprefix(f"{V5_11.name} with ")
    if changed in MUTANTS:
        return "from kernelmodel.kernels import mutant", f"mutant({changed!r})"
    return f"from {kernel.__module__} import {kernel.__name__}", kernel.__name__


__all__ = ["FAULTS", "RACE", "DrainRace", "History", "PageAllocator", "expected_to_hold", "history_of", "machine_for"]
