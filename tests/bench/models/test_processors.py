"""Tokenizers and image processors agree with their model."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTForImageClassification,
    ViTImageProcessor,
)

from parbench.bench.models.catalogue import find_model
from parbench.bench.train.input_checks import check_length, unknown_tokens
from parbench.bench.util.errors import UserError
from parbench.tasks.base import LANGUAGE_MODEL, Head
from tests.support.tiny_checkpoints import BERT, GPT2, LLAMA, SMALL, VIT, saved
from tests.support.tiny_llama import word_tokenizer

WORDS = tuple(f"w{number}" for number in range(20))
SENTENCES = Head("AutoModelForSequenceClassification", ("no", "yes"))


def folder_of(path, model, tokenizer):
    tokenizer.save_pretrained(path)
    return find_model(saved(path, model))


@pytest.mark.parametrize(
    "make",
    [lambda: BertForSequenceClassification(BERT), lambda: GPT2LMHeadModel(GPT2), lambda: LlamaForCausalLM(LLAMA)],
)
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, make):
    model = find_model(saved(tmp_path / "model", make()))
    with pytest.raises(UserError, match='the base model "model" has no tokenizer; save the one that it was trained'):
        model.tokenizer("any")


def test_a_folder_without_an_image_processor_is_refused(tmp_path):
    model = find_model(saved(tmp_path / "model", ViTForImageClassification(VIT)))
    with pytest.raises(UserError, match='the base model "model" has no image processor'):
        model.image_processor("any")


def with_special(*tokens):
    """Return a tokenizer of words, 23 tokens, and special ones behind them."""
    tokenizer = word_tokenizer(WORDS)
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    return tokenizer


@pytest.mark.parametrize(
    ("make", "rows", "most"),
    [
        (lambda: word_tokenizer(WORDS), 22, 22),
        (lambda: word_tokenizer(WORDS), 23, None),
        (lambda: word_tokenizer(WORDS), 64, None),  # rounded up, as many models have it
        (lambda: with_special("[LATER]"), 23, None),  # which no text has
        (lambda: with_special("[LATER]"), 22, 22),
    ],
)
def test_a_tokenizer_of_more_tokens_than_the_model_has_embeddings_for_is_refused(tmp_path, make, rows, most):
    config = LlamaConfig(**{**LLAMA.to_dict(), "vocab_size": rows, "pad_token_id": 0})
    model = folder_of(tmp_path / "model", LlamaForCausalLM(config), make())
    if most is None:
        assert model.tokenizer("any").pad_token_id == 0
        return
    with pytest.raises(UserError, match=f"tokens up to number {most}, and .* has embeddings for {rows} only"):
        model.tokenizer("any")


def test_an_unknown_or_added_token_without_an_embedding_is_refused(tmp_path):
    vocabulary = {"[PAD]": 0, "[END]": 1, "a": 2, "[UNK]": 3}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", eos_token="[END]", unk_token="[UNK]")
    config = LlamaConfig(**{**LLAMA.to_dict(), "vocab_size": 3, "pad_token_id": 0})
    with pytest.raises(UserError, match="makes tokens up to number 3"):
        folder_of(tmp_path / "model", LlamaForCausalLM(config), tokenizer).tokenizer("any")


def test_images_get_the_size_of_a_model_that_takes_no_other(tmp_path):
    ViTImageProcessor(size={"height": 24, "width": 24}).save_pretrained(tmp_path / "vit")
    model = find_model(saved(tmp_path / "vit", ViTForImageClassification(VIT)))
    with pytest.warns(UserWarning, match="resized to the 8 x 8 pixels of the model"):
        processor = model.image_processor("any")
    assert (processor.size["height"], processor.size["width"]) == (8, 8)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (lambda: GPT2LMHeadModel(GPT2Config(**SMALL, n_positions=24)), 24),
        (lambda: LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=16, max_position_embeddings=48)), 48),
        (
            # The two positions up to that of the padding are of no token.
            lambda: RobertaForSequenceClassification(
                RobertaConfig(**SMALL, intermediate_size=16, max_position_embeddings=34, pad_token_id=1)
            ),
            32,
        ),
        (lambda: LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=16, max_position_embeddings=512)), 64),
    ],
)
def test_the_limit_is_the_smaller_of_tokenizer_and_configuration(tmp_path, model, most):
    assert folder_of(tmp_path / "model", model(), word_tokenizer(WORDS)).tokenizer("any").model_max_length == most


def test_a_tokenizer_without_a_limit_has_that_of_the_model(tmp_path):
    tokenizer = word_tokenizer(WORDS)
    tokenizer.model_max_length = int(1e30)
    model = GPT2LMHeadModel(GPT2Config(**SMALL, n_positions=24))
    assert folder_of(tmp_path / "model", model, tokenizer).tokenizer("any").model_max_length == 24


@pytest.mark.parametrize(
    ("length", "limit", "prompt", "advice"),
    [
        (25, 24, 0, "it takes 24 tokens; use --set train.max_length=24"),
        (20, 24, 10, "of which the method's prompt takes 10; use --set train.max_length=14"),
        (1, 24, 24, "use fewer virtual tokens"),
    ],
)
def test_too_long_inputs_are_refused_and_the_longest_is_named(length, limit, prompt, advice):
    with pytest.raises(UserError, match=advice):
        check_length(length, limit, prompt, "tiny")


@pytest.mark.parametrize(("length", "limit", "prompt"), [(24, 24, 0), (14, 24, 10), (10**6, None, 10)])
def test_inputs_with_room_are_accepted(length, limit, prompt):
    check_length(length, limit, prompt, "tiny")


def test_unknown_words_are_counted_without_special_tokens():
    tokenizer = word_tokenizer(WORDS)
    end, known, unknown = tokenizer.eos_token_id, tokenizer("w1")["input_ids"], tokenizer("strange")["input_ids"]
    assert unknown == [tokenizer.unk_token_id]
    assert unknown_tokens([[*known * 19, *unknown, *[end] * 500]], tokenizer, "tiny").startswith("5.0% of the")
    assert unknown_tokens([[*known * 99, *unknown]], tokenizer, "tiny") is None
    assert unknown_tokens([known, [end], known], tokenizer, "tiny").endswith("no token of 1 of the 3 training texts")


def byte_level(**special):
    vocabulary = {token: number for number, token in enumerate(["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", **special)


def test_a_tokenizer_whose_unknown_token_is_its_end_knows_all_words():
    tokenizer = byte_level(unk_token="<end>")
    assert unknown_tokens([[5, 6, 0]], tokenizer, "tiny") is None


@pytest.mark.parametrize("config_pad", [None, 3, 7])
@pytest.mark.parametrize("end", [1, [1, 2]])
def test_a_model_pads_with_the_token_of_its_tokenizer(tmp_path, config_pad, end):
    config = LlamaConfig(**SMALL, intermediate_size=16, pad_token_id=config_pad, eos_token_id=end)
    model = folder_of(tmp_path / "model", LlamaForCausalLM(config), word_tokenizer(WORDS))
    tokenizer = model.tokenizer("any")
    for head in (SENTENCES, LANGUAGE_MODEL):
        assert model.load(head, "any").config.pad_token_id == tokenizer.pad_token_id == 0


def test_a_padding_token_beyond_the_vocabulary_of_the_model_is_not_used(tmp_path):
    tokenizer = word_tokenizer(tuple(f"w{number}" for number in range(27)))
    tokenizer.add_special_tokens({"pad_token": "[ADDED]"})
    assert tokenizer.pad_token_id == SMALL["vocab_size"]
    model = folder_of(tmp_path / "model", LlamaForCausalLM(LLAMA), tokenizer)
    assert model.tokenizer("any").pad_token == "[END]"
    assert model.load(SENTENCES, "any").config.pad_token_id == tokenizer.eos_token_id


def test_a_tokenizer_that_pads_on_the_left_is_made_to_pad_on_the_right(tmp_path):
    tokenizer = word_tokenizer(WORDS)
    tokenizer.padding_side = "left"
    assert folder_of(tmp_path / "model", LlamaForCausalLM(LLAMA), tokenizer).tokenizer("any").padding_side == "right"
