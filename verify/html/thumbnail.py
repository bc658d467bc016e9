"""A race as a small picture without a script: a lane for each CPU, time from left to right."""

from __future__ import annotations

from html import escape
from itertools import groupby, pairwise
from typing import Any

from verify.html.view import view
from verify.tracefile import Film

#: the picture's width, the height of a lane, what stands before the lanes, and how far the first step is from that
_WIDTH, _LANE, _LEFT, _PAD = 320, 30, 40, 10
#: how much room a step takes, against one that is bookkeeping
_MAJOR = 5


def thumbnail(film: Film) -> str:
    """An SVG element: dots are steps, a square is a page that strays, the dashed line leads from what was read to its change."""
    data = view(film)
    lanes = {cpu: _LANE // 2 + i * _LANE for i, cpu in enumerate(data["lanes"])}
    xs, height = _across(data["steps"]), _LANE * len(lanes)

    def at(number: int) -> tuple[float, int]:
        return xs[number - 1], lanes[data["steps"][number - 1]["cpu"]]

    parts = [_window(xs, span, height) for span in data["spans"] if span["kind"] == "window" and span["spoken"]]
    for cpu, y in lanes.items():
        parts.append(f'<text x="0" y="{y + 4}">CPU{cpu}</text><line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}"/>')
    tasks = [t["name"] for t in data["tasks"]]
    for (task, _), run in groupby(data["steps"], key=lambda s: (s["task"], s["cpu"])):
        parts.append(_run(list(run), task, f"var(--task-{tasks.index(task) % 7})", at))
    for arrow in data["arrows"]:
        if arrow["kind"] == "missed":
            (x1, y1), (x2, y2) = at(arrow["from"]), at(arrow["to"])
            bend = (y1 + y2) / 2 if y1 != y2 else y1 - _LANE / 2
            parts.append(f'<path class="missed" d="M{x1:.1f} {y1} Q{(x1 + x2) / 2:.1f} {bend} {x2:.1f} {y2}"/>')
    said = escape(f"{data['found'] or film.prop.name} ({data['meta']})")
    return (
        f'<svg class="race" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{said}"><title>{said}</title>'
        f"{''.join(parts)}</svg>"
    )


def _across(steps: list[dict[str, Any]]) -> list[float]:
    room = [1 if s["minor"] else _MAJOR for s in steps]
    unit = (_WIDTH - _LEFT - 2 * _PAD) / max(1, sum(room) - room[0])
    found = [float(_LEFT + _PAD)]
    for _, r in pairwise(room):
        found.append(found[-1] + unit * r)
    return found


def _window(xs: list[float], span: dict[str, Any], height: int) -> str:
    # what holds at the start begins before the first step
    begin = xs[max(span["from"], 1) - 1]
    end = _WIDTH if span["to"] is None else xs[span["to"] - 1]
    return f'<rect class="window" x="{begin:.1f}" y="0" width="{end - begin:.1f}" height="{height}"/>'


def _run(steps: list[dict[str, Any]], task: str, colour: str, at: Any) -> str:
    """What a task does on a CPU until another one goes on: a line, and its name where there is room for it."""
    (first, y), (last, _) = at(steps[0]["n"]), at(steps[-1]["n"])
    made = [f'<g style="--c:{colour}"><line class="run" x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}"/>']
    if last - first > 6.2 * len(task):
        made.append(f'<text class="who" x="{first:.1f}" y="{y - 7}">{escape(task)}</text>')
    for step in steps:
        x, y = at(step["n"])
        if step["strays"]:
            made.append(f'<rect class="stray" x="{x - 3.5:.1f}" y="{y - 3.5}" width="7" height="7"/>')
        elif not step["minor"]:
            made.append(f'<circle cx="{x:.1f}" cy="{y}" r="2.6"/>')
    return "".join([*made, "</g>"])
