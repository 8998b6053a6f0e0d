import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.methods.selective import load_trained
from parbench.methods.testing.models import TINY_MODELS, outputs
from parbench.methods.testing.subject import Subject


def adapt(name, model, **options):
    base = TINY_MODELS[model].build()
    names = module_names(base)
    method = METHODS[name]
    return method, method.adapt(base, names, method.setting_type(**options)), names


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_full_fine_tuning_trains_everything():
    _, model, _ = adapt("full", "bert")
    assert trainable(model) == {name for name, _ in model.named_parameters()}


def test_full_fine_tuning_of_some_modules():
    _, model, names = adapt("full", "bert", target_modules=("query", "value"))
    outside_head = {name for name in trainable(model) if not names.in_head(name)}
    assert outside_head == {
        f"bert.encoder.layer.{layer}.attention.self.{module}.{part}"
        for layer in (0, 1)
        for module in ("query", "value")
        for part in ("weight", "bias")
    }


def test_bitfit_trains_biases_and_the_head():
    _, model, names = adapt("bitfit", "bert")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name.endswith(".bias") or names.in_head(name))
    assert "bert.embeddings.LayerNorm.bias" in trainable(model)


def test_the_linear_probe_trains_the_head_alone():
    method, model, names = adapt("linear_probe", "bert")
    assert trainable(model) == {"classifier.weight", "classifier.bias"}
    assert method.adapter_state(model, names) == {}
    adapter, head = method.parameter_groups(model, names, method.setting_type(head_learning_rate=0.5))
    assert adapter.parameters == []
    assert (len(head.parameters), head.learning_rate) == (2, 0.5)
    with pytest.raises(ValueError, match="target_modules"):
        method.setting_type(target_modules=("query",))


@pytest.mark.parametrize(
    ("name", "model", "options", "why"),
    [
        ("bitfit", "llama", {}, "none of its modules has a bias"),
        ("linear_probe", "llama", {}, "it has no task head"),
        (
            "full",
            "bert",
            {"target_modules": ("pooler",), "layers": (1,)},
            "no parameter belongs to the given target_modules and layers",
        ),
    ],
)
def test_a_model_with_nothing_to_train_is_refused(name, model, options, why):
    with pytest.raises(ValueError, match=f'"{name}" finds nothing to train in this {model}: {why}'):
        adapt(name, model, **options)


def test_there_is_no_peft_configuration():
    method, _, names = adapt("full", "bert")
    with pytest.raises(TypeError, match=r"use adapt\(\)"):
        method.config(names, method.setting_type())


def test_layers_can_be_chosen():
    _, model, names = adapt("bitfit", "bert", layers=(1,))
    outside_head = {name for name in trainable(model) if not names.in_head(name)}
    assert outside_head
    assert all(name.startswith("bert.encoder.layer.1.") for name in outside_head)
    with pytest.raises(ValueError, match="leave larger_layers out"):
        adapt("bitfit", "bert", larger_layers=(1,))


@pytest.mark.parametrize("name", ["full", "bitfit", "linear_probe"])
def test_what_is_saved_is_what_was_trained(name, tmp_path):
    method, model, names = adapt(name, "bert")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    method.save(model, tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "trained.safetensors")
    assert set(stored) == trainable(model)
    assert set(method.adapter_state(model, names)) == {key for key in stored if not names.in_head(key)}
    fresh = TINY_MODELS["bert"].build()
    load_trained(fresh, tmp_path / "adapter")
    rows = TINY_MODELS["bert"].rows(2)
    assert torch.equal(outputs(fresh, rows), outputs(model, rows))
    with pytest.raises(ValueError, match="does not fit this model"):
        load_trained(TINY_MODELS["llama"].build(), tmp_path / "adapter")


def test_tied_weights_are_trained_and_saved_once(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=8))
    method = METHODS["full"]
    names = module_names(model)
    adapted = method.adapt(model, names, method.setting_type())
    assert method.reported_parameters(adapted, names) == sum(p.numel() for p in model.parameters())
    method.save(adapted, tmp_path)
    stored = load_file(tmp_path / "trained.safetensors")
    assert "transformer.wte.weight" in stored
    assert "lm_head.weight" not in stored


@pytest.mark.parametrize("name", ["bitfit", "linear_probe"])
def test_a_trainers_checkpoint_can_be_resumed_from(name, tmp_path):
    method = METHODS[name]
    subject = Subject(method, method.setting_type(), TINY_MODELS["bert"], tmp_path)
    expected, resumed = subject.trained.state(), subject.resume().state()
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert not torch.equal(expected["classifier.weight"], subject.fresh.start["classifier.weight"])
