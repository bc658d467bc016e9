"""More than any machine allows whose locks and work items synchronise: loads that race find anything, until they are told.

For questions whose answer is "holds": what holds here holds under x86-TSO, on arm64, and whatever a compiler does to loads and
stores between synchronisations, for each of those runs is one of these.

- A load that another task may store against, with no synchronisation between, gives any value that the variable can have.
- A limit of a pcplist, which a mutex guards and frees read without it, is *in doubt* from each store on; as long as it is, they
  find anything.  The doubt ends where what the storing task has done comes before whatever is done on that list next: it takes
  the list's lock itself, or the CPU's work item, which it has queued after the store, begins.
- Two stores to one variable that race leave open which of them is last, for everybody who looks later: they are refused.
- Synchronisation is what locks, interrupts that are off, and atomic read-modify-writes of flags (work items) exclude.

Not coherence, not even of one variable; so a violation may be of no machine, and is left undecided.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernelmodel.cells import CELLS, MUTEXES, declare, mutex_owner, section_of, stops_others
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.memory_model import is_variable
from kernelmodel.ops import Kind, Op
from kernelmodel.schema import CellKind
from kernelmodel.terms import FALSE, TRUE, Cell, Sort, Term, choice, constant, ite, land, lnot, load
from verify.explore.finite import limit
from verify.explore.footprints import Footprint
from verify.explore.movers import Movers
from verify.ordering.changes import finding, if_taken
from verify.ordering.edges import LOCK, WORK, Edge
from verify.ordering.relaxed import Place, place
from verify.ordering.robust import Races

_DOUBT, _TOLD = ".in_doubt", "work.told"
#: what a compiler may put elsewhere
_PLAIN = (Kind.PLAIN, Kind.CRITICAL)
_SYNCHRONISES = (Kind.RMW, Kind.LOCK, Kind.UNLOCK)


@dataclass(frozen=True, slots=True)
class Weak:
    """Which loads find anything, of which values; and where doubt ends."""

    config: Config
    loads: Mapping[tuple[Place, Cell], tuple[int, ...]]
    #: places at which a task holds the mutexes of these names
    held: Mapping[Place, frozenset[str]]
    #: the orders that are not there
    without: frozenset[Edge] = frozenset()
    #: whether a lock may be tried in vain that has been given back
    tries_fail: bool = True

    @property
    def doubted(self) -> frozenset[str]:
        """The names of the limits that may be in doubt."""
        return frozenset(c.name for _, c in self.loads if _is_limit(c))


def weak(movers: Movers, without: frozenset[Edge] = frozenset(), compiler: bool = False) -> Weak:
    """Analyse the tasks of a model; ``without``: orders that end no doubt.

    ``compiler``: the machine is sequentially consistent, and only plain accesses are not where the text has them.  A compiler
    moves them past accesses to other variables, volatile ones too, and not past locks and barriers (Documentation/
    memory-barriers.txt, "Compiler barrier"): a load finds anything where it is plain, or a store that it races with is.
    """
    races = _Unsynchronised(movers, compiler)
    races.check_stores()
    loads: dict[tuple[Place, Cell], tuple[int, ...]] = {}
    held: dict[Place, set[str]] = {}
    for f in movers.prints:
        here = place(f.task.spec.name, f.node)
        facts = {**movers.facts[f.task.number][f.location], **f.needs}
        mine = {m for m in MUTEXES if facts.get(mutex_owner(m)) == f.task.number}
        # the same place may be reached with and without
        held[here] = held[here] & mine if here in held else mine
        for cell in races.loaded_anyhow(f):
            loads[here, cell] = _values(movers, cell)
    return Weak(movers.model.config, loads, {p: frozenset(m) for p, m in held.items()}, without, not compiler)


def _values(movers: Movers, cell: Cell) -> tuple[int, ...]:
    """All values that a variable can ever have: of a limit those that a configuration has, and those that are stored."""
    kind, finite = CELLS[cell.name], movers.model.finite
    stored = [t for f in movers.writers.get(cell, ()) for c, t in f.sets.items() if c == cell]
    if kind.limit and all(t.op in ("const", "reg", "cell", "ite") for t in stored):
        limits = {limit(kind.limit, high, batch) for high, batch in finite.new_limits}
        constants = {int(a.args[0]) for t in stored for a in _constants(t)}
        return tuple(sorted(limits | constants | set(movers.model.initial_values[cell])))
    found = movers.model.analysis.of(cell)
    return tuple(sorted(int(x) for x in found)) if found is not None else tuple(range(movers.model.finite.pages + 2))


def _constants(term: Term) -> Iterable[Term]:
    if term.op == "const":
        yield term
    elif term.op == "ite":
        for part in term.args[1:]:
            yield from _constants(part)


class _Unsynchronised(Races):
    """The loads that race, where flags that only atomic operations change exclude too."""

    def __init__(self, movers: Movers, plain_only: bool) -> None:
        self.plain_only = plain_only
        self.flags = {
            c for c, writers in movers.writers.items() if all(f.node.op.kind in _SYNCHRONISES for f in writers)
        }  # fmt: skip
        super().__init__(movers)

    def check_stores(self) -> None:
        """ModelError where two stores to a variable race: which of them is last would be open too, for whoever looks later."""
        for cell, writers in self.movers.writers.items():
            if not is_variable(cell):
                continue
            for f, g in itertools.combinations(writers, 2):
                if self._orders(f, cell) and self._orders(g, cell):
                    continue
                if self.together(f, g):
                    name = CELLS[cell.name].in_c(cell.name, cell.index)
                    why = f"others may store to {name} at that time, and which store is last is open"
                    raise ModelError(f"{f.node.op.text}: {why}")

    def _orders(self, f: Footprint, cell: Cell) -> bool:
        """Whether a store is an atomic one, or a sequentially consistent machine has the order that the text gives it."""
        kind = f.node.op.kind
        return kind in _SYNCHRONISES or (self.plain_only and kind not in _PLAIN) or cell in self.flags

    def exclusions(self, f: Footprint) -> dict[Cell, int]:
        """The facts that keep others away, flags among them."""
        known = {**self.movers.facts[f.task.number][f.location], **f.needs}
        return {c: v for c, v in known.items() if CELLS[c.name].exclusion or c in self.flags}

    def loaded_anyhow(self, f: Footprint) -> set[Cell]:
        """The variables that ``f`` loads while others may store to them."""
        if f.node.op.kind not in (Kind.PLAIN, Kind.READ_ONCE, Kind.CRITICAL):
            return set()
        found = set()
        for cell in f.reads:
            if not is_variable(cell):
                continue
            for g in self.movers.writers.get(cell, ()):
                both_critical = f.node.op.kind is Kind.CRITICAL and g.node.op.kind is Kind.CRITICAL
                both_stay = self.plain_only and f.node.op.kind is Kind.READ_ONCE and g.node.op.kind not in _PLAIN
                if not both_critical and not both_stay and self.together(f, g):
                    found.add(cell)
        return found


def _is_limit(cell: Cell) -> bool:
    kind = CELLS[cell.name]
    return bool(kind.limit) and kind.guard in MUTEXES and "cpu" in kind.axes


def _doubt(cell: Cell) -> Cell:
    return Cell(cell.name + _DOUBT, cell.index)


def declare_doubts(names: Iterable[str]) -> None:
    """Make the cells known that say what is in doubt."""
    kinds = [
        (name + _DOUBT, CellKind(
            axes=CELLS[name].axes, sort="bool", silent=True, written_by_all=True,
            meaning=f"{name} has been stored to, and its CPU has not been told",
        ))
        for name in sorted(names)
    ]  # fmt: skip
    words = "the CPU's work item was queued after the stores to the limits"
    told = CellKind(axes=("cpu",), sort="bool", silent=True, meaning=words)
    declare([*kinds, (_TOLD, told)])


def weaken(task: str, nodes: Sequence[Any], what: Weak) -> None:
    """Put the doubts into the nodes of a task's graph, in place."""
    for node in nodes:
        here = place(task, node)
        cells = {c: values for (p, c), values in what.loads.items() if p == here}
        op = _finds_anything(node.op, cells, what.doubted) if cells else node.op
        told = _told(_stored(op, what), what, what.held.get(here, frozenset()))
        node.op = _may_fail(told) if what.tries_fail else told


def _may_fail(op: Op) -> Op:
    """Who tries to take a lock may find it held that has been given back."""
    lock = op.does.acquires
    if lock is None or not op.does.tries:
        return op
    taken = choice("the lock is found to be free", "bool")
    return if_taken(op, taken, taken)


def _finds_anything(op: Op, cells: Mapping[Cell, tuple[int, ...]], doubted: frozenset[str]) -> Op:
    picks: list[Term] = []
    found: dict[Cell, Term] = {}
    for cell, values in sorted(cells.items()):
        sort = CELLS[cell.name].sort
        exact = load(cell, sort)
        anything = _one_of(f"{cell}", values, sort, picks)
        found[cell] = ite(load(_doubt(cell), "bool"), anything, exact) if cell.name in doubted else anything
    return finding(op, found, picks)


def _one_of(name: str, values: tuple[int, ...], sort: Sort, picks: list[Term]) -> Term:
    """A free choice among values, by truth values alone: engines try all of those."""
    first, *rest = [constant(v, sort) for v in values]
    made: Term = first
    for n, value in enumerate(rest):
        pick = choice(f"{name} is found to be {values[n + 1]}", "bool")
        picks.append(pick)
        made = ite(pick, value, made)
    return made


def _stored(op: Op, what: Weak) -> Op:
    """After a store to a limit everybody is in doubt, and nobody has been told."""
    limits = [c for c, _ in op.updates if c.name in what.doubted]
    if not limits:
        return op
    position = {name: CELLS[name].position("cpu") for name in what.doubted}
    cpus = sorted({int(c.index[position[c.name]]) for c in limits})
    more = [*((_doubt(c), TRUE) for c in limits), *((Cell(_TOLD, (cpu,)), FALSE) for cpu in cpus)]
    return replace(op, updates=(*op.updates, *more))


def _told(op: Op, what: Weak, held: frozenset[str]) -> Op:
    """Where doubts end: the lock of a list, or the work item of a CPU."""
    guarded = {name for name in what.doubted if CELLS[name].guard in held}
    more: list[tuple[Cell, Term]] = []
    for z in range(what.config.nr_zones):
        for cpu in what.config.cpus:
            section = section_of(what.config, z, cpu)
            if LOCK not in what.without and op.does.acquires == section and not stops_others(section):
                free = load(section) == 0
                for name in sorted(guarded):
                    doubt = _doubt(Cell(name, (z, cpu)))
                    more.append((doubt, ite(free, FALSE, load(doubt, "bool")) if op.does.tries else FALSE))
    work = op.does.queues
    if work is not None and guarded == what.doubted:
        more.append((Cell(_TOLD, (work.cpu,)), TRUE))
    begun = op.does.begins
    if begun is not None and WORK not in what.without:
        told = Cell(_TOLD, (begun.cpu,))
        for z in range(what.config.nr_zones):
            for name in sorted(what.doubted):
                doubt = _doubt(Cell(name, (z, begun.cpu)))
                more.append((doubt, land(load(doubt, "bool"), lnot(load(told, "bool")))))
        more.append((told, FALSE))
    return replace(op, updates=(*op.updates, *more)) if more else op
