"""kernel/cpu.c: a CPU goes down and comes up, as far as pcplists notice."""

from __future__ import annotations

from kernelmodel import ops
from kernelmodel.memory_hotplug import MemoryHotplug
from kernelmodel.ops import Kind, Op, Routine
from kernelmodel.terms import Cell, const, land


class CpuHotplug(MemoryHotplug):
    """CPU hotplug."""

    def cpu_down(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_down(): the CPU leaves cpu_online_mask, and only then are its pcplists drained."""
        yield from self.cpus_write_lock()
        yield from self.take_cpu_down(cpu)
        yield from self.page_alloc_cpu_dead(cpu)
        yield from self.cpus_write_unlock()

    def take_cpu_down(self, cpu: int) -> Routine:
        """kernel/cpu.c: take_cpu_down(), under stop_machine(): nobody has interrupts off there, its tasks move away."""
        yield Op(
            f"take_cpu_down(cpu {cpu})",
            Kind.CRITICAL,
            guard=land(ops.value("cpu_online", cpu), ops.value("irqs_off", cpu) == 0),
            updates=((Cell("cpu_online", (cpu,)), const(False)),),
            tag="cpu_down",
            info={"cpu": cpu},
        )

    def cpu_up(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_up()."""
        yield from self.cpus_write_lock()
        yield Op(
            f"set_cpu_online(cpu {cpu}, true)",
            guard=ops.lnot(ops.value("cpu_online", cpu)),
            updates=((Cell("cpu_online", (cpu,)), const(True)),),
            tag="cpu_up",
            info={"cpu": cpu},
        )
        yield from self.cpus_write_unlock()
