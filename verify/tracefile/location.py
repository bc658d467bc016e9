"""Where in the C a step is: file and function, and which of its loops where it has several."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from pathlib import Path
from types import CodeType
from typing import Any

from kernelmodel.calls import c_place
from kernelmodel.ops import Routine
from kernelmodel.text import KernelText, c_file, c_location, c_name


def location(kernel: type[KernelText], routine: Routine) -> str:
    """Where the innermost C function of a routine stands: ``mm/page_alloc.c:drain_all_pages(), in the loop of flush_work()``.

    Where that is a user's text its own line follows; where it is C, that is the line: ``mm/page_alloc.c:3230: count = …``.
    """
    frame: Any = None
    generator: Any = routine
    while (here := getattr(generator, "gi_frame", None)) is not None:
        if frame is None or c_file(kernel, here.f_code.co_name):
            frame = here
        generator = generator.gi_yieldfrom
    if frame is None:
        return ""
    code, line = frame.f_code, frame.f_lineno
    if (place := c_place(routine)) is not None:
        file, at, function = place
        inner = c_name(kernel, code.co_name)
        within = "" if inner == function else f" in {inner}()"
        return f"{file}:{at}: {kernel.line_of(file, at)}{within}"
    own = "" if _ours(code) else f" ({Path(code.co_filename).name}:{line})"
    return c_location(kernel, code.co_name) + _loop(kernel, code, line) + own


def _ours(code: CodeType) -> bool:
    return Path(inspect.getfile(KernelText)).parent in Path(code.co_filename).parents


def _loop(kernel: type[KernelText], code: CodeType, line: int) -> str:
    loops = _loops(code)
    for first, last, called in loops if len(loops) > 1 else ():
        if first <= line <= last and called:
            return f", in the loop of {c_name(kernel, called)}()"
    return ""


@functools.lru_cache(maxsize=256)
def _loops(code: CodeType) -> tuple[tuple[int, int, str], ...]:
    """First and last line of each outermost loop of a function, and the last routine that it calls; none if not readable."""
    try:
        lines, first = inspect.getsourcelines(code)
        (function,) = ast.parse(textwrap.dedent("".join(lines))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return ()
    found: list[tuple[int, int, str]] = []
    queue: list[ast.AST] = list(ast.iter_child_nodes(function))
    while queue:
        node = queue.pop(0)
        if isinstance(node, (ast.For, ast.While)):
            calls = [c.func for c in ast.walk(node) if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute)]
            called = [f.attr for f in calls if isinstance(f.value, ast.Name) and f.value.id == "self"]
            last = node.end_lineno or node.lineno
            found.append((node.lineno + first - 1, last + first - 1, called[-1] if called else ""))
        else:
            queue += ast.iter_child_nodes(node)
    return tuple(sorted(found))
