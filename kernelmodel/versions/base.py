"""`base`: the kernel to which the patch applies, put together from its files."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel.mm.cpu import CpuHotplug
from kernelmodel.mm.memory_failure import MemoryFailure


class Base(CpuHotplug, MemoryFailure):
    """Patches 1 to 6 of the series on v5.10: offline_pages() drains with the racy check, and again in its loop."""

    name = "base"
    summary = "what the patch applies to: offline_pages() drains after isolation and again in its loop"
    breaks: ClassVar[tuple[str, ...]] = ("no_isolated_page_left", "isolated_page_not_allocated", "offline_progress")
