"""Which values cells can take, as far as the operations' terms tell: what keeps one value is no column of a state."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kernelmodel.ops import Op
from kernelmodel.terms import FOLD, Cell, Term, atoms, visit

#: a set of values; None stands for "any"
Values = frozenset[int] | None
#: larger sets are "any"
MOST = 8
#: choices are tried up to this value
LARGEST_CHOICE = 16

_BOTH: Values = frozenset((False, True))


def possible(
    term: Term, cells: Callable[[Cell], Values], regs: Mapping[str, Values], choices: Mapping[str, Values]
) -> Values:
    """A superset of the values that ``term`` can take."""
    inputs = _inputs.get(term.number)
    if inputs is None:
        inputs = _inputs[term.number] = tuple(
            tuple(dict.fromkeys(a.args[0] for a in atoms(term, op))) for op in ("cell", "reg", "choice")
        )
    key = (
        term.number, *[cells(c) for c in inputs[0]], *[regs.get(r) for r in inputs[1]],
        *[choices.get(n, _ANY) for n in inputs[2]],
    )  # fmt: skip
    found = _known.get(key, _ANY)
    if found is _ANY:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = _possible(term, cells, regs, choices)
    return found  # type: ignore[return-value]


#: the models of a command are many, and most of what they ask for is the same
_known: dict[tuple[object, ...], object] = {}
_MOST_KNOWN = 100_000
#: by the number of a term the cells, registers and choices in it
_inputs: dict[int, tuple[tuple[Any, ...], ...]] = {}
#: of a choice of which nothing is known
_ANY = object()


def _possible(
    term: Term, cells: Callable[[Cell], Values], regs: Mapping[str, Values], choices: Mapping[str, Values]
) -> Values:
    def leaf(atom: Term) -> Values:
        named = atom.args[0]
        if atom.op == "const":
            return frozenset((named,))
        if atom.op == "cell":
            return cells(named)
        return regs.get(named) if atom.op == "reg" else choices.get(named, _BOTH if atom.sort == "bool" else None)

    return visit(term, leaf, _combined)


def _combined(term: Term, parts: list[Values]) -> Values:
    op = term.op
    if op in ("and", "or"):
        stop = op == "or"
        if any(p is not None and p and all(bool(x) == stop for x in p) for p in parts):
            return frozenset((stop,))
        if all(p is not None and all(bool(x) != stop for x in p) for p in parts):
            return frozenset((not stop,))
        return _BOTH
    if op == "not":
        inner = parts[0]
        return _BOTH if inner is None else frozenset(not x for x in inner)
    if op == "ite":
        condition = _BOTH if parts[0] is None else parts[0]
        branches = [parts[2 - int(x)] for x in sorted({bool(c) for c in condition or ()})]
        return _small(
            None if any(b is None for b in branches) else frozenset().union(*(b or frozenset() for b in branches))
        )
    a, b = parts
    if a is None or b is None:
        return _BOTH if op in ("==", "<", "<=") else None
    fold = FOLD[op]
    return _small(frozenset(fold(x, y) for x, y in itertools.product(a, b)))


def _small(values: Values) -> Values:
    return None if values is None or len(values) > MOST else values


def conjuncts(term: Term) -> Iterable[Term]:
    """The parts of a conjunction."""
    if term.op == "and":
        for a in term.args:
            yield from conjuncts(a)
    else:
        yield term


def choice_values(
    op: Op, cells: Callable[[Cell], Values], regs: Mapping[str, Values], largest: int, counted: bool = True
) -> dict[str, tuple[int, ...]]:
    """For each choice of ``op`` the values that its constraint leaves open when the other choices are any."""
    parts_of: dict[str, list[Term]] = {}
    for part in (*conjuncts(op.where), *(conjuncts(op.counted) if counted else ())):
        for name in {a.args[0] for a in atoms(part, "choice")}:
            parts_of.setdefault(name, []).append(part)
    found: dict[str, tuple[int, ...]] = {}
    for c in op.choices:
        name = c.args[0]
        parts = parts_of.get(name, [])
        tried: Sequence[int] = (False, True) if c.sort == "bool" else range(largest + 1)
        left = []
        for value in tried:
            fixed: Mapping[str, Values] = {name: frozenset((value,))}
            if all(possible(p, cells, regs, fixed) != frozenset((False,)) for p in parts):
                left.append(value)
        found[name] = tuple(left)
    return found


class ValueAnalysis:
    """A superset of each cell's values in every reachable state, by iteration over all operations."""

    def __init__(
        self,
        initial: Mapping[Cell, frozenset[int]],
        operations: Iterable[tuple[Op, Mapping[str, Values]]],
        largest: int,
    ) -> None:
        """``operations`` come with the values of the registers that they use, None where any."""
        self.values: dict[Cell, Values] = dict(initial)
        unique: dict[Any, tuple[Cell, Term, Op, Mapping[str, Values]]] = {}
        readers: dict[Cell, set[Any]] = {}
        for op, regs in operations:
            for cell, term in op.updates:
                if term.op == "cell" and term.args[0] == cell:
                    continue
                key = (cell, term.key, op.where.key, tuple(sorted(regs.items(), key=str)))
                if key not in unique:
                    unique[key] = (cell, term, op, regs)
                    for a in (*atoms(term, "cell"), *atoms(op.where, "cell")):
                        readers.setdefault(a.args[0], set()).add(key)
        constraint: dict[int, tuple[Cell, ...]] = {}
        picked: dict[Any, Mapping[str, Values]] = {}
        todo = dict.fromkeys(unique)
        while todo:
            key = next(iter(todo))
            del todo[key]
            cell, term, op, regs = unique[key]
            old = self.values.get(cell)
            if old is None:
                continue
            picks: Mapping[str, Values] = {}
            if any(True for _ in atoms(term, "choice")):
                # an operation has many updates, and its choices change with the cells of its constraint only
                if id(op) not in constraint:
                    constraint[id(op)] = tuple({a.args[0] for a in atoms(op.where, "cell")})
                now = (id(op), id(regs), tuple(map(self.values.get, constraint[id(op)])))
                if now not in picked:
                    left = choice_values(op, self.of, regs, largest, False)
                    picked[now] = {n: _small(frozenset(v)) for n, v in left.items()}
                picks = picked[now]
            new = possible(term, self.of, regs, picks)
            joined = None if new is None else _small(old | new)
            if joined != old:
                self.values[cell] = joined
                todo.update(dict.fromkeys(readers.get(cell, ())))

    def of(self, cell: Cell) -> Values:
        """The values that ``cell`` can take; None for any."""
        return self.values.get(cell)

    def constant(self, cell: Cell) -> int | None:
        """The one value that the cell has, if there is only one."""
        values = self.of(cell)
        return next(iter(values)) if values is not None and len(values) == 1 else None
