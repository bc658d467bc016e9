"""The kinds of entries that a vocabulary has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

#: the C file that most routines are in
PAGE_ALLOC = "mm/page_alloc.c"


@dataclass(frozen=True, slots=True)
class Means:
    """What a call means: Python over its arguments, ``{0}`` … in C's order, or ``{name}`` for a C function's parameters.

    ``steps`` says how it takes steps: by a routine ("yield from"), by one operation ("yield"), or not at all ("").
    ``file`` is where its C body is, if it has one that the meaning sums up: a *leaf*.  ``rebinds`` names arguments whose
    C variable has another value afterwards: the meaning is then a tuple, the value of the call first.  ``unknown``: its
    value may be a number that the model does not have.
    """

    python: str
    steps: Literal["", "yield", "yield from"] = ""
    file: str = ""
    rebinds: tuple[int | str, ...] = ()
    unknown: bool = False
    #: the struct that it points to; ``{0}``: that of its first argument
    struct: str = ""
    #: it is done for what it changes or checks, though it is no step of its own
    acts: bool = False
    #: what it is, without a step, where no argument may be a number that the model does not have
    plain: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct: a cell (``index`` over ``{0}``, the pointer), a value, or neither: not modelled, with a reason."""

    cell: str = ""
    index: str = ""
    python: str = ""
    why: str = ""
    least: int | None = 0
    #: the struct to which it points
    struct: str = ""
    #: whoever changes it holds zone->lock, which the model has not: a change elsewhere is refused
    zone_locked: bool = False
    #: what is stored for a C value ``{0}``, and the C value of what is stored, where a cell has it in another form
    stored: str = ""
    loaded: str = ""


@dataclass(frozen=True, slots=True)
class Loop:
    """A for_each macro: what begins the Python loop over its arguments, and what is asked before each round."""

    head: str
    only_if: str = ""


@dataclass(frozen=True, slots=True)
class Routine:
    """A C function that is read from a tree instead of ours.

    ``model`` is the routine of the kernel that it replaces, with its parameters; ``given`` the value of each parameter of
    the C function in terms of these.  What the callers of ``__f`` and ``f`` share has no routine of its own: ``model`` is
    empty, and it is read when somebody calls it.  ``around``: routines of the model before and after it, where the C
    function's callers call them.
    """

    c: str
    file: str = PAGE_ALLOC
    model: str = ""
    parameters: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, int] = field(default_factory=dict)
    around: tuple[str, ...] = ()
    #: a bound names its loop anyway
    loop_told: bool = False
    #: nothing is missing where a tree has no such function
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that an era's C is read with.  A name that is in none of these is an error."""

    routines: tuple[Routine, ...] = ()
    calls: Mapping[str, Means] = field(default_factory=dict)
    #: calls and macros without effect on what is modelled, with the reason
    silent: Mapping[str, str] = field(default_factory=dict)
    #: those of them that a user takes to be so
    assumed: frozenset[str] = frozenset()
    #: what a user says of calls that are in none of these: "open", or FILE.py:ROUTINE
    hooks: Mapping[str, str] = field(default_factory=dict)
    #: what is decided from outside, by function and first argument: the name of the choice and why
    environment: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    fields: Mapping[tuple[str, str], Field] = field(default_factory=dict)
    loops: Mapping[str, Loop] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    #: global variables, by the Python that stands for their address or value
    globals: Mapping[str, str] = field(default_factory=dict)
    #: the struct that a global variable is, or points to
    structs: Mapping[str, str] = field(default_factory=dict)
    #: macros that declare a local variable: its type, and what it is at first
    declares: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: C functions that are not read, and for which the model's text stands: their file, and why
    stands_for: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: it is for runs on concrete numbers, which loops carry as they are
    concrete: bool = False
    #: what it is called: the kernel whose names it has
    era: str = ""
    #: identifiers whose presence in PAGE_ALLOC shows that a tree is of this era, or a later one
    shows: tuple[str, ...] = ()

    def without(self, *names: str) -> Vocabulary:
        """Without the routines of these C names, which are called something else, or are gone."""
        return replace(self, routines=tuple(r for r in self.routines if r.c not in names))

    def extended(self, **more: Any) -> Vocabulary:
        """With more entries, which replace those of the same name; routines by their C name."""
        changed: dict[str, Any] = {}
        for name, value in more.items():
            before = getattr(self, name)
            if name == "routines":
                own = {r.c for r in value}
                changed[name] = (*(r for r in before if r.c not in own), *value)
            else:
                changed[name] = {**before, **value} if isinstance(before, Mapping) else value
        return replace(self, **changed)
