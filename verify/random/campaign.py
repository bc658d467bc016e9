"""One campaign: random histories of a kernel from a seed, with examples that others have found."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from kernelmodel.errors import ModelError
from properties.history import History
from properties.hunt import hunt
from properties.profiles import RACE_RULES, RULES
from properties.stateful import DrainRace, PageAllocator, machine_for
from verify.tracefile.record import KernelSpec

#: the state machines, by the name that the command line has for them
MACHINES: dict[str, type[History]] = {"race": DrainRace, "allocator": PageAllocator}
#: under which Hypothesis keeps failures, what led to them, and what else was worth keeping
_KINDS = ("", ".secondary", ".pareto")

#: examples by kind
Examples = Mapping[str, frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class Campaign:
    """What to do: so many histories of a kernel by a machine, for properties, from a seed, after some examples."""

    spec: KernelSpec
    machine: str
    properties: tuple[str, ...]
    histories: int
    seed: int
    examples: Examples = field(default_factory=dict)

    def __str__(self) -> str:
        return f"campaign {self.seed} of {self.spec.title}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: ``violated`` is the property, ``program`` a history that breaks it, as one can paste it.

    ``reached`` are the properties whose premises some history has reached, ``examples`` what is worth trying first again.
    """

    seed: int
    histories: int
    seconds: float
    reached: frozenset[str]
    violated: str = ""
    said: str = ""
    program: str = ""
    examples: Examples = field(default_factory=dict)


class Shared(ExampleDatabase):
    """A campaign's examples, whichever names Hypothesis has for them: a name is a hash of the test, which is the same."""

    def __init__(self, examples: Examples) -> None:
        """With some to begin with."""
        super().__init__()
        self.kept: dict[str, set[bytes]] = {kind: set(examples.get(kind, ())) for kind in _KINDS}

    def _kind(self, key: bytes) -> set[bytes]:
        return self.kept[next((kind for kind in _KINDS[1:] if key.endswith(kind.encode())), "")]

    def save(self, key: bytes, value: bytes) -> None:
        """Keep an example."""
        self._kind(key).add(bytes(value))

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """The examples of a kind."""
        yield from sorted(self._kind(key))

    def delete(self, key: bytes, value: bytes) -> None:
        """Forget an example."""
        self._kind(key).discard(bytes(value))


def run(campaign: Campaign) -> Outcome:
    """Make the histories; it ends with the first that breaks a property, made as short as Hypothesis can."""
    began = time.monotonic()
    machine = machine_for(campaign.spec.load(), MACHINES[campaign.machine], campaign.properties)
    made = [0]

    def begin(self: Any) -> None:
        made[0] += 1
        machine.__init__(self)

    counted = type(machine.__name__, (machine,), {"__init__": begin, "__module__": machine.__module__})
    shared = Shared(campaign.examples)
    chosen = settings(
        max_examples=campaign.histories, database=shared, deadline=None, print_blob=False,
        stateful_step_count=RACE_RULES if campaign.machine == "race" else RULES,
        suppress_health_check=list(HealthCheck), phases=[p for p in Phase if p is not Phase.explain],
    )  # fmt: skip
    violated, said, program = "", "", ""
    try:
        hunt(counted, chosen, campaign.seed)
    except AssertionError as error:
        said = str(error).split("\n", 1)[0].removesuffix(", after")
        violated = said.split(":", 1)[0]
        program = "\n".join(getattr(error, "__notes__", ()))
    examples = {kind: frozenset(kept) for kind, kept in shared.kept.items() if kept}
    seconds = round(time.monotonic() - began, 2)
    return Outcome(
        campaign.seed, made[0], seconds, frozenset(machine.reached), violated, said, program, examples
    )  # fmt: skip


class Folder:
    """Where examples are kept from one run to the next: a folder for each kernel and machine."""

    def __init__(self, folder: str, spec: KernelSpec, machine: str) -> None:
        """ModelError where there can be none: Hypothesis would keep nothing, and say nothing."""
        name = "".join(c if c.isalnum() or c in ".-" else "_" for c in spec.name)
        path = Path(folder) / f"{name}-{machine}"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"--database {folder}: cannot be made ({error.strerror}); give another folder") from None
        self._kept = DirectoryBasedExampleDatabase(path)

    def examples(self) -> Examples:
        """Those of earlier runs."""
        found = {kind: frozenset(self._kept.fetch(b"straypage" + kind.encode())) for kind in _KINDS}
        return {kind: kept for kind, kept in found.items() if kept}

    def keep(self, examples: Examples) -> None:
        """Have later runs try some first."""
        for kind, kept in examples.items():
            for value in sorted(kept):
                self._kept.save(b"straypage" + kind.encode(), value)
