"""What came of holding a trace against the text of its era, for people: what fits, where it stops, and what that looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from verify import page
from verify.observe.conform import Conformance, Misfit
from verify.observe.events import Event
from verify.observe.show import said
from verify.scenario import count
from verify.verdict import Result

#: the steps before a misfit that are shown
_SHOWN = 8


def result(found: Conformance) -> Result:
    """Violated where the kernel left out what the text does; undecided where it may be the text that is wrong."""
    if found.fits:
        return Result.HOLDS
    if found.others or found.doubt or any(m.skipped is None and not m.other_values for m in found.misfits):
        return Result.UNDECIDED
    return Result.VIOLATED


def lines(found: Conformance, broken: list[str]) -> Iterator[str]:
    """The result, and the first misfit; ``broken`` are properties that the trace violates."""
    reason = (
        f"{count(found.offlinings, 'offlining')}, {count(found.steps, 'recorded step')}, each one that the text allows"
    )
    if found.repeated:
        reason += (
            f" ({count(found.repeated, 'further update')} of the limits after zone_pcp_enable(), which it does once)"
        )
    if not found.fits:
        reason = f"{len(found.misfits)} of {count(found.offlinings, 'offlining')} leave the text"
        if found.together:
            reason += f"; {count(len(found.together), 'time')} two were at work on one pcplist"
    elif found.sections:
        reason += f"; {count(found.sections, 'time')} somebody worked on a pcplist, never two on one at once"
    start = f"  {'does as the text of ' + found.era:29} {result(found).value:9} "
    yield page.paragraph(reason, start, " " * 42).rstrip()
    for first, second in found.together[:1]:
        words = (
            f"line {first.line}: {first.task}: {_words(first)}, and before that returns, line {second.line}: {second.task}: "
            f"{_words(second)} on the same CPU and zone; in the text both are in the critical section of the pcplist"
        )
        yield page.paragraph(words, "    ", "      ")
        if found.doubt:
            yield page.paragraph(f"this looks like a gap in the recording: {found.doubt}", "    ", "      ")
    if found.misfits:
        yield ""
        for text in _misfit(found, found.misfits[0], broken):
            yield page.paragraph(text, "    ", "      ")
        yield ""


def _misfit(found: Conformance, misfit: Misfit, broken: list[str]) -> Iterator[str]:
    left = len(misfit.fitting) - _SHOWN
    if left > 0:
        yield f"{count(left, 'step')} that fit, and then"
    for event in misfit.fitting[-_SHOWN:]:
        yield f"line {event.line}: {_words(event)}"
    yield f"line {misfit.event.line}: {_words(misfit.event)}   <= the text does not do this here"
    yield f"the text goes on with {' or '.join(map(str, misfit.allowed)) or 'nothing: it has returned'}"
    if misfit.skipped is None and not misfit.other_values:
        yield "from there on it never does this"
    elif misfit.skipped and not misfit.other_values:
        yield f"before this it does {', '.join(map(str, misfit.skipped))}"
    yield f"this looks like {looks_like(found, misfit, broken)}"


def looks_like(found: Conformance, misfit: Misfit, broken: list[str]) -> str:
    """Whether the kernel or our text of it is to be looked at, and why."""
    if found.others:
        return f"another kernel than its name says, or a backport: the text of {' and of '.join(found.others)} allows all of it"
    if found.doubt:
        return f"a gap in the recording: {found.doubt}"
    if misfit.skipped is None and not misfit.other_values:
        return f"our text of {found.era}: it has no such step; see kernelmodel/versions/"
    also = f"; and {', '.join(broken)} {'is' if len(broken) == 1 else 'are'} violated" if broken else ""
    what = "does with other values" if misfit.other_values else "left out"
    return f"the kernel: it {what} what its version does{also}"


def _words(event: Event) -> str:
    statement, comment = said(event)
    return "  ".join(x for x in (statement, f"/* {comment} */" if comment else "") if x)


def as_json(found: Conformance) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "text": found.era, "result": result(found).value, "offlinings": found.offlinings, "steps": found.steps,
        "sections": found.sections, "two_in_one_section": [[a.line, b.line] for a, b in found.together],
        "other_texts_that_fit": list(found.others),
        "misfits": [
            {"line": m.event.line, "event": m.event.name, "allowed": list(map(str, m.allowed)),
             "left_out": None if m.skipped is None else list(map(str, m.skipped))}
            for m in found.misfits
        ],
    }  # fmt: skip
