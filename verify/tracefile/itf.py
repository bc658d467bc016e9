"""Apalache's Informal Trace Format: the abstract cells after each step, for the readers of other model checkers.

The format: https://apalache-mc.org/docs/adr/015adr-trace.html.  A cell with one index becomes a function of it, with
several a function of the tuple; a dot in its name becomes an underscore.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernelmodel.terms import Cell
from verify.tracefile.film import Film, Frame

#: what the last step was, beside the cells
STEP_VARS = ("step_task", "step_cpu", "step_operation")


def itf(film: Film) -> dict[str, Any]:
    """The run as an ITF document."""
    names = sorted({_name(c) for c in film.frames[0].cells})
    violation = film.violation
    return {
        "#meta": {
            "format": "ITF",
            "format-description": "https://apalache-mc.org/docs/adr/015adr-trace.html",
            "description": f"straypage: {film.prop.name} of {film.kernel.name}",
            "violation": "" if violation is None else violation.found,
        },
        "params": [],
        "vars": [*STEP_VARS, *names],
        "states": [_state(f) for f in film.frames],
    }


def _state(frame: Frame) -> dict[str, Any]:
    step = frame.step
    record: dict[str, Any] = {
        "#meta": {"index": frame.number},
        "step_task": "" if step is None else step.task,
        "step_cpu": _value(-1 if step is None else step.cpu),
        "step_operation": "" if step is None else step.text,
    }
    by_name: dict[str, list[tuple[Cell, int]]] = {}
    for cell, v in frame.cells.items():
        by_name.setdefault(_name(cell), []).append((cell, v))
    for name in sorted(by_name):
        entries = by_name[name]
        if entries[0][0].index:
            record[name] = {"#map": [[_key(c.index), _value(v)] for c, v in entries]}
        else:
            record[name] = _value(entries[0][1])
    return record


def _name(cell: Cell) -> str:
    return cell.name.replace(".", "_")


def _key(index: Iterable[int | str]) -> Any:
    parts = [i if isinstance(i, str) else _value(i) for i in index]
    return parts[0] if len(parts) == 1 else {"#tup": parts}


def _value(number: int) -> Any:
    return number if isinstance(number, bool) else {"#bigint": str(number)}
