"""A checkpoint that lacks a part of the backbone is refused; a layer of the head that it lacks is trained with it."""

import copy
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DebertaV2ForMaskedLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    LlamaModel,
    ViTForImageClassification,
    ViTModel,
)

from parbench.bench.budget.count import Architecture
from parbench.bench.models.catalogue import find_model
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.methods.architecture import module_names
from parbench.tasks.base import LANGUAGE_MODEL, Head
from tests.support.tiny_checkpoints import BERT, DEBERTA, GPT2, LLAMA, VIT, saved, saved_as_bin, seeded

SENTENCES = Head("AutoModelForSequenceClassification", ("no", "yes"))
IMAGES = Head("AutoModelForImageClassification", ("cat", "dog"))


def under_prefix(prefix):
    return lambda name: prefix + name


def in_place_of(old, new):
    return lambda name: name.replace(old, new, 1)


@pytest.mark.parametrize("look", ["load", "skeleton"])
@pytest.mark.parametrize(
    ("make", "head", "renamed", "prefixes"),
    [
        (lambda: BertForMaskedLM(BERT), SENTENCES, under_prefix("_orig_mod."), ("_orig_mod.bert.", "bert.")),
        (lambda: BertForMaskedLM(BERT), SENTENCES, under_prefix("module."), ("module.bert.", "bert.")),
        (lambda: BertForMaskedLM(BERT), SENTENCES, in_place_of("bert.", "encoder_q."), ("encoder_q.", "bert.")),
        (
            lambda: GPT2LMHeadModel(GPT2),
            LANGUAGE_MODEL,
            in_place_of("transformer.", "model.gpt."),
            ("model.gpt.", "transformer."),
        ),
        (lambda: LlamaForCausalLM(LLAMA), LANGUAGE_MODEL, in_place_of("model.", "llm.body."), ("llm.body.", "model.")),
        (lambda: ViTModel(VIT), IMAGES, under_prefix("visual."), ("visual.", "vit.")),
    ],
)
def test_tensors_under_another_prefix_are_refused_and_the_prefix_is_named(
    tmp_path, make, head, renamed, prefixes, look
):
    model = find_model(saved(tmp_path / "model", seeded(make), renamed))
    with pytest.raises(UserError, match="does not fit its configuration: it lacks") as refusal:
        model.load(head, "any") if look == "load" else model.skeleton(head)
    assert f'the prefix "{prefixes[1]}" would fit, and its tensors have "{prefixes[0]}"' in str(refusal.value)


@pytest.mark.parametrize("look", ["load", "skeleton"])
@pytest.mark.parametrize("shards", [1, 3])
def test_files_of_pytorchs_own_format_are_checked_as_well(tmp_path, look, shards):
    model = seeded(lambda: BertForMaskedLM(BERT))
    whole = find_model(saved_as_bin(tmp_path / "whole", model, shards=shards))
    whole.load(SENTENCES, "any") if look == "load" else whole.skeleton(SENTENCES)
    wrapped = find_model(saved_as_bin(tmp_path / "wrapped", model, under_prefix("module."), shards))
    with pytest.raises(UserError, match=r'the prefix "bert\." would fit, and its tensors have "module\.bert\."'):
        wrapped.load(SENTENCES, "any") if look == "load" else wrapped.skeleton(SENTENCES)


@pytest.mark.parametrize(
    "content",
    [b"no archive", b"", pickle.dumps({"a": 1}), pickle.dumps(Path("code"))],
    ids=["text", "empty", "numbers", "code"],
)
def test_a_file_of_something_else_is_refused_and_nothing_of_it_is_run(tmp_path, content):
    folder = saved_as_bin(tmp_path / "model", seeded(lambda: BertForMaskedLM(BERT)))
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be loaded; check its files \(pytorch_model\.bin"):
        find_model(folder).skeleton(SENTENCES)


@pytest.mark.parametrize("look", ["load", "skeleton"])
def test_a_checkpoint_without_some_layers_is_refused_and_they_are_named(tmp_path, look):
    model = seeded(lambda: BertForMaskedLM(BERT))
    folder = saved(tmp_path / "half", model, lambda name: None if ".layer.1." in name else name)
    found = find_model(folder)
    with pytest.raises(UserError) as refusal:
        found.load(SENTENCES, "any") if look == "load" else found.skeleton(SENTENCES)
    assert str(refusal.value) == (
        'the checkpoint of "half" does not fit its configuration: it lacks 16 of the 39 tensors of the backbone, such '
        "as bert.encoder.layer.1.attention.output.LayerNorm.bias, "
        "bert.encoder.layer.1.attention.output.LayerNorm.weight, bert.encoder.layer.1.attention.output.dense.bias and "
        "13 more; get the whole checkpoint, or the configuration that it was made with"
    )


@pytest.mark.parametrize(
    ("make", "config", "head"),
    [
        (BertForSequenceClassification, BERT, SENTENCES),
        (BertModel, BERT, SENTENCES),
        (LlamaModel, LLAMA, LANGUAGE_MODEL),
    ],
)
def test_layers_that_the_configuration_leaves_out_are_noted(tmp_path, make, config, head):
    folder = saved(tmp_path / "model", seeded(lambda: make(config)))
    shorter = copy.deepcopy(config)
    shorter.num_hidden_layers = 1
    shorter.save_pretrained(folder)
    with pytest.warns(UserWarning, match=r"layers that its configuration leaves out: .*\.1\."):
        find_model(folder).load(head, "any")


def test_a_single_missing_tensor_is_refused(tmp_path):
    model = seeded(lambda: ViTForImageClassification(VIT))
    folder = saved(tmp_path / "vit", model, lambda name: None if name.endswith("cls_token") else name)
    with pytest.raises(UserError, match=r"vit\.embeddings\.cls_token"):
        find_model(folder).load(IMAGES, "any")


@pytest.mark.parametrize(
    ("make", "pooler"),
    [(lambda: BertForMaskedLM(BERT), "bert.pooler"), (lambda: DebertaV2ForMaskedLM(DEBERTA), "pooler")],
)
def test_a_pooler_that_the_checkpoint_lacks_is_part_of_the_head(tmp_path, make, pooler):
    found = find_model(saved(tmp_path / "model", seeded(make)))
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match="has no pooler: newly initialised, and trained and counted as part of the"):
        model = found.load(SENTENCES, "any")
    names = module_names(model)
    assert names.head == ("classifier", "pooler")
    assert module_names(found.skeleton(SENTENCES)) == names
    assert names.in_head(f"{pooler}.dense.weight")


def test_a_pooler_of_the_checkpoint_is_part_of_the_backbone(tmp_path):
    model = seeded(lambda: BertForSequenceClassification(BERT))
    found = find_model(saved(tmp_path / "bert", model))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = found.load(SENTENCES, "any")
    assert torch.equal(loaded.bert.pooler.dense.weight, model.bert.pooler.dense.weight)
    assert module_names(loaded).head == module_names(found.skeleton(SENTENCES)).head == ("classifier",)


def test_a_language_model_head_that_the_checkpoint_lacks_is_trained(tmp_path):
    found = find_model(saved(tmp_path / "llama", seeded(lambda: LlamaModel(LLAMA))))
    with pytest.warns(UserWarning, match="has no lm_head"):
        loaded = found.load(LANGUAGE_MODEL, "any")
    assert module_names(loaded).head == module_names(found.skeleton(LANGUAGE_MODEL)).head == ("lm_head",)


@pytest.fixture(scope="module")
def without_pooler(tmp_path_factory):
    return find_model(saved(tmp_path_factory.mktemp("models") / "bert", seeded(lambda: BertForMaskedLM(BERT))))


@pytest.fixture(scope="module")
def without_lm_head(tmp_path_factory):
    return find_model(saved(tmp_path_factory.mktemp("models") / "llama", seeded(lambda: LlamaModel(LLAMA))))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize(("kind", "layer"), [("without_pooler", "pooler"), ("without_lm_head", "lm_head")])
def test_every_method_trains_a_new_layer_with_the_head(name, kind, layer, request, tmp_path):
    base = request.getfixturevalue(kind)
    head = SENTENCES if kind == "without_pooler" else LANGUAGE_MODEL
    method = METHODS[name]
    setting = method.setting_type()
    model = base.load(head, "any")
    names = module_names(model)
    own = {parameter.numel() for key, parameter in model.named_parameters() if layer in key.split(".")}
    try:
        adapted = method.adapt(model, names, setting)
    except (ValueError, NotImplementedError, RuntimeError) as error:
        pytest.skip(f"{name} does not adapt this model: {error}")
    groups = method.parameter_groups(adapted, names, setting)
    in_head = {id(p) for group in groups if group.is_head for p in group.parameters}
    new = [p for key, p in adapted.named_parameters() if layer in key.split(".") and id(p) in in_head]
    assert {p.numel() for p in new} == own
    assert all(p.requires_grad for p in new)
    method.save(adapted, tmp_path / "adapter")
    counted = Architecture(base, head).count(method, setting)
    assert counted.head == sum(group.numbers for group in groups if group.is_head)
    assert counted.reported == method.reported_parameters(adapted, names)
