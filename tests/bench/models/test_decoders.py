"""A decoder's classification of a text does not depend on what else is in its batch."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from parbench.bench.models.catalogue import find_model
from parbench.methods.architecture import MODULE_NAMES, ModuleNames, module_names
from parbench.tasks.base import Head
from tests.support.tiny_decoders import LEFT_OUT, VOCABULARY, decoder_families, tiny_config
from tests.support.tiny_llama import word_tokenizer

HEAD = Head("AutoModelForSequenceClassification", ("no", "yes", "perhaps"))
WORDS = tuple(f"w{number}" for number in range(VOCABULARY - 3))
# Of 1 to 32 tokens, that of the configuration's padding among them, but not the tokenizer's special ones.
TEXTS = [[3 + (3 * text + place) % len(WORDS) for place in range(1 + text)] for text in range(32)]

# By family, the layers of its classification head where it is not called score.
HEADS = {"ctrl": ("classifier",), "modernbert-decoder": ("head", "classifier")}


def families():
    return [kind for kind in decoder_families() if kind not in LEFT_OUT]


def test_what_is_left_out_is_there():
    assert set(LEFT_OUT) <= set(decoder_families())


@pytest.mark.parametrize("kind", families())
def test_a_text_has_the_same_logits_alone_and_in_a_batch_of_32(kind, tmp_path, monkeypatch):
    if kind not in MODULE_NAMES:
        monkeypatch.setitem(MODULE_NAMES, kind, ModuleNames("q_proj", "k_proj", "v_proj", "o_proj", ("score",)))
    torch.manual_seed(0)
    # The configuration pads with a token that texts have, and ends with several.
    config = tiny_config(kind, pad_token_id=7, eos_token_id=[1, 2])
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer = word_tokenizer(WORDS)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)

    found = find_model(str(tmp_path))
    model, tokenizer = found.load(HEAD, "any").eval(), found.tokenizer("any")
    rows = [{"input_ids": text} for text in TEXTS]
    collate = DataCollatorWithPadding(tokenizer)
    with torch.no_grad():
        alone = torch.cat([model(**collate([row])).logits for row in rows])
        together = model(**collate(rows)).logits
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert alone.std(dim=0).min() > 1e-4


@pytest.mark.parametrize("kind", [kind for kind in families() if kind in MODULE_NAMES])
def test_the_modules_of_a_family_have_the_names_given(kind):
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(tiny_config(kind, pad_token_id=0))
    names = module_names(model)
    modules = [f".{name}" for name, _ in model.named_modules()]
    for part in (names.query, names.key, names.value, names.output, *names.head):
        assert any(module.endswith(f".{part}") for module in modules), part
    assert names.head == HEADS.get(kind, ("score",))
