"""Reports of unusual stores: ties, constants, one seed, no number, one task, odd names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
from parbench.reports.report import write_report
from parbench.tasks.metrics.classification import METRICS
from tests.support.planter import LEDGER, Planter, rows_with

TASKS = {"glue/rte": "accuracy", "glue/mrpc": "f1", "glue/cola": "matthews_correlation", "glue/stsb": "pearson"}
ODD = [
    *("lora", "=HYPERLINK(1)", "-", "a|b", "<b>", "$x^2$", "_", "\\", "ﬀ\u202eabc", "x" * 90, "a\nb", '"', "'", "%s"),
    *("{}", "[1]", "é", "日本", "*", "`", "nan", "None", "0", "1e5", " ", "&amp;", "../..", "a,b", "a;b", "@x", "+1"),
]


def predictions(rng: np.random.Generator, metric: str, labels: np.ndarray, kind: str) -> np.ndarray:
    """Return what a run predicts: right, constant, at chance, or mostly right."""
    if kind == "constant":
        return np.full_like(labels, labels[0])
    if kind == "right":
        return labels.copy()
    if metric == "pearson":
        return labels * rng.normal(1, 0.1) + rng.normal(0, 5, len(labels))
    wrong = rng.random(len(labels)) < (0.5 if kind == "chance" else rng.choice([0.02, 0.2]))
    return np.where(wrong, 1 - labels, labels)


def plant_anything(planter: Planter, seed: int) -> int:
    """Plant a store that is drawn from ``seed``; return the number of records that contradict their rows."""
    rng = np.random.default_rng(seed)
    methods = [*rng.permutation(ODD), *(f"m{number}" for number in range(10))][: int(rng.choice([1, 2, 3, 5, 5, 40]))]
    few = len(methods) == 40
    tasks = [str(task) for task in rng.permutation(list(TASKS))][: int(rng.choice([1, 1, 2, 3]) if not few else 1)]
    seeds = int(rng.choice([1, 2, 3, 3, 5]) if not few else rng.choice([1, 3]))
    size = int(rng.choice([1, 2, 3, 40, 400])) if not few else 40
    refused = 0
    for task in tasks:
        metric = TASKS[task]
        labels = rng.normal(size=size) if metric == "pearson" else rng.integers(0, 2, size)
        shared = predictions(rng, metric, labels, "chance")
        for method in methods:
            kind = str(rng.choice(["constant", "right", "chance", "mostly", "tied", "one off", "failed", "nan"]))
            for number in range(seeds):
                spec: dict[str, Any] = {"task": task, "metric": metric, "method": method, "seed": number}
                if kind == "failed" or rng.random() < 0.05:
                    planter.run(status=Status.DIVERGED, reason="a loss that is not finite", **spec)
                    continue
                if kind == "nan":
                    planter.run(float("nan"), rows=rows_with(labels, labels), **spec)
                    refused += 1
                    continue
                message = shared.copy() if kind in ("tied", "one off") else predictions(rng, metric, labels, kind)
                if kind == "one off":  # the same difference to the tied ones in every seed
                    message[0] = labels[0] if metric == "pearson" else 1 - message[0]
                planter.run(METRICS[metric](labels, message), rows=rows_with(labels, message), **spec)
    return refused


def check_report(folder: Path, seed: int) -> None:
    store = Store(folder / "store")
    store.prepare()
    refused = plant_anything(Planter(store), seed)
    report = write_report(store)
    page = report.files[0].read_text(encoding="utf-8")
    # That a part could not be computed is for faults that are not known: none of these stores may come to it.
    assert "not computed" not in page + report.page.read_text(encoding="utf-8")
    assert len(report.frame.unreadable) == refused
    cells = pd.read_csv(report.files[0].with_name("leaderboard.csv"))
    scored = cells[cells["low"].notna()]
    assert (scored["low"] <= scored["mean"] + 1e-9).all()
    assert (scored["high"] >= scored["mean"] - 1e-9).all()
    assert scored["high"].max() <= 1 or scored.empty
    assert scored["low"].min() >= -1 or scored.empty
    pairs = pd.read_csv(report.files[0].with_name("comparisons.csv"))
    assert pairs["p_value"].dropna().between(0, 1).all()
    assert (pairs["p_value"].notna() | pairs["reason"].notna()).all()


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 12))])
def test_any_store_has_a_report(tmp_path: Path, seed: int) -> None:
    check_report(tmp_path, seed)


@pytest.mark.parametrize("seed", [100, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (101, 102))])
def test_any_store_has_its_figures(tmp_path: Path, seed: int) -> None:
    check_report(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(1000, 1500, 25))
def test_five_hundred_stores_have_reports(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 25):
        check_report(tmp_path / str(seed), seed)


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(
    "broken",
    [
        "scored.compare_scores",
        "columns.estimate",
        "scored.score_methods",
        "ranking.rank_over_tasks",
        "ranking.interquartile_mean",
        "leaderboard.rank_board",
        "report.reproduction",
    ],
)
def test_what_cannot_be_computed_is_replaced_by_the_reason(
    planted: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("planted")

    # Two methods that have learnt, so that there is a pair to compare.
    for method in ("lora", "vera"):
        planted.seeds([0.9, 0.91, 0.92], task="glue/mrpc", metric="accuracy", method=method)
    monkeypatch.setattr(f"parbench.reports.{broken}", fail)
    report = write_report(planted.store)
    page = report.page.read_text(encoding="utf-8")
    assert "not computed: ZeroDivisionError: planted" in page
    assert len(pd.read_csv(report.files[0].with_name("runs.csv"))) == 19


def test_a_figure_that_cannot_be_drawn_is_replaced_by_the_reason(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("parbench.reports.figures.heat_map", fail)
    monkeypatch.setattr("parbench.reports.figures.style._picture", fail)
    page = write_report(planted.store).page.read_text(encoding="utf-8")
    assert page.count("It was not computed: ZeroDivisionError: planted.") >= 3


@pytest.mark.usefixtures("_no_figures")
def test_a_record_that_fits_into_no_table_costs_no_other(planted: Any) -> None:
    odd = planted.run(0.5, seed=7, ledger=replace(LEDGER, reported=2**70))
    report = write_report(planted.store)
    assert [entry.path.name for entry in report.frame.unreadable] == [odd.run_id]
    assert "does not fit into a table" in report.frame.unreadable[0].reason
    assert len(report.frame.runs) == 13


@pytest.mark.usefixtures("_no_figures")
def test_files_hold_no_formula_of_a_spreadsheet(planter: Any) -> None:
    formula = '=HYPERLINK("http://127.0.0.1/","x")'
    for seed in range(3):
        known = {"seed": seed, "suite": "+1", "data_source": "@SUM(A1)", "base_model": "\t=1"}
        planter.run(0.5, method=formula, others={"matthews_correlation_-a": 0.5}, **known)
        planter.run(0.6, method="vera", **known)
    planter.run(status=Status.ERROR, reason="-2+3", seed=9, method=formula)
    report = write_report(planter.store)
    for path in report.files:
        if path.suffix == ".csv":
            cells = pd.read_csv(path, dtype=str, keep_default_na=False)
            texts = [*cells.columns, *cells.to_numpy().ravel()]
            begun = [text for text in texts if text.strip().startswith(("=", "+", "-", "@"))]
            assert all(pd.to_numeric(text, errors="coerce") == pd.to_numeric(text, errors="coerce") for text in begun)
            assert any(text.startswith("'=HYPERLINK") for text in texts)
