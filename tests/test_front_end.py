"""Whatever text a user may write: the control graphs say what Python does, step by step."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_texts import LONGEST, DifferentError, in_lockstep, texts, written
from hypothesis import HealthCheck, Phase, find, given, settings
from test_automaton import NoPathError, follow

from kernelmodel import Config, Machine
from kernelmodel.errors import ModelError
from kernelmodel.graphs import automaton, continuation, folded
from kernelmodel.graphs.automaton import extract
from kernelmodel.graphs.continuation import op_picture
from kernelmodel.graphs.extraction import abandon
from kernelmodel.graphs.folded import fold
from kernelmodel.graphs.frames import frame_parts
from kernelmodel.kernels import variant
from kernelmodel.terms import TRUE

CONFIG = Config(nr_cpus=1)
VISITS = 2
#: how many runs of each text are compared with each graph
RUNS = 12


def graphs(made: type) -> list[Any]:
    """Both control graphs of a drawn text, where it can be folded; ModelError where it is refused."""
    kernel: Any = made(CONFIG)
    unrolled = extract(made, kernel.direct_reclaim, 0, visits=lambda _: VISITS)
    try:
        return [unrolled, fold(kernel, kernel.direct_reclaim, (0,), {})]
    except ModelError as error:
        # a value of an earlier round: an engine that folds says so, and one that unrolls goes on
        if "store it in a cell" not in str(error):
            raise
        return [unrolled]


def differs(text: str, folder: Path) -> str:
    """Where a graph parts from Python, or a run of the machine from the graph; empty if nowhere."""
    try:
        made = variant(str(written(folder, text)))
        both = graphs(made)
    except ModelError as error:
        return "" if refused_for_cause(str(error)) else f"refused: {error}"
    kernel: Any = made(CONFIG)
    try:
        for graph in both:
            for seed in range(RUNS):
                in_lockstep(kernel.direct_reclaim, graph, seed)
        for seed in range(RUNS):
            on_the_machine(made, both[0], seed)
    except (DifferentError, NoPathError) as error:
        return str(error)
    return ""


def refused_for_cause(why: str) -> bool:
    """A text may be refused, but not for something that no drawn text does."""
    return "bound it, or keep less" in why or "store it in a cell" in why


def on_the_machine(made: type, graph: Any, seed: int) -> None:
    """One run of the machine, with others that change what is read, must be a path of the graph."""
    rng = random.Random(seed)
    machine = Machine(made, CONFIG, limits=(rng.randrange(4), rng.randrange(1, 4)))
    kernel: Any = machine.kernel
    task = machine.spawn("drawn", kernel.direct_reclaim())
    machine.spawn("update", kernel.zone_pcp_update(machine.zone()))
    machine.free("free", machine.allocate(0))
    for _ in range(3 * LONGEST):
        ready = [t for t in machine.ready() if t not in machine.workers]
        if not ready or task.done:
            break
        chosen = rng.choice(ready)
        choices = {c.args[0]: rng.random() < 0.5 for c in machine.operation(chosen).choices if c.sort == "bool"}
        machine.step(chosen, {"new_high": rng.randrange(4), "new_batch": rng.randrange(1, 4), **choices})
    try:
        follow(graph, [s for s in machine.history if s.task == "drawn"], {"me": task.number}, task.done)
    finally:
        abandon(task.routine)


@given(text=texts())
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_graphs_say_what_python_does(text, tmp_path_factory):
    assert differs(text, tmp_path_factory.mktemp("drawn")) == "", text


# --- each mend of the extraction, taken out ---


def _without_stack(generator: Any) -> Any:
    names, _ = frame_parts(generator)
    return names, ()


def _without_conditions(op: Any) -> Any:
    return op_picture(replace(op, guard=TRUE, where=TRUE, returns=(), choices=(), updates=(), shown=()))


TWINS = {
    "two operations at one place": [
        (automaton, "op_picture", _without_conditions),
        (folded, "op_picture", _without_conditions),
    ],
    "what is on the evaluation stack": [(continuation, "frame_parts", _without_stack)],
    "which of two lambdas": [(continuation._Picture, "_function", lambda _, f: f.__qualname__)],
    "what a local holds": [(continuation, "live_locals", lambda *_: frozenset())],
    "what a list holds": [(continuation._Picture, "_mutable", lambda *_: ())],
}


@pytest.mark.parametrize("name", TWINS)
def test_without_the_mend_some_text_is_misread(name, monkeypatch, tmp_path):
    for where, attribute, broken in TWINS[name]:
        monkeypatch.setattr(where, attribute, broken)
    # nor is the text run a second time, in another order
    for module in (automaton, folded, continuation):
        monkeypatch.setattr(module, "from_a_file", lambda _: False)
    few = settings(
        max_examples=400, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    find(texts(), lambda text: differs(text, tmp_path) != "", settings=few)
