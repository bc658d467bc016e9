"""``python -m verify.contracts``: CrossHair checks the contracts of the sequential pieces, and that each can fail."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import kernelmodel
from kernelmodel.errors import ModelError
from properties import contracts
from properties.contracts import TWINS, Twin
from verify.command import command, needs
from verify.options import Parser, fail, positive_seconds
from verify.verdict import Exit

#: CrossHair's own exit codes: nothing found, a counterexample, an error
_CLEAN, _COUNTEREXAMPLE = 0, 1
#: CrossHair processes that run now; Ctrl-C ends them
_running: set[subprocess.Popen[str]] = set()

_EXITS = {
    "violated": Exit.VIOLATED,
    "not checked": Exit.UNDECIDED,
    "vacuous": Exit.VACUOUS,
    "twin missed": Exit.DISAGREE,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What CrossHair said of one contract.

    ``result`` is "confirmed", "no counterexample" (in the time it had), "violated", "vacuous" (no input meets the
    preconditions) or "not checked"; of a twin it is "twin found" or "twin missed".
    """

    name: str
    result: str
    detail: str
    seconds: float


def names(module: ModuleType) -> list[str]:
    """The contracts of a module: its public functions."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return [n for n, f in functions if f.__module__ == module.__name__ and not n.startswith("_")]


def check(target: str, seconds: float, folder: Path | None = None) -> Checked:
    """Let CrossHair look at one contract, ``module.function``, for at most so many seconds of CPU time.

    ``folder`` is where the modules are looked for first; the current folder if it is None.
    """
    began = time.monotonic()
    code, output = _crosshair(target, seconds, folder)
    took = time.monotonic() - began
    name = target.rsplit(".", 1)[1]
    if code == _COUNTEREXAMPLE and "error:" in output:
        return Checked(name, "violated", _message(output), took)
    if code == _CLEAN and "Confirmed over all paths" in output:
        return Checked(name, "confirmed", "over all paths", took)
    if code == _CLEAN and "Not confirmed" in output:
        return Checked(name, "no counterexample", f"within {seconds:g} s, not all paths seen", took)
    return Checked(name, "not checked", _message(output) or "CrossHair found no contract in it", took)


def _crosshair(target: str, seconds: float, folder: Path | None) -> tuple[int, str]:
    command = [
        sys.executable, "-m", "crosshair", "check", "--analysis_kind=asserts", "--report_all",
        f"--per_condition_timeout={seconds}", f"--per_path_timeout={seconds}", target,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder) as run:
        _running.add(run)
        try:
            output, _ = run.communicate()
        finally:
            _running.discard(run)
    return run.returncode, output.strip()


def _message(output: str) -> str:
    found = re.search(r"error: (.*)", output)
    return found[1] if found else (output.splitlines() or [""])[-1]


def reachable(module: ModuleType, wanted: Iterable[str], seconds: float) -> set[str]:
    """The contracts whose preconditions some input meets.

    CrossHair "confirms over all paths" a contract that no input ever enters.  So each is asked for again, with nothing
    but its preconditions and then `assert False`: there must be a counterexample.
    """
    kept = set(wanted)
    tree = ast.parse(inspect.getsource(module))
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name in kept:
            body = function.body[1:]
            entry = next((i for i, s in enumerate(body) if not isinstance(s, ast.Assert)), len(body))
            function.body = [*body[:entry], *ast.parse("assert False").body]
        elif isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
            function.body = [ast.Pass()]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "entered.py").write_text(ast.unparse(tree))
        _, output = _crosshair(str(Path(folder, "entered.py")), seconds, None)
    return kept & set(re.findall(r"when calling (\w+)\(", output))


def check_twin(name: str, twin: Twin, seconds: float) -> Checked:
    """Plant the twin's bug in a copy of the code; CrossHair must find it through the contract."""
    with tempfile.TemporaryDirectory() as folder:
        for package in (Path(kernelmodel.__file__).parent, Path(contracts.__file__).parent):
            shutil.copytree(package, Path(folder, package.name), ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder, twin.path)
        text = path.read_text()
        if text.count(twin.before) != 1:
            raise ModelError(f"the twin of {name} does not fit {twin.path}: {twin.before!r} must be there exactly once")
        path.write_text(text.replace(twin.before, twin.after))
        found = check(f"{contracts.__name__}.{name}", seconds, Path(folder))
    caught = found.result == "violated"
    return replace(
        found, result="twin found" if caught else "twin missed", detail=found.detail if caught else twin.after
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m verify.contracts",
        description="Checks the contracts in properties/contracts.py with CrossHair.",
        epilog="exit codes: 0 no counterexample, 1 a counterexample, 2 bad input, 3 interrupted or not checked, "
        "4 vacuous: no input meets a contract's preconditions, 70 a contract misses its twin",
    )
    p.add_argument("names", nargs="*", metavar="NAME", help="contracts to check (default: all; --list names them)")
    p.add_argument("--timeout", type=positive_seconds, default=5.0, metavar="S", help="CPU seconds a contract (5)")
    p.add_argument("--twins", action="store_true", help="plant each contract's bug: it must be found")
    p.add_argument("--list", action="store_true", help="list the contracts")
    return p


def _options(arguments: Sequence[str] | None, every: Sequence[str]) -> argparse.Namespace:
    options = parser().parse_args(arguments)
    for name in options.names:
        if name not in every:
            close = difflib.get_close_matches(name, every, 1)
            hint = f"did you mean {close[0]}?" if close else "--list names them"
            fail(f"python -m verify.contracts: there is no contract {name}; {hint}")
    return options


def _work(options: argparse.Namespace, chosen: Sequence[str]) -> Callable[[str], Checked]:
    """What is to be done for one contract."""
    if options.twins:
        return lambda name: check_twin(name, TWINS[name], options.timeout)
    entered = reachable(contracts, chosen, options.timeout)

    def work(name: str) -> Checked:
        if name not in entered:
            return Checked(name, "vacuous", f"no input found that meets its preconditions, in {options.timeout:g} s", 0)
        return check(f"{contracts.__name__}.{name}", options.timeout)

    return work


@command("python -m verify.contracts")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    every = names(contracts)
    options = _options(arguments, every)
    chosen = list(dict.fromkeys(options.names)) or every
    if options.list:
        for name in chosen:
            print(f"{name:44} {(inspect.getdoc(getattr(contracts, name)) or '').splitlines()[0]}")
        return int(Exit.OK)
    needs("verify.contracts", "crosshair")
    code = Exit.OK
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for found in pool.map(_work(options, chosen), chosen):
            print(f"{found.name:44} {found.result:18} {found.detail} ({found.seconds:.1f} s)", flush=True)
            code = max(code, _EXITS.get(found.result, Exit.OK))
    except KeyboardInterrupt:
        # a terminal's Ctrl-C may come twice; the second must not tear the clearing up
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("contracts: interrupted; what is printed above was checked", file=sys.stderr)
        return int(Exit.UNDECIDED)
    except ModelError as error:
        fail(f"python -m verify.contracts: {error}")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for run in list(_running):
            run.terminate()
        pool.shutdown(wait=True)
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
