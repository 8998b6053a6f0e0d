"""A decoder's output for a text does not depend on what else is in its batch, and its attention can be adapted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, DataCollatorWithPadding

from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.catalogue import find_model
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.architecture import MODULE_NAMES, module_names, shared_weights
from parbench.methods.selection import adapted_modules
from parbench.tasks.base import LANGUAGE_MODEL, Head
from parbench.tasks.glue import SST2
from parbench.tasks.inference import Predictor
from tests.support.tiny_decoders import VOCABULARY, decoder_families, tiny_config
from tests.support.tiny_llama import word_tokenizer

HEAD = Head("AutoModelForSequenceClassification", ("no", "yes", "perhaps"))
WORDS = tuple(f"w{number}" for number in range(VOCABULARY - 3))
# Of 1 to 32 tokens, that of the configuration's padding among them, but not the tokenizer's special ones.
TEXTS = [[3 + (3 * text + place) % len(WORDS) for place in range(1 + text)] for text in range(32)]

# By family, the layers of its classification head where it is not called score.
HEADS = {"ctrl": ("classifier",), "modernbert-decoder": ("head", "classifier")}
# Families that are refused, with a word of the reason.
REFUSED = {"xlnet": "no linear layers", "gemma3": "gemma3_text", "qwen3_5": "qwen3_5_text"}
FAMILIES = [kind for kind in decoder_families() if kind not in REFUSED]
ZAMBA = ("zamba", "zamba2")


def saved(kind: str, folder: Path, auto_class: Any = AutoModelForSequenceClassification) -> BaseModel:
    """Save a tiny model with a tokenizer. Its configuration pads with a token of the texts, and ends with several."""
    torch.manual_seed(0)
    auto_class.from_config(tiny_config(kind, pad_token_id=7, eos_token_id=[1, 2])).save_pretrained(folder)
    tokenizer = word_tokenizer(WORDS)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    return find_model(str(folder))


def on_meta(kind: str) -> Any:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(tiny_config(kind, pad_token_id=0))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_text_has_the_same_logits_alone_and_in_a_batch_of_32(kind: str, tmp_path: Path) -> None:
    found = saved(kind, tmp_path)
    found.check("any", HEAD)
    model, tokenizer = found.load(HEAD, "any").eval(), found.tokenizer("any")
    rows = [{"input_ids": text} for text in TEXTS]
    collate = DataCollatorWithPadding(tokenizer)
    with torch.no_grad():
        alone = torch.cat([model(**collate([row])).logits for row in rows])
        together = model(**collate(rows)).logits
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert alone.std(dim=0).min() > 1e-4


def test_an_empty_text_is_classified_alone_and_in_a_batch(tmp_path: Path) -> None:
    found = saved("llama", tmp_path)
    head = Head("AutoModelForSequenceClassification", ("negative", "positive"))
    model, tokenizer = found.load(head, "any").eval(), found.tokenizer("any")
    rows = SST2.prepare(Dataset.from_dict({"sentence": ["", "w1 w2", ""], "label": [0, 1, 0]}), tokenizer, 32)
    assert rows["input_ids"][0] == [tokenizer.pad_token_id]

    def logits(batch_size: int) -> np.ndarray:
        return Predictor(model, tokenizer, SST2.collate(tokenizer), batch_size, torch.device("cpu")).logits(rows)

    np.testing.assert_allclose(logits(3), logits(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_family_that_cannot_be_adapted_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    assert kind in decoder_families()
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"cannot be adapted: .*{REFUSED[kind]}"):
        find_model(str(tmp_path)).check("any", HEAD)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_modules_of_a_family_have_the_names_given(kind: str) -> None:
    model = on_meta(kind)
    names = module_names(model)
    modules = [f".{name}" for name, _ in model.named_modules()]
    for part in (names.query, names.key, names.value, names.output, *names.head):
        assert any(module.endswith(f".{part}") for module in modules), part
    assert names.head == HEADS.get(kind, ("score",))


@pytest.mark.parametrize("method", ["lora", "loca(n_frequency=4)"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_adapted_projection_of_a_family_is_trained(kind: str, method: str, tmp_path: Path) -> None:
    base = saved(kind, tmp_path).load(HEAD, "any")
    found = find_method(method)
    model: Any = found.method.adapt(base, module_names(base), found.method.setting_type(**found.values))
    batch = DataCollatorWithPadding(word_tokenizer(WORDS))([{"input_ids": text} for text in TEXTS[8:12]])
    logits = model.train()(**batch).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()

    ends = tuple(f".{name}" for name in module_names(base).query_value)
    targets = adapted_modules(model)
    assert targets
    assert all(target.endswith(ends) for target in targets)
    trained = {"lora_B", "loca_coefficients"}
    for name, parameter in model.named_parameters():
        if not trained.isdisjoint(name.split(".")):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_latent_queries_that_are_not_compressed_have_another_name() -> None:
    config = tiny_config("deepseek_v2")
    assert module_names(on_meta("deepseek_v2")).query == "q_b_proj"
    config.q_lora_rank = None
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    assert module_names(model).query_value == ("q_proj", "kv_b_proj")


def test_keys_and_values_of_one_projection_have_no_learning_rates_of_their_own() -> None:
    found = find_method("lora+qv_ratio(4)")
    model = on_meta("deepseek_v3")
    with pytest.raises(UserError, match="kv_b_proj"):
        found.method.adapt(model, module_names(model), found.method.setting_type())


@pytest.mark.parametrize(
    ("kind", "method", "reason"),
    [
        ("deepseek_v3", "prefix_tuning", "keeps compressed"),
        ("axk2", "prefix_tuning", "keeps compressed"),
        ("qwen3_next", "prefix_tuning", "have a state instead"),
        ("zamba2", "prefix_tuning", "have a state instead"),
        ("minicpm3", "oft", "kv_b_proj gets four"),
        ("mistral4", "gralora", "kv_b_proj gets four"),
    ],
)
def test_what_would_fail_in_the_forward_pass_is_refused_without_weights(kind: str, method: str, reason: str) -> None:
    found = find_method(method)
    model = on_meta(kind)
    with pytest.raises(UserError, match=reason):
        found.method.adapt(model, module_names(model), found.method.setting_type())


@pytest.mark.parametrize("kind", ZAMBA)
def test_shared_attention_is_adapted_by_layer_and_not_merged(kind: str, tmp_path: Path) -> None:
    base = saved(kind, tmp_path).load(HEAD, "any")
    shared = [names for names in shared_weights(base) if names[0].endswith("q_proj")]
    assert len(shared) == 1
    assert len(shared[0]) == 2
    found = find_method("loca(n_frequency=4)")
    model: Any = found.method.adapt(base, module_names(base), found.method.setting_type(**found.values))
    assert set(shared[0]) <= set(adapted_modules(model))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with pytest.raises(ValueError, match=r"cannot merge into the weight of .*\.1\..*, which .*\.3\..* shares"):
        model.merge_adapter()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_a_start_that_changes_shared_weights_is_refused(tmp_path: Path) -> None:
    base = saved("zamba", tmp_path).load(HEAD, "any")
    found = find_method("lora+pissa")
    with pytest.raises(UserError, match="share theirs"):
        found.method.adapt(base, module_names(base), found.method.setting_type())


def language_models() -> list[str]:
    causal = AutoModelForCausalLM._model_mapping
    return [kind for kind in FAMILIES if type(tiny_config(kind)) in causal and kind in MODULE_NAMES]


@pytest.mark.parametrize("kind", language_models())
def test_a_language_model_writes_the_same_alone_and_in_a_batch(kind: str, tmp_path: Path) -> None:
    found = saved(kind, tmp_path, AutoModelForCausalLM)
    model, tokenizer = found.load(LANGUAGE_MODEL, "any").eval(), found.tokenizer("any")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # far from uniform, so that positions and padding matter
                parameter.mul_(4.0)
    prompts = [TEXTS[length] for length in (3, 17, 9, 28, 11)]

    def written(batch_size: int) -> list[list[int]]:
        predictor = Predictor(model, tokenizer, lambda rows: {}, batch_size, torch.device("cpu"))
        return predictor.generate(prompts, do_sample=False, num_beams=1, max_new_tokens=8)

    alone = written(1)
    assert written(5) == alone
    assert len({tuple(tokens) for tokens in alone}) > 1
