"""Terms: the small expressions that guards, updates and returned values are made of.

A term is built from constants, cells (shared memory), registers (what an earlier operation of the same task returned)
and choices (what an operation is free to pick), with ``+ - *``, comparisons, and/or/not and if-then-else.  Each engine
is a back end: this module evaluates over Python ints, verify/smt.py translates to Z3.  A test holds them equal.

``bool(term)`` asks the installed *decider* (see :func:`deciding`), which lets one run of a routine follow one branch.
While a decider is installed, a routine runs with terms where it would have numbers: whatever would give another answer
for a term than for the number that it stands for (a look-up in a set or dict, its text) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any, Literal, NamedTuple, TypeVar, Union

Sort = Literal["int", "bool"]


class Cell(NamedTuple):
    """The address of one shared variable: a name such as ``pcp.high`` and its indices, ``(zone, cpu)``."""

    name: str
    index: tuple[int | str, ...] = ()  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.name}[{','.join(map(str, self.index))}]" if self.index else self.name


#: what a visitor makes of a term
R = TypeVar("R")
#: the heads without terms below them
LEAVES = frozenset({"const", "cell", "reg", "choice", "pick"})

_INTERNED: dict[tuple[Any, ...], Term] = {}


class Term:
    """An immutable expression of sort int or bool; compare with :attr:`key`, for ``==`` builds a term.

    Terms are interned: of one head over the same arguments there is one in a process, and what is found out about it
    (its atoms, its size) is found out once.
    """

    __slots__ = ("_atoms", "_size", "args", "key", "number", "op", "sort")

    op: str
    args: tuple[Any, ...]
    sort: Sort
    key: tuple[Any, ...]
    #: which of the terms of this process it is
    number: int
    _atoms: dict[str, tuple[Term, ...]] | None
    _size: int

    def __new__(cls, op: str, args: tuple[Any, ...], sort: Sort) -> Term:
        """The one term of this head over these arguments."""
        # numbers of terms are apart from all that stands in a leaf: no head has both
        known = (op, sort, *[a.number if a.__class__ is Term else a for a in args])
        term = _INTERNED.get(known)
        if term is None:
            term = _INTERNED[known] = object.__new__(cls)
            term.number = len(_INTERNED)
            term.op, term.args, term.sort = op, args, sort
            term.key = (op, sort, *[a.key if a.__class__ is Term else a for a in args])
            term._atoms = None
            term._size = 0
        return term

    def __reduce__(self) -> Any:
        """Interned again where it arrives."""
        return Term, (self.op, self.args, self.sort)

    def __hash__(self) -> int:
        if _decider is not None:
            raise TypeError("a value that an operation returned is looked up in a set or dict: compare it with ==")
        return hash(self.key)

    def __repr__(self) -> str:
        if _decider is not None:
            raise TypeError("a value that an operation returned is made into text: give it to Op.shown")
        return show(self)

    def __bool__(self) -> bool:
        if self.op == "const":
            return bool(self.args[0])
        if _decider is None:
            raise TypeError(f"the truth of {self!r} is open here: only an engine that follows both branches may ask")
        return _decider(_truth(self))

    def __add__(self, other: IntTerm) -> Term:
        return _apply("+", "int", self, other)

    def __radd__(self, other: IntTerm) -> Term:
        return _apply("+", "int", other, self)

    def __sub__(self, other: IntTerm) -> Term:
        return _apply("-", "int", self, other)

    def __rsub__(self, other: IntTerm) -> Term:
        return _apply("-", "int", other, self)

    def __mul__(self, other: IntTerm) -> Term:
        return _apply("*", "int", self, other)

    def __rmul__(self, other: IntTerm) -> Term:
        return _apply("*", "int", other, self)

    def __eq__(self, other: Any) -> Term:  # type: ignore[override]
        return _apply("==", "bool", self, other)

    def __ne__(self, other: Any) -> Term:  # type: ignore[override]
        return lnot(_apply("==", "bool", self, other))

    def __lt__(self, other: IntTerm) -> Term:
        return _apply("<", "bool", self, other)

    def __le__(self, other: IntTerm) -> Term:
        return _apply("<=", "bool", self, other)

    def __gt__(self, other: IntTerm) -> Term:
        return _apply("<", "bool", other, self)

    def __ge__(self, other: IntTerm) -> Term:
        return _apply("<=", "bool", other, self)


IntTerm = Union[int, Term]  # noqa: UP007 - evaluated at run time, where int | Term would do as well; kept for the docs
BoolTerm = Union[bool, Term]  # noqa: UP007

_decider: Callable[[Term], bool] | None = None


@contextmanager
def deciding(decider: Callable[[Term], bool]) -> Iterator[None]:
    """Install ``decider`` as the answer to ``bool(term)`` for the duration of the block."""
    global _decider
    before = _decider
    _decider = decider
    try:
        yield
    finally:
        _decider = before


#: the binary operators, over Python ints
FOLD: Mapping[str, Callable[..., int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "min": min,
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def const(value: int | bool) -> Term:
    """The constant ``value``; TypeError for what is no number."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number: operations work on whole numbers and truth values")
    if type(value) is int and 0 <= value < len(_SMALL):
        return _SMALL[value]
    return Term("const", (value,), "bool" if isinstance(value, bool) else "int")


def constant(value: int, sort: Sort) -> Term:
    """The constant of a sort, whose value may be a number where the sort is bool."""
    return const(bool(value) if sort == "bool" else value)


#: most constants are one of these, and terms are immutable
_SMALL = tuple(Term("const", (n,), "int") for n in range(16))


TRUE = const(True)
FALSE = const(False)


def lift(value: IntTerm | BoolTerm) -> Term:
    """``value`` itself if it is a term, else the constant."""
    return value if isinstance(value, Term) else const(value)


def load(cell: Cell, sort: Sort = "int") -> Term:
    """The value of ``cell`` just before the operation."""
    return Term("cell", (cell,), sort)


def reg(name: str, sort: Sort = "int") -> Term:
    """A register: a value that an earlier operation of the same task returned."""
    return Term("reg", (name,), sort)


def choice(name: str, sort: Sort = "int") -> Term:
    """A value that the operation is free to pick within its constraint."""
    return Term("choice", (name,), sort)


#: the number of the task that performs the operation (1, 2, …)
ME = reg("me")


def _apply(op: str, sort: Sort, a: IntTerm, b: IntTerm) -> Term:
    x, y = lift(a), lift(b)
    if x.sort != y.sort or (x.sort == "bool" and op != "=="):
        x, y = _number(x), _number(y)
    if x.op == "const" and y.op == "const":
        value = FOLD[op](x.args[0], y.args[0])
        return const(bool(value) if sort == "bool" else int(value))
    if op in "+-" and y.op == "const" and y.args[0] == 0:
        return x
    if op == "+" and x.op == "const" and x.args[0] == 0:
        return y
    return Term(op, (x, y), sort)


def _number(term: Term) -> Term:
    """A truth value as 0 or 1, as in C and Python."""
    if term.sort == "int":
        return term
    return const(int(term.args[0])) if term.op == "const" else Term("ite", (term, const(1), const(0)), "int")


def minimum(a: IntTerm, b: IntTerm) -> Any:
    """min(a, b): an int for ints, else a term."""
    if isinstance(a, Term) or isinstance(b, Term):
        return _apply("min", "int", a, b)
    return min(a, b)


def maximum(a: IntTerm, b: IntTerm) -> Any:
    """max(a, b): an int for ints, else a term."""
    if isinstance(a, Term) or isinstance(b, Term):
        return ite(lift(a) < b, b, a)
    return max(a, b)


def _truth(term: Term) -> Term:
    """A number as a truth value: whether it is not 0, as in C and Python."""
    return term if term.sort == "bool" else lnot(_apply("==", "bool", term, 0))


def lnot(a: BoolTerm) -> Term:
    """Negation."""
    x = _truth(lift(a))
    if x.op == "const":
        return const(not x.args[0])
    return x.args[0] if x.op == "not" else Term("not", (x,), "bool")


def _junction(op: str, unit: bool, parts: Iterable[BoolTerm]) -> Term:
    kept: list[Term] = []
    for part in map(_truth, map(lift, parts)):
        if part.op == "const":
            if bool(part.args[0]) != unit:
                return const(not unit)
        else:
            kept.append(part)
    if not kept:
        return const(unit)
    return kept[0] if len(kept) == 1 else Term(op, tuple(kept), "bool")


def land(*parts: BoolTerm) -> Term:
    """Conjunction; true when empty."""
    return _junction("and", True, parts)


def lor(*parts: BoolTerm) -> Term:
    """Disjunction; false when empty."""
    return _junction("or", False, parts)


def implies(a: BoolTerm, b: BoolTerm) -> Term:
    """Implication."""
    return lor(lnot(a), b)


def ite(condition: BoolTerm, then: IntTerm | BoolTerm, other: IntTerm | BoolTerm) -> Term:
    """If-then-else."""
    c, x, y = _truth(lift(condition)), lift(then), lift(other)
    if x.sort != y.sort:
        x, y = _number(x), _number(y)
    if c.op == "const":
        return x if c.args[0] else y
    return x if x.key == y.key else Term("ite", (c, x, y), x.sort)


def select(condition: BoolTerm, then: IntTerm, other: IntTerm) -> Any:
    """C's ``condition ? then : other``: a plain value where nothing is open, else a term."""
    term = ite(condition, then, other)
    return term.args[0] if term.op == "const" else term


def total(parts: Iterable[IntTerm]) -> Term:
    """The sum of ``parts``; 0 when empty."""
    result: Term = const(0)
    for part in parts:
        result = result + part
    return result


def evaluate(
    term: Term, cells: Callable[[Cell], int], regs: Mapping[str, int], choices: Mapping[str, int] | None = None
) -> int:
    """The value of ``term`` over Python ints: ``cells`` reads shared memory, ``regs`` and ``choices`` the rest."""
    op, args = term.op, term.args
    if op == "const":
        return args[0]  # type: ignore[no-any-return]
    if op == "cell":
        return cells(args[0])
    if op == "reg":
        return regs[args[0]]
    if op == "choice":
        return (choices or {})[args[0]]
    if op == "not":
        return not evaluate(args[0], cells, regs, choices)
    if op == "and":
        for a in args:  # noqa: SIM110 - generators would take half of this function's time
            if not evaluate(a, cells, regs, choices):
                return False
        return True
    if op == "or":
        for a in args:  # noqa: SIM110
            if evaluate(a, cells, regs, choices):
                return True
        return False
    if op == "ite":
        return evaluate(args[1] if evaluate(args[0], cells, regs, choices) else args[2], cells, regs, choices)
    return FOLD[op](evaluate(args[0], cells, regs, choices), evaluate(args[1], cells, regs, choices))


def size(term: Term) -> int:
    """How large a term is when it is written out: what it shares with itself counts as often as it is there."""
    if not term._size:
        term._size = 1 if term.op in LEAVES else 1 + sum(map(size, term.args))
    return term._size


def atoms(term: Term, op: str) -> tuple[Term, ...]:
    """The sub-terms of ``term`` with the given head (``cell``, ``reg`` or ``choice``), with repetitions."""
    known = term._atoms
    if known is None:
        known = term._atoms = {}
    found = known.get(op)
    if found is None:
        inner = () if term.op in LEAVES else (x for a in term.args for x in atoms(a, op))
        found = known[op] = (term,) if term.op == op else tuple(inner)
    return found


def visit(term: Term, leaf: Callable[[Term], R], inner: Callable[[Term, list[R]], R]) -> R:
    """What a back end makes of ``term``, from the leaves upwards, each sub-term once however often it stands there.

    ``leaf(term)`` says what it makes of a constant, cell, register or choice (:data:`LEAVES`), ``inner(term, parts)`` of any
    other head from what it made of the arguments.
    """
    made: dict[int, R] = {}

    def at(t: Term) -> R:
        if t.op in LEAVES:
            return leaf(t)
        if t.number not in made:
            made[t.number] = inner(t, list(map(at, t.args)))
        return made[t.number]

    return at(term)


def replaced(term: Term, leaf: Callable[[Term], Term]) -> Term:
    """``term`` with each leaf replaced by what ``leaf`` gives for it, constants folded again."""
    return visit(term, leaf, lambda t, parts: t if all(map(is_, parts, t.args)) else rebuild(t, parts))


def substitute(term: Term, regs: Mapping[str, Term]) -> Term:
    """``term`` with registers replaced, constants folded again."""
    if not any(a.args[0] in regs for a in atoms(term, "reg")):
        return term
    return replaced(term, lambda t: regs.get(t.args[0], t) if t.op == "reg" else t)


def substitute_cells(term: Term, cells: Mapping[Cell, Term]) -> Term:
    """``term`` with the given cells replaced, constants folded again."""
    if not any(a.args[0] in cells for a in atoms(term, "cell")):
        return term
    return replaced(term, lambda t: cells.get(t.args[0], t) if t.op == "cell" else t)


@dataclass(frozen=True, slots=True)
class Notation:
    """How a language writes the heads that languages write differently; called as what :func:`visit` makes of a head."""

    negation: str = "!({0})"
    conjunction: str = " && "
    disjunction: str = " || "
    conditional: str = "({0} ? {1} : {2})"
    least: str = "min({0}, {1})"

    def __call__(self, term: Term, parts: list[str]) -> str:
        """The text of a term whose arguments have these texts."""
        if term.op in ("and", "or"):
            return "(" + (self.conjunction if term.op == "and" else self.disjunction).join(parts) + ")"
        pattern = {"not": self.negation, "ite": self.conditional, "min": self.least}.get(term.op)
        return f"({parts[0]} {term.op} {parts[1]})" if pattern is None else pattern.format(*parts)


_C = Notation()


def show(term: Term) -> str:
    """``term`` as one line of infix text."""
    return visit(term, lambda t: str(t.args[0]), _C)


def rebuild(term: Term, args: list[Term]) -> Term:
    """A compound term with the same head over other arguments, constants folded again."""
    if term.op == "not":
        return lnot(args[0])
    if term.op in ("and", "or"):
        return _junction(term.op, term.op == "and", args)
    if term.op == "ite":
        return ite(args[0], args[1], args[2])
    return _apply(term.op, term.sort, args[0], args[1])
