"""What a search works out before and while it goes through the states, kept for the next one of an equal model.

Kept are which operations need no interleaving, what makes the model symmetric, and what the tables have learnt of single
operations: nothing of which states there are, and no verdict.  Each search goes through all its states itself.

It is found again by all that it follows from: the model as a whole (each operation's terms, each check, the numbers of the
configuration, whoever's text they are from), and straypage's own text.  Where somebody has put another function or number
into the engine in this process, nothing is kept.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from kernelmodel import cache_folders
from kernelmodel.cells import CELLS
from kernelmodel.graphs import digest, on_disk
from kernelmodel.terms import LEAVES, Cell, Term
from verify.explore import library, movers
from verify.explore.model import Model
from verify.explore.moving import Moves
from verify.explore.native import NativeSearch
from verify.explore.observed import Chosen
from verify.explore.prepared import Learnt
from verify.explore.search import Search
from verify.explore.symmetry import Alike
from verify.explore.table import Transitions

_FOLDER = "searches"
#: of one text of straypage so many files are kept, those used last
MOST = 200


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
        if cache_folders.is_off() or not as_written():
            return
        try:
            name = name_of(model, how)
        except digest.UnknownError:
            return
        folder = next(cache_folders.folders(f"{_FOLDER}/{digest.sources()[:32]}"), None)
        self._file = folder and folder / f"{name[:48]}.pickle"

    def found(self) -> Kept:
        """What is known."""
        try:
            kept: Kept = pickle.loads(self._file.read_bytes() if self._file else b"")
            if self._file:
                self._file.touch()
        except Exception:
            # no such file, or one that was not written to its end
            return Kept()
        return kept

    def keep(self, kept: Kept) -> None:
        """Keep it."""
        if self._file is not None:
            on_disk.store(self._file, pickle.dumps(kept, pickle.HIGHEST_PROTOCOL), MOST)

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
        alike = getattr(t, "alike", None)
        self.keep(Kept(moves, alike, "", search.tables.learnt(), t.observed.chosen(), t.premises_seen))


# --- the name of a model ---


def name_of(model: Model, how: Iterable[str]) -> str:
    """A digest of all that a search of a model depends on, the same in every process; UnknownError where there is none."""
    said = _Said()
    head = [digest.sources(), library.source(), *how]
    head += [repr(digest.said(x)) for x in (model.finite, model.config, model.identities, model.any_order)]
    # in which order cells have columns depends on which kernels there are in this process
    head += [repr([tuple(c) for c in model.columns]), repr(sorted((tuple(c), a) for c, a in model.address.items()))]
    said.lines += head
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
            op = node.op
            place = [node.number, node.cpu, node.irqs_off, str(op.kind), op.tag, bool(op.must), op.external]
            said.lines.append(f"{place!r} {said.does(op.does)}")
            said.terms([op.guard, op.where, op.counted])
            for terms in (op.returns, op.counted_returns, op.choices, [t for _, t in op.updates]):
                said.terms(terms)
            said.lines.append(repr([tuple(c) for c, _ in op.updates]))
            said.checks(model.step_checks(op))
            said.edges(node.edges)
    return hashlib.sha256("\n".join(said.lines).encode()).hexdigest()


class _Said:
    """Lines in which terms have numbers: each is said once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._numbers: dict[int, int] = {}
        self._does: dict[Any, str] = {}

    def terms(self, terms: Iterable[Term]) -> None:
        self.lines.append(repr([self._term(t) for t in terms]))

    def _term(self, term: Term) -> int:
        found = self._numbers.get(term.number)
        if found is None:
            if term.op in LEAVES:
                (what,) = term.args
                text = repr((tuple(what) if isinstance(what, Cell) else digest.said(what), term.sort))
            else:
                text = repr([self._term(a) for a in term.args])
            found = self._numbers[term.number] = len(self._numbers)
            self.lines.append(f"{found} {term.op} {term.sort} {text}")
        return found

    def does(self, does: Any) -> str:
        if does not in self._does:
            self._does[does] = digest.of_value(does)
        return self._does[does]

    def checks(self, checks: Iterable[tuple[int, Any]]) -> None:
        for number, check in checks:
            self.terms((check.premise, check.violation))
            self.lines.append(f"{number} {check.cpu}")

    def edges(self, edges: Iterable[tuple[tuple[Term, ...], int]]) -> None:
        for conditions, target in edges:
            self.terms(conditions)
            self.lines.append(f"to {target}")


# --- whether the engine is what its text says ---

#: what works out what is kept, beside the modules of this folder
_BESIDE = (
    movers.__name__,
    "kernelmodel.terms",
    "kernelmodel.cells",
    "kernelmodel.graphs.matching",
    "kernelmodel.graphs.folded_graph",
)


def _engine() -> Iterator[tuple[object, str, Any]]:
    """The functions, classes and numbers of the engine's modules, and what its classes are made of."""
    ours = __name__.rpartition(".")[0]
    for module in [m for n, m in sys.modules.items() if n.startswith(f"{ours}.") or n in _BESIDE]:
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield from ((value, n, v) for n, v in list(vars(value).items()))
            if isinstance(value, (FunctionType, type, int, float, str, tuple, frozenset, ModuleType)):
                yield module, name, value


#: as it is when it is imported, which is before anybody can have put anything else there
_written = [(thing, name, value) for thing, name, value in _engine() if not name.startswith("__abc")]


def as_written() -> bool:
    """Whether the engine is what its text says: a test may have put another function or number into it."""
    return all(vars(thing).get(name) is value for thing, name, value in _written)
