"""Our own layers on a CUDA device: as on the CPU, without waiting for it, and the same each time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from peft import FourierFTConfig, LoraConfig, PeftConfig, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from parbench.methods.fourierft_fast import compute_fast
from parbench.methods.loca import LocaConfig, LocaLayer
from parbench.methods.loca.basis import CosineBasis
from parbench.methods.lora_gen import LoraGen, LoraGenConfig
from parbench.methods.replora import RepLoraConfig
from parbench.methods.spectral.spectrum import SparseSpectrum
from tests.perf import loca_benchmark
from tests.support.loca_reference import DenseLinear, RankProductLinear, use_reference
from tests.support.passes import assert_same_passes
from tests.support.tiny_llama import tiny_llama

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

GPU = "cuda"
TARGETS = ["query", "value"]
# More coefficients than gathered rows pay for, and fewer.
COUNTS = (300, 40)


def stack(config: PeftConfig, dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
    """Return an adapted stack of blocks without dropout."""
    torch.manual_seed(0)
    base = BertModel(
        BertConfig(
            vocab_size=8,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )
    return get_peft_model(base.to(dtype), config).to(device)


def loca(count: int = COUNTS[0], **options: object) -> LocaConfig:
    return LocaConfig(
        n_frequency=count, target_modules=TARGETS, init_weights=False, location_seed=0, alpha=20.0, **options
    )


def passed(model: nn.Module, dtype: torch.dtype, autocast: bool) -> dict[str, Tensor]:
    """Return outputs and gradients, on the CPU."""
    device = next(model.parameters()).device
    # Not the square of what a norm gives, which is the same for all inputs.
    x, weights = (torch.randn(3, 16, 64, generator=torch.Generator().manual_seed(seed)).to(device) for seed in (1, 2))
    x = x.to(dtype).requires_grad_()
    model.zero_grad()
    with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
        outputs = model(inputs_embeds=x).last_hidden_state
    (outputs.float() * weights).mean().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: tensor.detach().float().cpu() for name, tensor in {"outputs": outputs, "x": x.grad, **found}.items()}


@pytest.mark.parametrize("count", COUNTS)
def test_loca_is_on_the_device_what_it_is_on_the_cpu(count: int) -> None:
    expected = passed(stack(loca(count)), torch.float32, autocast=False)
    found = passed(stack(loca(count), device=GPU), torch.float32, autocast=False)
    assert_same_passes(found, expected, 1e-3)


@pytest.mark.parametrize("reference", [RankProductLinear, DenseLinear])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("dtype", "autocast", "tolerance"),
    [
        (torch.float32, False, 1e-3),
        (torch.float32, True, 5e-2),
        (torch.bfloat16, False, 5e-2),
        (torch.bfloat16, True, 5e-2),
    ],
    ids=["float32", "autocast", "bfloat16", "bfloat16 and autocast"],
)
def test_the_fast_layer_is_the_plain_one(
    reference: type[RankProductLinear], count: int, dtype: torch.dtype, autocast: bool, tolerance: float
) -> None:
    fast = stack(loca(count), dtype, GPU)
    plain = copy.deepcopy(fast)
    use_reference(plain, reference)
    found, expected = passed(fast, dtype, autocast), passed(plain, dtype, autocast)
    assert_same_passes(found, expected, tolerance)


def test_coinciding_entries_add_up_in_the_same_order_each_time() -> None:
    draw = torch.Generator().manual_seed(0)
    rows, cols = (torch.randint(0, 4, (500,), generator=draw).to(GPU) for _ in range(2))
    values = torch.randn(500, generator=draw).to(GPU)
    spectrum = SparseSpectrum(96, 64, CosineBasis)
    cells = spectrum.cells(rows, cols)
    first = spectrum.synthesise(values, cells)
    assert all(torch.equal(spectrum.synthesise(values, cells), first) for _ in range(20))


CONFIGS: dict[str, Callable[[], PeftConfig]] = {
    "lora": lambda: LoraConfig(target_modules=TARGETS),
    "loca": loca,
    "loca, kept": lambda: loca(keep_update=True),
    "fourierft fast": lambda: FourierFTConfig(n_frequency=300, target_modules=TARGETS),
    "replora": lambda: RepLoraConfig(target_modules=TARGETS),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("autocast", [False, True])
def test_a_training_step_never_waits_for_the_device(name: str, autocast: bool) -> None:
    model = stack(CONFIGS[name](), device=GPU)
    if name == "fourierft fast":
        compute_fast(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-3)
    x = torch.randn(3, 16, 64, device=GPU)

    def step() -> None:
        with torch.autocast(GPU, torch.bfloat16) if autocast else nullcontext():
            outputs = model(inputs_embeds=x).last_hidden_state
        outputs.float().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    step()  # constants are made, and moved, once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_locations_that_are_not_numbers_cause_no_illegal_access() -> None:
    model = stack(loca(), device=GPU)
    layer = [module for module in model.modules() if isinstance(module, LocaLayer)][-1]
    layer.loca_locations["default"].data[0, 0] = float("nan")
    with torch.no_grad():
        outputs = model(inputs_embeds=torch.randn(2, 8, 64, device=GPU)).last_hidden_state
    assert outputs.isnan().any()
    torch.cuda.synchronize()


@pytest.mark.parametrize("name", CONFIGS)
def test_merging_on_the_device_changes_no_output(name: str) -> None:
    model = stack(CONFIGS[name](), device=GPU).eval()
    x = torch.randn(2, 8, 64, device=GPU)
    with torch.no_grad():
        before = model(inputs_embeds=x).last_hidden_state
        after = model.merge_and_unload()(inputs_embeds=x).last_hidden_state
    torch.testing.assert_close(after, before, rtol=0, atol=1e-3)


def test_lora_gen_on_the_device_is_the_same_with_a_cloud_elsewhere() -> None:
    """One model may be on another device, or of another dtype, than the other."""
    ids, prompts = torch.randint(3, 200, (2, 10)), torch.randint(3, 200, (2, 6))
    outputs = {}
    for cloud, edge in (("cpu", "cpu"), (GPU, GPU), ("cpu", GPU)):
        torch.manual_seed(0)
        whole = LoraGen(tiny_llama(1), tiny_llama(2), LoraGenConfig(experts=4, r=2, router_hidden=8)).eval()
        with torch.no_grad():
            for parameter in whole.generator.pools.parameters():
                parameter.normal_(std=0.1)
        whole.encoder.to(cloud)
        whole.generator.to(edge)
        whole.edge.to(edge)
        found = whole(prompts, input_ids=ids, labels=ids)
        found.loss.backward()
        outputs[cloud, edge] = found.logits.detach().cpu()
    for logits in outputs.values():
        torch.testing.assert_close(logits, outputs["cpu", "cpu"], rtol=0, atol=1e-3)


def test_the_benchmark_measures_time_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    loca_benchmark.main(["--device", GPU, "--shape", "tiny", "--rounds", "2"])
    tables = capsys.readouterr().out
    assert torch.cuda.get_device_name() in tables
    (lora,) = {line.split(" | ")[5].rstrip(" |") for line in tables.splitlines() if line.startswith("| lora |")}
    assert lora == "1.000"
