"""DoRA, FourierFT, VeRA and RepLoRA as their papers define them."""

import json

import pytest
import torch
from peft import get_peft_model
from torch import nn

from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.replora import export_lora
from parbench.methods.testing.models import TINY_MODELS, outputs


def adapt(name, model="bert", **options):
    base = TINY_MODELS[model].build()
    names = module_names(base)
    method = METHODS[name]
    setting = method.setting_type(**options)
    torch.manual_seed(5)
    return method, method.adapt(base, names, setting), names, setting


def layers_with(model, attribute):
    return [module for module in model.modules() if hasattr(module, attribute)]


@pytest.mark.parametrize("shape", [(12, 20), (9, 15)])
def test_the_atom_norm_of_fourierft_is_that_of_pefts_update(shape):
    method = METHODS["fourierft"]
    rows, columns = shape
    setting = method.setting_type(n_frequency=rows * columns, scaling=7.0, target_modules=("0",))
    names = module_names(TINY_MODELS["bert"].build())
    model = get_peft_model(nn.Sequential(nn.Linear(columns, rows)), method.config(names, setting))
    (layer,) = layers_with(model, "fourierft_spectrum")
    spectrum, indices = layer.fourierft_spectrum["default"], layer.indices["default"]
    expected = method.atom_norm(setting, shape)
    others = 0
    for entry in range(rows * columns):
        with torch.no_grad():
            spectrum.zero_()
            spectrum[entry] = 1.0
        norm = layer.get_delta_weight("default").norm().item()
        row, column = indices[:, entry].tolist()
        real = (2 * row) % rows == 0 and (2 * column) % columns == 0
        others += real
        assert norm == pytest.approx(expected * (2**0.5 if real else 1), rel=1e-4)
    assert others == (4 if rows % 2 == columns % 2 == 0 else 1)


def test_the_atom_norm_of_loca_is_alpha():
    method = METHODS["loca"]
    assert method.atom_norm(method.setting_type(alpha=3.0), (5, 7)) == 3.0
    assert METHODS["lora"].atom_norm(METHODS["lora"].setting_type(), (5, 7)) is None


def test_fourierft_starts_as_in_the_paper():
    # Algorithm 1: the first n of a random permutation of all entries, the same in all layers, and normal coefficients.
    _, model, _, _ = adapt("fourierft", n_frequency=2000)
    layers = layers_with(model, "fourierft_spectrum")
    order = torch.randperm(64 * 64, generator=torch.Generator().manual_seed(2024))[:2000]
    for layer in layers:
        assert torch.equal(layer.indices["default"], torch.stack([order // 64, order % 64]))
        assert layer.fourierft_spectrum["default"].std().item() == pytest.approx(1.0, abs=0.1)
    assert len(layers) == 4


def test_fourierft_can_start_at_the_base_model():
    rows = TINY_MODELS["bert"].rows(2)
    expected = outputs(TINY_MODELS["bert"].build(), rows)
    _, model, _, _ = adapt("fourierft", zero_start=True)
    assert torch.equal(outputs(model, rows), expected)
    _, model, _, _ = adapt("fourierft")
    assert not torch.allclose(outputs(model, rows), expected, atol=1e-3)


def test_fourierft_can_have_one_more_coefficient_on_some_layers():
    method, model, names, _ = adapt("fourierft", n_frequency=10, larger_layers=(1,))
    assert method.reported_parameters(model, names) == 2 * 10 + 2 * 11


def test_vera_starts_as_in_the_paper():
    _, model, _, _ = adapt("vera", r=16)
    for layer in layers_with(model, "vera_lambda_b"):
        assert not layer.vera_lambda_b["default"].any()
        assert torch.equal(layer.vera_lambda_d["default"], torch.full((16,), 0.1))
        # One pair of matrices for all layers.
        assert layer.vera_A is layers_with(model, "vera_lambda_b")[0].vera_A


def test_vera_stores_its_vectors_and_not_its_matrices():
    method, model, names, _ = adapt("vera", r=16)
    state = method.adapter_state(model, names)
    assert sum(tensor.numel() for tensor in state.values()) == method.reported_parameters(model, names) == 4 * (64 + 16)


def test_vera_draws_its_matrices_from_the_seed():
    first, again, other = (adapt("vera", projection_seed=seed)[1].base_model.vera_A["default"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dora_trains_a_magnitude_that_starts_at_the_norm_of_the_weight():
    _, model, _, _ = adapt("dora", r=2)
    layers = layers_with(model, "lora_magnitude_vector")
    assert len(layers) == 4
    for layer in layers:
        magnitude = layer.lora_magnitude_vector["default"].weight
        assert magnitude.requires_grad
        assert torch.allclose(magnitude, layer.get_base_layer().weight.norm(dim=1))


def test_dora_resizes_like_lora():
    method = METHODS["dora"]
    resized = method.with_size(method.setting_type(r=8, alpha=16.0), 2)
    assert (resized.r, resized.alpha) == (2, 4.0)
    method, model, names, _ = adapt("dora", r=2, larger_layers=(1,))
    assert method.reported_parameters(model, names) == 2 * 2 * 128 + 2 * 3 * 128 + 4 * 64


def test_replora_ships_a_lora(tmp_path):
    method, model, names, setting = adapt("replora", r=4, hidden=6)
    d, block = 64, 2
    assert method.reported_parameters(model, names) == block * (2 * 4 + 2 * (4 * 6 + 6) + 7 * 4 * d)
    assert sum(t.numel() for t in method.adapter_state(model, names).values()) == method.reported_parameters(
        model, names
    )
    config, tensors = export_lora(model, tmp_path)
    shipped = sum(tensor.numel() for name, tensor in tensors.items() if not names.in_head(name))
    assert shipped == block * 2 * 4 * 2 * d
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"
    assert config.r == setting.r


@pytest.mark.parametrize("generator", [{"depth": 1}, {"depth": 2, "hidden": 5}])
def test_the_settings_of_replora_reach_its_configuration(generator):
    method = METHODS["replora"]
    names = module_names(TINY_MODELS["bert"].build())
    options = {
        **generator,
        "r": 3,
        "activation": "silu",
        "seed": "full",
        "share_first_layer": False,
        "share_across_layers": True,
        "generator_bias": False,
        "dropout": 0.5,
    }
    config = method.config(names, method.setting_type(alpha=9, **options))
    assert {name: getattr(config, name) for name in options} == options
    assert config.lora_alpha == 9
    assert config.target_modules == {"query", "value"}
