"""``python -m verify.contracts``: CrossHair checks the contracts of the sequential pieces."""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from kernelmodel.errors import ModelError
from properties import contracts
from verify.options import Parser, fail, positive_seconds
from verify.verdict import Exit

#: CrossHair's own exit codes: nothing found, a counterexample, an error
_CLEAN, _COUNTEREXAMPLE = 0, 1


@dataclass(frozen=True, slots=True)
class Checked:
    """What CrossHair said of one contract: ``confirmed``, ``no counterexample``, ``violated`` or ``not checked``."""

    name: str
    result: str
    detail: str
    seconds: float


def names(module: ModuleType) -> list[str]:
    """The contracts of a module: its public functions."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return [n for n, f in functions if f.__module__ == module.__name__ and not n.startswith("_")]


def check(target: str, seconds: float) -> Checked:
    """Let CrossHair look at one contract, ``module.function``, for at most so many seconds a condition."""
    command = [
        sys.executable, "-m", "crosshair", "check", "--analysis_kind=asserts", "--report_all",
        f"--per_condition_timeout={seconds}", f"--per_path_timeout={seconds}", target,
    ]  # fmt: skip
    began = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    output = (run.stdout + run.stderr).strip()
    name = target.rsplit(".", 1)[1]
    if run.returncode == _COUNTEREXAMPLE and "error:" in output:
        return Checked(name, "violated", _message(output), took)
    if run.returncode == _CLEAN and "Confirmed over all paths" in output:
        return Checked(name, "confirmed", "over all paths", took)
    if run.returncode == _CLEAN and "Not confirmed" in output:
        return Checked(name, "no counterexample", f"within {seconds:g} s", took)
    return Checked(name, "not checked", _message(output) or "CrossHair found no contract in it", took)


def _message(output: str) -> str:
    found = re.search(r"error: (.*)", output)
    return found[1] if found else (output.splitlines() or [""])[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(
        prog="python -m verify.contracts",
        description="Checks the contracts in properties/contracts.py with CrossHair.",
        epilog="exit codes: 0 no counterexample, 1 a counterexample, 2 bad input, 3 interrupted or not checked",
    )
    parser.add_argument("--timeout", type=positive_seconds, default=5.0, metavar="S", help="seconds a contract (5)")
    parser.add_argument("--list", action="store_true", help="list the contracts")
    options: argparse.Namespace = parser.parse_args(arguments)
    every = names(contracts)
    if options.list:
        for name in every:
            print(f"{name:48} {(inspect.getdoc(getattr(contracts, name)) or '').splitlines()[0]}")
        return int(Exit.OK)
    code = Exit.OK
    try:
        for name in every:
            found = check(f"{contracts.__name__}.{name}", options.timeout)
            print(f"{found.name:48} {found.result:18} {found.detail} ({found.seconds:.1f} s)", flush=True)
            code = max(code, {"violated": Exit.VIOLATED, "not checked": Exit.UNDECIDED}.get(found.result, Exit.OK))
    except KeyboardInterrupt:
        print("contracts: interrupted; what is printed above was checked", file=sys.stderr)
        return int(Exit.UNDECIDED)
    except ModelError as error:
        fail(f"python -m verify.contracts: {error}")
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
