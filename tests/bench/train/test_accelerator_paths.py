"""Behaviour on an accelerator, as far as it can be tested without one."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from parbench.bench.profile import clock, training
from parbench.bench.profile.build import CallbackDriver, build
from parbench.bench.profile.clock import Recorder
from parbench.bench.profile.inputs import make_batches
from parbench.bench.profile.measure import measure
from parbench.bench.profile.measurement import BACKWARD, EVALUATION, FORWARD, INFERENCE, MERGE, MERGED, OPTIMISER, STEP
from parbench.bench.profile.workload import Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.run import memory
from parbench.bench.train.train import keep_to
from parbench.bench.util import environment
from parbench.bench.util.errors import UserError
from parbench.methods import find_method

CPU = torch.device("cpu")


def job_for(model, expression="lora", dtype="float32", **changes):
    choice = find_method(expression)
    candidate = Candidate.of(expression, choice.method, choice.method.setting_type(**choice.values))
    workload = Workload(str(model), 3, 16, "cpu", dtype)
    return MeasurementJob(candidate, workload, Repetitions(steps=2, warm_up=1), **changes)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A classifier whose head has two layers."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
    )
    folder = tmp_path_factory.mktemp("models") / "roberta"
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def two_devices(monkeypatch):
    """Stands for a machine with two accelerators."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("wanted", "device"), [(None, "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_an_accelerator_is_one_by_its_number(two_devices, wanted, device):
    assert environment.choose_device(wanted) == torch.device(device)


def test_an_accelerator_that_is_not_there_is_refused(two_devices):
    with pytest.raises(UserError, match='there is no device "cuda:2" here'):
        environment.choose_device("cuda:2")


@pytest.mark.parametrize(("name", "number"), [("cuda", 0), ("cuda:1", 1)])
def test_the_trainer_keeps_to_one_accelerator(monkeypatch, two_devices, tmp_path, name, number):
    from transformers import TrainingArguments

    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    keep_to(torch.device(name), arguments)
    assert chosen == [number]
    assert (arguments.device, arguments.n_gpu) == (torch.device("cuda", number), 1)
    assert arguments.train_batch_size == arguments.per_device_train_batch_size


def test_what_earlier_runs_left_in_cycles_is_given_back_before_the_next(monkeypatch):
    class Left:
        pass

    def leave():
        left = Left()
        left.itself = left
        return weakref.ref(left)

    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(left() is None))
    gc.disable()
    try:
        left = leave()
        memory.free_device(CPU)
        assert left() is not None
        memory.free_device(torch.device("cuda"))
    finally:
        gc.enable()
    assert emptied == [True]


class Accelerator:
    """Stands for torch's functions on a device; notes what is asked."""

    def __init__(self, monkeypatch):
        self.calls = []
        for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda *arguments, name=name: self.calls.append(name))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 100 * len(self.calls))
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 200 * len(self.calls))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
        monkeypatch.setattr(torch.cuda, "Event", self.event)

    def event(self, enable_timing):
        assert enable_timing
        self.calls.append("event")
        at = 10.0 * self.calls.count("event")
        record = SimpleNamespace(at=at, record=lambda stream: None)
        record.elapsed_time = lambda other: other.at - at
        return record


def test_a_phase_starts_with_nothing_but_what_is_in_use(monkeypatch):
    device = Accelerator(monkeypatch)
    recorder = Recorder(torch.device("cuda"))
    with recorder.phase("a"):
        device.calls.append("work")
    assert device.calls == ["synchronize", "empty_cache", "reset_peak_memory_stats", "work", "synchronize"]
    (span,) = recorder.spans
    assert (span.allocated, span.reserved) == (500, 1000)


def test_steps_are_timed_by_events_alone_and_peaks_are_of_each_phase(monkeypatch, tiny_model, tmp_path):
    device = Accelerator(monkeypatch)
    monkeypatch.setattr(training, "on_device", lambda batches, device: batches)
    monkeypatch.setattr(training, "obstacle", lambda device: "none is told")
    job = job_for(tiny_model)
    adapted = build(job, CPU)
    optimiser = adapted.optimiser()
    stepper = training.Stepper(adapted, optimiser, CallbackDriver(adapted, optimiser, 0.4, tmp_path), "float32")
    recorder = Recorder(torch.device("cuda"))
    batches = make_batches(adapted.config, adapted.kind, job.workload, 2)
    assert training.measure_training(stepper, batches, recorder, job) is None
    # One warm-up step, and two that count, of four events each: nothing else happens between them.
    timed = device.calls.index("synchronize", device.calls.index("event"))
    assert device.calls[timed + 1 : timed + 10] == ["event"] * 8 + ["synchronize"]
    assert recorder.seconds == {FORWARD: [0.01] * 2, BACKWARD: [0.01] * 2, OPTIMISER: [0.01] * 2, STEP: [0.03] * 2}
    phases = [span.phase for span in recorder.spans]
    assert phases == ["warm-up", FORWARD, BACKWARD, OPTIMISER, STEP]
    assert all(span.reserved == 2 * span.allocated for span in recorder.spans)


def test_energy_is_measured_over_long_enough_and_reported_per_step(monkeypatch):
    """The counter is read around as many steps as take two seconds, whatever was timed."""
    Accelerator(monkeypatch)
    taken = []

    class Meter:
        joules = 50.0

        def __init__(self, device):
            assert device.type == "cuda"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(training, "Meter", Meter)
    monkeypatch.setattr(training, "obstacle", lambda device: None)
    monkeypatch.setattr(training, "_timed", lambda stepper, batches, recorder, count: taken.append(count))
    recorder = Recorder(torch.device("cuda"))
    assert training._joules(None, [], recorder, [0.02, 0.021, 0.5]) == pytest.approx(50 / 96)
    assert training._joules(None, [], recorder, [3.0]) == 50.0
    assert taken == [96, 1]
    assert training._joules(None, [], recorder, []) is None
    assert training._joules(None, [], Recorder(CPU), [0.02]) is None
    monkeypatch.setattr(training, "obstacle", lambda device: "the driver does not tell")
    assert training._joules(None, [], recorder, [0.02]) is None


def test_events_are_of_the_device_that_is_measured(monkeypatch):
    asked = []
    Accelerator(monkeypatch)
    monkeypatch.setattr(torch.cuda, "current_stream", asked.append)
    clock.Clock(torch.device("cuda:1")).mark()
    assert asked == [torch.device("cuda:1")]


@pytest.mark.parametrize("method", ["lora", "full", "bitfit", "linear_probe", "ln_tuning", "loca(n_frequency=20)"])
def test_whatever_is_optimised_has_32_bits(roberta, method):
    job = job_for(roberta, method, dtype="bfloat16")
    adapted = build(job, CPU)
    assert {parameter.dtype for parameter in adapted.optimised} == {torch.float32}
    frozen = {name: p.dtype for name, p in adapted.model.named_parameters() if p.ndim == 2 and not p.requires_grad}
    # The head is made in 32 bits, and peft keeps it beside the one that is trained.
    assert {name for name, dtype in frozen.items() if dtype == torch.float32} == {
        name for name in frozen if "classifier.original_module" in name
    }
    assert set(frozen.values()) <= {torch.bfloat16, torch.float32}
    measurement = measure(job, CPU)
    assert measurement.status is Status.OK, measurement.reason


@pytest.mark.parametrize("method", ["lora", "loca(n_frequency=20)", "fourierft(n_frequency=20)", "replora", "vera"])
def test_a_model_with_a_head_of_several_layers_is_merged(roberta, method):
    measurement = measure(job_for(roberta, method), CPU)
    assert measurement.status is Status.OK, measurement.reason
    assert not measurement.notes
    assert len(measurement.seconds[MERGE]) == 1
    # Warm-ups are in none of them.
    assert {phase: len(measurement.seconds[phase]) for phase in (EVALUATION, INFERENCE, MERGED)} == {
        EVALUATION: 2,
        INFERENCE: 2,
        MERGED: 2,
    }


def test_a_merged_model_keeps_its_trained_head(roberta):
    from parbench.bench.profile.inference import merge

    job = job_for(roberta, "loca(n_frequency=20)")
    adapted = build(job, CPU)
    (batch,) = make_batches(adapted.config, adapted.kind, job.workload, 1)
    labels = batch.pop("labels")
    with torch.no_grad():
        for parameter in adapted.optimised:
            parameter.add_(0.05 * torch.randn_like(parameter))
        adapted.model.eval()
        before = adapted.model(**batch).logits
        after = merge(adapted, Recorder(CPU), job)(**batch).logits
    assert len(before) == len(labels)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_want_of_memory_that_torch_has_no_class_for_is_one_too(monkeypatch, tiny_model, error):
    def measure_training(*arguments):
        raise error

    monkeypatch.setattr(training, "measure_training", measure_training)
    measurement = measure(replace(job_for(tiny_model), counts=False), CPU)
    assert measurement.status is Status.OUT_OF_MEMORY
    assert str(error) in measurement.reason
