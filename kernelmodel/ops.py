"""Atomic operations: what a routine yields at each point where another CPU could see or change something.

An :class:`Op` is data (guard, updates, returned values, ordering kind, choices), so that every engine can run it.  The
concrete half, which page it is and on which list, is the optional ``effect`` that only the scheduler executes; after it
the machine checks that the abstract half allows what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kernelmodel.cells import CELLS, MUTEXES, cpu_taken, mutex_owner, value
from kernelmodel.does import NOTHING, Does
from kernelmodel.terms import FALSE, ME, TRUE, BoolTerm, Cell, IntTerm, Term, choice, const, ite, land, lift, lor
from kernelmodel.told import PLAIN, Told

if TYPE_CHECKING:
    from kernelmodel.memory.state import State

#: what a routine is: it yields operations, receives what they return, and returns a value to its caller
Routine = Generator["Op | CpuOp", Any, Any]


class Kind(Enum):
    """Memory-ordering kind of an operation."""

    PLAIN = "plain"
    READ_ONCE = "READ_ONCE"
    WRITE_ONCE = "WRITE_ONCE"
    RMW = "atomic read-modify-write"
    LOCK = "lock"
    UNLOCK = "unlock"
    BARRIER = "barrier"
    FULL_BARRIER = "full barrier"
    CRITICAL = "critical section of zone->lock"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a concrete effect reports: the choices that it made, and the concrete value for the routine, if any."""

    choices: Mapping[str, int] = field(default_factory=dict)
    extra: Any = None


@dataclass(frozen=True, slots=True)
class Op:
    """One atomic operation.

    ``text`` is C-like, with ``{0}`` … for the values of ``shown``; where ``text`` stands for a read, the values
    returned follow it as a comment.  ``guard`` says when it may fire (``must``: it is an error to get there when it
    may not); ``updates`` are simultaneous; ``where`` constrains the ``choices``; ``external`` choices are made by the
    environment (a notifier fails, a signal is pending).  An engine that counts free pages also heeds ``counted``, a
    further constraint, and ``counted_returns``, equal returns in terms of them.  ``pack`` builds what the routine
    receives from the returned values and the effect's extra.  ``does`` is what it does beside its reads and writes,
    ``told`` how people are told of it;
    ``tag`` and ``info`` let properties find it.
    """

    text: str
    kind: Kind = Kind.PLAIN
    guard: Term = TRUE
    updates: tuple[tuple[Cell, Term], ...] = ()
    returns: tuple[Term, ...] = ()
    choices: tuple[Term, ...] = ()
    where: Term = TRUE
    counted: Term = TRUE
    counted_returns: tuple[Term, ...] = ()
    external: bool = False
    effect: Callable[[State, Mapping[str, int]], Effect] | None = None
    pack: Callable[..., Any] | None = None
    shown: tuple[Term, ...] = ()
    must: str = ""
    does: Does = NOTHING
    told: Told = PLAIN
    tag: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CpuOp:
    """An operation that is bound to the CPU on which its task happens to run when it fires."""

    text: str
    at: Callable[[int], Op]


@lru_cache(maxsize=4096)
def _read_told(name: str, index: tuple[int | str, ...]) -> Told:
    kind = CELLS[name]
    return Told(why=kind.when_read.format(cpu=index[kind.position("cpu")])) if kind.when_read else PLAIN


def _read(kind: Kind, name: str, index: Sequence[int | str], text: str) -> Op:
    return Op(
        text or _c_name(name, index),
        kind,
        returns=(value(name, *index),),
        told=_read_told(name, tuple(index)),
        tag="read",
    )


def _write(kind: Kind, new: IntTerm | BoolTerm, name: str, index: Sequence[int | str], text: str) -> Op:
    term = lift(new)
    return Op(
        (text or _c_name(name, index)) + " = {0}", kind, updates=((Cell(name, tuple(index)), term),), shown=(term,),
        tag="write",
    )  # fmt: skip


def read(name: str, *index: int | str, text: str = "") -> Op:
    """A plain load of a cell."""
    return _read(Kind.PLAIN, name, index, text)


def read_once(name: str, *index: int | str, text: str = "") -> Op:
    """READ_ONCE() of a cell."""
    return _read(Kind.READ_ONCE, name, index, text)


def write(new: IntTerm | BoolTerm, name: str, *index: int | str, text: str = "") -> Op:
    """A plain store to a cell."""
    return _write(Kind.PLAIN, new, name, index, text)


def write_once(new: IntTerm | BoolTerm, name: str, *index: int | str, text: str = "") -> Op:
    """WRITE_ONCE() to a cell."""
    return _write(Kind.WRITE_ONCE, new, name, index, text)


def add(amount: IntTerm, name: str, *index: int | str, text: str = "") -> Op:
    """``cell += amount``, in one step: only for cells that one CPU writes at a time."""
    cell = Cell(name, index)
    term = lift(amount)
    sign = "+="
    if term.op == "const" and term.args[0] < 0:
        sign, term = "-=", const(-term.args[0])
    return Op(
        f"{text or _c_name(name, index)} {sign} {{0}}",
        updates=((cell, value(name, *index) + amount),),
        shown=(term,),
        tag="write",
    )


def subtract(amount: IntTerm, name: str, *index: int | str) -> Op:
    """``cell -= amount``, in one step: only for cells that one CPU writes at a time."""
    term = lift(amount)
    return Op(
        f"{_c_name(name, index)} -= {{0}}", updates=((Cell(name, index), value(name, *index) - amount),), shown=(term,),
        tag="write",
    )  # fmt: skip


def barrier(text: str) -> Op:
    """A memory barrier between stores, or between loads: it orders, and does nothing else."""
    return Op(text, Kind.BARRIER)


def full_barrier(text: str = "smp_mb()") -> Op:
    """A full memory barrier: what was stored before it is seen by all before anything after it is read."""
    return Op(text, Kind.FULL_BARRIER)


def happens(text: str, tag: str = "", why: str = "", does: Does = NOTHING, **info: Any) -> Op:
    """A step that changes nothing: a call whose inside is not modelled, or a mark for properties."""
    return Op(text, Kind.LOCAL, does=does, told=Told(why=why), tag=tag, info=info)


def mark(
    text: str, tag: str, updates: Sequence[tuple[Cell, BoolTerm | IntTerm]] = (), why: str = "", **info: Any
) -> Op:  # fmt: skip
    """A mark that opens or closes a property's window by setting ghost cells."""
    return Op(
        text,
        Kind.LOCAL,
        updates=tuple((c, lift(t)) for c, t in updates),
        told=Told(why=why, mark=True),
        tag=tag or "mark",
        info=info,
    )


def environment(name: str, text: str, why: str = "Decided from outside.", yes: str | None = "fails") -> Op:
    """The environment decides whether ``name`` happens; returns that truth value.  ``yes``: what is said if it does."""
    happens_now = choice(name, "bool")
    return Op(
        text,
        Kind.LOCAL,
        returns=(happens_now,),
        choices=(happens_now,),
        external=True,
        told=Told(why=why, yes=yes),
        tag="environment",
    )


def part_of(name: str, text: str, most: IntTerm, why: str = "") -> Op:
    """A number that is not modelled, such as a factor that adapts to the load: any from 0 to ``most`` (0 if that is less).

    Nothing else is assumed of it; who uses it adds it to the least that it can mean.
    """
    number = choice(name)
    return Op(
        text,
        Kind.LOCAL,
        returns=(number,),
        choices=(number,),
        where=land(number >= 0, lor(number == 0, number <= most)),
        told=Told(why=why, dull=True),
        tag="part",
    )


def shifted(number: IntTerm, by: int, text: str) -> Op:
    """``number >> by``, of one that is not negative."""
    result = choice("shifted")

    def effect(_: State, wanted: Mapping[str, int]) -> Effect:
        del wanted
        assert isinstance(number, int)
        return Effect({"shifted": number >> by})

    return Op(
        text, Kind.LOCAL, returns=(result,), choices=(result,),
        where=land(result * (1 << by) <= number, lift(number) < (result + 1) * (1 << by)), effect=effect,
        told=Told(dull=True), tag="shifted",
    )  # fmt: skip


def never(text: str) -> Op:
    """A point that is never passed: the task hangs here."""
    return Op(text, Kind.LOCAL, guard=FALSE, does=Does(hangs=True), tag="hang")


# --- kernel/locking -------------------------------------------------------------------------------------------------


def lock_edges(lock: str) -> tuple[tuple[Cell, Term], ...]:
    """kernel/locking/lockdep.c: lock_acquire(), the part that notes who asks for what while holding what.

    Of several readers of the CPU hotplug lock the last is known: each is the last in some interleaving.
    """
    held = {a: value("mutex", a) == ME for a in MUTEXES}
    held["cpu_hotplug_lock"] = lor(held["cpu_hotplug_lock"], value("cpu_hotplug_reader") == ME)
    return tuple((Cell("lock_edge", (a, lock)), lor(value("lock_edge", a, lock), mine)) for a, mine in held.items())


def lock_request(mutex: str, reads: bool = False) -> Op:
    """kernel/locking/lockdep.c: lock_acquire() of a mutex, before it is waited for; ``reads``: of who only reads something."""
    told = Told(
        why="{task} is about to take the mutex and waits if somebody has it.", statement=f"mutex_lock(&{mutex})",
        comment="asked for", dull=True,
    )  # fmt: skip
    return Op(
        f"{mutex}: asked for", Kind.LOCAL, updates=lock_edges(mutex), does=Does(asks=mutex_owner(mutex)), told=told,
        tag="lockdep", info={"reads": True} if reads else {},
    )  # fmt: skip


def lock(mutex: str) -> Op:
    """kernel/locking/mutex.c: mutex_lock(), the moment of acquisition."""
    owner = value("mutex", mutex)
    mine = mutex_owner(mutex)
    return Op(
        f"mutex_lock(&{mutex})",
        Kind.LOCK,
        guard=owner == 0,
        updates=((mine, ME),),
        does=Does(acquires=mine),
        tag="lock",
    )


def trylock(mutex: str) -> Op:
    """kernel/locking/mutex.c: mutex_trylock(); returns whether the mutex was free and is now ours."""
    owner = value("mutex", mutex)
    return Op(
        f"mutex_trylock(&{mutex})",
        Kind.LOCK,
        updates=((mutex_owner(mutex), ite(owner == 0, ME, owner)),),
        returns=(owner == 0,),
        does=Does(acquires=mutex_owner(mutex), tries=True),
        told=HOLDS,
        tag="lock",
    )


def unlock(mutex: str) -> Op:
    """kernel/locking/mutex.c: mutex_unlock(); an error for a task that does not hold it."""
    hint = " (an enable without a disable?)" if mutex == "pcp_batch_high_lock" else ""
    return Op(
        f"mutex_unlock(&{mutex})",
        Kind.UNLOCK,
        guard=value("mutex", mutex) == ME,
        updates=((mutex_owner(mutex), const(0)),),
        must=f"{mutex} is unlocked by a task that does not hold it{hint}",
        does=Does(releases=mutex_owner(mutex)),
        told=GIVEN_BACK,
        tag="unlock",
    )


#: what is said of whoever takes a lock, and gives it back
HOLDS = Told(why="{task} holds it from here on.", if_not="Somebody else holds it: not taken.")
GIVEN_BACK = Told(why="The next one who waits can have it.")


def spin_lock(name: str, *index: int) -> Op:
    """include/linux/spinlock.h: spin_lock() of the lock that is the cell of that name and index."""
    owner = value(name, *index)
    text = f"spin_lock(&{_c_name(name, index)})"
    mine = Cell(name, index)
    return Op(
        text, Kind.LOCK, guard=owner == 0, updates=((mine, ME),), does=Does(acquires=mine), told=HOLDS, tag="spin_lock"
    )


def spin_trylock(name: str, *index: int, nr_blocks: int = 0) -> Op:
    """include/linux/spinlock.h: spin_trylock(); returns whether the lock was free and is now ours.

    With ``nr_blocks`` a critical section of a pcplist begins: properties want to know which pageblocks are isolated then.
    """
    owner = value(name, *index)
    return Op(
        f"spin_trylock(&{_c_name(name, index)})",
        Kind.LOCK,
        updates=((Cell(name, index), ite(owner == 0, ME, owner)), *_isolated_at(name, index, nr_blocks, owner == 0)),
        returns=(owner == 0,),
        does=Does(acquires=Cell(name, index), tries=True),
        told=HOLDS,
        tag="spin_lock",
    )


def spin_unlock(name: str, *index: int) -> Op:
    """include/linux/spinlock.h: spin_unlock(); an error for a task that does not hold the lock."""
    text = _c_name(name, index)
    return Op(
        f"spin_unlock(&{text})",
        Kind.UNLOCK,
        guard=value(name, *index) == ME,
        updates=((Cell(name, index), const(0)),),
        must=f"{text} is unlocked by a task that does not hold it",
        does=Does(releases=Cell(name, index)),
        told=GIVEN_BACK,
        tag="spin_unlock",
    )


def _isolated_at(name: str, index: Sequence[int], nr_blocks: int, begins: Term) -> list[tuple[Cell, Term]]:
    cpu = index[CELLS[name].position("cpu")] if nr_blocks else 0
    ghosts = [(Cell("isolated_at_entry", (cpu, b)), value("isolated", b)) for b in range(nr_blocks)]
    return [(cell, ite(begins, now, value(cell.name, *cell.index))) for cell, now in ghosts]


def local_irq_save(nr_blocks: int, text: str = "local_irq_save(flags)") -> CpuOp:
    """include/linux/irqflags.h: local_irq_save(); returns the CPU, on which the task now stays."""

    def at(cpu: int) -> Op:
        return Op(
            text,
            Kind.LOCK,
            guard=value("irqs_off", cpu) == 0,
            updates=((cpu_taken(cpu), ME), *_isolated_at("irqs_off", (cpu,), nr_blocks, TRUE)),
            returns=(const(cpu),),
            does=Does(acquires=cpu_taken(cpu), returns_cpu=True),
            told=Told(why="From here on nothing else runs on CPU{cpu}, until interrupts are on again.", value="silent"),
            tag="irq_save",
            info={"cpu": cpu},
        )

    return CpuOp(text, at)


def local_irq_restore(cpu: int, text: str = "local_irq_restore(flags)") -> Op:
    """include/linux/irqflags.h: local_irq_restore()."""
    return Op(
        text,
        Kind.UNLOCK,
        guard=value("irqs_off", cpu) == ME,
        updates=((cpu_taken(cpu), const(0)),),
        must=f"local_irq_restore() on CPU {cpu} by a task that has not disabled interrupts there",
        does=Does(releases=cpu_taken(cpu)),
        told=Told(why="Other tasks and work items can run on CPU{cpu} again."),
        tag="irq_restore",
        info={"cpu": cpu},
    )


def preempt_disable() -> CpuOp:
    """include/linux/preempt.h: preempt_disable(): the task stays on its CPU, which cannot go down."""
    return CpuOp("preempt_disable()", lambda cpu: _preempt(cpu, 1))


def preempt_enable() -> CpuOp:
    """include/linux/preempt.h: preempt_enable()."""
    return CpuOp("preempt_enable()", lambda cpu: _preempt(cpu, -1))


def _preempt(cpu: int, change: int) -> Op:
    name = "preempt_disable" if change > 0 else "preempt_enable"
    count = value("preempt_count", cpu)
    why = "{task} stays on CPU{cpu}." if change > 0 else "{task} may move to another CPU again."
    more = ((Cell("preempt_count", (cpu,)), count + change),)
    return Op(f"{name}()", Kind.LOCAL, updates=more, does=Does(pins=change), told=Told(why=why, dull=True), tag=name)


def smp_processor_id() -> CpuOp:
    """include/linux/smp.h: raw_smp_processor_id(); with interrupts on the task may have moved on by the next step."""
    text = "smp_processor_id()"
    told = Told(why="On which CPU this runs.", dull=True)
    return CpuOp(
        text, lambda cpu: Op(text, Kind.LOCAL, returns=(const(cpu),), does=Does(returns_cpu=True), told=told, tag="cpu")
    )


def _c_name(name: str, index: Sequence[int | str]) -> str:
    value(name)
    return CELLS[name].in_c(name, index)
