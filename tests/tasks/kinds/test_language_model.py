import copy
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

from parbench.bench.util.errors import UserError
from parbench.tasks.inference import IGNORED, Predictor
from parbench.tasks.kinds.language_model import LanguageModelTask, LogLikelihood, next_token_loss
from tests.support.tiny_llama import WORD_SPECIAL, tiny_word_llama, word_tokenizer

CPU = torch.device("cpu")
TEXT = "the cat sat on a mat and saw one dog by its big red house"
WORDS = [*WORD_SPECIAL, *TEXT.split()]


class Pairs(LanguageModelTask):
    name = "pairs"
    check = predict = score = None

    def __init__(self, loss_on="response"):
        self._loss_on = loss_on

    @property
    def loss_on(self):
        return self._loss_on

    def prompt(self, example: Mapping):
        return example["question"]

    def response(self, example: Mapping):
        return example["answer"]


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(TEXT.split())


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_word_llama(tokenizer)


ROWS = Dataset.from_dict(
    {
        "question": ["the cat", "a dog by the house", "one"],
        "answer": ["sat on a mat", "saw", "and its big red house"],
        "example": ["a", "b", "c"],
        "subset": ["", "", ""],
    }
)


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def test_a_row_is_prompt_response_and_end(tokenizer):
    row = Pairs().prepare(ROWS, tokenizer, 32)[0]
    assert row["input_ids"] == [*ids("the cat sat on a mat"), 1]
    assert row["labels"] == [IGNORED, IGNORED, *ids("sat on a mat"), 1]
    assert row["prompt"] == ids("the cat")


def test_a_tokenizer_without_an_end_of_text_is_of_no_language_model(tokenizer):
    encoder = copy.deepcopy(tokenizer)
    encoder.eos_token = None
    with pytest.raises(UserError, match="needs a causal language model, and the tokenizer of this"):
        Pairs().prepare(ROWS, encoder, 32)


def test_the_loss_may_count_the_prompt_but_its_first_token(tokenizer):
    row = Pairs("all").prepare(ROWS, tokenizer, 32)[1]
    assert row["labels"] == [IGNORED, *ids("dog by the house saw"), 1]


def test_a_long_row_loses_the_beginning_of_its_prompt(tokenizer):
    rows = Pairs().prepare(ROWS, tokenizer, 4)
    assert rows[0]["input_ids"] == [*ids("cat sat on a")]
    assert rows[1]["input_ids"] == [*ids("the house saw"), 1]
    # What is generated from does not depend on the answer.
    assert (rows[0]["prompt"], rows[1]["prompt"]) == (ids("the cat"), ids("dog by the house"))
    assert all(any(label != IGNORED for label in row["labels"]) for row in rows)


def test_a_batch_is_padded_on_the_right(tokenizer):
    batch = Pairs().collate(tokenizer)(list(Pairs().prepare(ROWS, tokenizer, 32)))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (3, 7)
    assert batch["attention_mask"].sum(dim=1).tolist() == [7, 7, 7 - 0]
    short = Pairs().collate(tokenizer)(list(Pairs().prepare(ROWS.select([0, 2]), tokenizer, 5)))
    assert short["attention_mask"].tolist() == [[1] * 5, [1] * 5]


def test_the_loss_is_that_of_transformers(tokenizer, model):
    batch = Pairs().collate(tokenizer)(list(Pairs().prepare(ROWS, tokenizer, 32)))
    outputs = model(**batch)
    assert next_token_loss(outputs.logits, batch["labels"]).item() == pytest.approx(outputs.loss.item(), rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_log_likelihoods_do_not_depend_on_the_batch(tokenizer, model, batch_size):
    task = Pairs()
    rows = task.prepare(ROWS, tokenizer, 32)
    collate = task.collate(tokenizer)
    found = LogLikelihood().predict(Predictor(model, tokenizer, collate, batch_size, CPU), ROWS, rows)
    with torch.no_grad():
        each = [-model(**collate([row])).loss.item() for row in rows]
    assert found["tokens"].tolist() == [5, 2, 6]
    assert (found["log_likelihood_sum"] / found["tokens"]).tolist() == pytest.approx(each, rel=1e-5)
    score = LogLikelihood().score(found)["log_likelihood"]
    assert score == pytest.approx(float(np.dot(each, [5, 2, 6]) / 13), rel=1e-5)


def test_something_stands_before_the_response_to_an_empty_prompt(tokenizer, model):
    rows = Pairs().prepare(Dataset.from_dict({"question": ["", "one"], "answer": ["saw", "saw"]}), tokenizer, 32)
    assert rows[0]["input_ids"] == [1, *ids("saw"), 1]
    assert rows[0]["labels"] == [IGNORED, *ids("saw"), 1]
    predictor = Predictor(model, tokenizer, None, 2, CPU)
    both = predictor.generate(rows["prompt"], max_new_tokens=3, do_sample=False)
    assert both == [predictor.generate([prompt], max_new_tokens=3, do_sample=False)[0] for prompt in rows["prompt"]]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("beams", [1, 4])
def test_generation_does_not_depend_on_padding(tokenizer, model, batch_size, beams):
    prompts = [ids("the cat"), ids("a dog by the house"), ids("one")]
    predictor = Predictor(model, tokenizer, None, batch_size, CPU)
    written = predictor.generate(prompts, num_beams=beams, max_new_tokens=6, do_sample=False)
    for prompt, tokens in zip(prompts, written, strict=True):
        alone = model.generate(
            torch.tensor([prompt]), num_beams=beams, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=1
        )[0, len(prompt) :].tolist()
        expected = alone[: alone.index(1)] if 1 in alone else alone
        assert tokens == expected


def test_generation_ends_at_the_end_of_text(tokenizer):
    class Says(torch.nn.Module):
        """Writes a fixed answer, as transformers does: padded after its end."""

        def generate(self, input_ids, **_):
            answer = torch.tensor([[5, 6, 1, 0, 0]]).expand(len(input_ids), -1)
            return torch.cat([input_ids, answer], dim=1)

    predictor = Predictor(Says(), SimpleNamespace(pad_token_id=0, eos_token_id=1), None, 2, CPU)
    assert predictor.generate([[3], [4, 4], [7]]) == [[5, 6]] * 3
