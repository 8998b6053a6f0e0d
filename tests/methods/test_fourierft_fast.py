"""FourierFT computed fast against peft's own: the same numbers, names, files and abilities."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import FourierFTConfig, PeftModel, get_peft_model
from peft.tuners.fourierft import FourierFTLinear
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from parbench.methods.fourierft import FOURIERFT, FourierFTSetting
from parbench.methods.fourierft_fast import FastFourierFTLinear, FourierUpdate, compute_fast
from parbench.methods.fourierft_fast.basis import FourierBasis
from parbench.methods.fourierft_fast.method import FOURIERFT_FAST
from parbench.methods.spectral.spectrum import SparseSpectrum
from parbench.methods.testing import TINY_MODELS, check_method
from tests.support.passes import assert_same_passes

IDS = torch.randint(0, 100, (3, 9), generator=torch.Generator().manual_seed(7))
LABELS = torch.tensor([0, 2, 1])


def build(kind: str = "bert", n_frequency: int = 300, **options: Any) -> PeftModel:
    """peft's own model; 300 frequencies take the FFTs, a few the products of gathered rows."""
    torch.manual_seed(0)
    if kind == "bert":
        size = {"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        base: nn.Module = BertForSequenceClassification(BertConfig(vocab_size=100, num_labels=3, **size, **dropout))
        options = {"target_modules": ["query", "value"], **options}
    else:
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        base = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=48, n_layer=2, n_head=2, n_positions=32, **dropout))
        options = {"target_modules": ["c_attn"], "fan_in_fan_out": True, **options}
    return get_peft_model(base, FourierFTConfig(n_frequency=n_frequency, scaling=20.0, **options)).train()


def both(*args: Any, keep_update: bool = False, **options: Any) -> tuple[PeftModel, PeftModel]:
    """peft's model and the same computed fast."""
    plain = build(*args, **options)
    fast = copy.deepcopy(plain)
    compute_fast(fast, keep_update)
    return plain, fast


def run(model: nn.Module, ids: Tensor = IDS) -> dict[str, Tensor]:
    """The logits and all gradients."""
    model.zero_grad()
    logits = model(input_ids=ids).logits
    logits.float().square().mean().backward()
    return {"logits": logits.detach()} | {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("n", [9, 200])
@pytest.mark.parametrize("shape", [(12, 20), (15, 32), (33, 9)])
def test_update_and_gradient_are_the_inverse_transform_and_its_derivative(shape: tuple[int, int], n: int) -> None:
    places = torch.stack([torch.randperm(shape[0] * shape[1])[:n] // shape[1], torch.randint(shape[1], (n,))])
    places[:, :4] = torch.tensor([[0, 0, shape[0] // 2, shape[0] - 1], [0, shape[1] // 2, 0, shape[1] - 1]])
    values = torch.randn(n, dtype=torch.float64, requires_grad=True)
    dense = torch.zeros(shape, dtype=torch.float64).index_put((places[0], places[1]), values, accumulate=True)
    expected = 3.0 * torch.fft.ifft2(dense).real
    update = FourierUpdate(SparseSpectrum(*shape, FourierBasis), 3.0)
    torch.testing.assert_close(update.delta(values.detach(), places), expected.detach(), rtol=0, atol=1e-12)

    x, grad_y = torch.randn(7, shape[1], dtype=torch.float64), torch.randn(7, shape[0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((x @ expected.T * grad_y).sum(), values)
    actual, _ = update.gradients(grad_y, x, [True, False], values, places)
    torch.testing.assert_close(actual, gradient, rtol=0, atol=1e-12)
    assert update.gradients(grad_y, x, [False, False], values, places) == (None, None)


@pytest.mark.parametrize("keep_update", [False, True])
@pytest.mark.parametrize("n_frequency", [20, 300])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_equals_peft(kind: str, n_frequency: int, keep_update: bool) -> None:
    plain, fast = both(kind, n_frequency, keep_update=keep_update)
    assert_same_passes(run(fast), run(plain))
    assert any(isinstance(module, FastFourierFTLinear) for module in fast.modules())


@pytest.mark.parametrize("keep_update", [False, True])
def test_training_stays_with_peft(keep_update: bool) -> None:
    models = both(keep_update=keep_update, modules_to_save=["classifier"])
    losses: list[list[float]] = [[], []]
    for model, history in zip(models, losses, strict=True):
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for _ in range(6):
            loss = model(input_ids=IDS, labels=LABELS).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            history.append(loss.item())
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_parameters_names_and_files_are_pefts(tmp_path: Path) -> None:
    plain, fast = both()
    assert {n: p.shape for n, p in fast.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    assert fast.state_dict().keys() == plain.state_dict().keys()
    assert fast.get_nb_trainable_parameters() == plain.get_nb_trainable_parameters()
    fast.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build().unload(), tmp_path)
    assert not any(isinstance(module, FastFourierFTLinear) for module in loaded.modules())
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=IDS).logits, fast(input_ids=IDS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_merging_disabling_and_several_adapters(kind: str) -> None:
    plain, fast = both(kind)
    config = copy.deepcopy(plain.peft_config["default"])
    config.random_loc_seed, config.scaling, config.n_frequency = 3, 5.0, 50
    for model in (plain, fast):
        torch.manual_seed(1)
        model.add_adapter("second", config)
        model.base_model.set_adapter(["default", "second"])
    expected = run(plain)
    assert_same_passes(run(fast), expected)
    with torch.no_grad(), plain.disable_adapter(), fast.disable_adapter():
        assert torch.equal(fast(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    fast.merge_adapter()
    with torch.no_grad():
        torch.testing.assert_close(fast(input_ids=IDS).logits, expected["logits"], rtol=0, atol=1e-5)
    fast.unmerge_adapter()
    assert_same_passes(run(fast), expected, 1e-4)  # unmerging leaves a rounding of the base weight


def test_bfloat16_weights() -> None:
    plain, fast = (model.to(torch.bfloat16) for model in both())
    for model in (plain, fast):
        for module in model.modules():
            if isinstance(module, FourierFTLinear):
                module.fourierft_spectrum.float()
    # peft multiplies by the update in float32; here it is rounded to the 8 bits of the weights.
    assert_same_passes(run(fast), run(plain), 0.03)


def test_autocast() -> None:
    plain, fast = both()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_passes(run(fast), run(plain), 0.03)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing(use_reentrant: bool) -> None:
    _, fast = both()
    expected = run(fast)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers renames it to activation_checkpointing
        fast.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
        fast.enable_input_require_grads()
    assert_same_passes(run(fast), expected)


def test_compiles_as_one_graph() -> None:
    _, fast = both(keep_update=True)
    layer = next(module for module in fast.modules() if isinstance(module, FastFourierFTLinear))
    x = torch.randn(2, 5, 48)
    expected, actual = (
        (y := function(x), *torch.autograd.grad(y.square().sum(), layer.fourierft_spectrum["default"]))
        for function in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True))
    )
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_copies_and_pickles() -> None:
    _, fast = both(keep_update=True)
    expected = run(fast)
    data = pickle.dumps(fast)
    assert len(data) < 2 * sum(p.numel() * p.element_size() for p in fast.parameters())
    assert_same_passes(run(copy.deepcopy(fast)), expected)
    assert_same_passes(run(pickle.loads(data)), expected)  # noqa: S301


def test_refuses_a_model_without_fourierft() -> None:
    with pytest.raises(ValueError, match="no FourierFT layers; make it with get_peft_model"):
        compute_fast(nn.Linear(3, 3))


def test_method_is_fourierft_but_for_its_layers() -> None:
    check_method(FOURIERFT_FAST).raise_for_failures()
    setting = FourierFTSetting(n_frequency=30)
    assert FOURIERFT_FAST.atom_norm(setting, (4, 8)) == FOURIERFT.atom_norm(setting, (4, 8))
    assert set(TINY_MODELS) >= {"bert"}
