"""The kernel's text, written once, and the machine that runs it.  Nothing here knows an engine."""

from kernelmodel.config import Config
from kernelmodel.errors import ModelError, RefinementError
from kernelmodel.machine import Machine, Step, Task
from kernelmodel.mmzone import MigrateType, Page, PageRange, Zone
from kernelmodel.versions.v5_10 import V5_10
from kernelmodel.versions.v5_11 import V5_11

from kernelmodel.versions.base import Base  # isort: skip

__all__ = [
    "V5_10", "V5_11", "Base", "Config", "Machine", "MigrateType", "ModelError", "Page", "PageRange", "RefinementError",
    "Step", "Task", "Zone",
]  # fmt: skip
