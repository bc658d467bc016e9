"""Where a suspended routine stands, as a value: two routines with equal pictures go on in the same way.

A picture has the code position of each generator of the ``yield from`` chain and everything that its frame holds: live
locals, closures, the evaluation stack with its iterators, and what these refer to, mutable values by content and by which
of them are the same object.  What cannot be compared is refused by name.  What a frame does not hold (attributes of the
kernel, globals, class attributes) a routine may read and not write: see :mod:`kernelmodel.variants.textcheck`.
"""

from __future__ import annotations

import functools
import itertools
import warnings
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GeneratorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Protocol, runtime_checkable

from kernelmodel.config import Config
from kernelmodel.does import Does
from kernelmodel.errors import ModelError
from kernelmodel.graphs.frames import frame_parts
from kernelmodel.graphs.liveness import live_locals
from kernelmodel.ops import Op
from kernelmodel.terms import Cell, Term, atoms, size
from kernelmodel.text import KernelText, from_a_file

#: one of each kind of iterator that tells its position by __reduce__(), which does not move it
_SAMPLES: tuple[Any, ...] = (
    iter(range(1)), iter(range(1 << 70)), iter(()), iter([]), reversed([]), reversed(()), zip(), enumerate(()),
    map(abs, ()), filter(None, ()), iter({}), iter({}.values()), iter({}.items()), reversed({}),
    reversed({}.values()), reversed({}.items()), iter(set()), iter(""), iter("é"), iter(b""), itertools.chain(),
    itertools.product(), itertools.count(), itertools.repeat(0), itertools.islice((), 0), itertools.cycle(()),
    itertools.combinations((), 0), itertools.permutations(()), itertools.accumulate(()), itertools.starmap(abs, ()),
    itertools.compress((), ()), itertools.zip_longest(()), itertools.takewhile(bool, ()), itertools.dropwhile(bool, ()),
)  # fmt: skip
_ITERATORS = frozenset(map(type, _SAMPLES))
_PLAIN = (int, str, bytes, float, type(None), type(Ellipsis))


#: a value that is larger than this was made from itself, round after round of a loop
LARGEST = 20_000
GROWS = (
    "a value grows from one round of a loop to the next, for each is made from the one before: engines cannot follow that;"
    " store it in a cell, or read it again in each round"
)


@runtime_checkable
class Pictured(Protocol):
    """An object of the model that says itself what of it matters."""

    def picture(self) -> Hashable:
        """What two such objects must have in common to be taken for one."""
        ...


@dataclass(frozen=True, slots=True)
class Continuation:
    """A suspended routine: ``positions`` in the code, all that it holds, and the registers that this mentions."""

    positions: tuple[tuple[int, int], ...]
    held: Hashable
    registers: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What a generator holds that waits for ``inner``, and goes on when that has returned: ``below`` it on the stack too."""

    generator: Any
    inner: Any
    held: Hashable
    below: tuple[Hashable, ...]
    registers: frozenset[str]
    kernels: tuple[KernelText, ...]


#: of one routine that goes on: generators that wait and hold nothing that anybody could change meanwhile, by address
Waiting = dict[int, _Waiting]


def continuation(generator: Any, waiting: Waiting | None = None) -> Continuation:
    """Where a suspended routine stands; ModelError, naming file and line, if it holds something that cannot be compared.

    ``waiting`` is kept for the next time that the same routine is looked at, further on.
    """
    picture = _Picture(waiting=waiting)
    held = picture.of(generator)
    positions = []
    current: Any = generator
    while isinstance(current, GeneratorType) and current.gi_frame is not None:
        positions.append((id(current.gi_frame.f_code), current.gi_frame.f_lasti))
        current = current.gi_yieldfrom
    return Continuation(tuple(positions), held, frozenset(picture.registers))


#: the fields of an operation that a picture has to look into
_PICTURED = tuple(f.name for f in fields(Op) if f.name not in ("effect", "told", "does"))


def op_picture(op: Op, spelt: bool = False) -> Hashable:
    """The whole operation but its effect, which only the machine runs; ``spelt``: with terms as keys, not as numbers."""
    picture = _Picture(spelt=spelt)
    # what it does is a frozen value of frozen ones: its own picture
    does: Any = op.does if type(op.does) is Does else picture.of(op.does)
    return (*(picture.of(getattr(op, name)) for name in _PICTURED), does)


def constant(value: Any) -> Hashable:
    """The picture of something that a routine reads where no frame holds it; ModelError if it could change unseen."""
    picture = _Picture(immutable=True, spelt=True)
    return picture.of(value)


class _Picture:
    """One walk over all that is reachable; objects that can change are numbered in the order in which they are met."""

    def __init__(self, immutable: bool = False, spelt: bool = False, waiting: Waiting | None = None) -> None:
        self.immutable, self.spelt, self.waiting = immutable, spelt, waiting
        #: how often something with an identity of its own was met
        self.meetings = 0
        self.kernels: list[KernelText] = []
        self.met: dict[int, int] = {}
        self.alive: list[Any] = []
        self.registers: set[str] = set()
        self.where = ""

    def of(self, value: Any) -> Hashable:
        """The picture of a value; ModelError if it cannot be compared with others of its kind."""
        kind = type(value)
        draw = _DRAWN.get(kind)
        if draw is None:
            draw = self._drawn(kind)
        return draw(self, value)

    def _drawn(self, kind: type) -> Callable[[_Picture, Any], Hashable]:
        """How values of a kind are pictured; what is met first decides, so it is found once for each kind."""
        draw = _way_for(kind)
        if draw is None:
            raise ModelError(
                f"{self.where or 'the text'} keeps a {kind.__module__}.{kind.__qualname__}: an engine cannot tell whether two "
                "of them go on alike; keep numbers, tuples, lists or a frozen dataclass instead"
            )
        if len(_DRAWN) > _MOST_KINDS:
            # a user's texts bring classes of their own, again and again
            _DRAWN.clear()
        _DRAWN[kind] = draw
        return draw

    def _term(self, value: Term) -> Hashable:
        if size(value) > LARGEST:
            raise ModelError(f"{self.where}: {GROWS}")
        registers = atoms(value, "reg")
        if registers:
            self.registers.update([a.args[0] for a in registers])
        # in a process one number is one term, for they are interned
        return ("term", value.key if self.spelt else value.number)

    def _once(self, value: Any, picture: Callable[[Any], Hashable]) -> Hashable:
        """Something with an identity of its own, met again or for the first time."""
        self.meetings += 1
        known = self.met.get(id(value))
        if known is not None:
            return ("same", known)
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        return picture(value)

    def _mutable(self, value: Any, picture: Callable[[Any], Hashable]) -> Hashable:
        if self.immutable:
            raise ModelError(
                f"a {type(value).__qualname__} can change between one path and the next: use a tuple, or a local"
            )
        return self._once(value, picture)

    def _function(self, value: FunctionType) -> Hashable:
        # a function's globals and module are not a frame's: the check of the text sees that nobody writes them
        return (
            "function", id(value.__code__), id(value.__globals__), self.of(value.__defaults__),
            None if value.__kwdefaults__ is None else tuple((k, self.of(v)) for k, v in value.__kwdefaults__.items()),
            tuple(self._closed_over(c) for c in value.__closure__ or ()),
        )  # fmt: skip

    def _closed_over(self, cell: CellType) -> Hashable:
        # a closed-over variable that nobody assigns any more is no state, but no one can tell: by content
        return self._once(cell, self._cell)

    def _cell(self, cell: CellType) -> Hashable:
        try:
            return ("cell", self.of(cell.cell_contents))
        except ValueError:
            return ("cell",)

    def _iterator(self, value: Any) -> Hashable:
        with warnings.catch_warnings():
            # Python 3.14 takes __reduce__() of itertools away, and 3.12 says so
            warnings.simplefilter("ignore", DeprecationWarning)
            reduced = value.__reduce__()
        return (type(value), *map(self.of, reduced[1:]))

    def _generator(self, value: Any) -> Hashable:
        frame = value.gi_frame
        if frame is None:
            return ("finished",)
        code = frame.f_code
        if self.waiting is not None:
            known = self.waiting.get(id(value))
            if known is not None and known.generator is value and known.inner is value.gi_yieldfrom:
                self.registers |= known.registers
                for kernel in known.kernels:
                    _kernel(self, kernel)
                on_stack = (*known.below, self.of(known.inner))
                return ("generator", id(code), frame.f_lasti, known.held, on_stack)
        before, self.where = self.where, f"{code.co_filename}, line {frame.f_lineno}: {code.co_name}()"
        names, stack = frame_parts(value)
        live = live_locals(code, frame.f_lasti)
        names = {n: names[n] for n in sorted(live & names.keys())}
        inner = value.gi_yieldfrom
        if self.waiting is not None and isinstance(inner, GeneratorType) and stack and stack[-1] is inner:
            held, on_stack = self._waits(value, inner, names, stack[:-1])
        else:
            held, on_stack = self._held(names), tuple(map(self.of, stack))
        self.where = before
        return ("generator", id(code), frame.f_lasti, held, on_stack)

    def _held(self, names: Mapping[str, Any]) -> Hashable:
        return tuple([(n, self.of(value)) for n, value in names.items()])

    def _waits(
        self, value: Any, inner: Any, names: Mapping[str, Any], below: tuple[Any, ...]
    ) -> tuple[Hashable, tuple[Hashable, ...]]:
        """What a generator holds that waits for ``inner``, which is on top of its stack."""
        assert self.waiting is not None
        registers, self.registers = self.registers, set()
        kernels, self.kernels = self.kernels, []
        meetings = self.meetings
        held, lower = self._held(names), tuple(map(self.of, below))
        if self.meetings == meetings:
            self.waiting[id(value)] = _Waiting(
                value, inner, held, lower, frozenset(self.registers), tuple(self.kernels)
            )
        self.registers |= registers
        self.kernels += kernels
        return held, (*lower, self.of(inner))


#: attributes that an extraction sets itself: the order of loops over CPUs
_OURS = ("for_each_cpu",)
#: what the attributes of a user's kernel were when it was met first
_attributes: weakref.WeakKeyDictionary[KernelText, Mapping[str, Any]] = weakref.WeakKeyDictionary()


def _unchanged(kernel: KernelText) -> None:
    """ModelError if a user's kernel has other attributes than at first: a frame does not hold them."""
    now = {n: v for n, v in vars(kernel).items() if n not in _OURS}
    if kernel not in _attributes:
        for name, value in now.items():
            _check_attribute(name, value)
    first = _attributes.setdefault(kernel, now)
    for name in first.keys() | now.keys():
        if name not in first or name not in now or first[name] is not now[name]:
            raise ModelError(
                f"attribute {name} of the kernel changes while it runs: keep it in a local variable, or in a cell"
            )


def _check_attribute(name: str, value: Any) -> None:
    # routines with marks are ours, and made for one kernel
    if not isinstance(value, functools.partial):
        try:
            constant(value)
        except ModelError as error:
            raise ModelError(f"attribute {name} of the kernel: {error}") from error


def _kernel(picture: _Picture, value: KernelText) -> Hashable:
    """There is one of it, and nobody changes it: of a user's that is looked at."""
    if from_a_file(type(value)):
        picture.kernels.append(value)
        _unchanged(value)
    return ("kernel", type(value))


def _way_for(kind: type) -> Callable[[_Picture, Any], Hashable] | None:
    """How a picture shows values of a kind; None if it cannot."""
    if kind is Term:
        return _Picture._term
    if kind is float:
        return lambda _, v: (kind, repr(v))
    if kind in _PLAIN or kind is bool:
        return lambda _, v: (kind, v)
    if kind is tuple:
        return lambda p, v: (kind, *map(p.of, v))
    if issubclass(kind, KernelText):
        return _kernel
    if issubclass(kind, Config):
        return lambda _, v: ("config", v)
    if issubclass(kind, Cell):
        return lambda _, v: ("cell address", v)
    if issubclass(kind, (type, CodeType, WrapperDescriptorType)):
        return lambda _, v: ("object", id(v))
    if issubclass(kind, ModuleType):
        return lambda _, v: ("module", v.__name__)
    if issubclass(kind, Enum):
        return lambda p, v: (kind, v.name, p.of(v.value))
    if kind is FunctionType:
        # one that closes over nothing is what it says
        return lambda p, v: p._once(v, p._function) if v.__closure__ else p._function(v)
    if is_dataclass(kind):
        return _way_for_dataclass(kind)
    if kind is MethodType:
        return lambda p, v: ("method", p.of(v.__func__), p.of(v.__self__))
    if kind is functools.partial:
        return lambda p, v: ("partial", p.of(v.func), p.of(v.args), p.of(tuple(v.keywords.items())))
    if kind is frozenset:
        return lambda p, v: (kind, frozenset(map(p.of, v)))
    if kind is range:
        return lambda _, v: (kind, v.start, v.stop, v.step)
    if kind is slice:
        return lambda p, v: (kind, p.of(v.start), p.of(v.stop), p.of(v.step))
    if issubclass(kind, tuple):
        return lambda p, v: (kind, *map(p.of, tuple(v)))
    return _way_for_changing(kind)


def _way_for_dataclass(kind: Any) -> Callable[[_Picture, Any], Hashable]:
    names = tuple(f.name for f in fields(kind))

    def contents(picture: _Picture, value: Any) -> Hashable:
        return (kind, *[picture.of(getattr(value, name)) for name in names])

    return contents if kind.__dataclass_params__.frozen else lambda p, v: p._mutable(v, partial(contents, p))


def _way_for_changing(kind: type) -> Callable[[_Picture, Any], Hashable] | None:
    """The same of what can change, which has an identity of its own."""
    if kind in (list, set):
        return lambda p, v: p._mutable(v, lambda x: (kind, *map(p.of, x)))
    if kind is dict:
        return lambda p, v: p._mutable(v, lambda x: (kind, *((p.of(k), p.of(y)) for k, y in x.items())))
    if kind is CellType:
        return lambda p, v: p._mutable(v, p._cell)
    if kind is GeneratorType:
        return lambda p, v: p._mutable(v, p._generator)
    if kind in _ITERATORS:
        return lambda p, v: p._mutable(v, p._iterator)
    if issubclass(kind, Pictured):
        return lambda p, v: p._mutable(v, lambda x: (kind, x.picture()))
    if kind is super:
        return lambda p, v: ("super", v.__thisclass__, p.of(v.__self__))
    if kind in (BuiltinFunctionType, MethodWrapperType):
        return lambda p, v: ("builtin", v.__qualname__, p.of(v.__self__))
    if issubclass(kind, BaseException):
        return lambda p, v: p._mutable(v, lambda x: (kind, p.of(x.args), p.of(x.__cause__), p.of(x.__context__)))
    return None


#: how values of the kinds met so far are pictured
_DRAWN: dict[type, Callable[[_Picture, Any], Hashable]] = {}
_MOST_KINDS = 1000
