"""What of a kernel's text a routine can come to: each attribute of the kernel whose name stands in code that it can come to.

Two kernels in which all of that is the same run the routine in the same way, whatever else tells them apart.  An attribute
counts as soon as some code says its name, as a name or as a text, of whatever it says it there; and with each definition
that the kernel's bases have of it, for ``super()`` comes to the later ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import is_
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from kernelmodel.text import KernelText

#: what tells a reader which kernel it is: no routine asks for it
DESCRIBES = frozenset(("name", "summary", "source", "given", "breaks", "line_of"))
#: what begins each run, whatever the routine
BEGINS = ("__init__", "for_each_cpu")

#: the definitions of an attribute, first to last, each with the class that has it
Definitions = list[tuple[type, Any]]


@dataclass(slots=True)
class Reach:
    """What a routine can come to; ``attributes`` are the kernel's, by name, and ``mro`` are the kernel and its bases."""

    mro: tuple[type, ...] = ()
    attributes: dict[str, Definitions] = field(default_factory=dict)
    functions: dict[int, FunctionType] = field(default_factory=dict)

    @property
    def owners(self) -> list[type]:
        """The classes that have these attributes, in the order in which ``super()`` goes through them."""
        having = {kind for found in self.attributes.values() for kind, _ in found}
        return [kind for kind in self.mro if kind in having]

    @property
    def is_ours(self) -> bool:
        """Whether all of it is straypage's."""
        return all(map(is_ours, self.owners)) and all(map(is_ours, self.functions.values()))

    def parts(self) -> Iterator[object]:
        """Names and objects: a routine that comes to the same ones runs in the same way."""
        yield from self.owners
        for name, found in sorted(self.attributes.items()):
            yield name
            yield from (value for _, value in found)
        yield from self.functions.values()
        yield from (f.__code__ for f in self.functions.values())


def reach(kernel: type[KernelText], begin: Callable[..., Any]) -> Reach:
    """What ``begin(kernel, ...)`` can come to; found again only where somebody has put something into a class since."""
    now = [x for kind in kernel.__mro__ for item in vars(kind).items() for x in item]
    before, found = _found.get((kernel, begin), ([], None))
    if found is None or len(now) != len(before) or not all(map(is_, now, before)):
        found = _Search(kernel, begin).found
        if len(_found) > _MOST:
            _found.clear()
        _found[kernel, begin] = now, found
    return found


#: what was found, with what there was in the kernel's classes then
_found: dict[tuple[type, Callable[..., Any]], tuple[list[object], Reach]] = {}
_MOST = 1000


def is_ours(thing: type | FunctionType) -> bool:
    """Whether a class or function is of straypage's kernel text, or of Python."""
    module = thing.__module__ or ""
    if module.partition(".")[0] in ("kernelmodel", "builtins"):
        return True
    # a user's file has no module of such a name
    return module in sys.stdlib_module_names


class _Search:
    def __init__(self, kernel: type[KernelText], begin: Callable[..., Any]) -> None:
        self.found = Reach(kernel.__mro__)
        self.todo: list[FunctionType] = []
        self.defined: dict[str, Definitions] = {}
        for kind in kernel.__mro__:
            if kind is not object:
                for name, value in vars(kind).items():
                    self.defined.setdefault(name, []).append((kind, value))
        self._take(begin)
        for name in (*BEGINS, *(n for n, found in self.defined.items() if _is_called_by_python(n, found))):
            self._attribute(name)
        while self.todo:
            self._follow(self.todo.pop())

    def _take(self, value: Any) -> None:
        for function in functions_in(value):
            if id(function) not in self.found.functions:
                self.found.functions[id(function)] = function
                self.todo.append(function)

    def _attribute(self, name: str) -> None:
        if name not in self.found.attributes and name not in DESCRIBES:
            self.found.attributes[name] = self.defined[name]
            for _, value in self.defined[name]:
                self._take(value)

    def _follow(self, function: FunctionType) -> None:
        words = words_of(function.__code__)
        for name in sorted(words & self.defined.keys()):
            self._attribute(name)
        for name in sorted(words & function.__globals__.keys()):
            self._other(function.__globals__[name], words)
        self._take((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            with suppress(ValueError):
                self._other(cell.cell_contents, words)

    def _other(self, value: Any, words: frozenset[str]) -> None:
        """Something that code names, or closes over, and what of it the code may mean."""
        self._take(value)
        if isinstance(value, ModuleType):
            for name in sorted(words & vars(value).keys()):
                self._take(vars(value)[name])
        elif not isinstance(value, FunctionType):
            for base in (value if isinstance(value, type) else type(value)).__mro__:
                for name in sorted(words & vars(base).keys()):
                    self._take(vars(base)[name])


def _is_called_by_python(name: str, found: Definitions) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return special and any(True for _, value in found for _ in functions_in(value))


def functions_in(value: Any) -> Iterator[FunctionType]:
    """The functions that something is made of."""
    if isinstance(value, FunctionType):
        yield value
    else:
        for part in _inside(value):
            yield from functions_in(part)


def _inside(value: Any) -> Iterable[object]:
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, property):
        return tuple(f for f in (value.fget, value.fset, value.fdel) if f)
    if type(value) in (tuple, list, set, frozenset):
        return tuple(value)
    if isinstance(value, Mapping):
        return tuple(value.values())
    return ()


@lru_cache(maxsize=20_000)
def words_of(code: CodeType) -> frozenset[str]:
    """The names in some code, its own among them, and the texts in it that could be names."""
    found = {code.co_name, *code.co_names}
    for const in code.co_consts:
        found |= words_of(const) if isinstance(const, CodeType) else set(_texts(const))
    return frozenset(found)


def _texts(const: object) -> Iterator[str]:
    if isinstance(const, str):
        if const.isidentifier():
            yield const
    elif isinstance(const, (tuple, frozenset)):
        for part in const:
            yield from _texts(part)
