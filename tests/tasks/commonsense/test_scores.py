"""The commonsense sets' scores: by lm-eval, of generated answers, and their means."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from parbench.tasks.base import Splits
from parbench.tasks.commonsense.scores import harmonic_mean, scores
from parbench.tasks.commonsense.task import COMMONSENSE, PIQA, Commonsense
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from tests.support.commonsense_rows import BY_NAME
from tests.support.data import fetched
from tests.support.tiny_llama import Scripted, byte_tokenizer, predictor_of, tiny_llama


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
