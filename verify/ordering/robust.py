"""Which stores of a scenario can be seen late under x86-TSO so that it matters: the others need no buffer.

A store that waits in a buffer while its CPU reads nothing that others write might as well be made when it leaves the
buffer: nobody can tell.  So only these matter: a store to x that another CPU may look at without a lock in common,
and after it, before anything empties the buffer, a load of some y that another CPU may write meanwhile.  Where a text has
none, every run under TSO is one under sequential consistency, with the same values and the same order of what others
see, and every verdict stays (Owens, "Reasoning about the implementation of concurrency abstractions on x86-TSO",
ECOOP 2010: triangular races; Bouajjani, Derevenetc, Meyer, "Checking and enforcing robustness against TSO", ESOP 2013).

Locks in common are facts of the movers' analysis, of exclusions alone: a flag excludes nobody whose store is late.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernelmodel.cells import CELLS, cpu_there, stops_others
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.memory_model import buffered, drains, empties, is_store
from kernelmodel.terms import Cell
from verify.explore.footprints import Facts, Footprint
from verify.explore.movers import Movers
from verify.ordering.relaxed import Pair, Place, Relaxed, place


class Races:
    """The accesses of a model that another CPU may interfere with."""

    def __init__(self, movers: Movers) -> None:
        """Of the tasks of a model, from the facts of its movers."""
        self.movers = movers
        self.locked = {id(f): self.exclusions(f) for f in movers.prints}
        self.never = {id(f) for f in movers.prints if (f.task.number, f.location) in movers.unreached}

    def exclusions(self, f: Footprint) -> Facts:
        """The facts that keep others away."""
        known = {**self.movers.facts[f.task.number][f.location], **f.needs}
        return {c: v for c, v in known.items() if CELLS[c.name].exclusion}

    def together(self, f: Footprint, g: Footprint) -> bool:
        """Whether two tasks may be at these operations at one time."""
        if g.task is f.task or self._gone(f, g) or self._gone(g, f) or id(f) in self.never or id(g) in self.never:
            return False
        a, b = self.locked[id(f)], self.locked[id(g)]
        return not any(c in b and b[c] != v for c, v in a.items())

    def _gone(self, f: Footprint, g: Footprint) -> bool:
        """Whether ``f`` stays on a CPU that has gone where ``g`` is: it goes when nobody does, and takes its stores along."""
        there = self.movers.facts[g.task.number][g.location]
        return f.node.irqs_off and f.node.cpu >= 0 and there.get(cpu_there(f.node.cpu)) == 0

    def stored(self, f: Footprint) -> set[Cell]:
        """The cells that ``f`` writes by stores that a buffer may hold back, and that others may look at meanwhile."""
        if not is_store(f.node.op):
            return set()
        return {c for c in f.writes if buffered(c, f.node.op) and self._seen(f, c)}

    def _seen(self, f: Footprint, cell: Cell) -> bool:
        return any(self.together(f, g) for g in self.movers.readers.get(cell, ()))

    def contended(self, f: Footprint, cell: Cell) -> bool:
        """Whether others may write a cell that ``f`` writes, at that time."""
        return any(self.together(f, g) for g in self.movers.writers.get(cell, ()))

    def loaded(self, f: Footprint) -> set[Cell]:
        """The cells that ``f`` looks at while a store of its own CPU may wait, and that others may write meanwhile.

        Whether interrupts are off is no memory: who finds that another has changed it was not on the CPU meanwhile.
        """
        return set() if empties(f.node.op) else {c for c in self.raced(f) if not stops_others(c)}

    def raced(self, f: Footprint) -> set[Cell]:
        """The cells that ``f`` looks at and others may write meanwhile, so that it finds something else."""
        writers = {id(g): g for c in f.watches for g in self.movers.writers.get(c, ())}
        return {
            c for g in writers.values() if self.together(f, g)
            for c in self.movers.changed_by(f, g, {**self.locked[id(f)], **self.locked[id(g)]})
        }  # fmt: skip


def relaxed(movers: Movers) -> Relaxed:
    """Analyse the tasks of a model."""
    races = Races(movers)
    pairs: set[Pair] = set()
    delayed: set[tuple[Place, Cell]] = set()
    stores: set[Place] = set()
    contended: set[str] = set()
    refused = ""
    for f in movers.prints:
        stored = races.stored(f)
        if not stored:
            continue
        stores.add(place(f.task.spec.name, f.node))
        for g, given_back in _before_it_is_empty(movers, f):
            for y in races.loaded(g):
                for x in stored - {y}:
                    pairs.add(Pair(f.task.spec.kind.name, _named(f.node), _named(g.node), x, y))
                    delayed.add((place(f.task.spec.name, f.node), x))
                    if not CELLS[x.name].exclusion and races.contended(f, x):
                        contended.add(x.name)
                        name = CELLS[x.name].in_c(x.name, x.index)
                        refused = refused or f"{_where(f)} may be seen late, while others write {name} too"
                    if given_back and not refused:
                        refused = (
                            f"{_where(f)} may be seen late, even after its section has ended, which is not followed"
                        )
    cells = {x for _, x in delayed}
    looks = {
        (place(f.task.spec.name, f.node), x)
        for f in movers.prints
        for x in races.raced(f) & cells
        if not CELLS[x.name].exclusion or f.node.op.does.acquires == x
    }
    order = sorted(pairs, key=lambda p: (p.task, p.store, p.load, p.cell, p.loaded))
    return Relaxed(tuple(order), frozenset(delayed), frozenset(looks), frozenset(stores), frozenset(contended), refused)


def _where(f: Footprint) -> str:
    return f"{f.node.stack[-1]}(): {f.node.op.text}"


def _named(node: FoldedNode) -> tuple[str, str]:
    return (node.stack[-1] if node.stack else "", node.op.text)


def _before_it_is_empty(movers: Movers, f: Footprint) -> Iterable[tuple[Footprint, bool]]:
    """The operations after ``f``, as far as its store may still be in the buffer; and whether after the end of a section."""
    todo = [(t, False) for _, t in f.node.edges if t != RETURNED]
    seen = set(todo)
    while todo:
        location, given_back = todo.pop()
        for g in movers.at[f.task.number, location]:
            yield g, given_back
            if not empties(g.node.op):
                later = given_back or drains(g.node.op) or any(t == RETURNED for _, t in g.node.edges)
                new = {(t, later) for _, t in g.node.edges if t != RETURNED} - seen
                seen |= new
                todo += new
