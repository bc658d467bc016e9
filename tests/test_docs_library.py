"""The session of docs/library.md, run as it stands there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "docs" / "library.md"


@pytest.mark.deep
def test_the_session_says_what_the_library_says() -> None:
    # the fences of Markdown end a block, as blank lines do
    text = FILE.read_text(encoding="utf-8").replace("```python\n", "\n").replace("```\n", "\n")
    session = doctest.DocTestParser().get_doctest(text, {}, FILE.name, str(FILE), 0)
    found = doctest.DocTestRunner().run(session)
    assert (found.failed, found.attempted > 15) == (0, True)
