"""The obligations of a proof on other machines: each job is some transitions of one kernel, which its worker reads anew."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kernelmodel.memory_model import Memory
from properties.catalogue import find
from verify.prove.engine import PROVABLE, Chunk, Elsewhere
from verify.prove.obligations import Prover
from verify.spread.cluster import spread
from verify.tracefile.record import KernelSpec


@dataclass(frozen=True, slots=True)
class Portion:
    """Some transitions of a kernel, by their numbers; ``seconds`` are left for them."""

    spec: KernelSpec
    memory: Memory
    numbers: tuple[int, ...]
    depth: int
    seconds: float | None

    def __str__(self) -> str:
        return f"obligations of {self.spec.title}, transitions {self.numbers[0]} to {self.numbers[-1]}"


def answered(portion: Portion) -> Chunk:
    """What the obligations of some transitions come to."""
    deadline = None if portion.seconds is None else time.monotonic() + portion.seconds
    prover = Prover(portion.spec.load(), [find(name) for name in PROVABLE], deadline, portion.memory)
    return [prover.step(n, portion.depth) for n in portion.numbers]


def on_workers(spec: KernelSpec, memory: Memory, deadline: float | None, scheduler: str) -> Elsewhere:
    """Has the workers of a scheduler answer; ModelError where it has none, LostError where a portion comes to nothing."""

    def elsewhere(portions: Sequence[Sequence[int]], depth: int) -> Iterable[Chunk]:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return spread(answered, [Portion(spec, memory, tuple(p), depth, left) for p in portions], scheduler)

    return elsewhere
