"""What a run would be refused for because of its base model is refused when it is planned."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    BertForSequenceClassification,
    DebertaV2ForSequenceClassification,
    LlamaForCausalLM,
    ViTForImageClassification,
    ViTImageProcessor,
)

from parbench.bench.budget.count import Architecture
from parbench.bench.models.catalogue import find_model
from parbench.bench.plan.model_checks import refusal
from parbench.bench.plan.overrides import Overrides
from parbench.bench.plan.planner import make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.tasks.base import Head
from parbench.tasks.data.lock import RevisionLock
from tests.support.tiny_checkpoints import BERT, DEBERTA, LLAMA, VIT, saved
from tests.support.tiny_llama import word_tokenizer

SHORT = ("train.max_length=32",)


@pytest.fixture
def plan(tmp_path):
    def make(**overrides):
        return make_plan(load_suite("mini"), Overrides(**overrides), RevisionLock(tmp_path / "lock.json"))

    return make


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "vit"
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder)
    return saved(folder, ViTForImageClassification(VIT))


@pytest.mark.parametrize(
    ("task", "needed"), [("vision/digits", "a model of images"), ("restaurants_nlg", "a causal language model")]
)
def test_a_model_that_cannot_have_the_head_of_a_task_is_not_planned(plan, tiny_model, task, needed):
    with pytest.raises(UserError, match=f"the task needs {needed}"):
        plan(tasks=(task,), base_model=str(tiny_model), sets=SHORT)


def test_a_registered_model_of_another_kind_is_not_planned(plan):
    with pytest.raises(UserError, match="the task needs a model of text"):
        plan(tasks=("glue/sst2",), base_model="vit-base")


def test_a_folder_without_a_tokenizer_is_not_planned(plan, tmp_path):
    folder = saved(tmp_path / "bert", BertForSequenceClassification(BERT))
    with pytest.raises(UserError, match="has no tokenizer"):
        plan(tasks=("glue/sst2",), base_model=folder, sets=SHORT)


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_a_folder_without_weights_is_not_planned(plan, tiny_model, tmp_path, format):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    if format == "bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    options = {"tasks": ("glue/sst2",), "methods": ("lora",), "base_model": str(folder), "sets": SHORT}
    if format == "bin":
        assert plan(**options).runs
        return
    with pytest.raises(UserError, match=r'^the base model "model" cannot be loaded; check its files \(there are no w'):
        plan(**options)
    # What needs no weights needs none.
    assert Architecture(find_model(str(folder))).base_parameters


def test_a_checkpoint_that_does_not_fit_is_not_planned(plan, tmp_path):
    folder = saved(tmp_path / "bert", BertForSequenceClassification(BERT), lambda name: f"module.{name}")
    with pytest.raises(UserError, match="does not fit its configuration"):
        plan(tasks=("glue/sst2",), base_model=folder, sets=SHORT)


def test_more_tokens_than_the_model_takes_are_not_planned(plan, tiny_model):
    with pytest.raises(UserError, match=r"it takes 64 tokens; use --set train\.max_length=64"):
        plan(tasks=("glue/sst2",), base_model=str(tiny_model), sets=("train.max_length=65",))


def test_the_tokens_of_a_prompt_count(plan, tiny_model):
    long, short = ((f"train.max_length={length}",) for length in (45, 44))
    options = {"tasks": ("glue/sst2",), "base_model": str(tiny_model), "methods": ("prefix_tuning", "lora")}
    with pytest.raises(UserError, match=r"prompt takes 20; use --set train\.max_length=44"):
        plan(**options, sets=long)
    assert plan(**options, sets=short).runs


def test_what_a_suite_sets_for_its_own_image_model_does_not_hold_for_another(plan, vit):
    assert {run.spec.options["image_size"] for run in plan(tasks=("vision/digits",)).runs} == {56}
    assert {run.spec.options["image_size"] for run in plan(tasks=("vision/digits",), base_model=vit).runs} == {None}


def test_an_image_size_that_the_model_cannot_take_is_not_planned(plan, vit):
    with pytest.raises(UserError, match="image_size is 16, and vit takes images of 8 x 8 pixels only"):
        plan(tasks=("vision/digits",), base_model=vit, sets=("vision.image_size=16",))
    plan(tasks=("vision/digits",), base_model=vit, sets=("vision.image_size=8",))


def test_a_prefix_is_refused_where_the_model_takes_no_past_keys_and_values(tmp_path):
    head = Head("AutoModelForSequenceClassification", ("no", "yes"))
    deberta, bert = (
        Architecture(find_model(saved(tmp_path / name, make(config))), head)
        for name, make, config in (
            ("deberta", DebertaV2ForSequenceClassification, DEBERTA),
            ("bert", BertForSequenceClassification, BERT),
        )
    )
    prefix, prompt = METHODS["prefix_tuning"], METHODS["prompt_tuning"]
    assert refusal(prefix, prefix.setting_type(), bert, chosen=False) is None
    reason = refusal(prefix, prefix.setting_type(), deberta, chosen=False)
    assert reason is not None
    assert "a prefix is made of past keys and values, which the model does not take" in reason
    with pytest.raises(UserError, match="prefix_tuning on deberta: "):
        refusal(prefix, prefix.setting_type(), deberta, chosen=True)
    assert refusal(prompt, prompt.setting_type(), deberta, chosen=False) is None


@pytest.fixture
def llama(tmp_path):
    """A model without any bias."""
    word_tokenizer(("a", "b")).save_pretrained(tmp_path / "llama")
    return saved(tmp_path / "llama", LlamaForCausalLM(LLAMA))


NO_BIAS = '"bitfit" finds nothing to train in this llama: none of its modules has a bias'


def test_a_method_of_which_nothing_is_set_and_that_cannot_be_put_on_the_model_is_not_planned(plan, llama, bench):
    with pytest.raises(UserError) as error:
        plan(tasks=("glue/sst2",), methods=("bitfit",), base_model=llama, sets=SHORT)
    assert str(error.value) == f"there is nothing to run: bitfit on llama: {NO_BIAS}"
    arguments = ("--suite", "mini", "--tasks", "glue/sst2", "--methods", "bitfit", "--model", llama)
    result = bench("run", *arguments, "--set=train.max_length=32", "--dry-run")
    assert result.code == 2
    assert NO_BIAS in result.err


def test_beside_methods_that_can_be_put_on_the_model_it_is_a_skipped_row(plan, llama):
    runs = plan(tasks=("glue/sst2",), methods=("lora", "bitfit"), base_model=llama, sets=SHORT).runs
    assert {run.spec.method: run.skip for run in runs} == {"lora": None, "bitfit": NO_BIAS}


@pytest.mark.parametrize("budgets", ["2k", "none"])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("target_modules=[nothere]", 'target_modules has "nothere", which no module of this model is called'),
        ("layers=[9]", "layers has 9, but the layers of this model are "),
        ("target_modules=[vision_tower:q_proj]", "this model has no parts"),
    ],
)
def test_what_the_user_has_set_and_the_model_does_not_have_is_a_mistake_at_any_budget(
    plan, llama, value, complaint, budgets
):
    options = {"tasks": ("glue/sst2",), "base_model": llama, "budgets": budgets}
    for methods, sets in (((f"lora({value})", "vera"), ()), (("lora", "vera"), (f"lora.{value}",))):
        with pytest.raises(UserError, match=f"^lora on llama: .*{complaint}"):
            plan(**options, methods=methods, sets=(*SHORT, *sets))


def test_what_cannot_be_put_on_the_model_by_itself_is_skipped_whatever_is_set_of_it(plan, llama, monkeypatch):
    def fails(*arguments):
        raise ValueError("not on this one")

    monkeypatch.setattr(type(METHODS["vera"]), "adapt", fails)
    options = {"tasks": ("glue/sst2",), "base_model": llama, "budgets": "2k", "methods": ("lora", "vera")}
    runs = plan(**options, sets=(*SHORT, "vera.learning_rate=0.1")).runs
    assert {run.spec.method: run.skip for run in runs} == {
        "lora": None,
        "vera": "cannot be counted here: not on this one",
    }


def test_a_fault_of_a_methods_own_is_found_when_planning(llama, monkeypatch):
    architecture = Architecture(find_model(llama))
    lora = METHODS["lora"]

    def fails(*arguments):
        raise AttributeError("no such attribute")

    monkeypatch.setattr(type(lora), "adapt", fails)
    assert refusal(lora, lora.setting_type(), architecture, chosen=False) == "AttributeError: no such attribute"
