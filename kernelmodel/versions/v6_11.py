"""v6.11: v6.10 with the drain that v6.1.y has; what is described of today's protocol is the same."""

from __future__ import annotations

from typing import ClassVar

from kernelmodel.versions.v6_1 import V6_1
from kernelmodel.versions.v6_8 import V6_8
from kernelmodel.versions.v6_10 import V6_10


class V6_11(V6_1, V6_10):  # type: ignore[misc]  # drain_pages_zone() has other parameters
    """v6.11: the drain looks at pcp->count under pcp->lock only, and goes on until it is 0 (66eca1021a42)."""

    name = "v6.11"
    summary = "v6.10 with the drain's look at pcp->count under pcp->lock, in rounds (66eca1021a42)"
    breaks: ClassVar[tuple[str, ...]] = ()

    # v6.10 hands its drain a local variable, which this one does not have
    drain_pages = V6_8.drain_pages  # type: ignore[assignment]
    page_alloc_cpu_dead = V6_8.page_alloc_cpu_dead
