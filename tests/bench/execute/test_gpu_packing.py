"""Where runs are put: no device is ever over-committed, no run loses its turn, and what is kept for one is known."""

import random
from collections import deque
from dataclasses import replace

import pytest

from parbench.bench.execute.gpu_packing import MARGIN, SLACK, Packing, needed, visible_outside
from parbench.bench.execute.memory_history import PeakMemoryHistory
from parbench.bench.execute.queue import Queue
from tests.support.peaks import GIB, NAME, kept, measured, plan
from tests.support.records import RECORD, with_spec


def test_an_idle_device_takes_whatever_comes():
    packing = Packing({"a": 10 * GIB, "b": 10 * GIB}, workers=4)
    assert packing.place(None) == "a"
    packing.enter("unknown", "a", None)
    assert packing.place(500 * GIB) == "b"
    packing.enter("too large", "b", 500 * GIB)
    assert packing.place(1) is None
    packing.leave("unknown")
    assert packing.place(1) == "a"


def test_a_run_joins_others_only_where_all_are_known_to_fit():
    packing = Packing({"a": 20 * GIB}, workers=4)
    assert packing.enter("first", "a", 5 * GIB) == []
    assert packing.place(None) is None
    # 19 GiB without the margin; the first keeps 6.5 of them.
    assert packing.place(11 * GIB) is None
    assert packing.place(10 * GIB) == "a"
    assert packing.enter("second", "a", 10 * GIB) == ["first"]
    assert packing.place(1) is None


def test_the_least_busy_device_is_taken_and_workers_are_never_exceeded():
    packing = Packing({"a": 80 * GIB, "b": 80 * GIB}, workers=3)
    assert [packing.enter(run, str(packing.place(GIB)), GIB) for run in ("1", "2", "3")] == [[], [], ["1"]]
    assert packing.place(GIB) is None


def test_on_a_cpu_workers_mean_what_they_say_and_share_nothing():
    packing = Packing({"cpu": None}, workers=2)
    assert [packing.place(None), packing.enter("1", "cpu", None)] == ["cpu", []]
    assert [packing.place(None), packing.enter("2", "cpu", None)] == ["cpu", []]
    assert packing.place(None) is None


def simulate(draw):
    sizes = [draw.randint(4, 100) for _ in range(draw.randint(1, 3))]
    kinds = [draw.randint(0, 120) for _ in range(draw.randint(1, 4))]
    waiting = deque((str(number), draw.randrange(len(kinds))) for number in range(draw.randint(0, 30)))
    memory = {f"cuda:{number}": size * GIB for number, size in enumerate(sizes)}
    packing = Packing(memory, workers=len(sizes) + draw.randint(0, 6))
    known: dict[int, int] = {}
    at_work: dict[str, tuple[str, int, int]] = {}
    shared = 0
    while waiting or at_work:
        for run, kind in list(waiting):
            peak = known.get(kind)
            if (device := packing.place(peak)) is None:
                continue
            waiting.remove((run, kind))
            others = packing.enter(run, device, peak)
            assert sorted(others) == sorted(name for name, (where, _, _) in at_work.items() if where == device)
            shared += bool(others)
            # Another seed of a kind may take somewhat more than the largest so far.
            at_work[run] = (device, kind, round(kinds[kind] * GIB * draw.uniform(1 / SLACK, 1)))
        assert at_work, "nothing is running and nothing starts"
        assert len(at_work) <= packing.workers
        for device, size in memory.items():
            here = [taken for where, _, taken in at_work.values() if where == device]
            assert len(here) < 2 or sum(here) + len(here) * GIB <= (1 - MARGIN) * size
        ended = draw.choice(sorted(at_work))
        _, kind, taken = at_work.pop(ended)
        packing.leave(ended)
        known[kind] = max(taken, known.get(kind, 0))
    return shared


def test_no_device_is_ever_over_committed_and_all_get_done():
    draw = random.Random(1)
    assert sum(simulate(draw) for _ in range(300)) > 300  # or nothing would be shown


def test_more_is_reserved_for_a_run_than_an_identical_one_has_taken():
    assert needed(0) == GIB
    assert needed(10 * GIB) == 12 * GIB


def test_a_peak_is_the_largest_of_runs_of_the_same_cost_on_the_same_kind_of_device(store):
    kept(store, measured(3 * GIB, seed=1))
    kept(store, measured(5 * GIB, seed=2, protocol="paper:best_epoch"))
    kept(store, measured(50 * GIB, seed=3, accelerator="Another (16 GiB)"))
    kept(store, with_spec(seed=4))  # of a CPU, or from before this was measured
    peaks = PeakMemoryHistory(store, {NAME})
    assert peaks.of(with_spec(seed=9).spec) == 5 * GIB
    larger = with_spec(setting={**RECORD.spec.setting, "r": 64})
    assert peaks.of(larger.spec) is None
    peaks.learn(measured(9 * GIB, setting=larger.spec.setting))
    assert peaks.of(larger.spec) == 9 * GIB
    assert peaks.of(replace(larger.spec, setting={**larger.spec.setting, "learning_rate": 1.0})) == 9 * GIB


def test_a_run_that_has_no_place_keeps_its_turn(store):
    runs = plan([1, 2, 3], seeds=1)
    queue = Queue(runs, store)
    assert queue.take(lambda run: False) is None
    assert queue.take(lambda run: run.spec.setting["r"] == 2) == runs[1]
    assert [queue.take(), queue.take(), queue.take()] == [runs[0], runs[2], None]
    queue.requeue(runs[0])
    assert queue.take() == runs[0]
    # The user has asked to stop: what is put back now is not begun again.
    queue.give_up()
    queue.requeue(runs[0])
    assert not queue
    assert queue.take() is None
    queue.leases.release_all()


def test_the_search_time_is_independent_of_the_queue_length_and_no_run_starves(store, monkeypatch):
    monkeypatch.setattr("parbench.bench.execute.queue.LOOK_AHEAD", 3)
    runs = plan([1, 2, 3, 4, 5], seeds=1)
    queue, seen = Queue(runs, store), []

    def fits(run):
        seen.append(run.spec.setting["r"])
        return run.spec.setting["r"] > 3

    assert queue.take(fits) is None
    assert seen == [1, 2, 3]
    assert queue.take() == runs[0]
    # Now that one has gone, the next is near enough.
    assert queue.take(fits) == runs[3]
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [runs[1], runs[2], runs[4], None]
    queue.leases.release_all()


@pytest.mark.parametrize(
    ("device", "visible", "outside"),
    [
        ("cuda:1", None, "cuda:1"),
        ("cuda:1", "4,7", "cuda:7"),
        ("cuda:0", "GPU-0a1b", "cuda:GPU-0a1b"),
        ("cuda", "4,7", "cuda"),
        ("cpu", "4,7", "cpu"),
    ],
)
def test_a_worker_gets_the_device_that_the_user_means(monkeypatch, device, visible, outside):
    """Which numbers devices among those that are visible, as torch does."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_outside(device) == outside
