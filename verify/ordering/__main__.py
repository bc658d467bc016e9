"""``python -m verify.ordering``: which stores a store buffer may hold back so that it matters, and who may miss them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from kernelmodel.errors import ModelError
from kernelmodel.kernels import KERNELS
from kernelmodel.memory_model import MODELS
from kernelmodel.text import KernelText
from kernelmodel.versions.v5_11 import V5_11
from verify import page
from verify.command import command
from verify.options import EXIT_CODES, Parser, add_kernel, fail, kernel_of, listing
from verify.ordering.loosened import everybody
from verify.ordering.relaxed import Relaxed
from verify.ordering.scenario import relaxed_in
from verify.verdict import Exit

PROG = "python -m verify.ordering"
_CPU = re.compile(r"\[\d+\]")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog=PROG,
        description="Names the stores of a kernel that may still be in a CPU's store buffer (x86-TSO) when that CPU makes a "
        "load that others race with, and the loads of other CPUs that may miss them.  What is not named needs no buffer: "
        "with none, each run under TSO is one under sequential consistency.  With no option: v5.11.  Whether a property "
        "holds with them: --memory tso of verify.explore, verify.bmc and verify.prove.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_kernel(p)
    p.add_argument(
        "--explain-order", action="store_true",
        help="which synchronisation carries no_stray_page: each is taken away in turn, in a small configuration (--memory weak)",
    )  # fmt: skip
    p.add_argument(
        "--table", action="store_true",
        help="every property of every kernel (or of the one that is named) under every memory model, in a small configuration",
    )  # fmt: skip
    p.add_argument("--markdown", action="store_true", help="the table as Markdown")
    p.add_argument("--list", action="store_true", help="list kernels, mutants and properties")
    return p


def lines(kernel: type[KernelText], found: Relaxed) -> Iterator[str]:
    """What was found, for people; CPUs are told apart no more than the text does."""
    yield f"{kernel.name}, {MODELS['tso']}: what a store buffer changes"
    words = f"two of each task that there may be many of, on 3 CPUs: {everybody(kernel).tasks_in_words(absent=False)}"
    yield page.paragraph(f"looked at: {words}", "  ", "    ")
    if not found.pairs:
        yield "  nothing: each run is one under sequential consistency"
        return
    loads: dict[tuple[str, str], set[str]] = {}
    for pair in found.pairs:
        store = (pair.task, _said(*pair.store))
        loads.setdefault(store, set()).add(_said(*pair.load))
    for (task, text), after in sorted(loads.items()):
        yield page.paragraph(f"{task}: {text}", "  ", "      ")
        for load in sorted(after):
            yield page.paragraph(f"may wait in the buffer at {load}", "      ", "          ")
    looks = sorted({(task.rstrip("0123456789/"), _said(stack[-1], text)) for (task, stack, text), _ in found.looks})
    if looks:
        yield "  who may miss it, on another CPU:"
    for task, look in looks:
        yield page.paragraph(f"{task}: {look}", "      ", "          ")


def _said(function: str, text: str) -> str:
    return f"{function}(): {_CPU.sub('[cpu]', text.replace('{0}', 'n'))}"


@command(PROG)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.list:
        print(listing())
        return int(Exit.OK)
    try:
        if options.table:
            return int(table(options))
        kernel = kernel_of(options) or V5_11
        kernel.sized(everybody(V5_11).config)
        found = relaxed_in(kernel, everybody(kernel))
    except ModelError as error:
        fail(f"{PROG}: {error}")
    if options.explain_order:
        # nobody else needs the search
        from verify.ordering.explain import explain

        return int(explain(kernel))
    print("\n".join(lines(kernel, found)))
    return int(Exit.OK)


def table(options: argparse.Namespace) -> Exit:
    """Print the table."""
    # nobody else needs the search
    from verify.ordering.survey import print_survey

    if options.mutant or options.variant or options.tree:
        raise ModelError("--table is about the kernels by name: give --kernel, or none for all of them")
    return print_survey([options.kernel] if options.kernel else list(KERNELS), options.markdown)


if __name__ == "__main__":
    raise SystemExit(main())
