import gzip
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, load_dataset
from pyarrow import parquet
from transformers import GPT2Config, GPT2LMHeadModel, NoRepeatNGramLogitsProcessor

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.restaurants import RestaurantSource
from parbench.tasks.decoding import NoRepeatAfterPrompt
from parbench.tasks.e2e_nlg import E2E_NLG, RESTAURANTS_NLG, E2eOptions
from parbench.tasks.inference import IGNORED
from parbench.tasks.kinds.language_model import LogLikelihood
from parbench.tasks.metrics import java
from parbench.tasks.metrics.generation import METRICS
from tests.support.tiny_llama import SPECIAL, byte_tokenizer, predictor_of, tiny_llama, tiny_model_folder

needs_java = pytest.mark.skipif(java.missing() is not None, reason=str(java.missing()))
# Of the baseline TGen on the E2E test set: Dušek, Novikova and Rieser, "Findings of the E2E NLG Challenge", 2018.
TGEN = {"bleu": 0.6593, "nist": 8.6094, "meteor": 0.4483, "rouge_l": 0.6850, "cider": 2.2338}
# The official scorer prints four decimals.
PRINTED = 0.5e-4 + 1e-9
PAIRS = [
    {"mr": "name[Blue Spice], eatType[pub]", "ref": "Blue Spice is a pub."},
    {"mr": "name[Blue Spice], eatType[pub]", "ref": "A pub: Blue Spice."},
    {"mr": "name[Zizzi], familyFriendly[no]", "ref": "Zizzi is not for families."},
]
END = SPECIAL.index("</s>")


@pytest.fixture
def no_java(monkeypatch):
    """A machine without Java, on which nothing takes seconds to start either."""
    monkeypatch.setattr(java, "_programs", lambda: "there is no java on the PATH; install a Java runtime")


def written(folder, **files):
    """Write official files as CSV, those not given with good rows."""
    (folder / "e2e-nlg").mkdir()
    for name in ("trainset", "devset", "testset_w_refs"):
        rows = files.get(name, PAIRS)
        (folder / "e2e-nlg" / f"{name}.csv").write_text(pd.DataFrame(rows).to_csv(index=False), encoding="utf-8")
    return FolderSource(folder)


def named(dataset):
    """Return rows as a cut names them."""
    rows = range(len(dataset))
    return dataset.add_column("example", [f"test:{row}" for row in rows]).add_column("subset", [""] * len(dataset))


# -- data --------------------------------------------------------------------------------------------------------------


def test_the_official_files(real_data):
    source = FolderSource(real_data)
    assert E2E_NLG.missing(source) is None
    splits = E2E_NLG.splits(source)
    # The official release: 42061, 4672 and 4693 pairs of 4862, 547 and 630 meanings.
    assert splits.sizes == {"train": 42061, "selection": 4672, "reported": 630}
    assert sum(map(len, splits.reported["references"][:])) == 4693
    assert splits.train[0]["example"] == "train:0"
    assert E2E_NLG.prompt(splits.train[0]) == (
        "name : The Vaults | Type : pub | price : more than £30 | customer rating : 5 out of 5 | near : Café Adriatic"
    )
    meanings = [set(split["mr"][:]) for split in (splits.train, splits.selection, splits.reported)]
    assert not meanings[2] & (meanings[0] | meanings[1])


def test_texts_are_generated_for_the_meanings_of_the_selection_split_where_it_is_scored_by_metrics(real_data):
    task = E2E_NLG.configured({"selection": "metrics"})
    splits = task.splits(FolderSource(real_data))
    assert splits.sizes == {"train": 42061, "selection": 547, "reported": 630}
    assert sum(map(len, splits.selection["references"][:])) == 4672
    assert task.selected_by is task
    assert isinstance(E2E_NLG.selected_by, LogLikelihood)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            [{"mr": "name Zizzi", "ref": "x"}],
            '^in ".*testset_w_refs.csv", in the test split of e2e_nlg, the meaning representation "name Zizzi"',
        ),
        ([{"MR": "name[Zizzi]"}], '^in ".*testset_w_refs.csv", the test split of e2e_nlg has no column mr, ref'),
        ([*PAIRS, {"mr": "name[A]", "ref": " "}], "the test split of e2e_nlg has no text in column ref, row 4"),
        ([{"mr": 3, "ref": "x"}], 'the test split of e2e_nlg, the meaning representation "3"'),
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path, rows, complaint):
    with pytest.raises(UserError, match=complaint):
        E2E_NLG.splits(written(tmp_path, testset_w_refs=rows))


def test_a_missing_file_is_named_as_the_official_release_has_it(tmp_path):
    source = written(tmp_path)
    (tmp_path / "e2e-nlg" / "testset_w_refs.csv").rename(tmp_path / "e2e-nlg" / "testset.csv")
    assert E2E_NLG.missing(source).startswith("there is no testset_w_refs file (one of")
    with pytest.raises(UserError, match="there is no testset_w_refs file"):
        E2E_NLG.splits(source)


def test_the_hubs_parquet_files_are_read_at_the_pinned_commit(tmp_path, monkeypatch):
    columns = {"meaning_representation": [row["mr"] for row in PAIRS], "human_reference": [row["ref"] for row in PAIRS]}
    for split in ("train", "validation", "test"):
        folder = tmp_path / "repository" / "default" / split
        folder.mkdir(parents=True)
        parquet.write_table(pa.table(columns), folder / "0000.parquet")
    asked = []

    def from_here(repository, config, revision):
        asked.append((repository, config, revision))
        return load_dataset(str(tmp_path / "repository"), cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr("datasets.load_dataset", from_here)
    splits = E2E_NLG.splits(HubSource(RevisionLock(tmp_path / "lock.json")))
    assert splits.sizes == {"train": 3, "selection": 3, "reported": 2}
    assert splits.reported[0]["references"] == [PAIRS[0]["ref"], PAIRS[1]["ref"]]
    assert asked == [("tuetschek/e2e_nlg", None, E2E_NLG.data.hub.revision)]
    assert re.fullmatch("[0-9a-f]{40}", E2E_NLG.data.hub.revision)


def test_restaurants_say_that_they_are_made_up():
    source = RESTAURANTS_NLG.own_source
    assert "generated by this project" in RESTAURANTS_NLG.describe(source)
    assert RESTAURANTS_NLG.splits(source).sizes == {
        "train": source.train_pairs,
        "selection": len(source.load(RESTAURANTS_NLG.data)["validation"]),
        "reported": source.reported_meanings,
    }
    assert E2E_NLG.own_source is None
    assert RESTAURANTS_NLG.configured({"selection": "metrics"}).splits(source).sizes["selection"] == 40


# -- model inputs ------------------------------------------------------------------------------------------------------


def test_a_row_is_meaning_end_of_text_reference_and_end_of_text():
    tokenizer = byte_tokenizer()
    row = E2E_NLG.prepare(Dataset.from_list(PAIRS[:1]), tokenizer, 128)[0]
    prompt = tokenizer("name : Blue Spice | Type : pub")["input_ids"]
    response = tokenizer(" Blue Spice is a pub.")["input_ids"]
    assert row["input_ids"] == [*prompt, END, *response, END]
    assert row["labels"] == [*[IGNORED] * (len(prompt) + 1), *response, END]
    assert row["prompt"] == [*prompt, END]


def test_options_change_the_meaning_and_what_the_loss_counts():
    tokenizer = byte_tokenizer()
    task = E2E_NLG.configured({"mr": "literal", "loss_on": "all"})
    row = task.prepare(Dataset.from_list(PAIRS[:1]), tokenizer, 128)[0]
    text = [
        *tokenizer("name[Blue Spice], eatType[pub]")["input_ids"],
        END,
        *tokenizer(" Blue Spice is a pub.")["input_ids"],
    ]
    assert row["input_ids"] == [*text, END]
    assert row["labels"] == [IGNORED, *text[1:], END]


@pytest.mark.parametrize("max_length", [2, 10, 22, 23, 24, 40])
def test_a_long_row_keeps_its_response_and_is_generated_from_its_whole_meaning(max_length):
    tokenizer = byte_tokenizer()
    whole = E2E_NLG.prepare(Dataset.from_list(PAIRS[:1]), tokenizer, 128)[0]
    row = E2E_NLG.prepare(Dataset.from_list(PAIRS[:1]), tokenizer, max_length)[0]
    assert len(row["input_ids"]) == len(row["labels"]) == max_length
    assert row["prompt"] == whole["prompt"]
    response = len(" Blue Spice is a pub.") + 1
    labels = [label for label in row["labels"] if label != IGNORED]
    assert labels == whole["input_ids"][-response:][: max_length - 1]
    # Something comes before the first label, or nothing would predict it.
    assert row["labels"][0] == IGNORED


def test_what_does_not_fit_into_the_model_is_a_sentence():
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 60
    with pytest.raises(UserError, match="a prompt of 31 tokens and max_new_tokens 64 are more than the 60 tokens"):
        E2E_NLG.prepare(Dataset.from_list(PAIRS[:1]), tokenizer, 50)


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
def tgen(real_data):
    """The rows of the baseline's outputs for the official test set."""
    with gzip.open(
        real_data / "e2e-nlg" / "metrics-check" / "system_outputs_tgen.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        outputs = {row["mr"]: row["output"] for row in map(json.loads, file)}
    reported = E2E_NLG.splits(FolderSource(real_data)).reported
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


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two random language models over bytes: one of linear layers, one of GPT-2's transposed ones."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    size = len(SPECIAL) + 256
    config = GPT2Config(
        vocab_size=size,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return {
        "llama": tiny_model_folder(folder / "llama", tiny_llama()),
        "gpt2": tiny_model_folder(folder / "gpt2", GPT2LMHeadModel(config)),
    }


@pytest.mark.parametrize("model", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "loca"])
def test_a_run_from_its_plan_to_its_record(models, model, method, tmp_path, no_java):
    store = Store(tmp_path / "store")
    store.prepare()
    overrides = Overrides(
        methods=(method,),
        tasks=("restaurants_nlg",),
        base_model=str(models[model]),
        seeds=(1,),
        limit=6,
        sets=("train.max_steps=4", "train.batch_size=2", "train.max_length=300", "train.label_smoothing=0.1"),
        options={"num_beams": 2, "max_new_tokens": 12, "no_repeat_ngram_size": 4},
    )
    (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
    assert run.spec.data_source == RestaurantSource().describe(RESTAURANTS_NLG.data)
    record = execute_run(run, store, DataCache(), torch.device("cpu"), RunHooks())
    assert (record.status, record.reason) == ("ok", None)
    assert (record.primary, record.selection_primary) == ("bleu", "log_likelihood")
    assert record.examples == {"train": 6, "selection": 6, "reported": 6}
    assert set(record.metrics) == {"bleu", "nist"}
    assert any("left out: METEOR, ROUGE-L, CIDEr" in note for note in record.provenance.notes)
    rows = pd.read_parquet(store.runs / record.run_id / "predictions.parquet")
    assert list(rows.columns) == [
        *("example", "subset", "mr", "text", "references_hash"),
        *("bleu_statistics", "nist_statistics"),
    ]
    assert dict(run.task.score(rows)) == record.metrics
    assert record.selection_metrics["log_likelihood"] < 0
    history = [json.loads(line) for line in (store.runs / record.run_id / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [1, 2, 3, 4]


def test_local_official_files_take_the_place_of_the_hub(tmp_path, models):
    overrides = Overrides(
        methods=("lora",),
        tasks=("e2e_nlg",),
        base_model=str(models["llama"]),
        seeds=(1,),
        data_root=written(tmp_path).root,
    )
    (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(tmp_path / "lock.json")).runs
    assert run.spec.data_source == "local folder e2e-nlg"
    assert run.spec.options["decoding"] == "lora"
    assert run.task.splits(run.source).sizes == {"train": 3, "selection": 3, "reported": 2}
