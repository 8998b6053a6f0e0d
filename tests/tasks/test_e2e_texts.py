"""E2E NLG: how texts are generated, and how they are scored."""

import csv
import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import NoRepeatNGramLogitsProcessor

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.decoding import NoRepeatAfterPrompt
from parbench.tasks.e2e_nlg import E2E_NLG, RESTAURANTS_NLG, E2eOptions
from parbench.tasks.metrics import captioning, java
from parbench.tasks.metrics.generation import METRICS
from tests.support.e2e_pairs import END, PAIRS, named
from tests.support.nlg import PRINTED, TGEN, needs_java
from tests.support.tiny_llama import byte_tokenizer, predictor_of, tiny_llama

# -- decoding ----------------------------------------------------------------------------------------------------------


class Recorder:
    """Stands for a predictor: writes the prompt's first letter, and keeps what it was asked."""

    batch_size = 2

    def __init__(self):
        self.processor = byte_tokenizer()
        self.asked = []

    def generate(self, prompts, **decoding):
        self.asked.append((prompts, decoding))
        return [[*self.processor(" ")["input_ids"], prompt[0]] for prompt in prompts]


def predicted(options, monkeypatch):
    """Return what the predictor was asked, and the rows, for four meanings of different lengths."""
    monkeypatch.setattr(java, "_programs", lambda: "there is no java on the PATH; install a Java runtime")
    meanings = [f"{name}[{name}]" for name in ("aa", "bbbbbb", "c", "dddd")]
    examples = named(Dataset.from_dict({"mr": meanings, "references": [["a b c d"]] * 4}))
    task, recorder = E2E_NLG.configured(options), Recorder()
    with pytest.warns(UserWarning, match="^e2e_nlg: left out: METEOR, ROUGE-L, CIDEr, because there is no java"):
        rows = task.predict(recorder, examples, task.prepare(examples, recorder.processor, 64))
    return recorder.asked, rows


@pytest.mark.parametrize(
    ("options", "beams", "penalty", "ngram", "tokens"),
    [
        ({}, 10, 0.9, 4, 64),
        ({"length_penalty": 0.8, "max_new_tokens": 5}, 10, 0.8, 4, 5),
        ({"decoding": "greedy"}, 1, None, None, 64),
        ({"decoding": "greedy", "num_beams": 3, "no_repeat_ngram_size": 2}, 3, 1.0, 2, 64),
        ({"num_beams": 1, "no_repeat_ngram_size": 0}, 1, None, None, 64),
    ],
)
def test_the_decoding_reaches_generate(monkeypatch, options, beams, penalty, ngram, tokens):
    asked, rows = predicted(options, monkeypatch)
    assert [len(prompts) for prompts, _ in asked] == [2, 2]
    for prompts, decoding in asked:
        assert (decoding["do_sample"], decoding["num_beams"], decoding["max_new_tokens"]) == (False, beams, tokens)
        assert decoding.get("length_penalty") == penalty
        assert "no_repeat_ngram_size" not in decoding
        processors = decoding.get("logits_processor", [])
        expected = [] if ngram is None else [(ngram, max(map(len, prompts)))]
        assert [(one._inner.ngram_size, one._start) for one in processors] == expected
    # Texts are stripped, and with the example they belong to, though longer prompts go first.
    assert rows["text"].tolist() == ["a", "b", "c", "d"]


def test_a_penalty_of_beams_needs_beams():
    with pytest.raises(UserError, match="length_penalty changes nothing without beams"):
        E2E_NLG.configured({"decoding": "greedy", "length_penalty": 0.8})
    with pytest.raises(UserError, match="decoding"):
        E2E_NLG.configured({"decoding": "loca"})
    assert E2eOptions(decoding="greedy", num_beams=2, length_penalty=0.8).search == (2, 0.8, 0)


def test_no_ngram_is_written_twice_but_those_of_the_prompt_may_be():
    prompt, scores = [7, 8, 9, 7], torch.zeros(1, 12)
    processor = NoRepeatAfterPrompt(2, len(prompt))
    assert processor(torch.tensor([[*prompt]]), scores).eq(0).all()
    # The prompt has 7 8, and so transformers' own forbids it after a 7; here only the written 3 4 counts.
    assert processor(torch.tensor([[*prompt, 5, 7]]), scores).eq(0).all()
    assert NoRepeatNGramLogitsProcessor(2)(torch.tensor([[*prompt, 5, 7]]), scores)[0, 8] == -torch.inf
    assert processor(torch.tensor([[*prompt, 3, 4, 3]]), scores).isinf().nonzero().tolist() == [[0, 4]]


@pytest.mark.filterwarnings("ignore:Passing `no_repeat_ngram_size` with `inputs_embeds`", "ignore:e2e_nlg. left out")
def test_a_beam_search_is_that_of_transformers_whatever_the_batch(no_java):
    """transformers does not know the prompt of given embeddings: its own n-gram rule is then for the written text."""
    tokenizer, model = byte_tokenizer(), tiny_llama()
    # A model of no knowledge repeats itself, which is what the rule is for.
    with torch.no_grad():
        model.lm_head.weight[END] = 0
    examples = named(Dataset.from_list([{"mr": row["mr"], "references": [row["ref"]]} for row in PAIRS[1:]]))
    task = E2E_NLG.configured({"num_beams": 3, "max_new_tokens": 24, "no_repeat_ngram_size": 2})
    inputs = task.prepare(examples, tokenizer, 64)
    expected = []
    for row in inputs:
        vectors = model.get_input_embeddings()(torch.tensor([row["prompt"]]))
        tokens = model.generate(
            inputs_embeds=vectors,
            attention_mask=torch.ones(1, len(row["prompt"]), dtype=torch.long),
            num_beams=3,
            length_penalty=0.9,
            no_repeat_ngram_size=2,
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=END,
        )[0].tolist()
        expected.append(tokenizer.decode(tokens, skip_special_tokens=True).strip())
    free = task.configured({"no_repeat_ngram_size": 0})
    for batch_size in (1, 2):
        predictor = predictor_of(task, model, batch_size=batch_size)
        assert task.predict(predictor, examples, inputs)["text"].tolist() == expected
        assert free.predict(predictor, examples, inputs)["text"].tolist() != expected


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(real_data):
    """The folder of outputs with the scores of the official scorer."""
    return real_data / "e2e-nlg" / "metrics-check"


@pytest.fixture(scope="module")
def outputs(official):
    """The baseline's output for each meaning of the official test set, in the order of the official scores."""
    with gzip.open(official / "system_outputs_tgen.jsonl.gz", "rt", encoding="utf-8") as file:
        return {row["mr"]: row["output"] for row in map(json.loads, file)}


@pytest.fixture(scope="module")
def reported(real_data):
    return E2E_NLG.splits(FolderSource(real_data)).reported


@pytest.fixture(scope="module")
def tgen(reported, outputs):
    """The rows of the baseline's outputs."""
    return E2E_NLG.predictions(reported, [outputs[meaning] for meaning in reported["mr"][:]])


@needs_java
def test_the_baselines_scores_are_the_official_ones_from_the_rows_alone(tgen, tmp_path, no_java):
    tgen.to_parquet(tmp_path / "rows.parquet", index=False)
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert E2E_NLG.score(rows) == pytest.approx(TGEN, abs=PRINTED)
    # One of so many a seed and method: the 4693 references are not in it.
    assert (tmp_path / "rows.parquet").stat().st_size < 400_000
    assert rows["references_hash"].nunique() == rows["example"].nunique() == 630


@needs_java
def test_the_scores_of_every_segment_are_the_official_ones(official, outputs, reported, tgen):
    segments = pd.read_csv(official / "tgen_segment_scores.tsv.gz", sep="\t", quoting=csv.QUOTE_NONE)
    place = {meaning: number for number, meaning in enumerate(reported["mr"][:])}
    rows = tgen.iloc[[place[meaning] for meaning in outputs]]
    meteor = captioning.meteor(np.array(rows["meteor_statistics"].tolist()), 1)
    np.testing.assert_allclose(meteor, segments["METEOR"], atol=PRINTED)
    np.testing.assert_allclose(rows["rouge_l"], segments["ROUGE_L"], atol=PRINTED)
    np.testing.assert_allclose(rows["cider"], segments["CIDEr"], atol=PRINTED)


@needs_java
@pytest.mark.parametrize("metric", sorted(METRICS))
def test_a_score_without_one_example_is_the_score_of_the_others(tgen, metric):
    found = E2E_NLG.leave_one_out(tgen, metric)
    assert found.shape == (630,)
    for left_out in (0, 17, 629):
        others = tgen.drop(index=left_out)
        assert found[left_out] == pytest.approx(E2E_NLG.score(others)[metric], rel=1e-12)
    assert np.ptp(found) > 0


def test_without_java_the_rows_have_what_can_be_had(no_java):
    examples = named(Dataset.from_list([{"mr": "name[A]", "references": ["A is a pub .", "A pub"]}] * 2))
    with pytest.warns(UserWarning, match="left out: METEOR, ROUGE-L, CIDEr, because there is no java on the PATH"):
        rows = RESTAURANTS_NLG.predictions(examples, ["A is a pub .", ""])
    scores = RESTAURANTS_NLG.score(rows)
    assert set(scores) == {"bleu", "nist"}
    # Half the text is there, and all of it right: the brevity penalty alone, on lengths 5 of 5 + 2.
    assert scores["bleu"] == pytest.approx(np.exp(1 - 7 / 5))
    assert RESTAURANTS_NLG.leave_one_out(rows, "bleu")[1] == pytest.approx(1)
    assert RESTAURANTS_NLG.leave_one_out(rows, "meteor") is None
    assert RESTAURANTS_NLG.leave_one_out(rows, "f1") is None
