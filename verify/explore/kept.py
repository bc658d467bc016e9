"""What a search works out before and while it goes through the states, kept for the next one of an equal model.

Kept are which operations need no interleaving, what makes the model symmetric, and what the tables have learnt of single
operations: nothing of which states there are, and no verdict.  Each search goes through all its states itself.

It is found again by all that it follows from: the model as a whole (each operation's terms, each check, the numbers of the
configuration, whoever's text they are from), and straypage's own text.  Where somebody has put another function or number
into the engine in this process, nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.cells import CELLS
from kernelmodel.graphs import digest, on_disk
from verify.explore import library, movers
from verify.explore.model import Model
from verify.explore.moving import Moves
from verify.explore.native import NativeSearch
from verify.explore.observed import Chosen
from verify.explore.prepared import Learnt
from verify.explore.search import Search
from verify.explore.symmetry import Alike, Symmetric
from verify.explore.table import Transitions
from verify.keeping import files
from verify.keeping.said import Said
from verify.keeping.written import Written

_FOLDER = "searches"


@dataclass(slots=True)
class Kept:
    """What is known of a model: all of it from a search that went to its end, or nothing.

    ``asymmetry`` says why it is not symmetric, if it was found not to be.
    """

    moves: Moves | None = None
    alike: Alike | None = None
    asymmetry: str = ""
    learnt: Learnt | None = None
    chosen: Chosen | None = None
    premises: int = 0

    def give(self, transitions: Transitions) -> None:
        """Have transitions know who stands for whom, before anything is asked of them."""
        if self.chosen is not None and transitions.observed is not None:
            transitions.observed.take(self.chosen)
            transitions.premises_seen |= self.premises

    def teach(self, search: Search) -> None:
        """Have the tables of a search know what was learnt, before it begins."""
        if self.learnt is not None and isinstance(search, NativeSearch):
            search.tables.take(self.learnt)


class Place:
    """Where what is known of a model is kept; nowhere, where it cannot be told from others."""

    def __init__(self, model: Model, *how: str) -> None:
        """``how`` it is searched, in words."""
        self._file: Path | None = None
        if as_written():
            with suppress(digest.UnknownError):
                self._file = on_disk.place(_FOLDER, name_of(model, how))

    def found(self) -> Kept:
        """What is known."""
        return files.load(self._file, Kept) or Kept()

    def keep(self, kept: Kept) -> None:
        """Keep it."""
        files.keep(self._file, kept)

    def keep_search(self, search: Search, before: Kept) -> None:
        """Keep what a search has worked out beyond what was known before, if it went to its end."""
        t = search.transitions
        if not isinstance(search, NativeSearch) or search.frontier or search.found.stopped or t.movers is None:
            return
        if t.observed is None or (
            before.learnt is not None and 20 * search.tables.asked < len(before.learnt.arrays["leaves"])
        ):
            # of states that renaming makes of each other another one came first
            return
        moves = before.moves or Moves.of(t.model, t.movers)
        alike = t.alike if isinstance(t, Symmetric) else None
        self.keep(Kept(moves, alike, "", search.tables.learnt(), t.observed.chosen(), t.premises_seen))


# --- the name of a model ---


def name_of(model: Model, how: Iterable[str]) -> str:
    """A digest of all that a search of a model depends on, the same in every process; UnknownError where there is none."""
    said = Said(library.source(), *how)
    said.value(model.finite, model.config, model.identities, model.any_order)
    # in which order cells have columns depends on which kernels there are in this process
    said.value([tuple(c) for c in model.columns], sorted((tuple(c), a) for c, a in model.address.items()))
    for cell in sorted(model.initial_values):
        values = sorted(map(int, model.initial_values[cell]))
        said.lines.append(f"{tuple(cell)!r} {digest.of_value(CELLS[cell.name])} {values}")
    for prop in model.properties:
        said.lines.append(f"{prop.name} {prop.stuck}")
        said.checks((0, c) for c in (*prop.state_checks(model.config), *prop.rest_checks(model.config)))
    for one in model.state_checks:
        said.lines.append(f"{one.prop} {one.rest}")
        said.checks([(one.prop, one.check)])
    for task in model.tasks:
        spec = task.spec
        place = [spec.name, spec.number, spec.cpu, spec.home, spec.parameters, sorted(task.parameters.items())]
        said.lines.append(f"{place!r} {digest.of_value(spec.kind)} {task.graph.locations}")
        said.edges(task.graph.entry)
        for node in task.graph.nodes:
            said.lines.append(f"{node.number} {node.cpu} {node.irqs_off}")
            said.op(node.op)
            said.checks(model.step_checks(node.op))
            said.edges(node.edges)
    return said.digest()


#: as it is when it is imported: movers.py, and all that the others import
_written = Written(__package__, movers.__name__)


def as_written() -> bool:
    """Whether the engine is what its text says."""
    return _written.still()
