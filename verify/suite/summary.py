"""The summary page of a run: one file with no script, links to the counterexamples beside it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from kernelmodel.versions.mutants import EQUIVALENT
from properties.catalogue import PROPERTIES, find
from verify.suite.results import ENGINES, Results, title, told
from verify.suite.traces import Gallery, Written, length
from verify.verdict import Exit, Result, Verdict

#: what the page says of a run, by exit code: the pill, and its class
_PILLS = {
    Exit.OK: ("as expected", "good"),
    Exit.VIOLATED: ("violated", "bad"),
    Exit.UNDECIDED: ("undecided", "open"),
    Exit.VACUOUS: ("vacuous", "open"),
    Exit.DISAGREE: ("contradiction", "bad"),
    Exit.CRASHED: ("crashed", "bad"),
}


_LEGEND = (
    'In a picture time runs from left to right: <span class="swatch stray">■</span> is a page that strays, the shaded part '
    "is where the promise must hold, and a dashed line leads from what was read to the change that came too late for it."
)


def page(results: Results, gallery: Gallery, commands: Sequence[str], versions: Mapping[str, Any], when: str) -> str:
    """The page's text; ``gallery`` tells where the counterexamples lie, in a folder beside the page."""
    name = escape(title(results.spec))
    pill, kind = _PILLS[results.code]
    sections = [_properties(results, gallery), _bounds(results), _mutants(results, gallery), _made(commands, versions)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{name}: {escape(pill)}</title>
<style>{_style()}</style>
</head>
<body>
<header class="top">
  <p class="eyebrow"><span class="pill {kind}">{escape(pill)}</span> <strong>{name}</strong></p>
  <h1>{escape(_headline(results))}</h1>
  <p class="statement">{escape(_sentence(results))}</p>
  <p class="meta quiet">{escape(when)}</p>
  {"".join(f'<p class="trouble">{escape(t)}</p>' for t in _troubles(results, gallery))}
</header>
<main>
{"".join(s for s in sections if s)}
</main>
</body>
</html>
"""


def _style() -> str:
    # the colours, the type and the dark scheme are those of the timelines
    return "".join(
        files(package).joinpath("assets", name).read_text(encoding="utf-8")
        for package, name in (("verify.html", "style.css"), ("verify.suite", "summary.css"))
    )


def _headline(results: Results) -> str:
    broken = results.broken()
    if broken:
        return f"{len(broken)} {'property is' if len(broken) == 1 else 'properties are'} violated"
    if results.interrupted:
        return "Interrupted: what was decided is below"
    return {
        Exit.OK: "No property is violated" if results.verdicts else "Everything is as expected",
        Exit.UNDECIDED: "Not everything could be decided",
        Exit.VACUOUS: "A premise is never reached",
        Exit.CRASHED: "A part of the run crashed",
    }.get(results.code, "The engines contradict each other or what is recorded")


def _sentence(results: Results) -> str:
    parts = []
    for engine in ENGINES:
        found = results.of(engine)
        if found:
            parts.append(f"{engine}: {told(Counter(v.result.value for v in found))}")
    if results.rows:
        mortal = [r for r in results.rows if r["expected"] != EQUIVALENT]
        parts.append(f"mutants: {sum(r['killed'] for r in mortal)} of {len(mortal)} killed")
    return "; ".join(parts) + "." if parts else "Nothing was decided."


def _troubles(results: Results, gallery: Gallery) -> list[str]:
    interrupted = ["Interrupted: the engines kept what they had decided."] if results.interrupted else []
    return [*interrupted, *results.failures(), *results.problems, *gallery.problems]


def _properties(results: Results, gallery: Gallery) -> str:
    if not results.verdicts:
        return ""
    engines = [e for e in ENGINES if results.of(e)]
    table = {(v.engine, v.property): v for v in results.verdicts}
    names = dict.fromkeys([*PROPERTIES, *(v.property for v in results.verdicts)])
    rows = []
    for name in names:
        if not any((e, name) in table for e in engines):
            continue
        says = find(name).statement
        cells = "".join(f'<td data-of="{e}">{_cell(table.get((e, name)), gallery)}</td>' for e in engines)
        rows.append(
            f'<tr><th scope="row"><code>{escape(name)}</code><span class="say">{_prose(says)}.</span></th>{cells}</tr>'
        )
    return f"""<h2>Properties</h2>
<p>Each verdict counts within its engine's bound, below; a counterexample was run again on the concrete model.</p>
{_head("", ("property", *engines))}<tbody>{"".join(rows)}</tbody></table>
"""


def _head(kind: str, titles: Sequence[str]) -> str:
    """A table up to its first row."""
    cells = "".join(f'<th scope="col">{escape(t)}</th>' for t in titles)
    return f'<table class="{kind}"><thead><tr>{cells}</tr></thead>'


def _prose(text: str) -> str:
    """Text in which a member of a structure is not torn from its structure."""
    return re.sub(r"\w+-&gt;\w+", r'<span class="one">\g<0></span>', escape(text))


def _cell(verdict: Verdict | None, gallery: Gallery) -> str:
    if verdict is None:
        return '<span class="r none">not asked</span>'
    word, kind = verdict.result.value, verdict.result.value
    if verdict.exit_code is Exit.DISAGREE:
        kind = "contradiction"
        doubt = "not confirmed" if verdict.replayed is False else "and recorded otherwise"
        word = f"{word}, {'and a run of the text violates it' if verdict.contradicted else doubt}"
    if verdict.result is Result.NOT_APPLICABLE:
        kind = "none"
    took = f' <span class="t">{verdict.seconds:.1f} s</span>' if verdict.seconds else ""
    said = f'<span><span class="r {kind}">{escape(word)}</span>{took}</span>'
    if verdict.result in (Result.UNDECIDED, Result.VACUOUS):
        said += f'<span class="say">{escape(verdict.reason.split("; ")[0])}</span>'
    return said + _link(gallery.find(verdict), verdict.found)


def _link(written: Written | None, found: str) -> str:
    if written is None or written.problem:
        return ""
    target = escape(f"traces/{written.stem}")
    return (
        f'<a class="picture" href="{target}.html">{written.picture}</a>'
        f'<span class="go"><a href="{target}.html">{escape(found)}</a></span>'
        f'<span class="t">{escape(written.length)}; <a href="{target}.txt">columns</a>, <a href="{target}.json">trace</a>'
        "</span>"
    )


def _bounds(results: Results) -> str:
    bounds = dict.fromkeys((v.engine, v.bound) for v in results.verdicts)
    if not bounds:
        return ""
    items = "".join(f"<dt>{escape(e)}</dt><dd>{escape(b)}.</dd>" for e, b in bounds)
    return f'<h2>Bounds</h2><dl class="bounds">{items}</dl>\n'


def _mutants(results: Results, gallery: Gallery) -> str:
    rows = []
    shown = {row["mutant"]: row for row in results.rows}
    columns = ("kernel", "breaks", "found by", "shortest race")[: 4 if results.races else 3]
    for name in dict.fromkeys([*results.races, *shown]):
        row, race = shown.get(name), results.races.get(name)
        what = row["summary"] if row else ("the kernel before the patch" if name == "base" else "")
        breaks = row["expected"] if row else (race.property if race else "")
        rows.append(
            f'<tr><th scope="row"><code>{escape(name)}</code><span class="say">{_prose(what)}</span></th>'
            f'<td data-of="breaks"><code>{escape(breaks)}</code></td>'
            f'<td data-of="found by">{_kills(row)}</td>{_race(race, gallery) if results.races else ""}</tr>'
        )
    if not rows:
        return ""
    return f"""<h2>What goes wrong without it</h2>
<p>A mutant is a kernel with one function changed. The engines have to find what it breaks; a control has to stay equivalent.
{_LEGEND if results.races else ""}</p>
{_head("wide", columns)}<tbody>{"".join(rows)}</tbody></table>
"""


def _kills(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    control = row["expected"] == EQUIVALENT
    if row["survives"]:
        return '<span class="r survives">survives, and should not</span>'
    if control:
        killed = row["killed"] or row["breaks"]
        return f'<span class="r {"contradiction" if killed else "equivalent"}">{"killed" if killed else "equivalent"}</span>'
    marks = []
    for kill in row["kills"]:
        word = {True: "", False: ": no", None: ": undecided"}[kill["killed"]]
        kind = {True: "killed", False: "none", None: "undecided"}[kill["killed"]]
        took = f'<span class="t">{kill["seconds"]:.1f} s</span>'
        marks.append(f'<span class="go"><span class="r {kind}">{escape(kill["engine"] + word)}</span> {took}</span>')
    return " ".join(marks)


def _race(race: Verdict | None, gallery: Gallery) -> str:
    if race is None:
        said = '<span class="r none">not asked</span>'
    elif written := gallery.find(race):
        said = _link(written, race.found)
    else:
        said = f"<span>{escape(race.result.value)}, {escape(length(race))}</span>"
    return f'<td data-of="race">{said}</td>'


def _made(commands: Sequence[str], versions: Mapping[str, Any]) -> str:
    lines = "\n".join(commands)
    beside = ", ".join(
        f'<a href="{name}">{name}</a>' for name in ("commands.txt", "versions.json", "verdicts.json", "junit.xml")
    )
    return f"""<h2>How this was made</h2>
<p>Beside this page: {beside}; what each engine printed is in <code>engines/</code>.</p>
<details><summary>{len(commands)} commands</summary><pre tabindex="0">{escape(lines)}</pre></details>
<details><summary>Versions</summary><pre tabindex="0">{escape(json.dumps(versions, indent=2))}</pre></details>
"""
