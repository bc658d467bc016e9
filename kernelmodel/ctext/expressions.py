"""C expressions as Python over the values of :mod:`kernelmodel.vocabulary.values`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any, Protocol

from kernelmodel.ctext.functions import Function, is_type
from kernelmodel.errors import ModelError
from kernelmodel.vocabulary.words import Vocabulary

#: what an expression does: nothing; reads shared memory or asks the environment; anything else
PURE, READS, ACTS = 0, 1, 2
UNSIGNED = re.compile(r"\bunsigned\b|\bu(8|16|32|64)\b|\bsize_t\b")
_ADD = "add it to kernelmodel/vocabulary"
_FOLD: dict[str, Callable[[int, int], int]] = {
    "+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": lambda a, b: int(a / b), "%": lambda a, b: a - b * int(a / b),
    "<<": int.__lshift__, ">>": int.__rshift__, "&": int.__and__, "|": int.__or__, "^": int.__xor__, "==": int.__eq__,
    "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__,
}  # fmt: skip
_COMPARE = ("<", ">", "<=", ">=")


class UnreadableError(ModelError):
    """A place in the C that the vocabulary does not cover."""


@dataclass(frozen=True, slots=True)
class Code:
    """Python for a C expression; ``number`` where it is known now, ``struct`` what it points to."""

    text: str
    does: int = PURE
    unknown: bool = False
    number: int | None = None
    struct: str = ""
    #: it may be less than 0, as far as that is known without its number
    below: bool = False

    @property
    def negative(self) -> bool:
        """Whether it may be less than 0, which C's unsigned numbers cannot be."""
        return self.below if self.number is None else self.number < 0


@dataclass(frozen=True, slots=True)
class Callee:
    """How a C function that is translated as well is called.

    ``rebinds`` are the arguments that have another value afterwards, ``takes`` those that the method is given (None: all),
    ``unsigned`` those that must not be below 0.  ``below``: what it returns may be.
    """

    method: str
    rebinds: tuple[int, ...] = ()
    takes: tuple[int, ...] | None = None
    unsigned: tuple[int, ...] = ()
    below: bool = False


class Calls(Protocol):
    """What is known of the C functions around the one that is translated."""

    def parameters(self, name: str, file: str) -> tuple[str, ...] | None:
        """The names of a C function's parameters, or None where there is no such function."""

    def note(self, name: str, file: str) -> None:
        """Somebody calls a function or macro that has a meaning of its own."""

    def routine(self, name: str, file: str, numbers: tuple[int | None, ...]) -> Callee | None:
        """How a function is called; None where it is not translated.  ``numbers`` are the arguments that are known now."""


@dataclass
class Expressions:
    """The expressions of one function."""

    function: Function
    words: Vocabulary
    calls: Calls
    symbols: frozenset[str]
    constants: dict[str, int] = field(default_factory=dict)
    #: local variables and parameters: the struct that each points to, or its C type
    types: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    #: local variables that may be less than 0
    below: set[str] = field(default_factory=set)
    #: local variables whose value is known here
    known: dict[str, int] = field(default_factory=dict)
    #: what the right side of && and || may do to be evaluated whatever the left one is
    eager: int = PURE
    temporaries: int = 0

    # --- errors ---

    def no(self, node: Any, why: str, cure: str = "") -> UnreadableError:
        """The error for a place in the C."""
        f = self.function
        text = " ".join(node.text.decode().split())[:70]
        where = f"{f.file}:{f.line + node.start_point[0]}: {f.name}()"
        return UnreadableError(f"{where}: {why}: `{text}`{'; ' + cure if cure else ''}")

    # --- expressions ---

    def expression(self, node: Any) -> Code:
        """Any expression."""
        handler = getattr(self, f"_{node.type}", None)
        if handler is None:
            raise self.no(node, f"a {node.type.replace('_', ' ')} has no meaning here")
        code: Code = handler(node)
        return code

    def condition(self, node: Any) -> Code:
        """An expression as a truth value."""
        code = self.expression(node)
        if code.number is not None:
            return Code(str(bool(code.number)), number=int(bool(code.number)))
        if code.unknown:
            return Code(f"(yield from _c.decided({code.text}, {self.text(node)}))", max(code.does, READS))
        return Code(f"_c.truth({code.text})", code.does)

    def text(self, node: Any) -> str:
        """A place in the C as a Python string."""
        while node.type == "parenthesized_expression":
            node = node.named_children[0]
        return repr(" ".join(node.text.decode().split()).replace("{", "{{").replace("}", "}}"))

    def temporary(self) -> str:
        """A new variable."""
        self.temporaries += 1
        return f"_t{self.temporaries}"

    def python(self, name: str) -> str:
        """A C variable's name in Python."""
        return f"{name}_" if iskeyword(name) or name in ("self", "goto") or name.startswith("_") else name

    def _identifier(self, node: Any) -> Code:
        name = node.text.decode()
        if name in self.constants:
            return Code(str(self.constants[name]), number=self.constants[name])
        if name in self.types:
            kind = self.types[name]
            struct = kind.removeprefix("struct ").rstrip("*") if kind.startswith("struct ") else ""
            number = self.known.get(name)
            if number is not None:
                return Code(str(number), number=number)
            return Code(self.python(name), unknown=name in self.unknown, struct=struct, below=name in self.below)
        if name in self.words.constants:
            value = self.words.constants[name]
            return Code(value, number=int(value) if value.isdecimal() else {"True": 1, "False": 0}.get(value))
        if name in self.words.globals:
            value = self.words.globals[name]
            return Code(value, READS if "yield" in value else PURE, struct=self.words.structs.get(name, ""))
        if name.startswith("CONFIG_"):
            return Code(str(int(name in self.symbols)), number=int(name in self.symbols))
        raise self.no(node, f"{name} is not in the vocabulary", _ADD)

    _true = _false = _null = _identifier

    def _number_literal(self, node: Any) -> Code:
        text = node.text.decode().rstrip("uUlL")
        try:
            value = int(text, 0) if not re.fullmatch(r"0[0-7]+", text) else int(text, 8)
        except ValueError as error:
            raise self.no(node, "not a whole number") from error
        return Code(str(value), number=value)

    def _string_literal(self, node: Any) -> Code:
        return Code(repr(node.text.decode()[1:-1]))

    def _concatenated_string(self, node: Any) -> Code:
        return Code(repr(node.text.decode()))

    def _parenthesized_expression(self, node: Any) -> Code:
        if node.named_children[0].type == "compound_statement":
            raise self.no(node, "a statement expression has no meaning here")
        return self.expression(node.named_children[0])

    def _cast_expression(self, node: Any) -> Code:
        kind = node.child_by_field_name("type").text.decode()
        if not is_type(kind.split()[-1].rstrip("*") or kind.split()[0]) and not kind.startswith(
            ("struct ", "enum ", "const ")
        ):
            raise self.no(node, f"({kind}) is no type that is known here, and without one this is no cast")
        code = self.expression(node.child_by_field_name("value"))
        if code.negative and UNSIGNED.search(kind):
            raise self.no(node, "what may be less than 0 is made unsigned: C makes that a large number")
        return code

    def _comma_expression(self, node: Any) -> Code:
        left, right = (self.expression(node.child_by_field_name(s)) for s in ("left", "right"))
        if left.does == PURE and ":=" not in left.text:
            return right
        return Code(f"({left.text}, {right.text})[1]", max(left.does, right.does), right.unknown, struct=right.struct)

    def _unary_expression(self, node: Any) -> Code:
        operator = node.child_by_field_name("operator").text.decode()
        argument = node.child_by_field_name("argument")
        if operator == "!":
            code = self.condition(argument)
            if code.number is not None:
                return Code(str(not code.number), number=int(not code.number))
            return Code(f"_c.no({code.text})", code.does)
        code = self.expression(argument)
        if operator == "+":
            return code
        if operator == "-":
            number = None if code.number is None else -code.number
            return Code(f"_c.minus({code.text})", code.does, code.unknown, number, below=True)
        if operator == "~" and code.number is not None:
            return Code(str(~code.number), number=~code.number)
        raise self.no(node, f"{operator} of a number that is open has no meaning here")

    def _binary_expression(self, node: Any) -> Code:
        operator = node.child_by_field_name("operator").text.decode()
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if operator in ("&&", "||"):
            return self._junction(operator, left, right)
        a, b = self.expression(left), self.expression(right)
        does, unknown, below = max(a.does, b.does), a.unknown or b.unknown, a.negative or b.negative
        if below and operator in _COMPARE and (self._unsigned(left) or self._unsigned(right)):
            why = "an unsigned number is compared with one that may be less than 0: C makes that a large one"
            raise self.no(node, why)
        if a.number is not None and b.number is not None:
            folded = self._folded(node, operator, a.number, b.number)
            if folded.negative and self._unsigned(node):
                raise self.no(node, "this is unsigned, and less than 0: C makes that a large number")
            return folded
        if operator in ("==", "!=", *_COMPARE):
            if unknown:
                return Code(
                    f"(yield from _c.compared({operator!r}, {a.text}, {b.text}, {self.text(node)}))", max(does, READS)
                )
            if operator in _COMPARE:
                return Code(f"_c.less({operator!r}, {a.text}, {b.text})", does)
            same = f"_c.equal({a.text}, {b.text})"
            return Code(same if operator == "==" else f"_c.no({same})", does)
        if operator in ("+", "-", "*", "/"):
            if unknown and operator in "+-":
                made = f"_c.{'plus' if operator == '+' else 'difference'}({a.text}, {b.text})"
                return Code(made, does, True, below=below or operator == "-")
            if unknown:
                raise self.no(node, f"{operator} with a field that is not modelled has no meaning here")
            return Code(f"({a.text} {operator} {b.text})", does, unknown, below=below or operator == "-")
        if operator == "<<":
            return Code(f"_c.shifted_left({a.text}, {b.text})", does, unknown, below=below)
        if operator == ">>":
            if b.number == 0:
                return a
            if a.negative:
                # no choice would be left to the operation, and the way past it would be lost
                raise self.no(node, ">> of a number that may be less than 0 has no meaning here")
            if a.unknown:
                raise self.no(node, ">> of a field that is not modelled has no meaning here")
            return Code(f"(yield from _c.shifted_right({a.text}, {b.text}, {self.text(node)}))", max(does, READS))
        if operator in ("&", "|", "^"):
            if operator == "&" and 0 in (a.number, b.number):
                return Code("0", number=0)
            if does == ACTS:
                raise self.no(node, f"{operator} of what takes a step has no meaning here")
            # of flags that are set and a mask; | and ^ may be less than 0
            least = ", 0" if operator == "&" and not (a.negative and b.negative) else ""
            return Code(f"_c.Unknown({self.text(node)}{least})", unknown=True, below=not least)
        raise self.no(node, f"{operator} has no meaning here")

    def _folded(self, node: Any, operator: str, a: int, b: int) -> Code:
        if operator in ("/", "%") and b == 0:
            raise self.no(node, "division by 0")
        value = _FOLD[operator](a, b)
        return Code(str(int(value)), number=int(value))

    def _junction(self, operator: str, left: Any, right: Any) -> Code:
        a = self.condition(left)
        stops = operator == "||"
        if a.number is not None:
            return Code(str(stops), number=int(stops)) if bool(a.number) is stops else self.condition(right)
        b = self.condition(right)
        if b.number is not None and a.does < ACTS and ":=" not in a.text:
            return Code(str(stops), number=int(stops)) if bool(b.number) is stops else a
        if b.does <= self.eager and ":=" not in b.text:
            return Code(f"_c.{'either' if stops else 'both'}({a.text}, {b.text})", max(a.does, b.does))
        return Code(f"({a.text} {'or' if stops else 'and'} {b.text})", max(a.does, b.does))

    def _conditional_expression(self, node: Any) -> Code:
        c = self.condition(node.child_by_field_name("condition"))
        a, b = (self.expression(node.child_by_field_name(s)) for s in ("consequence", "alternative"))
        if c.number is not None:
            return a if c.number else b
        does, unknown = max(c.does, a.does, b.does), a.unknown or b.unknown
        plain = a.does < ACTS and b.does < ACTS and ":=" not in a.text + b.text
        plain = plain and not a.struct and not b.struct and "None" not in (a.text, b.text)
        below = a.negative or b.negative
        if plain:
            return Code(f"_c.choose({c.text}, {a.text}, {b.text})", does, unknown, below=below)
        return Code(f"({a.text} if {c.text} else {b.text})", does, unknown, struct=a.struct or b.struct, below=below)

    def _assignment_expression(self, node: Any) -> Code:
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        operator = node.child_by_field_name("operator").text.decode()
        if left.type != "identifier" or left.text.decode() not in self.types:
            raise self.no(node, "a store to shared memory inside an expression: write it as a statement of its own")
        name, code = left.text.decode(), self.expression(right)
        self.known.pop(name, None)
        if operator != "=":
            raise self.no(node, f"{operator} inside an expression has no meaning here")
        self.note_value(node, name, code)
        text = f"({self.python(name)} := {code.text})"
        return Code(text, code.does, code.unknown, struct=code.struct, below=code.below)

    def _update_expression(self, node: Any) -> Code:
        argument = node.child_by_field_name("argument")
        operator = node.child_by_field_name("operator").text.decode()[0]
        if argument.type != "identifier" or argument.text.decode() not in self.types:
            raise self.no(node, "a store to shared memory inside an expression: write it as a statement of its own")
        name = argument.text.decode()
        mine = self.python(name)
        self.known.pop(name, None)
        code = Code(f"({mine} := {mine} {operator} 1)", unknown=name in self.unknown, below=operator == "-")
        self.note_value(node, name, code)
        if code.unknown:
            raise self.no(node, f"{operator}{operator} of a number that the model does not have, inside an expression")
        before = node.children[0].type == "identifier"
        text = f"({code.text} {'-' if operator == '+' else '+'} 1)" if before else code.text
        return Code(text, below=name in self.below)

    def _unsigned(self, node: Any) -> bool:
        """Whether an expression is of an unsigned type: of such a variable, such a cast, or computed with one."""
        while node.type == "parenthesized_expression":
            node = node.named_children[0]
        if node.type == "cast_expression":
            return bool(UNSIGNED.search(node.child_by_field_name("type").text.decode()))
        if node.type == "binary_expression":
            return any(self._unsigned(node.child_by_field_name(side)) for side in ("left", "right"))
        return node.type == "identifier" and bool(UNSIGNED.search(self.types.get(node.text.decode(), "")))

    def note_value(self, node: Any, name: str, code: Code) -> None:
        """What is known of a local variable from what it is set to: some things stay once they are."""
        if code.unknown:
            self.unknown.add(name)
        if code.negative:
            if UNSIGNED.search(self.types.get(name, "")):
                raise self.no(
                    node, f"{name} is unsigned, and may be set to less than 0 here: C makes that a large number"
                )
            self.below.add(name)

    # --- shared memory ---

    def _field_expression(self, node: Any) -> Code:
        argument, name = node.child_by_field_name("argument"), node.child_by_field_name("field").text.decode()
        code = self.expression(argument)
        entry = self.field_of(node, code, name)
        if entry.cell:
            return self.loaded(entry, code, "read")
        if entry.python == "local":
            return Code(f"{code.text}.get({name!r})", code.does, unknown=True)
        if entry.python:
            return Code(entry.python.format(code.text), code.does, struct=entry.struct)
        least = "" if entry.least is None else f", {entry.least}"
        text = f"_c.Unknown({' '.join(node.text.decode().split())!r}{least})"
        return Code(text, code.does, unknown=True, below=entry.least is None)

    def _subscript_expression(self, node: Any) -> Code:
        code = self.expression(node.child_by_field_name("argument"))
        if not code.struct:
            raise self.no(node, "an array that is not in the vocabulary")
        return code

    def loaded(self, entry: Any, code: Code, how: str) -> Code:
        """What a cell has, as a C value."""
        text = f"(yield _ops.{how}({self.address(entry, code)}))"
        if not entry.loaded:
            return Code(text, max(code.does, READS))
        return Code(entry.loaded.format(text), ACTS, struct=entry.struct)

    def field_of(self, node: Any, code: Code, name: str) -> Any:
        """The entry of a field; an error where there is none."""
        if not code.struct:
            raise self.no(node, f"->{name} of something whose struct is not known")
        entry = self.words.fields.get((code.struct, name))
        if entry is None:
            raise self.no(
                node,
                f"struct {code.struct} has a field {name} that is not in the vocabulary",
                _ADD,
            )
        return entry

    def address(self, entry: Any, code: Code) -> str:
        """The cell of a field, as the arguments of an operation."""
        index = entry.index.format(code.text)
        return f"{entry.cell!r}, {index}" if index else repr(entry.cell)

    def cell(self, node: Any) -> tuple[str, Any, bool] | None:
        """(address, entry, whether it is a cell) of a place that is stored to; None for a local variable."""
        while node.type == "parenthesized_expression":
            node = node.named_children[0]
        if node.type != "field_expression":
            return None
        code = self.expression(node.child_by_field_name("argument"))
        entry = self.field_of(node, code, node.child_by_field_name("field").text.decode())
        if entry.python:
            return None
        return (self.address(entry, code) if entry.cell else "", entry, bool(entry.cell))

    def _pointer_expression(self, node: Any) -> Code:
        argument = node.child_by_field_name("argument")
        if node.children[0].type != "&":
            raise self.no(node, "a pointer that is followed has no meaning here")
        if argument.type == "subscript_expression":
            of, index = argument.child_by_field_name("argument"), self.expression(argument.child_by_field_name("index"))
            if of.type == "field_expression":
                code = self.expression(of.child_by_field_name("argument"))
                entry = self.field_of(of, code, of.child_by_field_name("field").text.decode())
                if "{1}" in entry.python:
                    return Code(
                        entry.python.format(code.text, index.text), max(code.does, index.does), struct=entry.struct
                    )
            raise self.no(node, "an array that is not in the vocabulary")
        if argument.type == "field_expression":
            code = self.expression(argument.child_by_field_name("argument"))
            entry = self.field_of(argument, code, argument.child_by_field_name("field").text.decode())
            if entry.python and entry.python != "local":
                return Code(entry.python.format(code.text), code.does, struct=entry.struct or code.struct)
            raise self.no(node, "the address of shared memory has no meaning here")
        return self.expression(argument)
