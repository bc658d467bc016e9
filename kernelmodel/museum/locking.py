"""Locks: their order, who is kept waiting, and what has to be held."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from kernelmodel import ops
from kernelmodel.mmzone import Zone
from kernelmodel.ops import Routine, read
from kernelmodel.tasks import TaskKind
from kernelmodel.versions.base import Base
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v6_11 import V6_11


class NoCpusReadLock(V5_10):
    """Proposed in 2019: offline_pages() without cpus_read_lock()."""

    name = "no-cpus-read-lock-2019"
    summary = "proposed in 2019: mem_hotplug_begin() does not take cpus_read_lock(); a CPU comes or goes meanwhile"

    def mem_hotplug_begin(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_begin(), of memory hotplug alone."""
        yield from self.mutex_lock("mem_hotplug_lock")

    def mem_hotplug_done(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_done()."""
        yield from self.mutex_unlock("mem_hotplug_lock")


class MemHotplugFirst(V5_10):
    """Before 3f906ba23689 (v4.13): mem_hotplug_lock before the CPU hotplug lock here, and after it there."""

    name = "mem-hotplug-first"
    summary = (
        "before v4.13 (3f906ba23689): offline_pages() takes mem_hotplug_lock first, a CPU that comes up takes it second"
    )

    def mem_hotplug_begin(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_begin(), then what drains takes the CPU hotplug lock."""
        yield from self.mutex_lock("mem_hotplug_lock")
        yield from self.cpus_read_lock()

    def mem_hotplug_done(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_done()."""
        yield from self.cpus_read_unlock()
        yield from self.mutex_unlock("mem_hotplug_lock")

    def cpu_up(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_up(): the node of the CPU may have to come online."""
        yield from self.cpus_write_lock()
        yield from self.try_online_node()
        yield self.set_cpu_online(cpu)
        yield from self.cpus_write_unlock()

    def try_online_node(self) -> Routine:
        """mm/memory_hotplug.c: try_online_node()."""
        yield from self.mutex_lock("mem_hotplug_lock")
        yield ops.happens("hotadd_new_pgdat()")
        yield from self.mutex_unlock("mem_hotplug_lock")


class OneOrder(MemHotplugFirst):
    """3f906ba23689: the CPU hotplug lock comes first everywhere."""

    name = "one-order"
    summary = "3f906ba23689: mem_hotplug_begin() takes the CPU hotplug lock before mem_hotplug_lock"

    def mem_hotplug_begin(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_begin()."""
        yield from V5_10.mem_hotplug_begin(self)

    def mem_hotplug_done(self) -> Routine:
        """mm/memory_hotplug.c: mem_hotplug_done()."""
        yield from V5_10.mem_hotplug_done(self)


class DrainTakesHotplugLock(Base):
    """Early 2017: drain_all_pages() takes the CPU hotplug lock, also for whoever holds it and allocates."""

    name = "drain-takes-hotplug-lock"
    summary = (
        "2017: drain_all_pages() takes cpus_read_lock(); whoever brings a CPU up and has to reclaim waits for itself"
    )

    def drain_all_pages(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: drain_all_pages(), which asks that no CPU comes or goes."""
        yield from self.cpus_read_lock()
        yield from super().drain_all_pages(zone)
        yield from self.cpus_read_unlock()

    def cpu_up(self, cpu: int) -> Routine:
        """kernel/cpu.c: _cpu_up(): what it allocates may make it reclaim."""
        yield from self.cpus_write_lock()
        yield from self.direct_reclaim()
        yield self.set_cpu_online(cpu)
        yield from self.cpus_write_unlock()


class DrainTakesNoLock(DrainTakesHotplugLock):
    """2017, mended: the drain does without the lock."""

    name = "drain-takes-no-lock"
    summary = "2017, mended: drain_all_pages() copes with CPUs that come and go, and takes no lock for it"

    def drain_all_pages(self, zone: Zone | None) -> Routine:
        """mm/page_alloc.c: drain_all_pages()."""
        yield from Base.drain_all_pages(self, zone)


class SysctlReadLocks(V6_11):
    """v5.14 to v6.18: reading percpu_pagelist_high_fraction takes pcp_batch_high_lock (mended by b9efe36b5e3e)."""

    name = "sysctl-read-locks"
    summary = "until v6.19 (b9efe36b5e3e): who reads the sysctl waits for as long as offlining goes on"
    tasks: ClassVar[tuple[TaskKind, ...]] = (
        *V6_11.tasks,
        TaskKind(
            name="sysctl_read", make=lambda k, _: k.sysctl_read(), option="sysctl_reads", needs="sysctl_read",
            words="reader of percpu_pagelist_high_fraction", proved=False,
            help="readers of the sysctl percpu_pagelist_high_fraction",
        ),
    )  # fmt: skip

    def sysctl_read(self) -> Routine:
        """mm/page_alloc.c: percpu_pagelist_high_fraction_sysctl_handler(), of who reads."""
        yield ops.lock_request("pcp_batch_high_lock", reads=True)
        yield ops.lock("pcp_batch_high_lock")
        yield read("percpu_pagelist_fraction")
        yield from self.mutex_unlock("pcp_batch_high_lock")


class SysctlReadDoesNot(SysctlReadLocks):
    """b9efe36b5e3e: the lock is for writers."""

    name = "sysctl-read-does-not-lock"
    summary = "b9efe36b5e3e (v6.19): who reads the sysctl takes no lock"

    def sysctl_read(self) -> Routine:
        """mm/page_alloc.c: percpu_pagelist_high_fraction_sysctl_handler(), of who reads."""
        yield replace(read("percpu_pagelist_fraction"), info={"reads": True})
