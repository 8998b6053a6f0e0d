"""What begins a text survives truncation, and is there once."""

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from parbench.tasks.base import LANGUAGE_MODEL
from parbench.tasks.inference import IGNORED
from parbench.tasks.instruct import INSTRUCT
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.special_tokens import beginning, closed_ids, open_ids, shortened

WORDS = ["<pad>", "<s>", "</s>", "<sop>", "[INST]", *["a", "b", "c", "d", "e", "f", "g", "h"]]
PAD, BOS, EOS, SOP, INST, A, B, C, D, E, F, G, H = range(len(WORDS))


def tokenizer(template):
    """Return a tokenizer of words that puts special tokens around every text, as ``template`` has it."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = TemplateProcessing(
        single=template, special_tokens=list(zip(WORDS, range(4), strict=False))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<sop>"],
    )


# What models do: nothing, one beginning, two tokens at the beginning, and an end behind every text.
TEMPLATES = {"$A": [], "<s> $A": [BOS], "<s> <sop> $A": [BOS, SOP], "<s> $A </s>": [BOS], "$A </s>": []}
EVERY_TOKENIZER = pytest.mark.parametrize(("template", "begins"), TEMPLATES.items(), ids=TEMPLATES)


class Asked(LanguageModelTask):
    name, head, loss_on = "asked", LANGUAGE_MODEL, "all"
    check = predict = score = None

    def prompt(self, example):
        return example["prompt"]

    def response(self, example):
        return example["response"]


def prepared(template, prompt, response, max_length):
    rows = Dataset.from_dict({"prompt": [prompt], "response": [response]})
    return Asked().prepare(rows, tokenizer(template), max_length)[0]


@EVERY_TOKENIZER
@pytest.mark.parametrize("max_length", range(4, 12))
def test_a_long_prompt_keeps_what_begins_it_and_its_end(template, begins, max_length):
    row = prepared(template, "a b c d e f g", "h", max_length)
    whole = [*begins, A, B, C, D, E, F, G]
    assert row["prompt"] == (whole if len(whole) <= max_length else [*begins, *whole[len(begins) - max_length :]])
    kept = whole if len(whole) + 2 <= max_length else [*begins, *whole[len(whole) + len(begins) + 2 - max_length :]]
    assert row["input_ids"] == [*kept, H, EOS]
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert len(row["input_ids"]) <= max_length


@EVERY_TOKENIZER
def test_a_long_response_is_cut_behind_what_begins_a_text(template, begins):
    row = prepared(template, "a b", "c d e f g h", 5)
    assert row["input_ids"] == ([*begins, C, D, E, F, G] if begins else [B, C, D, E, F])[:5]


@EVERY_TOKENIZER
@pytest.mark.parametrize("written", ["<s> a b", "<s> <s> a b"])
def test_a_beginning_that_the_text_has_already_is_not_doubled(template, begins, written):
    row = prepared(template, written, "c </s>", 12)
    assert row["prompt"].count(BOS) == 1
    assert row["prompt"][:1] == [BOS]
    assert row["input_ids"][-2:] == [C, EOS]


def test_the_parts_alone():
    llama = tokenizer("<s> $A")
    assert open_ids([BOS, BOS, A, EOS], llama) == [BOS, A]
    assert closed_ids([A, EOS, EOS], llama) == [A, EOS]
    assert closed_ids([], llama) == [EOS]
    assert beginning([BOS, A], llama) == 1
    assert beginning([A], llama) == 0
    assert shortened([BOS, A, B, C], 1, llama) == [BOS]
    assert shortened([BOS, A, B, C], 0, llama) == []
    assert shortened([A, B, C], 2, llama) == [B, C]


def test_a_chat_template_that_begins_the_text_itself():
    llama = tokenizer("<s> $A")
    llama.chat_template = "{{ bos_token }} [INST] {{ messages[0]['content'] }} [INST]"
    task = INSTRUCT.configured({"template": "tokenizer"})
    rows = Dataset.from_dict({"instruction": ["<s> a b c d e f"], "input": [""], "output": ["g"]})
    row = task.prepare(rows, llama, 32)[0]
    assert row["prompt"][:2] == [BOS, INST]
    short = task.prepare(rows, llama, 5)[0]
    assert short["prompt"] == [BOS, D, E, F, INST]
    assert short["input_ids"] == [BOS, F, INST, G, EOS]


def test_a_blank_that_a_tokenizer_puts_before_every_text_is_not_there_twice():
    """As in the files of Llama 2, whose normalizer prepends one to all that it is given."""
    backend = Tokenizer(models.BPE(vocab={"\u2581": 0, "a": 1, "b": 2, ":": 3, "</s>": 4}, merges=[]))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="</s>", eos_token="</s>")
    rows = Dataset.from_dict({"prompt": ["a b:"] * 2, "response": [" b a", "  b"]})
    found = Asked().prepare(rows, made, 64)["input_ids"][:]
    assert found == [[*made(text)["input_ids"], made.eos_token_id] for text in ("a b: b a", "a b:  b")]
