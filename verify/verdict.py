"""Verdicts and exit codes: one frozen record carries every result of every engine; text and JSON are views of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # both bring much with them, and a verdict is needed without
    from kernelmodel.text import KernelText
    from verify.counterexample import Counterexample


class Result(Enum):
    """What an engine found."""

    PROVED = "proved"
    HOLDS = "holds"
    VIOLATED = "violated"
    UNDECIDED = "undecided"
    VACUOUS = "vacuous"
    NOT_APPLICABLE = "not applicable"


class Exit(IntEnum):
    """Exit codes of every command; where several apply, the worst (the largest) wins."""

    OK = 0
    VIOLATED = 1
    USAGE = 2
    UNDECIDED = 3
    VACUOUS = 4
    DISAGREE = 70
    CRASHED = 71


#: the decorator, for the record has a field of that name
_property = property

_EXIT_OF = {
    Result.PROVED: Exit.OK,
    Result.HOLDS: Exit.OK,
    Result.NOT_APPLICABLE: Exit.OK,
    Result.VIOLATED: Exit.VIOLATED,
    Result.UNDECIDED: Exit.UNDECIDED,
    Result.VACUOUS: Exit.VACUOUS,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one engine for one property of one kernel.

    ``bound`` is in words; ``seconds`` is what this property took; ``trace`` holds the columns of a counterexample,
    ``schedule`` its steps and ``scenario`` the numbers of its tasks; ``replayed`` says that the concrete model violated
    the same property on that schedule; ``expected`` is what is recorded for a mutant or kernel (None: nothing recorded).
    ``runs`` is how many random runs of a user's text were held against the verdict, and ``contradicted`` says that one of
    them violates what holds by the engine.  ``given`` is what a kernel that was read from C takes for granted, in words;
    ``source`` names a kernel from elsewhere, as after --variant.
    """

    property: str
    kernel: str
    engine: str
    bound: str
    result: Result
    memory_model: str = "sequential consistency"
    reachable: bool | None = None
    expected: Result | None = None
    reason: str = ""
    found: str = ""
    trace: str = ""
    schedule: tuple[Mapping[str, Any], ...] = ()
    scenario: Mapping[str, Any] = field(default_factory=dict)
    replayed: bool | None = None
    seconds: float = 0.0
    runs: int = 0
    contradicted: bool = False
    given: tuple[str, ...] = ()
    source: str = ""
    statistics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def on(cls, kernel: type[KernelText], prop: str, engine: str, bound: str, result: Result, **more: Any) -> Verdict:
        """A verdict on a kernel, with what its text says of itself."""
        return cls(prop, kernel.name, engine, bound, result, given=kernel.given, source=kernel.source, **more)

    def with_trace(self, found: Counterexample | None) -> Verdict:
        """The verdict with a counterexample, if there is one."""
        if found is None:
            return self
        return replace(self, found=found.found, trace=found.text, schedule=found.schedule, replayed=found.replayed)

    @_property
    def as_expected(self) -> bool:
        """Whether this is what was recorded, or nothing was."""
        return self.expected is None or self.expected is self.result

    @_property
    def told(self) -> bool:
        """Whether it is printed by a command that is asked to be quiet, too."""
        return self.result is Result.VIOLATED or self.contradicted

    @_property
    def exit_code(self) -> Exit:
        """The exit code that this verdict calls for on its own."""
        if self.replayed is False or self.contradicted:
            # a trace that the concrete model does not confirm, or one of the text itself that denies what holds
            return Exit.DISAGREE
        if self.result in (Result.HOLDS, Result.PROVED, Result.VIOLATED) and not self.as_expected:
            return Exit.DISAGREE
        return _EXIT_OF[self.result]

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        record = asdict(self)
        record["result"] = self.result.value
        record["expected"] = self.expected.value if self.expected else None
        record["as_expected"] = self.as_expected
        for name in ("scenario", "source"):
            if not record[name]:
                del record[name]
        record["seconds"] = round(self.seconds, 3)
        return record


def worst(verdicts: Iterable[Verdict]) -> Exit:
    """The exit code of a run."""
    return max((v.exit_code for v in verdicts), default=Exit.OK)
