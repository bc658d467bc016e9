"""Does a kernel boot into the state in which engines start: each CPU with the zone's limits?"""

from __future__ import annotations

from kernelmodel.cells import CELLS, limits_of_cpus
from kernelmodel.config import Config
from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine
from kernelmodel.terms import Cell
from kernelmodel.text import KernelText

#: limits that no pageset has before it is set up
_HIGH, _BATCH = 3, 2


def check_boots(kernel: type[KernelText]) -> None:
    """ModelError if setup_zone_pageset() leaves a CPU without the zone's limits: engines take it that it does not."""
    machine = Machine(kernel, Config(nr_cpus=2), (_HIGH, _BATCH))
    for cpu in machine.config.cpus:
        names = {CELLS[zone].limit: name for name, zone in limits_of_cpus(machine.config)}
        high, batch = (machine.state.load(Cell(names[which], (0, cpu))) for which in ("high", "batch"))
        if (high, batch) != (_HIGH, _BATCH):
            raise ModelError(
                f"{kernel.name} does not boot: with limits high {_HIGH}, batch {_BATCH} setup_zone_pageset() leaves CPU"
                f" {cpu} with high {high}, batch {batch}, and every engine starts with the zone's limits on each CPU"
            )
