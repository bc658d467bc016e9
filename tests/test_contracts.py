"""verify.contracts: CrossHair finds each planted bug, and what it did not enter or finish is not called confirmed."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from properties import contracts
from properties.contracts import TWINS, Twin
from verify import contracts as command
from verify.contracts import Checked
from verify.verdict import Exit

EVERY = command.names(contracts)


def module_of(folder: Path, text: str) -> ModuleType:
    path = folder / "some_contracts.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("some_contracts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOME = '''
def fails_at_seven(n: int) -> None:
    """Holds but for one number."""
    assert 0 <= n < 100
    assert n != 7


def never_entered(n: int) -> None:
    """Nothing meets this precondition, so CrossHair confirms whatever follows."""
    assert n < 0 and n > 0
    assert False


def no_contract(n: int) -> int:
    """Asserts nothing: CrossHair has nothing to check."""
    return n


def crashes(n: int) -> None:
    """An exception is a counterexample too."""
    assert 0 <= n < 5
    print([1, 2, 3, 4][n])
'''


# --- the contracts and their twins ---


def test_every_contract_has_a_twin_and_every_twin_a_contract() -> None:
    assert sorted(TWINS) == EVERY


def test_crosshair_finds_the_planted_bug_of_every_twin(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--twins"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == EVERY
    assert all("twin found" in line and f"when calling {line.split()[0]}(" in line for line in lines)


def test_contracts_with_few_paths_are_confirmed_over_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["isolated_blocks_merge_with_their_like_only", "limits_are_sane", "buddy_take_off_takes_one_page"]
    assert command.main([*quick, "--timeout", "20"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "confirmed"] for name in quick]


def test_all_preconditions_can_be_met() -> None:
    assert command.reachable(contracts, EVERY, 5) == set(EVERY)


# --- what is said of a contract ---


@pytest.mark.parametrize(
    ("name", "result", "detail"),
    [
        ("fails_at_seven", "violated", "when calling fails_at_seven(7)"),
        ("crashes", "violated", "IndexError"),
        ("no_contract", "not checked", "lead with assert statements"),
        ("not_there", "not checked", ""),
        ("never_entered", "confirmed", ""),  # which is why main() asks reachable() first
    ],
)
def test_each_answer_of_crosshair_is_told_apart(tmp_path: Path, name: str, result: str, detail: str) -> None:
    module_of(tmp_path, SOME)
    found = command.check(f"some_contracts.{name}", 5, tmp_path)
    assert (found.name, found.result) == (name, result)
    assert detail in found.detail


def test_a_contract_that_no_input_enters_is_found_out(tmp_path: Path) -> None:
    module = module_of(tmp_path, SOME)
    assert command.reachable(module, ["fails_at_seven", "never_entered"], 5) == {"fails_at_seven"}


def test_too_little_time_is_not_called_confirmed() -> None:
    found = command.check("properties.contracts.buddy_insert_conserves_pages", 0.2)
    assert found.result == "no counterexample"
    assert found.detail == "within 0.2 s, not all paths seen"


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ("confirmed", Exit.OK),
        ("no counterexample", Exit.OK),
        ("violated", Exit.VIOLATED),
        ("not checked", Exit.UNDECIDED),
    ],
)
def test_one_bad_contract_decides_the_exit_code(monkeypatch: pytest.MonkeyPatch, result: str, code: Exit) -> None:
    def check(target: str, _: float) -> Checked:
        return Checked(target, result if target.endswith(EVERY[1]) else "confirmed", "", 0)

    monkeypatch.setattr(command, "reachable", lambda *_: set(EVERY))
    monkeypatch.setattr(command, "check", check)
    assert command.main([]) == code


def test_a_vacuous_contract_is_not_a_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "reachable", lambda *_: set())
    assert command.main([EVERY[0]]) == Exit.VACUOUS
    assert "vacuous" in capsys.readouterr().out


# --- twins that no longer work ---


def test_a_harmless_change_is_a_missed_twin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "rounding_stays_below"
    same = Twin("kernelmodel/mm/pcp_limits.py", "n.bit_length() - 1", "n.bit_length() - 1 + 0")
    monkeypatch.setitem(TWINS, name, same)
    assert command.main([name, "--twins"]) == Exit.DISAGREE
    assert "twin missed" in capsys.readouterr().out


def test_a_twin_whose_line_has_changed_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TWINS, "rounding_stays_below", Twin("kernelmodel/mm/pcp_limits.py", "gone()", "x"))
    with pytest.raises(SystemExit) as caught:
        command.main(["rounding_stays_below", "--twins"])
    assert caught.value.code == Exit.USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the twin of rounding_stays_below does not fit kernelmodel/mm/pcp_limits.py" in error


# --- the command line ---


def test_list_names_every_contract_with_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == EVERY
    assert all("(): " in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["buddies_are_mutal"], "there is no contract buddies_are_mutal; did you mean buddies_are_mutual?"),
        (["xyz"], "there is no contract xyz; --list names them"),
        (["--timeout", "soon"], "'soon' is no number of seconds"),
        (["--timeout", "0"], "give a number above 0"),
        (["--twin-s"], "unrecognized arguments: --twin-s"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == Exit.USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_ctrl_c_ends_soon_with_exit_3_and_keeps_what_is_known() -> None:
    names = ["limits_are_sane", "buddy_insert_conserves_pages"]
    command_line = [sys.executable, "-u", "-m", "verify.contracts", *names, "--timeout", "300"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command_line, stdout=-1, stderr=-1, text=True, cwd=root) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, error = run.communicate(timeout=60)
    assert "limits_are_sane" in first
    assert "confirmed" in first
    assert run.returncode == Exit.UNDECIDED
    assert error == "contracts: interrupted; what is printed above was checked\n"
    assert time.monotonic() - began < 20
