"""What a step means, in a sentence for somebody who has never seen the model or the allocator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kernelmodel.cells import CELLS
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
#: operations whose reads and writes are told by the pages that move
_MOVERS = ("refill", "take", "detach", "free_to_buddy", "list_add", "rmqueue", "offline", "online", "unmap_and_move")
_READS = {
    "count": "A look at how many pages CPU{cpu} says it has on its pcplists.",
    "high": "The limit above which CPU{cpu} gives pages back to the buddy.",
    "batch": "How many pages CPU{cpu} is to move at a time.",
}
_ENVIRONMENT = {
    "signal": "Whether a signal wants this to stop: decided from outside.",
    "memory_notify": "The drivers are told; whether one objects is decided from outside.",
    "walk_system": "Whether the range can be offlined at all: decided from outside.",
    "scan_movable": "Whether the scan found something unmovable: decided from outside.",
    "dissolve": "Whether free huge pages could be dissolved: decided from outside.",
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
    if step is None or step.tag in ("irq_save", "irq_restore", "unlock", *_MOVERS):
        return []
    return [(c, v) for c, v in frame.read if (k := CELLS[c.name]).where == "pcplist" or not (k.derived or k.silent)]


def worth_writing(frame: Frame) -> list[tuple[Cell, int]]:
    """What a step wrote and a reader wants to know; where pages went is told as moves."""
    step = frame.step
    return [] if step is None else [(c, v) for c, v in step.written if not ((k := CELLS[c.name]).derived or k.silent)]


def explain(step: Step) -> str:
    """The step in a sentence; empty where its text says all there is."""
    cpu, where = step.cpu, f"CPU{step.cpu}"
    simple = {
        "irq_save": f"From here on nothing else runs on {where}, until interrupts are on again.",
        "irq_restore": f"Other tasks and work items can run on {where} again.",
        "lockdep": f"{step.task} is about to take the mutex and waits if somebody has it.",
        "queue_work": "The drain of that CPU is put on its queue; it has not run yet.",
        "flush_work": "The queued drain has been executed: the wait for it ends.",
        "work_begin": f"{where}'s worker takes the queued drain and begins it.",
        "work_end": f"{where}'s drain is over; whoever flushes it can go on.",
        "prepare": "The page's migratetype is looked up with interrupts on. The block can change its type right after.",
        "list_add": f"The page goes to the head of {where}'s pcplist for the type that was looked up before.",
        "refill": f"The list was empty: pages come from the buddy to {where}'s pcplist. count does not include them yet.",
        "take": f"The first page of {where}'s pcplist is handed to the caller.",
        "detach": f"Pages leave {where}'s pcplists, to go back to the buddy.",
        "free_to_buddy": "Pages are put on the buddy's free lists, under zone->lock.",
        "isolate": "The block becomes ISOLATE and its free pages move to the ISOLATE list. Pages on pcplists do not move.",
        "unisolate": "The block gets its old type back.",
        "test_pages_isolated": "Is every page of the range in the buddy, isolated? If not, offlining goes round again.",
        "scan_movable_pages": "Looks for pages of the range that are still in use.",
        "offline": "The range leaves the buddy: its pages are gone.",
        "new_limits": "The limits that size and settings of the zone ask for now.",
        "bulk_spin": "All lists are empty and the loop wants another page: it never ends.",
        "preempt_disable": f"{step.task} stays on {where}.",
        "preempt_enable": f"{step.task} may move to another CPU again.",
        "cpu": "On which CPU this runs.",
        "unlock": "The next one who waits can have it.",
    }
    if step.tag in simple:
        return simple[step.tag]
    if step.tag == "lock":
        free = not step.returned or step.returned[0]
        return f"{step.task} holds it from here on." if free else "Somebody else holds it: not taken."
    if step.tag == "mark":
        return _mark(step)
    if step.tag == "environment":
        return next(
            (text for start, text in _ENVIRONMENT.items() if step.text.startswith(start)), "Decided from outside."
        )
    if step.tag == "read":
        return _read(step)
    if step.tag == "write":
        return _write(step, cpu)
    return ""


def _mark(step: Step) -> str:
    return {
        "zone_pcp_disable() has returned": "Here the promise begins: from now on no page may stay on a pcplist.",
        "zone_pcp_enable() is entered": "Here the promise ends: pcplists are used again.",
        "start_isolate_page_range() has returned": "Here the range counts as isolated: nobody should get a page of it.",
        "the range is isolated and drained": "Here the promise begins: no page of the range may be left on a pcplist.",
    }.get(step.text, "")


def _read(step: Step) -> str:
    if step.text.startswith("list_empty"):
        return f"Does {step.text[step.text.index('[') :].split(']')[0].replace('[', 'CPU')} have a page of that type?"
    if step.text.startswith("pcp[") and "->" in step.text:
        cpu, _, name = step.text.removeprefix("pcp[").partition("]->")
        return _READS.get(name, "").format(cpu=cpu)
    if step.text.startswith("cpu_online"):
        return "Is that CPU online?"
    if step.text.startswith("cpus_with_pcps"):
        return "Is that CPU one of those to be drained?"
    return ""


def _write(step: Step, cpu: int) -> str:
    if step.text.startswith("cpus_with_pcps"):
        return "That CPU will be drained." if "True" in step.text else "That CPU will not be drained."
    if not step.text.startswith("pcp["):
        return ""
    other, _, rest = step.text.removeprefix("pcp[").partition("]->")
    if rest.startswith("high = 0"):
        return f"A free on CPU{other} that reads this gives its page back to the buddy at once."
    if rest.startswith("batch = 1"):
        return f"From its next look at this on, CPU{other} moves one page at a time."
    if rest.startswith("count"):
        return f"CPU{other}'s count catches up with its lists." if other == str(cpu) else ""
    return ""
