"""What is worked out at one place is what would be worked out at its images: other CPUs, other ones of equal tasks."""

from __future__ import annotations

import pytest

from kernelmodel.kernels import kernel, mutant
from properties.catalogue import PROPERTIES
from verify.explore import images, library
from verify.explore.finite import Finite
from verify.explore.images import Images
from verify.explore.model import Model
from verify.explore.movers import Movers
from verify.explore.native import search_by
from verify.explore.search import Limits, initial_rows
from verify.explore.solve import Explorer
from verify.explore.symmetry import Symmetric
from verify.scenario import Scenario

pytestmark = pytest.mark.skipif(
    library.library() is None, reason="no C compiler: NumPy works each table out for itself"
)

THREE = Finite(Scenario(cpus=3, frees=2, allocs=0, updates=0), 2)
BOTH = Finite(Scenario(cpus=2, frees=1, allocs=1, updates=0), 2)


class DiffersError(Exception):
    """A renamed decision that the table itself would have made otherwise."""


def compared(name: str, finite: Finite, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many decisions were renamed in a search, each held against the table's own."""
    text = kernel(name) if name.startswith("v") else mutant(name)
    properties = [p for p in PROPERTIES.values() if not Explorer(text, finite).why_not(p)]
    model = Model(text, finite, properties, any_order=True)
    whole, renamed_ones = Images._back, []

    def back(self, table, v, *rest):
        renamed = whole(self, table, v, *rest)
        own = table.decide(v)[0]

        def meant(outcomes):
            return sorted(([o.changes.get(c, x) for c, x in enumerate(v)], list(o.delta), o.wrong) for o in outcomes)

        if meant(renamed[0]) != meant(own):
            raise DiffersError
        renamed_ones.append(table)
        return renamed

    with monkeypatch.context() as m:
        m.setattr(Images, "_back", back)
        search_by("auto", 1, Symmetric(model, Movers(model)), Limits(), 0).run(initial_rows(model, True))
    return len(renamed_ones)


@pytest.mark.parametrize(
    ("name", "finite"), [("v5.11", THREE), ("v5.11", BOTH), ("v6.11", BOTH), ("no-force-all-cpus", THREE)]
)
def test_a_renamed_decision_is_the_tables_own(name, finite, monkeypatch):
    # how many depends on which states ask first, and that on the order in which the loop follows them
    assert compared(name, finite, monkeypatch) > 60


@pytest.mark.parametrize("what", ["owners", "columns", "moves"])
def test_a_renaming_that_forgets_something_is_found_out(what, monkeypatch):
    """The twin: owners keep their names, or cells their CPU, or tasks their places."""
    renamed = Images.renamed
    nothing = {"owners": {}, "columns": (), "moves": {}}[what]
    monkeypatch.setattr(Images, "renamed", lambda self, r, v: renamed(self, r._replace(**{what: nothing}), v))
    with pytest.raises(DiffersError):
        compared("v5.11", THREE, monkeypatch)


def test_where_cpus_have_other_cells_nothing_is_renamed():
    model = Model(kernel("v5.11"), THREE, [PROPERTIES["no_stray_page"]], any_order=True)
    whole = Symmetric(model, Movers(model))
    assert len(whole._images._swaps) == 2
    model.address = {c: a for c, a in model.address.items() if not (c.name == "pcp.high" and c.index[1] == 2)}
    cut = images.Images(model, whole.tables, whole.away, whole._moves)
    assert not cut._swaps
