"""A run that shares its core with another process is known to have waited for it."""

import multiprocessing
import os
import time

import pytest

from parbench.bench.run import core_wait
from parbench.bench.run.core_wait import CoreWait


def spin(seconds, core=None):
    if core is not None:
        os.sched_setaffinity(0, {core})
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def waited(neighbours):
    """Return the share of waiting of a process that spins beside others on one core."""
    context = multiprocessing.get_context("fork")
    core = min(os.sched_getaffinity(0))
    here, there = context.Pipe()
    others = [context.Process(target=spin, args=(30, core), daemon=True) for _ in range(neighbours)]

    def measured():
        os.sched_setaffinity(0, {core})
        wait = CoreWait()
        spin(1)
        there.send(wait.share())

    process = context.Process(target=measured)
    try:
        for other in others:
            other.start()
        process.start()
        return here.recv()
    finally:
        process.join()
        for other in others:
            other.kill()
            other.join()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be pinned here")
@pytest.mark.parametrize("neighbours", [1, 3])
def test_the_time_that_neighbours_have_the_core_is_counted(neighbours):
    """With equal priorities each of n processes has an n-th of a core; other load only adds to the waiting."""
    share = waited(neighbours)
    assert 0.8 * neighbours / (neighbours + 1) < share <= 1


def test_a_sleeping_process_does_not_wait():
    wait = CoreWait()
    time.sleep(0.5)
    assert wait.share() < 0.5


def test_a_kernel_that_does_not_count_gives_no_share(monkeypatch, tmp_path):
    monkeypatch.setattr(core_wait, "_TASKS", tmp_path / "none")
    assert CoreWait().share() is None
    monkeypatch.setattr(core_wait, "_TASKS", tmp_path)
    (tmp_path / "17").mkdir()
    assert CoreWait().share() is None
    (tmp_path / "17" / "schedstat").write_text("5 7 9\n")
    wait = CoreWait()
    (tmp_path / "17" / "schedstat").write_text("6 1000000007 9\n")
    assert wait.share() > 1
