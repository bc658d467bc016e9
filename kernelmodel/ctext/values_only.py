"""Functions that only compute a value: no branch, each store and each value under its condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernelmodel.ctext.expressions import ACTS, READS, Code
from kernelmodel.ctext.nodes import inside, walk
from kernelmodel.ctext.stores import Stores


@dataclass
class ValuesOnly(Stores):
    """Both ways of each branch are walked: that keeps graphs small where C has many returns."""

    returned: bool = False
    conditions: int = 0
    hands_on: tuple[str, ...] = ()

    def value_body(self, node: Any) -> None:
        """The whole function."""
        self.eager = READS
        self.emit(1, "_live = True", node)
        self.emit(1, "_value = None", node)
        self._flat_block(node.named_children, 1, "True")
        self.emit(1, self.returning("_value"), node)

    def returning(self, value: str) -> str:
        """The end of a function that hands on some of its parameters."""
        handed = "".join(f", {self.python(p)}" for p in self.hands_on)
        return f"return ({value}{handed})" if handed else f"return {value}"

    def _flat_block(self, statements: list[Any], depth: int, condition: str) -> None:
        outer = set(self.types)
        self._flat_statements(statements, depth, condition)
        self._leave(outer)

    def _flat_statements(self, statements: list[Any], depth: int, condition: str) -> None:
        for node in statements:
            now = condition if not self.returned else "_live" if condition == "True" else f"_c.both({condition}, _live)"
            self.way = condition
            if node.type == "comment":
                continue
            if node.type == "compound_statement":
                self._flat_block(node.named_children, depth, condition)
            elif node.type == "declaration":
                self._on_declaration(node, depth)
            elif node.type == "expression_statement":
                if node.named_children:
                    self._effect(node.named_children[0], depth, now)
            elif node.type == "return_statement":
                code = self.expression(node.named_children[0])
                self._set_value(code, depth, node, now)
            elif node.type == "if_statement":
                self._flat_if(node, depth, now)
            else:
                raise self.no(node, f"a {node.type.replace('_', ' ')} in a function that computes a value")

    def _set_value(self, code: Code, depth: int, node: Any, now: str) -> None:
        self.emit(depth, f"_value = {code.text if now == 'True' else f'_c.choose({now}, {code.text}, _value)'}", node)
        self.emit(depth, f"_live = {'False' if now == 'True' else f'_c.both(_live, _c.no({now}))'}", node)
        self.returned = True

    def _flat_if(self, node: Any, depth: int, now: str) -> None:
        code = self.condition(node.child_by_field_name("condition"))
        then = inside(node.child_by_field_name("consequence"))
        alternative = node.child_by_field_name("alternative")
        other = inside(alternative.named_children[-1]) if alternative is not None else []
        if code.number is not None:
            self._flat_block(then if code.number else other, depth, now if now != "_live" else "True")
            return
        self.conditions += 1
        before = len(self.lines)
        name = f"_if{self.conditions}"
        self.emit(depth, f"{name} = {code.text}", node)
        both = name if now == "True" else f"_c.both({now}, {name})"
        held = f"_if{self.conditions}a"
        self.emit(depth, f"{held} = {both}", node)
        mine = f"_if{self.conditions}b"
        without = f"_c.no({name})" if now == "True" else f"_c.both({now}, _c.no({name}))"
        if other:
            self.emit(depth, f"{mine} = {without}", node)
        done = len(self.lines)
        self._flat_block(then, depth, held)
        self._flat_block(other, depth, mine)
        if len(self.lines) == done and code.does < ACTS:
            del self.lines[before:]


def computes_a_value(function: Any, words: Any) -> bool:
    """Whether a function has branches but no loop, and does nothing but to read cells, to store to them and to return."""
    if function.returns.endswith("*") or function.returns == "void" or "struct" in function.returns:
        return False
    nodes = list(walk(function.node.child_by_field_name("body")))
    kinds = {n.type for n in nodes}
    if kinds & {
        "while_statement",
        "do_statement",
        "for_statement",
        "goto_statement",
        "switch_statement",
        "labeled_statement",
    }:
        return False
    if not kinds & {"if_statement", "conditional_expression"}:
        return False
    for node in nodes:
        if node.type != "call_expression":
            continue
        name = node.child_by_field_name("function").text.decode()
        arguments = node.child_by_field_name("arguments").named_children
        if name in ("READ_ONCE", "WRITE_ONCE", "IS_ENABLED") or (
            arguments and (name, arguments[0].text.decode()) in words.environment
        ):
            continue
        means = words.calls.get(name)
        if means is None or means.rebinds or (means.steps and not means.python.startswith("_c.")):
            return False
    return True
