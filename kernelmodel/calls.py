"""Where a routine stands in its calls: their names in C, and the line of C, if it was read from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernelmodel.ops import Routine
from kernelmodel.text import KernelText, c_name


def c_place(routine: Routine) -> tuple[str, int, str] | None:
    """File, line and function where the innermost routine that was read from C stands; None if there is none."""
    return _c_place(_frames(routine))


def _frames(routine: Any) -> list[Any]:
    """The frames that a routine is in, outermost first."""
    found: list[Any] = []
    generator = routine
    while generator is not None and (frame := getattr(generator, "gi_frame", None)) is not None:
        found.append(frame)
        generator = generator.gi_yieldfrom
    return found


def _c_place(frames: Sequence[Any]) -> tuple[str, int, str] | None:
    found = None
    for frame in frames:
        code = frame.f_code
        if code.co_filename.endswith((".c", ".h")) and code.co_consts and isinstance(code.co_consts[0], str):
            file, _, function = code.co_consts[0].partition(": ")
            found = (file, frame.f_lineno, function.removesuffix("()"))
    return found


def _helps(kernel: type[KernelText], frame: Any) -> bool:
    """Whether a frame is of a function of ours that is no routine of the kernel."""
    ours = str(frame.f_globals.get("__name__", "")).startswith("kernelmodel.")
    return ours and not hasattr(kernel, frame.f_code.co_name)


def call_stack(kernel: type[KernelText], routine: Routine) -> tuple[str, ...]:
    """The C names of the calls that ``routine`` is in, outermost first."""
    return _known_stack(kernel, _frames(routine))[0]


def call_place(kernel: type[KernelText], routine: Routine) -> tuple[tuple[str, ...], tuple[str, int, str] | None]:
    """What :func:`call_stack` and :func:`c_place` say."""
    frames = _frames(routine)
    stack, in_c = _known_stack(kernel, frames)
    return stack, _c_place(frames) if in_c else None


def _known_stack(kernel: type[KernelText], frames: Sequence[Any]) -> tuple[tuple[str, ...], bool]:
    key = (kernel, *[f.f_code for f in frames])
    found = _stacks.get(key)
    if found is None:
        if len(_stacks) >= _MOST_STACKS:
            _stacks.clear()
        found = _stacks[key] = _called(kernel, frames), _c_place(frames) is not None
    return found


#: the calls that frames of some routines are, and whether one was read from C, for a step asks for them each time
_stacks: dict[tuple[Any, ...], tuple[tuple[str, ...], bool]] = {}
_MOST_STACKS = 4096


def _called(kernel: type[KernelText], frames: Sequence[Any]) -> tuple[str, ...]:
    names: list[str] = []
    for frame in frames:
        name = frame.f_code.co_name
        found = c_name(kernel, name)
        # of names with an underscore, those of C functions that have two: the others are helpers of the text's own
        shown = (not name.startswith("_") or found != name) and not _helps(kernel, frame)
        # a routine split into helpers is one call: C's __f() and the part of f() that it shares with it
        if shown and (not names or names[-1].lstrip("_") != found.lstrip("_")):
            names.append(found)
    return tuple(names)
