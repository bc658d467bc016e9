"""Going through a trace by hand: a prompt on a terminal, the same commands from a pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TextIO

from kernelmodel.errors import ModelError
from verify import page
from verify.replay.show import as_list, one_line, task_width, where, zone
from verify.tracefile.film import Film
from verify.tracefile.words import GLOSSARY

HELP = """commands (the first letter is enough; Enter alone repeats the last one):
  next [N]      make the next step, or N steps
  back [N]      take the last step back, or N steps
  run STEP      go to the step of that number; `run end` goes to the end
  where         this step: who, in which calls, what it means, what it read, wrote and moved
  zone          the zone now: pcplists per CPU, pageblocks, buddy free lists, limits, locks, tasks
  list          all steps, one line each
  words         what pcplist, high, batch and so on mean
  help          this text
  quit          leave"""


class Stepper:
    """A film and the frame at which its reader stands."""

    def __init__(self, film: Film, say: Callable[[str], None] = print) -> None:
        """Stand at the start."""
        self.film, self.say = film, say
        self.at = 0
        self.last = "next"
        self.done = False

    @property
    def end(self) -> int:
        """The number of the last step."""
        return len(self.film.frames) - 1

    def welcome(self) -> None:
        """Say what this is and where the reader stands."""
        film = self.film
        lines = [
            f"{film.kernel.name}: a run of {self.end} steps on {film.trace.scenario.cpus} CPUs, one atomic operation each."
        ]
        lines += page.fill(f"To hold: {film.prop.statement}.")
        if film.violation:
            lines.append(f"Violated after step {film.violation.step}: {film.violation.found}.")
        else:
            lines.append("Not violated in this run.")
        listed = [f"CPU{c}'s pcplist has {n} of block {b}" for c, _, b, n in film.trace.start.lists] or [
            "pcplists empty"
        ]
        high, batch, *_ = film.trace.start.limits
        lines.append(f"At the start: high {high}, batch {batch}; {'; '.join(listed)}.")
        lines.append("`next` makes a step, `zone` shows the state, `help` lists the commands.")
        self.say("\n".join(lines))

    def command(self, line: str) -> None:
        """Carry out one line."""
        words = line.split() or [self.last]
        verb, *rest = words
        known = {
            "next": self._next, "back": self._back, "run": self._run, "where": self._where, "zone": self._zone,
            "list": self._list, "words": self._words, "help": self._help, "quit": self._quit,
        }  # fmt: skip
        full = {"n": "next", "b": "back", "r": "run", "?": "help", "exit": "quit", "prev": "back"}.get(verb.lower())
        full = full or next((k for k in known if k.startswith(verb.lower())), None)
        if full is None:
            self.say(f"no command {verb!r}: next, back, run STEP, where, zone, list, words, help, quit")
            return
        if full in ("next", "back"):
            self.last = full
        known[full](rest)

    def _next(self, rest: list[str]) -> None:
        n = self._count(rest)
        if n and self.at == self.end:
            self.say(f"this is the end: {self._outcome()}; `back` goes back, `quit` leaves")
        elif n:
            self._go(self.at + n)

    def _back(self, rest: list[str]) -> None:
        n = self._count(rest)
        if n and self.at == 0:
            self.say("this is the start: `next` makes the first step")
        elif n:
            self._go(self.at - n)

    def _run(self, rest: list[str]) -> None:
        target = rest[0].lower() if rest else "end"
        if target in ("end", "start"):
            self._go(self.end if target == "end" else 0)
        elif target.isdecimal() and int(target) <= self.end:
            self._go(int(target))
        else:
            self.say(f"no step {target}: give 0 to {self.end}, or `end`")

    def _go(self, to: int) -> None:
        came_from, self.at = self.at, min(max(to, 0), self.end)
        skipped = range(came_from + 1, self.at)
        for number in skipped if len(skipped) <= 40 else ():
            self.say(one_line(self.film.frames[number], task_width(self.film)))
        self._where([])

    def _where(self, _: list[str]) -> None:
        self.say(where(self.film, self.film.frames[self.at]))

    def _zone(self, _: list[str]) -> None:
        self.say(zone(self.film, self.film.frames[self.at]))

    def _list(self, _: list[str]) -> None:
        marked = [("> " if n == self.at else "  ") + text for n, text in enumerate(as_list(self.film).splitlines(), 1)]
        self.say("\n".join(marked))

    def _words(self, _: list[str]) -> None:
        self.say("\n".join(f"  {word:10} {meaning}" for word, meaning in GLOSSARY.items()))

    def _help(self, _: list[str]) -> None:
        self.say(HELP)

    def _quit(self, _: list[str]) -> None:
        self.done = True

    def _count(self, rest: list[str]) -> int:
        if not rest:
            return 1
        if rest[0].isdecimal() and int(rest[0]) > 0:
            return int(rest[0])
        self.say(f"no number of steps: {rest[0]!r}; give 1 or more")
        return 0

    def _outcome(self) -> str:
        return self.film.violation.found if self.film.violation else f"{self.film.prop.name} is not violated"


def interact(film: Film, source: TextIO) -> None:
    """Take commands from ``source`` until it ends or somebody leaves."""
    stepper = Stepper(film)
    stepper.welcome()
    for line in _lines(stepper, source):
        stepper.command(line)
        if stepper.done:
            break


def _lines(stepper: Stepper, source: TextIO) -> Iterable[str]:
    terminal = source.isatty()
    if terminal:
        with contextlib.suppress(ImportError):
            # arrow keys and history at the prompt, where Python has them
            import readline  # noqa: F401
    while True:
        prompt = f"[{stepper.at}/{stepper.end}] "
        if terminal:
            try:
                yield input(prompt)
            except (EOFError, KeyboardInterrupt):
                print()
                return
        else:
            try:
                line = source.readline()
            except UnicodeDecodeError as error:
                raise ModelError("the commands for --step are not text: give one command a line") from error
            if not line:
                return
            # a transcript shows what was asked
            print(f"\n{prompt}{line.strip()}")
            yield line
