"""The page: template, style and script put together around the data, so that one file is all there is."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from kernelmodel.errors import ModelError
from verify.html.view import view
from verify.replay.show import as_columns
from verify.trace import MismatchError
from verify.tracefile import Film, TraceFile, parse, play

#: how wide the columns are, whoever writes the page and where
_COLUMNS = 100


def render(trace: TraceFile | Film | Mapping[str, Any]) -> str:
    """The page for a trace, for the JSON document of one (both are run to see their states), or for one that has been run."""
    if isinstance(trace, Film):
        film = trace
    else:
        film = _played(trace if isinstance(trace, TraceFile) else parse(trace))
    if not film.steps:
        raise ModelError("a page shows steps over time, and this trace has none")
    data = view(film)
    found = data["found"] or f"{film.prop.name} is not violated"
    prop, broken = film.prop, film.violation is not None
    columns = as_columns(film, width=_COLUMNS)
    return filled(Page(found, broken, film.kernel.name, prop.name, prop.statement, columns, data))


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says: the finding, the kernel and the property, the columns, and the data that the script shows."""

    found: str
    violated: bool
    kernel: str
    property: str
    statement: str
    columns: str
    data: dict[str, Any]


def filled(page: Page) -> str:
    """The page as one file."""
    pieces = {
        "title": html.escape(f"{page.found} ({page.kernel})"),
        "found": html.escape(page.found),
        "verdict": "violated" if page.violated else "not violated",
        "verdict_class": "bad" if page.violated else "good",
        "kernel": html.escape(page.kernel),
        "property": html.escape(page.property),
        "statement": html.escape(page.statement),
        "meta": html.escape(page.data["meta"]),
        "start": html.escape(page.data["start"]),
        "columns": html.escape(page.columns),
        "style": _asset("style.css"),
        "script": _asset("geometry.js") + _asset("panel.js") + _asset("page.js"),
        "data": embedded(page.data),
    }
    text = _asset("page.html")
    # one pass, so that what is put in is never looked at again
    head, *rest = text.split("<!--@")
    parts = [head]
    for piece in rest:
        name, _, tail = piece.partition("@-->")
        parts += [pieces[name], tail]
    return "".join(parts)


def embedded(data: object) -> str:
    """JSON that can stand inside a script element whatever text is in it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _played(trace: TraceFile) -> Film:
    try:
        return play(trace)
    except MismatchError as error:
        raise ModelError(f"the trace does not fit {trace.kernel.title}: {error}") from error


def _asset(name: str) -> str:
    return files("verify.html").joinpath("assets", name).read_text(encoding="utf-8")
