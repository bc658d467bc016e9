"""Spans and arrows: how long interrupts are off, locks are held and work is queued; and what serialises what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kernelmodel.cells import CELLS, MUTEXES, cpu_taken, layout, mutex_owner
from kernelmodel.terms import Cell, atoms
from verify.tracefile import Film, Frame
from verify.tracefile.words import cell_name, cell_value


def spans(film: Film) -> list[dict[str, Any]]:
    """Stretches of time, from the step that begins one to the step that ends it (None: it lasts)."""
    return [*_irqs(film), *_locks(film), *_work(film), *_windows(film)]


def _runs(film: Film, cell: Cell) -> Iterator[tuple[int, int | None, int]]:
    """(first frame, first frame after or None, value) for each stretch in which a cell has one value that is not 0."""
    since, value = 0, int(film.frames[0].cells[cell])
    for frame in film.frames[1:]:
        now = int(frame.cells[cell])
        if now != value:
            if value:
                yield since, frame.number, value
            since, value = frame.number, now
    if value:
        yield since, None, value


def _task(film: Film, number: int) -> str:
    return film.machine.tasks[number - 1].name


def _span(kind: str, cpu: int, first: int, last: int | None, label: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "cpu": cpu, "from": first, "to": last, "label": label, **more}


def _irqs(film: Film) -> Iterator[dict[str, Any]]:
    for cpu in film.machine.config.cpus:
        for first, last, owner in _runs(film, cpu_taken(cpu)):
            task = _task(film, owner)
            yield _span("irq", cpu, first, last, f"IRQs off on CPU{cpu} ({task})", task=task)


def _locks(film: Film) -> Iterator[dict[str, Any]]:
    for mutex in MUTEXES:
        for first, last, owner in _runs(film, mutex_owner(mutex)):
            yield _span("lock", _cpu_at(film, first), first, last, mutex, task=_task(film, owner))
    since: dict[str, Frame] = {}
    for frame in film.frames[1:]:
        step = frame.step
        if step is None:
            continue
        if step.text == "cpus_read_lock()":
            since[step.task] = frame
        elif step.text == "cpus_read_unlock()" and step.task in since:
            first = since.pop(step.task).number
            yield _span("lock", _cpu_at(film, first), first, frame.number, "cpus_read_lock", task=step.task)
    for task, frame in since.items():
        yield _span("lock", _cpu_at(film, frame.number), frame.number, None, "cpus_read_lock", task=task)


def _work(film: Film) -> Iterator[dict[str, Any]]:
    for cpu in film.machine.config.cpus:
        for name, kind in CELLS.items():
            for first, last, _ in _runs(film, Cell(name, (cpu,))) if kind.phase else ():
                yield _span("work", cpu, first, last, f"CPU{cpu}'s drain {kind.phase}", phase=kind.phase)


def _windows(film: Film) -> Iterator[dict[str, Any]]:
    """The windows of properties; the one of which the violated property speaks is marked."""
    check = film.violation.check if film.violation else None
    spoken = (
        set() if check is None else {a.args[0].name for t in (check.premise, check.violation) for a in atoms(t, "cell")}
    )
    found = [c for c in layout(film.machine.config) if CELLS[c.name].window]
    # of the first zone, which is the one shown, then of each block in turn
    cells = [c for c in found if "zone" in CELLS[c.name].axes and c.index[0] == 0]
    cells += sorted((c for c in found if "block" in CELLS[c.name].axes), key=lambda c: c.index)
    for cell in cells:
        for first, last, _ in _runs(film, cell):
            label = CELLS[cell.name].window.format(*cell.index)
            yield _span("window", -1, first, last, label, spoken=cell.name in spoken)


def _cpu_at(film: Film, number: int) -> int:
    step = film.frames[number].step
    return 0 if step is None else step.cpu


def arrows(film: Film) -> list[dict[str, Any]]:
    """What serialises what, each from an earlier to a later step."""
    return [*_hand_overs(film), *_work_arrows(film), *_seen(film), *_missed(film), *_over(film)]


def _arrow(kind: str, first: int, last: int, label: str, note: str = "") -> dict[str, Any]:
    """``label`` stands on its own; ``note`` is what the timeline says beside the step that is too early or too late."""
    return {"kind": kind, "from": first, "to": last, "label": label, "note": note}


def _hand_overs(film: Film) -> Iterator[dict[str, Any]]:
    for mutex in MUTEXES:
        held = list(_runs(film, mutex_owner(mutex)))
        for (_, released, owner), (taken, _, following) in pairwise(held):
            if released is not None and owner != following:
                label = f"{mutex}: {_task(film, owner)} unlocks, {_task(film, following)} gets it"
                yield _arrow("lock", released, taken, label)


def _work_arrows(film: Film) -> Iterator[dict[str, Any]]:
    queued: dict[int, int] = {}
    ended: dict[int, int] = {}
    for frame in film.frames[1:]:
        if frame.step is None:
            continue
        does = frame.step.op.does
        if does.queues:
            queued[does.queues.cpu] = frame.number
        elif does.begins and does.begins.cpu in queued:
            cpu = does.begins.cpu
            yield _arrow("work", queued.pop(cpu), frame.number, f"the drain queued for CPU{cpu} begins")
        elif does.ends:
            ended[does.ends.cpu] = frame.number
        elif does.awaits and does.awaits.cpu in ended:
            cpu = does.awaits.cpu
            yield _arrow("work", ended[cpu], frame.number, f"the drain of CPU{cpu} is over, the wait for it ends")


def _telling(film: Film, frame: Frame) -> list[Cell]:
    step = frame.step
    if step is None or not (step.returned or frame.read):
        return []
    named = [c for c, _ in frame.read if CELLS[c.name].telling]
    # free_unref_page_prepare() looks the type up through a choice of blocks: only the page's own block counts
    return [
        c for c in named if CELLS[c.name].values != "type" or step.op.told.value != "type" or _own_block(film, frame, c)
    ]


def _own_block(film: Film, frame: Frame, cell: Cell) -> bool:
    step = frame.step
    return step is not None and film.trace.start.block_of.get(step.task, cell.index[0]) == cell.index[0]


def _seen(film: Film) -> Iterator[dict[str, Any]]:
    """The write that a read of another task saw."""
    for frame in film.frames[1:]:
        for cell in _telling(film, frame):
            writer = next((f for f in reversed(film.frames[1 : frame.number]) if cell in f.access.writes), None)
            if writer and writer.step and frame.step and writer.step.task != frame.step.task:
                value = cell_value(film, cell, frame.cells[cell])
                yield _arrow(
                    "seen", writer.number, frame.number,
                    f"{frame.step.task} reads {cell_name(cell)} as {writer.step.task} wrote it: {value}",
                )  # fmt: skip


def _missed(film: Film) -> Iterator[dict[str, Any]]:
    """The write that a read of another task came too early to see: where races are."""
    for frame in film.frames[1:]:
        step = frame.step
        for cell in _telling(film, frame) if step is not None and (step.returned or not step.written) else ():
            for later in film.frames[frame.number + 1 :]:
                if later.step is None or step is None:
                    continue
                if later.step.task == step.task and any(c == cell for c, _ in later.read):
                    break
                if cell in later.access.writes:
                    if later.step.task != step.task and later.cells[cell] != frame.cells[cell]:
                        old, new = cell_value(film, cell, frame.cells[cell]), cell_value(film, cell, later.cells[cell])
                        label = f"{step.task} has read {cell_name(cell)} as {old}; {later.step.task} makes it {new} after that"
                        note = f"before step {later.number} makes it {new}"
                        yield _arrow("missed", frame.number, later.number, label, note)
                    break


def _over(film: Film) -> Iterator[dict[str, Any]]:
    """A limit of a CPU that one task writes over what another one wrote, while that one still holds the lock for them."""
    for frame in film.frames[1:]:
        for cell in frame.access.writes if frame.step is not None else ():
            kind = CELLS[cell.name]
            if not (kind.limit and "cpu" in kind.axes and kind.guard in MUTEXES):
                continue
            owner = mutex_owner(kind.guard)
            earlier = next((f for f in reversed(film.frames[1 : frame.number]) if cell in f.access.writes), None)
            if earlier is None or earlier.step is None or frame.step is None or earlier.step.task == frame.step.task:
                continue
            if frame.cells[owner] and _task(film, int(frame.cells[owner])) == earlier.step.task:
                label = f"{frame.step.task} writes {cell_name(cell)} over what {earlier.step.task} wrote under the lock"
                note = f"over what {earlier.step.task} wrote in step {earlier.number}"
                yield _arrow("over", earlier.number, frame.number, label, note)
