"""A trace as a test that stands on its own: it needs straypage's packages and pytest, and no file."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmodel.errors import ModelError
from verify.tracefile.film import Film
from verify.tracefile.record import RecordedStep

_WIDTH = 116


def reproducer(film: Film) -> str:
    """The test's text: green as long as the violation is reproduced; ModelError if there is none to reproduce."""
    violation = film.violation
    if violation is None:
        raise ModelError(f"{film.prop.name} is not violated by this trace: there is nothing for a test to reproduce")
    trace = film.recorded()
    spec, start, prop = trace.kernel, trace.start, film.prop
    steps = "\n".join(_steps(trace.steps[: violation.step]))
    sizes = ", ".join(f"{name}={n!r}" for name, n in trace.scenario.numbers().items())
    return f'''"""{_sentence(spec.title)}: {violation.found}.

{prop.name}: {_wrap(prop.statement, len(prop.name) + 2)}.
Found by {trace.engine}, {trace.memory_model}.  Written by `python -m verify.replay --pytest`.
Green as long as the violation is reproduced: expect it to fail once the kernel is repaired, and turn it round then.
"""

from kernelmodel.kernels import {spec.kind}
from properties.catalogue import find
from verify.scenario import Scenario
from verify.trace import Start, TraceStep, rerun

SCENARIO = Scenario({sizes})
START = Start(
    limits={start.limits!r},  # high, batch
    block_types={start.block_types!r},
    lists={start.lists!r},  # (cpu, migratetype, block, pages)
    cpu_of={_dict(start.cpu_of)},
    block_of={_dict(start.block_of)},
    type_of={_dict(start.type_of)},
    in_use={start.in_use!r},  # the blocks of pages that nobody frees
    memory={_quoted(start.memory)},
)
# each step is exactly one operation: the task, what it does, what was chosen for it, its CPU
STEPS = [
{steps}
]


def test_{prop.name}_is_violated():
    run = rerun({spec.kind}({_quoted(spec.name)}), SCENARIO, START, STEPS, find({_quoted(prop.name)}))
    assert [(s.task, s.text) for s in run.steps] == [(s.task, s.text) for s in STEPS], "the kernel's text has changed"
    assert [v.found for v in run.violations][:1] == [{_quoted(violation.found)}]
'''


def _steps(steps: tuple[RecordedStep, ...]) -> list[str]:
    lines: list[str] = []
    where: tuple[object, ...] = ()
    for step in steps:
        here = (step.task, step.cpu, step.calls)
        if here != where:
            calls = " > ".join(f"{name}()" for name in step.calls)
            lines.append(_cut(f"    # CPU{step.cpu}, {step.task}: {calls}"))
            where = here
        lines.append(
            f"    TraceStep({_quoted(step.task)}, {_quoted(step.operation)}, {_dict(step.choices)}, {step.cpu}),"
        )
    return lines


def _dict(values: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{_quoted(k)}: {v!r}" for k, v in values.items()) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _sentence(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def _wrap(text: str, first: int) -> str:
    words, lines, room = text.split(), [""], _WIDTH - first
    for word in words:
        if len(lines[-1]) + len(word) + 1 > room:
            lines.append("")
            room = _WIDTH
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
