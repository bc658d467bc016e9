"""What a graph follows from, as text that is the same in every process: sources, the live code of a kernel, and a key."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

from kernelmodel.graphs.reach import Reach
from kernelmodel.terms import Term

#: beside each other wherever straypage is: what tasks are, and how an engine asks for their graphs, is in `verify`
PACKAGES = ("kernelmodel", "properties", "verify")


class UnknownError(Exception):
    """Something that may be another in the next process, for all that is known of it."""


@cache
def sources(root: Path | None = None) -> str:
    """A digest of straypage's own text, and of the Python that runs it."""
    root = root or Path(__file__).parents[2]
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(f for name in PACKAGES for f in (root / name).rglob("*.py")):
        text = file.read_bytes()
        digest.update(f"{file.relative_to(root)} {len(text)}\0".encode())
        digest.update(text)
    return digest.hexdigest()


def of(reach: Reach, key: Any) -> str:
    """A digest of what a routine can come to as it is now, whoever has put what into which class, and of a key.

    UnknownError where either has something in it that cannot be told from another.
    """
    text = [said(key), [_name(kind) for kind in reach.owners]]
    for name, found in sorted(reach.attributes.items()):
        text.append([name, [[*_name(kind), of_value(value)] for kind, value in found]])
    text.append(sorted(of_value(f) for f in reach.functions.values()))
    return hashlib.sha256(repr(text).encode()).hexdigest()


#: by its address a value, which is kept here, and the digest of what is said of it
_digests: dict[int, tuple[Any, str]] = {}


def of_value(value: Any) -> str:
    """A digest of a value, the same in every process; UnknownError where it cannot be told from another."""
    known = _digests.get(id(value))
    if known is None:
        known = _digests[id(value)] = value, hashlib.sha256(repr(said(value)).encode()).hexdigest()
    return known[1]


def said(value: Any) -> Any:
    """A value as nested lists of text and numbers: equal ones for equal values, in every process; else UnknownError."""
    if value is None or (isinstance(value, (bool, int, str, float, bytes)) and not isinstance(value, Enum)):
        return [type(value).__name__, repr(value)]
    if isinstance(value, Enum):
        return ["enum", *_name(type(value)), value.name]
    if isinstance(value, Term):
        return ["term", value.op, value.sort, [said(a) for a in value.args]]
    if isinstance(value, (list, tuple)):
        return [*_name(type(value)), [said(v) for v in value]]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted((said(v) for v in value), key=repr)]
    if isinstance(value, Mapping):
        return ["mapping", sorted(([said(k), said(v)] for k, v in value.items()), key=repr)]
    if isinstance(value, range):
        return ["range", repr(value)]
    if isinstance(value, type):
        return ["class", *_name(value)]
    if is_dataclass(value):
        return ["data", *_name(type(value)), [[f.name, said(getattr(value, f.name))] for f in fields(value)]]
    if isinstance(value, (FunctionType, MethodType, CodeType, partial, staticmethod, classmethod, property)):
        return ["code", list(_code(value))]
    raise UnknownError(f"{type(value).__name__} {value!r}")


def _name(kind: type) -> list[str]:
    return [kind.__module__, kind.__qualname__]


def _code(value: Any) -> Iterator[Any]:
    if isinstance(value, CodeType):
        yield value.co_code.hex()
        yield [value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_flags]
        yield [said(c) for c in value.co_consts]
    elif isinstance(value, FunctionType):
        yield [value.__module__, value.__qualname__]
        yield from _code(value.__code__)
        yield said(value.__defaults__)
        yield said(value.__kwdefaults__)
        yield [said(c.cell_contents) for c in value.__closure__ or ()]
        yield said({n: v for n, v in vars(value).items() if n != "__wrapped__"})
    elif isinstance(value, (staticmethod, classmethod)):
        yield said(value.__func__)
    elif isinstance(value, MethodType):
        yield [said(value.__func__), said(value.__self__)]
    elif isinstance(value, property):
        yield [said(f) for f in (value.fget, value.fset, value.fdel) if f]
    else:
        yield [said(value.func), said(value.args), said(value.keywords)]
