"""The collection as a table for a terminal, and as Markdown for docs/museum.md, which has no times so that it stays the same."""

from __future__ import annotations

from collections.abc import Sequence

from kernelmodel.museum.collection import EXHIBITS, Exhibit
from verify.museum.tour import Row, finite, scenario, typed
from verify.page import paragraph
from verify.verdict import Result, Verdict

#: the texts, by what becomes of them
_TEXTS = ("faulty", "mended")


def line(row: Row) -> str:
    """One exhibit as a few lines of text, with what is wrong below it."""
    exhibit = EXHIBITS[row.name]
    text = f"{row.name} ({exhibit.when})"
    if exhibit.missing:
        return f"{text}\n{wrapped(f'not expressed: the model lacks {exhibit.missing}')}"
    text += f": {exhibit.prop}"
    for of in _TEXTS:
        verdicts = row.faulty if of == "faulty" else row.mended
        if verdicts:
            text += f"\n    {of:8} {_name(exhibit, of):38} {_engines(verdicts)}"
    if row.missed:
        text += "\n    NOT FOUND, and should be"
    if row.broken:
        text += "\n    VIOLATED, and should hold"
    return text


def wrapped(sentence: str) -> str:
    """A sentence below an exhibit."""
    return paragraph(sentence, "    ")


def _name(exhibit: Exhibit, of: str) -> str:
    kernel = exhibit.faulty if of == "faulty" else exhibit.mended
    assert kernel is not None
    return kernel.name


def _engines(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(f"{v.engine} {_result(v)}" for v in verdicts)


def _side(exhibit: Exhibit, verdicts: Sequence[Verdict], of: str) -> str:
    if not verdicts:
        return "right as proposed" if of == "faulty" else "no mend"
    return f"{_name(exhibit, of)}: {_engines(verdicts)}"


def _result(verdict: Verdict) -> str:
    if verdict.result is Result.VIOLATED and verdict.engine == "explore":
        return f"{verdict.statistics['steps']} steps"
    return verdict.result.value


def summary(rows: Sequence[Row]) -> str:
    """What came of all."""
    shown = [r for r in rows if not EXHIBITS[r.name].missing]
    bugs = [r for r in shown if r.faulty]
    mends = [r for r in shown if r.mended]
    parts = [
        f"{sum(not r.missed for r in bugs)} of {len(bugs)} bugs found and replayed",
        f"{sum(not r.broken and not r.undecided for r in mends)} of {len(mends)} mends and designs hold",
    ]
    if len(shown) < len(rows):
        parts.append(f"{len(rows) - len(shown)} not expressed")
    return f"\n{'; '.join(parts)}"


def markdown(rows: Sequence[Row]) -> str:
    """docs/museum.md."""
    parts = [
        "# The museum\n\n"
        "Real bugs of the guarantee, and designs that were proposed for it: each as a faulty text and a mended one, in\n"
        "`kernelmodel/museum/` where it is no version of its own. `python -m verify.museum` runs all of them: each bug must be\n"
        "found in the faulty text and each mend must hold. This page is written by\n"
        "`python -m verify.museum --markdown docs/museum.md`.\n",
        "| exhibit | property | faulty | mended |\n|---|---|---|---|\n" + "\n".join(map(_row, rows)) + "\n",
        "Every `holds` is bounded: by the machine that is given with each exhibit, with every interleaving; what is more is in\n"
        "[engines.md](engines.md), and what holds for any number of CPUs in [proof.md](proof.md).\n",
    ]
    return "\n".join((*parts, *map(_room, rows)))


def _row(row: Row) -> str:
    exhibit = EXHIBITS[row.name]
    if exhibit.missing:
        return f"| [{row.name}](#{row.name}) | | not expressed | |"
    faulty, mended = (_side(exhibit, v, of) for v, of in ((row.faulty, "faulty"), (row.mended, "mended")))
    return f"| [{row.name}](#{row.name.replace('.', '')}) | {exhibit.prop} | {faulty} | {mended} |"


def _room(row: Row) -> str:
    exhibit = EXHIBITS[row.name]
    lines = [f"## {row.name}", "", f"{exhibit.when}. {exhibit.what}", ""]
    if exhibit.missing:
        return "\n".join([*lines, f"Not expressed: the model lacks {exhibit.missing}.", ""])
    lines += [f"    {typed(exhibit)}", ""]
    for title, kernel in (("Faulty", exhibit.faulty), ("Mended", exhibit.mended)):
        if kernel is not None:
            lines += [f"{title}: `{kernel.name}`, {kernel.summary}.", ""]
    lines += [f"Machine: {_machine(exhibit)}.", ""]
    for verdict in row.faulty[:1]:
        lines += ["```", verdict.trace.strip("\n"), "```", ""]
    return "\n".join(lines)


def _machine(exhibit: Exhibit) -> str:
    bound, small = scenario(exhibit), finite(exhibit)
    return f"{bound.cpus} CPUs, {small.pages} pages, {bound.tasks_in_words(absent=False)}; high {small.high}, batch {small.batch}"
