"""A step and the machine's state as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernelmodel.cells import CELLS
from kernelmodel.machine import Step
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell
from verify import page
from verify.columns import columns, comment
from verify.tracefile.film import Film, Frame
from verify.tracefile.picture import PLACES, CpuPicture, Picture
from verify.tracefile.words import cell_name, cell_value, explain, worth_reading, worth_writing


def as_columns(film: Film, *, full: bool = False, width: int | None = None) -> str:
    """The trace as a changelog shows a race, up to the violation if there is one; with ``full`` nothing is left out."""
    violation = film.violation
    end = len(film.steps) if violation is None else violation.step
    cpu = None if violation is None or violation.check is None else violation.check.cpu
    if film.prop.name == "lock_order":
        cpu = None
    accesses = [f.access for f in film.frames[1:]]
    found = f"{film.prop.name} is not violated in these steps" if violation is None else violation.found
    if not end:
        return f"=> {found}: at the start already"
    return columns(film.trace.start, film.steps[:end], accesses[:end], found, cpu, full=full, width=width)


def as_list(film: Film) -> str:
    """Every step, one line each, with the number that --step's `run` takes."""
    width = task_width(film)
    lines = [one_line(f, width) for f in film.frames[1:]]
    if film.violation:
        lines += ["", f"=> after step {film.violation.step}: {film.violation.found}"]
    return "\n".join(lines)


def task_width(film: Film) -> int:
    """How wide a column of task names has to be."""
    return max((len(s.task) for s in film.steps), default=4)


def one_line(frame: Frame, width: int = 0) -> str:
    """A step as one line: number, CPU, task, calls, operation, values."""
    step = frame.step
    if step is None:
        return "   0  the start"
    stack = _calls(step)
    calls = " > ".join(("..." if len(stack) > 2 else "", *stack[-2:], "")).removeprefix(" > ")
    came = f"  /* {comment(step)} */" if comment(step) else ""
    return f"{frame.number:4d}  CPU{step.cpu} {step.task:{width}}  {calls}{step.text}{came}"


def _calls(step: Step) -> tuple[str, ...]:
    """The calls around an operation, without one that is nothing but the operation."""
    own = bool(step.stack) and step.text.startswith(f"{step.stack[-1]}(")
    return step.stack[:-1] if own else step.stack


def where(film: Film, frame: Frame) -> str:
    """The step that has just been made, what it means, what it read and wrote, and what changed hands."""
    total = len(film.frames) - 1
    if frame.step is None:
        return f"at the start, before step 1 of {total}: nothing has happened yet"
    step = frame.step
    lines = [f"step {frame.number} of {total}: CPU{step.cpu}, {step.task}"]
    stack = _calls(step)
    lines += [f"{'  ' * (depth + 1)}{name}()" for depth, name in enumerate(stack)]
    came = f"  /* {comment(step)} */" if comment(step) else ""
    lines.append(f"{'  ' * (len(stack) + 1)}{step.text}{came}")
    if meaning := explain(step):
        lines += page.fill(meaning, "  ")
    for cell, value in worth_reading(frame):
        came, goes = _written_by(film, frame, cell), _overwritten(film, frame, cell)
        lines.append(f"  read     {cell_name(cell)}: {cell_value(film, cell, value)}{came}{goes}")
    before = film.frames[frame.number - 1]
    for cell, value in worth_writing(frame):
        old = before.cells[cell]
        if old != value or cell.name.startswith("pcp."):
            lines.append(
                f"  written  {cell_name(cell)}: {cell_value(film, cell, old)} -> {cell_value(film, cell, value)}"
            )
    lines += [f"  moved    {sentence}" for sentence in moves(before.picture, frame.picture)]
    if frame.pc:
        lines.append(f"  at       {frame.pc}")
    if film.violation and frame.number >= film.violation.step:
        lines.append(f"  => {film.violation.found}")
    return "\n".join(lines)


def _written_by(film: Film, frame: Frame, cell: Cell) -> str:
    for earlier in reversed(film.frames[1 : frame.number]):
        step = earlier.step
        if step is not None and any(c == cell for c, _ in step.written):
            return f", from step {earlier.number} ({step.task})"
    return ", as at the start"


def _overwritten(film: Film, frame: Frame, cell: Cell) -> str:
    """Who changes a value of a pageset or a block after it was read: where races are."""
    later = next((f for f in film.frames[frame.number + 1 :] if f.cells[cell] != frame.cells[cell]), None)
    told = cell.name.startswith("pcp.") or CELLS[cell.name].values == "type"
    if later is None or later.step is None or frame.step is None or later.step.task == frame.step.task or not told:
        return ""
    return f"; step {later.number} ({later.step.task}) makes it {cell_value(film, cell, later.cells[cell])}"


def moves(before: Picture, after: Picture) -> list[str]:
    """One sentence for each group of pages that went from one place to another."""
    old, new = before.where(), after.where()
    groups: dict[tuple[str, str], list[int]] = {}
    for pfn, place in new.items():
        if old[pfn] != place:
            groups.setdefault((old[pfn], place), []).append(pfn)
    return [f"{pages(group)}: {source} -> {target}" for (source, target), group in groups.items()]


def pages(numbers: Sequence[int]) -> str:
    """Page numbers as text, runs of three and more as ``first-last``."""
    if not numbers:
        return "-"
    parts: list[str] = []
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    for run in runs:
        parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(n) for n in run]
    return ("page " if len(numbers) == 1 else "pages ") + " ".join(parts)


def zone(film: Film, frame: Frame) -> str:
    """The zone after a step: pcplists, blocks, buddy, limits, locks, work items, tasks."""
    picture = frame.picture
    before = film.frames[max(frame.number - 1, 0)].picture
    lines = [f"the zone after step {frame.number}" if frame.number else "the zone at the start"]
    for cpu, old in zip(picture.cpus, before.cpus, strict=True):
        lines += _cpu(cpu, old)
    lines += ["", "  pageblocks"]
    for block in picture.blocks:
        counts = [f"{block.places.count(letter)} {word}" for word, letter in PLACES.items() if letter in block.places]
        last = block.first + len(block.places) - 1
        lines.append(
            f"    block {block.block}  {block.migratetype:11}  pages {block.first}-{last}: {', '.join(counts)}"
        )
    lines += ["", "  buddy free lists (first pages of free runs; order n is a run of 2^n pages)"]
    lines += [f"    {t:11}  order {order}: {pages(heads)}" for t, order, heads in picture.buddy] or ["    empty"]
    high, batch = picture.limits
    lines += ["", f"  limits of the zone: high {high}, batch {batch}"]
    if picture.disabled_by:
        lines.append(f"  pcplists are disabled by {picture.disabled_by}: no page may stay on one")
    lines += ["", "  locks"]
    lines += [f"    {name:20}  {holder or 'free'}" for name, holder in picture.locks]
    lines += ["", "  tasks"]
    lines += list(_tasks(picture, film))
    return "\n".join(lines)


def _cpu(cpu: CpuPicture, old: CpuPicture) -> Iterator[str]:
    irqs = f"IRQs off ({cpu.irqs_off_by})" if cpu.irqs_off_by else "IRQs on"
    online = "" if cpu.online else ", offline"
    numbers = ", ".join(
        f"{name} {now}" + (f" (was {then})" if now != then else "")
        for name, now, then in (
            ("count", cpu.count, old.count), ("high", cpu.high, old.high), ("batch", cpu.batch, old.batch)
        )
    )  # fmt: skip
    yield ""
    yield f"  CPU{cpu.cpu}  {irqs}{online}; drain work: {cpu.work}"
    yield f"    pcp: {numbers}"
    for t, listed in enumerate(cpu.lists):
        if listed or t == MigrateType.MOVABLE:
            yield f"    {MigrateType(t).name:11}  {pages(listed) if listed else 'empty'}"


def _tasks(picture: Picture, film: Film) -> Iterator[str]:
    acting = {s.task for s in film.steps}
    width = max(len(t.name) for t in picture.tasks)
    for task in picture.tasks:
        if task.name not in acting:
            continue
        if not task.next:
            yield f"    {task.name:{width}}  finished"
            continue
        waits = f"  (waits: {task.waits})" if task.waits and "waits at" not in task.waits else ""
        waits = "  (waits)" if "waits at" in task.waits else waits
        yield f"    {task.name:{width}}  on CPU{task.cpu}, next: {task.next}{waits}"
