"""What there is: the verbs, told in one screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: its name, its module, and what it does in one line."""

    name: str
    module: str
    says: str

    @property
    def main(self) -> Main:
        """The command itself; imported late, for an engine brings its solver."""
        found: Main = import_module(self.module).main
        return found


VERBS = {
    v.name: v
    for v in (
        Verb(
            "bmc",
            "verify.bmc.__main__",
            "bounded proofs and counterexamples, for all values of high, batch, list lengths",
        ),
        Verb(
            "explore",
            "verify.explore.__main__",
            "every interleaving of a finite configuration; shortest counterexamples",
        ),
        Verb("prove", "verify.prove.__main__", "inductive proofs, for any number of CPUs, pages and tasks"),
        Verb("ordering", "verify.ordering.__main__", "store buffers: which stores may be seen late, and by whom"),
        Verb("mutants", "verify.mutants.__main__", "the kill matrix: does each engine find what each mutant breaks?"),
        Verb("museum", "verify.museum.__main__", "real bugs and proposed designs: each found, or held, as it was"),
        Verb("random", "verify.random.__main__", "random histories: campaigns from many seeds, on many machines"),
        Verb("tree", "verify.tree.__main__", "your kernel's own C: what of it is read, and what is not"),
        Verb(
            "history", "verify.history.__main__", "its commits: which keep the promise, and which was the first not to"
        ),
        Verb("observe", "verify.observe.__main__", "a real machine: record a memory offlining, and check its trace"),
        Verb("contracts", "verify.contracts", "CrossHair on the sequential pieces: buddy, lists, arithmetic"),
        Verb(
            "all",
            "verify.suite.__main__",
            "bmc, explore, prove, mutants and a report in a folder, to look at and for CI",
        ),
        Verb("compare", "verify.compare.__main__", "two kernels side by side: what a change breaks, mends and costs"),
        Verb(
            "replay", "verify.replay.__main__", "run a stored counterexample again: columns, step by step, HTML, pytest"
        ),
    )
}

_EXAMPLES = (
    ("all --quick", "half a minute, then open index.html"),
    ("bmc --kernel base", "the race that the patch closes"),
    ("bmc --tree ~/src/linux", "your kernel's own C (--patch FILE: changed)"),
    ("bmc --variant my_change.py", "your own change: one class, one routine"),
)


def overview(program: str) -> str:
    """The screen; ``program`` is how the command was called."""
    lines = [
        "straypage: once zone_pcp_disable(zone) has returned, no page stays on a pcplist of the zone.",
        "",
        f"usage: {program} VERB [OPTION...]      {program} VERB --help",
        "",
        *(f"  {v.name:10} {v.says}" for v in VERBS.values()),
        "",
        "examples:",
        *(f"  {program + ' ' + words:44} {what}" for words, what in _EXAMPLES),
        "",
        "exit codes: 0 as expected, 1 violated, 2 bad input, 3 undecided, 4 vacuous, 70 contradiction",
        "kernels, mutants and properties by name:  " + f"{program} bmc --list",
        """completion (straypage[completion]):       eval "$(register-python-argcomplete straypage)\"""",
    ]
    return "\n".join(lines)
