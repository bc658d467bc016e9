"""Terms as Z3 expressions: the symbolic back end of kernelmodel.terms."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import z3
import z3.z3

from kernelmodel.terms import Cell, Term, visit

# z3's own checks of its arguments' types take a tenth of a run
z3.z3.Z3_DEBUG = False

#: a z3 expression; the package has no types for them
Expr = Any


def constants(expression: Expr) -> set[str]:
    """The names of the variables in an expression: a walk past z3.py's objects, of which each node would make several."""
    context = expression.ctx.ref()
    found: set[str] = set()
    seen: set[int] = set()
    todo = [expression.ast]
    while todo:
        node = todo.pop()
        number = z3.Z3_get_ast_id(context, node)
        if number in seen:
            continue
        seen.add(number)
        if z3.Z3_get_ast_kind(context, node) != z3.Z3_APP_AST:
            continue
        app = z3.Z3_to_app(context, node)
        size = z3.Z3_get_app_num_args(context, app)
        todo += [z3.Z3_get_app_arg(context, app, i) for i in range(size)]
        if not size:
            head = z3.Z3_get_app_decl(context, app)
            if z3.Z3_get_decl_kind(context, head) == z3.Z3_OP_UNINTERPRETED:
                found.add(z3.Z3_get_symbol_string(context, z3.Z3_get_decl_name(context, head)))
    return found


class Without:
    """Finds what in expressions does not speak of a variable; they have to be kept meanwhile."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: of each node: whether it speaks of the variable, and how many parts it has, shared ones counted each time
        self._known: dict[int, tuple[bool, int]] = {}
        self._arguments: dict[int, list[Any]] = {}

    def largest(self, expression: Expr, least: int) -> list[Expr]:
        """The largest truth values in an expression that do not speak of the variable, and have at least so many parts."""
        context = expression.ctx.ref()
        self._walk(expression)
        found: dict[int, Expr] = {}
        seen: set[int] = set()
        todo = [expression.ast]
        while todo:
            node = todo.pop()
            number = z3.Z3_get_ast_id(context, node)
            speaks, parts = self._known[number]
            if number in seen or (not speaks and parts < least):
                continue
            seen.add(number)
            if speaks:
                todo += self._arguments.get(number, [])
            elif z3.Z3_get_sort_kind(context, z3.Z3_get_sort(context, node)) == z3.Z3_BOOL_SORT:
                found[number] = z3.BoolRef(node, expression.ctx)
        return list(found.values())

    def _walk(self, expression: Expr) -> None:
        context = expression.ctx.ref()
        known, arguments = self._known, self._arguments
        todo = [(expression.ast, z3.Z3_get_ast_id(context, expression.ast))]
        while todo:
            node, number = todo[-1]
            if number in known:
                todo.pop()
            elif number in arguments:
                todo.pop()
                parts = [known[z3.Z3_get_ast_id(context, a)] for a in arguments[number]]
                known[number] = any(p[0] for p in parts), 1 + sum(p[1] for p in parts)
            elif z3.Z3_get_ast_kind(context, node) != z3.Z3_APP_AST:
                known[number] = False, 1
            else:
                app = z3.Z3_to_app(context, node)
                size = z3.Z3_get_app_num_args(context, app)
                if size:
                    arguments[number] = [z3.Z3_get_app_arg(context, app, i) for i in range(size)]
                    todo += [(a, z3.Z3_get_ast_id(context, a)) for a in arguments[number]]
                else:
                    symbol = z3.Z3_get_decl_name(context, z3.Z3_get_app_decl(context, app))
                    known[number] = z3.Z3_get_symbol_string(context, symbol) == self.name, 1


# --- what z3.And() and the operators make, without their looking at each argument's sort, which takes longer ---


def all_of(parts: Sequence[Expr]) -> Expr:
    """z3.And() of expressions of sort Bool, at least one."""
    return _joined(z3.Z3_mk_and, parts)


def any_of(parts: Sequence[Expr]) -> Expr:
    """z3.Or() of expressions of sort Bool, at least one."""
    return _joined(z3.Z3_mk_or, parts)


def less(a: Expr, b: Expr) -> Expr:
    """``a < b`` of expressions of sort Int."""
    return _compared(z3.Z3_mk_lt, a, b)


def same(a: Expr, b: Expr) -> Expr:
    """``a == b`` of expressions of one sort."""
    return _compared(z3.Z3_mk_eq, a, b)


def _joined(make: Callable[..., Any], parts: Sequence[Expr]) -> Expr:
    context = parts[0].ctx
    return z3.BoolRef(make(context.ref(), len(parts), (z3.Ast * len(parts))(*[p.ast for p in parts])), context)


def _compared(make: Callable[..., Any], a: Expr, b: Expr) -> Expr:
    return z3.BoolRef(make(a.ctx.ref(), a.ast, b.ast), a.ctx)


def _counted(make: Callable[..., Any]) -> Callable[[Expr, Expr], Expr]:
    return lambda a, b: z3.ArithRef(make(a.ctx.ref(), 2, (z3.Ast * 2)(a.ast, b.ast)), a.ctx)


_BINARY: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "+": _counted(z3.Z3_mk_add),
    "-": _counted(z3.Z3_mk_sub),
    "*": _counted(z3.Z3_mk_mul),
    "min": lambda a, b: z3.If(a <= b, a, b),
    "==": same,
    "<": less,
    "<=": lambda a, b: _compared(z3.Z3_mk_le, a, b),
}


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt, also where it comes while an argument for Z3 is converted: ctypes gives it another name."""
    try:
        yield
    except ctypes.ArgumentError as error:
        if KeyboardInterrupt.__name__ in str(error):
            raise KeyboardInterrupt from error
        raise


@contextmanager
def apart() -> Iterator[None]:
    """What is asked of Z3 meanwhile is asked in a context of its own.

    The numbers that Z3 gives to expressions decide which of several models it finds, and how fast; they would depend on
    what was asked before in this process, and on when Python's collector frees expressions, whose numbers are given anew.
    """
    before, collects = z3.z3._main_ctx, gc.isenabled()
    z3.z3._main_ctx = z3.Context()
    gc.disable()
    # what there is already is not looked through when the question is answered, and what is left of it is freed
    gc.freeze()
    try:
        with interruptible():
            yield
    finally:
        z3.z3._main_ctx = before
        if collects:
            gc.enable()
        gc.collect()
        gc.unfreeze()


def variable(name: str, sort: str) -> Expr:
    """A fresh constant of the sort."""
    return z3.Bool(name) if sort == "bool" else z3.Int(name)


def literal(value: int | bool) -> Expr:
    """A constant."""
    return z3.BoolVal(value) if isinstance(value, bool) else z3.IntVal(value)


def translate(
    term: Term, cells: Callable[[Cell], Expr], regs: Callable[[str], Expr], choices: Callable[[Term], Expr]
) -> Expr:
    """``term`` as a Z3 expression over what the three functions give for its atoms."""

    def leaf(atom: Term) -> Expr:
        if atom.op == "const":
            return literal(atom.args[0])
        if atom.op == "cell":
            return cells(atom.args[0])
        return regs(atom.args[0]) if atom.op == "reg" else choices(atom)

    return visit(term, leaf, _applied)


def _applied(term: Term, parts: list[Expr]) -> Expr:
    if term.op == "not":
        return z3.Not(parts[0])
    if term.op == "and":
        return all_of(parts)
    if term.op == "or":
        return any_of(parts)
    if term.op == "ite":
        return z3.If(*parts)
    return _BINARY[term.op](*parts)
