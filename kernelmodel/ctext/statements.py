"""C statements as the lines of a routine, each with the number of its line in the C file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.ctext.expressions import ACTS, PURE, READS, Code, Expressions

_ARITHMETIC = re.compile(
    r"^(const )?(unsigned |signed )?(int|long|long long|short|char|bool|gfp_t|fpi_t|size_t|u8|u16|u32|u64|s64|unsigned|_Bool)$"
)


_ZONE_LOCKS = ("spin_lock_irqsave", "spin_unlock_irqrestore", "spin_lock_irq", "spin_unlock_irq")


@dataclass
class Statements(Expressions):
    """The statements of one function.

    A function that only computes a value, from cells that it reads, has no branch in its routine: both ways are walked,
    and each store and each value is under its condition (``flat``).  That keeps graphs small where C has many returns.
    """

    lines: list[tuple[int, str, int]] = field(default_factory=list)
    flat: bool = False
    #: the condition of the branch that is walked
    way: str = "True"
    returned: bool = False
    #: what is done before a `continue` of each loop around, innermost last
    loops: list[list[tuple[str, Any]]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    hands_on: tuple[str, ...] = ()
    conditions: int = 0
    #: the depth of the function's own variables
    outermost: int = 1
    #: the label after which it is
    segment: int = 0
    has_loop: bool = False
    #: whether it is between a lock of zone->lock and the unlock
    zone_locked: bool = False
    #: local numbers that are any number from the second round of their loop on
    carried: set[str] = field(default_factory=set)

    def emit(self, depth: int, text: str, node: Any) -> None:
        """One line."""
        self.lines.append((depth, text, self.function.line + node.start_point[0]))

    def body(self) -> None:
        """The whole function."""
        node = self.function.node.child_by_field_name("body")
        if self.flat:
            self.eager = READS
            self.emit(1, "_live = True", node)
            self.emit(1, "_value = None", node)
            self._flat_block(node.named_children, 1, "True")
            self.emit(1, self._returning("_value"), node)
            return
        segments: list[tuple[str, list[Any]]] = [("", [])]
        for child in node.named_children:
            while child.type == "labeled_statement":
                segments.append((child.child_by_field_name("label").text.decode(), []))
                child = child.named_children[-1]
            segments[-1][1].append(child)
        if len(segments) == 1:
            self.block(segments[0][1], 1)
            self.emit(1, self._returning("None"), node)
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
        self.emit(1, self._returning("None"), node)

    def _returning(self, value: str) -> str:
        handed = "".join(f", {self.python(p)}" for p in self.hands_on)
        return f"return ({value}{handed})" if handed else f"return {value}"

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

    def _leave(self, outer: set[str]) -> None:
        """Variables of a block are gone after it."""
        for name in self.types.keys() - outer:
            del self.types[name]
            self.known.pop(name, None)
            self.unknown.discard(name)
            self.below.discard(name)

    def statement(self, node: Any, depth: int) -> None:
        """One statement."""
        handler = getattr(self, f"_on_{node.type}", None)
        if handler is None:
            raise self.no(node, f"a {node.type.replace('_', ' ')} has no meaning here")
        handler(node, depth)

    def _inside(self, node: Any) -> list[Any]:
        return list(node.named_children) if node.type == "compound_statement" else [node]

    def _on_comment(self, node: Any, depth: int) -> None:
        """Nothing."""

    def _on_compound_statement(self, node: Any, depth: int) -> None:
        outer = set(self.types)
        for child in node.named_children:
            self.statement(child, depth)
        self._leave(outer)

    def _on_declaration(self, node: Any, depth: int) -> None:
        words = node.text.decode()
        kind = node.child_by_field_name("type").text.decode()
        if words.startswith("static "):
            return
        for declarator in node.children_by_field_name("declarator"):
            value = declarator.child_by_field_name("value") if declarator.type == "init_declarator" else None
            inner, pointer = declarator, ""
            while inner.type != "identifier":
                if inner.type in ("array_declarator", "function_declarator"):
                    raise self.no(node, f"a local {inner.type.removesuffix('_declarator')} has no meaning here")
                pointer += "*" if inner.type == "pointer_declarator" else ""
                inner = inner.child_by_field_name("declarator") or inner.named_children[-1]
            name = inner.text.decode()
            if name in self.types:
                raise self.no(node, f"{name} hides another variable of that name: give it a name of its own")
            self.types[name] = kind + pointer
            if value is not None and value.type == "initializer_list":
                self._initialise(name, value, depth, node)
            elif value is not None:
                self._set(name, self.expression(value), depth, node, "True")
            elif kind.startswith("struct ") and not pointer:
                self.emit(depth, f"{self.python(name)} = _c.Struct()", node)
            else:
                self.emit(depth, f"{self.python(name)} = None", node)

    def _initialise(self, name: str, values: Any, depth: int, node: Any) -> None:
        """A local struct, with what its initialiser gives to fields by name."""
        made = "_c.Struct()"
        for pair in values.named_children:
            which = pair.child_by_field_name("designator")
            if pair.type != "initializer_pair" or which is None or which.type != "field_designator":
                raise self.no(node, "an initialiser of this kind has no meaning here")
            value = self.expression(pair.child_by_field_name("value"))
            made += f".having({which.named_children[0].text.decode()!r}, {value.text})"
        self.emit(depth, f"{self.python(name)} = {made}", node)

    def _set(self, name: str, code: Code, depth: int, node: Any, condition: str) -> None:
        self.note_value(node, name, code)
        if condition != "True" and not _ARITHMETIC.match(self.types[name]):
            raise self.no(
                node, f"{name}, which is no number, is set under a condition in a function that computes a value"
            )
        mine = self.python(name)
        if self.flat and condition != "True":
            # what a variable is after the function has returned is of no account
            condition = self.way
        if condition == "True" and code.number is not None:
            self.known[name] = code.number
        else:
            self.known.pop(name, None)
        if condition == "True":
            self.emit(depth, f"{mine} = {code.text}", node)
        else:
            self.emit(depth, f"{mine} = _c.choose({condition}, {code.text}, {mine})", node)

    def _on_expression_statement(self, node: Any, depth: int) -> None:
        if node.named_children:
            self._effect(node.named_children[0], depth, "True")

    def _effect(self, node: Any, depth: int, condition: str) -> None:
        while node.type == "parenthesized_expression":
            node = node.named_children[0]
        if node.type == "comma_expression":
            self._effect(node.child_by_field_name("left"), depth, condition)
            self._effect(node.child_by_field_name("right"), depth, condition)
        elif node.type == "assignment_expression":
            self._assign(node, depth, condition)
        elif node.type == "update_expression":
            argument, one = node.child_by_field_name("argument"), Code("1", number=1)
            operator = node.child_by_field_name("operator").text.decode()[0] + "="
            self._store(argument, operator, one, depth, node, condition)
        elif node.type == "call_expression":
            self._call(node, depth, condition)
        elif node.type == "cast_expression":
            self._effect(node.child_by_field_name("value"), depth, condition)
        elif self.expression(node).does == ACTS:
            raise self.no(node, "a statement of this kind has no meaning here")

    def _call(self, node: Any, depth: int, condition: str) -> None:
        name = node.child_by_field_name("function").text.decode()
        arguments = node.child_by_field_name("arguments").named_children
        if name == "WRITE_ONCE":
            self._store(arguments[0], "=", self.expression(arguments[1]), depth, node, condition, "write_once")
            return
        if name in self.words.silent and name not in self.words.calls:
            self.calls.note(name, "")
            written = self.silent(node, arguments) if name not in self.words.assumed else []
            for local in written:
                if not self.types[local].startswith("struct ") or self.types[local].endswith("*"):
                    self._set(local, Code(f"_c.Unknown({local!r})", unknown=True), depth, node, condition)
            return
        if name in _ZONE_LOCKS and name not in self.words.calls:
            self._zone_lock(node, name, arguments)
            return
        code = self.expression(node)
        if code.does == ACTS:
            if condition != "True":
                raise self.no(node, "a call under a condition, in a function that computes a value")
            self.emit(depth, code.text, node)

    def _zone_lock(self, node: Any, name: str, arguments: list[Any]) -> None:
        lock = self.expression(arguments[0])
        if lock.text != "'zone->lock'":
            raise self.no(node, f"{name}() of a lock that is not in the vocabulary")
        self.zone_locked = "unlock" not in name
        if not self.zone_locked:
            return
        # one operation is one step, as it is under the lock; of two, others would see the middle
        inside, sibling = 0, node.parent.next_named_sibling
        while sibling is not None and not sibling.text.decode().startswith("spin_unlock"):
            if sibling.type != "expression_statement":
                raise self.no(sibling, "more than one step under zone->lock, which the model does not have")
            inside += 1
            sibling = sibling.next_named_sibling
        if sibling is None or inside > 1:
            raise self.no(node, "more than one step under zone->lock, which the model does not have")

    def _assign(self, node: Any, depth: int, condition: str) -> None:
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        operator = node.child_by_field_name("operator").text.decode()
        if right.type == "assignment_expression":
            # x = y = z: y first, and what it then is to x
            self._assign(right, depth, condition)
            inner = right.child_by_field_name("left")
            place = self.cell(inner)
            if place is not None and place[2]:
                self._store(left, operator, Code(self.last), depth, node, condition)
                return
            if place is not None:
                # nobody remembers the field: the value once more, which must not take a step
                value = self.expression(right.child_by_field_name("right"))
                if value.does == ACTS or right.child_by_field_name("operator").text.decode() != "=":
                    raise self.no(node, "this assignment, by way of a field that is not modelled, has no meaning here")
                self._store(left, operator, value, depth, node, condition)
                return
            self._store(left, operator, self.expression(inner), depth, node, condition)
            return
        self._store(left, operator, self.expression(right), depth, node, condition)

    #: the variable that has what was stored last
    last: str = ""

    def _store(
        self, left: Any, operator: str, code: Code, depth: int, node: Any, condition: str, how: str = "write"
    ) -> None:  # fmt: skip
        if left.type == "identifier":
            name = left.text.decode()
            if name not in self.types:
                raise self.no(node, f"{name} is no local variable, and not in the vocabulary")
            if operator != "=":
                code = self._compound(node, self.expression(left), operator, code)
            self._set(name, code, depth, node, condition)
            return
        place = self.cell(left)
        if place is None:
            self._store_field(left, operator, code, depth, node)
            return
        address, entry, is_cell = place
        if entry.zone_locked and not self.zone_locked:
            raise self.no(node, "this is changed under zone->lock everywhere else, and is not here")
        if not is_cell:
            # nobody reads it but as a value that may be anything
            if code.does == ACTS:
                self.emit(depth, code.text, node)
            return
        if operator in ("+=", "-="):
            amount = code.text if operator == "+=" else f"_c.minus({code.text})"
            amount = amount if condition == "True" else f"_c.choose({condition}, {amount}, 0)"
            self.emit(depth, f"yield _ops.add({amount}, {address})", node)
            return
        if operator != "=":
            raise self.no(node, f"{operator} of shared memory has no meaning here")
        self.last = self.temporary()
        self.emit(depth, f"{self.last} = _c.number({code.text})", node)
        new = self.last if condition == "True" else f"_c.stored_if({condition}, {self.last}, _value_of({address}))"
        self.emit(depth, f"yield _ops.{how}({new}, {address})", node)

    def _store_field(self, left: Any, operator: str, code: Code, depth: int, node: Any) -> None:
        """A field of a local struct."""
        target = left.child_by_field_name("argument") if left.type == "field_expression" else None
        if (
            target is None
            or target.type != "identifier"
            or operator != "="
            or self.types.get(target.text.decode(), "*")[-1] == "*"
        ):
            raise self.no(node, "a store to a place that is not in the vocabulary")
        name = self.python(target.text.decode())
        self.emit(
            depth, f"{name} = {name}.having({left.child_by_field_name('field').text.decode()!r}, {code.text})", node
        )

    def _compound(self, node: Any, old: Code, operator: str, code: Code) -> Code:
        does, unknown = max(old.does, code.does), old.unknown or code.unknown
        if operator in ("+=", "-="):
            below = old.negative or code.negative or operator == "-="
            if unknown:
                sum_of = "plus" if operator == "+=" else "difference"
                return Code(f"_c.{sum_of}({old.text}, {code.text})", does, True, below=below)
            return Code(f"({old.text} {operator[0]} {code.text})", does, below=below)
        if operator == "<<=":
            return Code(f"_c.shifted_left({old.text}, {code.text})", does, unknown, below=old.negative)
        if operator == ">>=" and code.number is not None and not old.unknown and not old.negative:
            return Code(f"(yield from _c.shifted_right({old.text}, {code.text}, {self.text(node)}))", max(does, READS))
        raise self.no(node, f"{operator} has no meaning here")

    def _on_return_statement(self, node: Any, depth: int) -> None:
        value = self.expression(node.named_children[0]).text if node.named_children else "None"
        self.emit(depth, self._returning(value), node)

    def _on_if_statement(self, node: Any, depth: int) -> None:
        code = self.condition(node.child_by_field_name("condition"))
        then = self._inside(node.child_by_field_name("consequence"))
        alternative = node.child_by_field_name("alternative")
        other = self._inside(alternative.named_children[-1]) if alternative is not None else []
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
        for node in (n for top in nodes for n in _walk(top)):
            if node.type in ("assignment_expression", "update_expression", "init_declarator", "pointer_expression"):
                for name in _identifiers(node.named_children[0]):
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
            changed = {n.text.decode() for s in statements[:at] for n in _identifiers(s)}
            right = statements[at].named_children[0].child_by_field_name("right")
            used = {n.text.decode() for n in _identifiers(right)} - self.words.constants.keys()
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
        if e.child_by_field_name("operator").text.decode() != "=" or not _ARITHMETIC.match(self.types.get(name, "")):
            return False
        if right.type == "assignment_expression":
            return False
        code = self.expression(right)
        return code.does <= may and ":=" not in code.text and not code.unknown

    # --- loops ---

    def _jumps(self, node: Any) -> bool:
        return any(n.type == "goto_statement" for n in _walk(node))

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
        for node in _walk(body):
            if node.type != "assignment_expression" or node.child_by_field_name("left").type != "identifier":
                continue
            name, right = node.child_by_field_name("left").text.decode(), node.child_by_field_name("right")
            operator = node.child_by_field_name("operator").text.decode()
            grows = operator != "=" and right.type != "number_literal"
            grows = grows or any(n.text.decode() == name for n in _identifiers(right))
            if grows and _ARITHMETIC.match(self.types.get(name, "")) and not _set_first(body, name):
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
            parts = [p.text.decode() for p in _conjuncts(condition)]
            positive = any(re.fullmatch(rf"{name}\s*>\s*0", part) for part in parts)
            if positive or (name in parts and _stays_positive(body, name)):
                self.emit(depth + 1, f"{self.python(name)} = _c.at_least({self.python(name)}, 1)", node)
        self.loops.append([("forget", name) for name in sorted(carried)])
        self.block(self._inside(body), depth + 1)
        self.loops.pop()
        for name in sorted(carried):
            self.emit(depth + 1, f"{self.python(name)} = _c.forgotten({self.python(name)}, {name!r})", node)
        self._after_loop(node, depth)

    def _on_do_statement(self, node: Any, depth: int) -> None:
        condition = node.child_by_field_name("condition")
        self._forget(node)
        self.emit(depth, "while True:", node)
        self.loops.append([("unless", condition)])
        self.block(self._inside(node.child_by_field_name("body")), depth + 1)
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
        self.block(self._inside(body), depth + 1)
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
        self.block(self._inside(body), inner)
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

    # --- statements of a function that computes a value ---

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
        then = self._inside(node.child_by_field_name("consequence"))
        alternative = node.child_by_field_name("alternative")
        other = self._inside(alternative.named_children[-1]) if alternative is not None else []
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
    nodes = list(_walk(function.node.child_by_field_name("body")))
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


def _conjuncts(node: Any) -> list[Any]:
    """The parts of a condition that all hold where it holds."""
    while node.type == "parenthesized_expression":
        node = node.named_children[0]
    if node.type == "binary_expression" and node.child_by_field_name("operator").text == b"&&":
        return [*_conjuncts(node.child_by_field_name("left")), *_conjuncts(node.child_by_field_name("right"))]
    return [node]


def _stays_positive(body: Any, name: str) -> bool:
    """Whether a loop only takes from a number what is at most that number: it does not come below 0 then."""
    for node in _walk(body):
        if node.type == "assignment_expression" and node.child_by_field_name("left").text.decode() == name:
            taken = re.escape(node.child_by_field_name("right").text.decode())
            least = rf"\b{taken}\s*=\s*min(_t)?\([^;]*\b{name}\b"
            if node.child_by_field_name("operator").text.decode() != "-=" or not re.search(least, body.text.decode()):
                return False
    return True


def _set_first(body: Any, name: str) -> bool:
    """Whether the first statement of a block that mentions a variable sets it, whatever it was."""
    for statement in body.named_children:
        if not any(n.text.decode() == name for n in _identifiers(statement)):
            continue
        e = (
            statement.named_children[0]
            if statement.type == "expression_statement" and statement.named_children
            else None
        )
        if e is None or e.type != "assignment_expression" or e.child_by_field_name("operator").text.decode() != "=":
            return False
        left, right = e.child_by_field_name("left"), e.child_by_field_name("right")
        return left.text.decode() == name and not any(n.text.decode() == name for n in _identifiers(right))
    return False


def _walk(node: Any) -> Any:
    yield node
    for child in node.named_children:
        yield from _walk(child)


def _identifiers(node: Any) -> list[Any]:
    return [n for n in _walk(node) if n.type == "identifier"]
