"""A picture of the machine at one moment, as plain data: pcplists with page numbers, blocks, buddy, locks, work, tasks."""

from __future__ import annotations

from dataclasses import dataclass

from kernelmodel.calls import call_stack
from kernelmodel.cells import CELLS, MUTEXES, cpu_taken, cpu_there, disabler, isolated, limits_of_cpus, mutex_owner
from kernelmodel.machine import Machine, Task
from kernelmodel.mmzone import PCPTYPES, MigrateType
from kernelmodel.ops import Op
from kernelmodel.terms import Cell

#: the words for each place of a page, and the letter by which pictures encode it
PLACES = {
    "free in the buddy": "b", "on a pcplist": "p", "in use": "u", "being freed": "f", "offline": "o", "lost": "l"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CpuPicture:
    """One CPU: who has its interrupts off (empty: they are on), limits, count, pages on each list, its work item."""

    cpu: int
    online: bool
    irqs_off_by: str
    high: int
    batch: int
    count: int
    lists: tuple[tuple[int, ...], ...]
    work: str


@dataclass(frozen=True, slots=True)
class BlockPicture:
    """One pageblock: its migratetype, its first page, and where each of its pages is (``PLACES``)."""

    block: int
    migratetype: str
    isolated: bool
    first: int
    places: str


@dataclass(frozen=True, slots=True)
class TaskPicture:
    """One task: its CPU, the calls that it is in, what it does next (empty: finished) and what it waits for."""

    name: str
    cpu: int
    calls: tuple[str, ...]
    next: str
    waits: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The whole machine; ``buddy`` are (migratetype, order, heads), ``locks`` (mutex, holder or empty)."""

    cpus: tuple[CpuPicture, ...]
    blocks: tuple[BlockPicture, ...]
    buddy: tuple[tuple[str, int, tuple[int, ...]], ...]
    locks: tuple[tuple[str, str], ...]
    limits: tuple[int, int]
    disabled_by: str
    tasks: tuple[TaskPicture, ...]

    def where(self) -> dict[int, str]:
        """Where each page is: "CPU0 MOVABLE", or a word of ``PLACES``."""
        words = {letter: word for word, letter in PLACES.items()}
        found = {b.first + i: words[p] for b in self.blocks for i, p in enumerate(b.places)}
        for cpu in self.cpus:
            for t, pages in enumerate(cpu.lists):
                found |= {page: f"CPU{cpu.cpu}'s {MigrateType(t).name} list" for page in pages}
        return found


def take(machine: Machine) -> Picture:
    """A picture of zone 0 of ``machine``, now."""
    state = machine.state

    look = state.stored.__getitem__

    def cell(name: str, *index: int | str) -> int:
        return look(Cell(name, index))

    def limit(which: str, cpu: int | None = None) -> int:
        """A limit of the zone, or of a CPU's pcplist of it."""
        name = next(n for n in machine.config.limits if CELLS[n].limit == which)
        if cpu is None:
            return cell(name, 0)
        return cell(next(mine for mine, zone in limits_of_cpus(machine.config) if zone == name), 0, cpu)

    def holder(number: int) -> str:
        return machine.tasks[number - 1].name if number else ""

    phases = {k.phase: name for name, k in CELLS.items() if k.phase}

    def work(cpu: int) -> str:
        """What the CPU's work item is."""
        queued, running = (cell(phases[phase], cpu) for phase in ("queued", "running"))
        if running:
            return "running, queued again" if queued else "running"
        return "queued" if queued else "idle"

    cpus = tuple(
        CpuPicture(
            c, bool(look(cpu_there(c))), holder(look(cpu_taken(c))), limit("high", c), limit("batch", c),
            state.pcp_count(0, c), tuple(tuple(state.pcplists[0][c].lists[t]) for t in range(PCPTYPES)), work(c),
        )
        for c in machine.config.cpus
    )  # fmt: skip
    blocks = tuple(
        BlockPicture(
            b, MigrateType(state.block_type(b)).name, bool(look(isolated(b))), state.pfns(b)[0],
            "".join(PLACES[state.place[p].value] for p in state.pfns(b)),
        )
        for b in range(machine.config.nr_blocks)
    )  # fmt: skip
    buddy = tuple(
        (MigrateType(t).name, order, tuple(pages))
        for (order, t), pages in sorted(state.buddies[0].free_list.items(), key=lambda item: (item[0][1], item[0][0]))
        if pages
    )
    locks = tuple((m, holder(look(mutex_owner(m)))) for m in MUTEXES)
    return Picture(
        cpus, blocks, buddy, locks, (limit("high"), limit("batch")),
        holder(look(disabler(0))), tuple(_task(machine, t) for t in machine.tasks),
    )  # fmt: skip


def _task(machine: Machine, task: Task) -> TaskPicture:
    if task.pending is None:
        return TaskPicture(task.name, task.cpu, (), "", "")
    op: Op = machine.operation(task)
    text = op.text.split(" = {")[0].split(" += {")[0].replace("{0}", "…")
    calls = call_stack(type(machine.kernel), task.routine)
    return TaskPicture(task.name, task.cpu, calls, text, machine.why_not(task))
