"""How people are told of an operation: the prose that stands beside it, for columns, --step and timelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: what the values that came back are, for the comment after a statement: themselves; nothing worth saying; a number of
#: pages; a migratetype; a pageblock; pages of each block; whether there is a page, and of which block
Value = Literal["plain", "silent", "pages", "type", "block", "pages of each block", "found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is said of an operation.

    ``why`` is a sentence for somebody who has never seen the allocator, with ``{cpu}``, ``{task}`` and ``{other}`` (the CPU
    that the operation is about); ``if_not`` the one where the first value that comes back is false.
    """

    why: str = ""
    if_not: str = ""
    value: Value = "plain"
    #: comments in place of a first value that is true, or false; and where it is false, no statement at all
    yes: str | None = None
    no: str | None = None
    no_statement: bool = False
    #: the statement in C, in place of the operation's text, with its comment; ``mark``: the text is no statement
    statement: str = ""
    comment: str = ""
    mark: bool = False
    #: pages move, which tells more than what is read and written
    moves: bool = False
    #: bookkeeping that a reader can do without; ``telling``: never, whatever cells it looks at
    dull: bool = False
    telling: bool = False


PLAIN = Told()
