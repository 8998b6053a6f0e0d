"""LoCA as a peft tuner on whole models: what peft's own tuners can do."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from peft import PeftModel, convert_to_lora
from safetensors.torch import load_file
from torch import Tensor, nn

from parbench.methods.loca import LocaConfig, LocaLayer, LocaLinear
from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS

Build = Callable[..., PeftModel]


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def layers(model: nn.Module) -> list[LocaLayer]:
    return [module for module in model.modules() if isinstance(module, LocaLayer)]


def randomise(model: nn.Module, adapter: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers(model):
            layer.loca_coefficients[adapter].normal_(generator=generator)


def test_starts_as_the_base_model(adapted: Build, input_ids: Tensor) -> None:
    model = adapted(init_weights=True)
    with model.disable_adapter():
        expected = logits(model, input_ids)
    assert torch.equal(logits(model, input_ids), expected)
    assert all(layer.loca_coefficients["default"].count_nonzero() == 0 for layer in layers(model))


def test_update_of_each_layer_is_scipys_inverse_transform(adapted: Build) -> None:
    model = adapted(alpha=2.0)
    for layer in layers(model):
        spectrum = np.zeros((layer.out_features, layer.in_features))
        u = layer.loca_locations["default"].detach().clamp(0.0, 0.999).numpy()
        rows = np.rint(u[0] * np.float32(layer.out_features - 1)).astype(int)
        cols = np.rint(u[1] * np.float32(layer.in_features - 1)).astype(int)
        np.add.at(spectrum, (rows, cols), layer.loca_coefficients["default"].detach().numpy())
        expected = 2.0 * scipy.fft.idctn(spectrum, type=2, norm="ortho")
        actual = layer.get_delta_weight("default")
        assert actual.shape == layer.get_base_layer().weight.shape
        np.testing.assert_allclose((actual.T if layer.transposed else actual).numpy(), expected, rtol=0, atol=1e-6)


def test_output_is_that_of_the_updated_weight(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    randomise(model, "default", seed=0)
    reference = copy.deepcopy(model)
    for layer in layers(reference):
        base = layer.get_base_layer()
        base.weight.data += layer.get_delta_weight("default")
    with reference.disable_adapter():
        expected = logits(reference, input_ids)
        with model.disable_adapter():
            assert (expected - logits(model, input_ids)).abs().max() > 1e-3
    torch.testing.assert_close(logits(model, input_ids), expected, rtol=0, atol=1e-5)


def test_only_adapter_and_head_train(adapted_bert: Build, input_ids: Tensor) -> None:
    model = adapted_bert()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    stems = {name.rsplit(".default", 1)[0].rsplit(".", 1)[1] for name in trainable}
    assert stems == {COEFFICIENTS, LOCATIONS, "modules_to_save"}
    assert len(trainable) == 2 * 4 + 2

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.01)
    for _ in range(2):  # the gradient of the locations is zero as long as the coefficients are
        optimiser.zero_grad()
        model(input_ids=input_ids, labels=torch.tensor([0, 1])).loss.backward()
        optimiser.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == trainable


def test_inference_mode_freezes_both_groups(adapted_bert: Build) -> None:
    model = adapted_bert(inference_mode=True)
    assert not any(layer.in_training("default") for layer in layers(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_base_keeps_float32_adapters(adapted: Build, input_ids: Tensor, dtype: torch.dtype) -> None:
    exact = adapted()
    model = adapted(dtype=dtype)
    for layer, expected in zip(layers(model), layers(exact), strict=True):
        assert layer.get_base_layer().weight.dtype == dtype
        for group in (COEFFICIENTS, LOCATIONS):
            parameter = getattr(layer, group)["default"]
            assert parameter.dtype == torch.float32
            assert torch.equal(parameter, getattr(expected, group)["default"])
    output = model(input_ids=input_ids).logits
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), logits(exact, input_ids), rtol=0.02, atol=0.02)
    output.float().square().sum().backward()
    assert all(layer.loca_coefficients["default"].grad.dtype == torch.float32 for layer in layers(model))


def test_autocast(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    expected = logits(model, input_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(input_ids=input_ids).logits
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=0.02)
    output.float().square().sum().backward()
    assert all(layer.loca_locations["default"].grad.count_nonzero() > 0 for layer in layers(model))


def test_float64_base_gets_float64_adapters(adapted: Build) -> None:
    layer = layers(adapted(dtype=torch.float64))[0]
    assert layer.loca_locations["default"].dtype == torch.float64
    assert layer.get_delta_weight("default").dtype == torch.float64


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_save_and_load(
    adapted: Build, input_ids: Tensor, tmp_path: Path, low_cpu_mem_usage: bool, dtype: torch.dtype
) -> None:
    model = adapted(dtype=dtype)
    randomise(model, "default", seed=5)
    model.save_pretrained(tmp_path)
    stored = {k: v for k, v in load_file(tmp_path / "adapter_model.safetensors").items() if "loca_" in k}
    assert {name.rsplit(".", 1)[1] for name in stored} == {COEFFICIENTS, LOCATIONS}
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert sum(tensor.numel() for tensor in stored.values()) == 3 * 40 * len(layers(model))

    base = adapted(dtype=dtype, location_seed=99).unload()
    loaded = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage).eval()
    for ours, theirs in zip(layers(model), layers(loaded), strict=True):
        for group in (COEFFICIENTS, LOCATIONS):
            assert torch.equal(getattr(ours, group)["default"], getattr(theirs, group)["default"])
            assert not getattr(theirs, group)["default"].requires_grad
    assert torch.equal(logits(loaded, input_ids), logits(model, input_ids))


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_a_second_adapter_may_target_other_modules(
    adapted_bert: Build, input_ids: Tensor, tmp_path: Path, low_cpu_mem_usage: bool
) -> None:
    second = adapted_bert(target_modules=["key", "value"], init_weights=False).eval()
    expected = logits(second, input_ids)
    second.save_pretrained(tmp_path)
    model = adapted_bert(target_modules=["query", "value"], init_weights=False).eval()
    model.load_adapter(tmp_path, "second", low_cpu_mem_usage=low_cpu_mem_usage)
    model.set_adapter("second")
    assert torch.equal(logits(model, input_ids), expected)
    assert ["second" in layer.loca_locations for layer in layers(model)] == [False, True, True] * 2
    model.add_adapter("third", LocaConfig(n_frequency=5, target_modules=["key"]))
    assert not any(layer.in_training("third") for layer in layers(model))
    model.delete_adapter("default")
    assert torch.equal(logits(model, input_ids), expected)
    model.add_adapter("fourth", LocaConfig(n_frequency=5, target_modules=["key"]))
    with pytest.raises(ValueError, match='modules_to_save has "classifer"'):
        model.add_adapter("fifth", LocaConfig(n_frequency=5, target_modules=["key"], modules_to_save=["classifer"]))


def test_merge_and_unmerge(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    expected = logits(model, input_ids)
    weights = [layer.get_base_layer().weight.clone() for layer in layers(model)]
    model.merge_adapter()
    torch.testing.assert_close(logits(model, input_ids), expected, rtol=0, atol=1e-5)
    assert not any(
        torch.equal(layer.get_base_layer().weight, weight) for layer, weight in zip(layers(model), weights, strict=True)
    )
    model.unmerge_adapter()
    for layer, weight in zip(layers(model), weights, strict=True):
        torch.testing.assert_close(layer.get_base_layer().weight, weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(model, input_ids), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("safe_merge", [False, True])
def test_merge_and_unload(adapted: Build, input_ids: Tensor, safe_merge: bool) -> None:
    model = adapted()
    expected = logits(model, input_ids)
    merged = model.merge_and_unload(safe_merge=safe_merge)
    assert not layers(merged)
    torch.testing.assert_close(logits(merged, input_ids), expected, rtol=0, atol=1e-5)


def test_safe_merge_refuses_a_broken_adapter(adapted: Build) -> None:
    model = adapted()
    layer = layers(model)[0]
    layer.loca_coefficients["default"].data[0] = float("inf")
    weight = layer.get_base_layer().weight.clone()
    with pytest.raises(ValueError, match="adapter 'default' is broken and was not merged"):
        model.merge_adapter(safe_merge=True)
    assert torch.equal(layer.get_base_layer().weight, weight)


def test_disabled_while_merged_is_the_base_model(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    with model.disable_adapter():
        expected = logits(model, input_ids)
    model.merge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(logits(model, input_ids), expected, rtol=0, atol=1e-5)


def test_several_adapters_add_up(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    config = copy.deepcopy(model.peft_config["default"])
    config.n_frequency, config.alpha, config.location_clamp = 25, 0.5, "full"
    model.add_adapter("second", config)
    assert not any(layer.in_training("second") for layer in layers(model))
    for seed, adapter in enumerate(("default", "second")):
        randomise(model, adapter, seed)
    alone = {}
    for adapter in ("default", "second"):
        model.set_adapter(adapter)
        assert all(layer.in_training(adapter) for layer in layers(model))
        alone[adapter] = logits(model, input_ids)
    assert (alone["default"] - alone["second"]).abs().max() > 1e-3

    model.base_model.set_adapter(["default", "second"])
    both = logits(model, input_ids)
    reference = copy.deepcopy(model)
    for layer in layers(reference):
        layer.get_base_layer().weight.data += layer.get_delta_weight("default") + layer.get_delta_weight("second")
    with reference.disable_adapter():
        torch.testing.assert_close(both, logits(reference, input_ids), rtol=0, atol=2e-5)

    merged = copy.deepcopy(model).merge_and_unload(adapter_names=["second"])
    torch.testing.assert_close(logits(merged, input_ids), alone["second"], rtol=0, atol=2e-5)

    model.set_adapter("default")
    model.delete_adapter("second")
    assert torch.equal(logits(model, input_ids), alone["default"])
    assert not any("second" in name for name in model.state_dict())


@pytest.mark.parametrize(("bias", "others_train"), [("loca_only", False), ("all", True)])
def test_biases_train_and_survive_saving(
    adapted_bert: Build, base_bert: Callable[[], nn.Module], tmp_path: Path, bias: str, others_train: bool
) -> None:
    model = adapted_bert(bias=bias, task_type=None)
    biases = {name: p.requires_grad for name, p in model.named_parameters() if name.endswith(".bias")}
    assert sum(name.endswith("base_layer.bias") for name in biases) == 4
    assert {trains for name, trains in biases.items() if "base_layer" in name} == {True}
    assert {trains for name, trains in biases.items() if "base_layer" not in name} == {others_train}
    for layer in layers(model):
        layer.get_base_layer().bias.data.fill_(0.25)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base_bert(), tmp_path)
    assert all((layer.get_base_layer().bias == 0.25).all() for layer in layers(loaded))


def test_state_dict_holds_no_matrix(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    logits(model, input_ids)
    ours = [name for name in model.state_dict() if "loca_" in name]
    assert len(ours) == 2 * len(layers(model))
    assert list(model.buffers()) == list(model.get_base_model().buffers())


def test_whole_model_compiles_as_one_graph(adapted: Build, input_ids: Tensor) -> None:
    model = adapted()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(logits(compiled, input_ids), logits(model, input_ids), rtol=0, atol=1e-5)


def test_converts_to_lora(adapted: Build, input_ids: Tensor) -> None:
    model = adapted(n_frequency=6)
    lora_config, state_dict = convert_to_lora(model, rank=6)
    for name, module in model.named_modules():
        if isinstance(module, LocaLinear):
            low, high = (state_dict[f"{name}.lora_{side}.weight"] for side in "AB")
            delta = module.get_delta_weight("default")
            torch.testing.assert_close(high @ low, delta.T if module.transposed else delta, rtol=0, atol=1e-5)
    assert lora_config.peft_type == "LORA"


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(
    adapted: Build, input_ids: Tensor, use_reentrant: bool
) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        model = adapted().train()
        if checkpointing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # transformers renames it to activation_checkpointing
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
                model.enable_input_require_grads()
            assert model.get_base_model().is_activation_checkpointing
        model(input_ids=input_ids).logits.square().sum().backward()
        return [
            p.grad
            for layer in layers(model)
            for p in (layer.loca_coefficients["default"], layer.loca_locations["default"])
        ]

    for expected, actual in zip(gradients(False), gradients(True), strict=True):
        assert expected.count_nonzero() > 0
        torch.testing.assert_close(actual, expected)
