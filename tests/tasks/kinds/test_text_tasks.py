import warnings

import numpy as np
import pandas as pd
import pytest
import sacrebleu
import torch
from rouge_score.rouge_scorer import RougeScorer

from parbench.bench.util.errors import UserError
from parbench.tasks.base import LANGUAGE_MODEL
from parbench.tasks.from_yaml import defined_task, read_definition, task_of_file
from parbench.tasks.inference import Predictor
from tests.support.tiny_llama import tiny_word_llama, word_tokenizer
from tests.support.yaml_files import ASKED, CHOICES, QUESTIONS, RANKED, both, loaded, task_file, write


@pytest.fixture(scope="module")
def tokenizer():
    words = ["?", "what", "is", "the", "pick", "red", "one", "blue", "green"]
    return word_tokenizer(words + [str(number) for number in range(20)])


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_word_llama(tokenizer)


def predicted(task, splits, tokenizer, model):
    inputs = task.prepare(splits.reported, tokenizer, 32)
    predictor = Predictor(model, tokenizer, task.collate(tokenizer), 3, torch.device("cpu"))
    return task.predict(predictor, splits.reported, inputs)


def test_what_a_model_writes_is_scored(tmp_path, tokenizer, model):
    both(tmp_path, ASKED)
    task, splits = loaded(task_file(tmp_path, QUESTIONS))
    assert task.head == LANGUAGE_MODEL
    assert task.selected_by.primary == "log_likelihood"
    rows = predicted(task, splits, tokenizer, model)
    ids = tokenizer("what is 0 ?", return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
    assert rows["text"][0] == tokenizer.decode(written, skip_special_tokens=True)
    rows.to_parquet(tmp_path / "rows.parquet")
    again = defined_task(read_definition(tmp_path / "task.yaml"))
    assert again.score(pd.read_parquet(tmp_path / "rows.parquet")) == task.score(rows)


def test_a_text_ends_at_a_stop_string(tmp_path, tokenizer, model):
    both(tmp_path, ASKED)
    task, splits = loaded(task_file(tmp_path, QUESTIONS))
    whole = predicted(task, splits, tokenizer, model)["text"]
    end = whole[0].split()[1]
    cut = predicted(task.configured({"stop": [end]}), splits, tokenizer, model)["text"]
    assert cut[0] == whole[0].partition(end)[0]


def test_what_would_not_fit_into_the_model_is_refused_before_training(tmp_path, tokenizer):
    both(tmp_path, ASKED)
    task, splits = loaded(task_file(tmp_path, QUESTIONS, options={"max_new_tokens": 63}))
    with pytest.raises(UserError, match="a prompt of 4 tokens and max_new_tokens 63 are more than the 64 tokens"):
        task.prepare(splits.train, tokenizer, 32)


WRITTEN = ["the cat sat on the mat", "", "a dog .", "Nothing of the kind was said", "one"]
WANTED = [["the cat sat on a mat", "a cat on the mat"], ["there"], ["a dog ."], ["it was not said", "no", "x"], ["two"]]


def scored_rows(tmp_path):
    rows = [{"question": "q", "answer": "a", "all": wanted} for wanted in WANTED]
    write(tmp_path / "train.jsonl", [*rows, *rows])
    write(tmp_path / "test.jsonl", rows)
    task, splits = loaded(task_file(tmp_path, QUESTIONS, references="all"))
    return task, task.predictions(splits.reported, WRITTEN)


def test_the_metrics_of_texts_are_the_kept_libraries(tmp_path):
    task, rows = scored_rows(tmp_path)
    found = task.score(rows)
    longest = max(map(len, WANTED))
    streams = [[wanted[n] if n < len(wanted) else None for wanted in WANTED] for n in range(longest)]
    rouge = RougeScorer(["rougeL"])
    best = [max(rouge.score(r, t)["rougeL"].fmeasure for r in w) for t, w in zip(WRITTEN, WANTED, strict=True)]
    assert found == {
        "exact_match": pytest.approx(0.2),
        "bleu": pytest.approx(sacrebleu.corpus_bleu(WRITTEN, streams).score / 100, abs=1e-12),
        "chrf": pytest.approx(sacrebleu.corpus_chrf(WRITTEN, streams).score / 100, abs=1e-12),
        "rouge_l": pytest.approx(np.mean(best)),
    }


@pytest.mark.parametrize("metric", ["exact_match", "bleu", "chrf", "rouge_l"])
def test_a_metric_without_each_example_in_turn(tmp_path, metric):
    task, rows = scored_rows(tmp_path)
    expected = [task.score(rows.drop(index=place))[metric] for place in rows.index]
    np.testing.assert_allclose(task.leave_one_out(rows, metric), expected, atol=1e-12)
    assert task.leave_one_out(rows, "accuracy") is None


def test_a_model_ranks_choices_by_their_likelihood(tmp_path, tokenizer, model):
    both(tmp_path, RANKED)
    task, splits = loaded(task_file(tmp_path, CHOICES))
    rows = predicted(task, splits, tokenizer, model)
    for example, found in zip(splits.reported, rows["log_likelihoods"], strict=True):
        for choice, likelihood in zip(example["choices"], found, strict=True):
            prompt = tokenizer(example["question"]).input_ids
            ids = torch.tensor([prompt + tokenizer(choice).input_ids])
            with torch.no_grad():
                logits = model(ids).logits.log_softmax(-1)[0, :-1]
            by_hand = logits.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum()
            assert likelihood == pytest.approx(float(by_hand), abs=1e-4)
    per_character = np.stack(rows["log_likelihoods"]) / [len(text) for text in RANKED[0]["options"]]
    assert rows["prediction"].tolist() == np.stack(rows["log_likelihoods"]).argmax(1).tolist()
    assert rows["prediction_norm"].tolist() == per_character.argmax(1).tolist()
    scores = task.score(rows)
    assert scores == {
        "accuracy": (rows["prediction"] == rows["label"]).mean(),
        "acc_norm": (rows["prediction_norm"] == rows["label"]).mean(),
    }
    rest = task.leave_one_out(rows, "acc_norm")
    assert rest[0] == pytest.approx(task.score(rows.drop(index=0))["acc_norm"])


def test_the_likelihood_of_a_choice_does_not_count_the_end_of_text(tmp_path, tokenizer):
    both(tmp_path, RANKED)
    task, splits = loaded(task_file(tmp_path, CHOICES))
    inputs = task.prepare(splits.reported, tokenizer, 32)
    assert inputs[0]["input_ids"][-1] == tokenizer.eos_token_id
    assert all(tokenizer.eos_token_id not in tokens for tokens in inputs[0]["scored"])
    assert inputs[0]["spared"] == [2, 2, 2]
    # Where there is room for three tokens, the end of the prompt is what is left of it.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = task.prepare(splits.reported, tokenizer, 3)[0]
    last = tokenizer("pick 0").input_ids[-1]
    assert short["spared"] == [1, 1, 1]
    assert short["scored"] == [[last, *tokenizer(text).input_ids] for text in ("red one", "blue", "green")]


def test_of_a_choice_that_is_cut_a_warning_tells(tmp_path, tokenizer):
    """Of "red one" and "red two" the same token is left, so that the first of them would always be taken."""
    both(tmp_path, RANKED)
    task, splits = loaded(task_file(tmp_path, CHOICES))
    count = len(splits.reported)
    with pytest.warns(
        UserWarning, match=f"{count} of {count} examples of .* have a choice that does not fit into 2 tok"
    ):
        short = task.prepare(splits.reported, tokenizer, 2)[0]
    assert short["scored"][0][-1:] == tokenizer("red").input_ids


@pytest.mark.parametrize("rights", [[0, 1, 2], ["A", "b", "C"], ["red one", "blue", "green"]])
@pytest.mark.parametrize("in_columns", [False, True])
def test_the_right_choice_is_a_number_a_letter_or_its_text(tmp_path, rights, in_columns):
    rows = [{**row, "right": rights[row["right"]]} for row in RANKED]
    if in_columns:
        rows = [{**dict(zip("xyz", row.pop("options"), strict=True)), **row} for row in rows]
    both(tmp_path, rows, ".csv" if in_columns else ".jsonl")
    task, splits = loaded(task_file(tmp_path, CHOICES, choices=["x", "y", "z"] if in_columns else "options"))
    assert splits.reported["label"][:] == [row["right"] for row in RANKED[:8]]
    assert splits.reported["choices"][0] == RANKED[0]["options"]
    assert task.response(splits.reported[1]) == " blue"


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize("in_columns", [False, True])
def test_a_blank_choice_is_refused(tmp_path, blank, in_columns):
    """It has no words that could be unlikely, so that it would be the answer to every question."""
    rows = [{**row, "options": [*row["options"][:2], blank]} for row in RANKED]
    if in_columns:
        rows = [{**dict(zip("xyz", row.pop("options"), strict=True)), **row} for row in rows]
    both(tmp_path, rows, ".csv" if in_columns else ".jsonl")
    with pytest.raises(UserError, match="no text in column z, row 1" if in_columns else "two or more texts"):
        loaded(task_file(tmp_path, CHOICES, choices=["x", "y", "z"] if in_columns else "options"))


def test_options_of_a_file_are_its_defaults(tmp_path):
    both(tmp_path, ASKED)
    task = task_of_file(task_file(tmp_path, QUESTIONS))
    assert (task.options.max_new_tokens, task.options.num_beams) == (4, 1)
    changed = task.configured({"num_beams": 3})
    assert (changed.options.max_new_tokens, changed.options.num_beams) == (4, 3)
    assert changed.own_source == task.own_source
    assert changed.definition == task.definition
    with pytest.raises(UserError, match="no field"):
        task.configured({"temperature": 1})
