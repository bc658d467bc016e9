"""Formulas that speak of many places, cut down to what they say of one: most of a lemma is about other steps.

A lemma about the holder's text is a conjunction of ``holder.at == u -> …``, one for each step ``u``, or a disjunction of
``holder.at == u and …``.  Sorting these once by ``u`` is what keeps the whole proof under a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import z3

from verify.prove.system import conj, disj
from verify.smt import Expr, Without

#: fewer alternatives than this are not worth sorting
FEW = 8
#: with fewer parts a formula is not worth a name
LARGE = 40


class Cases:
    """Formulas, sorted by the value of one integer variable."""

    def __init__(self, formulas: Mapping[str, Expr], variable: Expr, mentions: Mapping[str, set[str]]) -> None:
        """``mentions``: the names in each formula."""
        self.variable = variable
        name = variable.decl().name()
        self._plain = {n: f for n, f in formulas.items() if name not in mentions[n]}
        #: what does not speak of the variable is simplified once, and a name stands for it meanwhile
        self._named: list[tuple[Expr, Expr]] = []
        walk = Without(name)
        self._sorted = {
            n: _Sorted(self._with_names(f, walk), variable) for n, f in formulas.items() if name in mentions[n]
        }  # fmt: skip
        self._order = list(formulas)
        self._known: dict[int, dict[str, Expr]] = {}

    def at(self, value: Expr) -> Mapping[str, Expr]:
        """What is left of each formula where the variable has a value."""
        number = value.as_long()
        if number not in self._known:
            pair = (self.variable, value)
            found = self._plain | {
                n: z3.substitute(z3.simplify(z3.substitute(s.at(number), pair)), *self._named)
                for n, s in self._sorted.items()
            }  # fmt: skip
            self._known[number] = {n: found[n] for n in self._order}
        return self._known[number]

    def _with_names(self, formula: Expr, walk: Without) -> Expr:
        parts = walk.largest(formula, LARGE)
        if not parts:
            return formula
        names = [z3.Bool(f"part {len(self._named) + i} without {walk.name}") for i in range(len(parts))]
        self._named += [(n, z3.simplify(p)) for n, p in zip(names, parts, strict=True)]
        return z3.substitute(formula, *zip(parts, names, strict=True))


class _Sorted:
    def __init__(self, formula: Expr, variable: Expr) -> None:
        self.variable = variable
        #: conjuncts that hold unless the variable has a value; and all others
        self.of: dict[int, list[Expr]] = {}
        self.always: list[Expr] = []
        #: disjunctions of which few alternatives are left
        self.either: list[tuple[dict[int, list[Expr]], Expr]] = []
        for part in _flat(formula, z3.is_and):
            if z3.is_implies(part) and (value := self._value(part.arg(0))) is not None:
                self.of.setdefault(value, []).append(part)
            elif z3.is_or(part) and part.num_args() >= FEW:
                ways: dict[int, list[Expr]] = {}
                rest: list[Expr] = []
                for way in part.children():
                    value = self._value(way)
                    (rest if value is None else ways.setdefault(value, [])).append(way)
                self.either.append((ways, disj(rest)))
            else:
                self.always.append(part)
        self.common = conj(self.always)

    def at(self, value: int) -> Expr:
        either = [disj([rest, *ways.get(value, ())]) for ways, rest in self.either]
        return conj([self.common, *self.of.get(value, ()), *either])

    def _value(self, guard: Expr) -> int | None:
        """The value that the variable has wherever a guard is true, if it says so plainly."""
        for part in _flat(guard, z3.is_and):
            if z3.is_eq(part) and part.arg(0).eq(self.variable) and z3.is_int_value(part.arg(1)):
                return int(part.arg(1).as_long())
        return None


def _flat(formula: Expr, inside: object) -> Iterable[Expr]:
    assert callable(inside)
    if inside(formula):
        for part in formula.children():
            yield from _flat(part, inside)
    else:
        yield formula
