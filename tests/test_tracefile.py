"""Trace files: what is written is read again, what is wrong is said in one line, and other forms hold the same run."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kernelmodel.cells import layout
from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS, kernel, variant
from properties.catalogue import find
from tests.shown import SHOWN
from verify.bmc.solve import Engine
from verify.report import as_json
from verify.scenario import Scenario
from verify.trace import MismatchError, Start, TraceStep, boot, exact_steps, rerun
from verify.tracefile import (
    SCHEMA,
    KernelSpec,
    RecordedStep,
    TraceFile,
    format_schedule,
    itf,
    load,
    of_verdict,
    parse,
    parse_schedule,
    perform,
    play,
    record,
    save,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def traces(documents):
    return {name: play(parse(document)).recorded() for name, document in documents.items()}


# --- round trips ---


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_saved_is_loaded_again(traces, name, tmp_path):
    file = tmp_path / "trace.json"
    save(traces[name], str(file))
    assert load(str(file)) == traces[name]
    assert json.loads(file.read_text())["schema"] == SCHEMA


@pytest.mark.parametrize("name", SHOWN)
def test_a_verdict_file_gives_the_run_that_the_engine_found(documents, traces, name):
    (verdict,) = documents[name]["verdicts"]
    trace = parse(documents[name])
    assert trace.kernel == KernelSpec("kernel" if name in KERNELS else "mutant", name)
    assert trace.violation.found == verdict["found"] == traces[name].violation.found
    assert [s.operation for s in traces[name].steps] == [s["operation"] for s in verdict["schedule"][1:]]


def test_a_verdict_file_of_another_scenario_is_read_with_that_scenario():
    verdict = Engine(kernel("base"), Scenario(cpus=2, frees=1, allocs=0)).decide(find("no_isolated_page_left"))
    document = json.loads(json.dumps(as_json([verdict], ["--cpus=2", "--frees", "1", "--allocs", "0"], False)))
    # whoever does not act in it is not in its trace
    assert parse(document).scenario == Scenario(cpus=2, frees=1, allocs=0, updates=0)
    document["verdicts"][0]["scenario"] = {
        "cpus": 4, "frees": 1, "allocs": 0, "updates": 1, "offlines": 1, "rounds": 1, "spread": True
    }  # fmt: skip
    assert parse(document).scenario == Scenario(cpus=4, frees=1, allocs=0, spread=True)


def test_a_variant_is_found_by_its_source_and_not_by_the_command(documents):
    document = json.loads(json.dumps(documents["no-force-all-cpus"]))
    document["command"] = ["--variant", "elsewhere.py", "--cpus", "7"]
    verdict = document["verdicts"][0]
    verdict |= {"kernel": "skip_idle_cpus.py:SkipIdleCpus", "source": "docs/examples/skip_idle_cpus.py"}
    assert parse(document).kernel == KernelSpec("variant", "docs/examples/skip_idle_cpus.py")
    assert parse(document).scenario.cpus == 2
    del verdict["source"]
    with pytest.raises(ModelError, match="has no source: let the engine write it again"):
        parse(document)


def test_a_verdict_on_a_users_text_says_where_that_is():
    found = variant("docs/examples/skip_idle_cpus.py:SkipIdleCpus")
    verdict = Engine(found, Scenario()).decide(find("no_stray_page"))
    assert verdict.source == "docs/examples/skip_idle_cpus.py:SkipIdleCpus"
    assert play(of_verdict(verdict)).violation is not None
    assert "source" not in Engine(kernel("base"), Scenario()).decide(find("no_stray_page")).as_json()


def test_record_makes_a_trace_of_an_engines_run(traces):
    trace = traces["base"]
    steps = [s.exact for s in trace.steps]
    found = rerun(kernel("base"), trace.scenario, trace.start, steps, find(trace.property))
    again = record(trace.kernel, trace.scenario, find(trace.property), "bmc", trace.start, exact_steps(found.steps))
    assert again == trace


# --- the schema ---


def wrong(value, schema, root, where="$"):
    """What of the JSON Schema words that ours uses does not hold."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    known = {"$schema", "$defs", "title", "description", "type", "required", "properties", "additionalProperties", "items",
             "minItems", "maxItems", "minimum", "maximum", "enum", "const"}  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    types = {
        "object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None),
    }  # fmt: skip
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    fits = [t for t in wanted if isinstance(value, types[t]) and not (t == "integer" and isinstance(value, bool))]
    if wanted and not fits:
        return [f"{where}: {value!r} is no {wanted}"]
    found = []
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r}")
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{where}: {value} out of range")
    if isinstance(value, dict):
        found += [f"{where}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, inner in value.items():
            rule_ = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
            if rule_ is False:
                found.append(f"{where}: {key} is unknown")
            elif rule_ is not True:
                found += wrong(inner, rule_, root, f"{where}.{key}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{where}: {len(value)} items")
        for i, inner in enumerate(value):
            found += wrong(inner, schema.get("items", {}), root, f"{where}[{i}]")
    return found


SCHEMA_FILE = json.loads((ROOT / "docs/trace.schema.json").read_text())


@pytest.mark.parametrize("name", SHOWN)
def test_traces_are_as_the_schema_says(traces, name):
    assert wrong(traces[name].as_json(), SCHEMA_FILE, SCHEMA_FILE) == []


def test_the_schema_refuses_what_is_wrong(traces):
    document = traces["base"].as_json()
    for change in ({"schema": "straypage-trace-2"}, {"steps": [{"task": "free0"}]}, {"more": 1}, {"violation": 3}):
        assert wrong({**document, **change}, SCHEMA_FILE, SCHEMA_FILE)


def test_the_documents_example_is_as_the_schema_says():
    text = (ROOT / "docs/trace-format.md").read_text()
    example = json.loads(text.split("```json\n")[1].split("```")[0])
    assert wrong(example, SCHEMA_FILE, SCHEMA_FILE) == []


# --- bad input ---


def edited(document, path, value):
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        (["schema"], "straypage-trace-0", "schema 'straypage-trace-0' is not known: this version reads"),
        (["schema"], None, "it names no schema"),
        (["schema"], 5, "schema: should be a string, not 5"),
        (["kernel", "name"], "bas", "did you mean base?"),
        (["kernel", "kind"], "kernal", "did you mean kernel?"),
        (["kernel"], "base", "kernel: should be an object"),
        (["property"], "no_stray_pages", "did you mean no_stray_page?"),
        (["scenario", "cpus"], "three", 'scenario.cpus: should be an integer, not "three"'),
        (["scenario", "cpus"], 0, "scenario.cpus 0 is out of range"),
        (["scenario", "frees"], None, "scenario.frees is missing"),
        (["steps"], {}, "steps: should be an array"),
        (["steps", 3, "task"], "offline7", "step 4: unknown task 'offline7': did you mean offline0?"),
        (["steps", 3, "task"], None, "steps[3].task is missing"),
        (["steps", 3, "cpu"], 9, "step 4: CPU 9 does not exist"),
        (["steps", 3, "choices"], {"x": "y"}, "steps[3].choices.x: should be an integer"),
        (["start", "limits"], [3], "start.limits: should be [high, batch]"),
        (["start", "limits"], [3, 0], "give [high, batch], maybe with a greatest high, with high >= 0 and batch >= 1"),
        (["start", "block_types"], [1], "1 block_types, and 1 offlines need 2"),
        (["start", "block_types"], [1, 7], "block type 7 is out of range"),
        (["start", "lists"], [[0, 1, 0]], "start.lists[0]: should be [cpu, migratetype, block, how many]"),
        (["start", "lists"], [[0, 1, 5, 1]], "block 5 is out of range"),
        (["start", "lists"], [[0, 1, 0, 10**9]], "give 0 to 4096"),
        (["start", "block_of"], {}, "block_of is for each free of the scenario: add free0"),
        (["start", "type_of", "fre0"], 1, "did you mean free0?"),
        (["start", "cpu_of", "free0"], -1, "cpu_of: free0 -1 is out of range"),
        (["violation", "step"], 999, "violation at step 999: the trace has"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(traces, tmp_path, path, value, hint):
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(edited(traces["base"].as_json(), path, value)))
    with pytest.raises(ModelError) as error:
        trace = load(str(file))
        trace.kernel.load()
    assert hint in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "line 1: no JSON"),
        (b"{\n  'a': 1}", "line 2: no JSON"),
        (b"[]", "should be an object with schema straypage-trace-1"),
        (b"\xff\xfe\x00", "is not text"),
        (b"[" * 100_000, "no JSON"),
        (b'{"schema": "straypage-verdicts-1", "verdicts": []}', "no verdict at all"),
        (b'{"schema": "straypage-verdicts-1", "verdicts": [{"result": "holds"}]}', "its verdicts are holds"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, content, hint):
    file = tmp_path / "trace.json"
    file.write_bytes(content)
    with pytest.raises(ModelError) as error:
        load(str(file))
    assert hint in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ModelError, match=r"cannot read nowhere\.json"):
        load("nowhere.json")


def test_whatever_is_wrong_is_an_error_of_ours(documents, traces):
    """Random edits: a document is played, refused, or does not fit; nothing else ever comes out."""
    rng, outcomes = random.Random(5), set()
    values = [None, True, -1, 0, 7, 10**30, 1.5, "", "base", "free0", [], {}, [1], {"a": 1}]
    for _ in range(300):
        source = rng.choice([documents["base"], traces["base"].as_json()])
        document = json.loads(json.dumps(source))
        inner = document
        while True:
            key = rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            if not isinstance(inner[key], (dict, list)) or not inner[key] or rng.random() < 0.2:
                inner[key] = rng.choice(values)
                break
            inner = inner[key]
        try:
            play(parse(document))
            outcomes.add("played")
        except (ModelError, MismatchError) as error:
            assert "\n" not in str(error)
            outcomes.add(type(error).__name__)
    assert outcomes == {"played", "ModelError", "MismatchError"}


# --- a trace that does not fit ---


def test_a_step_that_is_another_one_does_not_fit(traces):
    trace = traces["base"]
    n = next(i for i, s in enumerate(trace.steps) if s.operation.startswith("spin_lock"))
    renamed = replace(trace.steps[n], operation="set_pageblock_isolated()")
    said = rf"step {n + 1}: offline0 does spin_lock.* the trace has set_pageblock_isolated\(\)"
    with pytest.raises(MismatchError, match=said):
        play(replace(trace, steps=(*trace.steps[:n], renamed, *trace.steps[n + 1 :])))


def test_another_value_does_not_fit(traces):
    trace = traces["base"]
    n = next(i for i, s in enumerate(trace.steps) if s.operation == "pcp[0]->count" and s.returned == (0,))
    other = replace(trace.steps[n], returned=(5,))
    with pytest.raises(
        MismatchError, match=rf"step {n + 1}: offline0, pcp\[0\]->count: gives 0 in base, the trace has 5"
    ):
        play(replace(trace, steps=(*trace.steps[:n], other, *trace.steps[n + 1 :])))


def test_a_step_that_is_not_enabled_does_not_fit(traces):
    trace = traces["base"]
    trace = replace(trace, scenario=trace.scenario.having(updates=1))
    flood = tuple(RecordedStep("update0", "", None) for _ in range(100))
    with pytest.raises(MismatchError, match="update0"):
        play(replace(trace, steps=flood))


def test_another_kernel_does_not_fit(traces):
    with pytest.raises(MismatchError, match="the trace has"):
        play(replace(traces["no-force-all-cpus"], kernel=KernelSpec("kernel", "v5.11")))


def test_a_property_that_says_nothing_about_the_kernel_is_refused(traces):
    with pytest.raises(ModelError, match=r"no_stray_page says nothing about base, which has no zone_pcp_disable\(\)"):
        play(replace(traces["base"], property="no_stray_page"))


# --- the schedule ---


@pytest.mark.parametrize("name", SHOWN)
def test_a_schedule_line_holds_the_whole_run(traces, name):
    trace = traces[name]
    line = format_schedule(trace.start, [s.exact for s in trace.steps])
    assert "\n" not in line
    schedule = parse_schedule(line)
    assert schedule.start == trace.start
    found = rerun(trace.kernel.load(), trace.scenario, schedule.start, schedule.steps, find(trace.property))
    assert found.violations[0].found == trace.violation.found
    machine, tasks = boot(trace.kernel.load(), trace.scenario, schedule.start)
    made = perform(machine, schedule.steps, tasks)
    assert [s.text for s in made] == [s.operation for s in trace.steps]


_names = st.sampled_from(["offline0", "free0", "alloc1", "kworker/0", "update0"])
_numbers = st.dictionaries(_names, st.integers(0, 9), max_size=3)
_choices = st.dictionaries(
    st.sampled_from(["got0", "take0.1", "signal"]), st.one_of(st.integers(-1, 99), st.booleans()), max_size=2
)
_steps = st.builds(
    lambda task, cpu, choices: TraceStep(task, "", choices, cpu), _names, st.none() | st.integers(0, 63), _choices
)
_starts = st.builds(
    Start, st.tuples(st.integers(0, 99), st.integers(1, 99)), st.lists(st.integers(0, 4), min_size=1).map(tuple),
    st.lists(st.tuples(*[st.integers(0, 5)] * 4), max_size=3).map(tuple), _numbers, _numbers, _numbers,
)  # fmt: skip


@given(_starts, st.lists(_steps, max_size=30))
def test_every_schedule_is_read_as_it_was_written(start, steps):
    schedule = parse_schedule(format_schedule(start, steps))
    assert schedule.start == start and list(schedule.steps) == steps
    # True is not 1 to an operation
    kinds = [[type(v) for v in s.choices.values()] for s in schedule.steps]
    assert kinds == [[type(s.choices[k]) for k in r.choices] for s, r in zip(steps, schedule.steps, strict=True)]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("", "a line is `straypage-schedule-1 START | STEPS`"),
        ("straypage-schedule-2 | a", "a line is `straypage-schedule-1"),
        ("straypage-schedule-1 high=3 types=1", "a line is"),
        ("straypage-schedule-1 high=x types=1 |", "'high=x': 'x' is no number"),
        ("straypage-schedule-1 colour=3 |", "'colour=3' is no part of a start"),
        ("straypage-schedule-1 list:0/1=3 |", "'list:0/1=3' is no part of a start"),
        ("straypage-schedule-1 types=1 | free0@@2", "'free0@@2' is no step"),
        ("straypage-schedule-1 types=1 | free0{a=b}", "'b' is no number"),
        ("straypage-schedule-1 types=1 | free0*99999999", "more than 1000000 steps"),
    ],
)
def test_a_wrong_schedule_is_refused(line, hint):
    with pytest.raises(ModelError) as error:
        parse_schedule(line)
    assert hint in str(error.value)


def test_a_schedule_with_an_unknown_task_is_refused(traces):
    trace = traces["base"]
    machine, tasks = boot(trace.kernel.load(), trace.scenario, trace.start)
    with pytest.raises(ModelError, match=r"step 1 of the schedule: unknown task 'free9'"):
        perform(machine, [TraceStep("free9", "")], tasks)


def test_a_hypothesis_machine_takes_a_schedule(traces):
    trace = traces["base"]
    steps = parse_schedule(format_schedule(trace.start, [s.exact for s in trace.steps])).steps
    ends = []

    class Replayed(RuleBasedStateMachine):
        """Makes the steps of a schedule in pieces that Hypothesis draws."""

        def __init__(self):
            super().__init__()
            self.model, self.named = boot(trace.kernel.load(), trace.scenario, trace.start)
            self.left = list(steps)

        @precondition(lambda self: self.left)
        @rule(n=st.integers(1, 40))
        def go(self, n):
            perform(self.model, self.left[:n], self.named)
            del self.left[:n]
            if not self.left:
                ends.append(self.model.state.abstract())

        @precondition(lambda self: not self.left)
        @rule()
        def over(self):
            """There is always something to draw."""

        @invariant()
        def in_step(self):
            assert len(self.model.history) + len(self.left) == len(steps)

    run_state_machine_as_test(Replayed, settings=settings(max_examples=5, deadline=None))
    assert ends and all(end == ends[0] for end in ends)


# --- ITF ---


def plain(value):
    """An ITF value as Python has it."""
    if isinstance(value, dict) and "#bigint" in value:
        return int(value["#bigint"])
    if isinstance(value, dict) and "#tup" in value:
        return tuple(plain(v) for v in value["#tup"])
    if isinstance(value, dict) and "#map" in value:
        return {plain(k): plain(v) for k, v in value["#map"]}
    assert isinstance(value, (bool, str)), value
    return value


@pytest.mark.parametrize("name", SHOWN)
def test_itf_holds_every_cell_of_every_state(traces, name):
    film = play(traces[name])
    document = json.loads(json.dumps(itf(film)))
    assert document["#meta"]["format"] == "ITF"
    assert len(document["states"]) == len(film.frames)
    for i, (state, frame) in enumerate(zip(document["states"], film.frames, strict=True)):
        assert state["#meta"] == {"index": i}
        assert set(state) == {"#meta", *document["vars"]}
        for cell in layout(film.machine.config):
            value = plain(state[cell.name.replace(".", "_")])
            index = cell.index[0] if len(cell.index) == 1 else cell.index
            assert (value[index] if cell.index else value) == frame.cells[cell]
    assert all(v.isidentifier() for v in document["vars"])
    assert [plain(s["step_operation"]) for s in document["states"][1:]] == [s.operation for s in traces[name].steps]


def test_a_trace_refuses_what_no_scenario_has():
    start = Start((2, 1), (1, 1), block_of={"free0": 1}, type_of={})
    scenario = Scenario(cpus=2, frees=1, allocs=0)
    with pytest.raises(ModelError, match="unknown task 'free1': did you mean free0"):
        TraceFile(KernelSpec("kernel", "base"), scenario, "no_stray_page", "hand", start, (RecordedStep("free1", "x"),))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("scenario", "cpus"), 0, "scenario.cpus 0 is out of range: give 1 to 64"),
        (("scenario", "hotplugs"), 65, "scenario.hotplugs 65 is out of range: give 0 to 64"),
        (("scenario", "frees"), "x", 'scenario.frees: should be an integer, not "x"'),
        (("steps", 3, "task"), "nobody", "step 4: unknown task 'nobody'"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(traces, tmp_path, path, value, said) -> None:
    """Not as an option that nobody gave."""
    document = traces["no-mutex"].as_json()
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(document, indent=1))
    with pytest.raises(ModelError) as error:
        load(str(file))
    number = int(str(error.value).partition(", line ")[2].partition(":")[0])
    line = file.read_text().splitlines()[number - 1]
    assert said in str(error.value)
    assert json.dumps(value) in line or (path[0] == "steps" and line.strip() == "{")
