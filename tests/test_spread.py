"""Work on a Dask cluster: the same results in the same order, whatever happens to workers; and one line where it cannot be."""

from __future__ import annotations

import functools
import math
import os
import signal
import subprocess
import sys
import threading
import time

import dask
import pytest
from distributed import Client, LocalCluster

from kernelmodel.errors import ModelError
from kernelmodel.versions.v5_11 import V5_11
from verify.museum import tour
from verify.museum.__main__ import main as museum
from verify.mutants import systematic
from verify.mutants.__main__ import main as mutants
from verify.spread import cluster
from verify.spread.alone import JobError, LostError, alone

EXHIBITS = ["stored-isolate", "lru-left-disabled"]


@pytest.fixture(scope="module")
def two_workers():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit="4GB"
    ) as local:
        yield local


def test_a_job_has_a_process_of_its_own():
    assert alone(math.sqrt, 4, 60.0) == 2.0
    with pytest.raises(ValueError, match="invalid literal"):
        alone(int, "x", 60.0)


@pytest.mark.parametrize(
    ("function", "item", "seconds", "memory", "why"),
    [
        (os._exit, 3, 60.0, 0, "its process ended with 3 and no answer"),
        (time.sleep, 60, 0.5, 0, "it took longer than 0 s"),
        (bytearray, 1 << 33, 60.0, 1 << 31, "out of memory"),
        (compile, "nothing", 60.0, 0, None),
    ],
)
def test_what_happens_to_its_process_is_a_job_without_an_answer(function, item, seconds, memory, why):
    with pytest.raises(JobError if why else TypeError, match=why or "compile"):
        alone(function, item, seconds, memory)


def test_what_cannot_be_sent_back_is_said():
    with pytest.raises(JobError, match="what it found cannot be sent"):
        alone(memoryview, b"abc", 60.0)


def test_results_come_in_the_order_of_the_items(two_workers):
    items = [9, 1, 4, 16, 0]
    assert list(cluster.spread(math.sqrt, items, two_workers.scheduler_address)) == list(map(math.sqrt, items))


def test_rows_are_those_of_this_machine(two_workers):
    here = [_rows(row) for row in tour.visit(EXHIBITS, 1)]
    there = [_rows(row) for row in tour.visit(EXHIBITS, 1, two_workers.scheduler_address)]
    assert here == there


def test_a_worker_that_is_killed_costs_a_retry_and_nothing_else(two_workers):
    address = two_workers.scheduler_address
    with Client(address) as client:
        pids = client.run(os.getpid)
    timer = threading.Timer(1.0, os.kill, (next(iter(pids.values())), signal.SIGKILL))
    timer.start()
    # each worker is at work when one is killed
    jobs = [["sh", "-c", f"sleep {s}; echo {n}"] for n, s in enumerate((3, 3, 0, 0))]
    found = list(cluster.spread(subprocess.check_output, jobs, address))
    timer.join()
    assert found == [b"0\n", b"1\n", b"2\n", b"3\n"]
    with Client(address) as client:
        assert set(client.run(os.getpid).values()) != set(pids.values())


def _rows(row):
    """A row without the times."""
    return row.name, [(v.property, v.result, v.trace, v.reason) for v in (*row.faulty, *row.mended)]


def test_a_job_that_never_answers_is_lost_by_name(two_workers):
    found = cluster.spread(os._exit, [7], two_workers.scheduler_address)
    with pytest.raises(LostError, match="7: came to nothing on 3 tries: its process ended with 7"):
        next(found)


def test_a_scheduler_that_never_tries_again_loses_the_job():
    """The twin: the retry is what keeps a job whose worker died."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as local,
    ):
        with Client(local.scheduler_address) as client:
            (pid,) = client.run(os.getpid).values()
        timer = threading.Timer(1.0, os.kill, (pid, signal.SIGKILL))
        timer.start()
        with pytest.raises(LostError, match="each worker that had it died"):
            list(cluster.spread(time.sleep, [20], local.scheduler_address))
        timer.join()


def test_time_that_is_over_is_over(two_workers):
    found = cluster.spread(time.sleep, [5], two_workers.scheduler_address, time.monotonic() + 0.3)
    with pytest.raises(TimeoutError):
        next(found)


def test_a_worker_with_another_text_is_refused(two_workers, monkeypatch):
    monkeypatch.setattr(cluster, "digest_of", lambda: "another")
    with pytest.raises(ModelError, match="has another text than this one; install the same straypage everywhere"):
        list(cluster.spread(math.sqrt, [1], two_workers.scheduler_address))


@pytest.mark.parametrize("command", [museum, mutants])
def test_no_scheduler_there_is_one_line(command, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "_ANSWER", 0.5)
    names = EXHIBITS if command is museum else ["no-drain"]
    with pytest.raises(SystemExit) as stop:
        command([*names, "--scheduler", "tcp://127.0.0.1:1"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no scheduler answers there" in line
    assert "start one: dask scheduler" in line


def test_a_scheduler_without_workers_is_one_line(capsys):
    with LocalCluster(n_workers=0, dashboard_address=":0") as local, pytest.raises(SystemExit) as stop:
        museum([*EXHIBITS, "--scheduler", local.scheduler_address])
    assert stop.value.code == 2
    assert "it has no workers; start one: dask worker tcp://" in capsys.readouterr().err


def test_what_was_decided_is_kept_where_a_job_is_lost(two_workers, monkeypatch, capsys):
    monkeypatch.setattr(tour, "judge", sys.exit)
    assert museum(["stored-isolate", "--scheduler", two_workers.scheduler_address]) == 3
    out = capsys.readouterr()
    assert "came to nothing" in out.err
    assert "after 0 of 1 exhibits; what was decided is kept" in out.err


def test_a_systematic_mutant_is_known_on_a_worker_by_its_digest(two_workers):
    swapped = next(m for m in systematic.mutations(V5_11, ["zone_pcp_enable"]) if m.name == "zone_pcp_enable/swap/2")
    one = functools.partial(systematic._named, "v5.11", ("bmc",), 120.0)
    (there,) = cluster.spread(one, [swapped.digest], two_workers.scheduler_address)
    here = systematic.judge(V5_11, swapped, ("bmc",), 120.0)
    assert there.status == "refused"
    assert _untimed(there.as_json()) == _untimed(here.as_json())


def _untimed(record):
    return {k: v for k, v in record.items() if k != "seconds"}
