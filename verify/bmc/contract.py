"""A task's graph made lean for a slice: without operations that do nothing there, and equal futures as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kernelmodel.cells import CELLS, names, owner, stops_others
from kernelmodel.graphs.automaton import CUT, Edge, Graph, Node
from kernelmodel.graphs.folded_graph import op_key
from kernelmodel.graphs.futures import futures
from kernelmodel.graphs.shapes import Shapes
from kernelmodel.ops import Op
from kernelmodel.terms import TRUE, Cell, atoms, reg
from verify.bmc.sections import UnclearError, leading, renamed, stretches
from verify.scenario import TaskSpec

#: sums over all CPUs: a slice follows its own CPU's part, and what others add is open (held) or excluded (misplaced)
AGGREGATES = names(lambda kind: kind.sum_over_cpus)
#: the exclusions that stop everybody else on a CPU
STOPS = names(lambda kind: kind.exclusion == "interrupts")
#: graphs are contracted again and again, and their operations stay the same
_SHAPES = Shapes()


@dataclass(frozen=True, slots=True)
class TaskGraph:
    """A task of the scenario with its control graph and the CPU on which the slice has it."""

    spec: TaskSpec
    cpu: int
    graph: Graph


def followed(cell: Cell, cpu: int) -> bool:
    """Whether a slice of ``cpu`` follows the cell: what belongs to other CPUs is open."""
    mine = owner(cell)
    if mine is None:
        return True
    # a slice that follows no CPU still follows what tasks of any CPU write
    return CELLS[cell.name].written_by_all if cpu < 0 else mine == cpu


def _effective_guard(op: Op, cpu: int) -> bool:
    """Whether the guard can hold the task up as far as a slice of ``cpu`` can tell."""
    if op.guard.op == "const":
        return not op.guard.args[0]
    return any(followed(a.args[0], cpu) for a in atoms(op.guard, "cell"))


def without_stops(graph: Graph) -> Graph:
    """The graph in which nobody keeps others off a CPU by turning interrupts off."""

    def open_to_all(op: Op) -> Op:
        if stop_of(op) is None:
            return op
        taken = {c for c in (op.does.acquires, op.does.releases) if c is not None}
        updates = tuple((c, t) for c, t in op.updates if c not in taken)
        does = replace(op.does, acquires=None, releases=None)
        return replace(op, guard=TRUE, must="", updates=updates, does=does)

    return Graph(graph.entry, [Node(n.number, open_to_all(n.op), n.stack, n.edges) for n in graph.nodes])


def contract(
    task: TaskGraph, cells: frozenset[Cell], judged: frozenset[int], cpu: int, elsewhere: frozenset[int]
) -> Graph:
    """The task's graph without operations that change, wait for and decide nothing that a slice of ``cpu`` follows.

    ``judged``: operations that stay, for a property judges them.

    That a task hangs in a critical section of ``elsewhere``, those of other CPUs, is not seen: it may go on, which only adds
    runs.  Nor does it matter there how often a loop goes round, if no round does anything that is followed.
    """
    lean = _contracted(task, cells, judged, cpu, elsewhere, any_round=True)
    if any(n.number in elsewhere for n in lean.nodes):
        lean = _contracted(task, cells, judged, cpu, elsewhere, any_round=False)
    while True:
        before = len(lean.nodes)
        lean = merged(lean, judged)
        if len(lean.nodes) == before:
            return lean
        # what decided between two nodes that are one decides nothing
        lean = _contracted(replace(task, graph=lean), cells, judged, cpu, elsewhere, any_round=False)


def _contracted(
    task: TaskGraph, cells: frozenset[Cell], judged: frozenset[int], cpu: int, elsewhere: frozenset[int],
    any_round: bool,
) -> Graph:  # fmt: skip
    graph = _in_any_round(task.graph, elsewhere) if any_round else task.graph
    gone: dict[int, int] = {}

    def follow(target: int) -> int:
        while target in gone:
            target = gone[target]
        return target

    def matters(node: Node) -> bool:
        return (
            (stop_of(node.op) == task.cpu and task.spec.kind.on_lists)
            or (_effective_guard(node.op, cpu) and not (node.op.does.hangs and node.number in elsewhere))
            or any(c in cells and not (node.number in elsewhere and c.name in AGGREGATES) for c, _ in node.op.updates)
            or node.number in judged
        )

    def deciding_registers() -> set[str]:
        rest = [n for n in graph.nodes if n.number not in gone]
        terms = [t for n in rest for t in (*n.op.returns, n.op.guard, n.op.where)]
        terms += [t for n in rest for c, t in n.op.updates if c in cells]
        for edges in (graph.entry, *(n.edges for n in rest)):
            if len({follow(e.target) for e in edges}) > 1:
                terms += [c for e in edges for c in e.conditions]
        return {a.args[0] for t in terms for a in atoms(t, "reg")}

    while True:
        used = deciding_registers()
        before = len(gone)
        for node in reversed(graph.nodes):
            targets = {follow(e.target) for e in node.edges}
            needed = any(f"{node.number}.{i}" in used for i in range(len(node.op.returns)))
            if node.number not in gone and len(targets) == 1 and not needed and not matters(node):
                gone[node.number] = targets.pop()
        if len(gone) == before:
            break
    return _reachable(graph, follow)


def _in_any_round(graph: Graph, elsewhere: frozenset[int]) -> Graph:
    """The graph without the edges at which a path is cut for what sections of other CPUs returned."""

    def foreign(edge: Edge) -> bool:
        registers = {a.args[0].partition(".")[0] for c in edge.conditions for a in atoms(c, "reg")}
        return edge.target == CUT and bool(registers) and all(r.isdigit() and int(r) in elsewhere for r in registers)

    def left(node: Node) -> list[Edge]:
        kept = [e for e in node.edges if not foreign(e)]
        if len(kept) == len(node.edges) or not kept:
            return node.edges
        return [Edge((), kept[0].target)] if len(kept) == 1 else node.edges

    return Graph(graph.entry, [Node(n.number, n.op, n.stack, left(n)) for n in graph.nodes])


def merged(graph: Graph, apart: frozenset[int]) -> Graph:
    """The graph with one node for each class of equal futures: the same paths, for no node has the future of one after it.

    What lies in critical sections is one only where the sections begin as one, and nodes of ``apart`` only with others of it.
    """
    place = {n.number: i for i, n in enumerate(graph.nodes)}
    try:
        # asked anew: a kernel declares locks of its own
        found = stretches(graph, names(lambda kind: bool(kind.exclusion) and not kind.sleeps))
    except UnclearError:
        return graph
    begins: dict[int, list[object]] = {}
    for s in found:
        for number in s.nodes:
            begins.setdefault(number, []).append(("reg", "int", f"{s.first}.begins"))
    _SHAPES.forget()
    keys = [
        (_SHAPES.key(n.op, op_key), n.op.text, n.stack, n.number in apart, tuple(begins.get(n.number, ())))
        for n in graph.nodes
    ]
    ways = [[(tuple(c.key for c in e.conditions), place.get(e.target, e.target)) for e in n.edges] for n in graph.nodes]
    names_of = {str(number): i for number, i in place.items()}
    classes = futures(keys, ways, [(i,) for i in range(len(graph.nodes))], names_of, _SHAPES)
    first: dict[int, Node] = {}
    for n, c in zip(graph.nodes, classes, strict=True):
        first.setdefault(c, n)
    if len(first) == len(graph.nodes):
        return graph
    stands_for = {n.number: first[c].number for n, c in zip(graph.nodes, classes, strict=True)}
    registers = {
        f"{old}.{i}": reg(f"{new}.{i}", t.sort)
        for old, new in stands_for.items()
        for i, t in enumerate(graph.nodes[place[old]].op.returns)
        if old != new
    }

    def moved(edges: Iterable[Edge]) -> list[Edge]:
        found = [leading(e, registers, stands_for.get(e.target, e.target)) for e in edges]
        return found if len({e.target for e in found}) > 1 else [Edge((), found[0].target)]

    nodes = [Node(n.number, renamed(n.op, registers), n.stack, moved(n.edges)) for n in first.values()]
    return Graph(moved(graph.entry), sorted(nodes, key=lambda n: n.number))


def _reachable(graph: Graph, follow: Callable[[int], int]) -> Graph:
    def rewired(edges: list[Edge]) -> list[Edge]:
        targets = {follow(e.target) for e in edges}
        if len(targets) == 1:
            return [Edge((), targets.pop())]
        return [Edge(e.conditions, follow(e.target)) for e in edges]

    nodes = {n.number: n for n in graph.nodes}
    kept: dict[int, Node] = {}
    entry = rewired(graph.entry)
    queue = [e.target for e in entry if e.target >= 0]
    while queue:
        number = queue.pop()
        if number not in kept:
            node = nodes[number]
            kept[number] = Node(number, node.op, node.stack, rewired(node.edges))
            queue += [e.target for e in kept[number].edges if e.target >= 0]
    return Graph(entry, [kept[n] for n in sorted(kept)])


def stop_of(op: Op) -> int | None:
    """The CPU on which an operation stops everybody else, or no longer does; None if it does neither."""
    cell = op.does.acquires or op.does.releases
    return owner(cell) if cell is not None and stops_others(cell) else None
