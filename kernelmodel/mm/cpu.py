"""kernel/cpu.c: a CPU goes down and comes up, as far as pcplists notice."""

from __future__ import annotations

from kernelmodel.cells import value
from kernelmodel.does import Does
from kernelmodel.mm.memory_hotplug import MemoryHotplug
from kernelmodel.ops import Kind, Op, Routine
from kernelmodel.terms import Cell, const, land, lnot, lor
from kernelmodel.told import Told

_TELLING = Told(telling=True)


class CpuHotplug(MemoryHotplug):
    """CPU hotplug."""

    def cpu_down(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_down(): the CPU leaves cpu_online_mask, and only then are its pcplists drained."""
        yield from self.cpus_write_lock()
        yield from self.take_cpu_down(cpu)
        yield from self.page_alloc_cpu_dead(cpu)
        yield from self.cpus_write_unlock()

    def take_cpu_down(self, cpu: int) -> Routine:
        """kernel/cpu.c: take_cpu_down(), under stop_machine(): nobody has interrupts or preemption off there.

        Its tasks move away; the last online CPU stays.
        """
        yield Op(
            f"take_cpu_down(cpu {cpu})",
            Kind.CRITICAL,
            guard=land(
                value("cpu_online", cpu),
                value("irqs_off", cpu) == 0,
                value("preempt_count", cpu) == 0,
                lor(*(value("cpu_online", c) for c in self.config.cpus if c != cpu)),
            ),
            updates=((Cell("cpu_online", (cpu,)), const(False)),),
            does=Does(takes_down=cpu),
            told=_TELLING,
            tag="cpu_down",
            info={"cpu": cpu},
        )

    def cpu_up(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_up()."""
        yield from self.cpus_write_lock()
        yield self.set_cpu_online(cpu)
        yield from self.cpus_write_unlock()

    def set_cpu_online(self, cpu: int) -> Op:
        """include/linux/cpumask.h: set_cpu_online(cpu, true)."""
        return Op(
            f"set_cpu_online(cpu {cpu}, true)",
            guard=lnot(value("cpu_online", cpu)),
            updates=((Cell("cpu_online", (cpu,)), const(True)),),
            does=Does(brings_up=cpu),
            told=_TELLING,
            tag="cpu_up",
            info={"cpu": cpu},
        )

    def cpu_down_and_up(self, cpu: int) -> Routine:
        """drivers/base/cpu.c: online_store(): somebody writes 0, then 1 to /sys/devices/system/cpu/cpuN/online."""
        yield from self.cpu_down(cpu)
        yield from self.cpu_up(cpu)
