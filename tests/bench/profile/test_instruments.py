"""What the profiler feeds, counts and reads: inputs, operations, bytes, clocks, energy and other processes."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification

from parbench.bench.profile import energy, machine_load
from parbench.bench.profile.build import BuiltCandidate
from parbench.bench.profile.clock import Clock, Recorder
from parbench.bench.profile.energy import Meter, other_processes
from parbench.bench.profile.flops import breakdown, count_flops, saved_tensors
from parbench.bench.profile.inputs import checksum, make_batches
from parbench.bench.profile.machine_load import MachineLoad
from parbench.bench.profile.process import MemorySampler
from parbench.bench.profile.workload import (
    ModelUse,
    Workload,
)
from parbench.methods.base import ParameterGroup
from parbench.tasks.inference import IGNORED

CPU = torch.device("cpu")
TEXT = ModelUse("AutoModelForSequenceClassification", "text", generates=False)
CAUSAL = ModelUse("AutoModelForCausalLM", "text", generates=True)


class TestInputs:
    config = type("Config", (), {"vocab_size": 1000, "pad_token_id": 0, "eos_token_id": 2, "num_labels": 3})
    config.get_text_config = classmethod(lambda cls: cls)
    work = Workload("none", 16, 128, "cpu")

    def test_words_are_as_frequent_as_in_text(self):
        (batch,) = make_batches(self.config, TEXT, replace(self.work, batch_size=64), 1)
        counts = np.sort(np.bincount(batch["input_ids"].numpy().ravel(), minlength=1000))[::-1]
        expected = 1 / (np.arange(998) + 2.7)
        expected *= batch["input_ids"].numel() / expected.sum()
        assert counts[:10].sum() == pytest.approx(expected[:10].sum(), rel=0.1)
        assert counts[100:].sum() == pytest.approx(expected[100:].sum(), rel=0.1)

    def test_no_token_is_special_and_none_is_hidden_unless_asked(self):
        (batch,) = make_batches(self.config, TEXT, self.work, 1)
        assert not np.isin(batch["input_ids"].numpy(), [0, 2]).any()
        assert batch["attention_mask"].all()
        assert set(batch["labels"].tolist()) <= {0, 1, 2}

    def test_padding_is_the_share_asked_for_and_no_label(self):
        (batch,) = make_batches(self.config, CAUSAL, replace(self.work, batch_size=400, padding=0.25), 1)
        hidden = batch["attention_mask"] == 0
        assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.02)
        assert (batch["labels"][hidden] == IGNORED).all()
        assert (batch["labels"][~hidden] == batch["input_ids"][~hidden]).all()

    def test_images_fill_the_range_of_normalised_ones(self):
        config = type("Config", (), {"image_size": 8, "num_channels": 3, "num_labels": 2})
        (batch,) = make_batches(config, ModelUse("", "image", generates=False), self.work, 1)
        assert batch["pixel_values"].shape == (16, 3, 8, 8)
        assert -1 <= batch["pixel_values"].min() < -0.9
        assert 0.9 < batch["pixel_values"].max() <= 1

    def test_clips_have_the_frames_of_the_model(self):
        config = type("Config", (), {"image_size": 8, "num_channels": 3, "num_labels": 2, "num_frames": 5})
        (batch,) = make_batches(config, ModelUse("", "video", generates=False), self.work, 1)
        assert batch["pixel_values"].shape == (16, 5, 3, 8, 8)

    def test_everyone_gets_the_same_and_batches_differ(self):
        two = make_batches(self.config, TEXT, self.work, 2)
        assert checksum(two) == checksum(make_batches(self.config, TEXT, self.work, 2))
        assert checksum(two[:1]) != checksum(two[1:])
        assert checksum(two) != checksum(make_batches(self.config, TEXT, replace(self.work, seed=1), 2))


class TestCounts:
    """One LoRA layer, counted by hand: x of n rows, W of (out, in) frozen, B A of rank r."""

    n, inputs, out, r = 7, 40, 24, 4

    @pytest.fixture
    def layer(self):
        base = nn.Sequential(nn.Linear(self.inputs, self.out, bias=False))
        return get_peft_model(base, LoraConfig(r=self.r, target_modules=["0"], init_lora_weights=False))

    @pytest.fixture
    def x(self):
        return torch.randn(self.n, self.inputs, requires_grad=True)

    def test_operations(self, layer, x):
        base = 2 * self.n * self.inputs * self.out
        low_rank = 2 * self.n * self.r * (self.inputs + self.out)
        found = []
        assert count_flops(lambda: found.append(layer(x).sum())) == base + low_rank
        # The gradient of x through all three, and of A and B; none of W, which is frozen.
        assert count_flops(lambda: found[0].backward()) == base + 2 * low_rank

    @pytest.mark.parametrize("key_heads", [4, 2])
    def test_operations_of_attention_are_those_of_its_products(self, key_heads):
        """By torch's fused kernel, and by the products that it stands for."""
        queries = torch.randn(2, 4, 6, 8, requires_grad=True)
        keys, values = (torch.randn(2, key_heads, 10, 8, requires_grad=True) for _ in range(2))
        found = []

        def fused():
            grouped = {"enable_gqa": True} if key_heads < 4 else {}
            found.append(nn.functional.scaled_dot_product_attention(queries, keys, values, **grouped).sum())

        def by_products():
            each, times = 4 // key_heads, keys.repeat_interleave(4 // key_heads, dim=1)
            (queries @ times.transpose(2, 3)).softmax(dim=-1) @ values.repeat_interleave(each, dim=1)

        products = count_flops(by_products)
        assert count_flops(fused) == products == 2 * (2 * 2 * 4 * 6 * 10 * 8)
        # The gradients of both factors of both products, and the scores again.
        assert count_flops(lambda: found[0].backward()) == pytest.approx(2.5 * products)

    def test_operations_of_a_model_do_not_depend_on_its_kernels(self, tiny_model):
        tokens = torch.ones(3, 16, dtype=torch.long)
        models = [
            AutoModelForSequenceClassification.from_pretrained(tiny_model, attn_implementation=kernels).eval()
            for kernels in ("eager", "sdpa")
        ]
        eager, fused = (count_flops(lambda model=model: model(input_ids=tokens)) for model in models)
        assert eager == fused

    def test_kept_for_the_backward_pass(self, layer, x):
        with saved_tensors(layer) as kept:
            layer(x)
        # x for the gradient of A, and A x for that of B; the weights are the model's own.
        assert kept.bytes == 4 * self.n * (self.inputs + self.r)

    def test_bytes_of_a_step(self, layer, x):
        optimised = [p for p in layer.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(optimised)
        for _ in range(2):
            layer(x).sum().backward()
            optimiser.step()
        adapted = BuiltCandidate(
            layer, None, TEXT, [ParameterGroup("adapter", optimised, 1e-3)], [], None, mergeable=True
        )
        found = breakdown(adapted, optimiser, activations=None)
        numbers = self.r * (self.inputs + self.out)
        assert found.weights == 4 * self.inputs * self.out
        assert found.adapter == found.gradients == 4 * numbers
        # Two moments of each number, and a step count of each tensor.
        assert found.optimiser == 2 * 4 * numbers + 2 * 4
        assert found.head == 0


def test_a_sampler_sees_what_a_process_holds_and_ends_it_beyond_the_limit():
    import subprocess
    import sys

    code = "import time; block = bytearray(200 << 20); time.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", code])
    sampler = MemorySampler(process.pid, limit=100 << 20)
    process.wait(timeout=30)
    sampler.stop()
    assert process.returncode == -9
    assert 100 << 20 < sampler.over < 250 << 20
    assert sampler.peak(0.0, time.monotonic()) == sampler.over
    assert sampler.peak(time.monotonic(), time.monotonic() + 1) == 0


def test_phases_are_on_the_clock_of_the_machine():
    recorder = Recorder(CPU)
    before = time.monotonic()
    with recorder.phase("a", timed=True):
        time.sleep(0.02)
    with pytest.raises(MemoryError), recorder.phase("b"):
        raise MemoryError
    one, other = recorder.spans
    assert before <= one.begin <= one.end - 0.02 <= other.begin <= time.monotonic()
    assert recorder.seconds.keys() == {"a"}
    assert one.resident > 10**7
    assert one.reserved is None


class _Event:
    def __init__(self, at):
        self.at = at

    def elapsed_time(self, other):
        return other.at - self.at


def test_events_count_milliseconds_and_marks_seconds():
    assert Clock.between([_Event(0.0), _Event(500.0), _Event(2000.0)]) == [0.5, 1.5]
    assert Clock.between([1.0, 1.5, 3.0]) == [0.5, 1.5]


class _Nvml:
    NVMLError = RuntimeError

    def __init__(self):
        self.millijoules = 1000
        self.asked = []

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802 - the driver's name
        self.asked.append(index)

    def nvmlDeviceGetHandleByUUID(self, name):  # noqa: N802 - the driver's name
        self.asked.append(name)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802 - the driver's name
        self.millijoules += 2500
        return self.millijoules

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802 - the driver's name
        return [type("Process", (), {"pid": 77})]


@pytest.mark.parametrize(("visible", "name"), [(None, 1), ("3,GPU-abc", "GPU-abc"), ("3,5", 5)])
def test_energy_and_company_are_asked_of_the_device_that_is_used(monkeypatch, visible, name):
    nvml = _Nvml()
    monkeypatch.setattr(energy, "_nvml", lambda: nvml)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with Meter(torch.device("cuda:1")) as meter:
        pass
    assert meter.joules == 2.5
    assert other_processes(torch.device("cuda:1")) == [77]
    assert set(nvml.asked) == {name}


def test_a_cpu_has_no_meter_and_lacks_none():
    with Meter(CPU) as meter:
        pass
    assert meter.joules is None
    assert energy.obstacle(CPU) is None


def test_what_energy_lacks_is_a_sentence(monkeypatch):
    nvml, device = _Nvml(), torch.device("cuda")
    monkeypatch.setattr(energy, "_nvml", lambda: nvml)
    assert energy.obstacle(device) is None
    monkeypatch.setattr(energy, "_nvml", lambda: None)
    monkeypatch.setattr(energy, "find_spec", lambda name: object())
    assert energy.obstacle(device) == "no joules: the driver does not report the energy of this device"
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert energy.obstacle(device).endswith('install it with: pip install "parbench[energy]"')


def test_who_disturbs_is_named(monkeypatch):
    assert MachineLoad(0.02, (0.1, 0.1, 0.1)).warning == ""
    assert "57% of its" in MachineLoad(0.57, (3.0, 0.1, 0.1)).warning
    assert "(12, 77)" in MachineLoad(0.0, (0.0, 0.0, 0.0), (12, 77)).warning
    monkeypatch.setattr(machine_load, "other_processes", lambda device: [77])
    monkeypatch.setattr(machine_load, "LOOK_SECONDS", 0.01)
    assert machine_load.sample_machine_load(torch.device("cuda")).others == (77,)
    assert machine_load.sample_machine_load(CPU).others is None
