"""A model as lines of text that are the same in every process, and for no other model: what its digest is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from kernelmodel.graphs import digest
from kernelmodel.ops import Op
from kernelmodel.terms import LEAVES, Cell, Term
from properties.property import Check


class Said:
    """Lines in which terms have numbers: each is said once.  UnknownError for what cannot be told from something else."""

    def __init__(self, *head: str) -> None:
        """``head`` comes first, after straypage's own text."""
        self.lines = [digest.sources(), *head]
        self._numbers: dict[int, int] = {}
        self._does: dict[Any, str] = {}

    def digest(self) -> str:
        """A digest of what has been said so far."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def value(self, *values: Any) -> None:
        """Numbers, texts, and what is made of them."""
        self.lines += [repr(digest.said(v)) for v in values]

    def terms(self, terms: Iterable[Term]) -> None:
        """Some terms, in their order."""
        self.lines.append(repr([self._term(t) for t in terms]))

    def _term(self, term: Term) -> int:
        found = self._numbers.get(term.number)
        if found is None:
            if term.op in LEAVES:
                (what,) = term.args
                text = repr((tuple(what) if isinstance(what, Cell) else digest.said(what), term.sort))
            else:
                text = repr([self._term(a) for a in term.args])
            found = self._numbers[term.number] = len(self._numbers)
            self.lines.append(f"{found} {term.op} {term.sort} {text}")
        return found

    def op(self, op: Op) -> None:
        """An operation, but for what is said of it to people and what performs it on the concrete machine."""
        if op.does not in self._does:
            self._does[op.does] = digest.of_value(op.does)
        self.lines.append(f"{[str(op.kind), op.tag, bool(op.must), op.external]!r} {self._does[op.does]}")
        self.terms([op.guard, op.where, op.counted])
        for terms in (op.returns, op.counted_returns, op.choices, [t for _, t in op.updates]):
            self.terms(terms)
        self.lines.append(repr([tuple(c) for c, _ in op.updates]))

    def checks(self, checks: Iterable[tuple[int, Check]]) -> None:
        """Checks, each with a number of its own."""
        for number, check in checks:
            amount = [] if check.amount is None else [check.amount]
            self.terms([check.premise, check.violation, *amount])
            self.lines.append(f"{number} {check.cpu} {check.found!r}")

    def edges(self, edges: Iterable[tuple[tuple[Term, ...], int]]) -> None:
        """Ways to other places, each with its conditions."""
        for conditions, target in edges:
            self.terms(conditions)
            self.lines.append(f"to {target}")
