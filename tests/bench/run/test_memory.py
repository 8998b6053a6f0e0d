"""The memory of runs that share a process."""

from itertools import count

from parbench.bench.run import memory
from parbench.bench.store.store import Store


def test_in_one_process_the_memory_of_the_first_run_alone_is_known(bench, bench_run, tmp_path, monkeypatch):
    """What it leaves is in the process of the next one, and would be compared as if it were that one's."""
    monkeypatch.setattr(memory, "_trainings", count())
    assert bench_run(methods="lora", seeds="1,2").code == 0
    store = Store(tmp_path / "store")
    first, second = sorted(store.scan(), key=lambda record: record.provenance.started)
    assert first.cost.peak_process_bytes > 10**8
    assert second.cost.peak_process_bytes is None
    assert bench("report", "--out", store.root).code == 0
