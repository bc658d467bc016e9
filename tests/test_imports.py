"""Which package may import which: the house's layers, read from the source, never from what happens to be loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = ("kernelmodel", "properties", "verify", "benchmarks", "tests")
#: package -> modules that it must not import
FORBIDDEN = {
    "kernelmodel": ("z3", "numpy", "hypothesis", "rich", "crosshair", "properties", "verify", "benchmarks", "tests"),
    "properties": ("z3", "numpy", "rich", "verify", "benchmarks", "tests"),
    "verify": ("benchmarks", "tests"),
    "benchmarks": ("tests",),
}


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, for every module of our packages below ``root``."""
    found = {}
    for package in OURS:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(file: Path, name: str, known: set[str]) -> Iterator[tuple[int, str]]:
    """(line, module) of each import of a file, those inside functions too, those under TYPE_CHECKING not."""
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
            continue
        todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".")[: -node.level] if file.name != "__init__.py" else name.split(".")
                base = ".".join([*package, *filter(None, [node.module])])
            submodules = [f"{base}.{a.name}" for a in node.names if f"{base}.{a.name}" in known]
            # ``from package import submodule`` needs the submodule; anything else needs what is named
            named = len(submodules) < len(node.names)
            yield from ((node.lineno, m) for m in (*submodules, *([base] if named else [])))


def violations(root: Path) -> list[str]:
    """One line for each import that crosses the layers the wrong way."""
    files = modules(root)
    found = []
    for name, file in files.items():
        package = name.split(".")[0]
        for line, target in imported(file, name, set(files)):
            if target.split(".")[0] in FORBIDDEN.get(package, ()):
                found.append(f"{file.relative_to(root)}:{line}: {package} must not import {target}")
    return found


def cycle(root: Path) -> list[str]:
    """The modules of one cycle of imports, first and last the same; empty if there is none."""
    files = modules(root)
    graph = {n: sorted({m for _, m in imported(f, n, set(files)) if m in files and m != n}) for n, f in files.items()}
    state: dict[str, str] = {}

    def visit(name: str, path: list[str]) -> list[str]:
        if state.get(name) == "open":
            return [*path[path.index(name) :], name]
        if state.get(name) == "closed":
            return []
        state[name] = "open"
        for target in graph[name]:
            if found := visit(target, [*path, name]):
                return found
        state[name] = "closed"
        return []

    return next((found for name in graph if (found := visit(name, []))), [])


def plant(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


def test_the_layers_are_kept() -> None:
    assert violations(ROOT) == []


def test_no_module_imports_itself_through_others() -> None:
    assert cycle(ROOT) == []


def test_every_package_was_looked_at() -> None:
    names = modules(ROOT)
    assert {"kernelmodel", "kernelmodel.machine", "properties", "verify", "verify.bmc.encode"} <= set(names)
    machine = {m for _, m in imported(names["kernelmodel.machine"], "kernelmodel.machine", set(names))}
    assert {"kernelmodel.memory.state", "kernelmodel.terms"} <= machine


def test_an_import_against_the_layers_is_caught(tmp_path: Path) -> None:
    plant(
        tmp_path,
        kernelmodel__bad="import os\nimport z3.z3util\n",
        kernelmodel__hidden="def f():\n    from hypothesis import given\n",
        kernelmodel__up="from properties import catalogue\n",
        properties__bad="from hypothesis import given\nfrom verify.smt import translate\nimport numpy as np\n",
        verify__bad="import z3\nfrom tests.test_x import helper\n",
    )
    assert sorted(violations(tmp_path)) == [
        "kernelmodel/bad.py:2: kernelmodel must not import z3.z3util",
        "kernelmodel/hidden.py:2: kernelmodel must not import hypothesis",
        "kernelmodel/up.py:1: kernelmodel must not import properties",
        "properties/bad.py:2: properties must not import verify.smt",
        "properties/bad.py:3: properties must not import numpy",
        "verify/bad.py:2: verify must not import tests.test_x",
    ]


def test_an_import_for_type_checkers_only_is_allowed(tmp_path: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import z3\n    from kernelmodel.b import B\n"
    plant(tmp_path, kernelmodel__a=text, kernelmodel__b="from kernelmodel import a\n")
    assert violations(tmp_path) == []
    assert cycle(tmp_path) == []


def test_a_cycle_is_caught_also_when_an_import_hides_in_a_function_or_is_relative(tmp_path: Path) -> None:
    plant(
        tmp_path,
        kernelmodel__a="from kernelmodel import b\n",
        kernelmodel__b="from .c import thing\n",
        kernelmodel__c="def f():\n    import kernelmodel.a\n",
    )
    assert cycle(tmp_path) == ["kernelmodel.a", "kernelmodel.b", "kernelmodel.c", "kernelmodel.a"]
