from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, LoraModel, PeftModel, get_peft_model
from peft.tuners.lora.conversion import convert_to_lora
from safetensors.torch import load_file
from transformers import PreTrainedModel

from parbench.methods.replora import RepLoraConfig, RepLoraLayer, export_lora


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"r": 3, "lora_alpha": 12, "depth": 1, "dropout": 0.1},
        {"seed": "full", "share_across_layers": True},
        {"layers_to_transform": [1]},
        {"target_modules": "all-linear", "r": 4},
    ],
    ids=str,
)
def test_plain_peft_loads_the_same_function(
    adapt: Callable[..., PeftModel],
    make_base: Callable[[str], PreTrainedModel],
    logits: Callable,
    train: Callable,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
) -> None:
    model = adapt(name, **options)
    train(model)
    before = logits(model)
    export_lora(model, tmp_path)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)

    assert "replora" not in (tmp_path / "adapter_config.json").read_text().lower()
    lora = PeftModel.from_pretrained(make_base(name), str(tmp_path))
    assert isinstance(lora.base_model, LoraModel)
    torch.testing.assert_close(logits(lora), before, rtol=1e-5, atol=1e-5)
    with model.disable_adapter(), lora.disable_adapter():
        assert not torch.allclose(logits(model), before, atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_size_is_loras(
    adapt: Callable[..., PeftModel], make_base: Callable[[str], PreTrainedModel], tmp_path: Path, name: str
) -> None:
    model = adapt(name, r=3)
    config, tensors = export_lora(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {k: v.shape for k, v in saved.items()} == {k: v.shape for k, v in tensors.items()}
    for module_name, module in model.named_modules():
        if isinstance(module, RepLoraLayer):
            size = sum(v.numel() for k, v in saved.items() if k.startswith(f"{module_name}.lora_"))
            assert size == 3 * (module.in_features + module.out_features)
    options = {key: getattr(config, key) for key in ("target_modules", "task_type", "fan_in_fan_out")}
    reference = get_peft_model(make_base(name), LoraConfig(r=3, **options))
    assert sum(v.numel() for v in saved.values()) == reference.get_nb_trainable_parameters()[0]


def test_head_goes_along(adapt: Callable[..., PeftModel], train: Callable, tmp_path: Path) -> None:
    model = adapt("bert")
    train(model)
    config, tensors = export_lora(model, tmp_path)
    head = model.base_model.model.classifier.modules_to_save["default"]
    assert torch.equal(tensors["base_model.model.classifier.weight"], head.weight)
    assert torch.equal(tensors["base_model.model.classifier.bias"], head.bias)
    assert "classifier" in config.modules_to_save
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == config.modules_to_save


def test_without_a_directory_nothing_is_shared_with_the_model(adapt: Callable[..., PeftModel], train: Callable) -> None:
    model = adapt("bert", depth=1, activation="identity", init_weights=False)
    _, tensors = export_lora(model)
    before = {key: tensor.clone() for key, tensor in tensors.items()}
    train(model)
    assert all(torch.equal(tensors[key], before[key]) for key in before)


def test_one_of_two_adapters(adapt: Callable[..., PeftModel], logits: Callable, tmp_path: Path) -> None:
    model = adapt("llama", init_weights=False)
    model.add_adapter("second", RepLoraConfig(init_weights=False, r=2, target_modules=["up_proj"]))
    config, tensors = export_lora(model, adapter_name="second")
    assert config.r == 2
    assert {key.split(".")[-3] for key in tensors} == {"up_proj"}
    with pytest.raises(
        ValueError,
        match=re.escape("'third' is not a RepLoRA adapter of this model; choose one of: default, second"),
    ):
        export_lora(model, adapter_name="third")


def test_a_lora_is_refused(make_base: Callable[[str], PreTrainedModel]) -> None:
    model = get_peft_model(make_base("llama"), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="choose one of: none"):
        export_lora(model)


def test_agrees_with_pefts_own_conversion(adapt: Callable[..., PeftModel]) -> None:
    model = adapt("gpt2", r=4, lora_alpha=8, init_weights=False)
    _, exact = export_lora(model)
    _, by_svd = convert_to_lora(model, rank=4)
    for key in (k for k in exact if k.endswith(".lora_A.weight")):
        b = key.replace("lora_A", "lora_B")
        torch.testing.assert_close(2 * exact[b] @ exact[key], by_svd[b] @ by_svd[key], rtol=1e-4, atol=1e-5)
