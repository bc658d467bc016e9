"""What all tests share."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verify import page

# solvers make many small objects and few cycles: collecting as often as usual costs a tenth of the time
gc.set_threshold(200_000, 20, 20)


@pytest.fixture(autouse=True)
def wide_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed in this process is not wrapped, so that tests can look for sentences; test_columns has its own."""
    monkeypatch.setattr(page, "_chosen", [4000])


def pytest_sessionstart() -> None:
    """What Hypothesis does once for its own dice takes a look at every object that there is by then: few, now."""

    @given(st.just(0))
    def first(_: int) -> None: ...

    first()


def pytest_sessionfinish() -> None:
    """Nobody collects what the tests have left behind: the process ends."""
    gc.freeze()
