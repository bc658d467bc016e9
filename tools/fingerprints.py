"""Record the leaves of kernel trees as known: ``python tools/fingerprints.py DIR=NAME...``.

Only for trees whose leaves were read beside the model's summaries.  Writes kernelmodel/vocabulary/fingerprints.toml,
with what it has already.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

from kernelmodel.ctext.functions import fingerprint
from kernelmodel.ctext.kernel import reading_of
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.vocabulary.words import PAGE_ALLOC

TABLE = Path(__file__).parent.parent / "kernelmodel" / "vocabulary" / "fingerprints.toml"
HEAD = "# made by tools/fingerprints.py from trees whose leaves were read beside the model's summaries\n"


def main(arguments: list[str]) -> int:
    """Add the trees; returns the exit code."""
    table: dict[str, dict[str, list[str]]] = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    for argument in arguments:
        path, _, name = argument.partition("=")
        _, reading = reading_of(TreeSpec(path))
        for leaf in reading.summed_up():
            mark = leaf.function.fingerprint if leaf.function else fingerprint(reading.macro(leaf.name, PAGE_ALLOC))
            kernels = table.setdefault(leaf.name, {}).setdefault(mark, [])
            kernels += [name] if name and name not in kernels else []
    parts = [HEAD]
    for name in sorted(table):
        parts.append(
            f"\n[{name}]\n" + "".join(f"{mark} = {json.dumps(kernels)}\n" for mark, kernels in table[name].items())
        )
    TABLE.write_text("".join(parts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
