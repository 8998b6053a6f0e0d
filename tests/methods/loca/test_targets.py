"""Which modules LoCA adapts, where its locations start and how many numbers it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from parbench.methods.loca import LocaConfig, LocaLayer, LocaModel

Build = Callable[..., PeftModel]


def adapted_modules(model: nn.Module) -> dict[str, LocaLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LocaLayer)}


def test_seed_decides_the_locations_module_by_module(adapted_bert: Build) -> None:
    def locations(**options: Any) -> list[Tensor]:
        return [layer.loca_locations["default"] for layer in adapted_modules(adapted_bert(**options)).values()]

    first, other = locations(location_seed=3), locations(location_seed=4)
    assert len({tuple(u.flatten().tolist()) for u in first + other}) == 8
    assert all(((u >= 0) & (u <= 1)).all() for u in first)
    again = locations(location_seed=3, target_modules=["value"], n_frequency_pattern={"layer.1.*value": 17})
    assert torch.equal(again[0], first[1]), "other modules and sizes do not matter"
    drawn = locations(location_seed=None)  # from the global generator, which the builder of the model seeds
    assert all(torch.equal(a, b) for a, b in zip(drawn, locations(location_seed=None), strict=True))
    assert not torch.equal(drawn[0], first[0])


def test_n_frequency_pattern(adapted_bert: Build) -> None:
    model = adapted_bert(n_frequency_pattern={r"layer\.0\..*query": 5, "value": 6})
    sizes = [m.loca_coefficients["default"].numel() for m in adapted_modules(model).values()]
    assert sizes == [5, 6, 40, 6]
    assert model.parameter_counts().reported == 57
    with pytest.raises(ValueError, match=r'n_frequency_pattern has "querry", which matches no adapted module.*"query"'):
        adapted_bert(n_frequency_pattern={"querry": 5})


def test_more_coefficients_than_entries_are_refused(adapted_bert: Build) -> None:
    with pytest.raises(
        ValueError,
        match=r"n_frequency is 4097 but the weight of \S*query has only 64 x 64 = 4096 entries; lower",
    ):
        adapted_bert(n_frequency=4097)
    assert adapted_bert(n_frequency=4096).parameter_counts().reported == 4 * 4096


def test_default_targets() -> None:
    targets = LocaModel.target_module_mapping
    assert set(targets) == set(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING)
    assert targets["roberta"] == ["query", "value"]
    assert targets["llama"] == ["q_proj", "v_proj"]
    assert targets["phi"] == ["q_proj", "v_proj"]
    assert targets["nemotron_h"] == ["q_proj", "v_proj"]
    assert targets["gpt2"] == ["c_attn"]


def test_layers_can_be_selected_and_excluded(adapted_bert: Build) -> None:
    def names(**options: Any) -> list[str]:
        model = adapted_bert(target_modules=["query", "value"], **options)
        return list(adapted_modules(model))

    assert all(".layer.1." in name for name in names(layers_to_transform=[1]))
    assert all(name.endswith("query") for name in names(exclude_modules=["value"]))


def test_unsupported_targets_are_refused(adapted_bert: Build) -> None:
    with pytest.raises(TypeError, match=r"LoCA adapts torch.nn.Linear and transformers' Conv1D, not Embedding"):
        adapted_bert(target_modules=["word_embeddings"])


def test_orientation_in_the_config_is_corrected(adapted_bert: Build) -> None:
    with pytest.warns(UserWarning, match="fan_in_fan_out is True but the target is a Linear"):
        model = adapted_bert(fan_in_fan_out=True)
    assert model.peft_config["default"].fan_in_fan_out is False


def test_counts_of_the_papers_roberta_base_without_allocating_it() -> None:
    with torch.device("meta"):
        base = RobertaModel(RobertaConfig())
    model = get_peft_model(base, LocaConfig(n_frequency=1000))
    counts = model.parameter_counts()
    assert (counts.reported, counts.optimised) == (24_000, 72_000)
    assert model.get_nb_trainable_parameters()[0] == 72_000
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    with pytest.raises(ValueError, match="There is no adapter 'other'; the model has: default"):
        model.parameter_counts("other")
