from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.func import functional_call

from parbench.methods.replora import RepLoraConfig, RepLoraLayer, parameter_count
from parbench.methods.replora.generator import Generator, GeneratorPair, GeneratorSeed, SeedPair, locate

BLOCK = "encoder.layer.3.attention.self"


def pair(projections: dict[str, tuple[int, int]], **options: Any) -> tuple[SeedPair, GeneratorPair]:
    config = RepLoraConfig(**options)
    seeds, generators = SeedPair(config), GeneratorPair(config)
    for name, (d_in, d_out) in projections.items():
        generators.add_projection(name, d_in, d_out, seeds)
    return seeds, generators


def test_factors_are_those_of_the_definition() -> None:
    seeds, generators = pair({"q": (10, 12), "v": (10, 6)}, r=3, hidden=5, init_weights=False)
    a_generator, b_generator = generators.generator_a, generators.generator_b
    for name, d_out in (("q", 12), ("v", 6)):
        a, b = generators(seeds, name)
        assert a.shape == (3, 10)
        assert b.shape == (d_out, 3)
        for row in range(3):
            # Row i of A depends on the seed through a_i alone.
            hidden = torch.tanh(
                seeds.seed_a.entries[row] * a_generator.first_layer.weight[:, row] + a_generator.first_layer.bias
            )
            output = a_generator.output_layers[f"to_{name}"]
            torch.testing.assert_close(a[row], output.weight @ hidden + output.bias)
            hidden = torch.tanh(
                seeds.seed_b.entries[row] * b_generator.first_layer.weight[:, row] + b_generator.first_layer.bias
            )
            output = b_generator.output_layers[f"to_{name}"]
            torch.testing.assert_close(b[:, row], output.weight @ hidden + output.bias)


def test_depth_one_is_one_layer_per_projection() -> None:
    seeds, generators = pair({"q": (10, 12)}, r=3, depth=1, seed="full", init_weights=False)
    output = generators.generator_a.output_layers["to_q"]
    expected = torch.tanh(seeds.seed_a.entries @ output.weight.T + output.bias)
    torch.testing.assert_close(generators(seeds, "q")[0], expected)
    assert generators.generator_a.first_layer is None


class Updates(nn.Module):
    """The update B A of each projection, as one function of all parameters."""

    def __init__(self, seeds: SeedPair, generators: GeneratorPair) -> None:
        super().__init__()
        self.seeds = seeds
        self.generators = generators

    def forward(self) -> tuple[Tensor, ...]:
        factors = (self.generators(self.seeds, projection) for projection in ("q", "v"))
        return tuple(b @ a for a, b in factors)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("seed", ["diagonal", "full", "identity"])
@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "gelu", "silu"])
def test_gradcheck(depth: int, seed: str, activation: str) -> None:
    options = {"depth": depth, "seed": seed, "activation": activation, "init_weights": False}
    module = Updates(*pair({"q": (4, 5), "v": (4, 3)}, r=2, hidden=3, **options)).double()
    names, values = zip(*module.named_parameters(), strict=True)

    def updates(*tensors: Tensor) -> tuple[Tensor, ...]:
        return functional_call(module, dict(zip(names, tensors, strict=True)), ())

    assert torch.autograd.gradcheck(updates, [value.detach().requires_grad_() for value in values])


@pytest.mark.parametrize("seed_start", ["normal", "identity"])
@pytest.mark.parametrize("seed", ["diagonal", "full", "identity"])
@pytest.mark.parametrize(("depth", "activation"), [(1, "identity"), (2, "identity"), (2, "relu"), (2, "tanh")])
def test_start_is_loras(depth: int, activation: str, seed: str, seed_start: str) -> None:
    width = 2000
    options = {"depth": depth, "activation": activation, "seed": seed, "seed_start": seed_start}
    seeds, generators = pair({"q": (width, 30)}, r=4, hidden=16, **options)
    with torch.no_grad():
        a, b = generators(seeds, "q")
    assert not b.any()
    lora_a = torch.nn.init.kaiming_uniform_(torch.empty(4, width), a=5**0.5)
    # 8000 entries in correlated rows: the sampling error of the ratio is below a few percent.
    assert float(a.square().mean() / lora_a.square().mean()) == pytest.approx(1.0, abs=0.15)


def test_dead_units_do_not_make_infinite_weights() -> None:
    config = RepLoraConfig(r=1, hidden=1, activation="relu")
    seed, generator = GeneratorSeed(config), Generator(config)
    with torch.no_grad():
        generator.first_layer.weight.fill_(-1.0)
        seed.entries.fill_(1.0)
    generator.add_projection("q", 8, seed, "lora")
    assert torch.isfinite(generator.output_layers["to_q"].weight).all()


def test_projections_may_be_called_like_methods_of_a_module_dict() -> None:
    seeds, generators = pair({"keys": (4, 4), "values": (4, 4)}, init_weights=False)
    assert not torch.equal(generators(seeds, "keys")[0], generators(seeds, "values")[0])


@pytest.mark.parametrize(
    ("share_first_layer", "share_across_layers", "seeds", "generators"),
    [(True, False, 2, 2), (False, False, 4, 4), (True, True, 2, 1), (False, True, 4, 2)],
)
def test_who_shares_what(share_first_layer: bool, share_across_layers: bool, seeds: int, generators: int) -> None:
    config = RepLoraConfig(share_first_layer=share_first_layer, share_across_layers=share_across_layers)
    places = [locate(f"layer.{i}.attention.{leaf}", config) for i in (0, 1) for leaf in ("query", "value")]
    assert len({place.seeds for place in places}) == seeds
    assert len({place.generators for place in places}) == generators
    assert [place.projection for place in places] == ["query", "value"] * 2


def test_modules_at_the_root_are_a_block() -> None:
    assert locate("query", RepLoraConfig()).seeds == locate("value", RepLoraConfig()).seeds


@pytest.mark.parametrize(("r", "h", "d", "kv"), [(8, 48, 768, 768), (4, 4, 32, 16)])
def test_count_is_the_formula(r: int, h: int, d: int, kv: int) -> None:
    shapes = {f"{BLOCK}.query": (d, d), f"{BLOCK}.value": (d, kv)}
    count = parameter_count(RepLoraConfig(r=r, hidden=h, generator_bias=False), shapes)
    assert count == 2 * r + 2 * r * h + 2 * h * d + h * (d + kv)
    with_bias = parameter_count(RepLoraConfig(r=r, hidden=h), shapes)
    assert with_bias - count == 2 * h + 3 * d + kv


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hidden": 3, "r": 2, "generator_bias": False},
        {"depth": 1},
        {"depth": 1, "generator_bias": False, "share_first_layer": False},
        {"seed": "full"},
        {"seed": "identity"},
        {"share_first_layer": False},
        {"share_across_layers": True},
        {"share_across_layers": True, "share_first_layer": False, "seed": "full"},
        {"layers_to_transform": [1]},
    ],
    ids=str,
)
def test_count_is_that_of_the_model(adapt: Callable[..., PeftModel], name: str, options: dict[str, Any]) -> None:
    model = adapt(name, **options)
    layers = {n: m for n, m in model.base_model.model.named_modules() if isinstance(m, RepLoraLayer)}
    shapes = {n: (m.in_features, m.out_features) for n, m in layers.items()}
    trainable = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and "replora_" in n)
    assert trainable == parameter_count(model.peft_config["default"], shapes) > 0


def test_sharing_across_layers_needs_equal_shapes() -> None:
    config = RepLoraConfig(share_across_layers=True)
    with pytest.raises(ValueError, match="'value' have sizes"):
        parameter_count(config, {"layer.0.value": (8, 8), "layer.1.value": (8, 16)})
    seeds, generators = SeedPair(config), GeneratorPair(config)
    generators.add_projection("value", 8, 8, seeds)
    with pytest.raises(ValueError, match="turn share_across_layers off"):
        generators.add_projection("value", 8, 16, seeds)
