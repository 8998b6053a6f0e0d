from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from parbench.methods.replora import RepLoraConfig, RepLoraLayer

MODELS = ["bert", "gpt2", "llama"]
SWITCHES: list[dict[str, Any]] = [
    {},
    {"depth": 1},
    {"depth": 1, "activation": "identity"},
    {"activation": "identity"},
    {"activation": "relu"},
    {"activation": "gelu"},
    {"activation": "silu"},
    {"seed": "full"},
    {"seed": "identity"},
    {"seed_start": "identity"},
    {"share_first_layer": False},
    {"share_across_layers": True},
    {"share_across_layers": True, "share_first_layer": False},
    {"generator_bias": False},
    {"hidden": 2},
    {"r": 3, "lora_alpha": 12},
    {"dropout": 0.2},
    {"layers_to_transform": [1]},
]


def layers(model: nn.Module) -> dict[str, RepLoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, RepLoraLayer)}


def adapter_parameters(model: nn.Module, adapter: str = "default") -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if "replora_" in n and f".{adapter}." in n}


@pytest.mark.parametrize("name", MODELS)
def test_starts_at_the_pretrained_function(
    adapt: Callable[..., PeftModel], make_base: Callable[[str], PreTrainedModel], logits: Callable, name: str
) -> None:
    model = adapt(name)
    if name == "bert":
        # The head is not the adapter's: peft keeps a copy of it, which is the pretrained one.
        assert "classifier" in model.peft_config["default"].modules_to_save
    torch.testing.assert_close(logits(model), logits(make_base(name)), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_trains_only_its_own_and_round_trips(
    adapt: Callable[..., PeftModel],
    make_base: Callable[[str], PreTrainedModel],
    logits: Callable,
    train: Callable,
    tmp_path: Path,
    name: str,
    switch: dict[str, Any],
) -> None:
    model = adapt(name, **switch)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    losses = train(model)
    assert losses[-1] < losses[0]
    for parameter_name, parameter in model.named_parameters():
        own = "replora_" in parameter_name or ".modules_to_save." in parameter_name
        assert parameter.requires_grad == own, parameter_name
        if own:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.any(), parameter_name
        else:
            assert torch.equal(parameter, before[parameter_name]), parameter_name

    trained = logits(model)
    model.save_pretrained(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # peft warns of keys it does not find
        loaded = PeftModel.from_pretrained(make_base(name), str(tmp_path))
    torch.testing.assert_close(logits(loaded), trained, rtol=0, atol=0)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_query_and_value_share_one_first_layer(adapt: Callable[..., PeftModel]) -> None:
    model = adapt("llama", r=2, hidden=3, init_weights=False)
    query, value = (layers(model)[f"base_model.model.model.layers.0.self_attn.{k}_proj"] for k in "qv")
    generators = query.replora_generators["default"]
    assert value.replora_generators["default"] is generators
    shared = [
        *query.replora_seeds["default"].parameters(),
        *generators.generator_a.first_layer.parameters(),
        *generators.generator_b.first_layer.parameters(),
    ]

    def gradients(*parts: RepLoraLayer) -> list[Tensor]:
        return list(torch.autograd.grad(sum(p.get_delta_weight("default").sum() for p in parts), shared))

    from_query, from_value, from_both = gradients(query), gradients(value), gradients(query, value)
    for q, v, both in zip(from_query, from_value, from_both, strict=True):
        assert q.any()
        assert v.any()
        torch.testing.assert_close(q + v, both)
    other = layers(model)["base_model.model.model.layers.1.self_attn.q_proj"]
    assert other.replora_generators["default"] is not generators


def test_values_of_grouped_query_attention_are_narrower(adapt: Callable[..., PeftModel]) -> None:
    shapes = {n.rpartition(".")[2]: m.get_delta_weight("default").shape for n, m in layers(adapt("llama")).items()}
    assert shapes == {"q_proj": (32, 32), "v_proj": (16, 32)}


def test_state_dict_holds_what_is_shared_once(adapt: Callable[..., PeftModel], tmp_path: Path) -> None:
    model = adapt("bert")
    state = model.state_dict()
    pointers = [tensor.data_ptr() for name, tensor in state.items() if "replora_" in name]
    assert len(pointers) == len(set(pointers))
    own = sum(p.numel() for p in adapter_parameters(model).values())
    head = sum(p.numel() for n, p in model.named_parameters() if ".modules_to_save." in n)
    assert model.get_nb_trainable_parameters()[0] == own + head
    model.save_pretrained(str(tmp_path))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == own + head
    assert not any("default" in key for key in saved)


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loading_under_another_name(
    adapt: Callable[..., PeftModel],
    make_base: Callable[[str], PreTrainedModel],
    logits: Callable,
    tmp_path: Path,
    low_cpu_mem_usage: bool,
) -> None:
    model = adapt("llama", init_weights=False)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(
        make_base("llama"), str(tmp_path), adapter_name="other", low_cpu_mem_usage=low_cpu_mem_usage
    )
    assert all(p.device.type == "cpu" for p in loaded.parameters())
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)


def test_training_goes_on_after_loading(
    adapt: Callable[..., PeftModel],
    make_base: Callable[[str], PreTrainedModel],
    train: Callable,
    tmp_path: Path,
) -> None:
    model = adapt("llama")
    train(model)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(make_base("llama"), str(tmp_path), is_trainable=True)
    assert train(loaded) == train(model)


def test_two_adapters(
    adapt: Callable[..., PeftModel],
    make_base: Callable[[str], PreTrainedModel],
    logits: Callable,
    tmp_path: Path,
) -> None:
    # Names that are parts of ours: keys must not be confused with them.
    base = get_peft_model(make_base("llama"), RepLoraConfig(init_weights=False), adapter_name="a")
    alone = logits(base)
    base.add_adapter("b", RepLoraConfig(init_weights=False, r=2, depth=1, layers_to_transform=[1]))
    torch.testing.assert_close(logits(base), alone, rtol=0, atol=0)
    assert all(p.requires_grad for p in adapter_parameters(base, "a").values())
    assert not any(p.requires_grad for p in adapter_parameters(base, "b").values())

    base.set_adapter("b")
    other = logits(base)
    assert not torch.allclose(other, alone)
    assert not any(p.requires_grad for p in adapter_parameters(base, "a").values())
    assert all(p.requires_grad for p in adapter_parameters(base, "b").values())

    base.save_pretrained(str(tmp_path))
    for adapter, expected in (("a", alone), ("b", other)):
        loaded = PeftModel.from_pretrained(make_base("llama"), str(tmp_path / adapter))
        torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=0)
        assert len(get_peft_model_state_dict(base, adapter_name=adapter)) == len(adapter_parameters(base, adapter))

    base.base_model.set_adapter(["a", "b"])
    assert not torch.allclose(logits(base), alone)
    base.set_adapter("b")
    base.delete_adapter("b")
    assert not adapter_parameters(base, "b")
    assert base.active_adapters == ["a"]
    torch.testing.assert_close(logits(base), alone, rtol=0, atol=0)
    assert all(p.requires_grad for p in adapter_parameters(base, "a").values())


def test_loading_a_second_adapter_leaves_the_first_as_trainable_as_it_was(
    adapt: Callable[..., PeftModel], tmp_path: Path
) -> None:
    model = adapt("llama")
    model.save_pretrained(str(tmp_path))
    model.load_adapter(str(tmp_path), "second")
    assert all(p.requires_grad for p in adapter_parameters(model).values())
    assert not any(p.requires_grad for p in adapter_parameters(model, "second").values())
    model.set_requires_grad("default", False)
    model.add_adapter("third", RepLoraConfig())
    assert not any(p.requires_grad for p in adapter_parameters(model).values())


def test_a_failed_second_adapter_leaves_nothing_behind(adapt: Callable[..., PeftModel]) -> None:
    model = adapt("bert")
    names = set(model.state_dict())
    # The modules called "dense" differ in shape.
    bad = RepLoraConfig(share_across_layers=True, target_modules=["query", "dense"], exclude_modules=["pooler.dense"])
    with pytest.raises(ValueError, match="turn share_across_layers off"):
        model.add_adapter("bad", bad)
    assert {n for n in model.state_dict() if "replora_" in n} == {n for n in names if "replora_" in n}
    assert not any("bad" in layer.replora_generators for layer in layers(model).values())
    assert set(model.peft_config) == {"default"}
    assert all(p.requires_grad for p in adapter_parameters(model).values())


def test_disabling_gives_the_base_model(
    adapt: Callable[..., PeftModel], make_base: Callable[[str], PreTrainedModel], logits: Callable
) -> None:
    model = adapt("llama", init_weights=False)
    adapted = logits(model)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(make_base("llama")), rtol=0, atol=0)
    torch.testing.assert_close(logits(model), adapted, rtol=0, atol=0)
    assert all(p.requires_grad for p in adapter_parameters(model).values())


def test_a_deep_copy_is_independent_and_still_shares(
    adapt: Callable[..., PeftModel], logits: Callable, train: Callable
) -> None:
    model = adapt("bert", init_weights=False)
    before = logits(model)
    twin = copy.deepcopy(model)
    train(twin)
    assert not torch.allclose(logits(twin), before)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    owned = {id(m) for m in twin.base_model.replora_generators.modules()}
    assert all(id(layer.replora_generators["default"]) in owned for layer in layers(twin).values())


def test_half_precision_base_with_full_precision_adapter(
    make_base: Callable[[str], PreTrainedModel], logits: Callable, train: Callable, tmp_path: Path
) -> None:
    model = get_peft_model(make_base("llama").to(torch.bfloat16), RepLoraConfig())
    assert {p.dtype for p in adapter_parameters(model).values()} == {torch.float32}
    losses = train(model, steps=8)
    assert losses[-1] < losses[0]
    assert logits(model).dtype == torch.bfloat16
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(make_base("llama").to(torch.bfloat16), str(tmp_path))
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)
    plain = get_peft_model(make_base("llama").to(torch.bfloat16), RepLoraConfig(), autocast_adapter_dtype=False)
    assert {p.dtype for p in adapter_parameters(plain).values()} == {torch.bfloat16}


def test_autocast_leaves_the_factors_exact(adapt: Callable[..., PeftModel], backward: Callable) -> None:
    model = adapt("llama", init_weights=False)
    layer = next(iter(layers(model).values()))
    outside = layer.get_factors("default")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer.get_factors("default")
        backward(model)
    for before, now in zip(outside, inside, strict=True):
        torch.testing.assert_close(now, before, rtol=0, atol=0)
    assert all(p.grad is not None and p.grad.any() for p in adapter_parameters(model).values())


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(
    adapt: Callable[..., PeftModel], backward: Callable, use_reentrant: bool
) -> None:
    model = adapt("llama", init_weights=False).train()
    backward(model)
    expected = {n: p.grad.clone() for n, p in adapter_parameters(model).items()}
    model.zero_grad()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    backward(model)
    for name, parameter in adapter_parameters(model).items():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_choice_of_modules(adapt: Callable[..., PeftModel]) -> None:
    def chosen(**options: Any) -> set[str]:
        prefix = "base_model.model.model.layers."
        return {name.removeprefix(prefix) for name in layers(adapt("llama", **options))}

    assert chosen() == {f"{i}.self_attn.{k}_proj" for i in (0, 1) for k in "qv"}
    assert chosen(layers_to_transform=0) == {f"0.self_attn.{k}_proj" for k in "qv"}
    assert chosen(exclude_modules=["v_proj"]) == {f"{i}.self_attn.q_proj" for i in (0, 1)}
    assert len(chosen(target_modules="all-linear")) == 14
    assert set(layers(adapt("gpt2"))) == {f"base_model.model.transformer.h.{i}.attn.c_attn" for i in (0, 1)}


def test_modules_of_other_types_are_refused(make_base: Callable[[str], PreTrainedModel]) -> None:
    with pytest.raises(TypeError, match=r"cannot adapt a module of type Embedding; choose"):
        get_peft_model(make_base("llama"), RepLoraConfig(target_modules=["embed_tokens"]))


def test_peft_reports_the_status_of_the_layers(adapt: Callable[..., PeftModel]) -> None:
    status = adapt("llama").get_model_status()
    assert status.num_adapter_layers == 4
    assert status.requires_grad == {"default": True}
    assert status.available_adapters == ["default"]
    assert status.devices == {"default": ["cpu"]}
