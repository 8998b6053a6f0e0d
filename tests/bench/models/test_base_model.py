import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
    LlamaModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from parbench.bench.budget.count import Architecture
from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.catalogue import find_model
from parbench.bench.models.weights import FolderWeights
from parbench.bench.util.errors import UserError
from parbench.methods import METHODS
from parbench.tasks.base import LANGUAGE_MODEL, Head
from tests.support.tiny_checkpoints import BERT, GPT2, LLAMA, VIT, saved

TINY_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
}


@pytest.fixture
def classifier(tmp_path):
    """A ViT on disk that has a head of three classes."""
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**TINY_VIT, num_labels=3))
    model.save_pretrained(tmp_path / "vit")
    return model


SENTENCES = Head("AutoModelForSequenceClassification", ("no", "yes"))


def images(classes):
    return Head("AutoModelForImageClassification", tuple(map(str, range(classes))))


@pytest.mark.parametrize("classes", [3, 5])
def test_the_head_of_a_checkpoint_is_initialised_again(tmp_path, classifier, classes):
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = find_model(str(tmp_path / "vit")).load(images(classes), "any")
        heads.append(model.classifier.weight)
        assert torch.equal(model.vit.layers[0].mlp.fc1.weight, classifier.vit.layers[0].mlp.fc1.weight)
    assert heads[0].shape == (classes, 16)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0][:3], classifier.classifier.weight)


def test_weights_that_do_not_fit_their_configuration_are_refused(tmp_path, classifier):
    other = ViTConfig(**{**TINY_VIT, "intermediate_size": 24}, num_labels=3)
    other.save_pretrained(tmp_path / "vit")
    with pytest.raises(UserError, match="do not fit its configuration"):
        find_model(str(tmp_path / "vit")).load(images(3), "any")


def test_a_language_model_keeps_its_head_and_pads_with_its_end_of_text(tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=2, eos_token_id=29, bos_token_id=29))
    model.save_pretrained(tmp_path / "gpt2")
    loaded = find_model(str(tmp_path / "gpt2")).load(LANGUAGE_MODEL, "any")
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert loaded.config.pad_token_id == 29


def test_a_base_model_without_a_head_gets_one(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    BertForSequenceClassification(config).bert.save_pretrained(tmp_path / "bert")
    head = Head("AutoModelForSequenceClassification", ("no", "yes", "perhaps"))
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        drawn.append(find_model(str(tmp_path / "bert")).load(head, "any").classifier.weight)
    assert drawn[0].shape == (3, 16)
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("model", "head", "needed"),
    [
        ("bert-tiny", LANGUAGE_MODEL, "a causal language model"),
        ("bert-tiny", images(2), "a model of images"),
        ("vit-s-14", SENTENCES, "a model of text"),
        ("vit-s-14", LANGUAGE_MODEL, "a causal language model"),
    ],
)
def test_a_base_model_that_cannot_have_the_head_of_a_task_is_a_sentence(model, head, needed):
    with pytest.raises(UserError, match=f"the task needs {needed}, and the base model"):
        find_model(model).check("main", head)


@pytest.mark.parametrize(
    ("model", "head"),
    [
        ("bert-tiny", SENTENCES),
        ("vit-s-14", images(2)),
        ("smollm2-135m", LANGUAGE_MODEL),
        ("smollm2-135m", SENTENCES),
    ],
)
def test_one_that_can_have_it_is_taken(model, head):
    find_model(model).check("main", head)


def test_the_shape_of_a_packaged_model_is_that_of_its_files():
    """Counting uses the shape and loading the files: they must be of the same architecture."""
    model = find_model("minilm-l6")
    read = AutoConfig.from_pretrained(model.weights.location()).to_dict()
    made = model.config().to_dict()
    differing = {name for name in made if made[name] != read.get(name)}
    assert differing <= {"architectures", "dtype", "_name_or_path", "transformers_version"}


@pytest.mark.parametrize(
    ("make", "auto_class"),
    [
        (lambda: ViTModel(VIT), "AutoModelForImageClassification"),
        (lambda: ViTForImageClassification(VIT), "AutoModelForImageClassification"),
        (lambda: LlamaModel(LLAMA), "AutoModelForCausalLM"),
        (lambda: LlamaForSequenceClassification(LLAMA), "AutoModelForSequenceClassification"),
        (lambda: BertForMaskedLM(BERT), "AutoModelForSequenceClassification"),
        (lambda: GPT2LMHeadModel(GPT2), "AutoModelForCausalLM"),
    ],
)
def test_the_configuration_of_a_folder_decides_what_the_model_is_used_for(tmp_path, make, auto_class):
    model = find_model(saved(tmp_path / "model", make()))
    assert model.auto_class == auto_class
    assert model.skeleton().can_generate() == (auto_class == "AutoModelForCausalLM")


def test_a_local_image_model_is_counted(tmp_path):
    architecture = Architecture(find_model(saved(tmp_path / "vit", ViTModel(VIT))))
    counted = architecture.count(METHODS["lora"], METHODS["lora"].setting_type(r=2))
    assert counted.reported == 2 * 2 * 2 * (16 + 16)  # query and value of two layers


def test_the_advice_for_a_folder_is_not_to_give_a_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "never_heard_of"}')
    with pytest.raises(UserError, match="cannot be loaded; check its files") as refusal:
        find_model(str(tmp_path)).check("any", SENTENCES)
    assert "--model" not in str(refusal.value)


def test_a_folder_with_an_adapter_is_refused(tmp_path):
    model = BertForSequenceClassification(BERT)
    model.save_pretrained(tmp_path / "both")
    get_peft_model(model, LoraConfig(target_modules=["query"])).save_pretrained(tmp_path / "both")
    with pytest.raises(UserError, match=r"holds an adapter \(adapter_config.json\); give the model without it"):
        find_model(str(tmp_path / "both"))
    # As it would come from the hub.
    beside = BaseModel("both", FolderWeights(tmp_path / "both"))
    with pytest.raises(UserError, match="has an adapter beside it"):
        beside.load(Head("AutoModelForSequenceClassification", ("no", "yes")), "any")


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "fp8"])
def test_quantised_weights_are_refused_before_loading(tmp_path, method):
    config = BertConfig(**BERT.to_dict())
    config.quantization_config = {"quant_method": method, "bits": 4}
    config.save_pretrained(tmp_path / "q")
    with pytest.raises(UserError, match=rf"are quantised \({method}\), and runs start from weights in full precision"):
        find_model(str(tmp_path / "q")).check("any", Head("AutoModelForSequenceClassification", ("no", "yes")))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("/no/such/folder", '^there is no folder "/no/such/folder" with a base model$'),
        ("./mine", '^there is no folder "./mine" with a base model$'),
        ("bert-base-uncased", "or give a hub id with its owner, such as google-bert/bert-base-uncased, or a local"),
        ("minilm-l7", 'did you mean "minilm-l6"'),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(name, answer):
    with pytest.raises(UserError, match=answer):
        find_model(name)
