"""Methods on a model that sees images and writes text: where they are put, and that they keep the contract."""

import pytest

from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.selection import adapted_modules
from parbench.methods.testing import check_method
from parbench.methods.testing.models import IMAGE_TEXT_MODEL

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", ["loca", "vera", *(pytest.param(name, marks=SLOW) for name in ("lora", "dora", "fourierft", "replora"))]
)
def test_a_method_keeps_the_contract_on_a_model_that_sees_images(name):
    report = check_method(METHODS[name], model=IMAGE_TEXT_MODEL)
    assert not report.failures, f"\n{report}"


def adapted(name="lora", **setting):
    model = IMAGE_TEXT_MODEL.build()
    names = module_names(model)
    chosen = METHODS[name].setting_type(**setting)
    return METHODS[name].adapt(model, names, chosen), names


def projections(part, names=("q_proj", "v_proj"), layers=(0, 1)):
    inside = {"language_model": "layers.{}.self_attn", "vision_tower": "encoder.layer.{}.attention"}[part]
    return {f"model.{part}.{inside.format(layer)}.{name}" for layer in layers for name in names}


@pytest.mark.parametrize("name", ["lora", "loca", "replora", "vera", "adalora"])
def test_adapters_are_put_on_the_language_model(name):
    model, _ = adapted(name)
    assert set(adapted_modules(model)) == projections("language_model")


def test_layers_are_those_of_the_language_model():
    model, _ = adapted(layers=(1,))
    assert set(adapted_modules(model)) == projections("language_model", layers=(1,))


def test_other_parts_are_named():
    model, _ = adapted(target_modules=("vision_tower:q_proj", "language_model:o_proj"))
    vision = {name for name in adapted_modules(model) if "vision_tower" in name}
    assert vision == {name for name in adapted_modules(model) if name.endswith("q_proj")}
    assert set(adapted_modules(model)) - vision == projections("language_model", ("o_proj",))
    assert len(vision) == 2
    both, _ = adapted(target_modules=("q_proj",))
    assert len(adapted_modules(both)) == 4


def test_the_connector_is_trained_and_is_the_head():
    model, names = adapted()
    assert names.head == ("multi_modal_projector",)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = {name for name in trained if names.in_head(name)}
    assert len(head) == 4
    assert all("lora_" in name for name in trained - head)
    groups = METHODS["lora"].parameter_groups(model, names, METHODS["lora"].setting_type())
    assert [group.name for group in groups if group.is_head and group.numbers] == ["head"]


def test_all_linear_layers_are_those_of_the_language_model_or_of_a_named_part():
    attention = [f"self_attn.{name}_proj" for name in "qkvo"]
    inside = [*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    language = {f"model.language_model.layers.{layer}.{name}" for layer in (0, 1) for name in inside}
    assert set(adapted_modules(adapted(target_modules=("all-linear",))[0])) == language
    vision = set(adapted_modules(adapted(target_modules=("vision_tower:all-linear",))[0]))
    # Of Dinov2: four projections of the attention and two of the MLP in each of two layers.
    assert len(vision) == 2 * 6
    assert not any("language_model" in name for name in vision)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("connector:linear_1", "names the connector, which is trained whole anyway"),
        ("vision:q_proj", 'has the part "vision", which no model has'),
        ("vision_tower:query", 'no module of the vision_tower is called "query"'),
    ],
)
def test_a_part_or_module_that_is_not_there_is_refused(target, reason):
    with pytest.raises(UserError, match=reason):
        adapted(target_modules=(target,))


def test_a_model_without_parts_has_none():
    from parbench.methods.testing import TINY_MODELS

    model = TINY_MODELS["llama"].build()
    setting = METHODS["lora"].setting_type(target_modules=("language_model:q_proj",))
    with pytest.raises(UserError, match='this model has no parts; leave "language_model:" out'):
        METHODS["lora"].adapt(model, module_names(model), setting)


def test_bias_tuning_finds_the_vision_tower():
    model, names = adapted("bitfit", target_modules=("vision_tower:q_proj",))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if not names.in_head(name)} == {
        f"{name}.bias" for name in projections("vision_tower", ("q_proj",))
    } or all("vision_tower" in name for name in trained if not names.in_head(name))
