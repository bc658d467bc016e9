"""The folder of a run: where it may be, and what is written into it."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernelmodel.errors import ModelError
from verify.report import write_json
from verify.suite.junit import junit
from verify.suite.plan import Plan
from verify.suite.results import Results
from verify.suite.summary import page
from verify.suite.traces import Gallery
from verify.suite.versions import versions


def prepare(wanted: str | None) -> Path:
    """The folder of a new run; ModelError if it cannot be, or holds something already."""
    path = Path(wanted or time.strftime("straypage-run-%Y%m%d-%H%M%S"))
    try:
        if path.is_dir() and any(path.iterdir()):
            raise ModelError(f"--out {path} is not empty: name a folder that does not exist yet, or an empty one")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    writable_folder("--out", str(path))
    (path / "smt2").mkdir(exist_ok=True)
    return path


def writable_folder(option: str, wanted: str) -> None:
    """Make a folder, and see that files can be written into it, before any work is done."""
    path = Path(wanted)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".probe"
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise ModelError(f"{option} {path}: there is a file of that name, or on the way: name a folder") from error
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def begin(folder: Path, plan: Plan, command: Sequence[str]) -> dict[str, Any]:
    """What is known before anything has run: the commands, and the versions, which are returned."""
    made = versions()
    said = [f"# {shlex.join(['python', '-m', 'verify', 'all', *command])}", f"# in {Path.cwd()}, with {sys.executable}"]
    (folder / "commands.txt").write_text("\n".join([*said, *(j.command for j in plan.jobs)]) + "\n", encoding="utf-8")
    write_json(str(folder / "versions.json"), made)
    return made


def hang(folder: Path, results: Results) -> Gallery:
    """Write every counterexample of a run."""
    gallery = Gallery(folder / "traces")
    for verdict in results.verdicts:
        gallery.add(verdict, f"{verdict.engine}-{verdict.property}")
    for name, verdict in results.races.items():
        gallery.add(verdict, f"race-{name}")
    return gallery


def finish(
    folder: Path,
    plan: Plan,
    results: Results,
    gallery: Gallery,
    made: dict[str, Any],
    when: str,
    command: Sequence[str],
) -> None:
    """Write what was found."""
    write_json(str(folder / "verdicts.json"), results.as_json(command))
    (folder / "junit.xml").write_text(junit(results, plan.wanted), encoding="utf-8")
    commands = [j.command for j in plan.jobs]
    (folder / "index.html").write_text(page(results, gallery, commands, made, when), encoding="utf-8")
    smt2 = folder / "smt2"
    if smt2.is_dir() and not any(smt2.iterdir()):
        smt2.rmdir()


def discard(folder: Path) -> None:
    """Take away the folder of a run that the engines refused: nothing was found that could be kept."""
    shutil.rmtree(folder, ignore_errors=True)
