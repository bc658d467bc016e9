"""Reading and writing trace files, and the verdict files of engines: each error is one line with cause and cure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from kernelmodel.errors import ModelError
from kernelmodel.kernels import is_kernel
from kernelmodel.memory_model import MODELS, model_named
from kernelmodel.tasks import options as task_options
from kernelmodel.versions.later_mutants import named
from properties.catalogue import find
from verify.report import write_json
from verify.scenario import Scenario, option_of
from verify.trace import Start
from verify.tracefile.position import line_of
from verify.tracefile.record import SCHEMA, KernelSpec, RecordedStep, TraceFile, TraceViolation
from verify.verdict import Verdict

#: the verdict file of the engines (verify.report)
VERDICTS = "straypage-verdicts-1"
T = TypeVar("T")
_MISSING: Any = object()


class Reader:
    """A JSON value and where it stands in its document, so that what is wrong with it can be said."""

    def __init__(self, value: Any, where: str = "") -> None:
        """``where`` is a path such as ``steps[3].task``."""
        self.value, self.where = value, where

    def wrong(self, what: str) -> NoReturn:
        """Raise the error that this value calls for."""
        shown = json.dumps(self.value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise ModelError(f"{self.where or 'the document'}: {what}, not {shown}")

    def has(self, key: str) -> bool:
        """Whether this object has ``key`` with anything but null."""
        return isinstance(self.value, Mapping) and self.value.get(key) is not None

    def at(self, key: str, otherwise: Any = _MISSING) -> Reader:
        """The value of ``key`` of this object."""
        if not isinstance(self.value, Mapping):
            self.wrong("should be an object")
        where = f"{self.where}.{key}" if self.where else key
        if key not in self.value and otherwise is _MISSING:
            raise ModelError(f"{where} is missing: docs/trace-format.md lists what a trace has")
        return Reader(self.value.get(key, otherwise), where)

    def each(self) -> list[Reader]:
        """The elements of this array."""
        if not isinstance(self.value, (list, tuple)):
            self.wrong("should be an array")
        return [Reader(v, f"{self.where}[{i}]") for i, v in enumerate(self.value)]

    def text(self) -> str:
        """This string."""
        if not isinstance(self.value, str):
            self.wrong("should be a string")
        return str(self.value)

    def number(self) -> int:
        """This integer."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.wrong("should be an integer")
        return int(self.value)

    def scalar(self) -> int:
        """This integer or truth value."""
        return bool(self.value) if isinstance(self.value, bool) else self.number()

    def flag(self) -> bool:
        """This truth value."""
        if not isinstance(self.value, bool):
            self.wrong("should be true or false")
        return bool(self.value)

    def mapping(self, of: Callable[[Reader], T]) -> dict[str, T]:
        """This object, each value read with ``of``."""
        if not isinstance(self.value, Mapping):
            self.wrong("should be an object")
        return {key: of(self.at(key)) for key in self.value}


def load(path: str) -> TraceFile:
    """The trace in a trace file, or of the first violated verdict in a verdict file; ModelError for bad input."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not text: give a trace, or what --json of an engine wrote") from error
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}, line {error.lineno}: no JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise ModelError(f"{path}: no JSON that can be read: {error}") from error
    try:
        return parse(document)
    except ModelError as error:
        line = line_of(text, str(error))
        raise ModelError(f"{path}{'' if line is None else f', line {line}'}: {error}") from error


def save(trace: TraceFile, path: str) -> None:
    """Write a trace file, in whole or not at all; ModelError if it cannot be written."""
    try:
        write_json(path, trace.as_json())
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def parse(document: Any) -> TraceFile:
    """The trace in a JSON document, a trace or verdicts."""
    reader = Reader(document)
    if not isinstance(document, Mapping):
        reader.wrong(f"should be an object with schema {SCHEMA}")
    schema = reader.at("schema", "").text()
    if schema == VERDICTS:
        return from_verdicts(document)
    if schema != SCHEMA:
        had = f"schema {schema!r} is not known" if schema else "it names no schema"
        raise ModelError(f"{had}: this version reads {SCHEMA} and {VERDICTS}; let the engine write the trace again")
    spec = reader.at("kernel")
    kernel = KernelSpec(spec.at("kind").text(), spec.at("name").text())
    model = reader.at("memory_model", MODELS["sc"]).text()
    violation = None
    if reader.has("violation"):
        broken = reader.at("violation")
        violation = TraceViolation(broken.at("found").text(), broken.at("step").number())
    return TraceFile(
        kernel=kernel,
        scenario=_scenario(reader.at("scenario")),
        property=find(reader.at("property").text()).name,
        engine=reader.at("engine").text(),
        start=replace(_start(reader.at("start")), memory=model_named(model)),
        steps=tuple(_step(s) for s in reader.at("steps").each()),
        violation=violation,
        memory_model=model,
    )


def from_verdicts(document: Mapping[str, Any]) -> TraceFile:
    """The trace of the first violated verdict that has a schedule."""
    reader = Reader(document)
    verdicts = reader.at("verdicts").each()
    for verdict in verdicts:
        if verdict.at("result").text() == "violated" and verdict.at("schedule", []).each():
            return _of_verdict(verdict, reader)
    results = sorted({v.at("result").text() for v in verdicts}) or ["no verdict at all"]
    raise ModelError(f"no counterexample in it: its verdicts are {', '.join(results)}; there is nothing to replay")


def of_verdict(verdict: Verdict) -> TraceFile:
    """The trace of a verdict that has a schedule; ModelError if its kernel has no name."""
    reader = Reader(verdict.as_json())
    return _of_verdict(reader, reader)


def _of_verdict(verdict: Reader, document: Reader) -> TraceFile:
    start, *steps = verdict.at("schedule").each()
    recorded = tuple(_step(s) for s in steps)
    model = verdict.at("memory_model", MODELS["sc"]).text()
    said = verdict if verdict.has("scenario") else document
    return TraceFile(
        kernel=_spec(verdict),
        scenario=_scenario(said.at("scenario")),
        property=find(verdict.at("property").text()).name,
        engine=verdict.at("engine").text(),
        start=replace(_start(start.at("start")), memory=model_named(model)),
        steps=recorded,
        violation=TraceViolation(verdict.at("found").text(), len(recorded)),
        memory_model=model,
    )


def _spec(verdict: Reader) -> KernelSpec:
    """The kernel that a verdict is about."""
    if verdict.has("source"):
        return KernelSpec("variant", verdict.at("source").text())
    display = verdict.at("kernel").text()
    mutant = named(display)
    if mutant:
        return KernelSpec("mutant", mutant)
    if is_kernel(display):
        return KernelSpec("kernel", display)
    raise ModelError(
        f"verdict of kernel {display!r}, which is none of ours, and {verdict.where or 'it'} has no source: let the engine"
        " write it again, with --json"
    )


def _scenario(reader: Reader) -> Scenario:
    # what came later than the format has a default
    first = {"cpus", "rounds", *(o for o, kind in task_options().items() if kind.always_told)}
    numbers = {
        name: (reader.at(name) if name in first else reader.at(name, otherwise)).number()
        for name, otherwise in Scenario().numbers().items() if name != "spread"
    }  # fmt: skip
    try:
        return Scenario().having(**numbers, spread=reader.at("spread", False).flag())
    except ModelError as error:
        # nobody gave these numbers as options
        said = str(error)
        for name in numbers:
            said = re.sub(rf"{option_of(name)}(?![\w-])", f"{reader.where}.{name}", said)
        raise ModelError(said) from error


def _start(reader: Reader) -> Start:
    lists = []
    for entry in reader.at("lists").each():
        numbers = [n.number() for n in entry.each()]
        if len(numbers) != 4:
            entry.wrong("should be [cpu, migratetype, block, how many]")
        lists.append((numbers[0], numbers[1], numbers[2], numbers[3]))
    limits = [n.number() for n in reader.at("limits").each()]
    if len(limits) not in (2, 3):
        reader.at("limits").wrong("should be [high, batch] or [high, batch, greatest high]")
    return Start(
        limits=tuple(limits),
        block_types=tuple(n.number() for n in reader.at("block_types").each()),
        lists=tuple(lists),
        cpu_of=reader.at("cpu_of", {}).mapping(Reader.number),
        block_of=reader.at("block_of", {}).mapping(Reader.number),
        type_of=reader.at("type_of", {}).mapping(Reader.number),
        in_use=tuple(n.number() for n in reader.at("in_use", []).each()),
    )


def _step(reader: Reader) -> RecordedStep:
    return RecordedStep(
        task=reader.at("task").text(),
        operation=reader.at("operation").text(),
        cpu=reader.at("cpu").number() if reader.has("cpu") else None,
        calls=tuple(c.text() for c in reader.at("calls", []).each()),
        pc=reader.at("pc", "").text(),
        choices=reader.at("choices", {}).mapping(Reader.scalar),
        returned=tuple(v.scalar() for v in reader.at("returned").each()) if reader.has("returned") else None,
        read=tuple(reader.at("read", {}).mapping(Reader.scalar).items()),
        written=tuple(reader.at("written", {}).mapping(Reader.scalar).items()),
    )
