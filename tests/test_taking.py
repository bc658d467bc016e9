"""What the buddy hands out where an engine says of which blocks the pages are."""

from __future__ import annotations

import pytest

from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine
from kernelmodel.memory.state import Place
from kernelmodel.mmzone import MigrateType
from kernelmodel.page_ops import refill
from kernelmodel.page_ops.taking import rmqueue_page
from kernelmodel.versions.v5_14 import V5_14


def booted() -> Machine:
    return Machine(V5_14, Config(1, block_types=(MigrateType.MOVABLE,) * 3, pcp_order=1), limits=(6, 3))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "wanted", [{"got0": 1, "got1": 2, "got2": 0}, {"got0": 0, "got1": 0, "got2": 1}, {"got1": 0}, {}]
)
def test_pages_are_of_the_blocks_that_are_asked_for(order: int, wanted: dict[str, int]) -> None:
    machine = booted()
    state, zone = machine.state, machine.zone()
    free = state.place.count(Place.BUDDY)
    op = refill(machine.config, zone, 0, MigrateType.MOVABLE, 3, order)
    assert op.effect is not None
    made = op.effect(state, wanted).choices
    assert {name: made[name] for name in wanted} == wanted
    pages = sum(made[f"got{b}"] for b in range(3)) << order
    assert pages == (min(3, sum(wanted.values())) << order if len(wanted) == 3 else 3 << order)
    assert state.place.count(Place.PCP) == pages and state.place.count(Place.BUDDY) == free - pages
    assert not [s for s in state.audit() if "count" not in s]


def test_without_a_wish_they_are_others() -> None:
    machine = booted()
    op = rmqueue_page(machine.config, machine.zone(), MigrateType.MOVABLE)
    assert op.effect is not None
    first = next(b for b in range(3) if op.effect(booted().state, {}).choices[f"got{b}"])
    other = (first + 1) % 3
    made = op.effect(machine.state, {f"got{b}": int(b == other) for b in range(3)}).choices
    assert made[f"got{other}"] and not made[f"got{first}"]


def test_more_than_there_are_is_refused_and_changes_nothing() -> None:
    machine = booted()
    state, pages = machine.state, machine.config.pages_per_block
    op = refill(machine.config, machine.zone(), 0, MigrateType.MOVABLE, pages + 1)
    before = list(state.place)
    assert op.effect is not None
    with pytest.raises(ModelError, match=f"block 1 has {pages} free pages where the trace takes {pages + 1}"):
        op.effect(state, {"got1": pages + 1})
    assert state.place == before and not state.audit()
