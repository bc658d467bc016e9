"""What a change does to one property under one engine, as one word, and what a comparison ends with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from properties.catalogue import PROPERTIES
from verify.suite.traces import length, steps_of
from verify.verdict import Exit, Result, Verdict

#: a difference of times is told from so many seconds and such a factor on: less is the weather of the machine
_SECONDS, _FACTOR = 1.0, 2.0


class Change(Enum):
    """The word; those of the first group ask for a look."""

    NEW = "NEW COUNTEREXAMPLE"
    NOT_CONFIRMED = "not confirmed by the concrete model"
    NO_LONGER_PROVED = "no longer proved"
    NO_LONGER_DECIDED = "no longer decided"
    NOW_VACUOUS = "now vacuous"
    NO_LONGER_APPLIES = "no longer applies"
    NOT_RUN = "not decided"

    NOW_HERE = "now found here too"
    GONE_HERE = "not found here any more"
    GONE = "counterexample gone"
    NOW_PROVED = "now proved"
    NOW_DECIDED = "now decided"
    NOW_APPLIES = "now applies"

    LONGER = "longer"
    SHORTER = "shorter"
    STILL = "still violated"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Pair:
    """One property under one engine, on both sides; None where that engine did not come to it.

    ``known`` says for each side whether another engine has a counterexample.
    """

    engine: str
    name: str
    a: Verdict | None
    b: Verdict | None
    known: tuple[bool, bool] = (False, False)

    @property
    def change(self) -> Change:
        """The one word."""
        found = self._change()
        if found is Change.NEW and self.known[0]:
            return Change.NOW_HERE
        if found is Change.GONE and self.known[1]:
            return Change.GONE_HERE
        return found

    def _change(self) -> Change:
        if self.b is None or self.a is None:
            return Change.NEW if confirmed(self.b) else Change.NOT_RUN
        was, now = self.a.result, self.b.result
        if _doubtful(self.a) or _doubtful(self.b):
            return Change.NEW if confirmed(self.b) and was is not Result.VIOLATED else Change.NOT_CONFIRMED
        if was is now:
            return self._length() if now is Result.VIOLATED else Change.SAME
        if now is Result.VIOLATED:
            return Change.NEW
        if was is Result.VIOLATED:
            return {Result.UNDECIDED: Change.NO_LONGER_DECIDED, Result.VACUOUS: Change.NOW_VACUOUS}.get(
                now, Change.GONE
            )
        if now is Result.NOT_APPLICABLE:
            return Change.NO_LONGER_APPLIES
        if now is Result.VACUOUS:
            return Change.NOW_VACUOUS
        if now is Result.UNDECIDED:
            return Change.NO_LONGER_PROVED if was is Result.PROVED else Change.NO_LONGER_DECIDED
        if was is Result.NOT_APPLICABLE:
            return Change.NOW_APPLIES
        return Change.NOW_PROVED if now is Result.PROVED else Change.NOW_DECIDED

    def _length(self) -> Change:
        """Only a search tells how short a counterexample can be; a solver's may be of any length."""
        assert self.a is not None and self.b is not None
        if self.engine != "explore" or not self.a.schedule or not self.b.schedule:
            return Change.STILL
        if self.a.bound != self.b.bound or self.a.scenario != self.b.scenario:
            # each is shortest among its own tasks: their lengths are those of different questions
            return Change.STILL
        before, after = (_measure(v) for v in (self.a, self.b))
        return Change.STILL if before == after else Change.LONGER if after > before else Change.SHORTER

    @property
    def note(self) -> str:
        """What goes with the word: lengths, or why something could not be decided."""
        if self.change in (Change.LONGER, Change.SHORTER, Change.STILL) and self.a and self.b:
            if steps_of(self.a) == 0 or steps_of(self.b) == 0:
                return ""
            same = length(self.a) == length(self.b)
            return _short(self.b) if same else f"{_short(self.a)} -> {_short(self.b)}"
        if self.change in (Change.NEW, Change.NOW_HERE) and self.b:
            return _short(self.b) if steps_of(self.b) else self.b.reason
        if self.change in (Change.GONE, Change.GONE_HERE) and self.a:
            return f"was {_short(self.a)}" if steps_of(self.a) else self.a.reason
        return self._times() if self.change is Change.SAME else ""

    def _times(self) -> str:
        """What the same answer costs, where that is clearly more or less."""
        assert self.a is not None and self.b is not None
        before, after = self.a.seconds, self.b.seconds
        if abs(after - before) < _SECONDS or max(before, after) < _FACTOR * min(before, after):
            return ""
        return f"{before:.1f} s -> {after:.1f} s"


def _short(verdict: Verdict) -> str:
    return length(verdict).replace("context ", "")


def _measure(verdict: Verdict) -> tuple[float, float]:
    """Steps, then context switches; where there is no trace, or no count of switches, it is no short one."""
    return steps_of(verdict) or math.inf, float(verdict.statistics.get("context_switches", math.inf))


def _doubtful(verdict: Verdict) -> bool:
    """A counterexample that the concrete model did not confirm: something is wrong with the model or the engine."""
    return verdict.result is Result.VIOLATED and verdict.replayed is False


def confirmed(verdict: Verdict | None) -> bool:
    """Whether there is a violation that is one; a deadlock may have no trace to confirm."""
    return verdict is not None and verdict.result is Result.VIOLATED and not _doubtful(verdict)


def pairs(verdicts: Iterable[tuple[str, Iterable[Verdict], Iterable[Verdict]]]) -> list[Pair]:
    """The verdicts of both sides, (engine, of A, of B), property by property."""
    found: list[Pair] = []
    engines: list[str] = []
    for engine, a, b in verdicts:
        engines.append(engine)
        one, other = ({v.property: v for v in each} for each in (a, b))
        found += [Pair(engine, name, one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])]
    broken_a = {(p.engine, p.name) for p in found if confirmed(p.a)}
    broken_b = {(p.engine, p.name) for p in found if confirmed(p.b)}

    def elsewhere(pair: Pair, broken: set[tuple[str, str]]) -> bool:
        return any(name == pair.name and engine != pair.engine for engine, name in broken)

    order = list(PROPERTIES)
    found.sort(key=lambda p: (engines.index(p.engine), order.index(p.name) if p.name in order else len(order)))
    return [replace(p, known=(elsewhere(p, broken_a), elsewhere(p, broken_b))) for p in found]


def new(every: Sequence[Pair]) -> list[Verdict]:
    """The counterexamples of B for properties of which A has none; the shortest where engines found several."""
    return _shortest(p.b for p in every if p.change is Change.NEW)


def gone(every: Sequence[Pair]) -> list[Verdict]:
    """The counterexamples of A for properties of which B has none, and which B is known to keep."""
    return _shortest(p.a for p in every if p.change is Change.GONE)


def _shortest(verdicts: Iterable[Verdict | None]) -> list[Verdict]:
    best: dict[str, Verdict] = {}
    for v in verdicts:
        if v is not None and (v.property not in best or _measure(v) < _measure(best[v.property])):
            best[v.property] = v
    return list(best.values())


def exit_code(every: Sequence[Pair], contradicted: bool, unfinished: bool) -> Exit:
    """A new counterexample is an answer whatever else is open; without one, the worst of what B is left with."""
    if new(every):
        return Exit.VIOLATED
    if contradicted or any(v is not None and _doubtful(v) for p in every for v in (p.a, p.b)):
        return Exit.DISAGREE
    results = {p.b.result for p in every if p.b is not None}
    if Result.VACUOUS in results:
        return Exit.VACUOUS
    if unfinished or Result.UNDECIDED in results or any(p.b is None for p in every):
        return Exit.UNDECIDED
    return Exit.OK
