"""Pages with identities: what an operation does to counts, as moves of single pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from kernelmodel.cells import CELLS
from kernelmodel.errors import ModelError
from verify.explore.model import BUDDY, Model

#: where the pages of a block are that has gone offline
OFFLINE = -1


class Identities:
    """Computes the counts from where each page is, and which moves of pages give the counts that an operation asks for."""

    def __init__(self, model: Model) -> None:
        """For the pages of one model."""
        self.model = model
        #: the number of the last task: a kernel without workers has no tasks of their numbers
        self._last = max(model.kind_of)
        self.places: dict[int, tuple[int, int, int | None]] = {}
        for address, cell in model.virtual.items():
            kind = CELLS[cell.name]
            block = int(cell.index[kind.position("block")])
            if kind.where == "task":
                self.places[address] = (block, 0, 0)
            else:
                self.places[address] = (block, model.on_list(cell) if kind.where == "pcplist" else BUDDY, None)

    def fill(self, v: list[int]) -> None:
        """Put the counts behind the columns of ``v``."""
        pages = [(v[b], v[w]) for b, w in zip(self.model.block, self.model.where, strict=True)]
        for address, (block, place, held) in self.places.items():
            if held is None:
                v[address] = sum(p == (block, place) for p in pages)
            else:
                v[address] = sum(b == block and 0 < w <= self._last for b, w in pages)

    def moves(self, v: list[int], w: list[int], task: int) -> Iterator[list[int]]:
        """Each way in which pages may move so that the counts of ``v`` become those of ``w``."""
        task = self.model.holder(task)
        per_block: list[list[list[tuple[int, int]]]] = []
        for block in range(self.model.config.nr_blocks):
            change: dict[int, int] = {}
            for address, (b, place, held) in self.places.items():
                if b == block and w[address] != v[address]:
                    change[place if held is None else task] = w[address] - v[address]
            if not change:
                continue
            to = [place for place, n in change.items() if n > 0]
            if len(to) > 1:
                raise ModelError("one step takes pages of a block to two places: this cannot be followed page by page")
            target = to[0] if to else OFFLINE
            ways: list[list[tuple[int, int]]] = [[]]
            for place, n in change.items():
                if n < 0:
                    here = [
                        p
                        for p, (bc, wc) in enumerate(zip(self.model.block, self.model.where, strict=True))
                        if v[bc] == block and v[wc] == place
                    ]
                    ways = [
                        [*way, *((p, target) for p in chosen)]
                        for way in ways
                        for chosen in itertools.combinations(here, -n)
                    ]
            per_block.append(ways)
        for combination in itertools.product(*per_block):
            x = w[:]
            for moved in combination:
                for page, target in moved:
                    x[self.model.where[page]] = target
            self.fill(x)
            yield x
