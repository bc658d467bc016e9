"""The events of an encoding, one for each operation of each task, and the stretches that hold an exclusion."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernelmodel.cells import stops_others
from kernelmodel.graphs.automaton import Node
from kernelmodel.terms import Cell
from verify.bmc.contract import TaskGraph
from verify.smt import Expr


@dataclass(slots=True, eq=False)
class Event:
    """An operation of a task: whether it happened, when, and the values of its reads, writes and choices."""

    task: TaskGraph
    node: Node
    happened: Expr
    moment: Expr
    #: the critical section of a pcplist in which it is, and the stretch in which its CPU is the task's alone
    section: Section | None = None
    alone: Section | None = None
    writes: dict[Cell, Expr] = field(default_factory=dict)
    written: dict[Cell, Expr] = field(default_factory=dict)
    reads: dict[Cell, Expr] = field(default_factory=dict)
    choices: dict[str, Expr] = field(default_factory=dict)
    returned: list[Expr] = field(default_factory=list)
    before: dict[Cell, Expr] = field(default_factory=dict)
    after: dict[Cell, Expr] = field(default_factory=dict)
    #: whether anything asks when it happened: else it comes right after what was the last before it
    timed: bool = False
    #: the timed events of its task that may have been the last, itself if it is one, and its place in the order of its task
    since: list[Event] = field(default_factory=list)
    place: int = 0

    @property
    def clock(self) -> Expr:
        """When it happened: who asks makes it an event that is told apart in time."""
        self.timed = True
        return self.moment

    @property
    def name(self) -> str:
        """A name for variables."""
        return f"{self.task.spec.name}.{self.node.number}"


@dataclass(slots=True, eq=False)
class Section:
    """A stretch that holds an exclusion: its first event, its last ones, and the private cells on entry and on exit.

    ``of`` is the exclusion as which it counts, ``entered`` whether there is such a stretch in a run: the first event has
    happened, and has got what it tried to get.
    """

    first: Event
    of: Cell
    cpu: int
    ends: list[Event] = field(default_factory=list)
    entry: dict[Cell, Expr] = field(default_factory=dict)
    exit: dict[Cell, Expr] = field(default_factory=dict)
    clock_end: Expr = None
    over: Expr = None
    entered: Expr = None

    @property
    def stops(self) -> bool:
        """Whether nobody else runs on its CPU."""
        return stops_others(self.of)

    @property
    def remote(self) -> bool:
        """Whether it counts as one of another CPU than that on which it is: of one that has gone, whose lists it works on."""
        return self.of != self.first.node.op.does.acquires


#: the events of a task by node number
Events = dict[int, Event]


def no_atom(_: object) -> Expr:
    """For translate() of what has no registers or choices: a state property reads cells only."""
    raise TypeError("a state property reads cells only")


def topological(events: Events) -> list[Event]:
    """The events of a task, each after all that can lead to it."""
    waiting = dict.fromkeys(events, 0)
    for e in events.values():
        for target in {edge.target for edge in e.node.edges if edge.target >= 0}:
            waiting[target] += 1
    ready = [e for e in events.values() if not waiting[e.node.number]]
    order = []
    while ready:
        e = ready.pop()
        order.append(e)
        for target in {edge.target for edge in e.node.edges if edge.target >= 0}:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(events[target])
    return order
