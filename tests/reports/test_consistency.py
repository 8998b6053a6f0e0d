"""How many predictions differ between seeds, what comparisons could have seen, and what a plan needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import hamming_loss

from parbench.reports.consistency import consistency_table, flip_share
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.needed import default_sources, measured, needed
from parbench.reports.report import write_report
from tests.support.claims import plant_seeds, predictions
from tests.support.shares import plant_shares

A_LOT = (260, 140, 230, 170, 200)


def test_the_share_of_flips_is_the_mean_over_pairs_of_seeds(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 0)
    planter.seeds([0.9, 0.8, 0.7], task="glue/stsb", task_code="stsb", metric="pearson")
    runs = read_frame(planter.store).runs
    table = consistency_table(planter.store, runs, ["loca", "lora"])
    made = predictions(1, A_LOT)
    losses = [hamming_loss(a, b) for place, a in enumerate(made) for b in made[place + 1 :]]
    assert len(losses) == 10
    assert table.head == ("method", "glue/rte (accuracy)")  # a regression has no classes
    assert table.rows == (("loca", f"{100 * np.mean(losses):.1f}"), ("lora", "0.0"))


def test_one_run_is_consistent_with_nothing(planter: Any) -> None:
    assert flip_share([np.array([0, 1])]) is None
    plant_seeds(planter, "loca", 1, A_LOT, seeds=(0,))
    assert consistency_table(planter.store, read_frame(planter.store).runs, ["loca"]).rows == ()


@pytest.mark.usefixtures("_no_figures")
def test_the_page_shows_consistency_and_what_each_pair_could_have_seen(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.2, "loca": 0.2, "vera": 0.3})
    files = {path.name: path for path in write_report(planter.store).files}
    pairs = pd.read_csv(files["comparisons.csv"])
    (board,) = leaderboards(read_frame(planter.store))
    assert [row[0] for row in board.detectable.rows] == ["lora and loca", "lora and vera", "loca and vera"]
    for name, value in board.detectable.rows:
        a, b = name.split(" and ")
        own = pairs[pairs["a"].isin([a, b]) & pairs["b"].isin([a, b])].iloc[0]
        assert value == f"{100 * own['detectable']:.1f}"
        half = (own["high"] - own["low"]) / 2
        assert half < own["detectable"] < 2 * half  # 1.96 + 0.84 standard errors beside 1.96
    for name in ("index.html", "leaderboard.md"):
        text = files[name].read_text(encoding="utf-8")
        assert "What each comparison could have seen" in text
        assert "Predictions that differ between seeds" in text


def test_a_store_gives_the_variances_of_its_comparisons(planter: Any) -> None:
    plant_seeds(planter, "loca", 1, A_LOT)
    plant_seeds(planter, "lora", 1)
    plant_seeds(planter, "vera", 3)  # did not learn
    ((key, found),) = measured(read_frame(planter.store)).items()
    assert key == ("glue/rte", "roberta-base")
    assert (found.pairs, found.seeds) == (1, 5)
    scores = np.array([(each == np.arange(1000) % 2).mean() for each in predictions(1, A_LOT)])
    assert found.sources.seeds + found.sources.own == pytest.approx(scores.var(ddof=1))
    assert found.sources.shared == 0
    assert str(found) == "measured on 1 pair of methods with 5 seeds or more"
    assert measured(read_frame(planter.store), {"lora"}) == measured(read_frame(planter.store))


def test_what_is_assumed_gives_numbers_of_a_known_size() -> None:
    found = needed(default_sources(1000), "assumed", 0.01, seeds=3, examples=1000)
    # 0.0004 / S + 0.000075 / S + 0.000075 must be below (0.01 / 2.8)², which is 0.0000128: the examples forbid it.
    assert found.seeds_needed is None
    assert found.detectable == pytest.approx(0.06, rel=0.3)
    more = needed(default_sources(20_000), "assumed", 0.01, seeds=40, examples=20_000)
    assert more.seeds_needed == pytest.approx((0.0004 + 0.00000375) / (0.0000128 - 0.00000375), rel=0.1)
