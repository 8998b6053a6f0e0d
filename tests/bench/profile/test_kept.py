"""A profile that ends early continues after the measurements that it has made."""

import pytest

from parbench.bench.profile import kept as kept_module
from parbench.bench.profile import runner
from parbench.bench.profile.kept import FILE, KeptMeasurements
from parbench.bench.profile.machine_load import MachineLoad
from parbench.bench.profile.measurement import STEP, Measurement, PhaseMemory
from parbench.bench.profile.runner import ProfileRequest, run_profile
from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import ParameterCounts, Status

LORA = Candidate("lora", "lora", {"r": 8}, "r=8", method="lora")


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    monkeypatch.setattr(runner, "sample_machine_load", lambda device: MachineLoad(0.01, (0.1, 0.1, 0.1)))


def request(model, folder, **changes):
    work = Workload(str(model), 4, 16, "cpu")
    values = {"batches": (4,), "rounds": 3, "kept": folder, **changes}
    return ProfileRequest((FROZEN_FLOOR, LORA), work, Repetitions(steps=4), **values)


class Machine:
    """Measures, and ends after so many measurements."""

    def __init__(self, most=100, status=Status.OK):
        self.most = most
        self.status = status
        self.asked = []

    def __call__(self, job: MeasurementJob) -> Measurement:
        if len(self.asked) == self.most:
            raise KeyboardInterrupt
        self.asked.append((job.candidate.name, job.round))
        ledger = None if job.candidate == FROZEN_FLOOR else ParameterCounts(100, 100, 100, 400, 2, 0, 0)
        seconds = {STEP: [0.01 * len(self.asked)]}
        memory = {STEP: PhaseMemory(1000)}
        return Measurement(
            job, self.status, None, seconds, memory, 5000, ledger=ledger, batches="of 4", flops={STEP: 7}
        )


def test_the_same_command_continues(tiny_model, tmp_path):
    first, second = Machine(most=4), Machine()
    with pytest.raises(KeyboardInterrupt):
        run_profile(request(tiny_model, tmp_path), print, first)
    found = run_profile(request(tiny_model, tmp_path, limit_bytes=1 << 30), print, second)
    assert first.asked == [("frozen floor", 0), ("lora", 0), ("lora", 1), ("frozen floor", 1)]
    assert second.asked == [("frozen floor", 2), ("lora", 2)]
    assert [one.seconds[STEP][0] for one in found.measurements] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.01, 0.02])
    assert found.measurements[1].ledger == ParameterCounts(100, 100, 100, 400, 2, 0, 0)
    assert found.measurements[1].memory == {STEP: PhaseMemory(1000)}


@pytest.mark.parametrize("change", ["versions", "code", "workload", "cut off"])
def test_what_was_measured_otherwise_does_not_count(tiny_model, tmp_path, monkeypatch, change):
    run_profile(request(tiny_model, tmp_path), print, Machine())
    changes = {}
    if change == "versions":
        monkeypatch.setattr(kept_module.environment, "versions", lambda: {"torch": "0"})
    elif change == "code":
        monkeypatch.setattr(kept_module, "source_hash", lambda module: "another")
    elif change == "workload":
        changes = {"batches": (8,)}
    else:
        file = tmp_path / FILE
        file.write_text("".join(line[: len(line) // 2] + "\n" for line in file.read_text().splitlines()))
    again = Machine()
    run_profile(request(tiny_model, tmp_path, **changes), print, again)
    assert len(again.asked) == 6


def test_a_line_that_a_killed_process_has_begun_costs_itself_alone(tiny_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_profile(request(tiny_model, tmp_path), print, Machine(most=3))
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(KeyboardInterrupt):
        run_profile(request(tiny_model, tmp_path), print, Machine(most=2))
    again = Machine()
    run_profile(request(tiny_model, tmp_path), print, again)
    assert again.asked == [("frozen floor", 2), ("lora", 2)]


def test_failures_are_measured_again(tiny_model, tmp_path):
    run_profile(request(tiny_model, tmp_path, rounds=1), print, Machine(status=Status.OUT_OF_MEMORY))
    again = Machine()
    run_profile(request(tiny_model, tmp_path, rounds=1), print, again)
    assert len(again.asked) == 2


def test_a_written_profile_leaves_nothing_behind(tiny_model, tmp_path):
    run_profile(request(tiny_model, tmp_path), print, Machine())
    assert (tmp_path / FILE).is_file()
    KeptMeasurements(tmp_path).clear()
    assert list(tmp_path.iterdir()) == []
