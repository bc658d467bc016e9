"""The overrides of a user's kernel: do they fit the routines that they replace, and did a run ever come to them?"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.text import KernelText

#: (module, class, function) of each override that was called since its file was loaded
_called_ones: set[tuple[str, str, str]] = set()


def nearest(kind: str, name: str, known: Iterable[str]) -> ModelError:
    """An error for an unknown ``name`` that suggests the nearest known one."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1, 0.4)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return ModelError(f"unknown {kind} {name!r}: {hint}")


def check_overrides(chosen: type[KernelText], path: str) -> None:
    """A misspelt routine would change nothing: refuse a public function that no kernel has and nobody calls."""
    base: Any = next(b for b in chosen.__mro__ if b.__module__.startswith("kernelmodel"))
    own = _own(chosen)
    for cls in own:
        for name, function in vars(cls).items():
            original = getattr(base, name, None)
            if inspect.isfunction(function) and inspect.isfunction(original):
                _check_signature(path, name, function, original)
    functions = {n for c in own for n, f in vars(c).items() if inspect.isfunction(f)}
    begun = {n for kind in chosen.tasks for n in kind.make.__code__.co_names}
    if not functions & (set(dir(base)) | begun):
        known = [n for n in dir(base) if not n.startswith("_")]
        for name in sorted(functions):
            raise nearest(f"routine in {path}", name, known)
        raise ModelError(f"{path}: class {chosen.__name__} overrides no routine of {base.__name__}")
    for name in sorted(functions - set(dir(base))):
        if not name.startswith("_") and name not in begun and not _called(own, name):
            close = difflib.get_close_matches(name, [n for n in dir(base) if not n.startswith("_")], 1, 0.8)
            hint = f"did you mean {close[0]}?" if close else "call it from an override, or remove it"
            raise ModelError(f"{path}: routine {name}() is in no kernel and nobody calls it: {hint}")


def _called(classes: list[type], name: str) -> bool:
    codes = [f.__code__ for c in classes for n, f in vars(c).items() if inspect.isfunction(f) and n != name]
    return any(name in code.co_names for code in codes)


def _own(kernel: type) -> list[type]:
    """The classes of a kernel that are not ours."""
    return [c for c in kernel.__mro__ if not c.__module__.startswith("kernelmodel") and c is not object]


def _check_signature(path: str, name: str, override: Any, original: Any) -> None:
    """A call that fits the original must fit the override: its callers are not the user's."""
    theirs, mine = inspect.signature(original), inspect.signature(override)
    every = list(theirs.parameters.values())
    needed = [p for p in every if p.default is p.empty]
    optional = [p.name for p in every if p.default is not p.empty]
    calls = [(len(needed), ()), (len(every), ()), *((len(needed), (n,)) for n in optional)]
    for positional, named in calls:
        try:
            mine.bind(*([None] * positional), **dict.fromkeys(named))
        except TypeError as error:
            line = override.__code__.co_firstlineno
            raise ModelError(
                f"{path}, line {line}: {name}{mine} does not fit its callers, which call {name}{theirs}: {error}"
            ) from error


def record(kernel: type[KernelText]) -> None:
    """From now on it is noted which functions of a user's kernel are called."""
    for cls in _own(kernel):
        for name, function in list(vars(cls).items()):
            if name == "__init__":
                setattr(cls, name, _guarded(function))
            elif inspect.isfunction(function) and not name.startswith("__"):
                key = (cls.__module__, cls.__qualname__, name)
                _called_ones.discard(key)
                setattr(cls, name, _recorded(function, key))


def _recorded(function: Any, key: tuple[str, str, str]) -> Any:
    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        _called_ones.add(key)
        return function(*args, **named)

    return called


def _guarded(constructor: Any) -> Any:
    @functools.wraps(constructor)
    def built(self: Any, *args: Any, **named: Any) -> None:
        try:
            constructor(self, *args, **named)
        except (ModelError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # SystemExit too: a file does not end the command that reads it
            what = f"{type(error).__name__}: {error}"
            raise ModelError(f"{type(self).__name__} cannot be made: its __init__() ends with {what}") from error

    return built


def unreached(kernel: type[KernelText]) -> list[str]:
    """The functions of a user's kernel that nobody has called since its file was loaded."""
    keys = [
        (c.__module__, c.__qualname__, n) for c in _own(kernel) for n, f in vars(c).items()
        if inspect.isfunction(f) and not n.startswith("__") and hasattr(f, "__wrapped__")
        # what a class of the same file overrides in its turn is not this kernel's
        and next(k for k in kernel.__mro__ if n in vars(k)) is c
    ]  # fmt: skip
    return sorted(name for _, _, name in (k for k in keys if k not in _called_ones))


def check_reached(kernel: type[KernelText], tasks: str, cure: str = "add a task that calls it") -> None:
    """ModelError if an override was never called: a verdict would not be about it.

    ``tasks`` says who ran, in words, and ``cure`` how others are added.
    """
    missed = unreached(kernel)
    if missed:
        routines = ", ".join(f"{n}()" for n in missed)
        raise ModelError(
            f"{kernel.name}: no task of this run ever comes to {routines}, so a verdict would say nothing of it; there are"
            f" {tasks}: {cure}, or override what this kernel calls"
        )


Ours = Mapping[tuple[str, str], tuple[Any, Any]]


def ours() -> Ours:
    """What kernelmodel's modules and classes hold, to see whether a file changes it."""
    found: dict[tuple[str, str], tuple[Any, Any]] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "kernelmodel":
            continue
        for key, value in list(vars(module).items()):
            if key.startswith("__") or key == "_decider":
                continue
            found[name, key] = (value, _content(key, value))
            if isinstance(value, type) and value.__module__ == name:
                found |= {
                    (f"{name}.{key}", n): (v, _content(n, v)) for n, v in vars(value).items() if not n.startswith("__")
                }
    return found


def _content(name: str, value: Any) -> Any:
    """Of a table of ours, what is in it: small enough to be kept by value.  Those that fill as we work change by themselves."""
    if name.startswith("_"):
        return None
    return tuple(value.items()) if type(value) is dict else tuple(value) if type(value) is list else None


def check_untouched(before: Ours, path: Any) -> None:
    """ModelError if a file has changed kernelmodel itself: its cells, its routines, anything."""
    now = ours()
    for key in sorted(now.keys() | before.keys()):
        if key not in before and key[0] in {k[0] for k in before}:
            raise ModelError(f"{path} adds {key[1]} to {key[0]}: write a class that overrides routines instead")
        if key not in before:
            continue
        same = key in now and now[key][0] is before[key][0] and _alike(now[key][1], before[key][1])
        if not same and not key[1].startswith("_"):
            cells = key[1] in ("CELLS", "MUTEXES")
            why = (
                "declare cells of your own in the class, as `cells`"
                if cells
                else ("write a class that overrides routines instead")
            )
            raise ModelError(f"{path} changes {key[0]}.{key[1]}: {why}")


def _alike(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))


def _same(a: Any, b: Any) -> bool:
    if type(a) is tuple and type(b) is tuple and len(a) == len(b) == 2:
        return a[0] == b[0] and a[1] is b[1]
    return a is b
