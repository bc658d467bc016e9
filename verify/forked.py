"""One pool for all that uses several cores: forked children that leave interrupts to their parent and never outlive it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

#: linux/prctl.h: PR_SET_PDEATHSIG
_SET_PARENT_DEATH_SIGNAL = 1


def can_fork() -> bool:
    """Whether children can be forked here, which have all that cannot be sent to them."""
    import multiprocessing

    return "fork" in multiprocessing.get_all_start_methods()


@contextmanager
def children(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many forked children; whatever ends the block, an interrupt too, ends them.

    They are forked at the beginning of the block: what they need has to be there by then.
    """
    # takes a while to import, and is not always needed
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:
            # an interrupt that comes while they are forked would reach one that does not ignore it yet
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                pool.submit(_nothing)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield pool
        except BaseException:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
            raise


def mapped(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, scheduler: str = "", deadline: float | None = None,
    is_long: Callable[[Item], bool] = lambda _: False,
) -> Iterator[Result]:  # fmt: skip
    """``map()`` by so many processes, in the order of the items; by this one where there is no use for more.

    By the workers of a ``scheduler`` instead where one is named.  ``deadline`` is a time.monotonic() after which TimeoutError
    is raised, and what is under way is given up; where nothing can be forked it is not kept.
    Processes begin with what ``is_long``, so that none is left with one of these at the end.
    """
    if scheduler:
        # takes a while to import, and is not always there
        from verify.spread.cluster import spread

        yield from spread(function, items, scheduler, deadline)
        return
    jobs = min(jobs, len(items))
    # this process could not give up what it does itself
    if not can_fork() or (jobs < 2 and deadline is None):
        yield from map(function, items)
        return
    with children(max(1, jobs)) as pool:
        order = sorted(range(len(items)), key=lambda i: not is_long(items[i]))
        futures = {i: pool.submit(function, items[i]) for i in order}
        for future in (futures[i] for i in range(len(items))):
            yield future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "z3" in sys.modules:
        sys.modules["z3"].set_param("ctrl_c", False)
    if sys.platform == "linux":
        # where the parent is killed nobody would end them
        import ctypes

        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _nothing() -> None:
    """Something to do, for the first task forks the children."""
