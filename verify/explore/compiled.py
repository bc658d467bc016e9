"""Operations as Python functions over a list of values: the terms of the kernel's text, printed as source and compiled.

A function takes the values ``v`` (one for each column, then the counts that are computed) and a list ``out``, to which
it appends what may follow: (values, location, bits of violated step properties, bits of premises reached, choices).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernelmodel.graphs.folded_graph import RETURNED, FoldedNode
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Notation, Term, visit
from verify.explore.model import Model, TaskModel, returns_of
from verify.explore.values import choice_values

#: bit of a step that is an error of the task itself (a lock released that it does not hold)
MUST = 1 << 30

Outcome = tuple[list[int], int, int, int, tuple[int, ...]]
Function = Callable[[list[int], list[Outcome]], None]

_NONE: Mapping[Cell, int] = {}
_PYTHON = Notation("(not {0})", " and ", " or ", "({1} if {0} else {2})")


class Compiler:
    """Prints the terms of one model as Python source."""

    def __init__(self, model: Model, exact: bool) -> None:
        """``exact``: a task also needs a CPU that has interrupts on, as on the real machine."""
        self.model, self.exact = model, exact
        self._functions: dict[Any, Callable[[list[int]], int]] = {}

    def source(
        self, term: Term, task: TaskModel | None, own: Mapping[str, str], cells: Mapping[Cell, int] = _NONE
    ) -> str:
        """``term`` as an expression.

        ``own`` are names of registers and choices that are local variables; ``cells`` are known values.
        """

        def leaf(atom: Term) -> str:
            named = atom.args[0]
            if atom.op == "const":
                return repr(int(named))
            if atom.op == "cell":
                return self._cell(named) if named not in cells else repr(int(cells[named]))
            if atom.op == "choice" or (named in own and named != "me"):
                return own[named]
            assert task is not None
            return str(task.number) if named == "me" else f"v[{task.slots[named]}]"

        return visit(term, leaf, _PYTHON)

    def _cell(self, cell: Cell) -> str:
        constant = self.model.analysis.constant(cell)
        return f"v[{self.model.address[cell]}]" if constant is None else repr(int(constant))

    def predicate(self, term: Term) -> Callable[[list[int]], int]:
        """A closed term as a function of the values."""
        if term.key not in self._functions:
            namespace: dict[str, Any] = {}
            exec(f"def f(v): return {self.source(term, None, {})}", namespace)
            self._functions[term.key] = namespace["f"]
        return self._functions[term.key]

    def functions(self, task: TaskModel, nodes: list[FoldedNode]) -> list[Function]:
        """The operations of a location."""
        lines: list[str] = []
        for i, node in enumerate(nodes):
            lines += [f"def f{i}(v, out):", *self._body(task, node)]
        namespace: dict[str, Any] = {"MUST": MUST}
        exec("\n".join(lines), namespace)
        return [namespace[f"f{i}"] for i in range(len(nodes))]

    def _body(self, task: TaskModel, node: FoldedNode) -> list[str]:
        op = node.op
        guard = self.source(self.model.guard(task, node, self.exact), task, {})
        here = next(i for i, nodes in enumerate(task.graph.locations) if node.number in nodes)
        lines = []
        if op.must:
            lines.append(
                f"    if not {self.source(op.guard, task, {})}: out.append((v[:], {here}, MUST, 0, ())); return"
            )
        if guard != "1":
            lines.append(f"    if not {guard}: return")
        own: dict[str, str] = {}
        indent = "    "
        lines_of_choices, indent = self._choices(op, own, indent, task)
        lines += lines_of_choices
        picks = "(" + "".join(f"{own[c.args[0]]}, " for c in op.choices) + ")"
        for i, t in enumerate(returns_of(op)):
            lines.append(f"{indent}r{i} = int({self.source(t, task, own)})")
        lines += self._checks(op, task, own, indent)
        lines.append(f"{indent}w = v[:]")
        for cell, term in op.updates:
            if cell in self.model.address:
                lines.append(f"{indent}w[{self.model.address[cell]}] = int({self.source(term, task, own)})")
        after = own | {f"{node.number}.{i}": f"r{i}" for i in range(len(op.returns))}
        for conditions, target in node.edges:
            lines += self._edge(task, conditions, target, after, indent, picks, len(node.edges) > 1)
        return lines

    def _choices(self, op: Op, own: dict[str, str], indent: str, task: TaskModel) -> tuple[list[str], str]:
        lines = []
        values = choice_values(op, self.model.analysis.of, {}, self.model.finite.pages)
        if op.does.computes_limits:
            own |= {c.args[0]: f"k{i}" for i, c in enumerate(op.choices)}
            names = ", ".join(f"k{i}" for i in range(len(op.choices)))
            lines.append(f"{indent}for {names} in {self.model.finite.limits_for(op.does.computes_limits)!r}:")
            indent += "    "
        else:
            for i, c in enumerate(op.choices):
                own[c.args[0]] = f"k{i}"
                lines.append(f"{indent}for k{i} in {tuple(int(x) for x in values[c.args[0]])!r}:")
                indent += "    "
            if op.choices:
                where = " and ".join(self.source(t, task, own) for t in (op.where, op.counted))
                lines.append(f"{indent}if not ({where}): continue")
        return lines, indent

    def _checks(self, op: Op, task: TaskModel, own: Mapping[str, str], indent: str) -> list[str]:
        violated, reached = ["0"], ["0"]
        for i, check in self.model.step_checks(op):
            place = self.model.premise(i, check.cpu)
            for bits, bit, term in ((violated, i, check.violation), (reached, place, check.premise)):
                text = self.source(term, task, own)
                if text != "0":
                    bits.append(f"({1 << bit} if {text} else 0)")
        return [f"{indent}bad = {' | '.join(violated)}", f"{indent}seen = {' | '.join(reached)}"]

    def _edge(
        self, task: TaskModel, conditions: tuple[Term, ...], target: int, own: Mapping[str, str],
        indent: str, picks: str, several: bool,
    ) -> list[str]:  # fmt: skip
        lines = []
        if conditions:
            text = " and ".join(self.source(c, task, own) for c in conditions)
            lines.append(f"{indent}if {text}:")
            indent += "    "
        live = task.live[target] if target != RETURNED else frozenset()
        kept = {task.slots[r]: r for r in live if r in task.slots}
        name = "x" if several else "w"
        if several:
            lines.append(f"{indent}x = w[:]")
        for slot in sorted(set(task.slots.values())):
            register = kept.get(slot)
            if register is None:
                lines.append(f"{indent}{name}[{slot}] = 0")
            elif register in own:
                lines.append(f"{indent}{name}[{slot}] = {own[register]}")
        lines.append(f"{indent}{name}[{task.location}] = {target}")
        lines.append(f"{indent}out.append(({name}, {target}, bad, seen, {picks}))")
        return lines
