"""Rounds, ratios, tables and the search for the largest batch, of measurements that are made up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from parbench.bench.profile import runner as session
from parbench.bench.profile.machine_load import MachineLoad
from parbench.bench.profile.measurement import BACKWARD, FORWARD, INFERENCE, OPTIMISER, STEP, Measurement, PhaseMemory
from parbench.bench.profile.result import read_profile
from parbench.bench.profile.runner import ProfileRequest, in_turn, largest_batch, run_profile
from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate, Repetitions, Workload
from parbench.bench.record.run_record import ParameterCounts, Status
from parbench.bench.util.errors import UserError
from parbench.reports.figures.profile_curves import write_curves
from parbench.reports.profile.summary import costs_of, rows_of, timing
from parbench.reports.profile.tables import noise, profile_tables, remarks, write_profile

LORA, SLOW, HEAVY = (Candidate(name, name, {"r": 8}, "r=8", method=name) for name in ("lora", "slow", "heavy"))
IDLE = MachineLoad(0.01, (0.1, 0.1, 0.1))
FACTOR = {"frozen floor": 0.8, "lora": 1.0, "slow": 3.0, "heavy": 1.0}


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """What is seen around: an idle machine, unless a test puts something else there."""
    seen = [IDLE]
    monkeypatch.setattr(session, "sample_machine_load", lambda device: seen[0])
    return seen


def request_for(tiny_model, *candidates, **changes):
    work = Workload(str(tiny_model), 4, 16, "cpu")
    values = {"batches": (4,), "rounds": 3, **changes}
    return ProfileRequest((FROZEN_FLOOR, LORA, *candidates), work, Repetitions(steps=4), **values)


def drifting(job, drift=0.5):
    """Return a measurement on a machine that becomes slower from round to round."""
    name, batch = job.candidate.name, job.workload.batch_size
    if name == "heavy" and batch > 4:
        return Measurement(job, Status.OUT_OF_MEMORY, "too much")
    step = 0.01 * batch * FACTOR[name] * (1 + drift * job.round)
    memory = PhaseMemory((2 if name == "heavy" else 1) * 100 * batch << 20)
    return Measurement(
        job,
        seconds={
            FORWARD: [step / 2] * 4,
            BACKWARD: [step / 4] * 4,
            OPTIMISER: [step / 4] * 4,
            STEP: [step, step, step, 2 * step],
            INFERENCE: [step / 3] * 4,
        },
        memory={STEP: memory},
        peak_process=memory.process,
        flops={STEP: 4 * 10**9} if job.counts else {},
        ledger=None if job.candidate == FROZEN_FLOOR else ParameterCounts(100, 100, 100, 400, 2, 0, 0),
        batches=f"of {batch}",
    )


def profiled(tiny_model, *candidates, **changes):
    message = []
    found = run_profile(request_for(tiny_model, *candidates, **changes), message.append, drifting)
    return found, message


def test_rounds_go_forwards_and_backwards(tiny_model):
    assert in_turn([1, 2, 3], 0) == [1, 2, 3]
    assert in_turn([1, 2, 3], 1) == [3, 2, 1]
    found, _ = profiled(tiny_model, SLOW)
    names = [measurement.job.candidate.name for measurement in found.measurements]
    assert names == ["frozen floor", "lora", "slow", "slow", "lora", "frozen floor", "frozen floor", "lora", "slow"]
    # What needs no clock is counted once.
    assert [measurement.job.counts for measurement in found.measurements] == [True] * 3 + [False] * 6


def test_a_drift_of_the_machine_does_not_touch_the_ratios(tiny_model):
    found, _ = profiled(tiny_model, SLOW)
    rows = {row.method: row for row in rows_of(found)}
    slow = rows["slow"]
    assert slow.to_reference.median == slow.to_reference.low == slow.to_reference.high == pytest.approx(3.0)
    assert slow.to_floor.median == pytest.approx(3.75)
    assert slow.to_reference.rounds == 3
    assert rows["lora"].to_reference.median == 1.0
    # It is seen as what it is: noise between the rounds.
    assert noise(found) == pytest.approx(1.0)
    assert any("differs by up to 100.0% between rounds" in remark for remark in remarks(found))


def test_the_order_of_the_methods_does_not_matter(tiny_model):
    one, _ = profiled(tiny_model, SLOW, HEAVY)
    other, _ = profiled(tiny_model, HEAVY, SLOW)
    assert {row.method: row for row in rows_of(one)} == {row.method: row for row in rows_of(other)}


def test_medians_and_percentiles():
    found = timing([[1.0, 2.0, 3.0], [], [5.0, 6.0, 7.0]])
    assert (found.median, found.count, found.rounds) == (4.0, 6, (2.0, 6.0))
    assert (found.p5, found.p95) == (pytest.approx(1.25), pytest.approx(6.75))


def test_rates(tiny_model):
    found, _ = profiled(tiny_model, rounds=1)
    (lora,) = [row for row in rows_of(found) if row.method == "lora"]
    assert lora.seconds(STEP) == pytest.approx(0.04)
    assert lora.rates["step_examples_per_second"] == pytest.approx(4 / 0.04)
    assert lora.rates["step_tokens_per_second"] == pytest.approx(4 * 16 / 0.04)
    assert lora.rates["step_tflops_per_second"] == pytest.approx(0.1)


def test_clips_are_counted_in_frames(tiny_model):
    found, _ = profiled(tiny_model, rounds=1)
    (lora,) = [row for row in rows_of(replace(found, tokens=1, frames=8)) if row.method == "lora"]
    assert lora.rates["step_frames_per_second"] == pytest.approx(4 * 8 / 0.04)
    assert "step_tokens_per_second" not in lora.rates
    assert found.frames == 0


def test_out_of_memory_is_a_row_and_ends_the_subject_at_that_batch(tiny_model):
    found, message = profiled(tiny_model, HEAVY, batches=(4, 8))
    of_heavy = [v for v in found.measurements if v.job.candidate == HEAVY]
    assert [v.job.workload.batch_size for v in of_heavy] == [4, 4, 4, 8]
    rows = {(row.method, row.batch): row for row in rows_of(found)}
    assert rows["heavy", 8].status is Status.OUT_OF_MEMORY
    assert rows["heavy", 4].status is Status.OK
    assert found.failures == {}
    assert profiled(tiny_model, HEAVY, batches=(8,))[0].failures == {"heavy": "too much"}
    assert "heavy, batch 8: out of memory, too much" in remarks(found)
    assert any("heavy: out of memory, too much" in line for line in message)


def test_a_note_common_to_all_is_printed_once(tiny_model):
    def noting(job):
        measurement = drifting(job)
        measurement.notes = ["no joules", *(["cannot be merged"] if job.candidate == SLOW else [])]
        return measurement

    found = remarks(run_profile(request_for(tiny_model, SLOW), lambda text: None, noting))
    assert [line for line in found if "joules" in line or "merged" in line] == ["slow: cannot be merged", "no joules"]


def test_of_several_loras_the_first_is_the_reference(tiny_model):
    loras = [Candidate(f"lora(r={r})", f"lora(r={r})", {"r": r}, f"r={r}", method="lora") for r in (4, 8)]

    def measure(job):
        measurement = drifting(replace(job, candidate=LORA if job.candidate in loras else job.candidate))
        if job.candidate == loras[1]:
            measurement.seconds[STEP] = [2 * seconds for seconds in measurement.seconds[STEP]]
        measurement.job = job
        return measurement

    request = replace(request_for(tiny_model), candidates=(FROZEN_FLOOR, *loras))
    rows = {row.method: row for row in rows_of(run_profile(request, lambda text: None, measure))}
    assert rows["lora(r=8)"].to_reference.median == pytest.approx(2.0)
    assert rows["lora(r=4)"].to_reference.median == 1.0


def test_what_fits_no_budget_is_a_row(tiny_model):
    found, _ = profiled(tiny_model, replace(SLOW, refusal="nothing fits 3"))
    (row,) = [row for row in rows_of(found) if row.method == "slow"]
    assert (row.status, row.reason) == (Status.SKIPPED, "nothing fits 3")


def test_other_batches_are_not_comparison(tiny_model):
    def other(job):
        return replace(drifting(job), batches=job.candidate.name)

    with pytest.raises(RuntimeError, match="lora got other batches"):
        run_profile(request_for(tiny_model), print, other)


def test_a_profile_is_read_as_it_was_written(tiny_model, tmp_path):
    found, _ = profiled(tiny_model, SLOW, HEAVY, batches=(4, 8))
    write_profile(found, tmp_path)
    again = read_profile(tmp_path)
    assert rows_of(again) == rows_of(found)
    assert again.to_json() == found.to_json()
    costs = costs_of(tmp_path)
    assert len(costs) == 8
    slow = costs[(costs["method"] == "slow") & (costs["batch"] == 4)].iloc[0]
    assert slow["step_to_lora"] == pytest.approx(3.0)
    assert slow["adapter_bytes"] == 400
    assert (tmp_path / "profile.csv").read_text().count("\n") == 9
    text = (tmp_path / "profile.md").read_text()
    assert "| slow | r=8 | 4 |" in text
    assert "heavy, batch 8: out of memory" in text


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("{}", "not a profile"),
        ('{"format": 2}', "wrong field"),
        ('{"format": 3}', "wrong field"),
        ('{"format": 2, "visits": 1, "largest": [2]}', "wrong field"),
        ('{"format": 2, "visits": [{"order": 1}, 2]}', "wrong field"),
    ],
)
def test_what_is_not_a_profile_is_a_sentence(tmp_path, text, warning):
    if text is not None:
        (tmp_path / "profile.json").write_text(text)
    with pytest.raises(UserError, match=warning):
        read_profile(tmp_path)


def test_a_file_of_format_2_is_read():
    """It has visits of subjects, each by an order, for measurements of candidates, each by a job."""
    found = read_profile(Path(__file__).with_name("profile_of_format_2.json"))
    assert [candidate.name for candidate in found.candidates] == ["frozen floor", "lora", "vera"]
    _, lora = found.measurements
    # What a setting has by a former name stays.
    assert lora.job.candidate.setting == {"rank": 8, "learning_rate": 0.5, "order": 2}
    assert lora.seconds == {STEP: [0.32]}
    assert found.machine_load[0].busy == 0.0
    assert [(one.candidate.name, one.batch) for one in found.largest] == [("lora", 64)]
    assert [row.method for row in rows_of(found)] == ["frozen floor", "lora"]
    assert json.loads(found.to_json())["format"] == 3


def test_the_tables_have_no_empty_columns(tiny_model):
    training, second, use, memory = profile_tables(profiled(tiny_model, SLOW)[0])
    assert "joules a step" not in second.head
    assert "TFLOP" in second.head
    assert "to floor" in training.head
    assert "prefill" not in use.head
    assert "reserved" not in memory.head
    assert [row[0] for row in training.rows] == ["frozen floor", "lora", "slow"]
    assert training.rows[2][training.head.index("to lora")] == "3.00 (3.00-3.00)"


def test_an_accelerator_s_memory_is_shown_by_phase(tiny_model):
    def on_device(job):
        measurement = drifting(job)
        measurement.memory = {BACKWARD: PhaseMemory(1 << 20, 3 << 20, (4 + job.round) << 20)}
        measurement.joules = 2.0 + job.round
        return measurement

    found = run_profile(request_for(tiny_model), lambda text: None, on_device)
    second, by_phase = profile_tables(found)[1], profile_tables(found)[-1]
    assert by_phase.head == ("method", "size", BACKWARD)
    assert by_phase.rows[1] == ("lora", "r=8", "3.0 / 6.0")
    assert second.rows[1][second.head.index("joules a step")] == "3.00"
    assert rows_of(found)[1].peak_device == 6 << 20


def test_curves(tiny_model, tmp_path):
    write_curves(profiled(tiny_model, HEAVY, batches=(2, 4, 8))[0], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_company_on_the_device_is_refused_unless_forced(tiny_model, looks):
    looks[0] = MachineLoad(0.0, (0.0, 0.0, 0.0), (77,))
    with pytest.raises(UserError, match=r"other processes compute on the device \(77\).*give --force"):
        profiled(tiny_model)
    found, message = profiled(tiny_model, force=True)
    assert found.warning in remarks(found)
    assert len([line for line in message if line.startswith("WARNING: other processes")]) == 1


def test_a_busy_machine_causes_a_warning_and_is_measured(tiny_model, looks):
    looks[0] = MachineLoad(0.9, (2.0, 2.0, 2.0))
    found, message = profiled(tiny_model)
    assert message[0].startswith("WARNING: the machine is not idle: 90% of its")
    assert rows_of(found)


@pytest.mark.parametrize(("most", "found"), [(37, 37), (1, 1), (0, 0), (64, 64)])
def test_the_largest_batch_is_found_by_bisection(tiny_model, most, found):
    def measure(job):
        fits = job.workload.batch_size <= most
        return Measurement(job, Status.OK) if fits else Measurement(job, Status.OUT_OF_MEMORY, "too much")

    largest = largest_batch(request_for(tiny_model), LORA, measure)
    assert (largest.batch, largest.failed, largest.reason) == (found, found + 1, "too much")
    assert dict(largest.tried) == {batch: batch <= most for batch, _ in largest.tried}
    assert len(largest.tried) <= 2 * 8


def test_all_that_is_tried_may_fit(tiny_model):
    largest = largest_batch(request_for(tiny_model), LORA, lambda job: Measurement(job, Status.OK), most=16)
    assert (largest.batch, largest.failed) == (16, None)


def test_what_cannot_train_has_no_largest_batch(tiny_model):
    with pytest.raises(UserError, match="lora cannot train on 1 examples: broken"):
        largest_batch(request_for(tiny_model), LORA, lambda job: Measurement(job, Status.ERROR, "broken"))


def test_the_largest_batches_are_searched_of_those_that_can_be_visited(tiny_model):
    def bounded(job):
        fits = job.workload.batch_size <= 10
        return drifting(job) if fits else Measurement(job, Status.OUT_OF_MEMORY, "too much")

    request = request_for(tiny_model, HEAVY, replace(SLOW, refusal="nothing fits"), batches=(8,), rounds=1)
    found = run_profile(request, lambda text: None, bounded, find_largest=True)
    assert {one.candidate.name: one.batch for one in found.largest} == {"frozen floor": 10, "lora": 10, "heavy": 4}
    assert profile_tables(found)[-1].rows == (("frozen floor", "10", "11"), ("lora", "10", "11"), ("heavy", "4", "5"))
