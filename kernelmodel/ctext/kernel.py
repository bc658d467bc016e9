"""A kernel class made of a tree's C: the routines that were read, over the kernel of the tree's era."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from kernelmodel import ops, page_ops
from kernelmodel.cells import value
from kernelmodel.ctext.files import Tree
from kernelmodel.ctext.reader import Leaf, Reading, compiled
from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.mmzone import Page
from kernelmodel.text import KernelText
from kernelmodel.variants.loading import load
from kernelmodel.vocabulary import values
from kernelmodel.vocabulary.eras import ERAS
from kernelmodel.vocabulary.fingerprints import recorded
from kernelmodel.vocabulary.leaves import Leaves
from kernelmodel.vocabulary.words import PAGE_ALLOC, Routine, Vocabulary

#: what a routine that was read from C refers to
NAMES = {"_c": values, "_ops": ops, "_page_ops": page_ops, "_value_of": value, "_Page": Page}


def era_of(tree: Tree) -> tuple[type[KernelText], Vocabulary]:
    """The newest era of which a tree's mm/page_alloc.c has the names, or the one that was asked for."""
    if tree.spec.era:
        for kernel, words in ERAS:
            if words.era == tree.spec.era:
                return kernel, words
        raise ModelError(f"--era {tree.spec.era}: the C of {', '.join(w.era for _, w in ERAS)} can be read")
    text = tree.text(PAGE_ALLOC) or ""
    for kernel, words in ERAS:
        if all(re.search(rf"\b{re.escape(name)}\b", text) for name in words.shows):
            return kernel, words
    oldest = ERAS[-1]
    missing = next(n for n in oldest[1].shows if not re.search(rf"\b{re.escape(n)}\b", text))
    raise ModelError(
        f"{tree.spec.path}: {PAGE_ALLOC} has no {missing}, which every kernel from {oldest[0].name} on has: older ones cannot"
        " be read yet; if it is one of these all the same, say --era"
    )


def reading_of(spec: TreeSpec) -> tuple[type[KernelText], Reading]:
    """Read a tree: its era's kernel, and what was read, refused, summed up, absent."""
    tree = Tree(spec)
    era, words = era_of(tree)
    assumed, hooks = {}, {}
    for hook in spec.assume:
        name, equals, what = hook.partition("=")
        if equals != "=" or not name.isidentifier() or not re.fullmatch(r"nothing|open|.+\.py:\w+", what):
            raise ModelError(f"--assume {hook}: give HOOK=nothing, HOOK=open or HOOK=FILE.py:ROUTINE")
        if what == "nothing":
            assumed[name] = "assumed to be without effect by --assume"
        else:
            hooks[name] = what
    reading = Reading(tree, words.extended(silent=assumed, assumed=frozenset(assumed), hooks=hooks))
    reading.read_all()
    return era, reading


def kernel_from(spec_text: str) -> type[KernelText]:
    """The kernel class of a tree; ModelError for the first place in it that has no meaning."""
    spec = TreeSpec.parse(spec_text)
    return class_of(spec, *read_whole(spec))


def read_whole(spec: TreeSpec) -> tuple[type[KernelText], Reading]:
    """As :func:`reading_of`; ModelError for the first place that has no meaning."""
    era, reading = reading_of(spec)
    if reading.refused:
        first, *others = reading.refused.values()
        more = f" (and {len(others)} more: python -m verify.tree {spec.path} lists them)" if others else ""
        raise ModelError(first + more)
    return era, reading


def class_of(spec: TreeSpec, era: type[KernelText], reading: Reading) -> type[KernelText]:
    """The class of a tree that was read."""
    root = Path(spec.path)
    version = reading.tree.version or "a tree"
    body: dict[str, Any] = {
        "__module__": "tree", "__doc__": f"{spec.path}, read from its C.", "name": spec.title,
        "summary": f"{version}, read from its C as {reading.words.era}'s", "tree": spec, "reading": reading,
        "line_of": staticmethod(reading.tree.line), "given": _given(spec, era, reading),
        "source": str(spec),
    }  # fmt: skip
    for made in reading.translated.values():
        body[made.method] = compiled(made.python, made.lines, str(root / made.function.file), NAMES)
    for name, what in reading.words.hooks.items():
        if what != "open":
            body[f"hook_{name}"] = _own(name, what)
    for routine in reading.words.routines:
        if routine.model and f"c_{routine.c}" in reading.translated:
            body[routine.model] = _bridge(routine, reading)
    looping = [made.function.name for made in reading.translated.values() if made.has_loop]
    told = {r.c for r in reading.words.routines if r.loop_told}
    body["loops"] = tuple(n for n in dict.fromkeys(looping) if n not in told)
    return type("FromTree", (Leaves, era), body)


def _given(spec: TreeSpec, era: type[KernelText], reading: Reading) -> tuple[str, ...]:
    """What a verdict about a tree takes for granted."""
    read = {made.function.name for made in reading.translated.values()}
    leaves = reading.summed_up()
    summed = sum(not leaf.caller and not leaf.why for leaf in leaves)
    said = [
        f"read: the C of {len(read)} functions, as {reading.words.era}'s; {summed} that they use are summed up"
        f" (python -m verify.tree {spec.options.removeprefix('--tree ')})"
    ]
    absent = [r.c for r in reading.absent if not r.optional]
    if absent:
        names = ", ".join(f"{name}()" for name in absent)
        said.append(f"not in the tree, so that {era.name}'s text stands for it: {names}")
    for leaf in leaves:
        if not leaf.like:
            others = recorded(leaf.name)
            than = f"it differs from that of {', '.join(others)}" if others else "no C of it is known"
            whose = f", which {leaf.caller}() calls," if leaf.caller else ""
            said.append(f"given that {leaf.name}(){whose} still does what the model's {_what(leaf)} says: {than}")
    for made in reading.translated.values():
        if made.carried:
            names = " and ".join(made.carried)
            said.append(
                f"{names} of {made.function.name}() is taken to be any number from the second round of its loop on"
            )
    said += [_assumed(*hook.split("=", 1)) for hook in spec.assume]
    return tuple(said)


def _assumed(name: str, what: str) -> str:
    """What a verdict says of a call that the user has said something of."""
    if what == "nothing":
        return f"given that {name}() has no effect (--assume)"
    if what == "open":
        return (
            f"given that {name}() changes nothing but the local variables whose address it is given, which are any value"
            " then (--assume)"
        )
    return f"given that {name}() does what {what.partition(':')[2]}() in {what.partition(':')[0]} says (--assume)"


def _own(name: str, what: str) -> Any:
    """A user's own routine for a call."""
    path, _, routine = what.rpartition(":")
    found = getattr(load(Path(path), "--assume", "give --assume HOOK=FILE.py:ROUTINE"), routine, None)
    if not inspect.isgeneratorfunction(found):
        raise ModelError(
            f"--assume {name}={what}: {path} has no routine {routine}(): write def {routine}(kernel, ...), with yields"
        )
    return found


def _what(leaf: Leaf) -> str:
    return "text" if leaf.why else "summary"


def _bridge(routine: Routine, reading: Reading) -> Any:
    """The kernel's routine of a C function: the same, with the kernel's parameters."""
    made = reading.translated[f"c_{routine.c}"]
    given = ", ".join(routine.given[p] for _, p in made.function.parameters)
    before, after = routine.around if routine.around and routine.around[0] not in made.python else ("", "")
    lines = [f"def {routine.model}(self, {routine.parameters}):", f'    "{routine.file}: {routine.c}()"']
    if not before and "yield" not in given:
        lines.append(f"    return self.{made.method}({given})")
    else:
        lines += [f"    yield from self.{before}()"] if before else []
        lines.append(f"    result = yield from self.{made.method}({given})")
        lines += [f"    yield from self.{after}()"] if after else []
        lines.append("    return result")
    text = "\n".join(lines)
    return compiled(text, (made.function.line,) * len(lines), str(Path(reading.tree.spec.path) / routine.file), NAMES)
