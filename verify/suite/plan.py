"""Which commands a run consists of."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.versions.base import Base
from kernelmodel.versions.mutants import EQUIVALENT, MUTANTS
from properties import catalogue
from properties.catalogue import PROPERTIES
from verify.options import other_tasks, race_of
from verify.scenario import Scenario, option_of
from verify.suite.jobs import Job
from verify.suite.results import ENGINES, RACES
from verify.suite.results import MUTANTS as MATRIX
from verify.tracefile import KernelSpec

#: everything that a run can consist of
GROUPS = (*ENGINES, MATRIX, RACES)
#: what verify.prove can prove (verify.prove.engine.PROVABLE, whose import takes a solver; a test compares)
PROVABLE = (
    "no_stray_page", "no_isolated_page_left", "limits_exclusive", "limits_restored", "pages_conserved",
    "enable_on_every_exit", "offline_progress",
)  # fmt: skip
#: the verdict of verify.explore that is no property of the catalogue
NO_DEADLOCK = catalogue.NO_DEADLOCK.name
#: the bound of --quick, where no other is given
QUICK = {"cpus": 2, "frees": 1, "allocs": 1}


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs of a run, and for each engine what it is asked."""

    spec: KernelSpec
    jobs: tuple[Job, ...]
    wanted: dict[str, tuple[str, ...]]


def bounds_of(options: argparse.Namespace, quick: bool = False) -> dict[str, int]:
    """The numbers of the scenario that were given; those of --quick where none was."""
    names = [n for n in Scenario().numbers() if n != "spread"]
    other_tasks(options)
    given = {n: v for n in names if (v := getattr(options, n, None)) is not None}
    Scenario(**given)
    return {**(QUICK if quick else {}), **given}


def engine_job(
    engine: str, spec: KernelSpec, folder: Path, *, name: str = "", bounds: dict[str, int] | None = None,
    spread: bool = False, properties: Sequence[str] = ("all",), timeout: float | None = None, smt2: Path | None = None,
    beside: bool = False,
) -> Job:  # fmt: skip
    """The job of one engine that decides properties of one kernel; prove has no bounds.

    ``beside``: explore searches a shipped kernel too in all the configurations in which it searches a changed one.
    """
    words = [*shlex.split(spec.options)]
    if engine != "prove":
        for key, number in (bounds or {}).items():
            if not (engine == "explore" and key == "rounds"):
                words += [option_of(key), str(number)]
        words += ["--spread"] if spread else []
        words += ["--beside", "all"] if engine == "explore" and beside else []
    for prop in properties:
        words += ["--property", prop]
    words += ["--timeout", f"{timeout:g}"] if timeout else []
    words += ["--smt2", str(smt2)] if smt2 else []
    return Job(engine, name or engine, f"verify.{engine}", tuple(words), folder)


def plan(
    spec: KernelSpec, groups: Sequence[str], out: Path, bounds: dict[str, int], *, spread: bool = False,
    quick: bool = False, timeout: float | None = None, smt2: bool = True,
) -> Plan:  # fmt: skip
    """The whole suite, or the groups that are asked for; ``smt2``: with SMT-LIB files, if it is not ``quick``."""
    jobs: list[Job] = []
    wanted: dict[str, tuple[str, ...]] = {}
    raw = out / "engines"
    for engine in (e for e in ENGINES if e in groups):
        properties = PROVABLE if engine == "prove" else ("all",)
        files = {"bmc": out / "smt2" / "bmc.smt2", "prove": out / "smt2" / "prove"}
        text = files.get(engine) if smt2 and not quick else None
        jobs.append(engine_job(engine, spec, raw, bounds=bounds, spread=spread, properties=properties, timeout=timeout,
                               smt2=text))  # fmt: skip
        wanted[engine] = PROVABLE if engine == "prove" else tuple(PROPERTIES)
        if engine == "explore":
            wanted[engine] += (NO_DEADLOCK,)
    if MATRIX in groups:
        jobs.append(Job(MATRIX, MATRIX, "verify.mutants", ("--engine", "explore") if quick else (), raw, limit=timeout))
        wanted[MATRIX] = tuple(MUTANTS)
    if RACES in groups:
        for other, prop in races():
            words = (*shlex.split(other.options), "--property", prop, "--jobs", "1")
            jobs.append(Job(RACES, other.name, "verify.explore", words, raw / RACES, limit=timeout))
    return Plan(spec, tuple(jobs), wanted)


def races() -> list[tuple[KernelSpec, str]]:
    """The kernel before the patch and each deadly mutant, with the property that it breaks."""
    mortal = [m for m in MUTANTS.values() if m.breaks != EQUIVALENT]
    return [
        (KernelSpec("kernel", Base.name), race_of(Base)),
        *((KernelSpec("mutant", m.name), m.breaks) for m in mortal),
    ]
