"""A kernel tree as the command line and a trace name it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from kernelmodel.errors import ModelError

_PREFIX = "tree:"


@dataclass(frozen=True, slots=True)
class TreeSpec:
    """A kernel tree as the command line names it: ``PATH``, ``PATH@REVISION``, with a patch file, an era, hooks assumed away."""

    path: str
    revision: str = ""
    patch: str = ""
    era: str = ""
    config: str = ""
    assume: tuple[str, ...] = ()

    @property
    def _said(self) -> list[tuple[str, str]]:
        """What is said of the tree: the name of each option, and its value."""
        one = [("patch", self.patch), ("era", self.era), ("config", self.config)]
        return [(k, v) for k, v in (*one, *(("assume", a) for a in self.assume)) if v]

    def __str__(self) -> str:
        told = "".join(f"?{key}={value}" for key, value in self._said)
        return f"{_PREFIX}{self.path}{'@' + self.revision if self.revision else ''}{told}"

    @property
    def options(self) -> str:
        """The options that name it on a command line."""
        at = f"@{self.revision}" if self.revision else ""
        more = (word for key, value in self._said for word in (f"--{key}", value))
        return " ".join(shlex.quote(w) for w in ("--tree", self.path + at, *more))

    @property
    def title(self) -> str:
        """Its name for people."""
        at = f"@{self.revision}" if self.revision else ""
        patched = f" + {Path(self.patch).name}" if self.patch else ""
        return f"{Path(self.path).resolve().name}{at}{patched}"

    @staticmethod
    def is_one(text: str) -> bool:
        """Whether a text is one of a tree."""
        return text.startswith(_PREFIX)

    @staticmethod
    def parse(text: str) -> TreeSpec:
        """The inverse of ``str()``; ModelError where it says something unknown."""
        where, *more = text.removeprefix(_PREFIX).split("?")
        path, at, revision = where.rpartition("@")
        given: dict[str, str] = {}
        assume = []
        for part in more:
            key, equals, value = part.partition("=")
            if not equals or key not in ("patch", "era", "config", "assume"):
                raise ModelError(
                    f"{text}: {part!r} is not understood: give ?patch=FILE, ?era=NAME, ?config=FILE or ?assume=HOOK=WHAT"
                )
            if key == "assume":
                assume.append(value)
            else:
                given[key] = value
        # a directory may have an @ in its name
        if not at or Path(where).is_dir():
            path, revision = where, ""
        return TreeSpec(path, revision, assume=tuple(assume), **given)
