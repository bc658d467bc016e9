"""What every engine says of every kernel and mutant: to be held against the same of another commit.

``python tools/record.py FILE`` writes a line of JSON for each kernel, engine and property: the verdict, the length of the
trace and the number of states.  ``python tools/record.py --compare A B`` shows the lines that differ; exit 1 if any do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernelmodel.kernels import KERNELS, mutant
from kernelmodel.versions.mutants import MUTANTS
from properties.catalogue import PROPERTIES
from verify.bmc.solve import Engine
from verify.explore.finite import DEFAULT
from verify.explore.solve import Explorer
from verify.forked import children
from verify.scenario import Scenario

ENGINES = ("explore", "bmc")


def record(name: str, engine: str) -> list[dict[str, Any]]:
    """The verdicts of an engine on a kernel, in its default configuration."""
    kernel = KERNELS[name] if name in KERNELS else mutant(name)
    properties = list(PROPERTIES.values())
    if engine == "explore":
        verdicts = Explorer(kernel, DEFAULT).decide(properties)
    else:
        bounded = Engine(kernel, Scenario())
        verdicts = [bounded.decide(p) for p in properties]
    return [
        {
            "kernel": name, "engine": engine, "property": v.property, "result": v.result.value,
            "steps": len(v.schedule) - 1 if v.schedule else None, "states": v.statistics.get("states"),
        }
        for v in verdicts
    ]  # fmt: skip


def everything() -> Iterator[dict[str, Any]]:
    """All records, in a fixed order."""
    with children(os.cpu_count() or 1) as pool:
        for found in pool.map(record, *zip(*((n, e) for n in (*KERNELS, *MUTANTS) for e in ENGINES), strict=True)):
            yield from found


def differences(a: Path, b: Path) -> list[str]:
    """The lines of one file that are not in the other."""
    first, second = (p.read_text(encoding="utf-8").splitlines() for p in (a, b))
    return [f"- {x}" for x in first if x not in set(second)] + [f"+ {x}" for x in second if x not in set(first)]


def main(arguments: list[str]) -> int:
    """The command line."""
    if arguments[:1] == ["--compare"] and len(arguments) == 3:
        found = differences(Path(arguments[1]), Path(arguments[2]))
        print("\n".join(found) or "no difference")
        return int(bool(found))
    if len(arguments) != 1:
        print("python tools/record.py FILE, or python tools/record.py --compare A B", file=sys.stderr)
        return 2
    Path(arguments[0]).write_text("".join(json.dumps(r) + "\n" for r in everything()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
