"""What a user's text may do: read before it is run, so that an engine reads it as Python does or refuses it in one line.

An engine runs a routine many times, with terms in place of numbers, and takes two suspended routines for one if their
frames hold the same (:mod:`kernelmodel.graphs.continuation`).  That is right only if nothing else remembers the past: attributes,
globals, class attributes and defaults are read and never written.  And a term must get the answer that its number would
get: so no look at types, identities or texts of values, and nothing that swallows the error with which a term refuses.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.graphs.continuation import constant

#: what a text may import: nothing that remembers, or that another run answers differently
IMPORTS = (
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "itertools",
    "kernelmodel",
    "math",
    "typing",
)
_TERM = "an engine runs the text with terms in place of numbers, which would get another answer"
_UNSEEN = "what is written there survives from one run of the text to the next, unseen"
#: names of builtins that a routine may not use, and why
FORBIDDEN = {
    **dict.fromkeys(
        ("isinstance", "issubclass", "type", "id", "hash", "repr", "str", "ascii", "format", "callable", "hasattr", "getattr"),
        _TERM,
    ),
    **dict.fromkeys(
        ("setattr", "delattr", "vars", "dir", "locals", "globals", "exec", "eval", "compile", "__import__", "object"), _UNSEEN
    ),
    **dict.fromkeys(("open", "input", "breakpoint", "exit", "quit"), "a text is run many times, by a program"),
}  # fmt: skip

#: attributes through which one frame reaches another
FRAMES = frozenset(
    ("gi_frame", "gi_code", "gi_yieldfrom", "f_back", "f_locals", "f_globals", "tb_frame", "cell_contents")
)

#: the arguments of an operation that only the machine runs: what a text learns from them no engine sees
CONCRETE = ("effect", "pack")


def check_source(path: Path, source: str) -> None:
    """ModelError, with file and line, for a construct that an engine could misread; syntax errors are the loader's."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    _Source(path).visit(tree)


def check_values(path: Path, module: ModuleType) -> None:
    """ModelError for a global, class attribute or default of a loaded text that could change between two runs of it."""
    functions = dict(_functions(module))
    for where, function in functions.items():
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            _constant(path, f"a default of {where}()", default)
        for cell in function.__closure__ or ():
            _closed_over(path, where, cell.cell_contents, module)
        for name in sorted(_global_names(function.__code__)):
            if name in vars(module):
                _global(path, name, where, vars(module)[name], module)
    for owner, name, value in _attributes(module):
        if not isinstance(value, (FunctionType, staticmethod, classmethod, property)):
            _constant(path, f"{owner}.{name}", value)


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield name, value
    for owner, name, value in _attributes(module):
        inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(inner, FunctionType):
            yield f"{owner}.{name}", inner


def _attributes(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    for owner, cls in vars(module).items():
        if isinstance(cls, type) and cls.__module__ == module.__name__:
            yield from ((owner, n, v) for n, v in vars(cls).items() if not _dunder(n) or isinstance(v, FunctionType))


def _global_names(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= _global_names(const)
    return found


def _global(path: Path, name: str, where: str, value: Any, module: ModuleType) -> None:
    if isinstance(value, ModuleType):
        _known(path, f"module {value.__name__}, used by {where}()", value.__name__)
    elif isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        if value.__module__ != module.__name__:
            _known(path, f"{name}, used by {where}()", value.__module__ or "builtins")
    else:
        _constant(path, f"{name}, used by {where}()", value)


def _closed_over(path: Path, where: str, value: Any, module: ModuleType) -> None:
    if not isinstance(value, (type, FunctionType)) or value.__module__ != module.__name__:
        _constant(path, f"what {where}() closes over", value)


def _known(path: Path, what: str, origin: str) -> None:
    if origin.partition(".")[0] not in (*IMPORTS, "builtins", "_functools", "_collections_abc", "_operator"):
        raise ModelError(
            f"{path}: {what}, comes from {origin}, which is not checked: a text uses its own file, kernelmodel and "
            f"{', '.join(m for m in IMPORTS if m not in ('__future__', 'kernelmodel'))}"
        )


def _constant(path: Path, what: str, value: Any) -> None:
    try:
        constant(value)
    except ModelError as error:
        raise ModelError(f"{path}: {what}, is a {type(value).__qualname__}: {error}") from error


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


class _Source(ast.NodeVisitor):
    """Walks a file; only what stands inside functions is run by engines, the rest once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: the functions around the place, innermost last
        self.inside: list[ast.FunctionDef | ast.Lambda] = []

    def refuse(self, node: ast.AST, what: str, cure: str) -> None:
        """The one line."""
        raise ModelError(f"{self.path}, line {getattr(node, 'lineno', '?')}: {what}: {cure}")

    # --- where we are ---

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if _dunder(node.name) and node.name != "__init__":
            self.refuse(node, f"{node.name}() is called by Python unseen", "write a routine with a name of its own")
        for part in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            self.visit(part)
        self.inside.append(node)
        for statement in node.body:
            self.visit(statement)
        self.inside.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.inside.append(node)
        self.visit(node.body)
        self.inside.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if self.inside:
            self.refuse(node, f"class {node.name} is made anew by each run", "define it outside of the routine")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value:
            self.visit(node.value)

    def generic_visit(self, node: ast.AST) -> None:
        """Refuse what has no place in a text, wherever it stands in a function."""
        refusal = _REFUSED.get(type(node))
        if refusal is not None and self.inside:
            self.refuse(node, *refusal)
        super().generic_visit(node)

    # --- what is refused ---

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            _imported(self, node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        _imported(self, node, node.module or ".")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if self.inside and _dunder(node.attr) and node.attr not in ("__init__", "__name__", "__doc__"):
            self.refuse(node, f".{node.attr} reaches behind what is checked", "use the name itself")
        if self.inside and node.attr.startswith("_") and not _dunder(node.attr) and not _own(node.value):
            self.refuse(node, f"{ast.unparse(node)} is private to another module", "use what its module offers")
        if self.inside and node.attr in FRAMES:
            self.refuse(node, f".{node.attr} reaches into a frame", "pass the value itself")
        if isinstance(node.ctx, (ast.Store, ast.Del)) and self.inside and not self._may_write(node):
            what = f"{ast.unparse(node)} is written: {_UNSEEN}"
            self.refuse(node, what, "keep it in a local variable, or in a cell (kernelmodel.ops.write)")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        base = node.value
        while isinstance(base, ast.Subscript):
            base = base.value
        if (
            isinstance(node.ctx, (ast.Store, ast.Del)) and self.inside
            and isinstance(base, ast.Attribute) and not self._may_write(base)
        ):  # fmt: skip
            self.refuse(node, f"{ast.unparse(node)} is written: {_UNSEEN}", "keep it in a local variable, or in a cell")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if self.inside and node.id in FORBIDDEN and isinstance(node.ctx, ast.Load):
            self.refuse(node, f"{node.id}() is used", FORBIDDEN[node.id])

    def visit_Call(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg in CONCRETE:
                self.refuse(
                    node, f"{keyword.arg}= gives an operation a concrete half of its own",
                    "engines do not run it; put it together from those of kernelmodel.ops and kernelmodel.page_ops",
                )  # fmt: skip
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for i, how in enumerate(node.ops):
            none = any(isinstance(s, ast.Constant) and s.value is None for s in sides[i : i + 2])
            if isinstance(how, (ast.Is, ast.IsNot)) and not none and self.inside:
                self.refuse(node, f"{ast.unparse(node)} asks for identity", f"use == or !=; {_TERM}")
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        if self.inside and node.handlers:
            self.refuse(node.handlers[0], "an exception is caught", "the C has none, and an engine speaks through them")
        for statement in node.finalbody:
            for part in ast.walk(statement):
                if self.inside and isinstance(part, (ast.Return, ast.Break, ast.Continue)):
                    self.refuse(part, "a finally block is left by a jump", "that would swallow an exception")
        self.generic_visit(node)

    def _may_write(self, target: ast.Attribute) -> bool:
        """A constructor writes its own object."""
        function = self.inside[-1]
        if not isinstance(function, ast.FunctionDef) or function.name != "__init__" or len(self.inside) > 1:
            return False
        return isinstance(target.value, ast.Name) and target.value.id == function.args.args[0].arg


def _own(node: ast.expr) -> bool:
    """``self`` or ``super()``."""
    if isinstance(node, ast.Call):
        node = node.func
    return isinstance(node, ast.Name) and node.id in ("self", "super")


def _imported(source: _Source, node: ast.AST, name: str) -> None:
    if name.partition(".")[0] not in IMPORTS:
        known = ", ".join(m for m in IMPORTS if m != "__future__")
        source.refuse(node, f"{name} is imported, which is not checked", f"a text may import {known}")


_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Global: ("a global is written", f"{_UNSEEN}; keep it in a local variable, or in a cell"),
    ast.Nonlocal: ("a variable of another function is written", f"{_UNSEEN}; return the value instead"),
    ast.TryStar: ("an exception is caught", "the C has none, and an engine speaks through them"),
    ast.With: ("a with statement", "it may swallow an exception; write the calls themselves"),
    ast.AsyncFunctionDef: ("async code", "a routine is a plain generator"),
    ast.AsyncFor: ("async code", "a routine is a plain generator"),
    ast.AsyncWith: ("async code", "a routine is a plain generator"),
    ast.Await: ("async code", "a routine is a plain generator"),
    ast.MatchClass: ("a class pattern asks for the type of a value", _TERM),
}

__all__ = ["FORBIDDEN", "IMPORTS", "check_source", "check_values"]
