"""Logits are kept apart from the rows only where no metric needs them."""

import numpy as np
import pandas as pd
import pytest

from parbench.bench.store.rows import read_rows, write_rows
from parbench.tasks.glue import SST2, STSB


def rows():
    logits = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    return pd.DataFrame(
        {
            "example": [f"validation:{number}" for number in range(50)],
            "subset": "",
            "label": [0, 1] * 25,
            "prediction": logits.argmax(1),
            "logits": [row.tolist() for row in logits],
        }
    )


def write(table, score, folder):
    write_rows(table, score, score(table), folder)


def log_loss(table):
    odds = np.stack(table["logits"].to_list())
    return {"log_loss": -float(np.mean((odds - np.log(np.exp(odds).sum(1, keepdims=True)))[:, 0]))}


def test_they_come_back_as_they_were(tmp_path):
    table = rows()
    write(table, SST2.score, tmp_path)
    assert list(pd.read_parquet(tmp_path / "predictions.parquet")) == ["example", "subset", "label", "prediction"]
    back = read_rows(tmp_path)
    assert [list(values) for values in back["logits"]] == table["logits"].tolist()
    pd.testing.assert_frame_equal(back.drop(columns="logits"), table.drop(columns="logits"))
    assert SST2.score(pd.read_parquet(tmp_path / "predictions.parquet")) == SST2.score(table)


def test_a_metric_that_needs_them_keeps_them_in_the_rows(tmp_path):
    write(rows(), log_loss, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
    assert log_loss(read_rows(tmp_path)) == log_loss(rows())


def test_a_metric_that_is_another_without_them_keeps_them_in_the_rows(tmp_path):
    write(rows(), lambda table: {"columns": float(len(table.columns))}, tmp_path)
    assert not (tmp_path / "logits.parquet").exists()


@pytest.mark.parametrize("constant", [True, False])
def test_a_score_that_is_not_a_number_does_not_matter(tmp_path, constant):
    """The correlation of a constant is not a number."""
    table = rows().assign(label=np.linspace(0, 5, 50), prediction=1.0 if constant else np.linspace(1, 2, 50))
    write(table, STSB.score, tmp_path)
    assert (tmp_path / "logits.parquet").exists()


def test_rows_without_logits_are_written_whole(tmp_path):
    table = rows().drop(columns="logits")
    write(table, SST2.score, tmp_path)
    pd.testing.assert_frame_equal(read_rows(tmp_path), table)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
