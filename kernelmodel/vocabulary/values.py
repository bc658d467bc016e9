"""The values that C expressions have where they are no numbers, and what C's operators do with them.

Pointers are small tuples that compare by content: a ``struct per_cpu_pages *`` is a zone and a CPU.  Fields of which the
model keeps no value are :class:`Unknown`: any number of their range at each read, decided where it matters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kernelmodel import ops
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import Page, PageRange, Zone
from kernelmodel.ops import Kind, Op, Routine
from kernelmodel.terms import Term, choice, ite, land, lift, lnot, lor, maximum, minimum, select
from kernelmodel.told import Told


class PerCpu(NamedTuple):
    """``zone->per_cpu_pageset``."""

    zone: Zone


class Pcp(NamedTuple):
    """A ``struct per_cpu_pages *``."""

    zone: Zone
    cpu: int


class Drain(NamedTuple):
    """The ``struct pcpu_drain`` of a CPU, with its work item; ``DRAIN`` is the per-CPU variable itself."""

    cpu: int


DRAIN = Drain(-1)


def at_cpu(variable: Any, cpu: int) -> Any:
    """per_cpu_ptr(): a CPU's own of what there is one of for each; ModelError for that of no zone."""
    if isinstance(variable, PerCpu) and variable.zone is None:
        raise ModelError(
            "the zone may be NULL here, as far as the reader can tell: read it once, into a local variable, and test that"
        )
    return Pcp(variable.zone, cpu) if isinstance(variable, PerCpu) else Drain(cpu)


def runs(routine: Any, wanted: str) -> None:
    """INIT_WORK(); ModelError unless the work item runs the routine that the model's worker runs."""
    if routine != wanted:
        raise ModelError(f"a work item that runs {routine}(): the model's worker runs {wanted}()")


def index_of(zone: Any) -> int:
    """How a drain's work item has its zone: -1 for NULL, which is all of them."""
    return -1 if zone is None else int(zone.index)


class PcpList(NamedTuple):
    """``&pcp->lists[pindex]``, of order 0: the index is the migratetype."""

    pcp: Pcp
    type: Any


class PcpLock(NamedTuple):
    """``&pcp->lock``."""

    pcp: Pcp


class First(NamedTuple):
    """The page that list_first_entry() looks at: it can be taken off its list, and nothing else be done with it."""

    list: PcpList


class Stored(NamedTuple):
    """A page with the migratetype that set_pcppage_migratetype() has put into it."""

    page: Page
    type: Any


class Pages(NamedTuple):
    """A number of pages: those of a range of whole pageblocks."""

    range: PageRange
    sign: int = 1

    def __neg__(self) -> Pages:
        return Pages(self.range, -self.sign)

    def __truediv__(self, other: Any) -> int:
        """``nr_pages / pageblock_nr_pages``."""
        if other != PAGEBLOCK:
            raise ModelError(f"a number of pages is divided by {other!r}: only pageblock_nr_pages has a meaning here")
        return self.sign * len(self.range.blocks)


def pages(number_of: Pages, config: Any) -> int:
    """How many pages these are in a machine."""
    return number_of.sign * len(number_of.range.blocks) * int(config.pages_per_block)


#: ``pageblock_nr_pages``, which is only ever divided by
PAGEBLOCK = "pageblock_nr_pages"


class Pfn(NamedTuple):
    """The first page frame number of a range, or with ``past`` the one after its last; or that of a page in it."""

    range: PageRange
    past: bool = False
    page: Page | None = None

    @property
    def zone(self) -> Zone:
        """Of the page."""
        return self.range.zone

    def __add__(self, pages: Any) -> Pfn:
        if not isinstance(pages, Pages) or pages.range != self.range or self.past:
            raise ModelError(
                f"{pages!r} is added to a page frame number: only the size of its own range has a meaning here"
            )
        return Pfn(self.range, past=True)

    def __sub__(self, number: Any) -> Pfn:
        if number != 1 or not self.past:
            raise ModelError(f"{number!r} is taken from a page frame number: only end_pfn - 1 has a meaning here")
        return Pfn(self.range)


def range_of(start: Any, end: Any) -> PageRange:
    """The pageblocks from one page frame number to another; ModelError unless they are a whole range."""
    whole = isinstance(start, Pfn) and isinstance(end, Pfn) and not start.past and end.past and start.range == end.range
    if not whole:
        raise ModelError(f"pages from {start!r} to {end!r} are no range of whole pageblocks that the model follows")
    found: PageRange = start.range
    return found


class Struct(NamedTuple):
    """A local ``struct``: what has been stored in its fields."""

    fields: tuple[tuple[str, Any], ...] = ()

    def having(self, name: str, value: Any) -> Struct:
        """With a field set."""
        return Struct((*((n, v) for n, v in self.fields if n != name), (name, value)))

    def get(self, name: str) -> Any:
        """A field, or Unknown where somebody else has written it."""
        return dict(self.fields).get(name, Unknown(name))


class Limits(NamedTuple):
    """``new_batch`` as zone_batchsize() returns it, with the highs that zone_highsize() will give for it."""

    batch: Any
    high: Any
    high_max: Any


def number(value: Any) -> Any:
    """A value as the number that it is."""
    return value.batch if isinstance(value, Limits) else value


class Unknown(NamedTuple):
    """A number that the model does not have: any from ``least`` to ``most`` (None: without an end)."""

    what: str
    least: Any = None
    most: Any = None

    def __bool__(self) -> bool:
        raise ModelError(f"{self.what} is not modelled, and its value is used in a way that the reader did not foresee")

    def __add__(self, other: Any) -> Unknown:
        if isinstance(other, Unknown):
            low = None if self.least is None or other.least is None else self.least + other.least
            return Unknown(self.what, low, None if self.most is None or other.most is None else self.most + other.most)
        return Unknown(self.what, *(None if end is None else end + other for end in (self.least, self.most)))

    def __sub__(self, other: Any) -> Unknown:
        found: Unknown = self + minus(other)
        return found


def minus(value: Any) -> Any:
    """``-value``."""
    if isinstance(value, Unknown):
        return Unknown(value.what, *(None if end is None else 0 - end for end in (value.most, value.least)))
    return -value if isinstance(value, Pages) else 0 - value


def plus(a: Any, b: Any) -> Any:
    """``a + b``, of what may be Unknown."""
    return b + a if isinstance(b, Unknown) else a + b


def difference(a: Any, b: Any) -> Any:
    """``a - b``, of what may be Unknown."""
    return minus(b) + a if isinstance(b, Unknown) else a - b


def forgotten(value: Any, name: str) -> Any:
    """What a number that is carried from round to round may be in the next one: any."""
    del value
    return Unknown(name)


def at_least(value: Any, least: int) -> Any:
    """The same number, where a condition has said that it is no less."""
    return Unknown(value.what, least, value.most) if isinstance(value, Unknown) else value


def truth(value: Any) -> Any:
    """C's idea of a condition: not 0, not NULL; a truth value or a term."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, Term):
        return value if value.sort == "bool" else _plain(lnot(value == 0))
    if isinstance(value, int):
        return value != 0
    return bool(value) if isinstance(value, Unknown) else True


def _plain(term: Term) -> Any:
    return term.args[0] if term.op == "const" else term


def no(value: Any) -> Any:
    """``!value``."""
    of = truth(value)
    return _plain(lnot(of)) if isinstance(of, Term) else not of


def both(*parts: Any) -> Any:
    """``a && b`` of what has no effect."""
    return _plain(land(*map(truth, parts)))


def either(*parts: Any) -> Any:
    """``a || b`` of what has no effect."""
    return _plain(lor(*map(truth, parts)))


def equal(a: Any, b: Any) -> Any:
    """``a == b``: of numbers, or of pointers."""
    a, b = number(a), number(b)
    if isinstance(a, (Term, int)) and isinstance(b, (Term, int)):
        return _plain(lift(a == b))
    return type(a) is type(b) and bool(a == b)


def choose(condition: Any, then: Any, other: Any) -> Any:
    """``condition ? then : other`` of what has no effect; ``other`` None: it has no value yet."""
    condition = truth(condition)
    if not isinstance(condition, Term):
        return then if condition else other
    if other is None or then is None:
        return then if other is None else other
    if isinstance(then, Unknown) or isinstance(other, Unknown):
        a = then if isinstance(then, Unknown) else Unknown("", then, then)
        b = other if isinstance(other, Unknown) else Unknown("", other, other)
        ends = ((a.least, b.least), (a.most, b.most))
        return Unknown(
            a.what or b.what, *(None if x is None or y is None else select(condition, x, y) for x, y in ends)
        )
    if not (isinstance(then, (Term, int)) and isinstance(other, (Term, int))):
        if then == other:
            return then
        raise ModelError(f"one of {then!r} and {other!r} by a condition that is open: only numbers can be chosen so")
    return select(condition, then, other)


def shifted_left(value: Any, by: Any) -> Any:
    """``value << by``."""
    if isinstance(by, Unknown):
        return Unknown(by.what, value, None)
    if not isinstance(by, int):
        raise ModelError("<< by a number that is open")
    if isinstance(value, Unknown):
        return Unknown(
            value.what, *(None if end is None else shifted_left(end, by) for end in (value.least, value.most))
        )
    return value * (1 << by)


# --- what takes a step of its own, because something is decided ---


def shifted_right(value: Any, by: Any, text: str) -> Routine:
    """``value >> by`` of a number that is not negative."""
    if not isinstance(by, int):
        raise ModelError(f"{text}: >> by a number that is open")
    if by == 0:
        return value
    quotient = choice("quotient")
    size = 1 << by
    where = land(lift(value) >= quotient * size, lift(value) < quotient * size + size, quotient >= 0)

    def effect(_state: Any, _wanted: Any) -> ops.Effect:
        assert isinstance(value, int)
        return ops.Effect({"quotient": value >> by})

    return (
        yield Op(
            f"{text}: {{0}}", Kind.LOCAL, returns=(quotient,), choices=(quotient,), where=where, shown=(lift(value),),
            effect=effect, told=Told(dull=True), tag="part",
        )
    )  # fmt: skip


def compared(how: str, a: Any, b: Any, text: str) -> Routine:
    """A comparison with a number that may be Unknown: either way then."""
    if not isinstance(a, Unknown) and not isinstance(b, Unknown):
        yield from ()
        return equal(a, b) if how == "==" else no(equal(a, b)) if how == "!=" else _COMPARE[how](a, b)
    return (yield ops.environment("holds", text, "A field that the model does not have decides it: either way.", None))


_COMPARE = {
    "<": lambda a, b: _plain(lift(lift(a) < b)), "<=": lambda a, b: _plain(lift(lift(a) <= b)),
    ">": lambda a, b: _plain(lift(lift(a) > b)), ">=": lambda a, b: _plain(lift(lift(a) >= b)),
}  # fmt: skip


def lower(a: Any, b: Any) -> Any:
    """``min(a, b)`` of numbers."""
    return minimum(number(a), number(b))


def greater(a: Any, b: Any) -> Any:
    """``max(a, b)`` of numbers; of zone_batchsize(), which is at least 1, and 1 it is that."""
    a, b = (b, a) if isinstance(b, Limits) else (a, b)
    return a if isinstance(a, Limits) and type(b) is int and b <= 1 else maximum(number(a), number(b))


def less(how: str, a: Any, b: Any) -> Any:
    """``<``, ``<=``, ``>`` or ``>=`` of numbers."""
    return _COMPARE[how](a, b)


def decided(value: Any, text: str) -> Routine:
    """The truth of what may be Unknown: either way then."""
    if not isinstance(value, Unknown):
        yield from ()
        return truth(value)
    return (yield ops.environment("holds", text, "A field that the model does not have decides it: either way.", None))


def least_of(a: Any, b: Any, text: str) -> Routine:
    """``min(a, b)``."""
    if isinstance(b, Unknown):
        a, b = b, a
    if not isinstance(a, Unknown):
        yield from ()
        return minimum(a, b)
    if isinstance(b, Unknown):
        raise ModelError(f"{text}: both are numbers that the model does not have")
    if a.least is None:
        # any number that is not greater than either end
        return Unknown(a.what, None, b if a.most is None else minimum(a.most, b))
    most = b if a.most is None else minimum(a.most, b)
    more = yield ops.part_of("more", text, lift(most) - a.least, f"{a.what} is not modelled: any value.")
    return minimum(a.least + more, most)


def greatest_of(a: Any, b: Any, text: str) -> Routine:
    """``max(a, b)``."""
    if isinstance(b, Unknown):
        a, b = b, a
    if not isinstance(a, Unknown):
        yield from ()
        return greater(a, b)
    if isinstance(b, Unknown):
        raise ModelError(f"{text}: both are numbers that the model does not have")
    if a.most is None:
        return Unknown(a.what, b if a.least is None else maximum(a.least, b), None)
    least = b if a.least is None else maximum(a.least, b)
    fewer = yield ops.part_of("fewer", text, lift(a.most) - least, f"{a.what} is not modelled: any value.")
    return maximum(a.most - fewer, least)


def clamped(value: Any, low: Any, high: Any, text: str) -> Routine:
    """``clamp(value, low, high)``, which is the lower of high and the greater of value and low."""
    return (yield from least_of((yield from greatest_of(value, low, text)), high, text))


def taken_or_not(value: Any, who: str) -> Routine:
    """A pointer whose address somebody is given: NULL afterwards, or what it was."""
    if (yield ops.environment("taken", f"{who}: NULL", "Decided from outside.", None)):
        return None
    return value


def hooked(routine: Routine, targets: tuple[str, ...], name: str) -> Routine:
    """A user's routine for a call: (None, the new value of each variable whose address it was given).

    ``targets`` are their names, with a ``*`` where it may be NULL.
    """
    result = yield from routine
    if not targets:
        return (None,)
    values = result if len(targets) > 1 else (result,)
    if type(values) is not tuple or len(values) != len(targets) or any(type(v) is tuple for v in values):
        raise ModelError(
            f"the routine for {name}() returns {result!r}: it has to return the new value of {' and of '.join(targets)}"
        )
    for value, target in zip(values, targets, strict=True):
        if value is None and target[0] != "*":
            raise ModelError(f"the routine for {name}() returns no value for {target}, whose address it is given")
    return (None, *values)


def zone_of(value: Any) -> Zone:
    """page_zone()."""
    return value.zone if isinstance(value, Pfn) else page_of(value).zone


def page_of(value: Any) -> Page:
    """The page itself; ModelError for one that is still on its list."""
    if isinstance(value, Stored):
        return value.page
    if not isinstance(value, Page):
        raise ModelError(f"{value!r} is used as a page: it has to be taken off its list first")
    return value


def type_stored_in(value: Any) -> Any:
    """get_pcppage_migratetype(): what set_pcppage_migratetype() has stored; ModelError if nobody has."""
    if not isinstance(value, Stored):
        raise ModelError("get_pcppage_migratetype() of a page in which this routine has stored no type")
    return value.type


def stored_if(condition: Any, new: Any, old: Term) -> Any:
    """What a conditional store leaves: the new value, or the old one."""
    condition = truth(condition)
    if condition is True:
        return new
    return ite(condition, new, old)
