"""What orders the tasks of a kernel, each of which can be taken away: locks, interrupts that are off, work items.

An edge is found in the kernel's operations, by what they do as data: nothing here knows a kernel's locks by name.  Two of them
are orders alone, of the model in :mod:`verify.ordering.weak`: whoever takes them away changes what may be found, not who runs
when.  The others are taken out of the text: a lock that excludes nobody, interrupts that are off and stop nobody, and a task that
does not wait for the work item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kernelmodel.cells import CELLS, stops_others
from kernelmodel.config import Config
from kernelmodel.graphs.folded_graph import FoldedGraph
from kernelmodel.ops import Op
from kernelmodel.terms import ME, TRUE, Cell, Term, const, substitute_cells
from verify.ordering.changes import finding

_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Edge:
    """A synchronisation, in words, and what to take out of the text where it is not there."""

    words: str
    exclusions: frozenset[Cell] = frozenset()
    #: whether it is that somebody waits until a work item has been executed
    waits: bool = False

    @property
    def is_order_alone(self) -> bool:
        """Whether the text stays as it is without the edge."""
        return not self.exclusions and not self.waits

    def is_section(self, config: Config) -> bool:
        """Whether it makes critical sections of pcplists what they are, of which properties speak."""
        return any(c.name == config.section for c in self.exclusions)


#: what ends doubts in the weak model
LOCK = Edge("the order that the list's lock gives, taken by the task that has stored")
WORK = Edge("the order that the work item gives, queued after the stores")
ORDERS = (LOCK, WORK)


def edges(graphs: Iterable[FoldedGraph]) -> tuple[Edge, ...]:
    """The edges of some tasks: the orders that they have, and what their operations acquire and wait for."""
    found: dict[str, set[Cell]] = {}
    orders: set[Edge] = set()
    waits = ""
    for op in (n.op for g in graphs for n in g.kept):
        taken = op.does.acquires
        if taken is not None:
            found.setdefault(_in_words(taken), set()).add(taken)
            if "cpu" in CELLS[taken.name].axes and not stops_others(taken):
                orders.add(LOCK)
        if op.does.begins is not None:
            orders.add(WORK)
        if op.does.awaits is not None:
            waits = f"{op.text.partition('(')[0]}(): nobody waits for the work item"
    locks = [Edge(words, frozenset(cells)) for words, cells in sorted(found.items())]
    return (*(e for e in ORDERS if e in orders), *locks, *([Edge(waits, waits=True)] if waits else []))


def _in_words(exclusion: Cell) -> str:
    if stops_others(exclusion):
        return "interrupts that are off: others run on that CPU meanwhile"
    kind = CELLS[exclusion.name]
    if "cpu" in kind.axes:
        return f"{_INDEX.sub('', kind.in_c(exclusion.name, exclusion.index))}: it excludes nobody"
    return f"{exclusion.index[0]}: it excludes nobody"


def take_away(graph: FoldedGraph, without: Iterable[Edge]) -> None:
    """Take edges out of a task's graph, in place."""
    chosen = list(without)
    gone = frozenset(c for e in chosen for c in e.exclusions)
    waits = any(e.waits for e in chosen)
    for node in graph.kept:
        if any(stops_others(c) for c in gone):
            node.irqs_off = False
        node.op = _not_held(node.op, gone)
        if waits and node.op.does.awaits is not None:
            node.op = replace(node.op, guard=TRUE, does=replace(node.op.does, awaits=None))


def _not_held(op: Op, gone: frozenset[Cell]) -> Op:
    """An operation that takes a lock, or gives it back, without a lock."""
    does = op.does
    if does.acquires in gone:
        found: dict[Cell, Term] = {does.acquires: const(0)}
        does = replace(does, acquires=None, tries=False)
    elif does.releases in gone:
        found = {does.releases: ME}
        does = replace(does, releases=None)
    else:
        return op

    op = finding(op, found, ())
    updates = tuple(u for u in op.updates if u[0] not in found)
    return replace(op, guard=substitute_cells(op.guard, found), updates=updates, does=does)
