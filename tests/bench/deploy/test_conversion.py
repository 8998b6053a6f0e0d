"""Adapters converted to LoRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from parbench.bench.deploy.conversion import CannotConvertError, to_lora, weight_updates
from parbench.bench.deploy.lora_files import write_lora
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.testing.models import TINY_MODELS, outputs

WIDTH = 64


def adapted(expression: str, name: str = "bert") -> PeftModel:
    """Return a tiny model whose adapter has large random values."""
    choice = find_method(expression)
    base = TINY_MODELS[name].build()
    setting = choice.method.setting_type.model_validate(dict(choice.values))
    model: Any = choice.method.adapt(base, module_names(base), setting)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def loaded(model: PeftModel, name: str, size: int | float, folder: Any) -> PeftModel:
    lora = to_lora(model, size)
    assert write_lora(lora, folder) == (folder / "adapter_model.safetensors").stat().st_size
    return PeftModel.from_pretrained(TINY_MODELS[name].build(), str(folder))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize(
    "expression", ["loca(n_frequency=200)", "replora", "fourierft(n_frequency=100)", "vera", "dora"]
)
def test_at_full_rank_nothing_is_lost(expression: str, name: str, tmp_path: Any) -> None:
    model = adapted(expression, name)
    rows = TINY_MODELS[name].rows(4)
    found = loaded(model, name, WIDTH, tmp_path)
    assert found.peft_config["default"].peft_type == "LORA"
    torch.testing.assert_close(outputs(found, rows), outputs(model, rows), rtol=1e-3, atol=1e-4)


def test_factors_are_the_truncated_singular_value_decomposition() -> None:
    """As numpy computes it, of the difference that merging makes."""
    model = adapted("loca(n_frequency=200)")
    updates = weight_updates(model)
    lora = to_lora(model, 4)
    lost = whole = 0.0
    for name, update in updates.items():
        left, values, right = np.linalg.svd(update.double().numpy())
        expected = (left[:, :4] * values[:4]) @ right[:4]
        a, b = (lora.tensors[f"base_model.model.{name}.lora_{factor}.weight"].double().numpy() for factor in "AB")
        np.testing.assert_allclose(b @ a, expected, atol=1e-5)
        lost, whole = lost + (values[4:] ** 2).sum(), whole + (values**2).sum()
    assert lora.error == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
    assert lora.ranks == [4] * len(updates)


def test_energy_chooses_a_rank_for_each_module() -> None:
    model = adapted("loca(n_frequency=200)")
    lora = to_lora(model, 0.9)
    for name, update in weight_updates(model).items():
        values = np.linalg.svd(update.double().numpy(), compute_uv=False) ** 2
        rank = int(np.searchsorted(values.cumsum(), 0.9 * values.sum())) + 1
        assert lora.tensors[f"base_model.model.{name}.lora_A.weight"].shape[0] == rank
    assert lora.error**2 <= 0.1


def test_the_magnitude_of_dora_is_not_dropped() -> None:
    """peft's own conversion takes the product of the factors alone."""
    model = adapted("dora")
    for layer in model.modules():
        if hasattr(layer, "lora_magnitude_vector") and "default" in layer.lora_magnitude_vector:
            with torch.no_grad():
                layer.lora_magnitude_vector["default"].weight.mul_(1.5)
    updates = weight_updates(model)
    lora = to_lora(model, WIDTH)
    for name, update in updates.items():
        a, b = (lora.tensors[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "AB")
        torch.testing.assert_close(b @ a, update, rtol=1e-3, atol=1e-4)


def test_a_head_of_several_layers_is_converted_whole(tmp_path: Any) -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    def base() -> Any:
        torch.manual_seed(0)
        return RobertaForSequenceClassification(
            RobertaConfig(
                vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
            )
        )

    torch.manual_seed(2)
    config = LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], init_lora_weights=False)
    model = get_peft_model(base(), config).eval()
    write_lora(to_lora(model, 2), tmp_path)
    ids = torch.arange(3, 9)[None]
    found = PeftModel.from_pretrained(base(), str(tmp_path)).eval()
    torch.testing.assert_close(found(input_ids=ids).logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("expression", "size", "reason"),
    [("lora", 65, "rank 65 is larger"), ("prefix_tuning", 4, "cannot be merged"), ("ln_tuning", 4, "bias|linear")],
)
def test_what_cannot_be_converted_gives_the_reason(expression: str, size: int, reason: str) -> None:
    with pytest.raises(CannotConvertError, match=reason):
        to_lora(adapted(expression), size)
