"""Equal CPUs and equal tasks: states that differ in their names only are known by one fingerprint.

The fingerprint of a row is built from one sum for each CPU (its cells, its worker, who is there and what the loops over
CPUs have done with it) and one sum for what belongs to no CPU.  Sums do not depend on the order in which equal tasks are
added, and the CPUs' sums are mixed and added, so renaming CPUs or equal tasks changes nothing.

CPUs are interchangeable only if loops over CPUs take them in any order, which is a superset of the kernel's order:
sound for proofs, while a violation is looked for again in the kernel's order.  That renaming CPUs really gives the same
transition system is checked on the graphs and the properties; where it does not, :class:`AsymmetryError` says why.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from kernelmodel.cells import CELLS, cpu_position, on_other_cpu
from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.graphs.matching import matched
from kernelmodel.terms import Cell
from verify.explore.decisions import Outcome
from verify.explore.images import Images, Moves
from verify.explore.model import Model, TaskModel, cells_in, returns_of
from verify.explore.moving import Moving
from verify.explore.observed import Place
from verify.explore.rows import Rows
from verify.explore.table import ColumnPairs, Hashes, Index, Table, Transitions

_MASK = 0xFFFFFFFFFFFFFFFF


class AsymmetryError(Exception):
    """CPUs or tasks cannot be renamed in this kernel; the message says why."""


class Symmetric(Transitions):
    """Transitions whose fingerprints do not tell equal CPUs and equal tasks apart."""

    tells_cpus_apart = False

    def __init__(
        self,
        model: Model,
        movers: Moving | None = None,
        checks: Sequence[int] | None = None,
        known: Alike | None = None,
    ) -> None:
        """AsymmetryError where the model is not symmetric; ``known`` is what was found of an equal model that is."""
        super().__init__(model, movers, False, checks, merge=True)
        self.cpus = list(model.config.cpus)
        self.classes = 1 + len(self.cpus)
        self._weights: dict[Hashable, int] = {}
        #: of nodes, which live as long as the model
        self._keys: dict[int, Any] = {}
        self.alike = known or self._found_alike()
        self.roles, self._moves = self.alike.roles, self.alike.moves
        self._parts = self._column_parts()
        self._earlier = {
            t.number: [o for o in model.tasks if o.spec.kind is t.spec.kind and o.number < t.number]
            for t in model.tasks
            if t.spec.kind.equal
        }
        self._cpus: dict[tuple[int, int, int], int] = {}
        self._slots = {t.number: sorted(set(t.slots.values())) for t in model.tasks}
        self._adds: dict[tuple[int, ...], list[int]] = {}
        self._images = Images(model, self.tables, self.away, self._moves)

    def decide(self, table: Table, v: list[int]) -> tuple[list[Outcome], Iterable[int] | None]:
        """What may follow ``v`` by a table, worked out once for all places that are its images."""
        return self._images.decide(table, v)

    # --- checks ---

    def _found_alike(self) -> Alike:
        model = self.model
        self._check_properties()
        workers = [t for t in model.tasks if t.spec.kind.serves]
        for task in workers[1:]:
            self._check_same(workers[0], task, int(task.spec.cpu or 0), "the drain workers")
        for kind in {t.spec.kind.name: t.spec.kind for t in model.tasks if t.spec.kind.equal}.values():
            same = [t for t in model.tasks if t.spec.kind is kind]
            for task in same[1:]:
                self._check_same(same[0], task, 0, f"tasks {same[0].spec.name} and {task.spec.name}")
        found = Alike({}, {})
        for task in model.tasks:
            if not task.spec.kind.serves:
                found.roles[task.number], found.moves[task.number] = self._roles(task)
        return found

    def _swap(self, a: int, b: int) -> Callable[[Any], Any]:
        exchange = {a: b, b: a}

        def rename(key: Any) -> Any:
            if isinstance(key, Cell):
                return on_other_cpu(key, exchange)
            if isinstance(key, frozenset):
                return frozenset(map(rename, key))
            if isinstance(key, tuple):
                return tuple(map(rename, key))
            return key

        return lambda key: normal(rename(key))

    def _key(self, node: FoldedNode) -> Any:
        """What a node does; asked for again with each renaming."""
        if id(node) not in self._keys:
            self._keys[id(node)] = self._key_of(node)
        return self._keys[id(node)]

    def _key_of(self, node: FoldedNode) -> Any:
        op = node.op
        returns = () if op.does.returns_cpu else tuple(t.key for t in returns_of(op))
        checks = [(i, c.premise.key, c.violation.key) for i, c in self.model.step_checks(op)]
        updates = frozenset((c, normal(t.key)) for c, t in op.updates)
        return normal((op.tag, op.does.tries, op.guard.key, updates, returns, op.where.key, op.counted.key)), frozenset(
            Counter(normal(c) for c in checks).items()
        )

    def _check_properties(self) -> None:
        config = self.model.config
        for prop in self.model.properties:
            checks = (*prop.state_checks(config), *prop.rest_checks(config))
            keys = Counter(normal(c.violation.key) for c in checks)
            for a in range(len(self.cpus) - 1):
                rename = self._swap(a, a + 1)
                if Counter(rename(c.violation.key) for c in checks) != keys:
                    raise AsymmetryError(f"{prop.name} tells CPU {a} and CPU {a + 1} apart")

    def _check_same(self, one: TaskModel, other: TaskModel, cpu: int, what: str) -> None:
        swap = self._swap(0, cpu) if cpu else normal
        names = {p: q for (p, *_), (q, *_) in zip(one.spec.parameters, other.spec.parameters, strict=True)}

        def rename(key: Any) -> Any:
            return swap(_with_names(key, names))

        cpus = {c: c for c in self.cpus} | {0: cpu, cpu: 0}
        found = matched(one.graph, other.graph, cpus, self._key, rename, normal)
        slots = {_with_names(("reg", "int", r), names)[2]: s - one.location for r, s in one.slots.items()}
        same_slots = slots == {r: s - other.location for r, s in other.slots.items()}
        if found is None or any(a != b for a, b in found.items()) or not same_slots:
            raise AsymmetryError(f"{what} differ")

    def _roles(self, task: TaskModel) -> tuple[_Roles, list[Moves]]:
        where = {frozenset(numbers): i for i, numbers in enumerate(task.graph.locations)}
        moves = []
        for a in range(len(self.cpus) - 1):
            cpus = {c: c for c in self.cpus} | {a: a + 1, a + 1: a}
            found = matched(task.graph, task.graph, cpus, self._key, self._swap(a, a + 1), normal)
            if found is None:
                raise AsymmetryError(f"{task.spec.name} does not treat CPU {a} and CPU {a + 1} alike")
            moved = [where.get(frozenset(found.get(n, -1) for n in numbers)) for numbers in task.graph.locations]
            if any(m is None for m in moved):
                raise AsymmetryError(f"{task.spec.name} does not treat CPU {a} and CPU {a + 1} alike")
            moves.append(_Renaming(cpus, [m for m in moved if m is not None], found))
        live = [sorted(r for r in task.live[x] if r in task.slots) for x in range(len(task.graph.locations))]
        renamed: list[Moves] = [
            (m.locations, [[(task.slots[r], task.slots[m.register(r)]) for r in found] for found in live], m.nodes)
            for m in moves
        ]
        roles = _Roles(live, self.cpus, moves)
        if not roles.tell_registers_apart():
            raise AsymmetryError(f"{task.spec.name} has registers for several CPUs at once")
        if not roles.tell_locations_apart():
            raise AsymmetryError(f"what {task.spec.name} does with each CPU does not tell where it is")
        return roles, renamed

    def images(self, task: TaskModel, location: int) -> list[Place]:
        """The locations that renaming CPUs and equal tasks makes of one."""
        same = [t for t in self.model.tasks if t.spec.kind is task.spec.kind and (t is task or t.spec.kind.equal)]
        if task.spec.kind.serves:
            return [
                (t, location, sorted(t.slots[r] for r in t.live[location] if r in t.slots))
                for t in self.model.tasks
                if t.spec.kind is task.spec.kind
            ]
        orbit = self.roles[task.number].orbit
        return [
            (t, x, [t.slots[r] for r in self.roles[t.number].registers[x]])
            for t in same
            for x in range(len(orbit))
            if self.roles[t.number].orbit[x] == orbit[location]
        ]

    # --- equal alternatives ---

    def apart(self, table: Table) -> tuple[list[ColumnPairs], list[tuple[int, int]]]:
        """Of equal tasks the first is tried, and of equal CPUs the first: the others would give the same states."""
        task = table.task
        mine = [task.location, *sorted(set(task.slots.values()))]
        tasks = [
            list(zip(mine, [other.location, *sorted(set(other.slots.values()))], strict=True))
            for other in self._earlier.get(task.number, ())
        ]
        cpu = self._cpu_of(table)
        return tasks, [(1 + c, 1 + cpu) for c in range(cpu)]

    def _cpu_of(self, table: Table) -> int:
        """The CPU that an operation is about, where there is the same one for other CPUs; -1 if there is not."""
        key = (table.task.number, table.location, table.which)
        if key not in self._cpus:
            self._cpus[key] = self._find_cpu(table.task, table.location, table.which)
        return self._cpus[key]

    def _find_cpu(self, task: TaskModel, location: int, which: int) -> int:
        nodes = task.at(location)
        if task.spec.kind.serves:
            return int(task.spec.cpu or 0)
        if len(nodes) == 1:
            return -1
        found = []
        for node in nodes:
            cells = {c for c, _ in node.op.updates} | cells_in((node.op.guard, *node.op.returns))
            cpus = {int(c.index[p]) for c in cells if (p := cpu_position(c.name)) >= 0}
            found.append(node.cpu if node.cpu >= 0 else next(iter(cpus)) if len(cpus) == 1 else -1)
        return found[which] if len(set(found)) == len(found) and -1 not in found else -1

    # --- hashing ---

    def _weight(self, what: Hashable) -> int:
        if what not in self._weights:
            # the same in every process and in whatever order they are asked for: sums are kept (kept.py)
            said = repr(_plain(what)).encode()
            self._weights[what] = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest()) | 1
        return self._weights[what]

    def _column_parts(self) -> list[tuple[int, int, bool] | None]:
        """For each column its class, its weight and whether only zero or not counts; None for the tasks' columns."""
        parts: list[tuple[int, int, bool] | None] = []
        for column in self.model.columns:
            if not isinstance(column, Cell):
                parts.append(None)
                continue
            place = cpu_position(column.name)
            if place < 0:
                parts.append((0, self._weight(column), False))
            else:
                rest = tuple(x for i, x in enumerate(column.index) if i != place)
                weight = self._weight((column.name, rest))
                parts.append((1 + int(column.index[place]), weight, CELLS[column.name].exclusion == "interrupts"))
        return parts

    def _of_task(self, task: TaskModel, v: Sequence[int]) -> list[int]:
        """What a task adds to each class."""
        location = v[task.location]
        own = (task.number, location, *[v[s] for s in self._slots[task.number]])
        if own not in self._adds:
            self._adds[own] = self._added(task, location, v)
        return self._adds[own]

    def _added(self, task: TaskModel, location: int, v: Sequence[int]) -> list[int]:
        found = [0] * self.classes
        if task.spec.kind.serves:
            registers = tuple(v[s] for s in self._slots[task.number])
            found[1 + int(task.spec.cpu or 0)] = _mix(self._weight((task.spec.kind.name, location, registers)))
            return found
        name = task.spec.kind.name if task.spec.kind.equal else task.spec.name
        roles = self.roles[task.number]
        orbit = RETURNED if location == RETURNED else roles.orbit[location]
        registers = () if location == RETURNED else tuple(v[task.slots[r]] for r in roles.registers[location])
        found[0] = _mix(self._weight((name, orbit, registers)))
        if location != RETURNED:
            for c in self.cpus:
                found[1 + c] = _mix(self._weight((name, "role", roles.role[location][c], registers)))
        return found

    def delta(self, table: Table, v: list[int], w: list[int], touched: Collection[int]) -> Sequence[int]:
        """The change of each class's sum from ``v`` to ``w``, in which some columns were written to."""
        total = [new - old for new, old in zip(self._of_task(table.task, w), self._of_task(table.task, v), strict=True)]
        for a in touched:
            part = self._parts[a]
            if part is not None:
                kind, weight, as_bool = part
                x, y = v[a], w[a]
                total[kind] += ((y != 0) - (x != 0) if as_bool else y - x) * weight
        return [t & _MASK for t in total]

    def hashes(self, rows: Rows) -> Hashes:
        """The classes' sums of each row."""
        result = []
        for row in rows.T.tolist():
            total = [0] * self.classes
            for a, part in enumerate(self._parts):
                if part is not None:
                    kind, weight, as_bool = part
                    total[kind] += (int(row[a] != 0) if as_bool else row[a]) * weight
            for task in self.model.tasks:
                for i, x in enumerate(self._of_task(task, row)):
                    total[i] += x
            result.append([t & _MASK for t in total])
        return np.array(result, np.uint64).T.copy()

    def fingerprint(self, hashes: Hashes) -> Hashes:
        """The sums of the CPUs mixed and added to that of no CPU."""
        total: Hashes = hashes[0].copy()
        for line in hashes[1:]:
            total += mixed(line)
        return total

    def sums(self, hashes: Hashes) -> Hashes:
        """The fingerprints, and the mixed sum of each CPU."""
        return np.concatenate([self.fingerprint(hashes)[None, :], mixed(hashes[1:])])

    def prints_after(self, hashes: Hashes, sums: Hashes, table: Table, parents: Index, outcomes: Index) -> Hashes:
        """As before, but for the CPUs of which something changes."""
        total: Hashes = sums[0][parents] + table.delta[0][outcomes]
        for c in table.moving:
            total += mixed(hashes[c][parents] + table.delta[c][outcomes]) - sums[c][parents]
        return total


@dataclass(frozen=True, slots=True)
class Alike:
    """What makes a model symmetric, of each task that serves no CPU: its roles, and what renaming CPUs makes of it."""

    roles: dict[int, _Roles]
    moves: dict[int, list[Moves]]


class _Renaming(NamedTuple):
    """A renaming of CPUs: of each CPU, each location, and each node, whose registers are named after it."""

    cpus: Mapping[int, int]
    locations: Sequence[int]
    nodes: Mapping[int, int]

    def register(self, name: str) -> str:
        """The register that stands for another under the renaming."""
        number, _, i = name.partition(".")
        return f"{self.nodes[int(number)]}.{i}" if number.isdigit() and int(number) in self.nodes else name


T = TypeVar("T", int, tuple[int, int], tuple[int, str])


class _Orbits(Generic[T]):
    """What renamings turn into each other, each known by its smallest."""

    def __init__(self) -> None:
        self._above: dict[T, T] = {}

    def root(self, x: T) -> T:
        while (y := self._above.get(x, x)) != x:
            x = y
        return x

    def join(self, x: T, y: T) -> None:
        a, b = sorted((self.root(x), self.root(y)))
        self._above[b] = a


class _Roles:
    """For each location its orbit under renaming of CPUs, the role of each CPU in it, its registers in canonical order."""

    def __init__(self, live: Sequence[Sequence[str]], cpus: Sequence[int], renamings: Sequence[_Renaming]) -> None:
        orbits, roles, registers = _Orbits[int](), _Orbits[tuple[int, int]](), _Orbits[tuple[int, str]]()
        for renaming in renamings:
            for x, y in enumerate(renaming.locations):
                orbits.join(x, y)
                for c in cpus:
                    roles.join((x, c), (y, renaming.cpus[c]))
                for r in live[x]:
                    registers.join((x, r), (y, renaming.register(r)))
        self.orbit = [orbits.root(x) for x in range(len(live))]
        self.role = [[roles.root((x, c)) for c in cpus] for x in range(len(live))]
        self._register_orbits = [[registers.root((x, r)) for r in found] for x, found in enumerate(live)]
        # slots are shared out without regard to CPUs, so values are told by what they mean
        self.registers = [
            [r for _, r in sorted(zip(known, found, strict=True))]
            for known, found in zip(self._register_orbits, live, strict=True)
        ]

    def tell_registers_apart(self) -> bool:
        """Whether a register is known by its orbit at each location, and is live wherever its image is."""
        whole: dict[int, set[frozenset[tuple[int, str]]]] = {}
        for x, known in enumerate(self._register_orbits):
            if len(set(known)) < len(known):
                return False
            whole.setdefault(self.orbit[x], set()).add(frozenset(known))
        return all(len(found) == 1 for found in whole.values())

    def tell_locations_apart(self) -> bool:
        """Whether a location is known by its orbit and the roles of the CPUs."""
        return len({(o, *r) for o, r in zip(self.orbit, self.role, strict=True)}) == len(self.orbit)


def normal(key: Any) -> Any:
    """The key of a term, or of several, in which the order of sums, conjunctions and disjunctions does not show."""
    if isinstance(key, frozenset):
        return frozenset(map(normal, key))
    if not isinstance(key, tuple) or isinstance(key, Cell):
        return key
    if len(key) > 2 and key[0] in ("and", "or", "+") and key[1] in ("int", "bool"):
        # the head is changed, so that doing this twice is the same as once
        return (f"{key[0]} of", key[1], frozenset(Counter(map(normal, _flat(key))).items()))
    return tuple(map(normal, key))


def _plain(what: Any) -> Any:
    """The same for all that is equal: a truth value, or a migratetype, is its number."""
    if isinstance(what, tuple):
        return tuple(map(_plain, what))
    return int(what) if isinstance(what, int) else what


def _flat(key: Any) -> list[Any]:
    found: list[Any] = []
    for part in key[2:]:
        found += _flat(part) if isinstance(part, tuple) and part[:1] == key[:1] else [part]
    return found


def _with_names(key: Any, names: Mapping[str, str]) -> Any:
    if isinstance(key, frozenset):
        return frozenset(_with_names(k, names) for k in key)
    if not isinstance(key, tuple) or isinstance(key, Cell):
        return key
    if len(key) == 3 and key[0] == "reg":
        return (*key[:2], names.get(key[2], key[2]))
    return tuple(_with_names(k, names) for k in key)


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def mixed(x: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele, Lea, Flood 2014) of each number."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
