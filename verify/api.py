"""The engines as a library: ``from verify import check``."""

from __future__ import annotations

import contextlib
import inspect
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS, is_kernel, mutant, variant
from kernelmodel.kernels import kernel as named
from kernelmodel.memory_model import MODELS, WIDER, Memory
from kernelmodel.text import KernelText, from_a_file
from kernelmodel.variants.overrides import check_reached, nearest
from kernelmodel.versions.later_mutants import EVERY
from properties.catalogue import NO_DEADLOCK, PROPERTIES, find
from properties.property import Property
from verify.scenario import Scenario, default_migrations, kinds, numbers_of, usual
from verify.verdict import Verdict

ENGINES = ("bmc", "explore", "prove")


def check(
    kernel: str | Path | type[KernelText] = "v5.11",
    *,
    properties: Sequence[str] = (),
    engine: str = "bmc",
    tasks: Mapping[str, int] | None = None,
    cpus: int | None = None,
    timeout: float | None = None,
    memory: Memory = "sc",
) -> tuple[Verdict, ...]:
    """Decide properties of a kernel: the verdicts that the commands print, in the order of ``properties``.

    ``kernel`` is the name of a version or of a mutant, the path of a file with a class that overrides routines
    (``mine.py`` or ``mine.py:Mine``), or such a class, if it stands in a file.  ``properties`` are names, all if there
    are none.  ``engine`` is "bmc" (bounded, all values), "explore" (every interleaving of a finite configuration) or
    "prove" (any size).  ``tasks`` says how many tasks of a kind there are, such as ``{"free": 2, "offline": 1}``, and
    ``cpus`` how many CPUs; what is not given is the engine's default, and "prove" takes neither.  ``timeout`` is in
    seconds; what is not decided then is undecided.  ``memory`` is the memory model: "sc", "tso", or for
    "explore" "weak" and "compiler" (--compiler-reorders).

    A counterexample is in ``trace`` (columns) and ``schedule``, and has been replayed.  ModelError, whose text is one
    line, where an argument does not fit or a text cannot be read.
    """
    if engine not in ENGINES:
        raise nearest("engine", engine, ENGINES)
    if memory not in MODELS:
        raise nearest("memory model", memory, list(MODELS))
    if memory in WIDER and engine != "explore":
        raise ModelError(f"the memory model {memory} is one of explore alone: give engine='explore', or memory='tso'")
    text = _kernel(kernel)
    chosen = [find(name) for name in properties] or list(PROPERTIES.values())
    deadline = None if timeout is None else time.monotonic() + timeout
    if engine == "prove":
        if tasks or cpus is not None:
            raise ModelError("prove is about any number of CPUs and tasks: leave tasks and cpus out")
        return _prove(text, chosen, deadline, memory)
    decide = _explore if engine == "explore" else _bmc
    return decide(text, chosen, _numbers(tasks or {}, cpus), deadline, memory)


def _kernel(kernel: str | Path | type[KernelText]) -> type[KernelText]:
    if isinstance(kernel, type):
        if not issubclass(kernel, KernelText):
            raise ModelError(f"{kernel.__name__} is no kernel: derive it from one, such as kernelmodel.V5_11")
        if not from_a_file(kernel):
            return kernel
        try:
            return variant(f"{inspect.getfile(kernel)}:{kernel.__name__}")
        except (OSError, TypeError) as error:
            raise ModelError(f"{kernel.__name__} stands in no file: write it to one and give its path") from error
    name = str(kernel)
    if name.endswith(".py") or ".py:" in name:
        return variant(name)
    if is_kernel(name):
        return named(name)
    if name in EVERY:
        return mutant(name)
    raise nearest("kernel, mutant or file", name, [*KERNELS, *EVERY])


def _numbers(tasks: Mapping[str, int], cpus: int | None) -> dict[str, int]:
    for kind in tasks:
        if kind not in kinds():
            raise nearest("kind of task", kind, kinds())
    return numbers_of(tasks) | ({} if cpus is None else {"cpus": cpus})


def _bmc(
    kernel: type[KernelText],
    properties: Sequence[Property],
    numbers: Mapping[str, int],
    deadline: float | None,
    memory: Memory,
) -> tuple[Verdict, ...]:
    # each engine is imported by whoever asks for it
    from verify.bmc.pool import decide_all, net_of
    from verify.bmc.solve import Engine

    scenario = _scenario(Scenario(), {**usual(kernel), **numbers})
    engine = Engine(kernel, scenario, deadline, memory=memory)
    engine.model(misplaced=False)
    check_reached(kernel, scenario.tasks_in_words())
    net = net_of(engine, properties)
    return tuple(net.held_against(v) for v in decide_all([(engine, p) for p in properties]))


def _explore(
    kernel: type[KernelText],
    properties: Sequence[Property],
    numbers: Mapping[str, int],
    deadline: float | None,
    memory: Memory,
) -> tuple[Verdict, ...]:
    from verify.explore.decide import net_of, others, shown_first
    from verify.explore.finite import DEFAULT, default_pages
    from verify.explore.model import Model
    from verify.explore.search import Limits, room_mb
    from verify.explore.solve import Explorer

    scenario = _scenario(DEFAULT.scenario, {**usual(kernel), **numbers})
    finite = replace(DEFAULT, scenario=scenario, pages=default_pages(scenario))
    beside = () if memory in WIDER else others(kernel, finite)
    for one in (finite, *beside):
        Model(kernel, one, [])
    check_reached(kernel, scenario.tasks_in_words())
    limits = Limits(deadline, room_mb())
    explorer = Explorer(kernel, finite, limits=limits, jobs=os.cpu_count() or 1, beside=beside, memory=memory)
    rest, deadlock = [p for p in properties if p is not NO_DEADLOCK], NO_DEADLOCK in properties
    verdicts = {v.property: v for v in shown_first(explorer, rest)}
    left = [p for p in rest if p.name not in verdicts]
    if left or deadlock:
        verdicts |= {v.property: v for v in explorer.decide(left, deadlock)}
    net = net_of(explorer, rest, deadlock)
    return tuple(net.held_against(verdicts[p.name]) for p in properties)


def _prove(
    kernel: type[KernelText], properties: Sequence[Property], deadline: float | None, memory: Memory
) -> tuple[Verdict, ...]:
    from verify.prove.decide import Deciding
    from verify.prove.population import texts
    from verify.prove.roles import ProjectionError

    with contextlib.suppress(ProjectionError):
        # what cannot be projected is undecided, and its verdict says why
        check_reached(kernel, ", ".join(t.kind.name for t in texts(kernel)))
    deciding = Deciding(kernel, deadline, memory)
    net = deciding.net(properties)
    return tuple(net.held_against(deciding.verdict(p)) for p in properties)


def _scenario(default: Scenario, numbers: Mapping[str, int]) -> Scenario:
    """A scenario with other numbers, and pages to migrate as the commands have them."""
    every: dict[str, Any] = {**default.numbers(), **numbers}
    if "migrations" not in numbers:
        every["migrations"] = default_migrations(every["allocs"], every["offlines"])
    return Scenario(**every)
