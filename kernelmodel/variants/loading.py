"""A user's file of Python, loaded: what it says is checked, and what it changes of ours is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from kernelmodel.errors import ModelError
from kernelmodel.variants.overrides import check_untouched, ours
from kernelmodel.variants.textcheck import check_source, check_values


def load(path: Path, what: str = "variant", cure: str = "give --variant FILE.py or FILE.py:NAME") -> ModuleType:
    """The module of a file; ModelError, naming file and line, for one that cannot be used.

    ``what`` the file is of, and the ``cure`` if there is none.
    """
    if not path.is_file():
        raise ModelError(f"{what} file {path} does not exist or is no file: {cure}")
    name = f"straypage_variant_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{what} file {path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before = ours()
    check_source(path, _source(path, what))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ModelError(f"{what} file {path}, line {error.lineno}: {error.msg}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # SystemExit too: a file does not end the command that reads it
        raise ModelError(f"{what} file {path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    check_untouched(before, path)
    check_values(path, module)
    return module


def _source(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{what} file {path} cannot be read: {error}") from error


def _line(error: BaseException, path: Path) -> str:
    traceback, line = error.__traceback__, None
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f", line {line}" if line else ""
