"""Random histories: Hypothesis draws operations and interleavings for the scheduler, the properties are invariants.

``PageAllocator`` does everything that the model can do; ``DrainRace`` starts with a handful of tasks around one
disabling of pcplists and draws nothing but their interleaving, so that it comes upon rare ones.  Which tasks there are
is what the kernel says of itself (:mod:`kernelmodel.tasks`), so that ``machine_for`` has a machine for each kernel.

What fails is printed as a program that can be pasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER, initialize, precondition, rule

from kernelmodel.kernels import KERNELS
from kernelmodel.kernels import mutant as mutant_named
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import PCPTYPES, MigrateType, PageRange
from kernelmodel.tasks import TaskKind, kinds_of
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText, has_routine
from kernelmodel.versions.later_mutants import named
from kernelmodel.versions.mutants import EQUIVALENT, Mutant
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from properties.history import BLOCK_TYPES, FAULTS, LONGEST_BURST, History

#: tasks alive at a time
MOST_TASKS = 6
#: tasks beside the one that disables pcplists, unless more than that are needed
MOST_BESIDE = 3

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
#: the same where a pcplist has a lock of its own
LOCK_PLACES = (*PLACES, "spin_trylock(", "spin_lock(", "spin_unlock(")
#: mostly, whoever waits for the drain workers gets what it waits for
_alone = st.sampled_from([False, False, True])


def _stops(places: tuple[str, ...]) -> st.SearchStrategy[int | str]:
    """Where a task is preempted: after so many steps, before its next operation like that, or only when it has to wait."""
    return st.one_of(st.sampled_from(places), st.sampled_from(places), st.integers(1, 6), st.just(LONGEST_BURST))


class DrainRace(History):
    """One task that disables pcplists or offlines memory, and a few others beside it: only their interleaving is drawn."""

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
        if poisoner and has_routine(self.kernel, "zone_pcp_disable"):
            self.spawn("hwpoison", self.machine.kernel.memory_failure(self.machine.zone()), 0)
        else:
            self.begin(self.kinds["offline"], 0, blocks=blocks, fault=fault)
        for which, (name, cpu, steps) in enumerate(others):
            self.begin(self.kinds[name], cpu, which, MigrateType.MOVABLE, wanted=update)
            for _ in range(steps):
                if not self.monitor.violations and self.machine.can_step(self.tasks[-1]):
                    self.advance(self.tasks[-1])

    @classmethod
    def rules_of(
        cls, kernel: type[KernelText], kinds: Mapping[str, TaskKind], always: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The rules that depend on the kernel: which tasks run beside the one that disables."""
        beside = [k for k in kinds.values() if k.default and not k.has_range]
        # those on pcplists as often as all others together, and what only this kernel has as well
        names = [k.name for k in beside if k.on_lists] * 2 + [k.name for k in beside if not k.on_lists]
        names += [k.name for k in kernel.tasks if k.name in kinds]
        needed = [name for name in always if not kinds[name].has_range]
        cpus, steps = st.integers(0, 1), st.integers(0, 8)
        drawn = st.lists(
            st.tuples(st.sampled_from(names + needed), cpus, steps),
            min_size=0 if needed else 1, max_size=max(MOST_BESIDE - len(needed), 1),
        )  # fmt: skip
        if needed:
            # some bugs want such a task before its first step
            steps = st.sampled_from([0, 0, *range(9)])
            drawn = st.tuples(*(st.tuples(st.just(name), cpus, steps) for name in needed), drawn).map(_joined)
        return {
            "boot": initialize(
                limits=st.tuples(_highs, _batches),
                listed=st.lists(
                    st.tuples(st.integers(0, 1), st.integers(0, 1), st.just(int(MigrateType.MOVABLE))), max_size=2
                ),
                poisoner=st.just(False) if len(needed) < len(always) else st.sampled_from([False, False, True]),
                blocks=_ranges,
                fault=_faults,
                others=drawn,
                update=st.tuples(_highs, _batches),
            )(cls.boot)
        }


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

    def may_begin(self, kind: TaskKind) -> bool:
        """Whether another task of a kind may start: of two ranges at a time, and one CPU that comes or goes."""
        if kind.has_range and (self.running("online") or len(self.isolators()) > 1):
            return False
        return self.room() and not (kind.takes_down and self.cpus_change())

    def isolators(self) -> list[str]:
        """The tasks that have a range and have not finished."""
        return [t.name for t in self.tasks if t.name in self.ranges and not t.done]

    def cpus_change(self) -> bool:
        """Whether a CPU is coming or going."""
        return bool(self.running("cpu_up", *(k.name for k in self.kinds.values() if k.takes_down)))

    @classmethod
    def rules_of(
        cls, kernel: type[KernelText], kinds: Mapping[str, TaskKind], always: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The rules that depend on the kernel: one for each kind of task."""
        del kernel, always
        return {kind.name: _begins(kind) for kind in kinds.values()}

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
    @rule(cpu=_cpus, migratetype=_types, order=st.sampled_from([1, 2]))
    def alloc_of_order(self, cpu: int, migratetype: int, order: int) -> None:
        """A task that allocates a compound page, past the pcplists."""
        self.spawn("rmqueue", self.machine.kernel.rmqueue(self.machine.zone(), MigrateType(migratetype), order), cpu)

    @precondition(lambda self: self.room())
    @rule(cpu=_cpus, fraction=st.sampled_from([0, 8, 9, 16]))
    def sysctl(self, cpu: int, fraction: int) -> None:
        """A write to percpu_pagelist_fraction."""
        self.spawn("sysctl", self.machine.kernel.percpu_pagelist_fraction_sysctl_handler(fraction), cpu)

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

    @precondition(lambda self: self.isolators())
    @rule()
    def kill(self) -> None:
        """The first offliner gets a signal, wherever it is."""
        self.machine.task(self.isolators()[0]).environment["signal"] = True

    @precondition(lambda self: self.room() and not self.isolators() and not self.running("online"))
    @rule(block=st.integers(0, 1), fails=st.booleans(), cpu=_cpus)
    def online(self, block: int, fails: bool, cpu: int) -> None:
        """online_pages() of a block that is offline; a notifier may refuse."""
        state = self.machine.state
        if state.place[state.pfns(block)[0]] is Place.OFFLINE:
            routine = self.machine.kernel.online_pages(PageRange(block, block))
            self.spawn("online", routine, cpu, {"notifier_fails": fails})

    @precondition(lambda self: self.room() and has_routine(self.kernel, "zone_pcp_disable"))
    @rule(cpu=_cpus)
    def memory_failure(self, cpu: int) -> None:
        """Memory failure handling of a page that is in use or on a pcplist, without keeping CPUs from going down."""
        self.spawn("hwpoison", self.machine.kernel.memory_failure(self.machine.zone()), cpu)

    @precondition(lambda self: self.room() and not self.cpus_change())
    @rule(cpu=st.integers(1, 2))
    def cpu_up(self, cpu: int) -> None:
        """A CPU that is down comes up."""
        if not self.machine.state.stored[Cell("cpu_online", (cpu,))]:
            self.spawn("cpu_up", self.machine.kernel.cpu_up(cpu), 0)


def _begins(kind: TaskKind) -> Any:
    """The rule that begins a task of a kind, with what is to be drawn for it."""
    drawn: dict[str, st.SearchStrategy[Any]] = {"cpu": st.integers(1, 2) if kind.takes_down else _cpus}
    if kind.holds_page:
        drawn["which"] = _picks
    if "migratetype" in kind.inputs:
        drawn["migratetype"] = _types
    if kind.has_range:
        drawn |= {"blocks": _ranges, "fault": _faults}
    if kind.wants:
        drawn["wanted"] = st.tuples(_highs, _batches)

    def begin(self: PageAllocator, **given: Any) -> None:
        self.begin(kind, **given)

    begin.__name__, begin.__doc__ = kind.name, f"A task: {kind.words}."
    as_rule: Any = rule
    return precondition(lambda self: self.may_begin(kind))(as_rule(**drawn)(begin))


def _joined(given: tuple[Any, ...]) -> list[Any]:
    *first, more = given
    return [*first, *more]


def hunter_of(mutant: Mutant) -> type[History]:
    """The state machine to hunt a mutant with: the race among the tasks that it takes, and a few more.

    It looks at the property that the mutant breaks, and at a control with what a kernel should have.
    """
    kernel = mutant_named(mutant.name)
    taken = tuple(k.name for k in kinds_of(kernel).values() if k.option and mutant.needs.get(k.option))
    return machine_for(kernel, DrainRace, None if mutant.breaks == EQUIVALENT else [mutant.breaks], taken)


def expected_to_hold(kernel: type[KernelText]) -> tuple[str, ...]:
    """The properties that a kernel should have: all but those which it is known not to have."""
    return tuple(name for name in PROPERTIES if name not in kernel.breaks)


def machine_for(
    kernel: type[KernelText], machine: type[History] = PageAllocator, properties: Iterable[str] | None = None,
    always: tuple[str, ...] = (),
) -> type[History]:  # fmt: skip
    """A state machine for a kernel, named after both; it looks at what the kernel should have unless told otherwise.

    ``always``: kinds of tasks of which every history of ``DrainRace`` has one.
    """
    watched = tuple(expected_to_hold(kernel) if properties is None else properties)
    name = f"{machine.__name__}_{kernel.__name__}"
    imports, expression = _found_by(kernel)
    kinds = {name: kind for name, kind in kinds_of(kernel).items() if kind.option}
    places = PLACES if kernel.section == V5_11.section else LOCK_PLACES
    members: dict[str, Any] = {
        "kernel": kernel,
        "kinds": kinds,
        "properties": watched,
        "reached": set(),
        "header": f"{imports}\nfrom properties.stateful import {machine.__name__}, machine_for\n\n"
        f"{name} = machine_for({expression}, {machine.__name__}, {watched}{f', {always}' if always else ''})",
        "__doc__": f"Random histories of {kernel.name}.",
        "__module__": __name__,
        "go": rule(who=_picks, stop=_stops(places), alone=_alone)(History.go),
    }
    # a rule that is written out draws more than what is known of its kind
    written = {n for n, f in vars(machine).items() if hasattr(f, RULE_MARKER)}
    members |= {n: r for n, r in machine.rules_of(kernel, kinds, always).items() if n not in written}
    return type(name, (machine,), members)


def _found_by(kernel: type[KernelText]) -> tuple[str, str]:
    """How a program gets at a kernel: the import that it needs, and an expression."""
    if KERNELS.get(kernel.name) is kernel:
        return "from kernelmodel.kernels import kernel", f"kernel({kernel.name!r})"
    changed = named(kernel.name)
    if changed:
        return "from kernelmodel.kernels import mutant", f"mutant({changed!r})"
    return f"from {kernel.__module__} import {kernel.__name__}", kernel.__name__


__all__ = ["FAULTS", "DrainRace", "History", "PageAllocator", "expected_to_hold", "hunter_of", "machine_for"]
