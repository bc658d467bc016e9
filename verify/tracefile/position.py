"""The line of a JSON document on which a value stands, for the error that the value calls for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_SPACE = re.compile(r"[\s,:]*")
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+|\[\d+\])*")
_STEP = re.compile(r"step (\d+)\b")
_DECODER = json.JSONDecoder()


def line_of(text: str, message: str) -> int | None:
    """The line of the value that ``message`` begins with (``steps[3].task``, ``step 4``); None where there is no such value.

    Of a value that is missing, the line of the object that should have it.
    """
    step = _STEP.match(message)
    found = _PATH.match(f"steps[{int(step[1]) - 1}]" if step else message)
    if found is None:
        return None
    try:
        places = dict(_places(text, 0, ""))
    except ValueError:
        return None
    path = found[0]
    while path not in places and "." in path:
        path = path.rpartition(".")[0]
    return text.count("\n", 0, places[path]) + 1 if path in places else None


def _places(text: str, at: int, path: str) -> Iterator[tuple[str, int]]:
    """Each value of a document with the place at which it begins."""
    begins = _skip(text, at)
    yield path, begins
    if text[begins] not in "{[":
        return
    inside, number = begins + 1, 0
    while text[at := _skip(text, inside)] not in "}]":
        if text[begins] == "{":
            key, at = _DECODER.raw_decode(text, at)
            here = f"{path}.{key}" if path else str(key)
        else:
            here, number = f"{path}[{number}]", number + 1
        yield from _places(text, at, here)
        _, inside = _DECODER.raw_decode(text, _skip(text, at))


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
