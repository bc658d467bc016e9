"""Declarations and what changes something: local variables, cells, calls that take steps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from kernelmodel.ctext.calls import CallExpressions
from kernelmodel.ctext.expressions import ACTS, READS, Code

ARITHMETIC = re.compile(
    r"^(const )?(unsigned |signed )?(int|long|long long|short|char|bool|gfp_t|fpi_t|size_t|u8|u16|u32|u64|s64|unsigned|_Bool)$"
)
_ZONE_LOCKS = ("spin_lock_irqsave", "spin_unlock_irqrestore", "spin_lock_irq", "spin_unlock_irq")


@dataclass
class Stores(CallExpressions):
    """The lines of one function, and the statements without a branch that they are made of."""

    lines: list[tuple[int, str, int]] = field(default_factory=list)
    flat: bool = False
    #: the condition of the branch that is walked
    way: str = "True"
    #: whether it is between a lock of zone->lock and the unlock
    zone_locked: bool = False
    #: the variable that has what was stored last
    last: str = ""

    def emit(self, depth: int, text: str, node: Any) -> None:
        """One line."""
        self.lines.append((depth, text, self.function.line + node.start_point[0]))

    def _leave(self, outer: set[str]) -> None:
        """Variables of a block are gone after it."""
        for name in self.types.keys() - outer:
            del self.types[name]
            self.known.pop(name, None)
            self.unknown.discard(name)
            self.below.discard(name)

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
        if condition != "True" and not ARITHMETIC.match(self.types[name]):
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
        if name in self.words.declares:
            kind, first = self.words.declares[name]
            self.types[arguments[0].text.decode()] = kind
            self.emit(depth, f"{self.python(arguments[0].text.decode())} = {first}", node)
            return
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
        if entry.stored:
            code = Code(entry.stored.format(code.text), code.does)
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
