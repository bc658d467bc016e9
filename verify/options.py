"""Options that the commands share, declared once; bad input becomes one line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from kernelmodel.ctext.spec import TreeSpec
from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS, kernel, mutant, variant
from kernelmodel.memory_model import MODELS, Memory
from kernelmodel.tasks import shared_options as task_options
from kernelmodel.text import KernelText
from kernelmodel.variants.overrides import nearest
from kernelmodel.versions.later_mutants import EVERY, MUTATED
from kernelmodel.versions.mutants import EQUIVALENT
from kernelmodel.versions.v5_11 import V5_11
from properties.catalogue import PROPERTIES, find
from properties.property import Property
from verify import page
from verify.command import STANDARD_OUTPUT, keep_standard_output_for_a_file
from verify.scenario import LARGEST, Scenario, default_migrations, kinds, numbers_of, option_of, shared_kinds, usual
from verify.verdict import Exit, Result

EXIT_CODES = """exit codes, the worst wins:
  0  everything as expected
  1  a property is violated
  2  bad input
  3  undecided: out of time, interrupted, or the engine cannot tell
  4  vacuous: no complete run reaches the property's premise
 70  engines disagree, a trace does not replay, or a mutant contradicts what is recorded of it
 71  straypage crashed: nothing was decided
141  whoever read the output went away"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line: cause and cure; every command has ``--width``."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """As argparse has it."""
        super().__init__(*args, **named)
        self.add_argument(
            "--width", action=_Width, metavar="N", default=argparse.SUPPRESS,
            help=f"lines of at most N characters (default: the terminal's, {page.IN_A_PIPE} in a pipe)",
        )  # fmt: skip

    def parse_known_args(self, *args: Any, **named: Any) -> Any:
        """As argparse has it; a variant, or a mutant, of a kernel that is named as well is one of that."""
        options, rest = super().parse_known_args(*args, **named)
        fold_tree(options, self.error)
        if getattr(options, "kernel", None):
            if getattr(options, "mutant", None):
                given = options.mutant if options.kernel == "v5.11" else f"{options.kernel}:{options.mutant}"
                if given not in EVERY:
                    known = _mutants(options.kernel)
                    none = f"that kernel has none; {', '.join(MUTATED)} have some"
                    why = nearest(f"mutant of {options.kernel}", options.mutant, known) if known else none
                    self.error(f"argument --mutant: {why}")
                options.mutant, options.kernel = given, None
            if getattr(options, "variant", None):
                options.variant, options.kernel = f"{options.variant}@{options.kernel}", None
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Print the one line and leave with the exit code for bad input."""
        unknown = message.removeprefix("unrecognized arguments: ").split()[0] if "unrecognized" in message else ""
        close = difflib.get_close_matches(unknown, self._option_string_actions, 1) if unknown else []
        hint = f"; did you mean {close[0]}?" if close else "; --help lists the options"
        fail(f"{self.prog}: {message}{hint}")


def fold_tree(options: argparse.Namespace, refuse: Callable[[str], Any]) -> None:
    """A kernel's source is one more kernel from elsewhere, whose name has all that was said of it."""
    tree = getattr(options, "tree", None)
    trees: list[str] = tree if isinstance(tree, list) else [tree] if tree is not None else []
    more = {name: getattr(options, name, None) for name in ("patch", "era", "config")}
    assume = tuple(getattr(options, "assume", None) or ())
    if not trees:
        for name, value in (*more.items(), ("assume", assume)):
            if value:
                refuse(f"argument --{name}: it says something of a kernel's source: give --tree PATH")
        return
    if getattr(options, "kernel", None):
        refuse("argument --kernel: not allowed with argument --tree: to choose its era, give --era")
    given = {name: value for name, value in more.items() if value}
    specs = [replace(spec, assume=(*spec.assume, *assume), **given) for spec in map(TreeSpec.parse, trees)]
    options.trees = specs
    options.variant = str(specs[0])


class _Width(argparse.Action):
    """The width of the page, known before anything is printed."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Choose it; one line where it is no number, or too small for two columns."""
        del namespace
        if not str(values).isdecimal() or not page.NARROWEST <= int(values) <= 500:
            parser.error(f"{option_string} {values}: give {page.NARROWEST} to 500")
        page.choose(int(values))


def fail(line: str) -> NoReturn:
    """Print one line about bad input and leave with its exit code."""
    print(line, file=sys.stderr)
    raise SystemExit(int(Exit.USAGE))


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """--kernel, --mutant, --variant."""
    parser.add_argument("--kernel", metavar="NAME", help=f"a kernel: {', '.join(KERNELS)}")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--mutant",
        metavar="NAME",
        help="a kernel with one function changed, of v5.11 or the one named (--list names them)",
    )
    which.add_argument(
        "--variant", metavar="FILE.py[:NAME]",
        help="your own change: a class that overrides routines; of --kernel, where it is derived from none",
    )  # fmt: skip
    add_tree(parser, which)


def add_tree(parser: argparse.ArgumentParser, which: Any = None) -> None:
    """--tree, and what is said of a tree."""
    (which or parser).add_argument(
        "--tree", metavar="DIR[@REV]", help="a kernel's own C: the top of its source, or a revision of it in git"
    )
    add_said_of_tree(parser)


def add_said_of_tree(parser: argparse.ArgumentParser) -> None:
    """--patch, --era, --config, --assume."""
    parser.add_argument("--patch", metavar="FILE", help="a patch on the tree, which is applied to a copy")
    parser.add_argument("--era", metavar="NAME", help="read the tree as the C of that kernel")
    parser.add_argument("--config", metavar="FILE", help="decide #if by a .config (default: what distributions choose)")
    parser.add_argument(
        "--assume",
        action="append",
        metavar="HOOK=WHAT",
        help="of a call in the tree that nothing is known of: nothing (it has no effect), open (it may set the local"
        " variables whose address it is given), or FILE.py:ROUTINE",
    )


def add_scenario(
    parser: argparse.ArgumentParser, default: Scenario | None = None, rounds: bool = True, own: bool = False
) -> None:
    """The numbers of CPUs and tasks; ``rounds`` where an engine has to bound loops.

    With ``own`` a number that is not given is None, for the command hands it on to engines that have their own.
    """
    default = default or Scenario()
    helps = {
        "cpus": "CPUs",
        **{option: kind.help for option, kind in task_options().items()},
        "blocks": "pageblocks in the range of each offline_pages()",
        "rounds": "bound on the rounds of offline_pages()'s loop",
    }
    if not rounds:
        del helps["rounds"]
    for name, what in helps.items():
        otherwise = None if own else getattr(default, name)
        told = "each engine's own" if own else "%(default)s"
        parser.add_argument(option_of(name), type=int, default=otherwise, metavar="N", help=f"{what} (default {told})")
    parser.add_argument(
        "--tasks", action=_Tasks, metavar="KIND=N,...", default=argparse.SUPPRESS,
        help=f"how many tasks of each kind, for the options of their own: {', '.join(shared_kinds())}",
    )  # fmt: skip
    parser.add_argument(
        "--migrations", type=int, metavar="N",
        help="pages in use that offline_pages() may have to migrate (default: 1 if nobody allocates, else 0)",
    )  # fmt: skip
    parser.add_argument("--spread", action="store_true", help="the i-th free and alloc run on CPU i, not on any CPU")


def add_memory(parser: argparse.ArgumentParser, weak: bool = False) -> None:
    """--memory; ``weak`` where the engine has that model."""
    models = [m for m in MODELS if m in ("sc", "tso") or (weak and m == "weak")]
    parser.add_argument(
        "--memory", choices=models, default="sc",
        help="the memory model: sc, every store is seen at once (default); tso, x86's: it may wait in its CPU's store buffer"
        + ("; weak: loads that race find anything until they are told, so that what holds, holds on any machine" if weak else ""),
    )  # fmt: skip
    if weak:
        parser.add_argument(
            "--compiler-reorders", action="store_true",
            help="the compiler may have put plain accesses in another order, also around READ_ONCE() and WRITE_ONCE() of "
            "others, as far as locks and barriers let it: loads that race with one find anything",
        )  # fmt: skip


def memory_of(options: argparse.Namespace) -> Memory:
    """The memory model that is asked for, the compiler's part in it too; ends with one line where they do not go together."""
    chosen: Memory = options.memory
    if not getattr(options, "compiler_reorders", False) or chosen == "weak":
        return chosen
    if chosen == "tso":
        fail("--compiler-reorders with --memory tso: --memory weak allows both, so leave these out and give that")
    return "compiler"


def add_property(parser: argparse.ArgumentParser) -> None:
    """--property."""
    parser.add_argument(
        "--property", action="append", metavar="NAME", help="check this property (repeatable), or `all` of them"
    )


def scenario_of(options: argparse.Namespace, kernel: type[KernelText] | None = None) -> Scenario:
    """The scenario that the options describe, with the tasks of its own that a kernel usually has."""
    rounds = getattr(options, "rounds", 1)
    counts = {option: getattr(options, option, None) or 0 for option in task_options()}
    counts |= usual(kernel) | other_tasks(options)
    return Scenario().having(
        cpus=options.cpus, rounds=rounds, spread=options.spread, blocks=options.blocks, migrations=migrations_of(options),
        **counts,
    )  # fmt: skip


class _Tasks(argparse.Action):
    """``free=2,hwpoison=1``: the same as ``--frees 2 --hwpoisons 1``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Set what the options of the kinds would; one line where a kind is unknown, here or at all."""
        for part in str(values).split(","):
            kind, _, number = part.strip().partition("=")
            if not number.isdecimal():
                parser.error(f"{option_string} {values}: {part.strip()!r} does not say how many: give {kind}=1")
            if kind in shared_kinds():
                setattr(namespace, *numbers_of({kind: int(number)}).popitem())
            else:
                # a kernel from a file may have such a task
                namespace.other_tasks = {**getattr(namespace, "other_tasks", {}), kind: int(number)}


def other_tasks(options: argparse.Namespace) -> dict[str, int]:
    """Numbers of the tasks that only a kernel from a file has, by option; ModelError where that has none of the name."""
    given: dict[str, int] = getattr(options, "other_tasks", {})
    for kind in given:
        if kind not in kinds():
            raise ModelError(f"--tasks {kind}={given[kind]}: {nearest('kind of task', kind, kinds())}")
    return numbers_of(given)


#: what to do about a routine to which no task of a run comes
ADD_A_TASK = "add a task that calls it (--migrations, or --tasks {} with others of them)".format(
    ", ".join(f"{kind.name}=1" for kind in task_options().values() if not kind.always_told)
)


def migrations_of(options: argparse.Namespace) -> int:
    """How many pages there are to migrate, if nothing is said the default number."""
    if options.migrations is not None:
        return int(options.migrations)
    return default_migrations(options.allocs, options.offlines)


def kernel_of(options: argparse.Namespace) -> type[KernelText] | None:
    """The kernel that the options name, or None if they name none."""
    if options.kernel:
        return kernel(options.kernel)
    if options.mutant:
        return mutant(options.mutant)
    if options.variant:
        return variant(options.variant)
    return None


def _mutants(kernel: str) -> list[str]:
    """The mutants of a kernel, without its name."""
    return [name.rpartition(":")[2] for name, m in EVERY.items() if m.of.name == kernel]


def properties_of(options: argparse.Namespace) -> tuple[list[Property], bool]:
    """The properties to check, the one that is expected to fail first; and whether to stop at the first violation."""
    if options.property and "all" not in options.property:
        return [find(name) for name in dict.fromkeys(options.property)], False
    first = race_of(KERNELS[options.kernel]) if options.kernel in KERNELS else ""
    if options.mutant and EVERY[options.mutant].breaks != EQUIVALENT:
        first = EVERY[options.mutant].breaks
    ordered = sorted(PROPERTIES.values(), key=lambda p: p.name != first)
    return ordered, not options.property


def positive_seconds(text: str) -> float:
    """A duration for argparse: a number of seconds above 0."""
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not 0 < seconds < 1e7:
        raise argparse.ArgumentTypeError(f"{text} seconds: give a number above 0")
    return seconds


def positive_number(text: str) -> float:
    """A number above 0 for argparse."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return number


def expected_of(
    options: argparse.Namespace, kernel: type[KernelText], prop: Property, scenario: Scenario
) -> Result | None:  # fmt: skip
    """What is recorded for this kernel and property; None where nothing is, or the bound is too small to show it."""
    if options.variant:
        return None
    if options.mutant:
        m = EVERY[options.mutant]
        if m.breaks == EQUIVALENT:
            # that is recorded of sequential consistency
            return Result.HOLDS if getattr(options, "memory", "sc") == "sc" else None
        large_enough = all(getattr(scenario, task) >= n for task, n in m.needs.items())
        return Result.VIOLATED if prop.name == m.breaks and large_enough else None
    if kernel is V5_11:
        return Result.HOLDS
    large_enough = scenario.offlines >= 1 and scenario.frees >= 1
    return Result.VIOLATED if prop.name == race_of(kernel) and large_enough else None


def race_of(kernel: type[KernelText]) -> str:
    """The property that the race of a kernel before the patch breaks, checked first there; empty for later kernels."""
    promises = next(iter(PROPERTIES.values())).applies_to(kernel)
    return "" if promises or not kernel.breaks else kernel.breaks[0]


def add_scheduler(parser: argparse.ArgumentParser) -> None:
    """The option that spreads work over machines."""
    parser.add_argument(
        "--scheduler", default="", metavar="ADDRESS",
        help="have the workers of a Dask scheduler do it, such as tcp://host:8786, instead of processes (docs/scale.md)",
    )  # fmt: skip


def files_are_here(options: argparse.Namespace) -> None:
    """ModelError where workers would need a file of the user's, which none has."""
    if options.scheduler and options.variant:
        raise ModelError(
            f"--scheduler: no worker has the file {options.variant}; leave out --scheduler to use this machine's cores"
        )


def add_output(parser: argparse.ArgumentParser) -> None:
    """How a command that finds counterexamples shows them."""
    parser.add_argument("--full", action="store_true", help="columns of all steps, with none left out")
    parser.add_argument(
        "--trace", metavar="FILE", help="write the first counterexample, for `python -m verify.replay FILE`"
    )
    parser.add_argument("--html", metavar="FILE", help="write the first counterexample as one page for a browser")


def writable(paths: Sequence[str | None]) -> None:
    """Refuse output files that cannot be written before any work is done; what they hold is kept until then.

    ``-`` is standard output, for one of them; what the command has to say itself goes to standard error then.
    """
    if (many := list(paths).count(STANDARD_OUTPUT)) > 1:
        raise ModelError(f"{many} files would go to standard output (-): leave it to one of them")
    if many:
        keep_standard_output_for_a_file()
    for text in paths:
        if text is None or text == STANDARD_OUTPUT:
            continue
        path = Path(text)
        try:
            existed = path.exists()
            with path.open("a"):
                pass
            if not existed:
                path.unlink()
        except OSError as error:
            raise ModelError(f"cannot write {text}: {error.strerror}") from error


def _descent(kernel: type[KernelText]) -> str:
    """The kernels that one is written as a change of."""
    before = [base.name for base in kernel.__bases__ if KERNELS.get(getattr(base, "name", "")) is base]
    return f" = {' + '.join(before)} +" if before else ""


def listing() -> str:
    """Kernels, mutants and properties, one line each."""
    lines = ["kernels:"]
    lines += [f"  {f'{name}{_descent(k)}':36} {k.summary}" for name, k in KERNELS.items()]
    lines += [
        "",
        "mutants (v5.11, or the kernel named, with one function changed), with the property that each breaks:",
    ]
    for m in EVERY.values():
        lines.append(f"  {m.name:36} {m.summary}; {m.function}() -> {m.breaks}")
    lines += ["", "properties:"]
    lines += [f"  {p.name:36} {p.statement}" for p in PROPERTIES.values()]
    return "\n".join(lines)


__all__ = [
    "EXIT_CODES", "LARGEST", "Parser", "add_kernel", "add_output", "add_property", "add_scenario", "add_scheduler",
    "expected_of", "fail", "kernel_of", "listing", "positive_number", "positive_seconds", "properties_of", "race_of",
    "scenario_of", "writable",
]  # fmt: skip
