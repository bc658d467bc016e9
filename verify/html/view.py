"""What the page shows, as plain data: steps, spans, arrows, the pages that stray, and the state after each step."""

from __future__ import annotations

from typing import Any

from kernelmodel.cells import CELLS
from kernelmodel.mmzone import MigrateType
from kernelmodel.terms import Cell, atoms
from verify.columns import comment, statements
from verify.html.relations import arrows, spans
from verify.replay.show import moves
from verify.tracefile import Film, Frame
from verify.tracefile.picture import PLACES, Picture
from verify.tracefile.words import GLOSSARY, cell_name, cell_value, dull, explain, worth_reading, worth_writing


def view(film: Film) -> dict[str, Any]:
    """The data of the page."""
    violation = film.violation
    stray = stray_pages(film)
    kinds = {t.name: t.kind.name for t in film.trace.scenario.tasks()}
    scenario = film.trace.scenario
    return {
        "found": "" if violation is None else violation.found,
        "violatedAt": None if violation is None else violation.step,
        "meta": f"{scenario.cpus} CPUs, {len(film.steps)} steps; found by {film.trace.engine}, {film.trace.memory_model}",
        "start": start_words(film),
        "lanes": sorted({s.cpu for s in film.steps}),
        "tasks": [{"name": n, "kind": kinds.get(n, "task")} for n in dict.fromkeys(s.task for s in film.steps)],
        "steps": [_step(film, f, stray) for f in film.frames[1:]],
        "spans": spans(film),
        "arrows": arrows(film),
        "stray": sorted(stray),
        "types": [t.name for t in MigrateType],
        "places": {letter: word for word, letter in PLACES.items()},
        "states": _states(film),
        "glossary": dict(GLOSSARY),
    }


def start_words(film: Film) -> str:
    """The start in one sentence."""
    start, acting = film.trace.start, {s.task for s in film.steps}
    lists = [f"{n} of block {b} on CPU{c}'s {MigrateType(t).name} list" for c, t, b, n in start.lists if n]
    frees = [f"{name} frees a page of block {b}" for name, b in start.block_of.items() if name in acting]
    first = f"At the start: high {start.limits[0]}, batch {start.limits[1]}"
    return "; ".join([first, *(lists or ["pcplists empty"]), *frees]) + "."


def stray_pages(film: Film) -> set[int]:
    """The pages of which the broken property speaks: those on the lists that its violation counts, or that moved."""
    violation = film.violation
    if violation is None:
        return set()
    frame = film.frames[violation.step]
    check = violation.check
    found: set[int] = set()
    cells = set() if check is None else {a.args[0] for a in atoms(check.violation, "cell")}
    # a property of isolated blocks speaks of their pages only
    windows = [c.name for c in cells if CELLS[c.name].window and "block" in CELLS[c.name].axes]
    for cell in cells:
        if CELLS[cell.name].where != "pcplist" or (check and check.cpu is not None and cell.index[1] != check.cpu):
            continue
        _, cpu, migratetype, block = (int(i) for i in cell.index)
        if windows and not any(frame.cells.get(Cell(name, (block,))) for name in windows):
            continue
        shown = frame.picture.blocks[block]
        last = shown.first + len(shown.places)
        found |= {p for p in frame.picture.cpus[cpu].lists[migratetype] if shown.first <= p < last}
    if not found and frame.step is not None and frame.step.op.does.takes and frame.step.op.told.value == "block":
        found = _moved(film.frames[frame.number - 1].picture, frame.picture)
    return found


def _moved(before: Picture, after: Picture) -> set[int]:
    old = before.where()
    return {page for page, place in after.where().items() if old[page] != place}


def _step(film: Film, frame: Frame, stray: set[int]) -> dict[str, Any]:
    step = frame.step
    assert step is not None
    before = film.frames[frame.number - 1]
    strays = sorted(_moved(before.picture, frame.picture) & stray)
    places = frame.picture.where()
    last = film.violation is not None and frame.number == film.violation.step
    return {
        "n": frame.number, "cpu": step.cpu, "task": step.task, "calls": list(step.stack), "text": step.text,
        "values": comment(step), "lines": [list(line) for line in statements(step)],
        "tag": step.tag, "pc": frame.pc, "explain": explain(step),
        "minor": dull(step, frame.access, film) and not last and not strays,
        "reads": [
            [cell_name(c), cell_value(film, c, v), _writer(film, frame.number, c), _overwritten(film, frame.number, c)]
            for c, v in worth_reading(frame)
        ],
        "writes": [
            [cell_name(c), cell_value(film, c, before.cells[c]), cell_value(film, c, v)]
            for c, v in worth_writing(frame)
            if before.cells[c] != v
        ],
        "moves": moves(before.picture, frame.picture),
        "strays": [[p, places[p]] for p in strays],
    }  # fmt: skip


def _writer(film: Film, number: int, cell: Cell) -> int:
    """The last step before that wrote the cell; 0 for none."""
    return next((f.number for f in reversed(film.frames[1:number]) if cell in f.access.writes), 0)


def _overwritten(film: Film, number: int, cell: Cell) -> int:
    """The next step that gives the cell another value; 0 for none."""
    return next((f.number for f in film.frames[number + 1 :] if f.cells[cell] != film.frames[number].cells[cell]), 0)


def _states(film: Film) -> list[dict[str, Any]]:
    """The state after each step, as groups; each state has only the groups that differ from the state before."""
    made: list[dict[str, Any]] = []
    last: dict[str, Any] = {}
    for frame in film.frames:
        groups = _groups(frame.picture)
        made.append({key: value for key, value in groups.items() if last.get(key) != value})
        last = groups
    return made


def _groups(picture: Picture) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for c in picture.cpus:
        groups[f"cpu{c.cpu}"] = {
            "online": c.online, "irq": c.irqs_off_by, "high": c.high, "batch": c.batch, "count": c.count,
            "lists": [list(pages) for pages in c.lists], "work": c.work,
        }  # fmt: skip
    for b in picture.blocks:
        groups[f"block{b.block}"] = {
            "type": b.migratetype, "isolated": b.isolated, "first": b.first, "places": b.places
        }  # fmt: skip
    groups["buddy"] = [[t, order, list(heads)] for t, order, heads in picture.buddy]
    groups["locks"] = [[name, holder] for name, holder in picture.locks]
    groups["zone"] = {"high": picture.limits[0], "batch": picture.limits[1], "disabledBy": picture.disabled_by}
    return groups
