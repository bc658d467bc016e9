"""Store buffers as cells: the control graph of a task with the delayed stores in it.

Of each cell with a delayed store there is a second one: its value in memory, which other CPUs read.  The delayed store
changes the first alone; whatever empties the buffer, or is the next store, lets the second catch up; and whoever looks from
another CPU either does so before the store has left the buffer, or makes it leave first: nobody else could tell when
it left.  A buffer so has room for one delayed store; a text that needs more is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import Any

from kernelmodel.cells import CELLS, declare
from kernelmodel.errors import ModelError
from kernelmodel.memory_model import drains, left_choice
from kernelmodel.ops import Op
from kernelmodel.schema import CellKind
from kernelmodel.terms import FALSE, TRUE, Cell, Term, atoms, choice, ite, land, lnot, load, lor
from verify.ordering.changes import finding, if_taken
from verify.ordering.relaxed import Place, Relaxed, place

_SEEN = ".in_memory"


def in_memory(cell: Cell) -> Cell:
    """The cell with the value that other CPUs read."""
    return Cell(cell.name + _SEEN, cell.index)


def declare_buffers(names: Iterable[str]) -> None:
    """Make the cells known that hold what is in memory."""
    kinds = []
    for name in sorted(names):
        kind = CELLS[name]
        words = f"{kind.c} in memory" if kind.c else ""
        if kind.exclusion:
            words = f"{kind.c or name} still held in memory"
            kinds.append((name + _SEEN, CellKind(
                axes=kind.axes, sort="bool", words=words, silent=True, written_by_all="cpu" in kind.axes,
                meaning=f"the store that gives {name} back is still in the buffer of the CPU that held it",
            )))  # fmt: skip
            continue
        kinds.append((name + _SEEN, CellKind(
            axes=kind.axes, sort=kind.sort, values=kind.values, words=words, initial=kind.initial, silent=True,
            open_at_start=kind.open_at_start, least=kind.least, starts_as_sum=kind.starts_as_sum,
            written_by_all="cpu" in kind.axes,
            meaning=f"the value of {name} in memory, which other CPUs read while its own has a newer one in its store buffer",
        )))  # fmt: skip
    declare(kinds)


def _left(cell: Cell) -> Term:
    return choice(left_choice(CELLS[cell.name].in_c(cell.name, cell.index)), "bool")


def with_buffers(task: str, nodes: Sequence[Any], order: Sequence[tuple[int, Sequence[Any]]], what: Relaxed) -> None:
    """Put the store buffers into the nodes of a task's graph, in place.

    ``order`` gives for each node (by its place in ``nodes``) those that may follow it.  ModelError where two delayed stores
    may be in a buffer at once, or one may still be there when the task returns or waits for a value.
    """
    delayed = {p: {x for q, x in what.delayed if q == p} for p, _ in what.delayed}
    looks = {p: {x for q, x in what.looks if q == p} for p, _ in what.looks}
    cells = {x for _, x in what.delayed}
    here = [place(task, n) for n in nodes]
    follow = dict(order)
    waiting = _waiting(nodes, follow, here, delayed, what.stores)
    for n, node in enumerate(nodes):
        op = node.op
        mine = delayed.get(here[n], set())
        if (mine and waiting[n]) or len(mine) > 1:
            raise ModelError(f"{op.text}: two stores of a task may wait in the buffer at once, and one is followed")
        written = {c for c, _ in op.updates} & cells
        caught_up = (written - mine) | (
            waiting[n] if _leaves(op, here[n] in what.stores and not mine, None in follow[n]) else set()
        )
        updates = dict(op.updates)
        more = [
            (in_memory(c), FALSE if CELLS[c.name].exclusion else updates.get(c, load(c, CELLS[c.name].sort)))
            for c in sorted(caught_up)
            if c != op.does.acquires
        ]
        more += [(in_memory(c), TRUE) for c in mine if CELLS[c.name].exclusion]
        node.op = replace(op, updates=(*op.updates, *more)) if more else op
        if op.does.acquires in cells:
            node.op = _taking(node.op, op.does.acquires)
        for cell in sorted(looks.get(here[n], set()) - waiting[n]):
            if not CELLS[cell.name].exclusion:
                node.op = _looking(node.op, cell)


def _leaves(op: Op, stores: bool, last: bool) -> bool:
    """Whether a store that waits has left the buffer after the operation, at the latest.

    ``stores``: others may look at what it stores, and it does not wait itself; ``last``: the task may return.
    """
    return last or stores or drains(op)


def _waiting(
    nodes: Sequence[Any], order: dict[int, Sequence[Any]], here: Sequence[Place], delayed: dict[Place, set[Cell]],
    stores: Set[Place],
) -> list[set[Cell]]:  # fmt: skip
    """For each node the cells of which a store of the task may be in the buffer when it comes there."""
    waiting: list[set[Cell]] = [set() for _ in nodes]
    todo = [n for n in range(len(nodes)) if here[n] in delayed]
    while todo:
        n = todo.pop()
        op = nodes[n].op
        mine = delayed.get(here[n], set())
        leaves = _leaves(op, here[n] in stores and not mine, None in order[n])
        after = mine if leaves else waiting[n] | mine
        for target in order[n]:
            if target is None:
                if after:
                    raise ModelError(f"{op.text}: a task may return while a store of its own is in the buffer")
            elif not after <= waiting[target]:
                waiting[target] |= after
                todo.append(target)
    return waiting


def _taking(op: Op, lock: Cell) -> Op:
    """An operation that takes a lock whose return may still be in a buffer: it waits for that, or tries in vain."""
    late = in_memory(lock)
    if not op.does.tries:
        return replace(op, updates=(*op.updates, (late, FALSE)))
    left = _left(lock)
    taken = lor(left, lnot(load(late, "bool")))
    tried = if_taken(op, taken, left)
    return replace(
        tried, updates=(*tried.updates, (late, lnot(taken))), where=land(op.where, lor(lnot(left), load(late, "bool")))
    )


def _looking(op: Op, cell: Cell) -> Op:
    """An operation that finds either what is in memory or, the store having left the buffer, what was written last."""
    sort = CELLS[cell.name].sort
    if cell in {a.args[0] for a in atoms(op.guard, "cell")} or op.counted_returns or op.effect is not None:
        raise ModelError(
            f"{op.text}: it waits for a value of which it may see an old one, or does more than look at it"
        )
    left = _left(cell)
    newest, seen = load(cell, sort), in_memory(cell)
    found = ite(left, newest, load(seen, sort))

    looked = finding(op, {cell: found}, (left,))
    return replace(
        looked, updates=(*looked.updates, (seen, found)),
        where=land(looked.where, lor(lnot(left), newest != load(seen, sort))),
    )  # fmt: skip
