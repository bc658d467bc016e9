"""JUnit XML: one test case for each engine and property, and for each mutant; only what was computed is a pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from verify.suite.results import ENGINES, Results, title
from verify.suite.results import MUTANTS as MATRIX
from verify.verdict import Exit, Result, Verdict

#: what XML 1.0 cannot hold
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Results, wanted: Mapping[str, Iterable[str]]) -> str:
    """The document; ``wanted`` names for each engine the properties that were asked for, decided or not."""
    root = ET.Element("testsuites", name="straypage")
    for engine in (e for e in ENGINES if e in wanted):
        suite = ET.SubElement(root, "testsuite", name=engine)
        decided = {v.property: v for v in results.of(engine)}
        for name in dict.fromkeys([*wanted[engine], *decided]):
            _case(suite, engine, name, decided.get(name), results)
    if MATRIX in wanted:
        suite = ET.SubElement(root, "testsuite", name=MATRIX)
        rows = {row["mutant"]: row for row in results.rows}
        for name in wanted[MATRIX]:
            _mutant(suite, name, rows.get(name))
    for element in [*root, root]:
        cases = list(element.iter("testcase"))
        counts = {"tests": len(cases), **{f"{k}s": len(list(element.iter(k))) for k in ("failure", "error")}}
        counts["skipped"] = len(list(element.iter("skipped")))
        for key, number in counts.items():
            element.set(key, str(number))
        element.set("time", f"{sum(float(c.get('time', '0')) for c in cases):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, engine: str, name: str, verdict: Verdict | None, results: Results) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"{_dotless(title(results.spec))}.{engine}", name=name)
    if verdict is None:
        why = next((a.why for a in results.answers if a.job.group == engine and a.why), "not decided")
        _note(case, "error", "not decided", why)
        return
    case.set("time", f"{verdict.seconds:.3f}")
    said = verdict.found or verdict.reason or verdict.result.value
    if verdict.exit_code is Exit.DISAGREE:
        _note(case, "failure", "contradiction", said, verdict.trace)
    elif verdict.result is Result.VIOLATED:
        _note(case, "failure", "violated", said, verdict.trace)
    elif verdict.result is Result.VACUOUS:
        _note(case, "failure", "vacuous", said)
    elif verdict.result is Result.UNDECIDED:
        _note(case, "error", "undecided", said)
    elif verdict.result is Result.NOT_APPLICABLE:
        _note(case, "skipped", "", said)
    if verdict.result in (Result.HOLDS, Result.PROVED):
        ET.SubElement(case, "system-out").text = _printable(f"{verdict.result.value}; bound: {verdict.bound}")


def _mutant(suite: ET.Element, name: str, row: Mapping[str, Any] | None) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"mutants.{MUTANTS[name].breaks}", name=name)
    if row is None:
        _note(case, "error", "not decided", "not decided")
        return
    case.set("time", f"{sum(k['seconds'] for k in row['kills']):.3f}")
    undecided = [k for k in row["kills"] if k["killed"] is None and k.get("judges", True)]
    if row["survives"]:
        _note(case, "failure", "survives", f"no engine breaks {row['expected']}")
    elif row["expected"] == EQUIVALENT and (row["killed"] or row["breaks"]):
        _note(case, "failure", "killed", f"should be equivalent, and breaks {', '.join(row['breaks']) or 'a property'}")
    elif row["undecided"] or undecided:
        _note(case, "error", "undecided", row["undecided"] or f"{undecided[0]['engine']}: {undecided[0]['note']}")


def _note(case: ET.Element, tag: str, kind: str, message: str, text: str = "") -> None:
    element = ET.SubElement(case, tag, {"message": _printable(message), **({"type": kind} if kind else {})})
    element.text = _printable(text) or None


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)


def _dotless(name: str) -> str:
    """A dot in a class name is taken for a package's."""
    return name.replace(".", "_").replace(" ", "_")
