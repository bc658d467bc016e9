"""A comparison as text, as Markdown for a mail, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verify import page
from verify.compare.change import Pair, gone, new
from verify.compare.sides import Changed, Side
from verify.suite.traces import length, steps_of
from verify.verdict import Exit, Result, Verdict

SCHEMA = "straypage-comparison-1"
#: numbers of an engine's statistics that tell what its work was
_WORK = {"bmc": "events", "explore": "states", "prove": "obligations"}
#: what an exit code says of a comparison
SAID = {
    Exit.OK: "{b} violates nothing that {a} does not violate",
    Exit.VIOLATED: "{b} has a counterexample that {a} has not",
    Exit.UNDECIDED: "undecided: no new counterexample, and not everything could be decided",
    Exit.VACUOUS: "vacuous: a premise is never reached in {b}",
    Exit.DISAGREE: "a contradiction: engines disagree, or a counterexample is not confirmed",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two kernels, the functions that differ, and every verdict on both."""

    a: Side
    b: Side
    changed: tuple[Changed, ...]
    pairs: tuple[Pair, ...]
    seconds: dict[str, tuple[float, float]]
    commands: tuple[str, ...]
    problems: tuple[str, ...]
    interrupted: bool
    code: Exit

    @property
    def said(self) -> str:
        """What the exit code says."""
        return SAID[self.code].format(a=self.a.title, b=self.b.title)


def text(c: Comparison) -> str:
    """For a terminal."""
    lines = [*page.fill(_name(c.a), "A  ", "   "), *page.fill(_name(c.b), "B  ", "   "), ""]
    lines += _functions(c)
    width = tuple(max(len(s.title), len(Result.NOT_APPLICABLE.value)) + 1 for s in (c.a, c.b))
    lines += ["", f"{'':32}{c.a.title:{width[0]}}{c.b.title:{width[1]}}change"]
    for engine, pairs in _by_engine(c.pairs):
        lines += ["", f"{engine}: {_cost(c, engine, pairs)}"]
        for bound in _bounds(pairs):
            lines += page.fill(bound, "  ")
        for p in pairs:
            start = f"  {p.name:30}{_result(p.a):{width[0]}}{_result(p.b):{width[1]}}"
            fits = len(start) + len(_word(p)) <= page.width()
            lines += [start + _word(p)] if fits else [start.rstrip(), *page.fill(_word(p), " " * 6)]
    for verdict in new(c.pairs):
        lines += [
            "",
            f"new in {c.b.title}: {verdict.property}, {_how_long(verdict)}",
            "",
            verdict.trace or verdict.reason,
        ]
    lines.append("")
    for line in [*_gone_lines(c), *c.problems]:
        lines += page.fill(line, "", "  ")
    return "\n".join([*lines, f"exit {int(c.code)}: {c.said}"])


def markdown(c: Comparison) -> str:
    """For a mail or a review."""
    lines = [f"# {c.a.title} -> {c.b.title}", "", f"{_capital(c.said)}.", ""]
    if c.changed:
        lines += ["```diff", *(f.in_c for f in c.changed), "```", ""]
        lines += ["The same in the model's text:", "", "```diff", *(f.diff for f in c.changed), "```", ""]
    else:
        lines += ["No function differs.", ""]
    lines += [f"| engine | property | {c.a.title} | {c.b.title} | change |", "|---|---|---|---|---|"]
    lines += [f"| {p.engine} | {p.name} | {_result(p.a)} | {_result(p.b)} | {_word(p)} |" for p in c.pairs]
    lines.append("")
    for engine, pairs in _by_engine(c.pairs):
        lines += [f"- {engine}: {_cost(c, engine, pairs)}. Bound: {'; '.join(_bounds(pairs))}."]
    for verdict in new(c.pairs):
        lines += [
            "",
            f"New: `{verdict.property}`, {_how_long(verdict)}",
            "",
            "```",
            verdict.trace or verdict.reason,
            "```",
        ]
    lines += ["", *(f"- {line}" for line in [*_gone_lines(c), *c.problems])]
    return "\n".join(lines).rstrip() + "\n"


def as_json(c: Comparison) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "schema": SCHEMA,
        "a": {"kind": c.a.spec.kind, "name": c.a.spec.name},
        "b": {"kind": c.b.spec.kind, "name": c.b.spec.name},
        "exit": int(c.code),
        "said": c.said,
        "interrupted": c.interrupted,
        "problems": list(c.problems),
        "commands": list(c.commands),
        "changed": [{"function": f.name, "c": f.c, "diff": f.diff, "in_c": f.in_c} for f in c.changed],
        "seconds": {engine: list(times) for engine, times in c.seconds.items()},
        "new": [v.property for v in new(c.pairs)],
        "gone": [v.property for v in gone(c.pairs)],
        "properties": [
            {"engine": p.engine, "property": p.name, "change": p.change.value.lower(), "note": p.note,
             "a": p.a and p.a.as_json(), "b": p.b and p.b.as_json()}
            for p in c.pairs
        ],
    }  # fmt: skip


def _name(side: Side) -> str:
    kernel = side.kernel
    return f"{side.spec.title}: {kernel.summary}" if side.spec.kind != "variant" and kernel.summary else side.spec.title


def _functions(c: Comparison) -> list[str]:
    if c.a.is_tree is not c.b.is_tree:
        return page.fill("one is C and the other the model's text: `python -m verify.tree DIR` tells how they differ")
    if not c.changed:
        return ["no function differs"]
    names = ", ".join(f.title for f in c.changed)
    number = f"{len(c.changed)} function{'s differ' if len(c.changed) > 1 else ' differs'}"
    texts = [f.diff for f in c.changed if f.diff]
    told = [*(f.in_c for f in c.changed), *(["", "the same in the model's text:", "", *texts] if texts else [])]
    return [*page.fill(f"{number}: {names}"), "", *told]


def _by_engine(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    return [(e, [p for p in pairs if p.engine == e]) for e in dict.fromkeys(p.engine for p in pairs)]


def _bounds(pairs: Sequence[Pair]) -> list[str]:
    """The bound, once if it is the same for both."""
    a = dict.fromkeys(p.a.bound for p in pairs if p.a is not None)
    b = dict.fromkeys(p.b.bound for p in pairs if p.b is not None)
    if a == b or not a or not b:
        return list(a or b)
    return [f"A: {'; '.join(a)}", f"B: {'; '.join(b)}"]


def _cost(c: Comparison, engine: str, pairs: Sequence[Pair]) -> str:
    """What the engine took for each side: seconds, and the size of its work."""
    before, after = c.seconds.get(engine, (0.0, 0.0))
    parts = [f"{before:.1f} s -> {after:.1f} s"]
    key = _WORK[engine]
    sizes = [
        max((int(v.statistics.get(key, 0)) for v in verdicts if v is not None), default=0)
        for verdicts in ([p.a for p in pairs], [p.b for p in pairs])
    ]
    if all(sizes):
        parts.append(f"{sizes[0]:,} -> {sizes[1]:,} {key}" if sizes[0] != sizes[1] else f"{sizes[0]:,} {key}")
    return ", ".join(parts)


def _result(verdict: Verdict | None) -> str:
    return "-" if verdict is None else verdict.result.value


def _word(pair: Pair) -> str:
    return f"{pair.change.value} ({pair.note})" if pair.note else pair.change.value


def _how_long(verdict: Verdict) -> str:
    return f"{verdict.engine}, {length(verdict)}" if steps_of(verdict) else verdict.engine


def _gone_lines(c: Comparison) -> list[str]:
    return [f"gone: {v.property}, {v.found or v.reason} ({_how_long(v)})" for v in gone(c.pairs)]


def _capital(sentence: str) -> str:
    return sentence if "." in sentence.split(" ")[0] else sentence[:1].upper() + sentence[1:]
