"""What all tests share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.deep_cases import CASES, listed
from verify import page

DEEP_CASES = Path(__file__).with_name(CASES.name)

# graphs that tests make are no user's; the workers of one run share them
if "XDG_CACHE_HOME" not in os.environ or "STRAYPAGE_TESTS" not in os.environ:
    os.environ |= {"XDG_CACHE_HOME": tempfile.mkdtemp(prefix="straypage-tests-"), "STRAYPAGE_TESTS": str(os.getpid())}

# the processes that tests start are many: they read the bytecode that the first has written, wherever that is forbidden
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# solvers make many small objects and few cycles: collecting as often as usual costs a tenth of the time
gc.set_threshold(200_000, 20, 20)


@pytest.fixture(autouse=True)
def wide_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed in this process is not wrapped, so that tests can look for sentences; test_columns has its own."""
    monkeypatch.setattr(page, "_chosen", [4000])


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The verdict files of tests/shown.py, one set for all workers."""
    # an engine's import takes a while, and many tests need none
    from tests import shown

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shown"
    folder.mkdir(exist_ok=True)
    return shown.documents(folder)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases that take long, before those that are marked are left out; UsageError where one is not there."""
    cases = listed(DEEP_CASES)
    for item in items:
        if item.nodeid in cases:
            item.add_marker(pytest.mark.deep)
    stale = cases - {item.nodeid for item in items}
    if stale and config.args == config.getini("testpaths"):
        raise pytest.UsageError(
            f"tests/deep_cases.txt names {min(stale)}, and {len(stale) - 1} more that are not there"
        )


def pytest_sessionstart() -> None:
    """What Hypothesis does once for its own dice takes a look at every object that there is by then: few, now."""

    @given(st.just(0))
    def first(_: int) -> None: ...

    first()


def pytest_sessionfinish() -> None:
    """Nobody collects what the tests have left behind: the process ends."""
    if os.environ["STRAYPAGE_TESTS"] == str(os.getpid()):
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    gc.freeze()
