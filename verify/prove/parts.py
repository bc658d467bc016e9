"""The parts that tasks play for the tracked CPU: which steps belong to whom, contracted to what is followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernelmodel.cells import CELLS, cpu_there, mutex_owner, section_of, stops_others
from kernelmodel.config import Config
from kernelmodel.ops import Op
from kernelmodel.terms import ME, Cell, Term
from kernelmodel.text import KernelText
from properties.arguments import BY_WORK_ITEM, Argument, argument_of
from properties.lemmas import DRAIN_LOCK, LOCK, cell_of
from verify.ordering.loosened import Loose
from verify.prove.alike import Alike
from verify.prove.population import ZONE, Size, Text, texts
from verify.prove.roles import ENDS, Part, Program, ProjectionError, Step, cells, entries


def followed_cells(config: Config, zone: int, cpu: int, argument: Argument = BY_WORK_ITEM) -> frozenset[Cell]:
    """The cells of which the lemmas speak, and those that they need, for one CPU and zone."""
    found = {cell_of(name, zone, cpu) for name in (*argument.protected, *argument.closed)}
    found |= {mutex_owner(m) for m in (LOCK, DRAIN_LOCK)} | {cpu_there(cpu)}
    for lemma in argument.lemmas.values():
        found |= cells([lemma.term(config, zone, cpu)])
    return frozenset(found)


class Parts:
    """The parts that a kernel's tasks play for the tracked CPU, contracted to what is followed."""

    def __init__(
        self, kernel: type[KernelText], size: Size | None = None, population: Sequence[Text] | None = None,
        judged: Callable[[Op], bool] = lambda _: False, loose: Loose | None = None,
    ) -> None:  # fmt: skip
        """``population``: the texts of the tasks there are; by default all kinds of tasks, each any number of times.

        ``loose``: loads that may find anything.  ``judged``: operations that are transitions even if they change nothing
        that is followed.
        """
        self.kernel, self.size, self.loose = kernel, (size or Size()).of(kernel), loose
        self.config: Config = kernel.sized(self.size.config)
        self.argument = argument_of(kernel)
        self.zone, self.cpu = ZONE, self.size.cpu
        #: the lock of the tracked pcplist, where it has one
        self.lock = None if self.argument.worker else section_of(self.config, self.zone, self.cpu)
        self.program = Program(texts(kernel, self.size, loose) if population is None else population, self.lock)
        self.followed = followed_cells(self.config, self.zone, self.cpu, self.argument)
        self.ghosts = {g.name: g for g in self.argument.ghosts}
        self._parts(judged)

    @property
    def private(self) -> list[Cell]:
        """Cells that only sections of the CPU read and write: the lists and their count."""
        return sorted((c for c in self.followed if (k := CELLS[c.name]).where == "pcplist" or k.starts_as_sum), key=str)

    # --- parts ---

    def _parts(self, judged: Callable[[Op], bool]) -> None:
        steps = self.program.steps
        # where the pcplist has a lock, a worker is a task like others
        worker = {u: s for u, s in steps.items() if s.kind.worker and self.argument.worker}
        held = {u: s for u, s in steps.items() if LOCK in s.locks and u not in worker}
        on_cpu = {u: s for u, s in steps.items() if self.in_section(s) and u not in worker}
        for s in on_cpu.values():
            if any(CELLS[c.name].sleeps for c, _ in s.op.updates):
                raise ProjectionError(f"{s.name}: a mutex is taken or released with interrupts off, or in a section")
        # where the pcplist has a lock, the holder's sections of it are steps of its own
        self.holder = Part(
            self.program, held, self.followed,
            lambda s: not self.lock and (s.irqs_off or stops_others(s.op.does.acquires)), judged,
        )  # fmt: skip
        others = {u: s for u, s in on_cpu.items() if not (self.lock and u in held)}
        self.section = Part(self.program, others, self.followed)
        self.worker = Part(self.program, worker, self.followed)
        self.all_section_entries = list(entries(self.program, self.cpu))
        self.section_entries = self._distinct(self.all_section_entries)
        self.lock_steps = [s for s in steps.values() if self._takes_lock(s)]
        first = [t for s in self.lock_steps for _, t in self.holder.closure(s)]
        self.holder_steps = self.holder.reachable(first)
        first = [t for s in self.section_entries for _, t in self.section.closure(s)]
        self.section_steps = self.section.reachable(first)
        self.worker_steps = self.worker.steps
        self.worker_idle = self._idle() if self.argument.worker else 0

    def in_section(self, step: Step) -> bool:
        """Whether a task is in its critical section of the tracked pcplist at a step."""
        return step.inside if self.lock else step.irqs_off and step.kind.cpu == self.cpu

    def enters(self, op: Op) -> bool:
        """Whether an operation begins a critical section of the tracked pcplist."""
        return op.does.acquires == self.lock if self.lock else stops_others(op.does.acquires)

    def leaves(self, op: Op) -> bool:
        """Whether an operation ends it."""
        return op.does.releases == self.lock if self.lock else stops_others(op.does.releases)

    def _takes_lock(self, step: Step) -> bool:
        """Whether a step takes pcp_batch_high_lock."""
        new = [t for c, t in step.op.updates if c == mutex_owner(LOCK)]
        if any(t.key != ME.key and t.op != "const" for t in new):
            raise ProjectionError(f"{step.name}: {LOCK} is only taken if it is free, which is not followed")
        return any(t.key == ME.key for t in new) and LOCK not in step.locks

    def _idle(self) -> int:
        begins = [u for u, s in self.worker_steps.items() if s.op.does.begins]
        if len(begins) != 1:
            raise ProjectionError(f"the worker of CPU {self.cpu} takes work at {len(begins)} places")
        return begins[0]

    def _distinct(self, found: list[Step]) -> list[Step]:
        """One of those whose sections are the same, step by step."""
        kept: dict[Any, Step] = {}
        for s in found:
            kept.setdefault(self._shape(s), s)
        return list(kept.values())

    def _shape(self, entry: Step) -> Any:
        """What a section does, step by step: equal for two sections if one is as good as the other."""
        order: dict[int, int] = {}
        alike = Alike(self.program)

        def said(step: Step) -> Any:
            op = step.op
            updates = sorted(((c, t) for c, t in op.updates if c in self.followed), key=lambda u: u[0])
            return (
                op.tag,
                op.must,
                [c for c, _ in updates],
                alike([op.guard, op.where, *op.returns, *(t for _, t in updates)]),
            )

        shape = [said(entry)]
        alike.defines(entry)
        queue = [self.section.closure(entry)]
        while queue:
            edges = queue.pop(0)
            found = [t for _, t in edges if t not in ENDS and t not in order]
            for t in dict.fromkeys(found):
                order[t] = len(order)
                queue.append(self.section.steps[t].edges)
            shape.append([(alike(c), order.get(t, t)) for c, t in edges])
            for t in dict.fromkeys(found):
                shape.append(said(self.section.steps[t]))
                alike.defines(self.section.steps[t])
        return repr(shape)

    @staticmethod
    def _terms(op: Op) -> list[Term]:
        return [op.guard, op.where, *op.returns, *(t for _, t in op.updates)]
