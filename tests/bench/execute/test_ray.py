"""Ray for real: a cluster of this machine, and the runs on it."""

import json
import signal
import time

import psutil
import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from tests.support.clusters import Cluster, wait_for

pytest.importorskip("ray")


@pytest.fixture
def ray(tiny_data, tiny_model, tmp_path):
    cluster = Cluster("parbench.bench.execute.ray:RayExecutor", tmp_path, tiny_data, tiny_model)
    yield cluster
    cluster.end_all()


def worker_above(pid):
    """Return the process of Ray that looks after a run's own."""
    (found,) = [process for process in psutil.Process(pid).parents() if process.cmdline()[0].startswith("ray::")]
    return found


# A cluster takes up to two minutes to start on two cores; each worker of Ray's imports the libraries for itself.
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_runs_share_a_cluster_and_one_that_is_killed_is_tried_again(ray, workers):
    process = ray.start("killed_once,raises,lora", workers=workers, limits={"retries": 1})
    message, _ = process.communicate(timeout=280)
    done = ray.records()
    assert {method: (record.status, record.reason) for (method, _), record in done.items()} == {
        "killed_once": (Status.OK, None),
        "raises": (Status.ERROR, "RuntimeError: a fault of its own"),
        "lora": (Status.OK, None),
    }, message
    assert process.returncode == 1
    # The same LoRA, cut and resumed in between.
    assert done["killed_once", 1].metrics == done["lora", 1].metrics
    events = [entry["event"] for entry in ray.log(done["killed_once", 1])]
    assert [event for event in events if event in ("began", "ended")] == ["began", "began", "ended"]
    assert not ray.leases()


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(("length", "moved"), [(30, False), (45, True), (112, True)])
def test_the_sockets_of_a_cluster_have_short_names(monkeypatch, variable, length, moved):
    from parbench.bench.execute.ray import _folder_for_sockets

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, "/" + "x" * (length - 1))
    found = _folder_for_sockets()
    assert (found is not None) == moved
    assert found is None or len(found) < 32


@pytest.mark.slow
def test_a_cluster_starts_whatever_the_temporary_folder_is_called(ray, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 112)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    process = ray.start("lora", workers=1)
    printed, _ = process.communicate(timeout=280)
    assert process.returncode == 0, printed
    assert ray.records()["lora", 1].status == Status.OK


@pytest.mark.slow
def test_a_lost_worker_is_replaced_and_ctrl_c_saves_the_present_step(ray):
    process = ray.start("slow", workers=2, steps=40, limits={"retries": 1})
    first = ray.at_work()
    work = ray.workspace()
    worker_above(first[1]).kill()
    wait_for(lambda: not psutil.pid_exists(first[1]))
    wait_for(lambda: ray.at_work() != first)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 130, message
    assert not ray.records()
    assert not ray.leases()
    events = [json.loads(line)["event"] for line in (work / "log.jsonl").open()]
    assert events.count("began") == 2
    assert "left" in events
    again = ray.start("slow", steps=40)
    message, _ = again.communicate(timeout=240)
    assert again.returncode == 0, message
    assert ray.records()["slow", 1].cost.train_steps == 40


@pytest.mark.slow
def test_a_worker_that_is_lost_for_good_leaves_a_record_of_the_loss(ray):
    process = ray.start("slow", steps=40)
    worker_above(ray.at_work()[1]).kill()
    message, _ = process.communicate(timeout=120)
    assert process.returncode == 1, message
    record = ray.records()["slow", 1]
    assert (record.status, record.reason) == (Status.ERROR, "its worker or node was lost (WorkerCrashedError)")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"gpus": 2}, "cannot have 2 GPUs: it uses one"), ({"gpus": -1}, "give 0 to 1"), ({"cpus": 0}, "at least 1")],
)
def test_wrong_resources_are_a_sentence(options, complaint):
    from parbench.bench.execute.ray import RayExecutor

    with pytest.raises(UserError, match=complaint):
        RayExecutor(**options)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_a_sentence(address):
    from parbench.bench.execute.ray import RayExecutor, _connected

    with pytest.raises(UserError, match=f'there is no Ray cluster at "{address}"'), _connected(RayExecutor(address)):
        pass
