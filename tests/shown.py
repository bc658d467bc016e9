"""A few counterexamples of verify.bmc, as its --json writes them: found once in a run of the tests, by whoever asks first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kernelmodel.kernels import KERNELS, kernel, mutant
from properties.catalogue import find
from verify.bmc.solve import Engine
from verify.report import as_json
from verify.scenario import Scenario

#: kernels and mutants, each with the property that it violates
SHOWN = {"no-force-all-cpus": "no_stray_page", "no-mutex": "limits_exclusive", "base": "no_isolated_page_left"}


def documents(folder: Path) -> dict[str, Any]:
    """The verdict file of each, kept in a folder that all processes of the run share."""
    return {name: _document(folder / f"{name}.json", name) for name in SHOWN}


def _document(file: Path, name: str) -> Any:
    if not file.exists():
        known = name in KERNELS
        verdict = Engine(kernel(name) if known else mutant(name), Scenario()).decide(find(SHOWN[name]))
        command = ["--kernel" if known else "--mutant", name, "--cpus", "3", "--json", "x.json"]
        mine = file.with_suffix(f".{os.getpid()}")
        mine.write_text(json.dumps(as_json([verdict], command, False)), encoding="utf-8")
        mine.replace(file)
    return json.loads(file.read_text(encoding="utf-8"))
