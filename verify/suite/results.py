"""What the engines said, put together: verdicts, the kill matrix, contradictions between engines, one exit code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from verify.scenario import Scenario
from verify.suite.jobs import Answer
from verify.tracefile import KernelSpec
from verify.tracefile.load import VERDICTS
from verify.verdict import Exit, Result, Verdict

#: the engines that decide properties, in the order in which they are shown
ENGINES = ("bmc", "explore", "prove")
#: groups of jobs beside the engines: the kill matrix, and a counterexample of each mutant
MUTANTS, RACES = "mutants", "races"


def told(counts: Mapping[str, int]) -> str:
    """How many of which result, in words: "9 hold, 2 violated"."""
    return ", ".join(f"{n} {'hold' if r == 'holds' and n > 1 else r}" for r, n in counts.items() if n)


def title(spec: KernelSpec) -> str:
    """The kernel's name in a heading: a file without its folder."""
    return Path(spec.name).name if spec.kind == "variant" else spec.title


def verdict_of(record: Mapping[str, Any]) -> Verdict:
    """The verdict that ``Verdict.as_json`` wrote."""
    known = {f.name for f in fields(Verdict)}
    values = {k: v for k, v in record.items() if k in known}
    expected = values.get("expected")
    values |= {"result": Result(values["result"]), "expected": None if expected is None else Result(expected)}
    values |= {name: tuple(values.get(name, ())) for name in ("schedule", "given")}
    return Verdict(**values)


def verdicts_of(answer: Answer) -> list[Verdict]:
    """The verdicts of one engine's answer, each with the scenario in which its trace can be replayed."""
    record = answer.record or {}
    found = []
    for entry in record.get("verdicts", []):
        # prove looks for its traces in bmc's own bound, and names none
        scenario = entry.get("scenario") or record.get("scenario") or Scenario().numbers()
        found.append(verdict_of({**entry, "scenario": scenario}))
    return found


def contradictions(verdicts: Iterable[Verdict]) -> list[str]:
    """What cannot be as it was said, in words: engines at odds, an unconfirmed trace, something else than is recorded."""
    every = list(verdicts)
    proved = {(v.kernel, v.property) for v in every if v.result is Result.PROVED}
    found = []
    for v in every:
        who = f"{v.property} of {v.kernel}"
        if v.replayed is False:
            found.append(f"{who}: the concrete model does not confirm the counterexample of {v.engine}")
        elif v.contradicted:
            found.append(f"{who}: {v.engine} says {v.result.value}, and a run of the text itself violates it")
        elif v.result is Result.VIOLATED and (v.kernel, v.property) in proved:
            found.append(f"{who}: prove says proved, {v.engine} has a counterexample")
        elif v.exit_code is Exit.DISAGREE and v.expected is not None:
            found.append(f"{who}: {v.engine} says {v.result.value}, recorded is {v.expected.value}")
    return found


@dataclass(slots=True)
class Results:
    """A finished run."""

    spec: KernelSpec
    answers: list[Answer]
    verdicts: list[Verdict]
    races: dict[str, Verdict] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def code(self) -> Exit:
        """The worst of the engines, as verify.options.EXIT_CODES has them."""
        codes = [_race_code(a) if a.job.group == RACES else a.code for a in self.answers]
        if self.interrupted:
            codes.append(Exit.UNDECIDED)
        if self.problems:
            codes.append(Exit.DISAGREE)
        return max(codes, default=Exit.UNDECIDED)

    def of(self, engine: str) -> list[Verdict]:
        """The verdicts of one engine."""
        return [v for v in self.verdicts if v.engine == engine]

    def broken(self) -> list[str]:
        """The properties that some engine breaks."""
        return list(dict.fromkeys(v.property for v in self.verdicts if v.result is Result.VIOLATED))

    def failures(self) -> list[str]:
        """Engines that did not come to their end, and why; jobs of one kind together."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for a in self.answers:
            if a.why:
                kinds.setdefault((a.job.group, a.why), []).append(a.job.name)
        return [f"{group}: {why}{_which(group, names)}" for (group, why), names in kinds.items()]

    def as_json(self, command: Sequence[str]) -> dict[str, Any]:
        """The run as JSON values; `verify.replay` reads its first counterexample."""
        return {
            "schema": VERDICTS,
            "command": list(command),
            "kernel": {"kind": self.spec.kind, "name": self.spec.name},
            "interrupted": self.interrupted,
            "exit": int(self.code),
            "problems": self.problems,
            "runs": [
                {"group": a.job.group, "name": a.job.name, "command": a.job.command, "exit": a.job.code,
                 "seconds": round(a.job.seconds, 2), "stopped": a.why}
                for a in self.answers
            ],
            "verdicts": [v.as_json() for v in self.verdicts],
            "mutants": self.rows,
            "races": {name: v.as_json() for name, v in self.races.items()},
        }  # fmt: skip


def _which(group: str, names: Sequence[str]) -> str:
    if names == [group]:
        return ""
    return f" ({names[0]})" if len(names) == 1 else f" ({names[0]} and {len(names) - 1} more)"


def gather(spec: KernelSpec, answers: Sequence[Answer], interrupted: bool) -> Results:
    """Everything that the jobs decided."""
    results = Results(spec, list(answers), [], interrupted=interrupted)
    for answer in answers:
        if answer.job.group in ENGINES:
            results.verdicts += verdicts_of(answer)
        elif answer.job.group == MUTANTS:
            results.rows += (answer.record or {}).get("rows", [])
        elif answer.job.group == RACES:
            for verdict in verdicts_of(answer):
                results.races[answer.job.name] = verdict
    results.problems = contradictions(results.verdicts)
    return results


def _race_code(answer: Answer) -> Exit:
    """A race is there to be found: found, it is as good as a property that holds."""
    if answer.record is None or answer.why:
        return answer.code
    found = all(v.result is Result.VIOLATED and v.replayed and v.as_expected for v in verdicts_of(answer))
    if answer.code in (Exit.OK, Exit.VIOLATED):
        return Exit.OK if found else Exit.DISAGREE
    return answer.code
