"""The two kernels that are compared, and the functions in which their texts differ."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS, is_kernel
from kernelmodel.text import KernelText, c_location, c_name
from kernelmodel.variants.overrides import nearest
from kernelmodel.versions.later_mutants import EVERY
from verify.compare.in_c import in_c
from verify.tracefile import KernelSpec


@dataclass(frozen=True)
class Side:
    """One of the two: ``letter`` is A or B."""

    letter: str
    spec: KernelSpec

    @cached_property
    def kernel(self) -> type[KernelText]:
        """The kernel's class; ModelError if it cannot be had."""
        return self.spec.load()

    @property
    def is_tree(self) -> bool:
        """Whether its text is C."""
        return TreeSpec.is_one(self.spec.name)

    @property
    def title(self) -> str:
        """The name in a table's head: as given, a file without its folder."""
        if self.is_tree:
            return self.spec.title
        return Path(self.spec.name).name if self.spec.kind == "variant" else self.spec.name


def side(letter: str, text: str) -> Side:
    """The kernel that a word names: a version, a mutant, or a file with a variant."""
    if is_kernel(text):
        kind = "kernel"
    elif text in EVERY:
        kind = "mutant"
    elif TreeSpec.is_one(text) or text.endswith(".py") or ".py:" in text:
        kind = "variant"
    else:
        error = nearest("kernel, mutant or FILE.py", text, (*KERNELS, *EVERY))
        raise (
            ModelError(f"{letter}: {error}")
            if "there are" not in str(error)
            else ModelError(
                f"{letter}: {text!r} is no kernel ({', '.join(KERNELS)}), no mutant (`python -m verify bmc --list` names them) "
                "and no FILE.py"
            )
        )
    made = Side(letter, KernelSpec(kind, text))
    try:
        _ = made.kernel
    except ModelError as error:
        raise ModelError(f"{letter}: {error}") from error
    return made


@dataclass(frozen=True, slots=True)
class Changed:
    """A function that differs: its name in the model and in C, and the difference of its text, in C's syntax and as it is."""

    name: str
    c: str
    diff: str
    in_c: str

    @property
    def title(self) -> str:
        """The C name, with the model's own where that is another."""
        return f"{self.c}()" if self.c == self.name else f"{self.c}() [{self.name}]"


def changed(a: Side, b: Side) -> list[Changed]:
    """The functions of the kernels' text that are not the same, in the order of the newer text."""
    if a.is_tree or b.is_tree:
        return _changed_in_c(a, b) if a.is_tree and b.is_tree else []
    one, other = functions(a.kernel), functions(b.kernel)
    found = []
    for name in dict.fromkeys([*other, *one]):
        old, new = source(one.get(name)), source(other.get(name))
        if meaning(old) != meaning(new):
            owner = b.kernel if name in other else a.kernel
            title = c_location(owner, name)
            as_c = [in_c(side.kernel, text) if text else [] for side, text in ((a, old), (b, new))]
            found.append(
                Changed(
                    name, c_name(owner, name), difference(f"{name}()", (a.title, old), (b.title, new)),
                    difference(title, (a.title, as_c[0]), (b.title, as_c[1])),
                )
            )  # fmt: skip
    return found


def _changed_in_c(a: Side, b: Side) -> list[Changed]:
    """The C functions that are read, or summed up, and are not the same in two trees."""
    one, other = (s.kernel.reading.functions() for s in (a, b))  # type: ignore[attr-defined]
    found = []
    for name in dict.fromkeys([*other, *one]):
        texts = [f[name].original.splitlines() if name in f else [] for f in (one, other)]
        if name not in one or name not in other or one[name].fingerprint != other[name].fingerprint:
            file = (other.get(name) or one[name]).file
            found.append(
                Changed(name, name, "", difference(f"{file}:{name}()", (a.title, texts[0]), (b.title, texts[1])))
            )
    return found


def functions(kernel: type[KernelText]) -> dict[str, Callable[..., Any]]:
    """The functions that a kernel's tasks run, by name; the base class's constructor is no part of the text."""
    found: dict[str, Callable[..., Any]] = {}
    for owner in reversed(kernel.__mro__):
        for name, member in vars(owner).items():
            if inspect.isfunction(member) and name != "__init__":
                found[name] = member
    return found


def source(function: Callable[..., Any] | None) -> list[str]:
    """The text of a function, line by line; empty if there is none."""
    if function is None:
        return []
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ModelError(f"the text of {function.__qualname__}() cannot be read: {error}") from error
    return [line.rstrip() for line in text.strip().splitlines()]


def meaning(lines: list[str]) -> str:
    """A function's text without what does nothing: comments, docstrings, annotations."""
    tree = ast.parse("\n".join(lines))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(tree)


def difference(name: str, old: tuple[str, list[str]], new: tuple[str, list[str]]) -> str:
    """A unified diff of one function's text."""
    lines = difflib.unified_diff(old[1], new[1], f"{old[0]}: {name}", f"{new[0]}: {name}", n=3, lineterm="")
    return "\n".join(lines)
