import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from scipy import stats
from sklearn import metrics

from parbench.tasks import TASKS
from parbench.tasks.base import Splits
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.glue import COLA, MNLI, MRPC, SST2, STSB

NAMES = [name for name in TASKS if name.startswith("glue/")]

# Rows of the official splits (train, validation), where the real data at hand is whole.
OFFICIAL = {
    "glue/cola": (8551, 1043),
    "glue/sst2": (67349, 872),
    "glue/mrpc": (3668, 408),
    "glue/stsb": (5749, 1500),
    "glue/rte": (2490, 277),
    "glue/wnli": (635, 71),
}


def rows(labels, predictions, subsets=None):
    return pd.DataFrame({"label": labels, "prediction": predictions, "subset": subsets or [""] * len(labels)})


def test_the_group_is_the_nine_tasks():
    names = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
    assert set(NAMES) == {f"glue/{name}" for name in names}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glue/cola", ("matthews_correlation",)),
        ("glue/sst2", ("accuracy",)),
        ("glue/mrpc", ("accuracy", "f1")),
        ("glue/qqp", ("accuracy", "f1")),
        ("glue/stsb", ("pearson", "spearman")),
        ("glue/mnli", ("accuracy",)),
        ("glue/qnli", ("accuracy",)),
        ("glue/rte", ("accuracy",)),
        ("glue/wnli", ("accuracy",)),
    ],
)
def test_official_metrics(name, expected):
    assert TASKS[name].metrics == expected
    assert TASKS[name].primary == expected[0]


def test_scores_are_the_kept_libraries():
    draw = np.random.default_rng(0)
    labels, predictions = draw.integers(0, 2, 200), draw.integers(0, 2, 200)
    assert COLA.score(rows(labels, predictions)) == {
        "matthews_correlation": pytest.approx(metrics.matthews_corrcoef(labels, predictions))
    }
    assert MRPC.score(rows(labels, predictions)) == {
        "accuracy": pytest.approx(metrics.accuracy_score(labels, predictions)),
        "f1": pytest.approx(metrics.f1_score(labels, predictions)),
    }
    numbers = labels + draw.normal(size=200)
    assert STSB.score(rows(labels.astype(float), numbers)) == {
        "pearson": pytest.approx(stats.pearsonr(labels, numbers).statistic),
        "spearman": pytest.approx(stats.spearmanr(labels, numbers).statistic),
    }


def test_scores_by_hand():
    # Labels 1 1 1 0, predictions 1 1 0 1: tp 2, fn 1, fp 1, tn 0.
    scores = MRPC.score(rows([1, 1, 1, 0], [1, 1, 0, 1]))
    assert scores == {"accuracy": 0.5, "f1": pytest.approx(2 * 2 / (2 * 2 + 1 + 1))}
    assert COLA.score(rows([1, 1, 1, 0], [1, 1, 0, 1]))["matthews_correlation"] == pytest.approx(-1 / 3)


def test_a_constant_prediction_scores_zero_where_the_metric_is_a_correlation():
    assert STSB.score(rows([0.0, 2.5, 5.0], [1.0, 1.0, 1.0])) == {"pearson": 0.0, "spearman": 0.0}
    assert COLA.score(rows([0, 1, 1], [1, 1, 1])) == {"matthews_correlation": 0.0}


@pytest.mark.parametrize(
    ("task", "labels", "found"),
    [
        (STSB, [2.5] * 4, ["pearson", "spearman"]),
        (COLA, [1] * 4, ["matthews_correlation"]),
        # Class 1 is what F1 looks for.
        (MRPC, [0] * 4, ["f1"]),
        (MRPC, [1] * 4, []),
        (STSB, [0.1, 2.7, 2.7, 5.0], []),
    ],
)
def test_a_metric_that_cannot_give_full_marks_is_found(task, labels, found):
    columns = {name: ["a"] * 4 for name in (*task.texts, "subset", "example")}
    fair = Dataset.from_dict({**columns, "label": [0, 1, 1, 0]})
    findings = task.findings(Splits(fair, fair, Dataset.from_dict({**columns, "label": labels})))
    useless = [text for text in findings if "cannot distinguish models" in text]
    assert [text.split()[0] for text in useless] == found
    assert all("gives the right answers 0.00 of 1 on the reported split, subset a," in text for text in useless)


def test_mnli_is_the_mean_of_matched_and_mismatched():
    subsets = ["matched"] * 4 + ["mismatched"] * 2
    scores = MNLI.score(rows([0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 0, 2], subsets))
    assert scores == {"accuracy": 0.625, "accuracy_matched": 0.75, "accuracy_mismatched": 0.5}


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_real_data_has_the_official_sizes(name, real_data):
    task = TASKS[name]
    train, validation = OFFICIAL[name]
    splits = task.splits(FolderSource(real_data))
    assert len(splits.train) + len(splits.selection) == train
    assert len(splits.selection) == min(1000, round(0.1 * train))
    assert len(splits.reported) == validation
    assert set(splits.train["example"]).isdisjoint(splits.selection["example"])
    if task.labels:
        assert set(splits.reported["label"]) == set(range(len(task.labels)))
        shares = [np.mean(np.array(part["label"][:]) == 1) for part in (splits.train, splits.selection)]
        assert shares[0] == pytest.approx(shares[1], abs=0.02)


def test_real_mnli_has_both_genres_and_partial_files_say_so_in_their_names(real_data):
    splits = MNLI.splits(FolderSource(real_data), limit=500)
    assert {subset: splits.reported["subset"][:].count(subset) for subset in ("matched", "mismatched")} == {
        "matched": 500,
        "mismatched": 500,
    }


def test_real_qnli_without_training_split_is_reported_as_missing(real_data):
    assert "there is no train file" in FolderSource(real_data).missing(TASKS["glue/qnli"].data)


def test_predictions_keep_logits_and_examples():
    dataset = Dataset.from_dict({"example": ["a", "b"], "subset": ["", ""], "label": [0, 1]})
    frame = SST2.predictions(dataset, np.array([[0.1, 0.2], [0.9, 0.3]], dtype=np.float32))
    assert frame["prediction"].tolist() == [1, 0]
    frame = STSB.predictions(dataset, np.array([[2.5], [4.0]], dtype=np.float32))
    assert frame["prediction"].tolist() == [2.5, 4.0]


def test_losses_are_torchs():
    logits, labels = torch.tensor([[1.0, -1.0], [0.5, 0.5]]), torch.tensor([0, 1])
    assert SST2.loss(logits, labels).item() == pytest.approx((np.log1p(np.exp(-2)) + np.log(2)) / 2)
    numbers = torch.tensor([[1.0], [3.0]])
    assert STSB.loss(numbers, torch.tensor([2.0, 5.0])).item() == pytest.approx((1 + 4) / 2)


def test_inputs_are_truncated_pairs_padded_to_the_longest_of_the_batch(tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    dataset = Dataset.from_dict(
        {"sentence1": ["good film", "the story"], "sentence2": ["bad", "a very very very dull cast"], "label": [1, 0]}
    )
    prepared = MRPC.prepare(dataset, tokenizer, max_length=8)
    assert prepared["input_ids"][0] == tokenizer("good film", "bad")["input_ids"]
    assert len(prepared["input_ids"][1]) == 8
    batch = MRPC.collate(tokenizer)([prepared[0], prepared[1]])
    assert batch["input_ids"].shape == (2, 8)
    assert batch["attention_mask"].sum(dim=1).tolist() == [6, 8]
    assert batch["labels"].tolist() == [1, 0]
