"""The tables as the loop in C reads them, and what they have learnt."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from verify.explore.arena import Arena
from verify.explore.library import MapC, ProgramC, TableC, at
from verify.explore.model import TaskModel
from verify.explore.rows import Rows
from verify.explore.table import Hashes, Index, Table, Transitions


class _Prepared:
    """A table as the loop reads it."""

    def __init__(
        self,
        loaded: ctypes.CDLL,
        table: Table,
        number: int,
        arena: Arena,
        meet: Callable[[Iterable[tuple[int, int]]], None],
    ) -> None:
        self.loaded, self.table, self.number, self.arena, self.most, self._meet = loaded, table, number, arena, 0, meet
        #: of a table whose pages are told apart, which asks for all of its key at once: leaves by the key's hash
        self._leaves: dict[int, int] | None = {} if table.engine.identities is not None else None
        tasks, cpus = table.engine.apart(table)
        away = [table.engine.away[a] - table.engine.model.extent for a in table.away]
        n_key = len(table.key)
        self.arrays: dict[str, npt.NDArray[Any]] = {
            "needs": np.array(table.needs, np.int32),
            "tasks": np.array([x for pairs in tasks for x in (len(pairs), *chain(*pairs))], np.int32),
            "cpus": np.array(cpus, np.int32),
            "key": table.key.astype(np.int32),
            "key_factor": table.key_random[:n_key].copy(),
            "away": np.array(away, np.int32),
            "away_factor": table.key_random[n_key:].copy(),
        }
        self.numbers = {
            "n_needs": len(table.needs), "n_tasks": len(tasks), "n_cpus": len(cpus), "n_key": n_key, "n_away": len(away),
            "hashed": int(self._leaves is not None),
        }  # fmt: skip

    def fill(self, target: ctypes.Structure) -> None:
        """Tell the loop all that does not change, and that nothing is known."""
        for name, array in self.arrays.items():
            setattr(target, name, at(array))
        for name, number in self.numbers.items():
            setattr(target, name, number)
        self._map()

    def learn(self, states: Rows, what: Hashes) -> None:
        """Have the loop know some states, one for each thing that it did not know."""
        table, engine, arena = self.table, self.table.engine, self.arena
        away = [engine.is_away(task, bad)[states[:, task.location]] for task, bad in engine.away]
        for row, more, missing in zip(
            states.tolist(), zip(*away, strict=True) if away else repeat(()), what.tolist(), strict=False
        ):
            v = [*row, *[0] * (engine.model.extent - len(row)), *map(int, more)]
            known = arena.knows(arena.root(self.number), v) if self._leaves is None else missing in self._leaves
            if known:
                # another thread has missed it as well, or there was no room for what follows
                continue
            outcomes, looked = engine.decide(table, v)
            self.most = max(self.most, len(outcomes))
            # before anybody finds the leaf, and goes there
            self._meet((c, x) for o in outcomes for c, x in o.changes.items())
            leaf = arena.leaf(outcomes)
            if self._leaves is not None:
                self._leaves[missing] = leaf
            else:
                assert looked is not None
                # where the task is need not be asked: the table is of that place
                asked = [p for p in looked if p != table.task.location]
                arena.plant(self.number, arena.learn(arena.root(self.number), v, asked, leaf))
        self._map()

    def _map(self) -> None:
        if self._leaves is None:
            return
        room = 8
        while room < 2 * len(self._leaves):
            room *= 2
        hashes = np.fromiter(self._leaves, np.uint64, len(self._leaves))
        leaves = np.fromiter(self._leaves.values(), np.int64, len(self._leaves))
        known, leaf = np.zeros(room, np.uint64), np.empty(room, np.int32)
        self.loaded.map(at(hashes), at(leaves), len(hashes), room - 1, at(known), at(leaf))
        self.arena.plant_map(self.number, MapC(room - 1, at(known), at(leaf)), known, leaf)


class Learnt(NamedTuple):
    """What tables have learnt: the arena's arrays, and of how many outcomes each table knows at most."""

    arrays: dict[str, npt.NDArray[Any]]
    most: dict[int, int]


class Tables:
    """All tables, by number: those of a task at a location follow each other."""

    def __init__(self, loaded: ctypes.CDLL, transitions: Transitions) -> None:
        self.loaded, self.transitions = loaded, transitions
        tasks = transitions.model.tasks
        self.base: Index = np.array([0, *np.cumsum([len(t.graph.locations) for t in tasks]).tolist()], np.int64)
        places = [(t, x) for t in tasks for x in range(len(t.graph.locations))]
        self.of: list[tuple[TaskModel, int, int]] = []
        self.place_of: list[int] = []
        numbers = [0]
        for place, (task, location) in enumerate(places):
            for which in range(len(task.graph.locations[location])):
                self.of.append((task, location, which))
                self.place_of.append(place)
            numbers.append(len(self.of))
        self.number: Index = np.array(numbers, np.int64)
        self.column: Index = np.array([t.location for t in tasks], np.int64)
        self.structs = (TableC * len(self.of))()
        self.prepared: dict[int, _Prepared] = {}
        #: for each check that is judged when states are written, the tables that may have violated it
        self.late: dict[int, npt.NDArray[np.bool_]] = {}
        self._most_at: Index = np.zeros(len(places), np.int64)
        #: the places whose tables are prepared, and of each location column the first of its task's places
        self._met: set[int] = set()
        self._base_of = dict(zip(self.column.tolist(), self.base.tolist(), strict=False))
        tables_at = np.diff(self.number)
        self._tables = sum(int(tables_at[a:b].max(initial=0)) for a, b in self._ranges())
        self._program = ProgramC(
            transitions.model.width, transitions.classes, len(tasks), at(self.column), at(self.base), at(self.number),
            ctypes.addressof(self.structs),
        )  # fmt: skip
        self._arena = Arena(transitions, len(self.of), loaded)
        #: how many states tables were asked to learn
        self.asked = 0
        self._known: dict[int, int] = {}

    def _ranges(self) -> list[tuple[int, int]]:
        return list(zip(self.base[:-1].tolist(), self.base[1:].tolist(), strict=True))

    def learnt(self) -> Learnt:
        """What the tables know."""
        return Learnt(self._arena.kept(), self._known | {n: p.most for n, p in self.prepared.items() if p.most})

    def take(self, learnt: Learnt) -> None:
        """Know what equal tables have learnt, before anything is asked."""
        self._arena.take(learnt.arrays)
        self._known = learnt.most
        writes = np.unique(learnt.arrays["writes"])
        self._meet_all(zip(writes["column"].tolist(), writes["value"].tolist(), strict=True))

    def program(self) -> ctypes.Structure:
        """All tables with what they know now, for one call."""
        self._arena.point(self._program)
        return ProgramC.from_buffer_copy(self._program)

    def forget_old(self) -> None:
        """No call has a program from before."""
        self._arena.forget_old()

    def most(self) -> int:
        """More than one state can have successors, or tables that may not know it."""
        return max(self._tables, sum(int(self._most_at[a:b].max(initial=0)) for a, b in self._ranges()))

    def meet(self, states: Rows) -> None:
        """Prepare the tables of where the tasks are in some states, with which a search begins."""
        for column in self._base_of:
            self._meet_all((column, location) for location in np.unique(states[column]).tolist())

    def _meet_all(self, values: Iterable[tuple[int, int]]) -> None:
        """Prepare the tables of the places among some (column, value)."""
        for column, location in values:
            if column in self._base_of and location >= 0:
                place = self._base_of[column] + location
                if place not in self._met:
                    self._met.add(place)
                    self._prepare(place)

    def _prepare(self, place: int) -> None:
        for number in range(int(self.number[place]), int(self.number[place + 1])):
            task, location, which = self.of[number]
            table = self.transitions.tables(task, location)[which]
            prepared = _Prepared(self.loaded, table, number, self._arena, self._meet_all)
            self.prepared[number] = prepared
            for check in prepared.table.late:
                self.late.setdefault(check, np.zeros(len(self.of), bool))[number] = True
            prepared.fill(self.structs[number])
            prepared.most = self._known.get(number, 0)
            self._most_at[place] += prepared.most

    def learn(self, number: int, states: Rows, what: Hashes) -> int:
        """Have a table know some states; returns how many successors one of them may have."""
        prepared = self.prepared[number]
        self.asked += len(states)
        before = prepared.most
        prepared.learn(states, what)
        self._most_at[self.place_of[number]] += prepared.most - before
        return prepared.most
