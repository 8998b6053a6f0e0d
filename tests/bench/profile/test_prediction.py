"""Predicted memory beside what is counted and measured on a real model."""

import gc
from dataclasses import replace

import psutil
import pytest
import torch
from torch import nn
from transformers import MixtralConfig

from parbench.bench.profile.build import CallbackDriver, build
from parbench.bench.profile.inputs import make_batches, on_device
from parbench.bench.profile.live_bytes import LiveBytes
from parbench.bench.profile.measure import measure
from parbench.bench.profile.prediction import CannotPredictError, predict_memory, predicted_or_why
from parbench.bench.profile.process import measure_in_subprocess
from parbench.bench.profile.training import Stepper
from parbench.bench.profile.workload import FROZEN_FLOOR, Candidate, MeasurementJob, Repetitions, Workload
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.expression import default_setting
from tests.support.tiny_vlm import vlm_folder

CPU = torch.device("cpu")
TRAINING = Repetitions(steps=1, warm_up=1, parts=("training",))
METHODS = ("lora", "dora", "loca(n_frequency=40)", "fourierft(n_frequency=40)", "vera", "replora", "adalora", "bitfit",
           "full", "linear_probe", "lora+qv_ratio(4)")  # fmt: skip


def candidate(expression):
    choice = find_method(expression)
    return Candidate.of(expression, choice.method, default_setting(choice))


@pytest.fixture
def work(tiny_model):
    return Workload(str(tiny_model), 8, 24, "cpu")


@pytest.mark.parametrize("expression", METHODS)
def test_the_parts_are_those_of_a_real_step(work, expression):
    """All but the activations to the byte: they are counted from the tensors of a model with weights."""
    real = measure(MeasurementJob(candidate(expression), work, TRAINING), CPU)
    assert real.status is Status.OK, real.reason
    found = predict_memory(candidate(expression), work).parts
    for part in ("weights", "adapter", "head", "gradients"):
        assert getattr(found, part) == getattr(real.breakdown, part), part
    # AdamW counts its steps as well: a number for each tensor.
    assert 0 <= real.breakdown.optimiser - found.optimiser <= 4 * 200
    # The profiler counts what autograd saves; alive are also the outputs themselves.
    assert real.breakdown.activations == pytest.approx(found.activations, rel=0.1, abs=20_000)


def test_the_workload_of_a_training_has_its_precision_and_checkpointing():
    training = {"batch_size": 4, "max_length": 24, "precision": "bfloat16", "gradient_checkpointing": True}
    found = Workload.of_training("m", training, "nf4")
    assert found == Workload("m", 4, 24, "cpu", "nf4", precision="bfloat16", gradient_checkpointing=True)
    # What an older record lacks is as by default; what is asked for comes first.
    older = Workload.of_training("m", {"max_length": 24}, "float32", batch_size=2, length=8)
    assert older == Workload("m", 2, 8, "cpu", precision="float32")
    assert Workload.of_training("m", {}, "bfloat16").forward_precision == "float32"
    assert Workload("m", 4, 24, "cpu", "bfloat16").forward_precision == "bfloat16"


@pytest.mark.parametrize(
    "how",
    [{"precision": "bfloat16"}, {"dtype": "bfloat16", "precision": "float32"}, {"gradient_checkpointing": True}],
    ids=str,
)
@pytest.mark.parametrize("expression", ["lora", "loca(n_frequency=40)", "full"])
def test_so_they_are_in_16_bits_and_with_checkpointing(work, expression, how):
    changed = replace(work, **how)
    real = measure(MeasurementJob(candidate(expression), changed, TRAINING), CPU)
    assert real.status is Status.OK, real.reason
    found, plain = predict_memory(candidate(expression), changed), predict_memory(candidate(expression), work)
    for part in ("weights", "adapter", "head", "gradients"):
        assert getattr(found.parts, part) == getattr(real.breakdown, part), part
    assert real.breakdown.activations == pytest.approx(found.parts.activations, rel=0.15, abs=30_000)
    # Autocast alone leaves the weights as they are.
    assert (found.parts.weights < plain.parts.weights) == ("dtype" in how and expression != "full")
    assert found.step < plain.step or (expression == "full" and "dtype" in how)


@pytest.mark.parametrize("expression", ["lora", "dora", "loca(n_frequency=40)", "bitfit"])
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_the_parts_are_those_of_a_real_step_on_quantised_weights(tiny_model, expression, precision):
    """Scales, and scales of scales, included; what is alive while the weights are quantised is that of float32."""
    pytest.importorskip("bitsandbytes")
    work = Workload(str(tiny_model), 8, 24, "cpu", precision)
    real = measure(MeasurementJob(candidate(expression), work, TRAINING), CPU)
    assert real.status is Status.OK, real.reason
    found = predict_memory(candidate(expression), work)
    for part in ("weights", "adapter", "head", "gradients"):
        assert getattr(found.parts, part) == getattr(real.breakdown, part), part
    assert real.breakdown.activations == pytest.approx(found.parts.activations, rel=0.15, abs=40_000)
    in_full = predict_memory(candidate(expression), Workload(str(tiny_model), 8, 24, "cpu"))
    assert found.parts.weights < in_full.parts.weights
    assert found.load >= in_full.parts.weights


@pytest.mark.parametrize("expression", ["lora", "loca(n_frequency=40)", "linear_probe"])
def test_the_parts_are_those_of_a_real_step_of_a_model_that_sees_images(tmp_path, expression):
    work = Workload(str(vlm_folder(tmp_path / "vlm")), 3, 24, "cpu")
    real = measure(MeasurementJob(candidate(expression), work, TRAINING), CPU)
    assert real.status is Status.OK, real.reason
    found = predict_memory(candidate(expression), work).parts
    for part in ("weights", "adapter", "head", "gradients"):
        assert getattr(found, part) == getattr(real.breakdown, part), part
    assert real.breakdown.activations == pytest.approx(found.activations, rel=0.1, abs=20_000)


def test_whatever_else_computes_with_data_is_not_predicted(work, monkeypatch):
    """Only the check of the places of images is trusted: the answer to another question is not known."""
    asked = nn.Linear.forward

    def forward(self, x):
        return asked(self, x) if bool(x.sum() > 0) else x

    monkeypatch.setattr(nn.Linear, "forward", forward)
    with pytest.raises(CannotPredictError, match="_local_scalar_dense"):
        predict_memory(candidate("lora"), work)


def real_peak(job, tmp_path):
    """Return the peak of the tensors' bytes in a step of a real model, by torch's own tracker."""
    from torch.distributed._tools.mem_tracker import MemTracker

    adapted = build(job, CPU)
    optimiser = adapted.optimiser()
    stepper = Stepper(adapted, optimiser, CallbackDriver(adapted, optimiser, job.workload.at, tmp_path), "float32")
    adapted.model.train()
    (batch,) = on_device(make_batches(adapted.config, adapted.kind, job.workload, 1), CPU)
    del batch["attention_mask"]
    stepper.forward(batch).backward()
    stepper.step()
    tracker = MemTracker()
    tracker.track_external(adapted.model, optimiser, *batch.values())
    with tracker:
        stepper.forward(batch).backward()
        stepper.step()
    return tracker.get_tracker_snapshot("peak")[CPU]["Total"]


@pytest.mark.parametrize("batch", [4, 16])
def test_the_peak_is_that_of_torchs_own_tracker(tiny_model, tmp_path, batch):
    """Of full fine-tuning: the tracker does not take parameters that are frozen."""
    job = MeasurementJob(candidate("full"), Workload(str(tiny_model), batch, 24, "cpu"), TRAINING)
    assert predict_memory(job.candidate, job.workload).step == pytest.approx(real_peak(job, tmp_path), rel=0.03)


def experts_folder(folder):
    config = MixtralConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=300,
        num_local_experts=4,
        architectures=["MixtralForCausalLM"],
    )
    config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("expression", ["lora", "full"])
def test_the_parts_are_those_of_a_real_step_of_a_mixture_of_experts(tmp_path, expression, capfd):
    """torch knows the shape of products in groups in bfloat16 alone, and computes them in float32 as well."""
    work = Workload(str(experts_folder(tmp_path / "experts")), 4, 24, "cpu")
    real = measure(MeasurementJob(candidate(expression), work, TRAINING), CPU)
    assert real.status is Status.OK, real.reason
    found = predict_memory(candidate(expression), work)
    for part in ("weights", "adapter", "head", "gradients"):
        assert getattr(found.parts, part) == getattr(real.breakdown, part), part
    assert real.breakdown.activations == pytest.approx(found.parts.activations, rel=0.1, abs=20_000)
    if expression == "full":
        assert found.step == pytest.approx(real_peak(MeasurementJob(candidate("full"), work), tmp_path), rel=0.03)
    assert "Traceback" not in capfd.readouterr().err


def test_an_operation_without_a_result_leaves_no_stack_on_stderr(work, monkeypatch, capfd):
    """As torch logs it where it knows no shape of a result."""
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: torch.linalg.eig(x[0, 0]))
    assert isinstance(predicted_or_why(candidate("lora"), work), str)
    assert "Traceback" not in capfd.readouterr().err


def test_activations_grow_with_batch_and_length(work, tiny_model):
    def activations(batch, length):
        return predict_memory(candidate("lora"), Workload(str(tiny_model), batch, length, "cpu")).parts.activations

    small = activations(8, 16)
    assert activations(16, 16) == pytest.approx(2 * small, rel=0.02)
    # Attention's scores grow with the square.
    assert activations(8, 32) > 2 * small


def test_padding_is_no_obstacle(tiny_model):
    padded = predict_memory(candidate("lora"), Workload(str(tiny_model), 8, 24, "cpu", padding=0.2))
    assert padded.step >= predict_memory(candidate("lora"), Workload(str(tiny_model), 8, 24, "cpu")).step


def test_the_frozen_floor_has_no_gradients(work):
    found = predict_memory(FROZEN_FLOOR, work)
    assert found.parts.gradients == found.parts.optimiser == found.parts.adapter == 0
    assert found.parts.activations > 0


def test_seven_billion_weights_take_no_memory_to_predict():
    """LLaMA-7B has 6,738,415,616 parameters (Touvron et al., 2023, and its checkpoint's index)."""
    before = psutil.Process().memory_info().rss
    found = predict_memory(candidate("lora"), Workload("llama-7b", 1, 16, "cpu", "bfloat16"))
    gc.collect()
    assert found.parts.weights == pytest.approx(2 * 6_738_415_616, rel=1e-4)
    assert psutil.Process().memory_info().rss - before < 500 * 2**20


def test_what_cannot_be_predicted_is_one_sentence(work):
    with pytest.raises(CannotPredictError, match=r"^the memory of lora on .*tiny-bert: "):
        predict_memory(Candidate("lora", "lora", {"target_modules": ["nowhere"]}, method="lora"), work)
    with pytest.raises(UserError, match="there is no base model"):
        predict_memory(candidate("lora"), Workload("nobody", 8, 24, "cpu"))
    assert "there is no method" in predicted_or_why(Candidate("lara", "lara", {}, method="lara"), work)
    assert "rr" in predicted_or_why(Candidate("lora", "lora", {"rr": 8}, method="lora"), work)


def test_alive_are_storages_and_not_views():
    with LiveBytes() as live:
        a = torch.zeros(100)
        view = a[10:].view(9, 10)
        assert live.now == 400
        b = a + 1
        assert live.now == 800
        del a
        assert live.now == 800  # the view keeps it
        del view
        assert (live.now, live.peak) == (400, 800)
        live.restart()
        assert live.peak == 400
        b.add_(1)
        assert live.peak == 400
    with pytest.raises(NotImplementedError, match="sparse"):
        live.add(torch.eye(3).to_sparse())


def test_places_of_recorded_tensors_are_kept_until_the_graph_is_gone():
    """Of those that autograd records, and of no others, what comes and goes leaves holes."""

    def taken(requires_grad):
        weight = torch.ones(100, requires_grad=requires_grad)
        with LiveBytes() as live:
            with live.recording():
                kept = [(weight * number).exp() for number in range(50)]
            del kept
            before = live.heap.size
            live.restart()
        return before

    assert taken(requires_grad=True) > taken(requires_grad=False)


def test_alive_in_a_backward_pass():
    """By hand: relu(x W) keeps its own result alone, and the backward pass leaves the gradient of W."""
    layer = nn.Linear(100, 50, bias=False)
    with LiveBytes() as live:
        x = torch.ones(10, 100)
        before = live.now
        y = torch.relu(layer(x))
        kept = live.now - before
        assert kept == 10 * 50 * 4 + 100 * 50 * 4  # W is first seen in its transpose
        y.sum().backward()
        assert layer.weight.grad.untyped_storage().nbytes() == 100 * 50 * 4
        assert live.now == before + kept + 100 * 50 * 4


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["lora@minilm-l6", "full@minilm-l6", "linear_probe@minilm-l6"])
def test_the_process_takes_what_was_predicted(pair):
    """Of the resident memory above the start-up, sampled from outside, which varies by 8 % itself."""
    name, _, model = pair.partition("@")
    work = Workload(model, 16, 64, "cpu")
    found = measure_in_subprocess(MeasurementJob(candidate(name), work, TRAINING, counts=False))
    assert found.status is Status.OK, found.reason
    assert predict_memory(candidate(name), work).process == pytest.approx(found.peak_process - found.start, rel=0.15)
