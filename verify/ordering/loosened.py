"""More than x86-TSO allows, for proofs of any size: a load that may miss a store finds anything.

Where another CPU may look at a delayed store, the load gives any value of the cell's range; where two CPUs store to one
cell, one of them late, every load of it does; and whoever tries to take a lock that may be given back late may fail.  What
is proved of that holds under TSO with buffers of any length, for each run under TSO is one of these (see
:mod:`verify.ordering.robust` for the stores that need no buffer at all).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kernelmodel.cells import CELLS
from kernelmodel.graphs.folded_graph import FoldedGraph
from kernelmodel.memory_model import left_choice
from kernelmodel.ops import Op
from kernelmodel.tasks import kinds_of, options
from kernelmodel.terms import Cell, Term, atoms, choice, const, land
from kernelmodel.text import KernelText
from verify.ordering.changes import finding, if_taken
from verify.ordering.scenario import relaxed_in
from verify.scenario import Scenario

_NUMBER = re.compile(r"\d+")


def everybody(kernel: type[KernelText]) -> Scenario:
    """Two of each task of which there may be many in a proof, one of each other, two offlines, on three CPUs.

    A store, a load after it, and whoever else looks or stores there are of three tasks and three CPUs at most.
    """
    kinds = kinds_of(kernel)
    numbers = {
        option: 2 if kind.equal or kind.has_range else 1
        for option, kind in options().items()
        if kind.proved and kind.name in kinds
    }
    # with pages to migrate, for offline_pages() allocates where there are some
    return Scenario(cpus=3, migrations=1).having(**numbers)


@dataclass(frozen=True, slots=True)
class Loose:
    """Which loads find anything: (kind of task, calls, text without numbers, cell), and cells of which all loads do."""

    looks: frozenset[tuple[str, tuple[str, ...], str, str]] = frozenset()
    anywhere: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()

    def apply(self, kind: str, graph: FoldedGraph) -> None:
        """Loosen the operations of a task's graph, in place."""
        for node in graph.nodes:
            op = node.op
            text = _NUMBER.sub("#", op.text)
            names = {c for k, stack, t, c in self.looks if (k, stack, t) == (kind, node.stack, text)}
            op = _finds_anything(op, names | self.anywhere)
            lock = op.does.acquires
            if lock is not None and op.does.tries and lock.name in self.locks:
                op = _may_fail(op, lock)
            node.op = op


def loose(kernel: type[KernelText]) -> Loose:
    """What is loose in a kernel with any tasks of any kind."""
    scenario = everybody(kernel)
    found = relaxed_in(kernel, scenario)
    kinds = {t.name: t.kind.name for t in scenario.tasks()}
    looks = {(kinds[task], stack, _NUMBER.sub("#", text), c.name) for (task, stack, text), c in found.looks}
    locks = {c.name for _, c in found.delayed if CELLS[c.name].exclusion}
    return Loose(frozenset(looks), found.contended, frozenset(locks))


def _finds_anything(op: Op, names: frozenset[str] | set[str]) -> Op:
    terms = (*op.returns, *(t for _, t in op.updates), op.where)
    read = sorted({a.args[0] for t in terms for a in atoms(t, "cell")})
    loose_cells = [c for c in read if c.name in names and not CELLS[c.name].exclusion]
    if not loose_cells:
        return op
    # the same name for every CPU, or what is done for one would seem to depend on which it is
    anything: dict[Cell, Term] = {
        c: choice(f"{c.name} found ({n})", CELLS[c.name].sort) for n, c in enumerate(loose_cells)
    }
    limits = [x >= const(CELLS[c.name].least) for c, x in anything.items() if CELLS[c.name].sort == "int"]
    found = finding(op, anything, tuple(anything.values()))
    return replace(found, where=land(found.where, *limits))


def _may_fail(op: Op, lock: Cell) -> Op:
    left = choice(left_choice(lock.name), "bool")
    return if_taken(op, left, left)
