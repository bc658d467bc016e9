"""What is measured: configurations, and a row for each tool."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HAND = ROOT / "benchmarks" / "spin" / "pcplists.pml"


@dataclass(frozen=True, slots=True)
class Config:
    """A finite configuration: CPUs, pages, frees, allocs; always one offline_pages() and one zone_pcp_update()."""

    cpus: int
    pages: int
    frees: int
    allocs: int

    def options(self, beside: bool = False) -> list[str]:
        """The options of verify.explore; ``beside``: with its small configuration in which a CPU comes and goes."""
        names = (("cpus", self.cpus), ("pages", self.pages), ("frees", self.frees), ("allocs", self.allocs))
        # the hand-written model has neither CPUs that come and go nor pages to migrate
        found = [*(x for name, n in names for x in (f"--{name}", str(n))), "--migrations", "0"]
        return found if beside else [*found, "--hotplugs", "0"]

    def defines(self) -> list[str]:
        """The same for the hand-written model."""
        return [f"-DCPUS={self.cpus}", f"-DPAGES={self.pages}", f"-DFREES={self.frees}", f"-DALLOCS={self.allocs}"]


CONFIGS = {
    "s": Config(2, 2, 1, 1), "m": Config(2, 3, 2, 1), "l": Config(3, 3, 2, 2), "x": Config(4, 4, 3, 2),
    "y": Config(5, 5, 4, 3),
}  # fmt: skip
#: those that are measured unless others are asked for: y takes minutes
USUAL = ("s", "m", "l", "x")
#: the newest kernel that keeps the guarantee; of it there is no model by hand
NEWEST = "v6.11"

#: what the hand-written model asserts without pageblocks, as properties of verify.explore
SPINS_PROPERTIES = ("no_stray_page", "pages_conserved", "limits_restored", "limits_exclusive", "bulk_free_terminates")

#: the rows: explore
ALL, SOME, UNREDUCED = "explore, all properties", "explore, the hand model's properties", "explore --reduce none"
WITHOUT, OF_NEWEST = ", no compiler", f", {NEWEST}"
#: y once more, with so many MB of memory, and the rest on disk
Y_MEGABYTES, ON_DISK = 8000, ", 8 GB and disk"
#: and SPIN
BY_HAND, PAGEBLOCKS, EXPORT = "SPIN, by hand", "SPIN, by hand, pageblocks", "SPIN, exported"
REDUCED = "SPIN, exported, movers"
BY_HAND_ON_S = BY_HAND + ", on s"

HOLDS, VIOLATED, UNFINISHED, NO_MEMORY, NOT_RUN, FAILED = (
    "holds", "violated", "not finished", "out of memory", "not run", "failed",
)  # fmt: skip

#: the goals: seconds and megabytes on a configuration; how long SPIN must not finish; a mutant; states a second
SECONDS_GOALS = {"s": 0.5, "m": 0.5, "l": 1.5, "x": 10.0, "y": 120.0}
#: how long a search of y may take
Y_SECONDS = 1800.0
X_MEGABYTES, X_SPIN_SECONDS, MUTANT_SECONDS, STATES_PER_SECOND = 1500, 600, 5.0, 1_000_000


@dataclass(slots=True)
class Row:
    """One line of the table."""

    config: str
    tool: str
    outcome: str
    seconds: float | None = None
    #: spin -a, gcc, pan
    parts: list[float] = field(default_factory=list)
    states: int | None = None
    #: of the search alone, on one core
    states_per_second: float | None = None
    peak_mb: float | None = None
    runs: int = 1
    mutant: str = ""

    @property
    def finished(self) -> bool:
        """Whether there is an answer."""
        return self.outcome in (HOLDS, VIOLATED)


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for, what was measured, and whether it is enough; ``met`` is None if it was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None

    @property
    def said(self) -> str:
        """The judgement in words."""
        return {True: "met", False: "not met", None: "not measured"}[self.met]


def number(value: float | None, unit: str) -> str:
    """A number with its unit, or a dash."""
    return "-" if value is None else f"{value:,.0f} {unit}"


def seconds(value: float | None) -> str:
    """Seconds as text, or a dash."""
    return "-" if value is None else f"{value:.2f} s"
