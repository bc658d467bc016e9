"""The search's inner loop in C: compiled once where there is a compiler, and kept in the user's cache.

The search needs no compiler: when there is none, or anything about it fails, it is done with NumPy alone.  One from the
package index will do (``pip install 'straypage[compiler]'``).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy.typing as npt

from kernelmodel.cache_folders import folders

_SOURCE = Path(__file__).with_name("native.c")
_FLAGS = ("-std=c11", "-O3", "-shared", "-fPIC")
_COMPILE_SECONDS = 60
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64


def _structure(name: str, **fields: Any) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


# the structures of native.c, field by field
TableC = _structure(
    "TableC", n_needs=_INT, needs=_POINTER, n_tasks=_INT, tasks=_POINTER, n_cpus=_INT, cpus=_POINTER,
    hashed=_INT, n_key=_INT, key=_POINTER, key_factor=_POINTER, n_away=_INT, away=_POINTER, away_factor=_POINTER,
)  # fmt: skip
MapC = _structure("MapC", mask=_INT, known=_POINTER, leaf=_POINTER)
ProgramC = _structure(
    "ProgramC", width=_INT, classes=_INT, n_tasks=_INT, column=_POINTER, base=_POINTER, number=_POINTER,
    tables=_POINTER, roots=_POINTER, nodes=_POINTER, leaves=_POINTER, outcomes=_POINTER, writes=_POINTER,
    deltas=_POINTER, away=_POINTER, lines=_POINTER,
)  # fmt: skip
SetC = _structure("SetC", mask=_INT, cells=_POINTER)
BlockC = _structure("BlockC", n=_INT, rows=_POINTER, hashes=_POINTER, table=_POINTER, alive=_POINTER)
PackingC = _structure("PackingC", words=_INT, n=_INT, parts=_POINTER)
TallyC = _structure("TallyC", next=_INT, missing=_INT, transitions=_INT, violated=_INT)

#: the classes of fingerprints that the loop has room for
MOST_CLASSES = 64


#: one that is a Python package, for any machine like this one and not for this one alone
_PACKAGE, _AS_COMPILER = "ziglang", ("cc", "-mcpu=baseline")


def compiler() -> list[str]:
    """The command of the C compiler: $CC, which is not second-guessed, or else cc, gcc, clang or a package; empty if none."""
    chosen = os.environ.get("CC")
    found = next((f for n in ([chosen] if chosen else ["cc", "gcc", "clang"]) if (f := shutil.which(n))), None)
    if found:
        return [found]
    return [] if chosen or find_spec(_PACKAGE) is None else [sys.executable, "-m", _PACKAGE, *_AS_COMPILER]


def source() -> str:
    """The text of the loop."""
    return _SOURCE.read_text()


@cache
def library() -> ctypes.CDLL | None:
    """The compiled loop; None without a compiler."""
    found = compiler()
    if not found:
        return None
    what = "\0".join((source(), *found, *_FLAGS, platform.machine(), platform.system()))
    name = f"native-{hashlib.sha256(what.encode()).hexdigest()[:16]}.so"
    for folder in folders():
        try:
            if not (folder / name).exists():
                _compile(found, folder / name)
            return _declared(ctypes.CDLL(str(folder / name)))
        except (OSError, subprocess.SubprocessError, AttributeError):
            continue
    return None


def _compile(program: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        # the package compiles a library of its own first, and leaves it lying about
        there = {f"ZIG_{which}_CACHE_DIR": str(Path(folder) / which) for which in ("GLOBAL", "LOCAL")}
        subprocess.run(
            [*program, *_FLAGS, "-o", str(made), str(_SOURCE)], check=True, capture_output=True, timeout=_COMPILE_SECONDS,
            env=os.environ | there,
        )  # fmt: skip
        made.replace(target)


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    p, i = _POINTER, _INT
    for name, result, arguments in (
        ("add", i, [p, p, i]),
        ("widen", i, [p, i]),
        ("ranges", None, [p, i, p, p]),
        ("pack", None, [p, i, p, p]),
        ("unpack", None, [p, i, p, p, p]),
        ("map", None, [p, p, i, i, p, p]),
        ("expand", None, [p, p, p, p, i, i, p, i, p]),
        ("expand_missing", None, [p, p, p, p, i, p, i, p, p]),
        ("lead", None, [p, i]),
        ("plant", None, [p, i]),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def at(array: npt.NDArray[Any]) -> int:
    """Where an array lies."""
    assert array.flags.c_contiguous
    return array.ctypes.data
