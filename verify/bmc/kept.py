"""Where a model's slices are kept: under all that they follow from, whoever's text it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kernelmodel.cells import CELLS
from kernelmodel.graphs import digest, on_disk
from kernelmodel.graphs.automaton import Graph
from properties.property import Property
from verify.bmc.alike import first_like
from verify.keeping.said import Said
from verify.scenario import TaskSpec

if TYPE_CHECKING:
    from verify.bmc.slice import Model

_FOLDER = "slices"


class Named:
    """The names of one model's slices."""

    def __init__(self, model: Model) -> None:
        """Nothing is asked of the model before a name is wanted."""
        self._model = model

    def place(self, prop: Property) -> Path | None:
        """Where the slices of a property are kept; None where it cannot be said what they follow from."""
        with suppress(digest.UnknownError):
            said = Said(self._said)
            said.checks((0, c) for c in prop.state_checks(self._model.config))
            # of alike tasks too: what a property says of an operation may depend on what its registers are called
            for graph in self._graphs(self._model.specs):
                for i, node in enumerate(graph.nodes):
                    said.checks((i, c) for c in prop.step_checks(self._model.config, node.op))
            return on_disk.place(_FOLDER, said.digest())
        return None

    @cached_property
    def _said(self) -> str:
        """A digest of all that any slices follow from; UnknownError where it cannot be told from another model's."""
        m, said = self._model, Said()
        said.value(m.scenario, m.config, m.exact, m.unclear, list(m.known.items()), m.relaxed is None)
        said.lines += [f"{name} {digest.of_value(kind)}" for name, kind in sorted(CELLS.items())]
        like = {spec: first_like(spec, m.specs) for spec in m.specs}
        for spec in m.specs:
            place = [spec.name, spec.number, spec.cpu, spec.home, spec.parameters, like[spec].name]
            said.lines.append(f"{place!r} {digest.of_value(spec.kind)}")
        for graph in self._graphs(s for s in m.specs if like[s] is s):
            said.edges((e.conditions, e.target) for e in graph.entry)
            for node in graph.nodes:
                said.lines.append(repr((node.number, node.stack, node.op.text)))
                said.op(node.op)
                said.edges((e.conditions, e.target) for e in node.edges)
        return said.digest()

    def _graphs(self, specs: Iterable[TaskSpec]) -> Iterator[Graph]:
        """The graphs of tasks wherever they may be."""
        for spec in specs:
            cpus = self._model.config.cpus if spec.cpu is None else (spec.cpu,)
            yield from (self._model.graph(spec, c) for c in cpus)
