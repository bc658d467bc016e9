"""What a step means, in a sentence for somebody who has never seen the model or the allocator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kernelmodel.cells import CELLS, owner, stops_others
from kernelmodel.machine import Step
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell
from verify.columns import dull as columns_dull
from verify.trace import Access

if TYPE_CHECKING:
    from verify.tracefile.film import Film, Frame

#: words that the displays use, each with its meaning
GLOSSARY: Mapping[str, str] = {
    "pcplist": "a CPU's own lists of free pages, one per migratetype, used without a lock while interrupts are off",
    "count": "how many pages the CPU believes to be on its pcplists",
    "high": "when count reaches it, a free gives pages back to the buddy; 0 means: give back at once",
    "batch": "how many pages move between pcplist and buddy at a time",
    "buddy": "the zone's own free lists, under zone->lock",
    "pageblock": "a run of pages with one migratetype; offlining works on whole blocks",
    "ISOLATE": "the migratetype of a pageblock that is to go offline: its free pages are not allocated",
    "drain": "give all pages of a CPU's pcplists back to the buddy, by a work item that runs on that CPU",
    "IRQs off": "between local_irq_save() and local_irq_restore() nothing else runs on that CPU",
}


def cell_name(cell: Cell) -> str:
    """A cell as kernel code or words: ``pcp[0]->count``."""
    return CELLS[cell.name].in_words(cell.name, cell.index)


def cell_value(film: Film, cell: Cell, value: int) -> str:
    """A cell's value as C would write it, with names for tasks and migratetypes."""
    values = CELLS[cell.name].values
    if values == "task":
        return film.machine.tasks[value - 1].name if value else "nobody"
    if values == "type":
        return MigrateType(value).name
    return str(value).lower() if isinstance(value, bool) else str(value)


def dull(step: Step, access: Access, film: Film) -> bool:
    """Whether a step is bookkeeping that a reader can do without, as the columns leave it out."""
    check = film.violation.check if film.violation else None
    return columns_dull(step, access, None if check is None else check.cpu)


def worth_reading(frame: Frame) -> list[tuple[Cell, int]]:
    """What a step read and a reader wants to know: not how the model counts pages, nor that a lock's holder holds it."""
    step = frame.step
    if step is None or step.op.told.moves or step.op.does.releases or stops_others(step.op.does.acquires):
        return []
    return [(c, v) for c, v in frame.read if (k := CELLS[c.name]).where == "pcplist" or not (k.derived or k.silent)]


def worth_writing(frame: Frame) -> list[tuple[Cell, int]]:
    """What a step wrote and a reader wants to know; where pages went is told as moves."""
    step = frame.step
    return [] if step is None else [(c, v) for c, v in step.written if not ((k := CELLS[c.name]).derived or k.silent)]


def explain(step: Step) -> str:
    """The step in a sentence; empty where its text says all there is."""
    told = step.op.told
    why = told.if_not if told.if_not and step.returned and not step.returned[0] else told.why
    if not why and len(step.written) == 1:
        (cell, value), *_ = step.written
        why = next((text for n, text in CELLS[cell.name].when_written if n is None or n == value), "")
        return why.format(cpu=owner(cell))
    return why.format(cpu=step.cpu, task=step.task)
