"""A trace as a kernel changelog shows a race: one column per CPU, time running down, calls by indentation."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from kernelmodel.machine import Step
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell
from verify.trace import Access, Start

#: width of one column where two fit a mail
WIDTH = 50
#: operations that are bookkeeping of the model or of the drain, shown as "..." unless nothing else is there
_DULL = ("lockdep", "cpu", "irq_restore", "preempt_disable", "preempt_enable")
_DULL_CELLS = (
    "cpus_with_pcps",
    "drain.zone",
    "cpu_online",
    "zone.managed_pages",
    "zone.present_pages",
    "cpu_hotplug_readers",
)
_DULL_MUTEXES = ("cpu_hotplug_lock", "mem_hotplug_lock", "pcpu_drain_mutex")
#: calls whose only line is the operation of the same name
_PRIMITIVE = ("mutex_lock", "mutex_unlock", "mutex_trylock", "cpus_read_lock", "cpus_read_unlock", "queue_work_on",
              "flush_work", "rmqueue_bulk", "memory_notify", "worker_thread", "cpus_write_lock", "cpus_write_unlock")  # fmt: skip


def columns(start: Start, steps: Sequence[Step], accesses: Sequence[Access], found: str, cpu: int | None) -> str:
    """The trace as text to paste into a mail: what the start was, the columns, and the broken property below."""
    used = sorted({s.cpu for s in steps})
    acting = {s.task for s in steps}
    lines = [*_start_lines(start, acting), "", _row([f"CPU{c}" for c in used]), _row(["----"] * len(used))]
    shown_stack: dict[str, tuple[str, ...]] = {}
    last_task: dict[int, str] = {}
    dots: str | None = None
    for step, access in zip(steps, accesses, strict=True):
        column = used.index(step.cpu)
        if dull(step, access, cpu) and step is not steps[-1]:
            dots = step.task
            continue
        stack = tuple(name for name in step.stack if name not in _PRIMITIVE)
        cell: list[str] = []
        if last_task.get(step.cpu) != step.task:
            if step.cpu in last_task or step.task.startswith("kworker"):
                cell.append(f"/* {step.task} */")
            last_task[step.cpu] = step.task
        before = shown_stack.get(step.task, ())
        common = 0
        while common < min(len(before), len(stack)) and before[common] == stack[common]:
            common += 1
        if dots == step.task and before:
            cell.append("  " * max(common, 1) + "...")
        dots = None
        for depth in range(common, len(stack)):
            cell.append("  " * depth + f"{stack[depth]}()")
        indent = "  " * len(stack)
        shown_stack[step.task] = stack
        cell += _wrapped(indent, _text(step))
        for text in cell:
            lines.append(_row(["" if i != column else text for i in range(len(used))]))
    lines += ["", f"=> {found}"]
    return "\n".join(line.rstrip() for line in lines)


def _start_lines(start: Start, acting: set[str]) -> list[str]:
    lists = [
        f"CPU{cpu}'s {MigrateType(t).name} list has {_pages(n)} of block {b}" for cpu, t, b, n in start.lists
    ]  # fmt: skip
    where = f"at the start: high {start.limits[0]}, batch {start.limits[1]}; {'; '.join(lists) or 'pcplists empty'}"
    blocks = [f"{name} frees a page of block {b}" for name, b in start.block_of.items() if name in acting]
    return textwrap.wrap("; ".join([where, *blocks]), 2 * WIDTH)


def _pages(n: int) -> str:
    return f"{n} page" + ("" if n == 1 else "s")


def dull(step: Step, access: Access, cpu: int | None) -> bool:
    """Whether a step is bookkeeping that a reader can do without; ``cpu`` is the one that the property speaks of."""
    if step.tag in _DULL or (step.tag == "irq_save" and not _of_interest(access, cpu)):
        return True
    looked_at = access.writes | (access.reads if step.returned else frozenset())
    cells = {c for c in looked_at if c.name != "irqs_off"}
    if step.tag == "environment" and not any(step.returned):
        return True
    if cells and all(c.name in _DULL_CELLS or (c.name == "mutex" and c.index[0] in _DULL_MUTEXES) for c in cells):
        return True
    if cpu is None:
        return False
    per_cpu = [c for c in cells if c.name.startswith(("pcp.", "work."))]
    return bool(per_cpu) and not any(_cpu_of(c) == cpu for c in per_cpu)


def _of_interest(access: Access, cpu: int | None) -> bool:
    return any(c.name == "irqs_off" and c.index[0] == cpu for c in access.writes)


def _cpu_of(cell: Cell) -> int | str:
    return cell.index[1] if cell.name.startswith("pcp.") else cell.index[0]


def _text(step: Step) -> str:
    if step.tag in ("mark", "offline_pages_returned"):
        return f"/* {step.text} */"
    if not step.returned or step.tag in ("irq_save", "new_limits"):
        return step.text
    values = ", ".join(str(int(v)) if not isinstance(v, bool) else str(v).lower() for v in step.returned)
    return f"{step.text}  /* {values} */"


def _wrapped(indent: str, text: str) -> list[str]:
    width = max(WIDTH - 2, len(indent) + 20)
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent + "    ", break_long_words=False
    ) or [indent]


def _row(cells: Sequence[str]) -> str:
    return "".join(c.ljust(WIDTH) if len(c) < WIDTH else c + " " for c in cells).rstrip()
