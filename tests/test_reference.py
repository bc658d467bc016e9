"""docs/reference.md is what the commands say of themselves, and the commands in the documentation exist."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from verify import page
from verify.explore.__main__ import main as explore
from verify.suite.overview import VERBS

ROOT = Path(__file__).parent.parent
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()


def load_tool():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools/reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def commands(text):
    """What a document tells to call, in blocks and with arguments in sentences: verb and arguments, without pipes."""
    called = re.findall(r"`(python -m verify[ .][a-z]\w* [^`\n]+)`", text)
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.S | re.M):
        joined = re.sub(r"\\\n\s*", " ", block)
        called += re.findall(r"^(?:\$ )?(?:[^|\n]+\| )?(python -m verify[ .][a-z].*)$", joined, re.M)
    for command in called:
        verb, _, rest = re.sub(r"^python -m verify[ .]", "", command).partition(" ")
        words = shlex.split(rest, comments=True)
        end = next((i for i, word in enumerate(words) if word in (">", "|", "&&", ";")), len(words))
        yield verb, words[:end]


# --- the reference ---


def test_the_reference_is_current():
    assert tool.main(["--check"]) == 0, "run `python tools/reference.py --write`"


def test_a_changed_reference_is_found_stale(tmp_path, capsys):
    """The planted twin: an option more, an option less, no file at all."""
    text = tool.REFERENCE.read_text()
    for stale in (text.replace("--quiet", "--silent", 1), text.replace("  --batch N", "", 1), ""):
        file = tmp_path / "reference.md"
        file.write_text(stale)
        assert tool.main(["--check", "--file", str(file)]) == 1
        assert "is stale" in capsys.readouterr().err
    assert tool.main(["--write", "--file", str(file)]) == tool.main(["--check", "--file", str(file)]) == 0


def test_a_help_text_that_changes_makes_the_reference_stale(monkeypatch):
    parser = tool.parser_of("replay")
    parser.add_argument("--backwards", action="store_true", help="from the end to the start")
    monkeypatch.setattr(tool, "parser_of", lambda verb, made=tool.parser_of: parser if verb == "replay" else made(verb))
    assert any("--backwards" in line for line in tool.differences(tool.REFERENCE.read_text(), tool.reference()))


def test_the_reference_does_not_depend_on_the_machine(monkeypatch):
    was = tool.reference()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    assert tool.reference() == was


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(verb):
    for action in tool.parser_of(verb)._actions:
        assert action.help, action.option_strings


# --- commands in the documentation ---


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.stem)
def test_commands_in_the_documentation_are_accepted(file):
    for verb, arguments in commands(file.read_text()):
        assert verb in VERBS, f"{file.name}: there is no verb {verb}"
        if "--help" not in arguments:
            tool.parser_of(verb).parse_args(arguments)


def test_a_command_that_does_not_exist_is_found():
    """The planted twin: the same reading finds an option and a verb that are not there."""
    (called,) = commands("```\n$ python -m verify.bmc --kernels base  # a comment\n```\n")
    with pytest.raises(SystemExit):
        tool.parser_of(called[0]).parse_args(called[1])
    assert list(commands("Ask `python -m verify proof x > y`.\n")) == [("proof", ["x"])]


def test_the_tutorial_calls_every_engine():
    called = [verb for verb, _ in commands(TUTORIAL)]
    assert {"explore", "mutants", "replay", "bmc", "prove", "compare"} <= set(called)
    assert len(called) >= 10


# --- the worked example ---

HOW_TO = (ROOT / "docs/how-to-check-your-change.md").read_text()


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("skip_idle_cpus", 1),
        pytest.param("count_early", 1, marks=pytest.mark.deep),
        pytest.param("announce_refill", 0, marks=pytest.mark.deep),
        pytest.param("last_cpu_first", 0, marks=pytest.mark.deep),
    ],
)
def test_the_example_is_caught_and_its_repair_is_not(name, exit_code, capsys):
    file = f"docs/examples/{name}.py"
    assert file in HOW_TO or f"examples/{name}.py" in HOW_TO
    command = ["--variant", str(ROOT / file), "--property", "no_stray_page", "--updates", "0", "--width", "80"]
    assert explore(command) == exit_code
    printed = lines_of(capsys.readouterr().out)
    if name == "count_early":
        below = HOW_TO[HOW_TO.index("count_early.py --property") :]
        assert lines_of(below[below.index("CPU0 ") :].split("```")[0]) <= printed


def lines_of(text):
    """The lines that are not empty; of which block a page is, is up to the search."""
    return {re.sub(r"of block \d", "of a block", line.strip()) for line in text.splitlines() if line.strip()}


@pytest.mark.parametrize("name", ["count_early", "announce_refill"])
def test_the_pieces_of_the_example_are_those_of_the_file(name):
    file = (ROOT / f"docs/examples/{name}.py").read_text()
    pieces = [block for block in re.findall(r"```python\n(.*?)```", HOW_TO, re.S) if block in file]
    assert len(pieces) == 1


# --- outputs in the tutorial ---


def shown(command):
    """The lines of the tutorial below a command."""
    block = TUTORIAL[TUTORIAL.index(f"$ {command}\n") :].split("```")[0]
    return [line.strip() for line in block.splitlines()[1:] if line.strip() and line.strip() != "[...]"]


def constant(line):
    """A line without what may change from one day to the next: times, and which of two equal CPUs does what."""
    line = re.sub(r"\d+\.\d s", "", line.strip())
    return re.sub(r"(pcp\[|\bcpu |\bCPU|\bkworker/|queue_work_on\()\d", r"\1N", line)


def missing(lines, printed):
    """Lines that are not printed; up to ``[...]`` where one has been cut."""
    words = {constant(line) for line in printed.splitlines()}

    def found(line):
        whole = constant(line)
        cut, dots, _ = whole.partition("[...]")
        return whole in words or (bool(dots) and any(word.startswith(cut.strip()) for word in words))

    return [line for line in lines if not found(line)]


@pytest.mark.parametrize("options", ["--kernel base", ""])
def test_the_tutorials_outputs_are_printed_today(options, capsys, monkeypatch):
    monkeypatch.setattr(page, "_chosen", [page.IN_A_PIPE])
    lines = shown(f"python -m verify.explore {options}".strip())
    assert len(lines) > 5
    assert explore(options.split()) == (1 if options else 0)
    assert missing(lines, capsys.readouterr().out) == []


@pytest.mark.deep
def test_all_outputs_of_the_tutorial_are_printed_today(tmp_path):
    """Each command after a dollar, in order and in one folder, with what is typed at its prompt."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for block in re.findall(r"^```\n\$ (.*?)^```", TUTORIAL, re.S | re.M):
        command, _, output = re.sub(r"\\\n\s*", "", block).partition("\n")
        typed = re.findall(r"^\[\d+/\d+\] (.*)$", output, re.M)
        run = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]], input="\n".join(typed), capture_output=True, text=True,
            check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        lines = [line.strip() for line in output.splitlines() if line.strip() and line.strip() != "[...]"]
        assert missing(lines, run.stdout) == [], f"{command}: {run.stderr}"


def test_an_output_that_is_not_printed_is_found():
    """The planted twin."""
    assert missing(["pcp[0]->count  /* 1 */", "holds; 0.2 s"], "  pcp[0]->count  /* 0 */\nholds; 1.3 s") == [
        "pcp[0]->count  /* 1 */"
    ]
