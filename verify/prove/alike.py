"""What tells operations of different places apart, so that of those that do the same one is enough.

A register that comes from before is open in the proof, but not wholly: it has the value that its operation gave (see
``System.carried``).  So two operations do the same only if the registers that they read are the same among themselves
and were given in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernelmodel.terms import Term, visit
from verify.prove.roles import Program, Step


class Alike:
    """Names for the registers of one or more operations, in the order in which they are met: equal names, equal roles."""

    def __init__(self, program: Program) -> None:
        """Nothing is named yet."""
        self._program = program
        self._names: dict[str, Any] = {}

    def defines(self, step: Step) -> None:
        """What ``step`` returns is known from here on by its place among what was met."""
        for name in step.returned:
            self._names[name] = ("reg", len(self._names))

    def __call__(self, terms: Iterable[Term]) -> tuple[Any, ...]:
        """The terms with their registers named, and what the registers that are met for the first time are."""
        met: list[str] = []
        shown = [self._named(t, met) for t in terms]
        said: list[Any] = []
        # what they are speaks of other registers, so the list grows meanwhile
        for name in met:
            step, term = self._program.defined_by.get(name, (None, None))
            if step is None or term is None:
                said.append(self._program.inputs.get(name, name))
            else:
                said.append((self._named(term, met), self._named(step.op.where, met)))
        return (tuple(shown), tuple(said))

    def _named(self, term: Term, met: list[str]) -> Any:
        return visit(term, lambda atom: self._leaf(atom, met), lambda t, parts: (t.op, t.sort, *parts))

    def _leaf(self, term: Term, met: list[str]) -> Any:
        if term.op == "reg" and term.args[0] != "me":
            name = str(term.args[0])
            if name not in self._names:
                self._names[name] = ("reg", len(self._names))
                met.append(name)
            return (*self._names[name], term.sort)
        return (term.op, term.sort, *term.args)
