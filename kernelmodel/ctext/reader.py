"""Reading the routines of a kernel from its C: what is read, what is summed up, what is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kernelmodel.ctext.configured import USUAL, Configured, configured, from_file
from kernelmodel.ctext.expressions import UNSIGNED, Callee, UnreadableError
from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.functions import Function, find, fingerprint
from kernelmodel.ctext.nodes import walk
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.ctext.statements import Statements
from kernelmodel.ctext.values_only import computes_a_value
from kernelmodel.errors import ModelError
from kernelmodel.vocabulary.fingerprints import known
from kernelmodel.vocabulary.words import PAGE_ALLOC, Routine, Vocabulary


def symbols_of(spec: TreeSpec) -> set[str]:
    """The CONFIG symbols that are set in the C of a tree."""
    return from_file(spec.config) if spec.config else set(USUAL)


@dataclass(frozen=True, slots=True)
class Translated:
    """A C function as the text of a method; ``lines`` has the line of the C file for each of its lines."""

    function: Function
    method: str
    python: str
    lines: tuple[int, ...]
    has_loop: bool
    #: local numbers that are any number from the second round of their loop on
    carried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """What the model sums up: ``like`` names kernels that have the same, for which the summary was checked.

    ``caller`` is the leaf that calls it, where nobody else does.
    """

    name: str
    file: str
    line: int
    like: tuple[str, ...]
    function: Function | None = None
    caller: str = ""
    #: why it is not read, where the model has a whole text of its own for it
    why: str = ""


@dataclass
class Reading:
    """All routines of a tree, read with a vocabulary."""

    tree: Tree
    words: Vocabulary
    #: method -> text
    translated: dict[str, Translated] = field(default_factory=dict)
    #: C name -> why it could not be read
    refused: dict[str, str] = field(default_factory=dict)
    absent: list[Routine] = field(default_factory=list)
    #: C functions that the model sums up, as far as somebody calls them
    leaves: dict[str, Function] = field(default_factory=dict)
    #: macros that have a meaning, as far as somebody uses them
    macros: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    _files: dict[str, Configured] = field(default_factory=dict)
    _found: dict[tuple[str, str], Function | None] = field(default_factory=dict)
    _homes: dict[str, str] = field(default_factory=dict)
    _rebinds: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The CONFIG symbols that are set."""
        return frozenset(symbols_of(self.tree.spec))

    def files(self) -> list[str]:
        """The files that were looked at."""
        return list(self._files)

    @cached_property
    def described(self) -> dict[str, Routine]:
        """The routines of the vocabulary by their C name."""
        return {r.c: r for r in self.words.routines}

    def file(self, path: str) -> Configured | None:
        """A file without what is configured away; None where there is none."""
        if path not in self._files:
            text = self.tree.text(path)
            if text is None:
                return None
            self._files[path] = configured(text, set(self.symbols))
        return self._files[path]

    def function(self, name: str, path: str) -> Function | None:
        """A function's definition, or None."""
        if (name, path) not in self._found:
            file = self.file(path)
            found = None if file is None else find(file.text, name, path, frozenset(self.words.loops))
            if found is not None:
                lines = (self.tree.text(path) or "").splitlines()
                found = replace(found, original="\n".join(lines[found.line - 1 : found.end]))
            self._found[name, path] = found
        return self._found[name, path]

    def macro(self, name: str, path: str) -> str:
        """What a macro comes to, with those that it is made of; empty if a file has no such macro."""
        file = self.file(path)
        todo, told = [name], {}
        while todo:
            one = todo.pop()
            body = file.macros.get(one) if file else None
            if body is not None and one not in told:
                told[one] = body
                todo += re.findall(r"\w+", body)
        return "\n".join(f"{n} {told[n]}" for n in sorted(told))

    def summed_up(self) -> list[Leaf]:
        """The functions and macros that the model sums up, as far as somebody calls them: where, and as in which kernels."""
        every: dict[str, tuple[Function, str]] = {}
        todo = [(f, "") for f in self.leaves.values()]
        read = {made.function.name for made in self.translated.values()}
        while todo:
            function, caller = todo.pop()
            if function.name in every or function.name in read or (caller and function.name in self.words.silent):
                continue
            every[function.name] = (function, caller)
            for name in dict.fromkeys(re.findall(r"\b(\w+)[ \t]*\(", function.text)):
                called = self.function(name, function.file)
                todo += [(called, function.name)] if called else []
        found = [Leaf(n, f.file, f.line, known(n, f.fingerprint), f, by) for n, (f, by) in every.items()]
        for name, (file, why) in self.words.stands_for.items():
            whole = self.function(name, file)
            if whole is not None and name not in every and name not in read:
                found.append(Leaf(name, file, whole.line, known(name, whole.fingerprint), whole, why=why))
        for name in sorted(self.macros - self.words.stands_for.keys()):
            body = self.macro(name, PAGE_ALLOC)
            here = self.function(name, PAGE_ALLOC)
            if here is not None and name not in every:
                found.append(Leaf(name, here.file, here.line, known(name, here.fingerprint), here))
            elif body:
                found.append(Leaf(name, PAGE_ALLOC, 0, known(name, fingerprint(body))))
        return sorted(found, key=lambda leaf: leaf.name)

    def functions(self) -> dict[str, Function]:
        """Every C function that is read or summed up, by name."""
        read = {made.function.name: made.function for made in self.translated.values()}
        return {**read, **{n: f for n, f in self.leaves.items() if n not in read}}

    # --- what the translation of one function asks of the others ---

    def note(self, name: str, file: str) -> None:
        """That somebody calls a function or macro which has a meaning."""
        if file:
            self.parameters(name, file)
        else:
            self.macros.add(name)

    def parameters(self, name: str, file: str) -> tuple[str, ...] | None:
        """Of a leaf, which is noted."""
        function = self.function(name, file or PAGE_ALLOC)
        if function is None:
            return None
        self.leaves[name] = function
        return tuple(p for _, p in function.parameters)

    def routine(self, name: str, file: str, numbers: tuple[int | None, ...]) -> Callee | None:
        """How to call a function that is translated: a described one through the kernel, so that its marks are met."""
        described = self.described.get(name)
        function = self.function(name, described.file if described else file)
        if function is None:
            return None
        if described and described.model and all(described.given.get(p) == p for _, p in function.parameters):
            own = [p.partition("=")[0].strip() for p in described.parameters.split(",")]
            names = [p for _, p in function.parameters]
            if all(p in names for p in own):
                self.read(name, function)
                return Callee(described.model, takes=tuple(names.index(p) for p in own))
        pairs = zip(function.parameters, numbers, strict=False)
        constants = {p: n for (_, p), n in pairs if n is not None and not _stored_to(function, p)}
        unsigned = tuple(i for i, (kind, _) in enumerate(function.parameters) if UNSIGNED.search(kind))
        below = function.returns in ("int", "long", "short")
        return Callee(self.read(name, function, constants), self.rebinds(function), unsigned=unsigned, below=below)

    def rebinds(self, function: Function) -> tuple[int, ...]:
        """The parameters whose value is another one for the caller as well, by position."""
        place = (function.name, function.file)
        if place not in self._rebinds:
            self._rebinds[place] = ()
            names = [p for _, p in function.parameters]
            found = set()
            for node in walk(function.node.child_by_field_name("body")):
                if node.type != "call_expression":
                    continue
                called = node.child_by_field_name("function").text.decode()
                arguments = node.child_by_field_name("arguments").named_children
                means = self.words.calls.get(called)
                changed: Iterable[Any] = means.rebinds if means else ()
                if means is None and called not in self.words.silent:
                    other = self.function(called, function.file)
                    changed = self.rebinds(other) if other else ()
                for i in changed:
                    if isinstance(i, int) and i < len(arguments) and arguments[i].text.decode() in names:
                        found.add(names.index(arguments[i].text.decode()))
            self._rebinds[place] = tuple(sorted(found))
        return self._rebinds[place]

    # --- reading ---

    def read_all(self) -> None:
        """Read every routine that the vocabulary describes, and what they call."""
        for routine in self.words.routines:
            try:
                function = self.function(routine.c, routine.file)
            except ModelError as error:
                self.refused[routine.c] = str(error)
                continue
            if function is None:
                self.absent.append(routine)
            else:
                self.read(routine.c, function)

    def read(self, name: str, function: Function, given: Mapping[str, int] | None = None) -> str:
        """Translate one function, unless that is done or under way; returns the method.

        ``given`` are parameters whose value is known where it is called: each such call has a method of its own.
        """
        described = self.described.get(name)
        constants = {**(described.constants if described else {}), **(given or {})}
        constants = {p: constants[p] for _, p in function.parameters if p in constants}
        own = {p: v for p, v in constants.items() if not described or p not in described.constants}
        # two files may each have a function of their own of that name
        home = self._homes.setdefault(name, function.file)
        first = f"c_{name}" if home == function.file else f"c_{name}_of_" + re.sub(r"\W", "_", function.file)
        method = "_".join([first, *(f"{p}_{v}".replace("-", "m") for p, v in own.items())])
        if method in self.methods or name in self.refused:
            return method
        self.methods.add(method)
        try:
            made = self._translate(function, described, constants, method)
            self.translated[method] = made
        except UnreadableError as error:
            self.refused[name] = str(error)
        return method

    def _translate(
        self, function: Function, described: Routine | None, constants: dict[str, int], method: str
    ) -> Translated:  # fmt: skip
        if function.broken:
            raise UnreadableError(function.broken)
        names = {p for _, p in function.parameters}
        if described and described.model:
            missing = names - described.given.keys()
            if missing:
                raise UnreadableError(
                    f"{function.file}:{function.line}: {function.name}(): parameter {sorted(missing)[0]} is not in the"
                    f" vocabulary, which knows {', '.join(described.given)}; add it to kernelmodel/vocabulary"
                )
        unknown = {p for p in names if described and "_c.Unknown(" in described.given.get(p, "")}
        if described and not described.model:
            unknown |= {p for t, p in function.parameters if p in ("alloc_flags", "gfp_flags", "fpi_flags")}
        made = Statements(
            function, self.words, self, self.symbols, constants,
            types={p: t for t, p in function.parameters}, unknown=unknown,
            flat=computes_a_value(function, self.words),
            hands_on=tuple(function.parameters[i][1] for i in self.rebinds(function)),
        )  # fmt: skip
        made.body()
        parameters = ", ".join(["self", *(made.python(p) for _, p in function.parameters)])
        lines = [(0, f"def {method}({parameters}):", function.line)]
        lines.append((1, repr(f"{function.file}: {function.name}()"), function.line))
        lines += made.lines
        lines.append((1, "yield", function.end))
        text = "\n".join("    " * depth + line for depth, line, _ in lines)
        return Translated(
            function, method, text, tuple(line for _, _, line in lines), made.has_loop, tuple(sorted(made.carried))
        )


def _stored_to(function: Function, parameter: str) -> bool:
    """Whether a function changes a parameter of its own."""
    for node in walk(function.node.child_by_field_name("body")):
        if node.type in ("assignment_expression", "update_expression", "pointer_expression"):
            target = node.child_by_field_name("left") or node.child_by_field_name("argument")
            if target is not None and target.text.decode() == parameter:
                return True
    return False


def compiled(text: str, lines: tuple[int, ...], filename: str, names: dict[str, Any]) -> Any:
    """The one function that a text defines, with the line numbers of the C file."""
    module = ast.parse(text)
    for node in ast.walk(module):
        if isinstance(node, (ast.stmt, ast.expr, ast.arg, ast.keyword)):
            node.lineno = lines[node.lineno - 1]
            node.end_lineno = lines[(node.end_lineno or 1) - 1]
            node.end_lineno = max(node.lineno, node.end_lineno)
            node.col_offset, node.end_col_offset = 0, 0
    made: dict[str, Any] = {}
    exec(compile(module, filename, "exec"), names, made)
    return next(iter(made.values()))
