"""``map()`` over the workers of a Dask cluster: results as locally, in the same order.

A job is run by a process of its own on the worker.  One whose worker dies is done again elsewhere by the scheduler; one that
hangs, or has too little memory, is done again as often as :data:`RETRIES` says, and then said to have come to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kernelmodel.errors import ModelError
from verify.spread.alone import JobError, LostError, alone
from verify.spread.version import digest_of

Item = TypeVar("Item")
Result = TypeVar("Result")

#: a job is begun again so often, and so many seconds may it take each time
RETRIES, SECONDS = 2, 3600.0
#: seconds in which a scheduler has to answer
_ANSWER = 10.0


class OtherTextError(Exception):
    """A worker has another straypage than who asks it."""


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], scheduler: str, deadline: float | None = None,
    seconds: float = SECONDS,
) -> Iterator[Result]:  # fmt: skip
    """The results of ``function`` for each item, worked out by the workers of the scheduler at an address.

    ``deadline`` is a time.monotonic() after which TimeoutError is raised; ``seconds`` is what one try may take.

    Raises ModelError where there is no scheduler or worker, :class:`LostError` where a job comes to nothing; what the
    function raises, too.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise ModelError("--scheduler needs distributed: pip install 'straypage[scale]'") from None
    try:
        client = Client(scheduler, timeout=_ANSWER)
    except (OSError, ValueError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"--scheduler {scheduler}: no scheduler answers there ({why}); start one: dask scheduler"
        ) from None
    try:
        if not client.scheduler_info()["workers"]:
            raise ModelError(f"--scheduler {scheduler}: it has no workers; start one: dask worker {scheduler}")
        futures = client.map(
            _on_a_worker, [(function, item, seconds, digest_of()) for item in items], retries=RETRIES, pure=False
        )
        for item, future in zip(items, futures, strict=True):
            try:
                yield future.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except JobError as error:
                raise LostError(f"{item}: came to nothing on {RETRIES + 1} tries: {error}") from None
            except KilledWorker as error:
                raise LostError(
                    f"{item}: came to nothing: each worker that had it died ({error.last_worker.address})"
                ) from None
            except OtherTextError as error:
                raise ModelError(f"--scheduler {scheduler}: {error}; install the same straypage everywhere") from None
    finally:
        client.close()


def _on_a_worker(job: tuple[Callable[[Any], Any], Any, float, str]) -> Any:
    function, item, seconds, digest = job
    if digest_of() != digest:
        from distributed import get_worker

        raise OtherTextError(f"the worker {get_worker().address} has another text than this one")
    return alone(function, item, seconds, _memory())


def _memory() -> int:
    """The bytes that one of a worker's jobs may have; 0 where it is not limited."""
    from distributed import get_worker

    worker = get_worker()
    limit = getattr(getattr(worker, "memory_manager", None), "memory_limit", None)
    return int(limit // worker.state.nthreads) if limit else 0
