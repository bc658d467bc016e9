"""What is written differently and means the same has the same verdicts, and the same number of states."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from kernelmodel.kernels import KERNELS, mutant
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES
from verify.bmc.solve import Engine
from verify.explore.finite import Finite
from verify.explore.solve import Explorer
from verify.prove.engine import prove
from verify.prove.obligations import Prover
from verify.scenario import Scenario
from verify.verdict import Result

SMALL = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)


class Swaps(ast.NodeTransformer):
    """if c: A else: B becomes if not c: B else: A."""

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        if node.orelse:
            node.test = ast.UnaryOp(ast.Not(), node.test)
            node.body, node.orelse = node.orelse, node.body
        return node


class Renames(ast.NodeTransformer):
    """Each local variable gets another name; what a routine is called with by name keeps its own."""

    names: dict[str, str] | None = None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if self.names is not None:
            # a function within: what it stores is its own, or renamed with what is around it
            self.generic_visit(node)
            return node
        arguments = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
        stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        inner = {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
        # of goto labels the variable's name is the notation
        self.names = {n: f"other_{n}" for n in stored - arguments - inner - {"label"}}
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = (self.names or {}).get(node.id, node.id)
        return node


class Chooses(ast.NodeTransformer):
    """x = a if c else b becomes if c: x = a else: x = b; and a condition is asked by a conditional expression."""

    def visit_Assign(self, node: ast.Assign) -> Any:
        if not isinstance(node.value, ast.IfExp):
            return node
        one, other = (ast.Assign(node.targets, v) for v in (node.value.body, node.value.orelse))
        return ast.If(node.value.test, [one], [other])

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        node.test = ast.IfExp(node.test, ast.Constant(True), ast.Constant(False))
        return node


class Unrolls(ast.NodeTransformer):
    """for x in some: body becomes the first round, and then the others."""

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        leaves = any(isinstance(n, (ast.Break, ast.Continue)) for n in ast.walk(node))
        # a loop over CPUs may take them in any order, and is left to do that
        if leaves or node.orelse or "for_each_cpu" in ast.unparse(node.iter) or "split_bulk" in ast.unparse(node):
            return node
        some = ast.Call(ast.Name("tuple", ast.Load()), [node.iter], [])
        first, rest = ast.Slice(None, ast.Constant(1)), ast.Slice(ast.Constant(1), None)
        return [
            ast.For(node.target, ast.Subscript(some, part, ast.Load()), node.body, [], lineno=0)
            for part in (first, rest)
        ]


def moved(function: ast.FunctionDef) -> list[ast.FunctionDef]:
    """The body goes into a helper, which the routine calls."""
    names = [a.arg for a in function.args.args]
    helper = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(helper, ast.FunctionDef)
    helper.name = f"_moved_{function.name}"
    call = ast.parse(f"return (yield from self.{helper.name}({', '.join(names[1:])}))").body
    doc = [function.body[0]] if ast.get_docstring(function) else []
    function.body = [*doc, *call]
    return [function, helper]


Rewrite = Callable[[ast.FunctionDef], list[ast.FunctionDef]]


def by(transformer: type[ast.NodeTransformer]) -> Rewrite:
    return lambda function: [transformer().visit(function)]


REWRITES: dict[str, Rewrite] = {
    "branches swapped": by(Swaps),
    "locals renamed": by(Renames),
    "if for a conditional expression, and back": by(Chooses),
    "loops unrolled once": by(Unrolls),
    "bodies in helpers": moved,
}


def rewritten(kernel: type[KernelText], name: str) -> type[KernelText]:
    """The kernel with every routine of its text written differently; those that say super() are left."""
    members: dict[str, Any] = {"name": kernel.name, "summary": kernel.summary, "__module__": __name__}
    changed = 0
    for owner in reversed(kernel.__mro__):
        for routine, function in vars(owner).items():
            wanted = inspect.isgeneratorfunction(function) and owner is not KernelText
            source = textwrap.dedent(inspect.getsource(function)) if wanted else ""
            if not source or "super()" in source:
                members.pop(routine, None)
                continue
            tree = ast.parse(source)
            (node,) = tree.body
            assert isinstance(node, ast.FunctionDef)
            before = ast.dump(tree)
            tree.body = list(REWRITES[name](node))
            changed += ast.dump(tree) != before
            text = ast.unparse(ast.fix_missing_locations(tree))
            file = f"<{name}: {owner.__name__}.{routine}>"
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
            namespace = dict(vars(sys.modules[function.__module__]), **function.__globals__)
            exec(compile(text, file, "exec"), namespace)
            for made in tree.body:
                assert isinstance(made, ast.FunctionDef)
                members[made.name] = namespace[made.name]
    assert changed > 3, "nothing was rewritten"
    return type(f"Rewritten_{kernel.__name__}", (kernel,), members)


def explored(kernel: type[KernelText]) -> Any:
    groups = Explorer(kernel, SMALL).search_all(list(PROPERTIES.values()))
    verdicts = [(p.name, g.verdict(p)) for g in groups for p in PROPERTIES.values() if p.name in g.names]
    return verdicts, [(g.found.states, g.dead_end) for g in groups]


QUICK = {("v5.11", "branches swapped"), ("v5.11", "bodies in helpers"), ("v5.10", "branches swapped")}
CASES = [
    pytest.param(kernel, name, marks=() if (kernel, name) in QUICK else pytest.mark.deep, id=f"{kernel}: {name}")
    for kernel in (
        *KERNELS,
        "no-force-all-cpus",
        "no-mutex",
        "enable-before-unisolate",
        "refill-not-counted",
        "no-undo",
    )
    for name in REWRITES
]


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_explore_says_the_same(kernel, name):
    made = KERNELS.get(kernel) or mutant(kernel)
    assert explored(rewritten(made, name)) == explored(made)


@pytest.mark.deep
@pytest.mark.parametrize("name", REWRITES)
def test_bmc_says_the_same(name):
    engine = Engine(rewritten(V5_11, name), Scenario(cpus=2, frees=1, allocs=0))
    results = {p.name: engine.decide(p).result for p in PROPERTIES.values()}
    assert set(results.values()) <= {Result.HOLDS, Result.NOT_APPLICABLE}, results


@pytest.mark.deep
@pytest.mark.parametrize("name", REWRITES)
def test_prove_says_the_same(name):
    prover = Prover(rewritten(V5_11, name), [PROPERTIES["no_stray_page"]])
    assert prove(prover, jobs=1).proves("no_stray_page")


class Breaks(ast.NodeTransformer):
    """A rewrite that is none: the drain is forced where it was not."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(not node.value) if type(node.value) is bool else node


def test_a_rewrite_that_changes_the_meaning_is_seen(monkeypatch):
    monkeypatch.setitem(REWRITES, "breaks", by(Breaks))
    assert explored(rewritten(V5_11, "breaks")) != explored(V5_11)
