"""Documentation is what the code prints today."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOW_TO = (ROOT / "docs/how-to-check-your-change.md").read_text()


def bmc(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "verify.bmc", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )


def code_of(text):
    """Code without comments and module docstring, line by line."""
    lines = [line.split("  #")[0].rstrip() for line in text.splitlines() if not line.startswith("#")]
    return [line for line in lines if line]


def test_the_how_tos_example_is_the_file_that_is_run():
    shown = re.search(r"```python\n(.*?)```", HOW_TO, re.S)[1]
    file = (ROOT / "docs/examples/skip_idle_cpus.py").read_text()
    assert code_of(shown) == code_of(file)[1:]


def test_the_how_tos_example_is_caught_in_kernel_columns():
    run = bmc("--variant", "docs/examples/skip_idle_cpus.py")
    assert run.returncode == 1
    assert "left on CPU0's pcplist after zone_pcp_disable()" in run.stdout
    shown = HOW_TO[HOW_TO.index("at the start:") :]
    for line in ("rmqueue_pcplist()", "  pcp[0]->count += 2", "  local_irq_restore(flags)"):
        assert line in shown and line.split("+=")[0] in run.stdout


def test_the_harmless_example_holds():
    assert (
        bmc("--variant", "docs/examples/last_cpu_first.py", "--cpus", "2", "--frees", "1", "--allocs", "1").returncode
        == 0
    )


def test_every_link_in_the_documentation_leads_somewhere():
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text()):
            assert target.startswith("http") or (file.parent / target).exists(), f"{file.name}: {target}"


def test_every_routine_of_the_make_file_is_in_the_readme():
    targets = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text())[1].split()
    readme = (ROOT / "README.md").read_text()
    for target in set(targets) - {"clean"}:
        assert f"make {target}" in readme


def test_the_readme_shows_the_race_as_it_is_printed_today():
    readme = (ROOT / "README.md").read_text()
    shown = readme[readme.index("CPU0   ") :].split("```")[0].splitlines()
    printed = bmc("--kernel", "base").stdout.splitlines()

    def calls(lines):
        # which of several equally short traces the solver comes upon, and with which limits, may change with its version
        return {re.sub(r"\d+", "N", line.strip()) for line in lines if line.strip()}

    assert calls(shown) <= calls(printed)
