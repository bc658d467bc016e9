"""Memory models: litmus tests with what is known of them, and the search and the machine against a model of forty lines."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from kernelmodel.errors import ModelError
from kernelmodel.memory_model import Memory
from tests import litmus
from tests.litmus import Outcome, Program, Thread, abstract, explored, one_run, values
from verify.explore.__main__ import main as explore
from verify.replay.__main__ import main as replay

W_X, W_Y, R_X, R_Y, MB = ("W", "x", 1), ("W", "y", 1), ("R", "x"), ("R", "y"), ("mb",)
#: by name: the threads, the outcome that is asked about, and whether it may come under sc and tso.  Sources: Sewell et al.,
#: "x86-TSO", CACM 2010 (SB, SB+mb, MP, LB, IRIW, SB+rfi); Maranget, Sarkar, Sewell, "A tutorial introduction to the ARM and
#: POWER relaxed memory models", 2012 (the names, and CoRR, WRC)
KNOWN: dict[str, tuple[Program, Outcome, bool, bool]] = {
    "SB": (((W_X, R_Y), (W_Y, R_X)), (0, 0), False, True),
    "SB+mb+po": (((W_X, MB, R_Y), (W_Y, R_X)), (0, 0), False, True),
    "SB+mbs": (((W_X, MB, R_Y), (W_Y, MB, R_X)), (0, 0), False, False),
    "SB+xchg": (((("xchg", "x", 1), R_Y), (("xchg", "y", 1), R_X)), (0, 0, 0, 0), False, False),
    "SB+rfi": (((W_X, R_X, R_Y), (W_Y, R_Y, R_X)), (1, 0, 1, 0), False, True),
    "MP": (((W_X, W_Y), (R_Y, R_X)), (1, 0), False, False),
    "LB": (((R_X, W_Y), (R_Y, W_X)), (1, 1), False, False),
    "CoRR": (((W_X,), (R_X, R_X)), (1, 0), False, False),
    "WRC": (((W_X,), (R_X, W_Y), (R_Y, R_X)), (1, 1, 0), False, False),
    "IRIW": (((W_X,), (W_Y,), (R_X, R_Y), (R_Y, R_X)), (1, 0, 1, 0), False, False),
    "3.SB": (((W_X, R_Y), (W_Y, ("R", "z")), (("W", "z", 1), R_X)), (0, 0, 0), False, True),
}
MODELS: tuple[Memory, ...] = ("sc", "tso")


@pytest.mark.parametrize("memory", MODELS)
@pytest.mark.parametrize("name", KNOWN)
def test_litmus_tests_have_the_published_outcomes(name: str, memory: Memory) -> None:
    """A search of every interleaving finds all that the abstract machine does, and nothing else."""
    program, outcome, *allowed = KNOWN[name]
    found = explored(program, memory)
    assert (outcome in found) is allowed[MODELS.index(memory)]
    assert found == abstract(program, memory)


def drawn(random: Random) -> Program:
    """A program of two or three threads, each of which stores to a variable of its own and loads those of others."""

    threads = random.choice((2, 2, 3))

    def some(n: int, most: int) -> list[tuple[object, ...]]:
        others = [v for i, v in enumerate(litmus.VARIABLES[:threads]) if i != n or random.random() < 0.1]
        return [("R", random.choice(others)) for _ in range(most)]

    def store(n: int) -> list[tuple[object, ...]]:
        variable = litmus.VARIABLES[n] if random.random() < 0.95 else random.choice(litmus.VARIABLES)
        return [(random.choices(("W", "xchg"), (6, 1))[0], variable, 1 + (random.random() < 0.2))]

    def thread(n: int) -> Thread:
        made = [
            *some(n, random.random() < 0.2),
            *store(n),
            *[MB][: random.random() < 0.15],
            *some(n, random.randint(1, 2)),
        ]
        return (*made, *(store(n) if random.random() < 0.3 else []))

    while True:
        program = tuple(thread(n) for n in range(threads))
        if 0 < sum(map(litmus.loads, program)) <= litmus.REGISTERS:
            return program


def compare(numbers: range) -> tuple[int, int]:
    """How many drawn programs the search could follow under TSO, and of how many some outcome is not one under sc."""
    followed = relaxed = 0
    for number in numbers:
        program = drawn(Random(number))
        assert explored(program, "sc") == abstract(program, "sc"), program
        try:
            found = explored(program, "tso")
        except ModelError:
            continue
        assert found == abstract(program, "tso"), program
        followed += 1
        relaxed += found != abstract(program, "sc")
    return followed, relaxed


@pytest.mark.parametrize("name", KNOWN)
def test_weak_allows_all_that_tso_does(name: str) -> None:
    """More than any machine: whatever comes of a program under TSO does there."""
    program = KNOWN[name][0]
    assert explored(program, "weak") >= abstract(program, "tso")


def test_weak_allows_all_that_tso_does_to_drawn_programs() -> None:
    """The same of drawn programs."""
    followed = 0
    for number in range(8):
        program = drawn(Random(number))
        try:
            found = explored(program, "weak")
        except ModelError as error:
            assert "which store is last is open" in str(error)
            continue
        assert found >= abstract(program, "tso"), program
        followed += 1
    assert followed > 5


#: Maranget, Sarkar, Sewell, "A tutorial introduction to the ARM and POWER relaxed memory models", 2012; of Linux's own model,
#: tools/memory-model/litmus-tests/ has it with acquire loads, and without them the same outcome comes Sometimes
TWO_PLUS_TWO_W: Program = ((("W", "x", 1), ("W", "y", 2)), (("W", "y", 1), ("W", "x", 2)))


def test_two_plus_two_w() -> None:
    """Each thread's first store is last: by no order of the text, nor by buffers; arm64 allows it, and weak refuses it."""
    for memory in MODELS:
        assert litmus.last(TWO_PLUS_TWO_W, memory) == {(1, 2), (2, 1), (2, 2)}
    with pytest.raises(ModelError, match="which store is last is open"):
        litmus.last(TWO_PLUS_TWO_W, "weak")
    # volatile stores stay in order on a sequentially consistent machine, plain ones need not
    assert litmus.last(TWO_PLUS_TWO_W, "compiler") == {(1, 2), (2, 1), (2, 2)}
    plain: Program = ((("w", "x", 1), ("w", "y", 2)), (("w", "y", 1), ("w", "x", 2)))
    with pytest.raises(ModelError, match="which store is last is open"):
        litmus.last(plain, "compiler")


def test_drawn_programs_have_the_outcomes_of_the_abstract_machine() -> None:
    """Buffers only where they matter, and everything that may come of them."""
    followed, relaxed = compare(range(14))
    assert followed > 6
    assert relaxed > 3


@pytest.mark.deep
def test_many_drawn_programs_have_the_outcomes_of_the_abstract_machine() -> None:
    """The same, at length."""
    followed, relaxed = compare(range(1000, 2500))
    assert followed > 500
    assert relaxed > 100


def test_the_concrete_machine_has_the_outcomes_of_the_abstract_machine() -> None:
    """Random runs find all of them, and no others."""
    for number, (program, *_) in enumerate([*KNOWN.values(), *((drawn(Random(n)),) for n in range(12))]):
        random = Random(number)
        wanted = abstract(program, "tso")
        found = set()
        for _ in range(4000):
            found.add(one_run(program, "tso", random))
            if found == wanted:
                break
        assert found <= wanted, program
        assert len(found) > 0.8 * len(wanted), (program, wanted - found)


def test_a_buffer_that_is_forgotten_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: without the delayed stores, or with one that never leaves, outcomes are missing or too many."""
    program = KNOWN["SB"][0]
    monkeypatch.setattr("verify.ordering.robust.is_store", lambda _: False)
    assert explored(program, "tso") != abstract(program, "tso")
    monkeypatch.undo()
    program = KNOWN["SB+mbs"][0]
    monkeypatch.setattr("verify.ordering.robust.empties", lambda _: False)
    monkeypatch.setattr("verify.ordering.robust.drains", lambda _: False)
    monkeypatch.setattr("verify.ordering.buffers.drains", lambda _: False)
    assert explored(program, "tso") != abstract(program, "tso")
    assert len(values(program)) == 4


# --- exported tests ---

_START = re.compile(r"^\t(\w+) = (\d+);$", re.M)
_PROCESS = re.compile(r"^P\d\((.*?)\)\n\{\n(.*?)^\}$", re.M | re.S)
_EXISTS = re.compile(r"^exists \((.*)\)$", re.M)


def read_litmus(text: str) -> tuple[Program, dict[str, int], Outcome]:
    """An exported test as a program for x86, where each lock that is taken is a full barrier; its start and its question."""
    program: list[Thread] = []
    variables: dict[str, int] = {}
    for given, body in _PROCESS.findall(text):
        variables |= dict.fromkeys(re.findall(r"int \*(\w+)", given), 0)
        made: list[tuple[object, ...]] = []
        for line in body.splitlines():
            if found := re.fullmatch(r"\tr\d+ = READ_ONCE\(\*(\w+)\);", line):
                made.append(("R", found[1]))
            elif found := re.fullmatch(r"\tWRITE_ONCE\(\*(\w+), (-?\d+)\);", line):
                made.append(("W", found[1], int(found[2])))
            elif re.fullmatch(r"\tspin_lock\(\w+\);|\tsmp_mb\(\);", line):
                made.append(MB)
            else:
                assert re.fullmatch(r"\tspin_unlock\(\w+\);|\tsmp_[rw]mb\(\);|\tint r\d+;|", line), line
        program.append(tuple(made))
    variables |= {name: int(n) for name, n in _START.findall(text.split("P0(")[0])}
    asked = _EXISTS.search(text)
    assert asked is not None
    return tuple(program), variables, tuple(int(x.split("=")[1]) for x in asked[1].split(" /\\ "))


def exported(name: str, folder: Path) -> str:
    trace, file = folder / "race.json", folder / "race.litmus"
    which = ["--kernel", name] if name.startswith("v") else ["--mutant", name]
    scenario = [
        "--frees",
        "1",
        "--allocs",
        "0",
        "--updates",
        "0",
        "--property",
        "no_stray_page",
        "--beside",
        "none",
        "--quiet",
    ]
    assert explore([*which, "--memory", "tso", "--trace", str(trace), *scenario]) == 1
    assert replay([str(trace), "--litmus", str(file)]) == 1
    return file.read_text()


@pytest.mark.parametrize("name", ["no-force-all-cpus", "v6.2", "v6.10"])
def test_exported_litmus_tests_have_the_outcome_that_they_say(name: str, tmp_path: Path) -> None:
    """A second opinion on the form: read back, the abstract machine has the outcome under TSO, and not without buffers."""
    text = exported(name, tmp_path)
    assert text.startswith("C ")
    assert " * Result: Sometimes" in text
    program, start, outcome = read_litmus(text)
    assert outcome in abstract(program, "tso", start)
    assert outcome not in abstract(program, "sc", start)


def test_a_trace_without_a_race_has_no_litmus_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and nothing is written."""
    trace, file = tmp_path / "t.json", tmp_path / "t.litmus"
    assert explore(["--mutant", "missed-done-on-failure", "--trace", str(trace), "--quiet"]) == 1
    capsys.readouterr()
    with pytest.raises(SystemExit):
        replay([str(trace), "--litmus", str(file)])
    assert "there is no race to show" in capsys.readouterr().err
    assert not file.exists()
