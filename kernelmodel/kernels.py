"""Finding a kernel by name: the versions, the mutants, and a user's own variant from a file."""

from __future__ import annotations

import inspect
from pathlib import Path

from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.museum.collection import TEXTS
from kernelmodel.tasks import declare_tasks
from kernelmodel.text import KernelText, has_routine
from kernelmodel.variants.booting import check_boots
from kernelmodel.variants.labels import check_labels
from kernelmodel.variants.loading import load
from kernelmodel.variants.overrides import check_overrides, nearest, record
from kernelmodel.versions.base import Base
from kernelmodel.versions.later_mutants import EVERY
from kernelmodel.versions.mutants import build
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v5_11 import V5_11
from kernelmodel.versions.v5_14 import V5_14
from kernelmodel.versions.v5_15 import V5_15
from kernelmodel.versions.v6_0 import V6_0
from kernelmodel.versions.v6_1 import V6_1
from kernelmodel.versions.v6_2 import V6_2
from kernelmodel.versions.v6_8 import V6_8
from kernelmodel.versions.v6_10 import V6_10
from kernelmodel.versions.v6_11 import V6_11
from kernelmodel.versions.v6_15 import V6_15

KERNELS: dict[str, type[KernelText]] = {
    k.name: k for k in (V5_10, Base, V5_11, V5_14, V5_15, V6_0, V6_1, V6_2, V6_8, V6_10, V6_11, V6_15)
}


#: the newest one
NEWEST = V6_11


def kernel(name: str) -> type[KernelText]:
    """The kernel version of that name, or the text of that name in the museum."""
    if not is_kernel(name):
        raise nearest("kernel", name, KERNELS)
    found = KERNELS.get(name) or TEXTS[name]
    declare_tasks(found.tasks)
    return found


def is_kernel(name: str) -> bool:
    """Whether there is a kernel of that name."""
    return name in KERNELS or name in TEXTS


def mutant(name: str) -> type[KernelText]:
    """The kernel class of the mutant of that name."""
    if name not in EVERY:
        raise nearest("mutant", name, EVERY)
    found = build(EVERY[name])
    declare_tasks(found.tasks)
    return found


def variant(spec: str) -> type[KernelText]:
    """The kernel class in a user's file, ``FILE.py`` or ``FILE.py:Name``, or either with ``@KERNEL``.

    The class overrides routines of a kernel (``class Mine(V5_11)``); a class with no kernel among its bases is put
    before ``KERNEL``, or v5.11.  ``tree:PATH`` is the C of a kernel's source (:mod:`kernelmodel.ctext`).  Errors name the
    file, the line and the cause.
    """
    if TreeSpec.is_one(spec):
        # its import takes a while, and most commands are given none
        from kernelmodel.ctext.kernel import kernel_from

        return kernel_from(spec)
    source = spec
    file, at, named = spec.rpartition("@")
    base, wanted_base = (kernel(named), True) if at and ".py" in file else (V5_11, False)
    spec = file if wanted_base else spec
    path, separator, wanted = spec.rpartition(":")
    if not separator or not path.endswith(".py"):
        path, wanted = spec, ""
    module = load(Path(path))
    found = {
        n: c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__
    }  # fmt: skip
    kernels = {n: c for n, c in found.items() if issubclass(c, KernelText)}
    if wanted:
        if wanted not in found:
            raise nearest(f"variant in {path}", wanted, found) if found else ModelError(f"{path} defines no class")
        chosen = found[wanted]
    elif len(kernels or found) == 1:
        chosen = next(iter((kernels or found).values()))
    else:
        names = ", ".join(kernels or found)
        raise ModelError(
            f"{path} defines {len(kernels or found)} classes{f' ({names})' if names else ''}: "
            f"write one class that overrides routines of V5_11, or choose with {path}:NAME"
        )
    made: type[KernelText]
    if issubclass(chosen, KernelText):
        if wanted_base:
            raise ModelError(
                f"{path}: {chosen.__name__} is derived from {chosen.__mro__[1].__name__}, and so a change of that kernel:"
                " leave --kernel out, or derive it from nothing"
            )
        made = chosen
    else:
        _check_has(base, chosen, path)
        made = type(chosen.__name__, (chosen, base), {"__module__": chosen.__module__})
    check_overrides(made, path)
    check_labels(made)
    record(made)
    if "name" not in vars(made):
        made.name = f"{Path(path).name}:{made.__name__}" + (f" on {base.name}" if wanted_base else "")
    made.source = source
    check_boots(made)
    declare_tasks(made.tasks)
    return made


def _check_has(base: type[KernelText], chosen: type, path: str) -> None:
    """ModelError if a change is of a routine that its kernel does not have, and another one does."""
    for name, function in vars(chosen).items():
        if inspect.isfunction(function) and not has_routine(base, name):
            others = [k for k, text in KERNELS.items() if has_routine(text, name)]
            if others:
                raise ModelError(
                    f"{path}, line {function.__code__.co_firstlineno}: {base.name} has no routine {name}(), of which this is"
                    f" a change: choose one of {', '.join(others)} with --kernel"
                )
