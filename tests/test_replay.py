"""verify.replay: what it prints, its exit codes, the prompt, and the tests and files that it writes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kernelmodel import ops
from kernelmodel.config import Config
from kernelmodel.mmzone import Zone
from kernelmodel.versions.v5_11 import V5_11
from tests.shown import SHOWN
from verify.replay.__main__ import main
from verify.replay.reproducer import reproducer
from verify.replay.show import as_columns, as_list, moves, pages, where, zone
from verify.replay.stepper import Stepper
from verify.scenario import Scenario
from verify.trace import MismatchError, Start
from verify.tracefile import KernelSpec, RecordedStep, TraceFile, load, parse, parse_schedule, play, save
from verify.tracefile.location import location

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory, documents):
    """Verdict files, as verify.bmc --json writes them."""
    folder, made = tmp_path_factory.mktemp("traces"), {}
    for name, document in documents.items():
        made[name] = folder / f"{name}.json"
        made[name].write_text(json.dumps(document))
    return made


@pytest.fixture(scope="module")
def films(files):
    return {name: play(load(str(file))) for name, file in files.items()}


def replay(*arguments, **kw):
    return subprocess.run(
        [sys.executable, "-m", "verify.replay", *map(str, arguments)], capture_output=True, text=True, check=False,
        cwd=ROOT, **kw,
    )  # fmt: skip


# --- what it prints, and how it ends ---


@pytest.mark.parametrize("name", SHOWN)
def test_the_columns_are_those_of_the_engine(files, name):
    run = replay(files[name])
    (verdict,) = json.loads(files[name].read_text())["verdicts"]
    assert run.returncode == 1, run.stderr
    assert verdict["trace"] in run.stdout
    assert run.stdout.rstrip().splitlines()[-1].startswith(f"exit 1: {SHOWN[name]} is violated again, after step ")


def test_verdicts_of_the_command_are_replayed(tmp_path):
    file = tmp_path / "found.json"
    command = [
        sys.executable,
        "-m",
        "verify.bmc",
        "--mutant",
        "no-mutex",
        "--quiet",
        "--json",
        str(file),
        "--cpus",
        "2",
    ]
    assert subprocess.run(command, capture_output=True, check=False, cwd=ROOT).returncode == 1
    assert replay(file).returncode == 1
    assert load(str(file)).scenario.cpus == 2


def test_a_property_that_holds_in_the_run_is_exit_0(files):
    run = replay(files["base"], "--property", "pages_conserved")
    assert run.returncode == 0
    assert "=> pages_conserved is not violated in these steps" in run.stdout
    assert run.stdout.rstrip().endswith("exit 0: pages_conserved is not violated")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--kernel", "v5.11"], "the trace has"),
        (["--mutant", "no-drain"], "the trace has"),
    ],
)
def test_another_kernel_that_the_trace_does_not_fit_is_exit_70(files, arguments, hint):
    run = replay(files["no-force-all-cpus"], *arguments)
    assert run.returncode == 70
    assert hint in run.stderr and len(run.stderr.strip().splitlines()) == 1


def test_a_kernel_that_it_fits_is_judged(files):
    run = replay(files["base"], "--kernel", "base")
    assert run.returncode == 1 and run.stdout.startswith("base, no_isolated_page_left")


def test_a_variant_can_be_named(files):
    run = replay(files["no-force-all-cpus"], "--variant", "docs/examples/skip_idle_cpus.py")
    assert run.returncode in (1, 70) and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["nowhere.json"], "cannot read nowhere.json: No such file"),
        (["README.md"], "README.md, line 1: no JSON"),
        (["docs/trace.schema.json"], "it names no schema"),
        ([], "the following arguments are required: FILE"),
        (["x", "--stepp"], "did you mean --step?"),
        (["FOUND", "--property", "no_stray"], "did you mean no_stray_page?"),
        (["FOUND", "--kernel", "bas"], "did you mean base?"),
        (["FOUND", "--mutant", "no-mutx"], "did you mean no-mutex?"),
        (["FOUND", "--kernel", "base", "--mutant", "no-drain"], "that kernel has none"),
        (["FOUND", "--property", "no_stray_page"], "says nothing about base"),
        (["FOUND", "--html", "/nonexistent/x.html"], "cannot write /nonexistent/x.html"),
        (["FOUND", "--pytest", "/nonexistent/x.py"], "cannot write /nonexistent/x.py"),
        (["FOUND", "--property", "pages_conserved", "--pytest", "OUT"], "there is nothing for a test to reproduce"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(files, tmp_path, arguments, hint):
    places = {"FOUND": files["base"], "OUT": tmp_path / "x.py"}
    run = replay(*(places.get(a, a) for a in arguments))
    assert run.returncode == 2
    assert hint in run.stderr and len(run.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x.py").exists()


def test_a_reader_that_leaves_early_is_no_error(files):
    command = f"{sys.executable} -m verify.replay {files['no-mutex']} --full | head -1"
    run = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.stderr == "" and run.stdout.startswith("v5.11 with no-mutex")


def test_the_full_list_has_every_step(films):
    film = films["no-force-all-cpus"]
    lines = as_list(film).splitlines()
    assert [int(line.split()[0]) for line in lines[: len(film.steps)]] == list(range(1, len(film.steps) + 1))
    assert lines[-1] == f"=> after step {len(film.steps)}: {film.violation.found}"


def test_a_trace_that_was_written_is_replayed_the_same(files, tmp_path, capsys):
    file = tmp_path / "trace.json"
    assert main([str(files["base"]), "--trace", str(file)]) == 1
    first = capsys.readouterr().out
    assert main([str(file)]) == 1
    assert capsys.readouterr().out == first


def test_the_schedule_is_one_line_and_nothing_else(files, films):
    run = replay(files["base"], "--schedule")
    assert run.returncode == 1
    (line,) = run.stdout.splitlines()
    schedule = parse_schedule(line)
    assert [s.task for s in schedule.steps] == [s.task for s in films["base"].steps]


def test_itf_is_written(files, tmp_path):
    file = tmp_path / "x.itf.json"
    assert main([str(files["base"]), "--itf", str(file)]) == 1
    assert json.loads(file.read_text())["#meta"]["format"] == "ITF"


def test_a_page_is_written(files, films, tmp_path):
    file = tmp_path / "x.html"
    assert main([str(files["base"]), "--html", str(file)]) == 1
    assert films["base"].violation.found.replace("'", "&#x27;") in file.read_text()


# --- the test that it writes ---


@pytest.mark.parametrize("name", SHOWN)
def test_the_reproducer_is_green_and_needs_no_file(films, tmp_path, name):
    file = tmp_path / "test_it.py"
    text = reproducer(films[name])
    file.write_text(text)
    imports = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("from ", "import "))}
    assert imports == {"kernelmodel", "properties", "verify"}
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)], capture_output=True,
                         text=True, check=False, cwd=ROOT)  # fmt: skip
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout


def test_the_reproducer_fails_on_a_repaired_kernel(films):
    text = reproducer(films["no-force-all-cpus"]).replace('mutant("no-force-all-cpus")', 'kernel("v5.11")')
    names = {}
    exec(text.replace("import mutant", "import kernel"), names)
    with pytest.raises((AssertionError, MismatchError)):
        names["test_no_stray_page_is_violated"]()


# --- the prompt ---


def walk(film, *commands):
    said = []
    stepper = Stepper(film, said.append)
    for command in commands:
        stepper.command(command)
    return stepper, said


def test_next_back_and_run_move(films):
    film = films["base"]
    end = len(film.steps)
    stepper, said = walk(film, "next", "next 2", "back", "n", "", "b", "run 7", "r end", "next", "run 0", "back")
    assert stepper.at == 0
    assert f"step 7 of {end}" in "\n".join(said)
    assert any(text.startswith("this is the end: ") for text in said)
    assert said[-1].startswith("this is the start")
    for number in range(end + 1):
        assert walk(film, f"run {number}")[0].at == number


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("dance", "no command 'dance': next, back, run STEP"),
        ("run 1000", "no step 1000: give 0 to"),
        ("run x", "no step x: give 0 to"),
        ("next x", "no number of steps: 'x'"),
        ("next -1", "no number of steps"),
        ("back 0", "no number of steps"),
        ("help", "print"),
        ("words", "pcplist"),
        ("list", "\n     7  CPU"),
    ],
)
def test_what_cannot_be_done_is_said(films, command, hint):
    stepper, said = walk(films["base"], command)
    assert stepper.at == 0 and len(said) == 1
    assert hint in said[0] or (command == "help" and "run STEP" in said[0])


def test_quit_leaves(films):
    assert walk(films["base"], "quit")[0].done and walk(films["base"], "q")[0].done


def test_where_tells_the_race(films):
    film = films["no-force-all-cpus"]
    refill = next(f for f in film.frames[1:] if f.step.tag == "refill")
    text = where(film, refill)
    assert "count does not include them yet" in " ".join(text.split())
    assert "free in the buddy -> CPU0's MOVABLE list" in text
    count = next(f for f in film.frames[1:] if f.step.text == "pcp[0]->count" and f.step.task == "offline0")
    assert "read     pcp[0]->count: 0, as at the start" in where(film, count)
    assert where(film, film.frames[-1]).endswith(f"=> {film.violation.found}")


def test_zone_shows_pages_locks_and_limits(films):
    film = films["no-force-all-cpus"]
    last = film.frames[-1]
    text = zone(film, last)
    left = last.picture.cpus[0].lists[1]
    assert f"MOVABLE      {pages(left)}" in text
    assert "pcp_batch_high_lock   offline0" in text
    assert "pcplists are disabled by offline0" in text
    assert f"pcp: count {len(left)}, high 0, batch 1" in text
    assert "alloc" in text and "finished" in text
    assert max(map(len, zone(film, film.frames[0]).splitlines())) <= 130


@pytest.mark.parametrize("name", SHOWN)
def test_every_place_can_be_shown(films, name):
    film = films[name]
    for frame in film.frames:
        assert where(film, frame) and zone(film, frame)


def test_the_prompt_takes_commands_from_a_pipe(files):
    run = replay(files["no-force-all-cpus"], "--step", input="next\nzone\nrun end\nzone\nquit\nnext\n")
    assert run.returncode == 1, run.stderr
    out = run.stdout
    assert "To hold: once zone_pcp_disable(zone) has returned" in out
    assert "the zone after step 1\n" in out and "left on CPU0's pcplist after zone_pcp_disable()" in out
    assert out.count("] next") == 1, "quit leaves what follows alone"


def test_the_prompt_ends_with_its_input(files):
    run = replay(files["base"], "--step", input="")
    assert run.returncode == 1 and "exit 1" in run.stdout and run.stderr == ""


# --- pieces ---


def test_page_numbers_are_written_as_runs():
    assert pages([]) == "-"
    assert pages([4]) == "page 4"
    assert pages([4, 5]) == "pages 4 5"
    assert pages([1, 2, 3, 4, 9]) == "pages 1-4 9"


def test_pages_that_move_are_told_together(films):
    film = films["no-force-all-cpus"]
    told = [s for a, b in zip(film.frames, film.frames[1:], strict=False) for s in moves(a.picture, b.picture)]
    assert any("free in the buddy -> CPU0's MOVABLE list" in s for s in told)
    assert any(s.endswith("CPU0's MOVABLE list -> in use") for s in told)


def test_an_empty_trace_is_judged_at_its_start(tmp_path, capsys):
    scenario = Scenario(cpus=2, frees=0, allocs=0)
    trace = TraceFile(KernelSpec("kernel", "base"), scenario, "pages_conserved", "hand", Start((2, 1), (1, 1)), ())
    file = tmp_path / "x.json"
    save(trace, str(file))
    assert main([str(file)]) == 0
    assert "not violated" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main([str(file), "--html", str(tmp_path / "x.html")])
    assert left.value.code == 2


def test_steps_written_by_hand_need_only_a_task_and_an_operation(films):
    recorded = films["base"].recorded()
    bare = tuple(RecordedStep(s.task, s.operation, choices=s.choices) for s in recorded.steps)
    film = play(replace(recorded, steps=bare, violation=None))
    assert as_columns(film) == as_columns(films["base"])
    assert parse(json.loads(json.dumps(film.recorded().as_json()))) == recorded


class EndsLate(V5_11):
    """A user's text."""

    def zone_pcp_disable(self, zone):
        yield ops.happens("first of all")
        yield from super().zone_pcp_disable(zone)


def test_a_step_says_where_in_the_c_it_is(films) -> None:
    """With the loop where a function has several, and in a user's text with its own line."""
    places = [f.pc for film in films.values() for f in film.frames]
    assert "mm/page_alloc.c:drain_all_pages(), in the loop of queue_work_on()" in places
    assert "mm/page_alloc.c:drain_all_pages(), in the loop of flush_work()" in places
    assert not [p for p in places if ".py" in p or "_marked" in p]
    routine = EndsLate(Config(nr_cpus=1)).zone_pcp_disable(Zone(0))
    next(routine)
    assert location(EndsLate, routine).startswith("mm/page_alloc.c:zone_pcp_disable() (test_replay.py:")
