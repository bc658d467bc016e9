"""A trace as a kernel changelog shows a race: one column per CPU, time running down, calls by indentation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kernelmodel.cells import CELLS, DULL_MUTEXES, owner, stops_others
from kernelmodel.machine import Step
from kernelmodel.memory_model import missed
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell
from verify import page
from verify.trace import Access, Start

#: a column is never narrower, however many CPUs there are
_NARROWEST = 24
#: below this, calls are indented by one space
_NARROW = 38

#: calls whose only line is the operation of the same name
_PRIMITIVE = ("mutex_lock", "mutex_unlock", "mutex_trylock", "cpus_read_lock", "cpus_read_unlock", "queue_work_on",
              "flush_work", "rmqueue_bulk", "memory_notify", "worker_thread", "cpus_write_lock", "cpus_write_unlock",
              "list_del")  # fmt: skip
_SECTION = "spin_lock(&zone->lock): "


def columns(
    start: Start, steps: Sequence[Step], accesses: Sequence[Access], found: str, cpu: int | None, *, full: bool = False,
    width: int | None = None,
) -> str:  # fmt: skip
    """The trace as text to paste into a mail: what the start was, the columns, and the broken property below.

    ``cpu`` is the one that the property speaks of, if it is one: what concerns others only is left out, and CPUs of which
    nothing is left.  With ``full`` nothing is.  ``width`` is that of a line (the page's).
    """
    width = page.width() if width is None else width
    left_out = set() if full else _left_out(steps, accesses, cpu)
    used = sorted({s.cpu for n, s in enumerate(steps) if n not in left_out})
    if not used:
        # broken at the start
        return "\n".join([*_start_lines(start, set(), width), "", *page.fill(found, "=> ", "   ", width)])
    acting = {s.task for s in steps}
    buffered = _buffered(steps, accesses)
    # a column begins with the line of the C that each statement is on, where that is known
    gutter = len(str(max((s.at[1] for s in steps if s.at), default=0))) + 2 if any(s.at for s in steps) else 0
    shown: list[Step] = []
    wide = max(_NARROWEST, width // len(used))
    tab = "  " if wide >= _NARROW else " "
    lines = [*_start_lines(start, acting, width), ""]
    lines += [page.row([f"CPU{c}" for c in used], wide), page.row(["----"] * len(used), wide)]
    shown_stack: dict[str, tuple[str, ...]] = {}
    last_task: dict[int, str] = {}
    dots: str | None = None
    for number, step in enumerate(steps):
        if number in left_out:
            dots = step.task
            continue
        column = used.index(step.cpu)
        # but for the last column, a space has to part it from the next
        room = wide - (column < len(used) - 1) - gutter
        shown.append(step)
        stack = tuple(name for name in step.stack if name not in _PRIMITIVE)
        cell: list[str] = []
        if last_task.get(step.cpu) != step.task:
            if step.cpu in last_task or step.task.startswith("kworker"):
                cell += page.fill(f"/* {step.task} */", room=room)
            last_task[step.cpu] = step.task
        before = shown_stack.get(step.task, ())
        common = 0
        while common < min(len(before), len(stack)) and before[common] == stack[common]:
            common += 1
        if dots == step.task and before:
            cell.append(tab * max(common, 1) + "...")
        dots = None
        for depth in range(common, len(stack)):
            cell += page.fill(f"{stack[depth]}()", tab * depth, tab * (depth + 1), room)
        shown_stack[step.task] = stack
        numbered = len(cell)
        for depth, statement, comment in statements(step):
            if number in buffered:
                comment = "; ".join(filter(None, (comment, buffered[number])))
            cell += _wrapped(tab * (len(stack) + depth), statement, comment, room, tab)
        if gutter:
            number_of = f"{step.at[1]}: " if step.at else ""
            cell = [(number_of if n == numbered else "").rjust(gutter) + text for n, text in enumerate(cell)]
        for text in cell:
            lines.append(page.row(["" if i != column else text for i in range(len(used))], wide))
    lines += ["", *page.fill(found, "=> ", "   ", width)]
    if gutter:
        lines += ["", *page.fill(_files(shown), room=width)]
    return "\n".join(line.rstrip() for line in lines)


def _files(steps: Sequence[Step]) -> str:
    """Which file the numbers of lines are of, and which functions are elsewhere."""
    functions: dict[str, list[str]] = {}
    for step in steps:
        if step.at and step.at[2] not in functions.setdefault(step.at[0], []):
            functions[step.at[0]].append(step.at[2])
    first, *others = sorted(functions, key=lambda file: -len(functions[file]))
    elsewhere = (f"{file} in {' and '.join(f + '()' for f in functions[file])}" for file in others)
    return f"lines: {'; '.join([first, *elsewhere])}"


def _start_lines(start: Start, acting: set[str], width: int) -> list[str]:
    lists = [
        f"CPU{cpu}'s {MigrateType(t).name} list has {_pages(n)} of block {b}" for cpu, t, b, n in start.lists
    ]  # fmt: skip
    where = f"at the start: high {start.limits[0]}, batch {start.limits[1]}; {'; '.join(lists) or 'pcplists empty'}"
    blocks = [f"{name} frees a page of block {b}" for name, b in start.block_of.items() if name in acting]
    used = [f"{_pages(start.in_use.count(b))} of block {b} in use" for b in sorted(set(start.in_use))]
    return page.fill("; ".join([where, *used, *blocks]), room=width)


def _pages(n: int) -> str:
    return f"{n} page" + ("" if n == 1 else "s")


def _left_out(steps: Sequence[Step], accesses: Sequence[Access], cpu: int | None) -> set[int]:
    """The steps that are folded: all that are dull but the last, which breaks the property."""
    looked = list(enumerate(zip(steps, accesses, strict=True)))
    told = _interfering(steps, accesses, cpu)
    folded = {n for n, (step, access) in looked if n not in told and dull(step, access, cpu)}
    if cpu is None:
        folded |= _idle_drains(steps, accesses)
    return folded - {len(steps) - 1}


def _buffered(steps: Sequence[Step], accesses: Sequence[Access]) -> dict[int, str]:
    """What is to be said of stores that a load of another CPU has missed, and of that load; by step."""
    said: dict[int, str] = {}
    for n, step in enumerate(steps):
        for name in missed(step.choices):
            stores = [
                i for i in range(n) if any(CELLS[c.name].in_c(c.name, c.index) == name for c in accesses[i].writes)
            ]
            said[n] = "an old value"
            for i in stores[-1:]:
                cpu = f"CPU{steps[i].cpu}'s"
                said[i], said[n] = f"stays in {cpu} store buffer", f"old: the new one is in {cpu} store buffer"
    return said


def _interfering(steps: Sequence[Step], accesses: Sequence[Access], cpu: int | None) -> set[int]:
    """The uses of the drain's mask where a task finds there what another one has left: then it is no bookkeeping."""
    told: set[int] = set()
    last: dict[Cell, int] = {}
    for n, (step, access) in enumerate(zip(steps, accesses, strict=True)):
        for c in access.reads if step.returned else ():
            if (
                CELLS[c.name].when_written
                and CELLS[c.name].bookkeeping
                and cpu in (None, *c.index)
                and c in last
                and steps[last[c]].task != step.task
            ):
                told |= {n, last[c]}
        last |= dict.fromkeys(access.writes, n)
    return told


def _idle_drains(steps: Sequence[Step], accesses: Sequence[Access]) -> set[int]:
    """Steps of drains that find empty lists, where the property speaks of no CPU: they had to run, and did nothing."""
    idle: set[int] = set()
    begun: dict[str, list[int]] = {}
    for n, (step, access) in enumerate(zip(steps, accesses, strict=True)):
        if step.op.does.begins:
            begun[step.task] = []
        if step.task not in begun:
            continue
        begun[step.task].append(n)
        if any(CELLS[c.name].counts_pages for c in access.writes):
            del begun[step.task]
        elif step.op.does.ends:
            idle |= set(begun.pop(step.task))
    return idle


def dull(step: Step, access: Access, cpu: int | None) -> bool:
    """Whether a step is bookkeeping that a reader can do without; ``cpu`` is the one that the property speaks of."""
    does, told = step.op.does, step.op.told
    turns = stops_others(does.acquires or does.releases)
    if told.dull or (turns and not _of_interest(access, cpu)):
        return True
    if told.telling:
        return False
    # waiting for a work item is a look at it, though nothing comes back
    looks = step.returned or does.awaits
    looked_at = access.writes | (access.reads if looks else frozenset())
    cells = {c for c in looked_at if not stops_others(c)}
    if step.op.external and not any(step.returned):
        return True
    if cells and all(_bookkeeping(c) for c in cells):
        return True
    if cpu is None:
        return False
    per_cpu = [
        owner(c) for c in cells if owner(c) is not None and not (k := CELLS[c.name]).bookkeeping and not k.silent
    ]
    return bool(per_cpu) and cpu not in per_cpu


def _bookkeeping(cell: Cell) -> bool:
    return CELLS[cell.name].bookkeeping or (CELLS[cell.name].sleeps and cell.index[0] in DULL_MUTEXES)


def _of_interest(access: Access, cpu: int | None) -> bool:
    return any(stops_others(c) and owner(c) == cpu for c in access.writes)


def statements(step: Step) -> Iterator[tuple[int, str, str]]:
    """A step as lines of C: how much further in, the statement, and what is to be said of it."""
    text, told = _in_c(step.text), comment(step)
    said = step.op.told
    if said.mark:
        yield 0, "", said.comment or text
    elif said.statement:
        yield 0, said.statement, said.comment
    elif text.startswith(_SECTION):
        yield 0, "spin_lock(&zone->lock)", ""
        if said.no_statement and not all(step.returned):
            yield 1, "", told
        else:
            yield from _listed(1, text.removeprefix(_SECTION), told)
        yield 0, "spin_unlock(&zone->lock)", ""
    else:
        yield from _listed(0, text, told)


def _in_c(text: str) -> str:
    """An operation's text with migratetypes by name and numbers that agree with their nouns."""
    named = re.sub(
        r"(set_pageblock_migratetype\(block \d+), (\d+)\)",
        lambda m: f"{m[1]}, MIGRATE_{MigrateType(int(m[2])).name})",
        text,
    )
    named = re.sub(r" = (True|False)$", lambda m: f" = {m[1].lower()}", named)
    return re.sub(r"\b1 pages\b", "1 page", named)


def _listed(depth: int, text: str, told: str) -> Iterator[tuple[int, str, str]]:
    """Statements that one operation performs together, each on its own line; the comment stands with the last."""
    *first, last = re.split(r", (?![^()]*\))", text)
    for statement in first:
        yield depth, statement, ""
    yield depth, last, told


def comment(step: Step) -> str:
    """The values that matter of an operation: what it returned, in the kernel's words where it has some."""
    told = step.op.told
    wrong = [(c.index[0], n) for c, n in step.written if CELLS[c.name].usually_zero and n]
    if told.moves and wrong and not step.returned:
        return "; ".join(f"{_pages(n)} of block {b} on another type's free list" for b, n in wrong)
    if not step.returned or told.value == "silent":
        return ""
    first = step.returned[0]
    if (said := told.yes if first else told.no) is not None:
        return said
    match told.value:
        case "type":
            return f"MIGRATE_{MigrateType(int(first)).name}"
        case "block":
            return f"of block {first}"
        case "pages of each block":
            return ", ".join(f"{n} of block {block}" for block, n in enumerate(step.returned) if n)
        case "pages":
            return _pages(first)
        case "found":
            return f"a page of block {step.returned[1]}" if first else "none left"
    return ", ".join(str(int(v)) if not isinstance(v, bool) else str(v).lower() for v in step.returned)


def _wrapped(indent: str, statement: str, told: str, room: int, tab: str) -> list[str]:
    """A statement and its comment as lines of a column; a comment is not cut unless it is too long for a line."""
    said = f"/* {told} */" if told else ""
    rest = indent + tab + tab
    if not statement or not said:
        return page.fill(statement or said, indent, rest, room)
    if len(indent) + len(statement) + len(said) + 2 <= room:
        return [f"{indent}{statement}  {said}"]
    return [*page.fill(statement, indent, rest, room), *page.fill(said, rest, rest, room)]
