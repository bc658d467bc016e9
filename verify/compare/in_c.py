"""A routine of the model's text as C would have it: for a reader of a difference, never for an engine."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence

from kernelmodel.cells import CELLS
from kernelmodel.text import KernelText, c_name

_TAB = "\t"
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "==", ast.IsNot: "!=",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "/", ast.Mod: "%", ast.BitAnd: "&", ast.BitOr: "|",
    ast.And: "&&", ast.Or: "||",
}  # fmt: skip
_LOADS = {"read": "{0}", "read_once": "READ_ONCE({0})"}
_STORES = {"write": "{0} = {1}", "write_once": "WRITE_ONCE({0}, {1})", "add": "{0} += {1}"}


def in_c(kernel: type[KernelText], source: Sequence[str]) -> list[str]:
    """The lines of a routine in C's syntax, with the kernel's names; the lines as they are where that cannot be read."""
    try:
        (function,) = ast.parse(textwrap.dedent("\n".join(source))).body
    except (SyntaxError, ValueError):
        return list(source)
    if not isinstance(function, ast.FunctionDef):
        return list(source)
    writer = _Writer(kernel)
    name = writer.name_of(function.name)
    parameters = ", ".join(a.arg for a in function.args.args if a.arg != "self")
    return [f"{name}({parameters})", "{", *writer.block(function.body, 1), "}"]


class _Writer:
    def __init__(self, kernel: type[KernelText]) -> None:
        self.kernel = kernel

    def block(self, body: Sequence[ast.stmt], depth: int) -> Iterator[str]:
        """Statements, each a line or more."""
        for statement in body:
            yield from self.statement(statement, depth)

    def statement(self, node: ast.stmt, depth: int) -> Iterator[str]:
        """One statement; what C has not stays as Python writes it."""
        tab = _TAB * depth
        if isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Constant):
                yield f"{tab}{self.expression(node.value)};"
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            sign = "=" if isinstance(node, ast.Assign) else f"{_OPERATORS.get(type(node.op), '?')}="
            yield f"{tab}{self.expression(target)} {sign} {self.expression(node.value)};"
        elif isinstance(node, ast.If):
            yield from self._if(node, depth)
        elif isinstance(node, (ast.For, ast.While)):
            head = self._loop(node) if isinstance(node, ast.For) else f"while ({self.expression(node.test)})"
            yield from self._braced([(head, node.body)], depth)
        elif isinstance(node, ast.Return):
            yield f"{tab}return{'' if node.value is None else ' ' + self.expression(node.value)};"
        elif isinstance(node, (ast.Break, ast.Continue)):
            yield f"{tab}{'break' if isinstance(node, ast.Break) else 'continue'};"
        elif not isinstance(node, (ast.Pass, ast.Delete)):
            yield from (tab + line for line in ast.unparse(node).splitlines())

    def _if(self, node: ast.If, depth: int) -> Iterator[str]:
        parts: list[tuple[str, Sequence[ast.stmt]]] = [(f"if ({self.expression(node.test)})", node.body)]
        rest = node.orelse
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            parts.append((f"else if ({self.expression(rest[0].test)})", rest[0].body))
            rest = rest[0].orelse
        yield from self._braced([*parts, *([("else", rest)] if rest else [])], depth)

    def _braced(self, parts: Sequence[tuple[str, Sequence[ast.stmt]]], depth: int) -> Iterator[str]:
        """Heads with their bodies, as the kernel's style has them: no braces where every body is one line."""
        tab = _TAB * depth
        bodies = [list(self.block(body, depth + 1)) for _, body in parts]
        if all(len(body) == 1 for body in bodies):
            for (head, _), body in zip(parts, bodies, strict=True):
                yield from (tab + head, *body)
            return
        for n, ((head, _), body) in enumerate(zip(parts, bodies, strict=True)):
            yield f"{tab}{'} ' if n else ''}{head} {{"
            yield from body
        yield tab + "}"

    def _loop(self, node: ast.For) -> str:
        target, over = self.expression(node.target), self.expression(node.iter)
        if over.startswith("for_each_") and over.endswith("()"):
            return f"{over[:-2]}({target})"
        return f"for_each_zone({target})" if over == "config->zones" else f"for ({target} in {over})"

    def name_of(self, routine: str) -> str:
        """The C name of a routine; of one that is a part of another function its own."""
        name = c_name(self.kernel, routine)
        return routine if name != routine and hasattr(self.kernel, name) else name

    def expression(self, node: ast.AST) -> str:
        """An expression; calls of routines and operations have their C names."""
        match node:
            case ast.YieldFrom() | ast.Yield():
                return "" if node.value is None else self.expression(node.value)
            case ast.Call():
                return self._call(node)
            case ast.Constant(value=None):
                return "NULL"
            case ast.Constant(value=bool()):
                return str(node.value).lower()
            case ast.Constant(value=str() as text):
                return f'"{text}"'
            case ast.BoolOp():
                return f" {_OPERATORS[type(node.op)]} ".join(self._inner(v) for v in node.values)
            case ast.UnaryOp(op=ast.Not()):
                return f"!{self._inner(node.operand)}"
            case ast.Compare() if len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
                sides = self._inner(node.left), self._inner(node.comparators[0])
                return f"{sides[0]} {_OPERATORS[type(node.ops[0])]} {sides[1]}"
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return f"{self._inner(node.left)} {_OPERATORS[type(node.op)]} {self._inner(node.right)}"
            case ast.IfExp():
                return f"{self._inner(node.test)} ? {self._inner(node.body)} : {self._inner(node.orelse)}"
            case ast.Attribute(attr="index"):
                return self.expression(node.value)
            case ast.Attribute(value=ast.Name(id="self")):
                return node.attr
            case ast.Attribute(value=ast.Name(id="MigrateType")):
                return f"MIGRATE_{node.attr}"
            case ast.Attribute():
                return f"{self.expression(node.value)}->{node.attr}"
            case ast.Tuple():
                return ", ".join(self.expression(e) for e in node.elts)
        return ast.unparse(node)

    def _inner(self, node: ast.AST) -> str:
        text = self.expression(node)
        compound = isinstance(node, (ast.BoolOp, ast.Compare, ast.BinOp, ast.IfExp))
        return f"({text})" if compound else text

    def _call(self, node: ast.Call) -> str:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        arguments = [a for a in node.args if ast.unparse(a) not in ("self.config", "self.config.nr_blocks")]
        words = [self.expression(a) for a in arguments] + [self.expression(k.value) for k in node.keywords]
        if name in _LOADS and (cell := self._cell(arguments)):
            return _LOADS[name].format(cell)
        if name in _STORES and (cell := self._cell(arguments[1:])):
            return _STORES[name].format(cell, words[0])
        routine = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "self"
        if name in ("spin_lock", "spin_trylock", "spin_unlock") and (cell := self._cell(arguments)):
            return f"{name}(&{cell})"
        if name in ("int", "lift", "const") and len(words) == 1:
            return words[0]
        if name.startswith("mutex_") and len(arguments) == 1 and isinstance(arguments[0], ast.Constant):
            words = [f"&{arguments[0].value!s}"]
        return f"{self.name_of(name) if routine else name}({', '.join(words)})"

    def _cell(self, arguments: Sequence[ast.expr]) -> str:
        if not arguments or not isinstance(arguments[0], ast.Constant) or arguments[0].value not in CELLS:
            return ""
        return CELLS[arguments[0].value].in_c(arguments[0].value, [self.expression(a) for a in arguments[1:]])
