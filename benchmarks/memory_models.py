"""What store buffers cost a search: ``python benchmarks/memory_models.py [KERNEL...]``, states and seconds under sc and tso.

Ratios in one run, on the configurations s, m and l of rows.py; a kernel is a version or a mutant of v5.11.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

# the siblings, and our packages where they are not installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from rows import CONFIGS

from kernelmodel.kernels import is_kernel, kernel, mutant
from properties.catalogue import find
from verify.explore.finite import Finite
from verify.explore.search import Limits, room_mb
from verify.explore.solve import Explorer
from verify.scenario import Scenario

#: no store of the first is delayed; the others have delayed stores
KERNELS = ("v5.11", "no-force-all-cpus", "v6.2")
#: it holds in all of them, so that every state is searched
PROPERTY = "isolated_page_on_isolate_list"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("kernels", nargs="*", default=KERNELS, metavar="KERNEL")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="for each search (default %(default)s)")
    options = parser.parse_args()
    print("| kernel | size | states, sc | tso | seconds, sc | tso | ratio |\n|---|---|---|---|---|---|---|")
    for name in options.kernels:
        text = kernel(name) if is_kernel(name) else mutant(name)
        for size in ("s", "m", "l"):
            c = CONFIGS[size]
            scenario = Scenario(cpus=c.cpus, frees=c.frees, allocs=c.allocs, updates=1)
            found = []
            for memory in ("sc", "tso"):
                limits = Limits(time.monotonic() + options.timeout, room_mb())
                explorer = Explorer(text, Finite(scenario, c.pages), limits=limits, memory=memory)
                began = time.monotonic()
                group = explorer.search([find(PROPERTY)])
                stopped = f" ({group.found.stopped})" if group.found.stopped else ""
                found.append((f"{group.found.states:,}{stopped}", time.monotonic() - began))
            (sc, before), (tso, after) = found
            print(f"| {name} | {size} | {sc} | {tso} | {before:.1f} | {after:.1f} | {after / before:.1f} |", flush=True)


if __name__ == "__main__":
    main()
