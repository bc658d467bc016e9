"""C statements as the lines of a routine, each with the number of its line in the C file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.ctext.expressions import ACTS, PURE, READS, Code
from kernelmodel.ctext.nodes import conjuncts, identifiers, inside, walk
from kernelmodel.ctext.stores import ARITHMETIC
from kernelmodel.ctext.switches import why_not
from kernelmodel.ctext.values_only import ValuesOnly


@dataclass
class Statements(ValuesOnly):
    """The statements of one function, with its branches, loops and labels."""

    #: what is done before a `continue` of each loop around, innermost last
    loops: list[list[tuple[str, Any]]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    #: the depth of the function's own variables
    outermost: int = 1
    #: the label after which it is
    segment: int = 0
    has_loop: bool = False
    #: local numbers that are any number from the second round of their loop on
    carried: set[str] = field(default_factory=set)

    def body(self) -> None:
        """The whole function."""
        node = self.function.node.child_by_field_name("body")
        if self.flat:
            self.value_body(node)
            return
        segments: list[tuple[str, list[Any]]] = [("", [])]
        for child in node.named_children:
            while child.type == "labeled_statement":
                segments.append((child.child_by_field_name("label").text.decode(), []))
                child = child.named_children[-1]
            segments[-1][1].append(child)
        if len(segments) == 1:
            self.block(segments[0][1], 1)
            self.emit(1, self.returning("None"), node)
            return
        self.outermost = 3
        self.labels = {name: i for i, (name, _) in enumerate(segments) if name}
        self.emit(1, "goto = 0", node)
        self.emit(1, "while True:", node)
        for i, (_, statements) in enumerate(segments):
            first = statements[0] if statements else node
            self.known.clear()
            self.segment = i
            self.emit(2, f"if goto == {i}:", first)
            self.emit(3, "goto = -1", first)
            self.block(statements, 3)
            self.emit(3, f"goto = {i + 1}", first)
        self.emit(2, "break", node)
        self.emit(1, self.returning("None"), node)

    # --- statements with branches ---

    def block(self, statements: list[Any], depth: int) -> None:
        """Some statements."""
        before, outer = len(self.lines), set(self.types)
        for statement in statements:
            self.statement(statement, depth)
        if len(self.lines) == before and depth > 1:
            self.lines.append((depth, "pass", self.function.line))
        if depth > self.outermost:
            self._leave(outer)

    def statement(self, node: Any, depth: int) -> None:
        """One statement."""
        handler = getattr(self, f"_on_{node.type}", None)
        if handler is None:
            raise self.no(node, f"a {node.type.replace('_', ' ')} has no meaning here")
        handler(node, depth)

    def _on_comment(self, node: Any, depth: int) -> None:
        """Nothing."""

    def _on_compound_statement(self, node: Any, depth: int) -> None:
        outer = set(self.types)
        for child in node.named_children:
            self.statement(child, depth)
        self._leave(outer)

    def _on_expression_statement(self, node: Any, depth: int) -> None:
        if node.named_children:
            self._effect(node.named_children[0], depth, "True")

    def _on_return_statement(self, node: Any, depth: int) -> None:
        value = self.expression(node.named_children[0]).text if node.named_children else "None"
        self.emit(depth, self.returning(value), node)

    def _on_if_statement(self, node: Any, depth: int) -> None:
        code = self.condition(node.child_by_field_name("condition"))
        then = inside(node.child_by_field_name("consequence"))
        alternative = node.child_by_field_name("alternative")
        other = inside(alternative.named_children[-1]) if alternative is not None else []
        if code.number is not None:
            outer = set(self.types)
            for statement in then if code.number else other:
                self.statement(statement, depth)
            self._leave(outer)
            return
        first, assigned = self._split(then, bool(other)) if ":=" not in code.text else (then, [])
        if assigned and other:
            rest, elsewhere = self._split(other, True)
            if rest or first:
                first, assigned = then, []
        else:
            elsewhere = []
        condition = code.text
        if assigned:
            self.conditions += 1
            condition = f"_if{self.conditions}"
            self.emit(depth, f"{condition} = {code.text}", node)
        if first or not assigned:
            self._branches(node, condition, code, first, [] if assigned else other, depth)
        for statement in assigned:
            self._effect(statement.named_children[0], depth, condition)
        self._forget(*assigned, *elsewhere)
        for statement in elsewhere if assigned else []:
            self._effect(statement.named_children[0], depth, f"_c.no({condition})")

    def _forget(self, *nodes: Any) -> None:
        """What is set somewhere inside is not known any more."""
        for node in (n for top in nodes for n in walk(top)):
            if node.type in ("assignment_expression", "update_expression", "init_declarator", "pointer_expression"):
                for name in identifiers(node.named_children[0]):
                    self.known.pop(name.text.decode(), None)

    def _branches(self, node: Any, condition: str, code: Code, then: list[Any], other: list[Any], depth: int) -> None:
        before = len(self.lines)
        self.emit(depth, f"if {condition}:", node)
        known = dict(self.known)
        self.block(then, depth + 1)
        self.known = known
        empty = all(text == "pass" for _, text, _ in self.lines[before + 1 :])
        if other:
            at = len(self.lines)
            self.emit(depth, "else:", other[0])
            self.block(other, depth + 1)
            empty = empty and all(text == "pass" for _, text, _ in self.lines[at + 1 :])
        self._forget(*then, *other)
        if empty:
            del self.lines[before:]
            if code.does == ACTS:
                self.emit(depth, code.text, node)

    def _split(self, statements: list[Any], whole: bool) -> tuple[list[Any], list[Any]]:
        """Some statements, and those at the end that only set local numbers: these can be set under the condition instead.

        With ``whole`` it is all or none, and they may read: a value that is read in vain changes nothing.
        """
        at = len(statements)
        while at and self._sets_a_number(statements[at - 1], READS if whole else PURE):
            at -= 1
        while at < len(statements):
            # what the others change is not known where they were not come to
            changed = {n.text.decode() for s in statements[:at] for n in identifiers(s)}
            right = statements[at].named_children[0].child_by_field_name("right")
            used = {n.text.decode() for n in identifiers(right)} - self.words.constants.keys()
            if not used & changed:
                break
            at += 1
        if at and (whole or any(s.type == "declaration" for s in statements[:at])):
            return statements, []
        return statements[:at], statements[at:]

    def _sets_a_number(self, node: Any, may: int) -> bool:
        if node.type != "expression_statement" or not node.named_children:
            return False
        e = node.named_children[0]
        if e.type != "assignment_expression" or e.child_by_field_name("left").type != "identifier":
            return False
        name, right = e.child_by_field_name("left").text.decode(), e.child_by_field_name("right")
        if e.child_by_field_name("operator").text.decode() != "=" or not ARITHMETIC.match(self.types.get(name, "")):
            return False
        if right.type == "assignment_expression":
            return False
        code = self.expression(right)
        return code.does <= may and ":=" not in code.text and not code.unknown

    def _on_switch_statement(self, node: Any, _depth: int) -> None:
        raise self.no(node, f"a switch that {why_not(node)} has no meaning here")

    # --- loops ---

    def _jumps(self, node: Any) -> bool:
        return any(n.type == "goto_statement" for n in walk(node))

    def _after_loop(self, node: Any, depth: int) -> None:
        self._forget(node)
        if self.labels and self._jumps(node):
            self.emit(depth, "if goto >= 0:", node)
            self.emit(depth + 1, "break" if self.loops else "continue", node)

    def _carried(self, body: Any) -> set[str]:
        """Local numbers that each round of a loop makes from what they were in the one before.

        Engines follow a number that is read anew in each round.  Such a one is exact in the first round and any number
        from the second on, which allows all that the C does, and more.
        """
        found: set[str] = set()
        if self.words.concrete:
            return found
        for node in walk(body):
            if node.type != "assignment_expression" or node.child_by_field_name("left").type != "identifier":
                continue
            name, right = node.child_by_field_name("left").text.decode(), node.child_by_field_name("right")
            operator = node.child_by_field_name("operator").text.decode()
            grows = operator != "=" and right.type != "number_literal"
            grows = grows or any(n.text.decode() == name for n in identifiers(right))
            if grows and ARITHMETIC.match(self.types.get(name, "")) and not _set_first(body, name):
                found.add(name)
        self.carried |= found
        return found

    def _on_while_statement(self, node: Any, depth: int) -> None:
        self.has_loop = True
        self._forget(node)
        condition, body = node.child_by_field_name("condition"), node.child_by_field_name("body")
        carried = self._carried(body)
        self.unknown |= carried
        self.below |= carried
        code = self.condition(condition)
        self.emit(depth, f"while {code.text}:", node)
        for name in sorted(carried):
            parts = [p.text.decode() for p in conjuncts(condition)]
            positive = any(re.fullmatch(rf"{name}\s*>\s*0", part) for part in parts)
            if positive or (name in parts and _stays_positive(body, name)):
                self.emit(depth + 1, f"{self.python(name)} = _c.at_least({self.python(name)}, 1)", node)
        self.loops.append([("forget", name) for name in sorted(carried)])
        self.block(inside(body), depth + 1)
        self.loops.pop()
        for name in sorted(carried):
            self.emit(depth + 1, f"{self.python(name)} = _c.forgotten({self.python(name)}, {name!r})", node)
        self._after_loop(node, depth)

    def _on_do_statement(self, node: Any, depth: int) -> None:
        condition = node.child_by_field_name("condition")
        self._forget(node)
        self.emit(depth, "while True:", node)
        self.loops.append([("unless", condition)])
        self.block(inside(node.child_by_field_name("body")), depth + 1)
        self.loops.pop()
        self._forget(node)
        code = self.condition(condition)
        self.has_loop = self.has_loop or code.number is None
        if code.number is None:
            self.emit(depth + 1, f"if not {code.text}:", condition)
            self.emit(depth + 2, "break", condition)
        elif not code.number:
            self.emit(depth + 1, "break", condition)
        self._after_loop(node, depth)

    def _on_for_statement(self, node: Any, depth: int) -> None:
        first = node.child_by_field_name("initializer")
        body = node.child_by_field_name("body")
        self._forget(node)
        if first is not None and first.type == "call_expression":
            self._for_each(node, first, body, depth)
            return
        self.has_loop = True
        if first is not None and first.type == "declaration":
            self.statement(first, depth)
        elif first is not None:
            self._effect(first, depth, "True")
        self._forget(node)
        condition, update = node.child_by_field_name("condition"), node.child_by_field_name("update")
        test = self.condition(condition).text if condition is not None else "True"
        self.emit(depth, f"while {test}:", node)
        self.loops.append([("do", update)] if update is not None else [])
        self.block(inside(body), depth + 1)
        self.loops.pop()
        if update is not None:
            self._effect(update, depth + 1, "True")
        self._after_loop(node, depth)

    def _for_each(self, node: Any, call: Any, body: Any, depth: int) -> None:
        name = call.child_by_field_name("function").text.decode()
        loop = self.words.loops[name]
        arguments = call.child_by_field_name("arguments").named_children
        variable = arguments[0].text.decode()
        if variable not in self.types:
            raise self.no(node, f"{variable} is no local variable")
        codes = [self.python(variable), *(self.expression(a).text for a in arguments[1:])]
        self.emit(depth, loop.head.format(*codes), node)
        self.loops.append([])
        inner = depth + 1
        if loop.only_if:
            self.emit(inner, f"if {loop.only_if.format(*codes)}:", node)
            inner += 1
        self.block(inside(body), inner)
        self.loops.pop()
        self._after_loop(node, depth)

    def _on_break_statement(self, node: Any, depth: int) -> None:
        if not self.loops:
            raise self.no(node, "a break outside of a loop has no meaning here")
        self.emit(depth, "break", node)

    def _on_continue_statement(self, node: Any, depth: int) -> None:
        if not self.loops:
            raise self.no(node, "a continue outside of a loop")
        for what, of in self.loops[-1]:
            if what == "forget":
                self.emit(depth, f"{self.python(of)} = _c.forgotten({self.python(of)}, {of!r})", node)
            elif what == "do":
                self._effect(of, depth, "True")
            else:
                code = self.condition(of)
                self.emit(depth, f"if not {code.text}:", node)
                self.emit(depth + 1, "break", node)
        self.emit(depth, "continue", node)

    def _on_goto_statement(self, node: Any, depth: int) -> None:
        label = node.child_by_field_name("label").text.decode()
        if label not in self.labels:
            raise self.no(node, f"goto {label}, which is not at the outermost level of the function")
        self.has_loop = self.has_loop or self.labels[label] <= self.segment
        self.emit(depth, f"goto = {self.labels[label]}", node)
        self.emit(depth, "break" if self.loops else "continue", node)


def _stays_positive(body: Any, name: str) -> bool:
    """Whether a loop only takes from a number what is at most that number: it does not come below 0 then."""
    for node in walk(body):
        if node.type == "assignment_expression" and node.child_by_field_name("left").text.decode() == name:
            taken = re.escape(node.child_by_field_name("right").text.decode())
            least = rf"\b{taken}\s*=\s*min(_t)?\([^;]*\b{name}\b"
            if node.child_by_field_name("operator").text.decode() != "-=" or not re.search(least, body.text.decode()):
                return False
    return True


def _set_first(body: Any, name: str) -> bool:
    """Whether the first statement of a block that mentions a variable sets it, whatever it was."""
    for statement in body.named_children:
        if not any(n.text.decode() == name for n in identifiers(statement)):
            continue
        e = (
            statement.named_children[0]
            if statement.type == "expression_statement" and statement.named_children
            else None
        )
        if e is None or e.type != "assignment_expression" or e.child_by_field_name("operator").text.decode() != "=":
            return False
        left, right = e.child_by_field_name("left"), e.child_by_field_name("right")
        return left.text.decode() == name and not any(n.text.decode() == name for n in identifiers(right))
    return False
