"""The deterministic scheduler: tasks on CPUs, one chosen atomic step at a time; same schedule, same history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kernelmodel.calls import call_place
from kernelmodel.cells import CELLS, cpu_taken, is_derived, stops_others
from kernelmodel.config import Config
from kernelmodel.errors import BugError, ModelError, RefinementError
from kernelmodel.memory.state import Place, State
from kernelmodel.memory.store_buffers import StoreBuffers
from kernelmodel.memory_model import Memory
from kernelmodel.mmzone import PCPTYPES, MigrateType, Page, Zone
from kernelmodel.ops import CpuOp, Effect, Kind, Op, Routine
from kernelmodel.page_ops import start_freeing
from kernelmodel.running import advance, bound_to
from kernelmodel.terms import TRUE, Cell, Term, atoms, evaluate
from kernelmodel.text import KernelText, has_routine


@dataclass(slots=True, eq=False)
class Task:
    """A thread of the modelled kernel.  ``number`` is its identity in cells such as ``mutex`` (1, 2, …)."""

    number: int
    name: str
    cpu: int
    routine: Routine
    pending: Op | CpuOp | None = None
    result: Any = None
    environment: dict[str, int] = field(default_factory=dict)
    preemptible: bool = True
    #: what is pending, a CPU, and the operation that it is there: it is asked for several times a step
    bound: tuple[Op | CpuOp, int, Op] | None = field(default=None, repr=False)

    @property
    def done(self) -> bool:
        """Whether the routine has returned."""
        return self.pending is None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a history: who did what where, in which calls, and which values came back and were written."""

    number: int
    task: str
    cpu: int
    stack: tuple[str, ...]
    text: str
    kind: Kind
    tag: str
    returned: tuple[int, ...]
    written: tuple[tuple[Cell, int], ...]
    choices: tuple[tuple[str, int], ...]
    #: where in a tree's C: file, line, function; None where the text is ours
    at: tuple[str, int, str] | None = field(default=None, compare=False)
    #: the operation that was done
    op: Op = field(default=Op(""), compare=False, repr=False)

    def __str__(self) -> str:
        values = f"  /* {', '.join(map(str, self.returned))} */" if self.returned else ""
        return f"{self.number:4d} cpu{self.cpu} {self.task}: {' > '.join((*self.stack, self.text))}{values}"


class Watcher(Protocol):
    """Somebody who looks at each step: a property, a trace recorder."""

    def terms(self, task: Task, op: Op) -> Mapping[str, Term]:
        """Terms to be evaluated just before ``op`` fires, by name."""
        ...

    def stepped(self, machine: Machine, task: Task, op: Op, values: Mapping[str, int]) -> None:
        """``op`` has fired; ``values`` are the terms' values just before."""
        ...


class Machine:
    """A booted machine: a kernel's text, its state, and tasks that are stepped one atomic operation at a time.

    ``limits`` are (high, batch), maybe with a greatest high, of every zone instead of what zone size and sysctl give.
    ``memory``: the memory model.  With ``check`` each concrete step is compared with what the abstract operation allows; a
    difference is a RefinementError.
    """

    def __init__(
        self, kernel: type[KernelText], config: Config, limits: tuple[int, ...] | None = None, check: bool = True,
        memory: Memory = "sc",
    ) -> None:  # fmt: skip
        """Boot: memory free, per-CPU pagesets set up, one drain worker on each CPU."""
        # Any, for which routines there are is the kernel's business
        text: Any = kernel
        self.kernel: Any = text(config)
        self.config: Config = self.kernel.config
        config = self.config
        self.kernel.poisons = True
        self.state = State(config)
        self.check = check
        self.tasks: list[Task] = []
        self.history: list[Step] = []
        self.watchers: list[Watcher] = []
        self.buffers: StoreBuffers | None = None
        # looked at several times a step
        self._taken = [cpu_taken(cpu) for cpu in config.cpus]
        environment = dict(zip(("new_high", "new_batch", "new_high_max"), limits or (), strict=False))
        for zone in config.zones:
            self.run(self.spawn("boot", self.kernel.setup_zone_pageset(zone), environment=environment))
        self.tasks.clear()
        self.history.clear()
        self.buffers = StoreBuffers() if memory == "tso" else None
        worker = self.kernel.drain_worker if has_routine(kernel, "drain_worker") else _no_work
        self.workers = [self.spawn(f"kworker/{cpu}", worker(cpu), cpu) for cpu in config.cpus]

    # --- tasks ---

    def spawn(
        self, name: str, routine: Routine, cpu: int = 0, environment: Mapping[str, int] | None = None
    ) -> Task:  # fmt: skip
        """Create a task on ``cpu``; it runs only when stepped.  ``environment`` decides its external choices."""
        self._check_cpu(cpu)
        task = Task(len(self.tasks) + 1, name, cpu, routine, environment=dict(environment or {}))
        try:
            task.pending = advance(routine)
        except StopIteration as stop:
            task.result = stop.value
        self.tasks.append(task)
        return task

    def free(self, name: str, pfn: int, cpu: int = 0) -> Task:
        """Drop the last reference of page ``pfn`` now, and create the task that frees it."""
        self._check_cpu(cpu)
        page = self.state.page(pfn)
        order = self.state.order_in_use.get(pfn, 0)
        if any(head < pfn < head + (1 << o) for head, o in self.state.order_in_use.items()):
            raise ModelError(f"page {pfn} is the tail of a compound page: free its head")
        if order:
            for p in range(pfn, pfn + (1 << order)):
                self.state.place[p] = Place.FREEING
            del self.state.order_in_use[pfn]
            self.state.order_freed[pfn] = order
            page = replace(page, order=order)
            if order > self.config.pcp_order:
                return self.spawn(name, self.kernel.free_pages_ok(page, order), cpu)
            return self.spawn(name, self.kernel.free_unref_page(page), cpu)
        return self.spawn(name, self.kernel.free_unref_page(self.drop(pfn)), cpu)

    def free_list(self, name: str, pfns: Sequence[int], cpu: int = 0) -> Task:
        """Drop the last reference of each of these single pages now, and create the task that frees them as a list."""
        self._check_cpu(cpu)
        pages = [self.drop(pfn) for pfn in pfns]
        return self.spawn(name, self.kernel.free_unref_page_list(pages), cpu)

    def drop(self, pfn: int) -> Page:
        """Drop the last reference of a page that is in use, for a task that frees it."""
        page = self.state.page(pfn)
        effect = start_freeing(page).effect
        assert effect is not None
        effect(self.state, {})
        return page

    def task(self, name: str) -> Task:
        """The task of that name; an error if there is none."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise ModelError(f"no task is called {name!r}: there are {', '.join(t.name for t in self.tasks)}")

    def migrate(self, task: Task, cpu: int) -> None:
        """Preempt a task and continue it on another CPU; an error while it has interrupts off."""
        self._check_cpu(cpu)
        if self._pinned(task):
            what = "interrupts" if self.state.stored[self._taken[task.cpu]] == task.number else "preemption"
            raise ModelError(f"{task.name} has {what} off on CPU {task.cpu} and cannot migrate to CPU {cpu}")
        if task in self.workers and cpu != self.workers.index(task) and self._online(self.workers.index(task)):
            raise ModelError(f"{task.name} is bound to its CPU: the machine moves it when that goes down")
        if self.buffers is not None:
            self.buffers.empty(task)
        task.cpu = cpu

    def _check_cpu(self, cpu: int) -> None:
        if cpu not in self.config.cpus:
            raise ModelError(f"unknown CPU {cpu}: this machine has CPUs 0 to {self.config.nr_cpus - 1}")
        if not self._online(cpu):
            raise ModelError(f"CPU {cpu} is offline: bring it up first, or choose another")

    def _online(self, cpu: int) -> bool:
        return bool(self.state.stored[Cell("cpu_online", (cpu,))])

    def _pinned(self, task: Task) -> bool:
        return not task.preemptible or self.state.stored[self._taken[task.cpu]] == task.number

    # --- steps ---

    def can_step(self, task: Task) -> bool:
        """Whether ``task`` can take a step now."""
        if task.pending is None:
            return False
        owner = self.state.stored[self._taken[task.cpu]]
        if owner and owner != task.number:
            return False
        op = self.operation(task)
        return op.guard is TRUE or bool(op.must) or bool(self._evaluate(op.guard, task))

    def why_not(self, task: Task) -> str:
        """Why ``task`` cannot take a step now; empty if it can."""
        if self.can_step(task):
            return ""
        if task.pending is None:
            return f"{task.name} has finished"
        owner = self.state.stored[self._taken[task.cpu]]
        if owner not in (0, task.number):
            return f"interrupts are off on CPU {task.cpu}, where {self.tasks[owner - 1].name} runs"
        return f"{task.name} waits at {self.operation(task).text}"

    def holders(self, task: Task) -> list[str]:
        """The tasks that hold the mutexes for which ``task`` waits."""
        if task.pending is None:
            return []
        cells = {a.args[0] for a in atoms(self.operation(task).guard, "cell")}
        owners = {self.state.load(c) for c in cells if c.name == "mutex"}
        return [t.name for t in self.tasks if t.number in owners]

    def ready(self) -> list[Task]:
        """The tasks that can take a step now, in the order of their creation."""
        return list(filter(self.can_step, self.tasks))

    def operation(self, task: Task) -> Op:
        """The operation that ``task`` would perform now."""
        if task.pending is None:
            raise ModelError(f"{task.name} has finished: it has no next step")
        bound = task.bound
        if bound is None or bound[0] is not task.pending or bound[1] != task.cpu:
            bound = task.bound = (task.pending, task.cpu, bound_to(task.pending, task.cpu))
        return bound[2]

    def step(self, task: Task, choices: Mapping[str, int] | None = None) -> Step:
        """Let ``task`` perform its next operation.  ``choices`` are preferred where the operation leaves a choice.

        BugError if it cannot be done; nothing has changed then, and the error has the step.
        """
        if not self.can_step(task):
            raise ModelError(f"step not enabled: {self.why_not(task)}")
        op = self.operation(task)
        buffers, seen_late = self.buffers, dict[str, int]()
        if buffers is not None:
            buffers.begin(task, op, self.tasks)
        watched = [w.terms(task, op) for w in self.watchers]
        load: Callable[[Cell], int] = self.state.load
        whole: dict[Cell, int] = {}
        if op.effect is not None:
            # what the concrete half changes is read before, as everything else is
            every = (op.where, *op.returns, *op.counted_returns, *op.shown, *(t for _, t in op.updates))
            needed = (*every, *(t for terms in watched for t in terms.values()))
            cells = {a.args[0] for t in needed for a in atoms(t, "cell")}
            whole = self.state.abstract() if self.check else {}
            load = {c: whole[c] if c in whole else self.state.load(c) for c in cells}.__getitem__
        stack, at = call_place(type(self.kernel), task.routine)
        wanted = {**task.environment, **(choices or {})}
        registers = {"me": task.number}
        try:
            if self._forbidden(op, task):
                raise BugError(op.must)
            effect = self._perform(op, wanted)
        except BugError as bug:
            text = op.text.format(*("?" for _ in op.shown))
            n = len(self.history) + 1
            bug.step = Step(n, task.name, task.cpu, stack, text, op.kind, op.tag, (), (), (), op=op)
            raise

        find = load if buffers is None else buffers.view(task, load, wanted, seen_late)

        def now(term: Term) -> int:
            # most are constants
            return term.args[0] if term.op == "const" else evaluate(term, find, registers, effect.choices)

        if not now(op.where):
            raise RefinementError(f"{op.text}: the choices {dict(effect.choices)} are not allowed")
        lock = op.does.acquires
        late = buffers is not None and lock is not None and buffers.late(lock, task)
        if buffers is not None:
            # stores to one cell are in memory one after the other; who tries to take a lock may come too early
            for cell, _ in op.updates:
                if not (op.does.tries and cell == lock):
                    buffers.arrived(cell, task)
        written = tuple((cell, now(term)) for cell, term in op.updates)
        if late and op.does.tries and not all(seen_late.values()):
            # it was not to be had yet, and stays as it is
            written = tuple((cell, self.state.load(cell)) for cell, _ in written)
        returned = tuple(now(t) for t in op.returns)
        if self.check and op.counted_returns and Place.LOST not in self.state.place:
            counted = tuple(now(t) for t in op.counted_returns)
            if counted != returned:
                raise RefinementError(f"{op.text}: returns {returned}, and by the free pages {counted}")
        shown = [now(t) for t in op.shown]
        seen = [
            {name: evaluate(term, load, registers, effect.choices) for name, term in terms.items()} for terms in watched
        ]
        if buffers is not None:
            buffers.has_left(task, seen_late)
            buffers.made(task, op, dict(written), self.state.load)
        for cell, new in written:
            if not is_derived(cell):
                self.state.stored[cell] = new
        if self.check:
            self._check_refinement(op, dict(written), whole)
        made = tuple(sorted({**effect.choices, **seen_late}.items()))
        step = Step(
            len(self.history) + 1, task.name, task.cpu, stack, op.text.format(*shown) if shown else op.text, op.kind,
            op.tag, returned, written, made, at, op,
        )  # fmt: skip
        self.history.append(step)
        does = op.does
        if does.takes_down is not None:
            self._move_tasks_off()
        if does.pins:
            task.preemptible = does.pins < 0
        self._advance(task, op, returned, effect.extra)
        may_move = does.pins < 0 or stops_others(does.releases)
        if may_move:
            self._move_tasks_off()
        if may_move or does.brings_up is not None:
            self._rebind_workers()
        for watcher, values in zip(self.watchers, seen, strict=True):
            watcher.stepped(self, task, op, values)
        return step

    def may_miss(self, task: Task) -> list[str]:
        """The choices of whether stores of others that still wait in their buffers have left them."""
        return self.buffers.choices(task) if self.buffers is not None else []

    def insist(self, task: Task) -> None:
        """BugError if the next operation of ``task`` cannot be done, such as the unlock of what it does not hold."""
        if self.can_step(task) and self._forbidden(self.operation(task), task):
            self.step(task)

    def run(self, task: Task) -> Any:
        """Step ``task`` until it has finished; returns its result.  An error if it has to wait."""
        while not task.done:
            self.step(task)
        return task.result

    def settle(self, *tasks: Task) -> None:
        """Let ``tasks`` and the drain workers run, first come first served, until the tasks have finished or all wait."""
        while not all(t.done for t in tasks):
            ready = list(filter(self.can_step, (*tasks, *self.workers)))
            if not ready:
                waiting = "; ".join(self.why_not(t) for t in tasks if not t.done)
                raise ModelError(f"nobody can step: {waiting}")
            self.step(ready[0])

    def _forbidden(self, op: Op, task: Task) -> bool:
        return bool(op.must) and not self._evaluate(op.guard, task)

    def _evaluate(self, term: Term, task: Task) -> int:
        return evaluate(term, self.state.load, {"me": task.number})

    def _perform(self, op: Op, wanted: Mapping[str, int]) -> Effect:
        if op.effect is not None:
            return op.effect(self.state, wanted)
        return Effect({c.args[0]: wanted.get(c.args[0], False if c.sort == "bool" else 0) for c in op.choices})

    def _check_refinement(self, op: Op, written: Mapping[Cell, int], whole: Mapping[Cell, int]) -> None:
        if whole:
            left, allowed = self.state.abstract(), {**whole, **written}
            for cell in () if left == allowed else whole:
                if left[cell] != allowed[cell]:
                    raise RefinementError(f"{op.text}: {cell} is {left[cell]}, the operation allows {allowed[cell]}")
        for cell, new in written.items():
            if CELLS[cell.name].sort == "bool" and not isinstance(new, bool):
                raise RefinementError(f"{op.text}: {cell} is given {new!r}, which is no truth value")
            if not whole and is_derived(cell) and self.state.load(cell) != new:
                raise RefinementError(f"{op.text}: {cell} is {self.state.load(cell)}, the operation says {new}")

    def _move_tasks_off(self) -> None:
        """Whoever may move leaves a CPU that has gone; a text that does not wait for the others leaves them there."""
        for task in self.tasks:
            if not self._online(task.cpu) and not self._pinned(task):
                task.cpu = next(c for c in self.config.cpus if self._online(c))

    def _rebind_workers(self) -> None:
        """A worker that had to leave its CPU returns when that is online and the worker may move (rebind_workers())."""
        for home, worker in enumerate(self.workers):
            if worker.cpu != home and self._online(home) and not self._pinned(worker):
                worker.cpu = home

    def _advance(self, task: Task, op: Op, returned: tuple[int, ...], extra: Any) -> None:
        try:
            task.pending = advance(task.routine, packed(op, returned, extra))
        except StopIteration as stop:
            task.pending, task.result = None, stop.value

    # --- building an initial state ---

    def allocate(self, block: int, order: int = 0) -> int:
        """Take a free page of ``block`` out of the buddy as a page in use, before the first step; returns its pfn."""
        if order:
            raise ModelError("allocate() is for single pages: let a task run rmqueue() for larger ones")
        if not 0 <= block < self.config.nr_blocks:
            raise ModelError(f"unknown block {block}: this machine has blocks 0 to {self.config.nr_blocks - 1}")
        zone = self.state.zone_of(block)
        for pfn in self.state.pfns(block):
            if self.state.place[pfn] is Place.BUDDY:
                self.state.buddy(zone).remove(pfn - self.state.base(zone))
                self.state.place[pfn] = Place.IN_USE
                return pfn
        raise ModelError(f"block {block} has no free page left: give it more (pageblock_order)")

    def put_on_pcplist(self, cpu: int, block: int, migratetype: int = MigrateType.MOVABLE) -> int:
        """Put a free page of ``block`` at the head of a pcplist of ``cpu``, before the first step; returns its pfn."""
        self._check_cpu(cpu)
        if not 0 <= migratetype < PCPTYPES:
            raise ModelError(f"migratetype {migratetype} has no pcplist: give one below {PCPTYPES}")
        pfn = self.allocate(block)
        zone = self.state.zone_of(block)
        self.state.pcplists[zone.index][cpu].add_head(pfn, migratetype)
        self.state.stored_type[pfn] = migratetype
        self.state.place[pfn] = Place.PCP
        self.state.stored[Cell("pcp.count", (zone.index, cpu))] += 1
        return pfn

    def pages_in_use(self) -> Iterator[Page]:
        """The pages that are in use: each head of a compound page, each single page."""
        tails = {p for head, o in self.state.order_in_use.items() for p in range(head + 1, head + (1 << o))}
        for pfn, place in enumerate(self.state.place):
            if place is Place.IN_USE and pfn not in tails:
                yield self.state.page(pfn)

    def zone(self, index: int = 0) -> Zone:
        """The zone of that index; an error if there is none."""
        if not 0 <= index < self.config.nr_zones:
            raise ModelError(f"unknown zone {index}: this machine has zones 0 to {self.config.nr_zones - 1}")
        return self.config.zones[index]


def _no_work(_cpu: int) -> Routine:
    """The worker of a kernel that has none: it has returned, and its number stays free."""
    return
    yield


def packed(op: Op, returned: tuple[Any, ...], extra: Any = None) -> Any:
    """What the routine receives for ``op``: None, a value, several, or what the operation makes of them."""
    if op.pack is not None:
        return op.pack(returned, extra)
    return returned[0] if len(returned) == 1 else returned or None
