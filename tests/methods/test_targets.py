"""``target_modules=all-linear``: the modules that peft itself adapts under this word, without the task head."""

from __future__ import annotations

from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError

from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.selection import adapted_modules, layer_index
from parbench.methods.testing.models import TINY_MODELS


def adapted(expression: str, model: str) -> set[str]:
    base = TINY_MODELS[model].build()
    found = find_method(expression)
    setting = found.method.setting_type(**found.values)
    return set(adapted_modules(found.method.adapt(base, module_names(base), setting)))


def adapted_by_peft(model: str) -> set[str]:
    """Return what peft adapts without the layers that are trained whole here."""
    base = TINY_MODELS[model].build()
    names = module_names(base)
    modules = adapted_modules(get_peft_model(base, LoraConfig(target_modules="all-linear", task_type=None)))
    output = {name for name, module in base.named_modules() if module is base.get_output_embeddings()}
    return {name for name in modules if not names.in_head(name)} - output


@pytest.mark.parametrize("model", sorted(TINY_MODELS))
def test_all_linear_layers_are_those_of_peft(model: str) -> None:
    expected = adapted_by_peft(model)
    assert expected
    assert adapted("lora(r=1,target_modules=all-linear)", model) == expected
    assert adapted("lora(r=1,target_modules=[all-linear])", model) == expected


def test_every_kind_of_method_takes_it() -> None:
    expected = adapted_by_peft("llama")
    for method in ("dora(r=1)", "loca(n_frequency=4)", "fourierft(n_frequency=4)", "replora(r=1)", "loha(r=1)"):
        assert adapted(method.replace(")", ",target_modules=all-linear)"), "llama") == expected


def test_on_some_layers_only() -> None:
    chosen = adapted("lora(r=1,target_modules=all-linear,layers=[1])", "bert")
    assert chosen == {name for name in adapted_by_peft("bert") if layer_index(name) == 1}


def test_layers_that_the_model_has_not_are_what_is_said() -> None:
    for layers in ("[7]", "[1,7]"):
        with pytest.raises(UserError, match="layers has 7"):
            adapted(f"lora(r=1,target_modules=all-linear,layers={layers})", "bert")


def test_a_configuration_has_last_parts_where_they_say_enough() -> None:
    def listed(model: str) -> Any:
        base = TINY_MODELS[model].build()
        lora = find_method("lora")
        setting = lora.method.setting_type(target_modules="all-linear")
        return lora.method.adapt(base, module_names(base), setting).peft_config["default"].target_modules

    assert listed("llama") == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_one_name_needs_no_brackets_and_a_regular_expression_is_refused() -> None:
    assert adapted("lora(target_modules=query)", "bert") == adapted("lora(target_modules=[query])", "bert")
    with pytest.raises(UserError, match="no module of this model is called"):
        adapted("lora(target_modules=all_linear)", "bert")
    with pytest.raises(ValidationError, match="target_modules"):
        find_method("lora").method.setting_type(target_modules=".*query")
