import inspect
import math

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.optimizers import create_loraplus_optimizer
from transformers import LlamaConfig, LlamaForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.base import Method
from parbench.methods.modifiers import Modified, role_by_name
from parbench.methods.testing.models import TINY_MODELS, outputs

SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32, "num_labels": 2}
QKV = {"bert": ("query", "key", "value"), "llama": ("q_proj", "k_proj", "v_proj")}


def roberta():
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=20, max_position_embeddings=12, **SHAPE))


def llama():
    return LlamaForSequenceClassification(LlamaConfig(vocab_size=20, num_key_value_heads=2, pad_token_id=0, **SHAPE))


def grouped(expression, model, **options):
    """Return the groups, and for every trained parameter its learning rate and weight decay by name."""
    choice = find_method(expression)
    method, setting = choice.method, choice.method.setting_type(**{**choice.values, **options})
    names = module_names(model)
    adapted = method.adapt(model, names, setting)
    groups = method.parameter_groups(adapted, names, setting)
    held = [(id(p), (group.learning_rate, group.weight_decay)) for group in groups for p in group.parameters]
    trained = {name: id(p) for name, p in adapted.named_parameters() if p.requires_grad}
    assert sorted(key for key, _ in held) == sorted(trained.values()), "each trained parameter is in exactly one group"
    assert all(names.in_head(name) for name, key in trained.items() if key in _of_head(groups))
    return groups, {name: dict(held)[key] for name, key in trained.items()}


def _of_head(groups):
    return {id(p) for group in groups if group.name == "head" for p in group.parameters}


def rates(found, *parts):
    """Return the learning rates of the parameters whose names hold all parts."""
    chosen = {rate for name, (rate, _) in found.items() if all(part in name for part in parts)}
    assert chosen, f"no parameter of {parts}"
    return chosen


def test_every_function_of_a_method_is_passed_on():
    functions = {name for name, _ in inspect.getmembers(Method, inspect.isfunction) if not name.startswith("_")}
    assert functions <= set(vars(Modified))


def test_the_values_learn_faster_and_the_head_at_its_own_rate():
    groups, found = grouped("lora+qv_ratio(4)", roberta(), learning_rate=1e-3, head_learning_rate=7e-3)
    assert [group.name for group in groups] == ["adapter_query", "adapter_value", "head"]
    # The ratio holds for both factors: this is not LoRA+.
    assert rates(found, ".query.lora_A") == rates(found, ".query.lora_B") == {1e-3}
    assert rates(found, ".value.lora_A") == rates(found, ".value.lora_B") == {4e-3}
    assert rates(found, "classifier") == {7e-3}
    assert {decay for _, decay in found.values()} == {None}


def test_keys_learn_like_queries():
    _, found = grouped("dora+qv_ratio(8)", llama(), learning_rate=1e-3, target_modules=QKV["llama"])
    assert rates(found, "q_proj") == rates(found, "k_proj") == {1e-3}
    assert rates(found, "v_proj") == {8e-3}


@pytest.mark.parametrize("expression", ["full(target_modules=[query,value])", "vera", "fourierft", "hira(r=2)", "boft"])
def test_the_ratio_is_for_any_method_that_trains_queries_and_values_apart(expression):
    _, found = grouped(f"{expression}+qv_ratio(2)", roberta(), learning_rate=1e-3)
    assert rates(found, ".query.") == {1e-3}
    assert rates(found, ".value.") == {2e-3}


def test_every_group_of_the_inner_method_is_divided():
    options = {"n_frequency": 5, "learning_rate": 1e-2, "location_learning_rate": 1e-4}
    groups, found = grouped("loca+qv_ratio(2)", roberta(), **options)
    assert {group.name for group in groups} == {
        *("adapter_query", "adapter_value", "locations_query", "locations_value", "head"),
    }
    assert rates(found, ".value.loca_coefficients") == {2e-2}
    assert rates(found, ".value.loca_locations") == {2e-4}
    assert rates(found, ".query.loca_locations") == {1e-4}


def test_the_strict_ratio_on_roberta_groups_as_the_authors_do():
    options = {"learning_rate": 1e-3, "head_learning_rate": 7e-3, "target_modules": QKV["bert"]}
    _, found = grouped("lora+qv_ratio(4,strict)", roberta(), **options)
    for name, (rate, decay) in found.items():
        # Vectors go with the values, and those of RoBERTa's head are its biases.
        assert rate == pytest.approx(4e-3 if ".value." in name or name.endswith(".bias") else 1e-3), name
        assert decay == 0.0
    assert rates(found, "classifier", ".weight") == {1e-3}
    assert rates(found, "classifier", ".bias") == {4e-3}


def test_the_strict_ratio_of_magnitudes_goes_by_the_name_of_the_projection():
    _, found = grouped("dora+qv_ratio(4,strict)", roberta(), learning_rate=1e-3, target_modules=QKV["bert"])
    assert rates(found, ".query.lora_magnitude") == rates(found, ".key.lora_magnitude") == {1e-3}
    assert rates(found, ".value.lora_magnitude") == {4e-3}
    # Llama's are called neither "query" nor "key": its vectors all go with the values.
    _, found = grouped("dora+qv_ratio(4,strict)", llama(), learning_rate=1e-3, target_modules=QKV["llama"])
    assert rates(found, "lora_magnitude") == {4e-3}
    assert rates(found, "q_proj.lora_A") == rates(found, "k_proj.lora_B") == rates(found, "score") == {1e-3}
    assert rates(found, "v_proj.lora_A") == {4e-3}


@pytest.mark.parametrize(
    ("name", "dimensions", "role"),
    [
        ("layer.0.attention.self.value.lora_A.default.weight", 2, "value"),
        ("layers.0.self_attn.v_proj.lora_B.default.weight", 2, "value"),
        ("layer.0.attention.self.value.bias", 1, "value"),
        ("layer.0.attention.self.query.bias", 1, "query"),
        ("layer.0.attention.self.key.bias", 1, "key"),
        ("layer.0.attention.self.query.weight", 2, "query"),
        ("layers.0.self_attn.q_proj.weight", 2, "query"),
        ("layers.0.self_attn.q_proj.bias", 1, "value"),
        ("layers.0.self_attn.k_proj.weight", 2, "key"),
        ("classifier.dense.weight", 2, "key"),
        ("classifier.dense.bias", 1, "value"),
        ("score.weight", 2, "key"),
    ],
)
def test_the_authors_group_by_name(name, dimensions, role):
    assert role_by_name(name, dimensions) == role


@pytest.mark.parametrize("mode", ["", ",strict"])
def test_the_ratio_needs_projections_of_their_own(mode):
    with pytest.raises(UserError, match='a gpt2 has one for both, "c_attn"'):
        grouped(f"lora+qv_ratio(4{mode})", TINY_MODELS["gpt2"].build())


@pytest.mark.parametrize(
    "expression",
    [
        "full",
        "bitfit",
        "replora",
        "unilora",
        "ia3",
        "ln_tuning",
        "prompt_tuning",
        "lora(target_modules=[output.dense])",
    ],
)
@pytest.mark.parametrize("mode", ["", ",strict"])
def test_the_ratio_needs_parameters_that_belong_to_one_projection(expression, mode):
    with pytest.raises(UserError, match=r"cannot tell whether .* belongs to queries or to values"):
        grouped(f"{expression}+qv_ratio(4{mode})", roberta())


@pytest.mark.parametrize("expression", ["lora(target_modules=[value])", "linear_probe"])
def test_the_ratio_needs_both_queries_and_values(expression):
    with pytest.raises(UserError, match="needs trained queries and values"):
        grouped(f"{expression}+qv_ratio(4)", roberta())


@pytest.mark.parametrize("inner", ["lora", "dora"])
def test_lora_plus_divides_as_peft_does(inner):
    torch.manual_seed(0)
    choice = find_method(f"{inner}+lora_plus(16)")
    model = roberta()
    names = module_names(model)
    setting = choice.method.setting_type(learning_rate=1e-3, head_learning_rate=7e-3)
    adapted = choice.method.adapt(model, names, setting)
    optimiser = create_loraplus_optimizer(adapted, torch.optim.SGD, lr=1e-3, loraplus_lr_ratio=16)
    of_peft = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    groups = choice.method.parameter_groups(adapted, names, setting)
    assert [group.name for group in groups] == ["adapter_A", "adapter_B", "head"]
    for group in groups[:2]:
        assert group.parameters
        assert all(of_peft[id(p)] == pytest.approx(group.learning_rate) for p in group.parameters)
    assert groups[2].learning_rate == 7e-3
    assert {id(p) for group in groups for p in group.parameters} == set(of_peft)


def test_ratios_of_two_modifiers_multiply():
    _, found = grouped("lora+lora_plus(16)+qv_ratio(4)", roberta(), learning_rate=1e-3)
    assert rates(found, ".value.lora_B") == {1e-3 * 16 * 4}
    assert rates(found, ".value.lora_A") == {1e-3 * 4}
    assert rates(found, ".query.lora_B") == {1e-3 * 16}
    assert rates(found, ".query.lora_A") == {1e-3}


def config_of(expression, **options):
    choice = find_method(expression)
    names = module_names(roberta())
    config = choice.method.config(names, choice.method.setting_type(**choice.values, **options))
    assert isinstance(config, LoraConfig)
    return config


def test_options_are_those_of_peft():
    assert config_of("lora+rslora").use_rslora
    assert config_of("lora+pissa").init_lora_weights == "pissa"
    config = config_of("dora(r=4)+olora+rslora+qv_ratio(4)")
    assert (config.r, config.use_dora, config.use_rslora, config.init_lora_weights) == (4, True, True, "olora")
    assert config.target_modules == {"query", "value"}


def test_a_rank_stabilised_lora_keeps_its_scale_at_any_rank():
    method = find_method("lora+rslora").method
    setting = method.setting_type(r=4, alpha=6.0, larger_layers=(0,))
    resized = method.with_size(setting, 9)
    assert resized.r == 9
    assert resized.alpha / math.sqrt(9) == pytest.approx(6.0 / math.sqrt(4))
    model = roberta()
    adapted = method.adapt(model, module_names(model), setting)
    layers = [module for module in adapted.modules() if hasattr(module, "lora_A")]
    assert [layer.r["default"] for layer in layers] == [5, 5]
    assert [layer.scaling["default"] for layer in layers] == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("expression", ["lora+pissa", "lora+olora", "dora+pissa"])
def test_a_start_from_the_weights_computes_what_the_base_does_and_can_be_loaded(expression, tmp_path):
    choice = find_method(expression)
    method, setting = choice.method, choice.method.setting_type(r=4)
    base, rows = TINY_MODELS["bert"].build(), TINY_MODELS["bert"].rows(3)
    expected = outputs(base, rows)
    names = module_names(base)
    adapted = method.adapt(base, names, setting)
    assert any(bool(p.any()) for name, p in adapted.named_parameters() if "lora_B" in name)
    assert torch.allclose(outputs(adapted, rows), expected, atol=1e-5)
    with torch.no_grad():
        for group in method.parameter_groups(adapted, names, setting):
            for parameter in group.parameters:
                parameter.mul_(1.1)
    method.save(adapted, tmp_path)
    loaded = PeftModel.from_pretrained(TINY_MODELS["bert"].build(), str(tmp_path))
    assert torch.allclose(outputs(loaded, rows), outputs(adapted, rows), atol=1e-5)
    assert not torch.allclose(outputs(loaded, rows), expected, atol=1e-3)


def test_olora_is_refused_where_peft_fails():
    with pytest.raises(UserError, match="does not work in peft on the Conv1D modules of a gpt2; use pissa"):
        grouped("lora+olora", TINY_MODELS["gpt2"].build())
