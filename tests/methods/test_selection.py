"""Every name, pattern and index that a user gives must match something in the model."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from peft import get_peft_model

from parbench.bench.util.errors import UserError
from parbench.methods import METHODS, find_method
from parbench.methods.architecture import module_names
from parbench.methods.from_peft.catalogue import KNOWN
from parbench.methods.loca import LocaConfig
from parbench.methods.replora import RepLoraConfig
from parbench.methods.selection import Selection
from parbench.methods.testing.models import TINY_MODELS

ADAPTS_MODULES = [
    name for name in METHODS if not (name in KNOWN and (KNOWN[name].refused or KNOWN[name].targets == "none"))
]
SELECTIVE = {"full", "bitfit"}
NOT_SELECTABLE = {"linear_probe", "lora_gen"}


def adapt(expression: str, model: str = "bert") -> Any:
    base = TINY_MODELS[model].build()
    found = find_method(expression)
    return found.method.adapt(base, module_names(base), found.method.setting_type(**found.values))


@pytest.mark.parametrize("name", [name for name in ADAPTS_MODULES if name not in NOT_SELECTABLE])
def test_every_method_refuses_a_name_that_matches_nothing(name: str) -> None:
    with pytest.raises(UserError, match=r'target_modules has "vlaue".*did you mean "value"'):
        adapt(f"{name}(target_modules=[query,vlaue])")


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("lora(target_modules=[vlaue])", 'no module of this model is called; did you mean "value"'),
        (
            "lora(layers=[0,2])",
            "layers has 2, but the layers of this model are 0 and 1",
        ),
        ("loca(n_frequency=9,layers=[7])", "layers"),
        ("replora(layers=[0,1,5])", "layers has 5"),
        ("full(layers=[1,2])", "layers has 2"),
        ("bitfit(layers=[9])", "nothing to train|layers has 9"),
        ("ia3(layers=[0,9])", "layers"),
        ("lora(larger_layers=[3])", "larger_layers has 3"),
        ("lora(layers=[0],larger_layers=[1])", "larger_layers has 1, but no module on that layer is adapted"),
        ("lora(target_modules=[query,classifier])", 'has "classifier", but that is the task head'),
        ("lora(target_modules=[query,pooler.dense],layers=[0])", "no module of that name is on the layers 0"),
        ("full(target_modules=[query,classifier])", "task head"),
        ("loha(rank_pattern={qeury: 2})", 'rank_pattern has "qeury", which matches no adapted module; .*"query"'),
        ("lokr(alpha_pattern={key: 2})", 'alpha_pattern has "key"'),
        ("loha(exclude_modules=[valeu])", 'exclude_modules has "valeu".*"value"'),
        ("loha(exclude_modules='.*qeury')", 'exclude_modules is the regular expression ".*qeury"'),
        ("loha(exclude_modules='.*0.*query')", None),
        ("lora+qv_ratio(2)", None),
        ("lora+pissa+lora_plus(4)", None),
        ("lora(target_modules=[attention.self.query,0.attention.self.value])", None),
        ("loha(rank_pattern={'.*layer.1.*query': 2})", None),
        ("full(target_modules=[attention,intermediate.dense],layers=[1])", None),
    ],
)
def test_what_is_refused_and_what_is_not(expression: str, why: str | None) -> None:
    if why is None:
        adapt(expression)
        return
    with pytest.raises(ValueError, match=why):
        adapt(expression)


@pytest.mark.parametrize("name", [*ADAPTS_MODULES, "lora+rslora"])
def test_an_empty_list_is_refused(name: str) -> None:
    found = find_method(name)
    for option in ("target_modules", "layers"):
        with pytest.raises(ValueError, match=option):
            found.method.setting_type(**{option: []})


def test_names_of_a_clouds_modules() -> None:
    with pytest.raises(UserError, match=r'cloud_target_modules has "vproj".*did you mean "v_proj"'):
        adapt("lora_gen(cloud_target_modules=[q_proj,vproj])", "llama")


@pytest.mark.parametrize("config_type", [LocaConfig, RepLoraConfig])
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["query", "vlaue"]},
        {"target_modules": ["query"], "layers_to_transform": [0, 4]},
        {"target_modules": ["query"], "exclude_modules": ["qeury"]},
        {"target_modules": ["query"], "modules_to_save": ["classifer"]},
    ],
    ids=lambda options: list(options)[-1],
)
def test_our_tuners_refuse_them_without_the_benchmark(config_type: Any, options: dict[str, Any]) -> None:
    model = TINY_MODELS["bert"].build()
    with pytest.raises(ValueError, match=f"{list(options)[-1]} has"):
        get_peft_model(model, config_type(**options))
    assert not any("loca" in name or "replora" in name for name, _ in model.named_modules())


def test_a_pattern_of_loca_without_a_match_is_refused() -> None:
    config = LocaConfig(n_frequency=9, target_modules=["query"], n_frequency_pattern={"vlaue": 4})
    with pytest.raises(ValueError, match='n_frequency_pattern has "vlaue"'):
        get_peft_model(TINY_MODELS["bert"].build(), config)


def test_default_targets_name_only_what_the_model_has() -> None:
    model = get_peft_model(TINY_MODELS["vit"].build(), RepLoraConfig(hidden=4))
    assert model.peft_config["default"].target_modules == {"q_proj", "v_proj"}


def test_names_of_modules_and_of_parameters_are_known() -> None:
    model = TINY_MODELS["bert"].build()
    Selection(modules={"target_modules": ["encoder.layer.1.attention.self.query", "query.weight"]}).check_names(model)
    with pytest.raises(UserError):
        Selection(modules={"target_modules": ["uery"]}).check_names(model)


@pytest.mark.parametrize(
    ("expression", "excess"),
    [("lora(r=65)", True), ("lora(r=64)", False), ("adalora(target_r=60)", True), ("replora(r=70)", True)],
)
def test_a_rank_beyond_the_weight_is_warned_of(expression: str, excess: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        adapt(expression)
    found = [str(w.message) for w in caught if "at most" in str(w.message)]
    assert len(found) == excess
    assert not excess or "a weight of 64 x 64" in found[0]
