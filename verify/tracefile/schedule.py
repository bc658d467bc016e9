"""A schedule on one line: where the tasks are and who steps how often, for a mail, a Hypothesis example, the scheduler.

    straypage-schedule-1 high=3 batch=3 types=1,1 cpu:offline0=1 block:free0=1 type:alloc0=1 | offline0@1*7 alloc0@0*4

Before the bar is the start (``list:CPU/MIGRATETYPE/BLOCK=PAGES`` for pages on pcplists), after it the steps:
``TASK@CPU*TIMES``, with ``{choice=value}`` where the environment or the concrete model chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kernelmodel.errors import ModelError
from kernelmodel.machine import Machine, Step, Task
from kernelmodel.variants.overrides import nearest
from verify.trace import Start, TraceStep

HEAD = "straypage-schedule-1"
_STEP = re.compile(r"(?P<task>[\w/.-]+)(?:@(?P<cpu>\d+))?(?:\{(?P<choices>[^{}]*)\})?(?:\*(?P<times>\d+))?")
#: more steps than this on one line are taken for a slip of the keyboard
_LONGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """A start, and exact steps whose operations are not named."""

    start: Start
    steps: tuple[TraceStep, ...]


def format_schedule(start: Start, steps: Iterable[TraceStep]) -> str:
    """The line."""
    words = [
        HEAD,
        f"high={start.limits[0]}",
        f"batch={start.limits[1]}",
        *(f"high_max={most}" for most in start.limits[2:]),
        f"types={','.join(map(str, start.block_types))}",
    ]
    words += [f"list:{c}/{t}/{b}={n}" for c, t, b, n in start.lists]
    words += [f"used={','.join(map(str, start.in_use))}"] if start.in_use else []
    for key, values in (("cpu", start.cpu_of), ("block", start.block_of), ("type", start.type_of)):
        words += [f"{key}:{task}={v}" for task, v in values.items()]
    words.append("|")
    runs: list[tuple[str, int]] = []
    for step in steps:
        word = step.task if step.cpu is None else f"{step.task}@{step.cpu}"
        if step.choices:
            word += "{" + ",".join(f"{k}={_shown(v)}" for k, v in sorted(step.choices.items())) + "}"
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    return " ".join([*words, *(word if n == 1 else f"{word}*{n}" for word, n in runs)])


def parse_schedule(line: str) -> Schedule:
    """What ``format_schedule`` made; ModelError names the word that is wrong."""
    head, bar, tail = line.strip().partition("|")
    words = head.split()
    if not words or words[0] != HEAD or not bar:
        raise ModelError(f"no schedule: a line is `{HEAD} START | STEPS`, as --schedule prints it")
    limits = {"high": 0, "batch": 1, "high_max": -1}
    types: tuple[int, ...] = ()
    used: tuple[int, ...] = ()
    lists: list[tuple[int, int, int, int]] = []
    of: dict[str, dict[str, int]] = {"cpu": {}, "block": {}, "type": {}}
    for word in words[1:]:
        key, _, value = word.partition("=")
        kind, colon, name = key.partition(":")
        if key in limits:
            limits[key] = _number(word, value)
        elif key == "types":
            types = tuple(_number(word, v) for v in value.split(","))
        elif key == "used":
            used = tuple(_number(word, v) for v in value.split(","))
        elif kind == "list" and name.count("/") == 2:
            cpu, migratetype, block = (_number(word, v) for v in name.split("/"))
            lists.append((cpu, migratetype, block, _number(word, value)))
        elif colon and kind in of and name:
            of[kind][name] = _number(word, value)
        else:
            raise ModelError(
                f"schedule: {word!r} is no part of a start: high=, batch=, types=, list:, used=, cpu:, block:, type:"
            )
    start = Start(
        tuple(n for n in limits.values() if n >= 0), types, tuple(lists), of["cpu"], of["block"], of["type"], used
    )
    steps: list[TraceStep] = []
    for word in tail.split():
        steps += _steps(word, _LONGEST - len(steps))
    return Schedule(start, tuple(steps))


def perform(machine: Machine, steps: Sequence[TraceStep], tasks: Mapping[str, Task] | None = None) -> list[Step]:
    """Let a machine's tasks (by name, or those of ``tasks``) make exactly these steps; ModelError where one cannot."""
    made = []
    for n, step in enumerate(steps, 1):
        known = tasks or {t.name: t for t in machine.tasks}
        if step.task not in known:
            raise ModelError(f"step {n} of the schedule: {nearest('task', step.task, known)}")
        task = known[step.task]
        if step.cpu is not None and task.cpu != step.cpu:
            machine.migrate(task, step.cpu)
        made.append(machine.step(task, step.choices))
    return made


def _steps(word: str, room: int) -> list[TraceStep]:
    found = _STEP.fullmatch(word)
    if found is None:
        raise ModelError(f"schedule: {word!r} is no step: TASK@CPU{{choice=value}}*TIMES")
    choices: dict[str, int] = {}
    for pair in filter(None, (found["choices"] or "").split(",")):
        name, _, value = pair.partition("=")
        choices[name] = value == "true" if value in ("true", "false") else _number(word, value)
    times = int(found["times"] or 1)
    if times > room:
        raise ModelError(f"schedule: more than {_LONGEST} steps at {word!r}")
    cpu = None if found["cpu"] is None else int(found["cpu"])
    return [TraceStep(found["task"], "", choices, cpu) for _ in range(times)]


def _number(word: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ModelError(f"schedule: {word!r}: {text!r} is no number") from None


def _shown(value: int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
