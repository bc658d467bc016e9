"""How a museum of real bugs spreads over workers: seconds on 1, 2 and 4 of this machine, next to local processes.

    python benchmarks/scale.py

Whole processes, one after the other.  Workers of one thread each share this machine's cores, so more of them than cores show
what they cost and not what they gain.
"""

from __future__ import annotations

import subprocess
import sys
import time

from distributed import LocalCluster

_COMMAND = [sys.executable, "-m", "verify.museum", "--quiet"]


def seconds(*more: str) -> float:
    began = time.monotonic()
    done = subprocess.run([*_COMMAND, *more], check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(_COMMAND)} {' '.join(more)} ended with {done.returncode}")
    return time.monotonic() - began


def main() -> None:
    alone = seconds("--jobs", "1")
    print(f"{'local, 1 process':24} {alone:6.1f} s   1.00", flush=True)
    both = seconds("--jobs", "2")
    print(f"{'local, 2 processes':24} {both:6.1f} s   {both / alone:.2f}", flush=True)
    for n in (1, 2, 4):
        with LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as cluster:
            took = seconds("--scheduler", cluster.scheduler_address)
        print(f"{f'{n} worker' + ('s' if n > 1 else ''):24} {took:6.1f} s   {took / alone:.2f}", flush=True)


if __name__ == "__main__":
    main()
