"""Routines unrolled into graphs: each run is a path, and no path within the bound is cut."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from kernelmodel import V5_11, Config, Machine, MigrateType, Page, PageRange, Zone
from kernelmodel.errors import ModelError
from kernelmodel.graphs import automaton
from kernelmodel.graphs.automaton import CUT, DONE, Graph, extract
from kernelmodel.graphs.twice import same_unrolled
from kernelmodel.kernels import KERNELS
from kernelmodel.machine import Step, Task
from kernelmodel.mmzone import MEMORY_OFFLINE
from kernelmodel.ops import Op, Routine, environment, happens, read
from kernelmodel.terms import Cell, evaluate, reg
from kernelmodel.text import KernelText, has_routine
from kernelmodel.versions.mutants import MUTANTS, build
from verify.scenario import Scenario

CONFIG = Config(nr_cpus=2, block_types=(MigrateType.MOVABLE,) * 3, pageblock_order=4, max_order=5)
TWO_ZONES = Config(2, 2, (MigrateType.MOVABLE,) * 4, pageblock_order=4, max_order=5)
RANGE = PageRange(1, 2)
Make = Callable[[Any, Any, Any], Routine]
#: routine of interest -> how it is started, given a kernel, a page and a migratetype
ROUTINES: dict[str, Make] = {
    "free_unref_page": lambda k, page, _: k.free_unref_page(page),
    "rmqueue_pcplist": lambda k, _, t: k.rmqueue_pcplist(Zone(0), t),
    "drain_all_pages": lambda k, *_: k.drain_all_pages(Zone(0)),
    "direct_reclaim": lambda k, *_: k.direct_reclaim(),
    "zone_pcp_update": lambda k, *_: k.zone_pcp_update(Zone(0)),
    "setup_zone_pageset": lambda k, *_: k.setup_zone_pageset(Zone(0)),
    "sysctl": lambda k, *_: k.percpu_pagelist_fraction_sysctl_handler(8),
    "start_isolate_page_range": lambda k, *_: k.start_isolate_page_range(RANGE, MigrateType.MOVABLE, MEMORY_OFFLINE),
    "offline_pages": lambda k, *_: k.offline_pages(RANGE),
    "alloc_contig_range": lambda k, *_: k.alloc_contig_range(PageRange(1, 1), MigrateType.MOVABLE),
    "drain_zone_pages": lambda k, *_: k.drain_zone_pages(Zone(0)),
}
ONLY_V5_11: dict[str, Make] = {
    "zone_pcp_disable": lambda k, *_: k.zone_pcp_disable(Zone(0)),
    "get_hwpoison_page": lambda k, *_: k.get_hwpoison_page(Zone(0)),
    "memory_failure": lambda k, *_: k.memory_failure(Zone(0)),
}
#: setup_zone_pageset() puts counts to 0 as nobody does to a pageset in use; with pcp->lock, which it does not take, that shows
CASES = [
    (k, r) for k in KERNELS for r in ROUTINES if r != "setup_zone_pageset" or KERNELS[k].section == KernelText.section
] + [("v5.11", r) for r in ONLY_V5_11]
VISITS = 3


class NoPathError(AssertionError):
    """A run of the machine is not a path of the graph."""


def follow(graph: Graph, steps: list[Step], regs: dict[str, int], done: bool) -> list[int]:
    """The nodes along which ``steps`` run through the graph; at each node exactly one edge must hold."""

    def no_cells(cell: Cell) -> int:
        raise NoPathError(f"an edge condition reads {cell}")

    walked: list[int] = []
    edges = graph.entry
    for step in steps:
        target = only(edges, regs, no_cells)
        if target == CUT:
            return walked
        if target == DONE:
            raise NoPathError(f"the graph is over, the run goes on with {step}")
        node = graph.nodes[target]
        pattern = re.sub(r"\\\{\d\\\}", ".+", re.escape(node.op.text))
        if not re.fullmatch(pattern, step.text) or (node.op.kind, node.op.tag) != (step.kind, step.tag):
            raise NoPathError(f"the graph has {node.op.text}, the run has {step}")
        if node.stack != step.stack or len(node.op.returns) != len(step.returned):
            raise NoPathError(f"the graph is in {node.stack}, the run in {step}")
        for i, (term, value) in enumerate(zip(node.op.returns, step.returned, strict=True)):
            regs[f"{target}.{i}"] = value
            assert term.op != "const" or term.args[0] == value
        walked.append(target)
        edges = node.edges
    target = only(edges, regs, no_cells)
    if target != CUT and (target == DONE) != done:
        raise NoPathError(f"the run {'is over' if done else 'goes on'} and the graph leads to {target}")
    return walked


def only(edges: list[Any], regs: dict[str, int], cells: Callable[[Cell], int]) -> int:
    open_ones = [e for e in edges if all(evaluate(c, cells, regs) for c in e.conditions)]
    if len(open_ones) != 1:
        raise NoPathError(f"{len(open_ones)} of {len(edges)} edges are open")
    return open_ones[0].target  # type: ignore[no-any-return]


@dataclass
class Subject:
    """A task of a run, its graph, and the values of the graph's parameters."""

    task: Task
    graph: Graph
    parameters: dict[str, int]


_graphs: dict[tuple[Any, ...], Graph] = {}


def graph_of(kernel: type[KernelText], config: Config, name: str, cpu: int) -> Graph:
    key = (kernel, config, name, cpu)
    if key not in _graphs:
        text: Any = kernel(config)
        if name == "drain_worker":
            make = lambda: text.drain_worker(cpu)  # noqa: E731
        else:
            page = Page(-1, reg("block"), Zone(0))
            make = lambda: {**ROUTINES, **ONLY_V5_11}[name](text, page, reg("type"))  # noqa: E731
        _graphs[key] = extract(kernel, make, cpu, visits=lambda _: VISITS)
    return _graphs[key]


def subject(machine: Machine, kernel: type[KernelText], config: Config, name: str, rng: random.Random) -> Subject:
    cpu = rng.randrange(config.nr_cpus)
    graph = graph_of(kernel, config, name, cpu)
    if name == "free_unref_page":
        block = rng.randrange(config.blocks_per_zone)
        return Subject(machine.free(name, machine.allocate(block), cpu), graph, {"block": block})
    migratetype = rng.randrange(3)
    page = machine.state.page(0)
    task = machine.spawn(name, {**ROUTINES, **ONLY_V5_11}[name](machine.kernel, page, migratetype), cpu)
    return Subject(task, graph, {"type": migratetype})


def random_choices(op: Op, rng: random.Random) -> dict[str, int]:
    """The environment's choices, seldom a fault; limits at random; nothing where a concrete effect decides."""
    if op.tag == "new_limits":
        return {"new_high": rng.randrange(6), "new_batch": rng.randrange(1, 4)}
    if op.external or op.tag == "isolate":
        return {c.args[0]: rng.random() < 0.1 for c in op.choices}
    return {}


def runs(kernel: type[KernelText], config: Config, name: str, seed: int) -> Iterator[tuple[Subject, list[Step]]]:
    """One random run of a routine among others that disturb it; each task with a graph, and its steps."""
    rng = random.Random(f"{name} {seed}")
    machine = Machine(kernel, config, limits=(rng.randrange(4), rng.randrange(1, 4)))
    for _ in range(rng.randrange(6)):
        machine.put_on_pcplist(rng.randrange(config.nr_cpus), rng.randrange(config.nr_blocks), rng.randrange(3))
    for _ in range(rng.randrange(3)):
        machine.allocate(rng.randrange(config.nr_blocks))
    others = rng.choices(["free_unref_page", "rmqueue_pcplist", "zone_pcp_update", "drain_all_pages"], k=3)
    subjects = [subject(machine, kernel, config, n, rng) for n in (name, *others)]
    for worker in machine.workers if has_routine(kernel, "drain_worker") else ():
        subjects.append(Subject(worker, graph_of(kernel, config, "drain_worker", worker.cpu), {}))
    history: dict[int, list[Step]] = {s.task.number: [] for s in subjects}
    for _ in range(250):
        ready = machine.ready()
        if not ready:
            break
        task = rng.choice(ready)
        step = machine.step(task, random_choices(machine.operation(task), rng))
        history[task.number].append(step)
    for s in subjects:
        yield s, history[s.task.number]


def check(kernel: type[KernelText], config: Config, name: str, seeds: range) -> set[int]:
    """Every run must be a path; the nodes of the routine's own graphs that were walked."""
    walked: set[int] = set()
    for seed in seeds:
        for i, (s, steps) in enumerate(runs(kernel, config, name, seed)):
            nodes = follow(s.graph, steps, {"me": s.task.number, **s.parameters}, s.task.done)
            if i == 0:
                walked |= set(nodes)
    return walked


#: the kernels whose graphs are run by make test; those of the others, which share most of the text, by make deep
SOME = ("v5.10", "base", "v5.11", "v5.15")
QUICK = ("free_unref_page", "rmqueue_pcplist", "zone_pcp_update", "drain_zone_pages")


def soon(kernel: str, name: str) -> bool:
    """Whether make test runs it."""
    return kernel in SOME or (kernel == "v6.11" and name in QUICK)


@pytest.mark.parametrize(
    ("kernel", "name"), [c if soon(*c) else pytest.param(*c, marks=pytest.mark.deep) for c in CASES]
)
def test_each_run_of_a_routine_is_a_path_of_its_graph(kernel: str, name: str) -> None:
    assert check(KERNELS[kernel], CONFIG, name, range(12))


@pytest.mark.parametrize("kernel", [k if k in SOME else pytest.param(k, marks=pytest.mark.deep) for k in KERNELS])
@pytest.mark.parametrize("name", ["direct_reclaim", "sysctl", "free_unref_page"])
def test_each_run_is_a_path_also_on_a_machine_of_two_zones(kernel: str, name: str) -> None:
    assert check(KERNELS[kernel], TWO_ZONES, name, range(8))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_run_of_a_mutants_offline_pages_is_a_path(mutant: str) -> None:
    assert check(build(MUTANTS[mutant]), CONFIG, "offline_pages", range(2))


def test_a_run_of_another_kernel_is_no_path() -> None:
    """A planted fault: the check is not one that everything passes."""
    with pytest.raises(NoPathError):
        for seed in range(12):
            for s, steps in runs(KERNELS["v5.10"], CONFIG, "zone_pcp_update", seed):
                graph = graph_of(V5_11, CONFIG, "zone_pcp_update", s.task.cpu)
                if s.task.name == "zone_pcp_update":
                    follow(graph, steps, {"me": s.task.number}, s.task.done)


def test_a_cut_is_made_where_a_loop_comes_round_once_more() -> None:
    kernel = V5_11(CONFIG)
    for visits in (1, 2):
        graph = extract(V5_11, lambda: kernel.drain_worker(0), 0, visits=lambda _, n=visits: n)
        begins = [n for n in graph.nodes if n.op.tag == "work_begin"]
        assert len(begins) == visits
        assert any(e.target == CUT for n in graph.nodes for e in n.edges)
        assert not any(e.target == DONE for n in graph.nodes for e in n.edges)


@pytest.mark.parametrize(
    ("kernel", "name"), [c if soon(*c) else pytest.param(*c, marks=pytest.mark.deep) for c in CASES]
)
def test_every_target_exists_and_every_edge_leads_forward_to_a_node_reached(kernel: str, name: str) -> None:
    graph = graph_of(KERNELS[kernel], CONFIG, name, 0)
    edges = [*graph.entry, *(e for n in graph.nodes for e in n.edges)]
    targets = {e.target for e in edges}
    assert targets <= {DONE, CUT, *range(len(graph.nodes))}
    assert set(range(len(graph.nodes))) <= targets
    state = dict.fromkeys(range(len(graph.nodes)), "new")

    def acyclic(number: int) -> bool:
        if number < 0 or state[number] == "closed":
            return True
        if state[number] == "open":
            return False
        state[number] = "open"
        fine = all(acyclic(e.target) for e in graph.nodes[number].edges)
        state[number] = "closed"
        return fine

    assert all(acyclic(e.target) for e in graph.entry)


def test_a_constant_cell_forks_nothing() -> None:
    kernel = V5_11(CONFIG)
    online = {Cell("cpu_online", (c,)): True for c in CONFIG.cpus}
    make = lambda: kernel._drain_all_pages(Zone(0), True)  # noqa: E731
    free, fixed = extract(V5_11, make, 0), extract(V5_11, make, 0, constants=online)
    assert len(fixed.nodes) < len(free.nodes) or sum(len(n.edges) for n in fixed.nodes) < sum(
        len(n.edges) for n in free.nodes
    )
    reads = [n for n in fixed.nodes if n.op.text.startswith("cpu_online")]
    assert reads
    assert all(len(n.edges) == 1 for n in reads)


def asks_twice() -> Routine:
    count = yield read("pcp.count", 0, 0)
    first = bool(count == 0)
    second = bool(count == 0)
    yield happens("possible" if first == second else "impossible")


def test_a_question_that_was_answered_is_not_asked_again() -> None:
    graph = extract(V5_11, asks_twice, 0)
    assert {n.op.text for n in graph.nodes} == {"pcp[0]->count", "possible"}


# --- loops ---


def two_loops(again: Callable[[str], bool] | None = None) -> Routine:
    """A loop within a loop; ``again`` decides in place of the environment."""
    while True:
        while True:
            yield happens("step")
            once_more = (yield environment("again", "again?")) if again is None else again("again?")
            if not once_more:
                break
        yield happens("round over")
        another = (yield environment("another", "another?")) if again is None else again("another?")
        if not another:
            return


def words(visits: int) -> set[tuple[str, ...]]:
    """What Python does with two_loops() if no place is come to more than ``visits`` times."""
    found = set()
    for answers in itertools.product((False, True), repeat=4 * visits):
        script, said = iter(answers), []

        def again(question: str, script: Iterator[bool] = script, said: list[str] = said) -> bool:
            said.append(question)
            return next(script)

        try:
            for op in two_loops(again):
                assert isinstance(op, Op)
                said.append(op.text)
                if max(said.count(w) for w in said) > visits:
                    break
            else:
                found.add(tuple(said))
        except (StopIteration, RuntimeError):
            continue
    return found


def whole_paths(graph: Graph) -> set[tuple[str, ...]]:
    found, todo = set(), [(e.target, ()) for e in graph.entry]
    while todo:
        number, before = todo.pop()
        if number == DONE:
            found.add(before)
        elif number != CUT:
            node = graph.nodes[number]
            todo += [(e.target, (*before, node.op.text)) for e in node.edges]
    return found


@pytest.mark.parametrize("visits", [1, 2, 3])
def test_no_path_within_the_bound_is_cut(visits: int) -> None:
    assert whole_paths(extract(V5_11, two_loops, 0, visits=lambda _: visits)) == words(visits)


def test_without_the_count_of_rounds_a_path_within_the_bound_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def come_to(self: Any, generator: Any, yielded: Any, path: list[int]) -> Any:
        key, op, _ = self._key(generator, yielded, path)
        before = sum(self.places[n] == key[0] for n in path)
        if before >= self.visits(op):
            return (CUT,), False
        if (key[0], before) in self.numbers:
            return (self.numbers[key[0], before],), False
        number = self.numbers[key[0], before] = len(self.ops)
        self.places.append(key[0])
        self.positions.append(())
        self.ops.append(op)
        self.stacks.append(())
        self.ways[number] = []
        return (number,), True

    monkeypatch.setattr(automaton._Unrolling, "come_to", come_to)
    assert whole_paths(extract(V5_11, two_loops, 0, visits=lambda _: 2)) < words(2)


@pytest.mark.parametrize("name", [k if k in SOME else pytest.param(k, marks=pytest.mark.deep) for k in KERNELS])
@pytest.mark.parametrize(("rounds", "migrations"), [(2, 0), (1, 1)])
def test_the_shipped_kernels_are_read_in_one_way_in_either_order(name: str, rounds: int, migrations: int) -> None:
    scenario = Scenario(cpus=2, rounds=rounds, migrations=migrations)
    kernel = KERNELS[name](scenario.config)
    for spec in scenario.tasks():
        if not spec.kind.serves:
            make, loops = partial(spec.make, kernel), automaton.Loops()
            one, two = (
                automaton._unrolled(KERNELS[name], make, 0, {}, scenario.visits, loops, False, other)
                for other in (False, True)
            )
            assert same_unrolled(one, two)


def grows() -> Routine:
    before = 0
    while True:
        before = before + (yield read("pcp.count", 0, 0))
        if before > 5:
            return


def test_a_loop_that_carries_ever_new_values_is_refused() -> None:
    with pytest.raises(ModelError, match="bound it"):
        extract(V5_11, grows, 0)


# --- liveness of local variables ---
