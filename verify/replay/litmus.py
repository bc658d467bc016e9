"""A counterexample's race as a C litmus test for herd7 with the Linux kernel memory model.

What is kept of each task are its accesses to the variables that the race is about, and the locks and barriers between
them, with their meaning in that model: a lock that is taken orders as an acquire there, and not as a full barrier, as it
does on x86.  (Alglave, Maranget, McKenney, Parri, Stern: "Frightening small children and disconcerting grown-ups:
concurrency in the Linux kernel", ASPLOS 2018; tools/memory-model in the kernel.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kernelmodel.cells import CELLS, stops_others
from kernelmodel.errors import ModelError
from kernelmodel.machine import Step
from kernelmodel.memory_model import is_variable, missed
from kernelmodel.ops import Kind
from kernelmodel.terms import Cell, atoms
from verify.tracefile.film import Film

_NO_NAME = re.compile(r"\W+")


@dataclass(slots=True)
class _Thread:
    """One process of the test: its lines, the variables it is given, and its registers with what they hold."""

    task: str
    lines: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, int]] = field(default_factory=list)
    accesses: int = 0


def litmus(film: Film) -> str:
    """The test's text; ModelError where the trace has no race between two tasks that a litmus test could show."""
    if film.violation is None:
        raise ModelError(f"{film.prop.name} is not violated by this trace: there is no race to show")
    steps = film.machine.history[: film.violation.step]
    cells = _raced(steps)
    threads: dict[str, _Thread] = {}
    first: dict[Cell, int] = {}
    for step in steps:
        thread = threads.setdefault(step.task, _Thread(step.task))
        _append(thread, step, cells, first)
    threads = {t: thread for t, thread in threads.items() if thread.accesses}
    if len(threads) < 2:
        raise ModelError("the trace has no variable that two tasks access without a lock: there is no race to show")
    return "".join(line + "\n" for line in _text(film, list(threads.values()), first))


def _raced(steps: list[Step]) -> set[Cell]:
    """The variables of the race: those of which a load has found an old value, and what both tasks access beside them."""
    touched: dict[Cell, dict[str, bool]] = {}
    names: set[str] = set()
    for step in steps:
        names |= set(missed(step.choices))
        for cell in _reads(step):
            touched.setdefault(cell, {}).setdefault(step.task, False)
        for cell, _ in step.written:
            touched.setdefault(cell, {})[step.task] = True
    shared = {c for c, tasks in touched.items() if _in_memory(c) and len(tasks) > 1 and any(tasks.values())}
    core = {c for c in shared if CELLS[c.name].in_c(c.name, c.index) in names} or shared
    tasks = set.union(*(set(touched[c]) for c in core)) if core else set()
    return core | {c for c in shared if len(set(touched[c]) & tasks) > 1 and not CELLS[c.name].bookkeeping}


def _in_memory(cell: Cell) -> bool:
    return is_variable(cell) and CELLS[cell.name].values != "task"


def _reads(step: Step) -> set[Cell]:
    terms = (*step.op.returns, *(t for _, t in step.op.updates))
    return {a.args[0] for t in terms for a in atoms(t, "cell")}


def _append(thread: _Thread, step: Step, cells: set[Cell], first: dict[Cell, int]) -> None:
    op = step.op
    lock = op.does.acquires or op.does.releases
    if lock is not None and not stops_others(lock):
        verb = "spin_lock" if op.does.acquires else "spin_unlock"
        thread.lines.append(f"{verb}({_given(thread, lock, 'spinlock_t')});")
        return
    if op.kind is Kind.FULL_BARRIER or (op.kind is Kind.RMW and op.does.queues is not None):
        thread.lines.append("smp_mb();")
    elif op.kind is Kind.BARRIER:
        thread.lines.append(op.text + ";")
    section = op.kind is Kind.CRITICAL
    accesses = list(_accesses(thread, step, cells, first))
    if section and accesses:
        name = thread.variables.setdefault("zone_lock", "spinlock_t") and "zone_lock"
        accesses = [f"spin_lock({name});", *accesses, f"spin_unlock({name});"]
    thread.lines += accesses


def _accesses(thread: _Thread, step: Step, cells: set[Cell], first: dict[Cell, int]) -> Iterator[str]:
    written = dict(step.written)
    for cell in sorted(_reads(step) & cells):
        # what an operation returns from the variable alone is what it found there
        found = next(
            (v for t, v in zip(step.op.returns, step.returned, strict=False) if t.op == "cell" and t.args[0] == cell),
            None,
        )
        if found is None:
            continue
        name = f"r{len(thread.seen)}"
        thread.seen.append((name, int(found)))
        first.setdefault(cell, int(found))
        thread.accesses += 1
        yield f"{name} = READ_ONCE(*{_given(thread, cell)});"
    for cell in sorted(set(written) & cells):
        thread.accesses += 1
        first.setdefault(cell, 0)
        yield f"WRITE_ONCE(*{_given(thread, cell)}, {int(written[cell])});"


def _given(thread: _Thread, cell: Cell, sort: str = "int") -> str:
    name = _name_of(cell)
    thread.variables.setdefault(name, sort)
    return name


def _name_of(cell: Cell) -> str:
    """A cell as a variable: pcp[0]->count is pcp0_count."""
    words = re.sub(r"\[(\d+)\]", r"\1", CELLS[cell.name].in_c(cell.name, cell.index))
    return _NO_NAME.sub("_", words.replace("->", "_").removeprefix("mutex[")).strip("_")


def _text(film: Film, threads: list[_Thread], first: dict[Cell, int]) -> Iterator[str]:
    trace = film.trace
    yield f"C {_NO_NAME.sub('-', f'{film.kernel.name}-{film.prop.name}').strip('-')}"
    yield ""
    yield "(*"
    yield " * Result: Sometimes"
    yield " *"
    yield f" * {film.kernel.name}, {film.prop.name}: {film.violation.found if film.violation else ''}."
    yield f" * From a counterexample of {trace.engine} under {trace.memory_model}, by `python -m verify.replay --litmus`."
    processes = ", ".join(f"P{n} is {t.task}" for n, t in enumerate(threads))
    yield f" * {processes}.  Mutexes are spinlocks here, for herd7 has no others."
    yield " * To run it: herd7 -conf linux-kernel.cfg FILE, in the kernel's tools/memory-model."
    yield " *)"
    yield ""
    starts = {_name_of(c): n for c, n in first.items()}
    yield "{"
    for name in sorted(n for n in starts if starts[n] and any(n in t.variables for t in threads)):
        yield f"\t{name} = {starts[name]};"
    yield "}"
    for number, thread in enumerate(threads):
        given = ", ".join(f"{sort} *{name}" for name, sort in thread.variables.items())
        yield ""
        yield f"P{number}({given})"
        yield "{"
        for name, _ in thread.seen:
            yield f"\tint {name};"
        if thread.seen:
            yield ""
        yield from (f"\t{line}" for line in thread.lines)
        yield "}"
    yield ""
    seen = [f"{number}:{name}={value}" for number, t in enumerate(threads) for name, value in t.seen]
    yield "exists (" + " /\\ ".join(seen) + ")"
