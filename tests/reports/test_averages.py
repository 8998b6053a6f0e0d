"""Averages that families of tasks are known by: by name, with intervals, and only where every task is there."""

from __future__ import annotations

from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from parbench.reports.frame import read_frame
from parbench.reports.latex import latex
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.leaderboard_render import markdown
from parbench.reports.report import write_report
from parbench.reports.statistics import estimate
from parbench.reports.tables import NOTHING
from parbench.reports.tidy_frames import comparisons_frame, over_tasks_frame
from parbench.tasks import vtab
from parbench.tasks.averages import AVERAGES
from parbench.tasks.commonsense.sets import SETS

VTAB = [f"vtab/{name}" for name in vtab.NAMES]
# As many examples of each task as make these scores exact.
N = 50


def rows(score: float, turn: int = 0) -> pd.DataFrame:
    return of_right(np.roll(np.arange(N) < round(N * score), turn))


def of_right(right: np.ndarray) -> pd.DataFrame:
    """Return rows of ten classes, right where given."""
    labels = np.arange(N) % 10
    table = {"label": labels, "prediction": np.where(right, labels, (labels + 1) % 10)}
    names = [f"test:{n}" for n in range(N)]
    return pd.DataFrame({"example": names, "subset": "", **table, "accuracy": right.astype(float)})


def plant(planter: Any, tasks: dict[str, float], method: str = "lora", seeds: int = 1, **spec: Any) -> None:
    for task, score in tasks.items():
        for seed in range(seeds):
            table = rows(score, seed)
            known = {"task": task, "task_code": task, "metric": "accuracy", "method": method, "method_code": method}
            planter.run(score, rows=table, seed=seed, **known, **spec)


def board_of(planter: Any) -> Leaderboard:
    (board,) = leaderboards(read_frame(planter.store))
    return board


def column(board: Leaderboard, head: str) -> dict[str, str]:
    place = board.scores.head.index(head)
    return {row[0]: row[place] for row in board.scores.rows}


def by_group(natural: float, specialized: float, structured: float) -> dict[str, float]:
    scores = {"natural": natural, "specialized": specialized, "structured": structured}
    return {f"vtab/{name}": scores[group] for group, names in vtab.GROUPS.items() for name in names}


def test_both_rules_of_vtab_stand_in_the_leaderboard_by_name(planter: Any) -> None:
    plant(planter, by_group(0.8, 0.9, 0.5))
    plant(planter, by_group(0.7, 0.8, 0.6), method="vera")
    board = board_of(planter)
    heads = [
        "vtab: natural",
        "vtab: specialized",
        "vtab: structured",
        "vtab: mean of 19 tasks",
        "vtab: mean of 3 groups",
    ]
    assert list(board.scores.head[-5:]) == heads
    found = {head: column(board, head) for head in heads}
    assert found["vtab: natural"] == {"lora": "80.0", "vera": "70.0"}
    assert found["vtab: specialized"] == {"lora": "90.0", "vera": "80.0"}
    assert found["vtab: structured"] == {"lora": "50.0", "vera": "60.0"}
    # By hand: (7 x 0.8 + 4 x 0.9 + 8 x 0.5) / 19 and (0.8 + 0.9 + 0.5) / 3; for vera (4.9 + 3.2 + 4.8) / 19 and 0.7.
    assert found["vtab: mean of 19 tasks"] == {"lora": "69.5", "vera": "67.9"}
    assert found["vtab: mean of 3 groups"] == {"lora": "73.3", "vera": "70.0"}
    assert any(note.startswith("Averages that papers know by name: vtab: natural") for note in board.notes)
    for text in (markdown(board), latex([board])):
        assert "vtab: mean of 3 groups" in text
        assert "73.3" in text
    # Where averages are looked for, they stand beside the plain one.
    shown = ("interquartile mean", "mean rank", "rank on a new task")
    assert board.over_tasks.head == ("method", "average", *heads, *shown)
    assert [row[6] for row in board.over_tasks.rows] == ["73.3", "70.0"]
    numbers = over_tasks_frame([board]).set_index("row")
    assert numbers.loc["lora", "vtab: mean of 19 tasks"] == pytest.approx(13.2 / 19)
    assert numbers.loc["vera", "vtab: mean of 3 groups"] == pytest.approx(0.7)
    assert numbers["vtab: mean of 3 groups low"].isna().all()


def test_what_is_missing_is_reported(planter: Any) -> None:
    scores = by_group(0.8, 0.9, 0.5)
    lacking = ["vtab/cifar100", "vtab/dmlab"]
    plant(planter, {task: score for task, score in scores.items() if task not in lacking})
    board = board_of(planter)
    assert [head for head in board.scores.head if head.startswith("vtab: ")] == ["vtab: specialized"]
    assert "Of vtab there is no average by the name of natural: there is no score on vtab/cifar100." in board.notes
    both = "mean of 19 tasks or mean of 3 groups"
    assert (
        f"Of vtab there is no average by the name of {both}: there is no score on vtab/cifar100, vtab/dmlab."
        in board.notes
    )


def test_a_row_that_lacks_a_task_has_no_average_of_it(planter: Any) -> None:
    plant(planter, by_group(0.8, 0.9, 0.5))
    plant(planter, {task: score for task, score in by_group(0.7, 0.8, 0.6).items() if task != "vtab/dtd"}, "vera")
    board = board_of(planter)
    assert column(board, "vtab: natural")["vera"] == NOTHING
    assert column(board, "vtab: mean of 3 groups") == {"lora": "73.3", "vera": NOTHING}
    assert column(board, "vtab: structured")["vera"] == "60.0"


def test_one_task_twice_under_other_options_is_in_no_average(planter: Any) -> None:
    plant(planter, by_group(0.8, 0.9, 0.5))
    plant(planter, {"vtab/eurosat": 0.6}, options={"image_size": 96})
    board = board_of(planter)
    assert "vtab: natural" in board.scores.head
    assert not any("mean of" in head for head in board.scores.head)
    assert any("there are several columns of vtab/eurosat" in note for note in board.notes)


def test_without_a_task_of_the_family_there_is_no_sentence(planter: Any) -> None:
    planter.run(0.5)
    assert not any("average by the name" in note for note in board_of(planter).notes)


def test_the_harmonic_mean_of_single_sets(planter: Any) -> None:
    scores = [0.5, 0.6, 0.7, 0.8, 0.5, 0.6, 0.7, 0.8]
    plant(planter, {f"commonsense_single/{part.name}": score for part, score in zip(SETS, scores, strict=True)})
    board = board_of(planter)
    assert column(board, "commonsense_single: mean of 8 sets (AVE)") == {"lora": "65.0"}
    # By hand: 8 / (2/0.5 + 2/0.6 + 2/0.7 + 2/0.8) = 0.6303...
    assert column(board, "commonsense_single: harmonic mean of 8 sets (HAR)") == {"lora": "63.0"}
    har = AVERAGES["commonsense_single"][1]
    assert har.of(scores) == pytest.approx(8 / (4 + 2 / 0.6 + 2 / 0.7 + 2.5))


def test_intervals_of_a_named_average_are_those_of_the_plain_one(planter: Any) -> None:
    """A mean of all tasks is the average of the table: mean, interval and ranks must agree."""
    draw = np.random.default_rng(3)
    for method, shift in (("lora", 0.0), ("vera", 0.3)):
        for seed in range(3):
            for number, task in enumerate(VTAB):
                right = draw.random(N) < 0.6 + shift + 0.01 * (number % 5)
                table = of_right(right)
                known = {"task": task, "task_code": task, "metric": "accuracy", "method": method, "method_code": method}
                planter.run(float(right.mean()), rows=table, seed=seed, **known)
    board = board_of(planter)
    ranking = board.ranking
    plain, named = ranking.average, ranking.named["vtab", "mean of 19 tasks"]
    assert plain is not None
    for row in ("lora", "vera"):
        one, other = plain.standings[row], named.standings[row]
        assert other.estimate.mean == pytest.approx(one.estimate.mean)
        assert one.estimate.interval is not None
        assert other.estimate.interval is not None
        assert other.estimate.interval.low == pytest.approx(one.estimate.interval.low, rel=1e-6)
        assert (str(other.ranks), other.best) == (str(one.ranks), one.best)
    assert named.standings["vera"].best
    pairs = comparisons_frame([board]).set_index("column")
    assert pairs.loc["vtab: mean of 19 tasks", "p_value"] == pytest.approx(pairs.loc["average over tasks", "p_value"])
    # A specialized task weighs 1/12 in the mean of groups, and a structured one 1/24.
    groups = ranking.named["vtab", "mean of 3 groups"]
    means = {key[0]: found.standings["lora"].estimate.mean for key, found in ranking.columns.items()}
    by_hand = fmean(fmean(means[f"vtab/{name}"] for name in names) for names in vtab.GROUPS.values())
    assert groups.standings["lora"].estimate.mean == pytest.approx(by_hand)
    assert groups.standings["lora"].estimate.interval is not None


def half_by_hand(right: dict[str, np.ndarray], slopes: np.ndarray, averages: np.ndarray) -> float:
    """Return half of the 95 % interval of an average over tasks, from nothing but what each run has right.

    Args:
        right: by task, 1 where a run is right, of shape (seeds, examples).
        slopes: of the average with respect to each task's score, of shape (tasks, seeds).
        averages: of each seed.
    """
    n = len(averages)
    covariance = sum(
        np.outer(slope, slope) * np.cov(one) / one.shape[1] for slope, one in zip(slopes, right.values(), strict=True)
    )
    between, together = averages.var(ddof=1) / n, covariance.sum() / n**2
    own = (np.trace(covariance) / n - together) / (n - 1)
    examples = max(0.0, together - min(between, max(own, 0.0)))
    degrees = sum(one.shape[1] - 1 for one in right.values())
    quantile = (between * t.ppf(0.975, n - 1) + examples * t.ppf(0.975, degrees)) / (between + examples)
    return float(quantile * np.sqrt(between + examples))


def test_intervals_and_the_noise_floor_by_hand(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the bounds of an accuracy, within which the intervals would not be symmetric.
    monkeypatch.setattr("parbench.reports.columns.estimate", lambda scores, level, bounds: estimate(scores, level))
    draw = np.random.default_rng(5)
    single = [f"commonsense_single/{part.name}" for part in SETS]
    right: dict[tuple[str, int, int], np.ndarray] = {}
    for (number, task), seed, repeat in product(enumerate([*VTAB, *single]), range(3), range(2)):
        drawn = (draw.random(N) < 0.5 + 0.02 * number % 0.4).astype(int)
        right[task, seed, repeat] = drawn
        table = of_right(drawn)
        model = "gpt2" if task in single else "roberta-base"
        known = {"task": task, "task_code": task, "metric": "accuracy", "base_model": model}
        planter.run(float(drawn.mean()), rows=table, seed=seed, repeat=repeat, **known)
    plant(planter, dict.fromkeys(VTAB, 0.5), method="vera", seeds=3)
    ranking = board_of(planter).ranking
    weights = np.array([1 / 3 / len(names) for names in vtab.GROUPS.values() for _ in names])
    in_groups = [f"vtab/{name}" for names in vtab.GROUPS.values() for name in names]

    def first(tasks: list[str]) -> dict[str, np.ndarray]:
        return {task: np.stack([right[task, seed, 0] for seed in range(3)]) for task in tasks}

    def shown(ranking: Any, family: str, name: str) -> tuple[float, float]:
        found = ranking.named[family, name].standings["lora"].estimate
        return found.mean, found.interval.high - found.mean

    images = first(in_groups)
    averages = weights @ np.array([one.mean(axis=1) for one in images.values()])
    half = half_by_hand(images, np.tile(weights[:, None], 3), averages)
    assert shown(ranking, "vtab", "mean of 3 groups") == pytest.approx((averages.mean(), half), rel=1e-6)
    sets = first(single)
    scores = np.array([one.mean(axis=1) for one in sets.values()])
    har = 8 / (1 / scores).sum(axis=0)
    # By the chain rule, a harmonic mean H of 8 scores follows each of them by H^2 / (8 x score^2).
    half = half_by_hand(sets, har**2 / (8 * scores**2), har)
    name = "harmonic mean of 8 sets (HAR)"
    assert shown(ranking, "commonsense_single", name) == pytest.approx((har.mean(), half), rel=1e-4)
    # Of runs repeated once, half of the squared difference is the variance; of each task there are three such pairs.
    spreads = [
        np.mean([(right[task, seed, 0].mean() - right[task, seed, 1].mean()) ** 2 / 2 for seed in range(3)])
        for task in in_groups
    ]
    floor = t.ppf(0.975, 3) * np.sqrt((weights**2 * spreads).sum()) * np.sqrt(1 / 3 + 1 / 3)
    (pair,) = ranking.named["vtab", "mean of 3 groups"].comparisons
    assert pair.noise_floor == pytest.approx(floor)


@pytest.mark.usefixtures("_no_figures")
def test_other_metrics_stand_in_a_table_of_their_own(planter: Any) -> None:
    """Such as AVE, HAR and the means of seen and unseen sets of one mixture."""
    sets = {"accuracy_boolq": 0.9, "accuracy_piqa": 0.5, "acc_norm_boolq": 0.8, "acc_norm_piqa": 0.8}
    for seed, har in enumerate((0.6, 0.7)):
        others = {**sets, "harmonic_mean": har, "seen_mean": 0.9, "unseen_mean": 0.5, "nist": 7.5, "acc_norm": 0.8}
        planter.run(0.7, "accuracy", task="outside/mixture", method="lora", seed=seed, others=others)
    planter.run(0.6, "accuracy", task="outside/mixture", method="vera", others={"seen_mean": 0.5})
    board = board_of(planter)
    (table,) = board.other_metrics
    assert table.caption == "outside/mixture"
    assert table.head == ("method", "acc_norm", "harmonic_mean", "nist (as is)", "seen_mean", "unseen_mean")
    # 0.1 / sqrt(2) by hand.
    assert table.rows == (
        ("lora", "80.0 ± 0.0", "65.0 ± 7.1", "7.50 ± 0.00", "90.0 ± 0.0", "50.0 ± 0.0"),
        ("vera", NOTHING, NOTHING, NOTHING, "50.0", NOTHING),
    )
    report = write_report(planter.store)
    assert "### Other metrics of outside/mixture" in report.files[0].read_text("utf-8")
    assert "Other metrics of outside/mixture" in report.page.read_text("utf-8")


def test_the_registered_families_name_tasks_there_are() -> None:
    from parbench.tasks import TASKS

    for family in AVERAGES:
        averages = AVERAGES[family]
        assert len({average.name for average in averages}) == len(averages)
        for average in averages:
            assert set(average.tasks) <= set(TASKS)
            assert average.of([0.5] * len(average.tasks)) == pytest.approx(0.5)
