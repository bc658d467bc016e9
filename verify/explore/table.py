"""Transitions by table: what a task may do at a location depends on few columns, so each combination is computed once.

The idea is that of LTSmin's partitioned next-state interface with cached short vectors (Blom, van de Pol, Weber 2010):
the rows that stand at a location are projected on the columns that its operations read or write; each distinct
projection is run once through the operations, in Python, and its outcomes are applied to all its rows with NumPy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from kernelmodel.cells import names
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.terms import Cell, const, substitute
from verify.explore.decisions import Decisions, Noted, Outcome, Outcomes
from verify.explore.footprints import literals
from verify.explore.model import Model, TaskModel, cells_in, returns_of
from verify.explore.moving import Moving
from verify.explore.observed import Place
from verify.explore.rows import Rows
from verify.explore.transactions import Away, Transactions, listed

Hashes = npt.NDArray[np.uint64]

Index = npt.NDArray[np.int64]

#: columns to be compared
ColumnPairs = list[tuple[int, int]]

#: one random odd number for each column: rows are told apart by the sum of products modulo 2**64
_SEED = 0x73747261


def multipliers(n: int, dice: random.Random) -> Hashes:
    """``n`` random odd 64-bit numbers."""
    return np.array([dice.getrandbits(64) | 1 for _ in range(n)], np.uint64)


#: cells that count pages, and what none of them is unless a text makes pages or loses them without end
_COUNTING, RUNAWAY = names(lambda kind: kind.counts_pages), 40


class Table:
    """The outcomes of one operation of one location of one task, and of what is performed at once after it."""

    def __init__(self, engine: Transitions, task: TaskModel, location: int, which: int) -> None:
        """Nothing is computed until rows ask."""
        self.engine, self.task, self.location, self.which = engine, task, location, which
        self.node = task.at(location)[which]
        read, written, away = engine.footprint(task, location, which)
        self.writes = sorted(written)
        self.written = np.array(self.writes, dtype=np.int64)
        self.inline, self.late = engine.split_checks(read | written, written)
        extra = {a for check in self.inline for a in engine.check_columns[check]}
        self.key = np.array(sorted(read | written | extra), dtype=np.int64)
        self.away = sorted(away, key=lambda a: engine.away[a])
        self.addresses = [*self.key.tolist(), *(engine.away[a] for a in self.away)]
        self.key_random = np.concatenate([engine.random[self.key], engine.more_random[: len(self.away)]])
        self.needs = [
            (engine.model.address[c], x) for c, x in engine.needs(task, location, which) if c in engine.model.address
        ]
        self.known: Hashes = np.empty(0, np.uint64)
        self.slot_of: Index = np.empty(0, np.int64)
        self.count: Index = np.empty(0, np.int64)
        self.first: Index = np.empty(0, np.int64)
        self.new: Rows = np.empty((len(self.written), 0), np.int16)
        self.delta: npt.NDArray[np.uint64] = np.empty((engine.classes, 0), np.uint64)
        #: the classes beyond the first whose sums some outcome changes
        self.moving: list[int] = []
        self.bad: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._decisions = Decisions()
        self._outcomes = Outcomes(self.writes, engine.classes)
        self._at = [self.addresses.index(a) for a in self.writes]

    def look_up(self, rows: Rows, index: Index) -> Index:
        """The slot of each of the chosen rows, computing those that are new."""
        columns = [rows[k].take(index) for k in self.key.tolist()]
        columns += [self.engine.is_away(task, bad)[rows[task.location].take(index)] for task, bad in self.away]
        hashes = np.zeros(len(index), np.uint64)
        for column, factor in zip(columns, self.key_random, strict=True):
            hashes += column.astype(np.uint64) * factor
        at = np.searchsorted(self.known, hashes)
        if len(self.known):
            at_in = np.minimum(at, len(self.known) - 1)
            missing = self.known[at_in] != hashes
        else:
            at_in, missing = at, np.ones(len(hashes), bool)
        if missing.any():
            fresh, where = np.unique(hashes[missing], return_index=True)
            places = np.flatnonzero(missing)[where]
            self._compute(np.array([c[places] for c in columns], np.int16), fresh)
            at_in = np.searchsorted(self.known, hashes)
        slots: Index = self.slot_of[at_in]
        return slots

    def _compute(self, values: Rows, hashes: Hashes) -> None:
        found: list[range] = []
        v = [0] * self.engine.extent
        for column in values.T.tolist():
            for address, x in zip(self.addresses, column, strict=True):
                v[address] = x
            outcomes = self._decisions.find(v)
            found.append(self._learn(v) if outcomes is None else outcomes)
        learnt = self._outcomes.settled()
        counts = np.array([len(outcomes) for outcomes in found], np.int64)
        first = np.cumsum(counts) - counts
        which = np.arange(int(counts.sum())) + np.repeat(np.array([o.start for o in found], np.int64) - first, counts)
        if len(which):
            old = np.repeat(values[self._at], counts, axis=1)
            new = np.where(learnt.written[:, which], learnt.values[:, which], old)
            self.new = np.concatenate([self.new, new], axis=1)
            self.delta = np.concatenate([self.delta, learnt.deltas[:, which]], axis=1)
            self.moving = (1 + np.flatnonzero(learnt.deltas[1:].any(axis=1))).tolist()
        slots = len(self.count) + np.arange(len(hashes))
        self.first = np.concatenate([self.first, len(self.bad) + first])
        self.count = np.concatenate([self.count, counts])
        self.bad = np.concatenate([self.bad, learnt.wrong[which]])
        known = np.concatenate([self.known, hashes])
        order = np.argsort(known)
        self.known = known[order]
        self.slot_of = np.concatenate([self.slot_of, slots])[order]

    def _learn(self, v: list[int]) -> range:
        """The numbers of the outcomes of ``v``, which are those of all that agree with it where it is looked at."""
        outcomes, looked = self.decide(v)
        found = self._outcomes.add(outcomes)
        if looked is not None:
            self._decisions.learn(v, looked, found)
        return found

    def decide(self, v: list[int]) -> tuple[list[Outcome], Iterable[int] | None]:
        """The outcomes of ``v``, and on which of its values, in which order, they depend: None for all of the key."""
        engine = self.engine
        if engine.identities is not None:
            # pages are looked at as a whole
            return [self._outcome(v, listed(w), self.writes, wrong) for w, wrong in engine.outcomes(self, v[:])], None
        noted = Noted(v, {}, {})
        found = []
        # the change of a hash follows from where the task was, with which registers, and from what is written over
        live = self.task.live[self.location]
        own = [self.task.location, *sorted({self.task.slots[r] for r in live if r in self.task.slots})]
        for changes, wrong in engine.outcomes(self, noted):
            assert isinstance(changes, dict)
            noted.looked.update(dict.fromkeys((*own, *sorted(changes))))
            w = v[:]
            for place, x in changes.items():
                w[place] = x
            found.append(self._outcome(v, w, changes, wrong))
        return found, noted.looked

    def _outcome(self, v: list[int], w: list[int], touched: Collection[int], wrong: int) -> Outcome:
        engine = self.engine
        if any(abs(w[a]) > RUNAWAY for a in engine.counting.intersection(touched)):
            engine.runaway = "the text makes pages, or loses them, without end: its states have no end"
        return Outcome({a: w[a] for a in touched}, engine.delta(self, v, w, touched), wrong)

    def successors(self, rows: Rows, index: Index) -> tuple[Index, Index]:
        """For the chosen rows: parents and outcomes of their successors."""
        for column, x in self.needs:
            index = index[rows[column, index] == x]
        if not len(index):
            return index, index
        slots = self.look_up(rows, index)
        counts = self.count[slots]
        total = int(counts.sum())
        if total == len(index) and bool((counts == 1).all()):
            return index, self.first[slots]
        ends = np.cumsum(counts)
        within = np.arange(total) - np.repeat(ends - counts, counts)
        return np.repeat(index, counts), np.repeat(self.first[slots], counts) + within


class Transitions(Transactions):
    """All tables of a model.

    With ``movers`` a task that comes to an operation that needs no interleaving goes on at once.
    """

    #: whether two states are two states where they differ in the names of CPUs only
    tells_cpus_apart = True

    def __init__(
        self,
        model: Model,
        movers: Moving | None = None,
        exact: bool = True,
        checks: Sequence[int] | None = None,
        merge: bool = False,
    ) -> None:
        """``checks``: the positions of the state checks to evaluate; all by default.

        ``merge``: of values of registers that tell nothing apart, one stands for all (see observed.py).
        """
        positions = list(range(len(model.state_checks))) if checks is None else list(checks)
        super().__init__(model, movers, exact, positions, self.images if merge else None)
        # of each search the same: among the shortest traces it then finds the same one, whatever was searched before
        dice = random.Random(_SEED)
        self.random = multipliers(model.width, dice)
        self.more_random = multipliers(len(self.away), dice)
        self.classes = 1
        self.checks = positions
        self.check_cells = {i: cells_in([model.state_checks[i].check.violation]) for i in self.checks}
        self.check_columns = {i: self.columns_of(c) for i, c in self.check_cells.items()}
        self.counting = frozenset(a for c, a in model.address.items() if c.name in _COUNTING)
        #: what makes the states endless; empty if nothing does
        self.runaway = ""
        self._tables: dict[tuple[int, int], list[Table]] = {}
        self._luts: dict[Away, npt.NDArray[np.bool_]] = {}
        self.visible = [
            i
            for i in self.checks
            if model.state_checks[i].check.violation.key[:3] != ("const", "bool", False)
            and not model.state_checks[i].rest
        ]

    def tables(self, task: TaskModel, location: int) -> list[Table]:
        """The tables of a location, one for each operation that may come next there."""
        key = (task.number, location)
        if key not in self._tables:
            self._tables[key] = [Table(self, task, location, i) for i in range(len(task.graph.locations[location]))]
        return self._tables[key]

    def decide(self, table: Table, v: list[int]) -> tuple[list[Outcome], Iterable[int] | None]:
        """What may follow ``v`` by a table, and on what of it that depends: see ``Table.decide``."""
        return table.decide(v)

    def is_away(self, task: TaskModel, bad: frozenset[int]) -> npt.NDArray[np.bool_]:
        """For each location, and last for a task that has returned, whether it is none of ``bad``."""
        key = (task, bad)
        if key not in self._luts:
            lut = np.ones(len(task.graph.locations) + 1, bool)
            lut[list(bad)] = False
            self._luts[key] = lut
        return self._luts[key]

    def images(self, task: TaskModel, location: int) -> list[Place]:
        """A location, and those that fingerprints do not tell from it, each with the columns of its registers."""
        return [(task, location, [task.slots[r] for r in sorted(task.live[location]) if r in task.slots])]

    def needs(self, task: TaskModel, location: int, which: int) -> list[tuple[Cell, int]]:
        """Values of cells without which an operation waits."""
        node = task.at(location)[which]
        if node.op.must:
            return []
        return list(literals(substitute(node.op.guard, {"me": const(task.number)})))

    def apart(self, table: Table) -> tuple[list[ColumnPairs], list[tuple[int, int]]]:  # noqa: ARG002 - for subclasses
        """Where the operation of ``table`` need not be tried: pairs of columns all equal, or a pair of hash lines."""
        return [], []

    def chosen(self, rows: Rows, hashes: Hashes, table: Table, index: Index) -> Index:
        """The rows of ``index`` in which the operation of ``table`` has to be tried."""
        tasks, cpus = self.apart(table)
        for pairs in tasks:
            same = np.ones(len(index), bool)
            for a, b in pairs:
                same &= rows[a].take(index) == rows[b].take(index)
            index = index[~same]
        for a, b in cpus:
            index = index[hashes[a].take(index) != hashes[b].take(index)]
        return index

    def columns_of(self, cells: Iterable[Cell]) -> set[int]:
        """The columns from which the values of cells are found."""
        found: set[int] = set()
        for cell in cells:
            address = self.model.address.get(cell)
            if address is None:
                continue
            if address in self.model.virtual:
                found |= {*self.model.where, *self.model.block}
            else:
                found.add(address)
        return found

    def footprint(self, task: TaskModel, location: int, which: int) -> tuple[set[int], set[int], set[Away]]:
        """The columns that an operation, and those performed at once after it, may read and write; who must be away."""
        read, written = {task.location, *task.slots.values()}, {task.location, *task.slots.values()}
        away: set[Away] = set()
        seen: set[int] = set()
        queue = [[task.at(location)[which]]]
        while queue:
            for node in queue.pop():
                r, w = self._node_footprint(task, node)
                read |= r
                written |= w
                for _, target in node.edges:
                    condition = self.condition(task, target)
                    if condition is not None:
                        read |= self.columns_of(c for c, _ in condition.values)
                        away |= set(condition.away)
                    right = self.movers is not None and self.movers.may_be_right(task, node)
                    if (condition is not None or right) and target not in seen and target != RETURNED:
                        seen.add(target)
                        queue.append(task.at(target))
        return read, written, away

    def _node_footprint(self, task: TaskModel, node: FoldedNode) -> tuple[set[int], set[int]]:
        op = node.op
        terms = [self.model.guard(task, node, self.exact), op.where, op.counted, *returns_of(op)]
        terms += [t for c, t in op.updates if c in self.model.address]
        for _, check in self.model.step_checks(op):
            terms += [check.premise, check.violation]
        written = {c for c, _ in op.updates if c in self.model.address}
        where = {c for c in written if self.model.address[c] in self.model.virtual}
        # which pages a count is of tells their pageblock, also where a count is written and none is read
        blocks = set(self.model.block) if where else set()
        return self.columns_of(cells_in(terms)) | blocks, self.columns_of(written) - blocks

    def split_checks(self, key: set[int], written: set[int]) -> tuple[list[int], list[int]]:
        """State checks that an outcome may newly violate: judged in the table if few columns more are needed, or later."""
        inline: list[int] = []
        late: list[int] = []
        for i in self.visible:
            if not self.check_columns[i] & written:
                continue
            more = self.check_columns[i] - key
            (inline if len(more) <= 3 else late).append(i)
        return inline, late

    def settled(self, task: TaskModel, v: list[int]) -> list[list[int]]:
        """Where a task comes to rest that has just been created: what it does at once when it begins."""
        first = v[task.location]
        if not self._goes_on(task, first, v):
            return [v]
        ends: list[list[int]] = []
        for table in self.tables(task, first):
            ends += [listed(w) for w, _ in self.outcomes(table, v, at_once=True)]
        return ends or [v]

    def delta(self, table: Table, v: list[int], w: list[int], touched: Collection[int]) -> Sequence[int]:  # noqa: ARG002 - for subclasses
        """The change of the row's hash from ``v`` to ``w``, in which some columns were written to."""
        return (sum((w[a] - v[a]) * int(self.random[a]) for a in touched) & 0xFFFFFFFFFFFFFFFF,)

    def hashes(self, rows: Rows) -> Hashes:
        """The hash of each row, one line for each class."""
        return self.hash_of(rows, slice(None))[None, :]

    def hash_of(self, values: Rows, columns: list[int] | slice) -> Hashes:
        """One number for the values of some columns in each row."""
        found: Hashes = (values.astype(np.uint64) * self.random[columns][:, None]).sum(axis=0, dtype=np.uint64)
        return found

    def holds(self, predicate: Callable[[list[int]], int], columns: Sequence[int], values: Sequence[int]) -> bool:
        """Whether a predicate is true of a row that has these values in the columns that it reads."""
        v = [0] * self.extent
        for column, x in zip(columns, values, strict=True):
            v[column] = x
        if self.identities is not None:
            self.identities.fill(v)
        return bool(predicate(v))

    def fingerprint(self, hashes: Hashes) -> Hashes:
        """One number for each row, by which rows are known to be equal."""
        prints: Hashes = hashes[0]
        return prints

    def sums(self, hashes: Hashes) -> Hashes:
        """What :meth:`prints_after` needs to know of each row: its fingerprint first."""
        return hashes

    def prints_after(self, hashes: Hashes, sums: Hashes, table: Table, parents: Index, outcomes: Index) -> Hashes:  # noqa: ARG002 - for subclasses
        """The fingerprints of the outcomes of a table."""
        prints: Hashes = sums[0][parents] + table.delta[0][outcomes]
        return prints
