"""One-line mutants of a kernel's whole text, made from its syntax trees: what do the properties not see?

Each routine that the kernel runs is changed in one place: a statement deleted, doubled or swapped with the next, a
condition negated, a comparison moved by one, a number or truth value changed, a lock and its unlock dropped together.
(Mutation analysis: DeMillo, Lipton, Sayward 1978.)  Names and order depend on the text alone.
"""

from __future__ import annotations

import ast
import copy
import difflib
import hashlib
import inspect
import itertools
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import nearest

#: calls that take something, and those that give it back
_PAIRS = {
    "mutex_lock": "mutex_unlock",
    "cpus_read_lock": "cpus_read_unlock",
    "cpus_write_lock": "cpus_write_unlock",
    "preempt_disable": "preempt_enable",
    "local_irq_save": "local_irq_restore",
    "mem_hotplug_begin": "mem_hotplug_done",
    "zone_pcp_disable": "zone_pcp_enable",
}
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
#: what is changed: the key of a mutant's kind
KINDS = ("delete", "swap", "double", "negate", "compare", "constant", "unpair")

Function = ast.FunctionDef
#: edits a copy of a routine's tree
Edit = Callable[[Function], None]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one routine: ``text`` is the routine as it is after it, ``name`` is stable while the text is."""

    routine: str
    kind: str
    number: int
    text: str
    diff: str

    @property
    def name(self) -> str:
        """``routine/kind/number``."""
        return f"{self.routine}/{self.kind}/{self.number}"

    @property
    def digest(self) -> str:
        """What tells this change of this text from any other."""
        return hashlib.sha256(f"{self.routine}\n{self.text}".encode()).hexdigest()[:16]


def routines(kernel: type[KernelText]) -> dict[str, type]:
    """The routines of a kernel's text and the classes that define them; the primitives of KernelText are not among them."""
    found: dict[str, type] = {}
    for cls in kernel.__mro__:
        if cls in KernelText.__mro__:
            continue
        for name, function in vars(cls).items():
            if inspect.isgeneratorfunction(inspect.unwrap(function)) if inspect.isfunction(function) else False:
                found.setdefault(name, cls)
    return dict(sorted(found.items()))


def mutations(kernel: type[KernelText], of: Sequence[str] = ()) -> list[Mutation]:
    """All mutations of a kernel's text, or of some routines; ModelError for a routine that there is not."""
    known = routines(kernel)
    for name in of:
        if name not in known:
            raise nearest("routine", name, known)
    found = []
    for name in dict.fromkeys(of) or known:
        found += list(_of_routine(name, _tree(vars(known[name])[name])))
    return found


def build(kernel: type[KernelText], mutation: Mutation) -> type[KernelText]:
    """The kernel class with one routine changed; ModelError where the changed text is no Python."""
    owner = routines(kernel)[mutation.routine]
    original = inspect.unwrap(vars(owner)[mutation.routine])
    filename = f"<{mutation.name} of {kernel.name}>"
    linecache.cache[filename] = (len(mutation.text), None, mutation.text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {**vars(sys.modules[original.__module__]), "__owner__": owner}
    try:
        exec(compile(mutation.text, filename, "exec"), namespace)
    except SyntaxError as error:
        raise ModelError(f"{mutation.name}: {error.msg}") from error
    made = namespace[original.__name__]
    made.__doc__ = original.__doc__
    members = {"name": f"{kernel.name} with {mutation.name}", "summary": mutation.diff, mutation.routine: made}
    return type("Mutation", (kernel,), members)


def _tree(function: Any) -> Function:
    """A routine's tree without docstring and annotations; ``super()`` says whose."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.returns, tree.decorator_list = None, []
    for argument in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs):
        argument.annotation = None
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            node.args = [ast.Name("__owner__", ast.Load()), ast.Name(tree.args.args[0].arg, ast.Load())]
    return ast.fix_missing_locations(tree)


def _of_routine(name: str, tree: Function) -> Iterator[Mutation]:
    before = ast.unparse(tree)
    seen = {before}
    for kind, edits in (
        ("delete", _deletions(tree)), ("swap", _swaps(tree)), ("double", _doublings(tree)), ("negate", _negations(tree)),
        ("compare", _comparisons(tree)), ("constant", _constants(tree)), ("unpair", _pairs(tree)),
    ):  # fmt: skip
        for number, edit in enumerate(edits, 1):
            changed = copy.deepcopy(tree)
            edit(changed)
            ast.fix_missing_locations(changed)
            text = ast.unparse(changed)
            if text not in seen:
                seen.add(text)
                yield Mutation(name, kind, number, text, _difference(before, text))


def _difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    found = [f"{x[0]}{x[1:].strip()}" for x in lines if x[0] in "-+" and x[:3] not in ("---", "+++")]
    return "\n".join(found)


# --- places: the n-th node or body of a tree, found again in its copies ---


def _nodes(tree: ast.AST, wanted: Callable[[ast.AST], bool]) -> list[ast.AST]:
    return [n for n in _walk(tree) if wanted(n)]


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of the concrete halves, which no engine runs: both halves of an operation say the same."""
    todo = [tree]
    while todo:
        node = todo.pop(0)
        yield node
        todo += [n for n in ast.iter_child_nodes(node) if not (isinstance(n, ast.FunctionDef) and n.name == "effect")]


def _bodies(tree: ast.AST) -> list[list[ast.stmt]]:
    found = []
    for node in _walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                found.append(body)
    return found


def _binds(statement: ast.stmt) -> bool:
    """Whether later lines may need a name that the statement binds: without it the text is no text."""
    return isinstance(statement, (ast.Assign, ast.AnnAssign)) and any(
        isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(statement)
    )


def _deletions(tree: Function) -> Iterator[Edit]:
    for b, body in enumerate(_bodies(tree)):
        for i, statement in enumerate(body):
            if not _binds(statement) and not isinstance(statement, (ast.Pass, ast.FunctionDef)):
                yield _delete(b, i)


def _delete(b: int, i: int) -> Edit:
    def edit(tree: Function) -> None:
        body = _bodies(tree)[b]
        body[i : i + 1] = [] if len(body) > 1 else [ast.Pass()]

    return edit


def _swaps(tree: Function) -> Iterator[Edit]:
    for b, body in enumerate(_bodies(tree)):
        for i, (first, second) in enumerate(itertools.pairwise(body)):
            if not isinstance(first, ast.Return) and not isinstance(second, ast.Return):
                yield _swap(b, i)


def _swap(b: int, i: int) -> Edit:
    def edit(tree: Function) -> None:
        body = _bodies(tree)[b]
        body[i], body[i + 1] = body[i + 1], body[i]

    return edit


def _doublings(tree: Function) -> Iterator[Edit]:
    for b, body in enumerate(_bodies(tree)):
        for i, statement in enumerate(body):
            if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(statement)) and not isinstance(
                statement, (ast.Return, ast.If, ast.For, ast.While)
            ):
                yield _double(b, i)


def _double(b: int, i: int) -> Edit:
    def edit(tree: Function) -> None:
        body = _bodies(tree)[b]
        body.insert(i, copy.deepcopy(body[i]))

    return edit


def _tested(node: ast.AST) -> bool:
    return isinstance(node, (ast.If, ast.While, ast.IfExp)) and not isinstance(node.test, ast.Constant)


def _negations(tree: Function) -> Iterator[Edit]:
    for i in range(len(_nodes(tree, _tested))):
        yield _negate(i)


def _negate(i: int) -> Edit:
    def edit(tree: Function) -> None:
        node: Any = _nodes(tree, _tested)[i]
        negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
        node.test = node.test.operand if negated else ast.UnaryOp(ast.Not(), node.test)

    return edit


def _ordered(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED


def _comparisons(tree: Function) -> Iterator[Edit]:
    for i in range(len(_nodes(tree, _ordered))):
        yield _compare(i)


def _compare(i: int) -> Edit:
    def edit(tree: Function) -> None:
        node: Any = _nodes(tree, _ordered)[i]
        node.ops = [_COMPARED[type(node.ops[0])]()]

    return edit


def _number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (bool, int))


def _numbers(tree: Function) -> list[ast.AST]:
    """The numbers of a routine, but for those of an operation that has a concrete half: both halves say the same."""
    halves = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and any(k.arg == "effect" for k in n.keywords)]
    inside = {id(n) for half in halves for n in ast.walk(half)}
    return [n for n in _nodes(tree, _number) if id(n) not in inside]


def _constants(tree: Function) -> Iterator[Edit]:
    for i, node in enumerate(_numbers(tree)):
        assert isinstance(node, ast.Constant)
        if isinstance(node.value, bool):
            yield _set_constant(i, not node.value)
        else:
            assert isinstance(node.value, int)
            yield from (_set_constant(i, new) for new in (node.value + 1, node.value - 1) if new >= 0)


def _set_constant(i: int, new: int) -> Edit:
    def edit(tree: Function) -> None:
        node: Any = _numbers(tree)[i]
        node.value = new

    return edit


def _call(statement: ast.stmt) -> str:
    """The name of the routine or operation that a statement calls, if it does nothing else."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    inner = value.value if isinstance(value, (ast.Yield, ast.YieldFrom)) else None
    return inner.func.attr if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) else ""


def _pairs(tree: Function) -> Iterator[Edit]:
    """A lock and all that may give it back, with the same arguments, dropped together."""
    statements = [s for body in _bodies(tree) for s in body]
    for statement in statements:
        back = _PAIRS.get(_call(statement))
        if back is not None:
            yield _unpair(_call(statement), _arguments(statement))


def _arguments(statement: ast.stmt) -> str:
    call = next(n for n in ast.walk(statement) if isinstance(n, ast.Call))
    return ", ".join(ast.unparse(a) for a in call.args)


def _unpair(name: str, arguments: str) -> Edit:
    def edit(tree: Function) -> None:
        for body in _bodies(tree):
            body[:] = [
                s for s in body if _call(s) not in (name, _PAIRS[name]) or _arguments(s) != arguments
            ] or [ast.Pass()]  # fmt: skip

    return edit


__all__ = ["KINDS", "Mutation", "build", "mutations", "routines"]
