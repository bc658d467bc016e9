"""A systematic run as text for a terminal and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from verify.mutants.judge import KILLED, REFUSED, SAME, SURVIVES, UNREACHED, Record
from verify.mutants.reviewed import EQUIVALENT, Reason, reason_of

_HEAD = f"{'mutant':48} {'':12} {'by':8} {'property':30} {'steps':>5}"


def open_(record: Record, known: Mapping[str, Reason]) -> bool:
    """Whether the mutant survives and nobody has written why."""
    return record.status in (SURVIVES, UNREACHED) and reason_of(record, known) is None


def heading() -> str:
    """The head of the table."""
    return f"{_HEAD}\n{'-' * len(_HEAD)}"


def line(record: Record, known: Mapping[str, Reason]) -> str:
    """One mutant; where it is not killed, its change and what is known of it below."""
    steps = "" if record.steps is None else str(record.steps)
    text = f"{record.name:48} {record.status:12} {record.by:8} {record.breaks:30} {steps:>5}".rstrip()
    if record.status in (KILLED, SAME, REFUSED):
        return text
    more = [*record.diff.splitlines(), *([record.why] if record.why else [])]
    reason = reason_of(record, known)
    if reason is not None:
        more.append(f"reviewed, {reason.verdict}: {reason.reason}")
    return "\n".join([text, *(f"    {m}" for m in more)])


def counts(records: Sequence[Record], known: Mapping[str, Reason]) -> dict[str, int]:
    """How many of each outcome; survivors with a reason apart."""
    found: Counter[str] = Counter()
    for r in records:
        reason = reason_of(r, known)
        if reason is not None:
            found[f"reviewed: {reason.verdict}" + (", not reached" if r.status == UNREACHED else "")] += 1
        else:
            found[r.status] += 1
    return dict(sorted(found.items()))


def summary(records: Sequence[Record], known: Mapping[str, Reason]) -> str:
    """The score."""
    of = ", ".join(f"{n} {what}" for what, n in counts(records, known).items())
    left = sum(open_(r, known) for r in records)
    return f"\n{len(records)} mutants: {of or 'none'}\n{left} survive without a written reason"


def markdown(kernel: str, engines: Sequence[str], records: Sequence[Record], known: Mapping[str, Reason]) -> str:
    """The run as a page: the score, what kills how many, and each that is not killed.  It has no times."""
    asked = " ".join(f"--engine {e}" for e in engines)
    lines = [
        f"# One-line mutants of {kernel}", "",
        f"Written by `python -m verify.mutants --systematic --kernel {kernel} {asked} --markdown FILE`.",
        "A mutant is one change in one routine of the kernel's whole text. *Same graph*: every task's control graph is that",
        "of the original, so no verdict can differ. *Not reached*: no task of the engines comes to the routine. *Refused*:",
        "the changed text is none (a name without a value, an operation that cannot be). A survivor has a reason that",
        "somebody wrote for this very text (`verify/mutants/reviewed.toml`), or it is listed as open: the mutant is",
        "equivalent, or it is a gap, which no property or no task of the engines sees yet.", "",
        "| outcome | mutants |", "|---|---|",
    ]  # fmt: skip
    lines += [f"| {what} | {n} |" for what, n in counts(records, known).items()]
    lines += [
        f"| all | {len(records)} |",
        "",
        "## What kills how many",
        "",
        "| property | engine | mutants |",
        "|---|---|---|",
    ]
    killers = Counter((r.breaks, r.by) for r in records if r.status == KILLED)
    lines += [f"| {p} | {e} | {n} |" for (p, e), n in sorted(killers.items())]
    for title, wanted in (
        ("Open", [r for r in records if open_(r, known)]),
        ("Reviewed", [r for r in records if reason_of(r, known) is not None and r.status == SURVIVES]),
        ("Undecided, or worse", [r for r in records if r.status not in (KILLED, SAME, REFUSED, SURVIVES, UNREACHED)]),
    ):
        lines += ["", f"## {title}", ""]
        for r in wanted:
            change = " / ".join(f"`{x}`" for x in r.diff.splitlines())
            reason = reason_of(r, known)
            kind = "" if reason is None else f" ({'equivalent' if reason.verdict == EQUIVALENT else 'a gap'})"
            said = reason.reason if reason is not None else r.why
            lines.append(f"- `{r.name}`{kind}: {change}{f'. {said}' if said else ''}")
        if not wanted:
            lines.append("None.")
    away = Counter(
        r.name.partition("/")[0] for r in records if r.status == UNREACHED and reason_of(r, known) is not None
    )
    lines += ["", "## Routines that no task of the engines comes to", ""]
    lines += [f"- `{name}()`, {n} mutants: {known[name].reason}" for name, n in sorted(away.items()) if name in known]
    return "\n".join(lines) + "\n"
