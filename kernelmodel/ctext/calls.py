"""Calls of C functions: what they mean, whether they are without effect, how those that are read as well are called."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

from kernelmodel.ctext.expressions import ACTS, PURE, READS, Callee, Code, Expressions
from kernelmodel.ctext.nodes import walk
from kernelmodel.vocabulary.words import Means


@dataclass
class CallExpressions(Expressions):
    """Expressions, calls among them."""

    def _call_expression(self, node: Any) -> Code:
        function = node.child_by_field_name("function")
        if function.type != "identifier":
            raise self.no(node, "a call through a pointer has no meaning here")
        name = function.text.decode()
        arguments = node.child_by_field_name("arguments").named_children
        if name in ("READ_ONCE", "data_race"):
            return self._read_once(arguments[0])
        if name == "IS_ENABLED":
            on = arguments[0].text.decode() in self.symbols
            return Code(str(int(on)), number=int(on))
        if arguments and (name, arguments[0].text.decode()) in self.words.environment:
            choice, why = self.words.environment[name, arguments[0].text.decode()]
            return Code(f"(yield _ops.environment({choice!r}, {self.text(node)}, {why!r}, None))", READS)
        if name in self.words.hooks:
            return self._hook(node, name, arguments)
        if name in self.words.calls:
            return self._meaning(node, name, self.words.calls[name], arguments)
        if name not in self.words.silent:
            codes = [self.expression(a) for a in arguments]
            translated = self.calls.routine(name, self.function.file, tuple(c.number for c in codes))
            if translated is not None:
                return self._routine(node, translated, arguments, codes)
        if name in self.words.silent:
            self.calls.note(name, "")
            self.silent(node, arguments)
            return Code(f"_c.Unknown({name + '()'!r})", unknown=True)
        raise self.no(
            node, f"{name}() is neither read, nor summed up, nor known to be without effect",
            f"add it to kernelmodel/vocabulary, or say with --assume what it does: {name}=nothing, {name}=open or a routine",
        )  # fmt: skip

    def silent(self, node: Any, arguments: list[Any]) -> list[str]:
        """Check what a call without effect is given; returns the local variables whose address it takes."""
        written = []
        for argument in arguments:
            for n in walk(argument):
                if n.type in ("assignment_expression", "update_expression"):
                    raise self.no(
                        node, "something is changed in the arguments of a call that is taken to be without effect"
                    )
                if n.type == "call_expression":
                    called = n.child_by_field_name("function").text.decode()
                    means = self.words.calls.get(called)
                    looks = means is not None and not (means.steps or means.rebinds or means.acts)
                    harmless = called in self.words.silent or called == "READ_ONCE" or looks
                    if not harmless:
                        raise self.no(n, f"{called}() in the arguments of a call that is taken to be without effect")
            written += self._pointed_to(argument)
        return written

    def _pointed_to(self, argument: Any) -> list[str]:
        """The local variable whose address an argument is; none for any other argument."""
        if argument.type == "pointer_expression" and argument.children[0].type == "&":
            target = argument.child_by_field_name("argument")
            if target.type == "identifier" and target.text.decode() in self.types:
                return [target.text.decode()]
        return []

    def _hook(self, node: Any, name: str, arguments: list[Any]) -> Code:
        """A call of which the user says what it does: it may give new values to local variables whose address it is given."""
        codes = [self.expression(a) for a in arguments]
        if any(c.does == ACTS for c in codes):
            raise self.no(node, f"something is changed in the arguments of {name}()")
        targets = [local for a in arguments for local in self._pointed_to(a)]
        if self.words.hooks[name] != "open":
            given = ", ".join(c.text for c in codes)
            marks = tuple("*" * self.types[t].endswith("*") + t for t in targets)
            text = f"(yield from _c.hooked(self.hook_{name}({given}), {marks!r}, {name!r}))"
            return Code(self._rebound(text, targets) if targets else f"{text}[0]", ACTS)
        news = []
        for target in targets:
            kind, mine = self.types[target], self.python(target)
            if kind.startswith("struct ") and kind.endswith("*"):
                news.append(f"(yield from _c.taken_or_not({mine}, {name + '()'!r}))")
            elif kind.startswith("struct "):
                raise self.no(node, f"{name}() may change {target}, which is a {kind}: give a routine of your own")
            else:
                self.note_value(node, target, Code("", unknown=True))
                news.append(f"_c.Unknown({target!r}{', 0, 1' if kind == 'bool' else ''})")
        made = f"_c.Unknown({name + '()'!r})"
        return Code(self._rebound(f"({', '.join([made, *news])},)", targets), ACTS if targets else PURE, True)

    def _read_once(self, argument: Any) -> Code:
        if argument.type == "field_expression":
            code = self.expression(argument.child_by_field_name("argument"))
            entry = self.field_of(argument, code, argument.child_by_field_name("field").text.decode())
            if entry.cell:
                return self.loaded(entry, code, "read_once")
        return self.expression(argument)

    def _meaning(self, node: Any, name: str, means: Means, arguments: list[Any]) -> Code:
        self.calls.note(name, means.file)
        wanted = {f for _, f, _, _ in string.Formatter().parse(means.python) if f}
        positions: dict[str, int] = {}
        if any(not w.isdecimal() and w != "text" for w in wanted):
            parameters = self.calls.parameters(name, means.file)
            if parameters is None:
                raise self.no(node, f"{name}() is summed up by the model, and {means.file} has no such function")
            positions = {p: i for i, p in enumerate(parameters)}
        used: dict[str, Code] = {}
        for key in wanted - {"text"}:
            at = int(key) if key.isdecimal() else positions.get(key, -1)
            if not 0 <= at < len(arguments):
                raise self.no(node, f"{name}() has no argument {key}, which its meaning needs")
            used[key] = self.expression(arguments[at])
        rest = [
            a
            for i, a in enumerate(arguments)
            if str(i) not in wanted and not any(positions.get(k) == i for k in wanted)
        ]
        rebound = [arguments[k if isinstance(k, int) else positions.get(k, -1)] for k in means.rebinds]
        for local in self.silent(node, [a for a in rest if a not in rebound]):
            if not self.words.concrete and not self.types[local].startswith(("struct ", "enum ")):
                raise self.no(node, f"{name}() may change {local}, of which its meaning says nothing")
        rows = max((int(k) for k in used if k.isdecimal()), default=-1) + 1
        positional = [used[str(i)].text if str(i) in used else "" for i in range(rows)]
        named = {k: c.text for k, c in used.items() if not k.isdecimal()}
        plain = bool(means.plain) and not any(c.unknown for c in used.values())
        if plain:
            means = Means(means.plain)
        text = means.python.format(*positional, text=self.text(node), **named)
        does = max([c.does for c in used.values()], default=PURE)
        lifted = means.python.startswith("_c.") or means.python.startswith("_ops.environment")
        if means.acts:
            does = ACTS
        if means.steps:
            does = max(does, READS if lifted else ACTS)
            text = f"({means.steps} {text})"
        unknown = means.unknown or (any(c.unknown for c in used.values()) and (not means.steps or lifted))
        below = any(c.negative for c in used.values()) and (not means.steps or lifted)
        struct = means.struct or (used["0"].struct if means.python == "{0}" else "")
        struct = used["0"].struct if struct == "{0}" else struct
        number = used["0"].number if means.python == "{0}" else {"True": 1, "False": 0}.get(means.python)
        if not means.rebinds:
            if number is None and means.python.isdecimal():
                number = int(means.python)
            return Code(text, does, unknown, number, struct, below)
        targets = [self._target(node, argument) for argument in rebound]
        return Code(self._rebound(text, targets), ACTS, struct=struct)

    def _target(self, node: Any, argument: Any) -> str:
        """The local variable that a call changes: ``page`` of ``page``, ``&page->lru`` or ``&page``."""
        while argument.type in ("pointer_expression", "field_expression", "parenthesized_expression"):
            argument = argument.child_by_field_name("argument") or argument.named_children[0]
        if argument.type != "identifier" or argument.text.decode() not in self.types:
            raise self.no(node, "what this call changes is no local variable")
        return str(argument.text.decode())

    def _rebound(self, text: str, targets: list[str]) -> str:
        made = self.temporary()
        for target in targets:
            self.known.pop(target, None)
        sets = "".join(f"({self.python(t)} := {made}[{i}]), " for i, t in enumerate(targets, 1))
        return f"(({made} := {text}), {sets}{made}[0])[{len(targets) + 1}]"

    def _routine(self, node: Any, callee: Callee, arguments: list[Any], codes: list[Code]) -> Code:
        for i in callee.unsigned:
            if i < len(codes) and codes[i].negative:
                raise self.no(
                    node, f"argument {i + 1} is unsigned, and may be less than 0 here: C makes that a large number"
                )
        chosen = codes if callee.takes is None else [codes[i] for i in callee.takes]
        text = f"(yield from self.{callee.method}({', '.join(c.text for c in chosen)}))"
        if callee.rebinds:
            text = self._rebound(text, [self._target(node, arguments[i]) for i in callee.rebinds])
        return Code(text, ACTS, below=callee.below)
