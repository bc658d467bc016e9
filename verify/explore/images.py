"""One decision for all its images: what an operation does on one CPU, by one of equal tasks, it does on and by the others.

Renaming CPUs and equal tasks maps runs to runs (symmetry.py checks that on the graphs and the properties).  So what may follow
at a place is worked out at one of its images, the first, and renamed.  Nothing new is taken for granted by that: where a
table does not look the same as its first image does, it is worked out for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from kernelmodel.cells import CELLS, on_other_cpu
from kernelmodel.graphs.folded_graph import RETURNED
from verify.explore.decisions import Decisions, Outcome
from verify.explore.model import Model, TaskModel
from verify.explore.table import Table
from verify.explore.transactions import Away

#: what a renaming of CPUs makes of the locations of a task, and of its registers: for each location (from, to) slots
Moves = tuple[Sequence[int], Sequence[Sequence[tuple[int, int]]], Mapping[int, int]]


class Renaming(NamedTuple):
    """A renaming that is its own inverse: columns that change places, owners that do, what tasks' locations become."""

    columns: tuple[tuple[int, int], ...]
    owners: Mapping[int, int]
    cpus: Mapping[int, int]
    moves: Mapping[int, Moves]


#: a table, and the renamings that lead from another to it
First = tuple[Table, tuple[Renaming, ...]]


class Images:
    """The renamings of a model, and for each table its first image with the renamings that lead there."""

    def __init__(
        self, model: Model, tables: Callable[[TaskModel, int], list[Table]], away: Mapping[Away, int],
        moves: Mapping[int, Sequence[Moves]],
    ) -> None:  # fmt: skip
        """``moves``: for each task that serves no CPU, what exchanging CPU a and CPU a + 1 makes of it."""
        self.model, self._tables, self._away, self._moves = model, tables, away, moves
        self._task_of = {t.number: t for t in model.tasks}
        self._owners = [a for c, a in model.address.items() if CELLS[c.name].values == "task"]
        self._workers = {int(t.spec.cpu or 0): t for t in model.tasks if t.spec.kind.serves}
        swaps = [self._swap(a) for a in range(model.config.nr_cpus - 1)]
        #: none where a cell of one CPU has one value for ever, and that of another has not
        self._swaps = [s for s in swaps if s is not None] if None not in swaps else []
        self._exchanges: dict[tuple[int, int], Renaming] = {}
        self._firsts: dict[tuple[int, int, int], First | None] = {}
        self._places: dict[tuple[int, ...], list[int]] = {}
        self._pairs: dict[int, dict[int, int]] = {}
        self._decided: dict[tuple[int, int, int], Decisions] = {}

    def _swap(self, a: int) -> Renaming | None:
        exchange = {a: a + 1, a + 1: a}
        pairs: list[tuple[int, int]] = []
        for cell, column in self.model.address.items():
            other = self.model.address.get(on_other_cpu(cell, exchange))
            if other is None:
                return None
            if column < other:
                pairs.append((column, other))
        owners = {}
        if self._workers:
            one, another = self._workers[a], self._workers[a + 1]
            pairs += zip(_columns(one), _columns(another), strict=True)
            owners = {one.number: another.number, another.number: one.number}
        return Renaming(tuple(pairs), owners, exchange, {n: found[a] for n, found in self._moves.items()})

    def _exchange(self, one: TaskModel, other: TaskModel) -> Renaming:
        key = one.number, other.number
        if key not in self._exchanges:
            pairs = tuple(zip(_columns(one), _columns(other), strict=True))
            owners = {one.number: other.number, other.number: one.number}
            self._exchanges[key] = Renaming(pairs, owners, {}, {})
        return self._exchanges[key]

    def renamed(self, renaming: Renaming, v: Sequence[int]) -> list[int]:
        """The state that a renaming makes of one."""
        w = list(v)
        for a, b in renaming.columns:
            w[a], w[b] = v[b], v[a]
        for column in self._owners:
            w[column] = renaming.owners.get(w[column], w[column])
        for number, (locations, slots, _) in renaming.moves.items():
            task = self._task_of[number]
            location = v[task.location]
            if location != RETURNED:
                w[task.location] = locations[location]
                for s in task.slots.values():
                    w[s] = 0
                for old, new in slots[location]:
                    w[new] = v[old]
        for (task, bad), place in self._away.items():
            w[place] = int(w[task.location] not in bad)
        return w

    # --- first images ---

    def decide(self, table: Table, v: list[int]) -> tuple[list[Outcome], Iterable[int] | None]:
        """As ``Table.decide``, by the table's first image."""
        key = table.task.number, table.location, table.which
        if key not in self._firsts:
            self._firsts[key] = self._first(table)
        first = self._firsts[key]
        if first is None:
            return table.decide(v)
        image, renamings = first
        there = v
        for renaming in renamings:
            there = self.renamed(renaming, there)
        known = self._decided.setdefault((image.task.number, image.location, image.which), Decisions())
        found = known.find(there)
        if found is None:
            outcomes, looked = image.decide(there)
            found = [outcomes, list(looked or ())]
            known.learn(there, found[1], found)
        return self._back(table, v, there, renamings, *found) if renamings else (found[0], found[1])

    def _back(
        self, table: Table, v: list[int], there: list[int], renamings: Sequence[Renaming], outcomes: Sequence[Outcome],
        looked: Sequence[int],
    ) -> tuple[list[Outcome], Iterable[int] | None]:  # fmt: skip
        task, place = table.task, self._place_of(renamings)
        mine = {task.location, *task.slots.values()}
        # which registers the task's columns are depends on where it is, so these are asked for first
        asked = dict.fromkeys([task.location, *sorted(mine - {task.location})])
        asked |= dict.fromkeys(place[p] for p in looked)
        found = []
        for outcome in outcomes:
            w = there[:]
            for column, x in outcome.changes.items():
                w[column] = x
            for renaming in reversed(renamings):
                w = self.renamed(renaming, w)
            touched = sorted(mine | {place[c] for c in outcome.changes})
            asked |= dict.fromkeys(touched)
            changes = {c: w[c] for c in touched}
            found.append(Outcome(changes, table.engine.delta(table, v, w, changes), outcome.wrong))
        return table.decide(v) if -1 in asked else (found, asked)

    def _place_of(self, renamings: Sequence[Renaming]) -> list[int]:
        """For each place of a first image's values that of the table's own; -1 where there is none."""
        key = tuple(map(id, renamings))
        if key not in self._places:
            places = list(range(self.model.extent + len(self._away)))
            for renaming in reversed(renamings):
                exchanged = self._exchanged(renaming)
                places = [exchanged.get(p, p) for p in places]
            self._places[key] = places
        return self._places[key]

    def _exchanged(self, renaming: Renaming) -> dict[int, int]:
        """What becomes of places by one renaming; there are few, and many ways to put them one after the other."""
        if id(renaming) not in self._pairs:
            found = {a: b for x, y in renaming.columns for a, b in ((x, y), (y, x))}
            found |= {p: self._away.get(self._away_of(renaming, a), -1) for a, p in self._away.items()}
            self._pairs[id(renaming)] = found
        return self._pairs[id(renaming)]

    def _away_of(self, renaming: Renaming, away: Away) -> Away:
        task, bad = away
        if task.number in renaming.moves:
            return task, frozenset(renaming.moves[task.number][0][x] for x in bad)
        return self._task_of[renaming.owners.get(task.number, task.number)], bad

    def _first(self, table: Table) -> First | None:
        task, location, which = table.task, table.location, table.which
        renamings: list[Renaming] = []
        if task.spec.kind.serves:
            if self._swaps:
                renamings += reversed(self._swaps[: int(task.spec.cpu or 0)])
                task = self._workers[0]
        else:
            first = next(
                t for t in self.model.tasks if t is task or (t.spec.kind is task.spec.kind and t.spec.kind.equal)
            )
            if first is not task:
                renamings.append(self._exchange(first, task))
            task = first
            node = task.graph.locations[location][which]
            for a in self._way(task, location):
                locations, _, nodes = self._moves[task.number][a]
                location, node = locations[location], nodes[node]
                renamings.append(self._swaps[a])
            which = task.graph.locations[location].index(node)
        image = self._tables(task, location)[which]
        return (image, tuple(renamings)) if self._alike(table, image, renamings) else None

    def _way(self, task: TaskModel, location: int) -> list[int]:
        """The exchanges of neighbouring CPUs that lead to the first of the locations that they lead to."""
        ways: dict[int, list[int]] = {location: []}
        todo = [location]
        for x in todo:
            for a in range(len(self._swaps)):
                y = self._moves[task.number][a][0][x]
                if y not in ways:
                    ways[y] = [*ways[x], a]
                    todo.append(y)
        return ways[min(ways)]

    def _alike(self, table: Table, image: Table, renamings: Sequence[Renaming]) -> bool:
        """Whether the image judges on its way what the table would, of other CPUs."""

        def judged(inline: Sequence[int], back: Sequence[Renaming]) -> list[tuple[int, int]]:
            found = []
            for i in inline:
                one = self.model.state_checks[i]
                cpu = -1 if one.check.cpu is None else one.check.cpu
                for renaming in back:
                    cpu = renaming.cpus.get(cpu, cpu)
                found.append((one.prop if cpu >= 0 else -1 - i, cpu))
            return sorted(found)

        return judged(table.inline, ()) == judged(image.inline, list(reversed(renamings)))


def _columns(task: TaskModel) -> list[int]:
    return [task.location, *sorted(set(task.slots.values()))]
