"""The memory models that an engine can be asked for, and what each operation does to a store buffer.

Under ``tso`` a CPU's stores pass through a first-in-first-out buffer, and its own loads look there first (Sewell, Sarkar,
Owens, Zappa Nardelli, Myreen: "x86-TSO", CACM 2010).  What empties it:

- an atomic read-modify-write: every lock that is taken, the release of a mutex (kernel/locking/mutex.c:
  __mutex_unlock_fast(), a cmpxchg), the pending bit of a work item (kernel/workqueue.c: test_and_set_bit());
- a full barrier (smp_mb(), a locked instruction on x86), but not smp_wmb() or smp_rmb(), which are nothing there;
- another task on that CPU: __schedule() takes a lock (kernel/sched/core.c, smp_mb__after_spinlock()), and an interrupt
  empties the buffer by itself (Intel SDM volume 3, "Store Buffer").

What does not: switching interrupts off and on, and spin_unlock(), which is a store like others
(include/asm-generic/qspinlock.h: queued_spin_unlock(), a store-release).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kernelmodel.cells import CELLS, stops_others
from kernelmodel.errors import ModelError
from kernelmodel.ops import Kind, Op
from kernelmodel.terms import Cell

Memory = Literal["sc", "tso", "weak", "compiler"]
#: the models, with their names in verdicts
MODELS: dict[Memory, str] = {
    "sc": "sequential consistency",
    "tso": "x86-TSO",
    "weak": "any loads between synchronisations",
    "compiler": "sequential consistency, plain accesses in any order",
}
#: those that allow more than any machine does: what holds under them, holds; a violation need be no run
WIDER = frozenset({"weak", "compiler"})
_LEFT = " is in memory"


def model_named(model: str) -> Memory:
    """The memory model of that name in verdicts; ModelError where there is none."""
    for memory, name in MODELS.items():
        if name == model:
            return memory
    raise ModelError(f"unknown memory model {model!r}: there are {', '.join(MODELS.values())}")


def empties(op: Op) -> bool:
    """Whether the buffer of the CPU is empty when the operation reads: it begins with an atomic read-modify-write."""
    if op.kind is Kind.LOCK:
        return not stops_others(op.does.acquires)
    if op.kind is Kind.UNLOCK:
        return not is_store(op) and not stops_others(op.does.releases)
    return op.kind in (Kind.RMW, Kind.CRITICAL, Kind.FULL_BARRIER)


def is_store(op: Op) -> bool:
    """Whether what the operation writes, or writes last, is written by a plain store, which a buffer may hold back."""
    if op.kind is Kind.UNLOCK:
        return op.does.releases is not None and CELLS[op.does.releases.name].exclusion == "spinlock"
    # a CPU goes down under stop_machine(), where all CPUs wait for each other (kernel/stop_machine.c: multi_cpu_stop())
    return op.kind in (Kind.PLAIN, Kind.WRITE_ONCE, Kind.CRITICAL) and op.does.takes_down is None


def is_variable(cell: Cell) -> bool:
    """Whether a cell is a variable in memory; where pages are is changed and looked at under locks, and seen by all at once."""
    kind = CELLS[cell.name]
    return not (kind.derived or kind.ghost or kind.exclusion)


def buffered(cell: Cell, op: Op) -> bool:
    """Whether a store of the operation to a cell may wait in a buffer: to a variable, or the store that gives a lock back."""
    return is_store(op) and (is_variable(cell) or op.does.releases == cell)


def drains(op: Op) -> bool:
    """Whether a section ends here in whose course all stores are taken to have left: no later load may tell."""
    return empties(op) or (op.kind is Kind.UNLOCK and not stops_others(op.does.releases))


def left_choice(name: str) -> str:
    """What a load that may miss a store chooses, by the C name of the cell: whether the store has left the buffer."""
    return f"{name}{_LEFT}"


def missed(choices: Iterable[tuple[str, int]]) -> list[str]:
    """The C names of the cells of which a load has found an old value, from what it chose."""
    return [name.removesuffix(_LEFT) for name, left in choices if name.endswith(_LEFT) and not left]
