"""Two sides are compared on what they share, with the statistics of a leaderboard, and their differences listed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console

from parbench.bench.cli.compare import compare
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.reports.contrasts import Contrasts, contrast_methods, contrast_stores
from parbench.reports.contrasts_render import TerminalContrasts, markdown
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards

GOOD = {"method": "good", "method_code": "good-1"}
BAD = {"method": "bad", "method_code": "bad-1", "setting": {"rank": 4}}
RTE = {"task": "glue/rte", "metric": "accuracy", "task_code": "rte-1"}


@pytest.fixture
def other(planter: Any, tmp_path: Path) -> Any:
    store = Store(tmp_path / "other")
    store.prepare()
    return replace(planter, store=store)


def differences(compared: Contrasts) -> dict[str, tuple[str, str]]:
    return {one.what: (one.a, one.b) for one in compared.differences}


def test_two_methods(planter: Any) -> None:
    for task in ({}, RTE):
        planter.seeds([0.80, 0.81, 0.82], **GOOD, **task)
        planter.seeds([0.60, 0.62, 0.61], **BAD, **task)
    compared = contrast_methods(planter.store, "good", "bad")
    assert [one.task for one in compared.contrasts] == ["glue/cola", "glue/rte"]
    cola = compared.contrasts[0]
    assert (cola.mean_a, cola.mean_b) == (pytest.approx(0.81), pytest.approx(0.61))
    assert cola.comparison.difference == pytest.approx(0.20)
    assert cola.comparison.paired
    assert cola.comparison.better() == "good"
    (board,) = leaderboards(read_frame(planter.store))
    (pair,) = board.ranking.columns["glue/cola", "matthews_correlation"].comparisons
    assert pair.p_value == pytest.approx(cola.comparison.p_value)
    assert pair.adjusted_p_value == cola.comparison.adjusted_p_value
    assert differences(compared) == {
        "rank": ("8", "4"),
        "learning_rate": ("0.001", "—"),
        "method_code": ("good-1", "bad-1"),
    }


def test_a_task_that_one_of_them_lacks_is_reported(planter: Any) -> None:
    planter.run(0.8, **GOOD)
    planter.run(0.5, **BAD)
    planter.run(0.8, **GOOD, **RTE)
    compared = contrast_methods(planter.store, "good", "bad")
    assert [one.task for one in compared.contrasts] == ["glue/cola"]
    assert "Only good has a score of glue/rte on such a leaderboard." in compared.notes
    assert "glue/cola: n = 1: the spread over seeds needs 3 seeds or more." in compared.notes
    assert compared.scores.rows[0][3:] == ("+30.0", "—", "—", "not tested")


def test_two_stores(planter: Any, other: Any) -> None:
    planter.seeds([0.80, 0.81, 0.82], **GOOD)
    planter.seeds([0.50, 0.51, 0.52], **BAD)
    versions = {**planter.provenance.versions, "peft": "0.22.0"}
    changed = {"harness_code": "harness-2", "provenance": replace(planter.provenance, versions=versions)}
    other.seeds([0.70, 0.71, 0.73], **GOOD, **changed)
    other.seeds([0.50, 0.51, 0.52], **BAD, **changed)
    compared = contrast_stores(planter.store, other.store)
    assert (compared.a, compared.b) == ("store", "other")
    bad, good = compared.contrasts
    assert (bad.method, good.method) == ("bad", "good")
    assert (bad.comparison.p_value, bad.comparison.difference) == (1.0, 0.0)
    assert good.comparison.better() == "store"
    assert differences(compared) == {"harness_code": ("harness-1", "harness-2"), "version/peft": ("0.21.0", "0.22.0")}
    alone = contrast_stores(planter.store, other.store, "good")
    assert [one.method for one in alone.contrasts] == ["good"]
    assert alone.contrasts[0].comparison.adjusted_p_value == alone.contrasts[0].comparison.p_value


def test_stores_on_other_data_are_not_tested(planter: Any, other: Any) -> None:
    planter.seeds([0.80, 0.81, 0.82])
    other.seeds([0.8001, 0.8101, 0.8201], data_revision="data-2")  # four decimals: another number of examples
    (contrast,) = contrast_stores(planter.store, other.store).contrasts
    assert contrast.comparison.p_value is None
    assert contrast.comparison.reason == "not scored on the same examples"


def test_what_was_harmed_does_not_count(planter: Any) -> None:
    planter.run(0.8, **GOOD)
    record = planter.run(0.5, **BAD)
    (planter.store.runs / record.run_id / "predictions.parquet").unlink()
    with pytest.raises(UserError, match=r'there are no runs of "bad".*; refused records: 1, see bench report'):
        contrast_methods(planter.store, "good", "bad")


def test_what_is_left_out_of_a_comparison_is_reported(planter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for accuracy in (0.8, 0.7):
        planter.run(accuracy, **{**GOOD, "seed": round(10 * accuracy)})
        harmed = planter.run(accuracy, **{**BAD, "seed": round(10 * accuracy)})
    assert contrast_methods(planter.store, "good", "bad").unreadable == ()
    path = planter.store.runs / harmed.run_id / "predictions.parquet"
    path.unlink()
    (found,) = contrast_methods(planter.store, "good", "bad").unreadable
    assert path.parent == found.path.parent
    with pytest.raises(typer.Exit) as ended:
        compare("good", "bad", out=planter.store.root, method=None)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("bench: left out of the comparison: ")
    assert "roberta-base, protocol strict" in printed.out  # all the same


def test_mistakes_are_reported(planter: Any, other: Any) -> None:
    planter.run(0.8, **GOOD)
    planter.run(0.5, **BAD)
    planter.run(0.6, **{**BAD, "setting": {"rank": 8}})
    with pytest.raises(UserError, match='there are no runs of "god"; did you mean'):
        contrast_methods(planter.store, "god", "bad")
    with pytest.raises(UserError, match=r'"bad \(rank=4\)" and "bad \(rank=8\)"; name one of them'):
        contrast_methods(planter.store, "good", "bad")
    assert len(contrast_methods(planter.store, "good", "bad (rank=8)").contrasts) == 1
    other.run(0.8, **GOOD, base_model="another")
    with pytest.raises(UserError, match="have no score on a common task"):
        contrast_stores(planter.store, other.store)


def test_rendered_with_protocol_and_label(planter: Any) -> None:
    planter.seeds([0.80, 0.81, 0.82], **GOOD, small=True)
    planter.seeds([0.50, 0.51, 0.52], **BAD, small=True)
    compared = contrast_methods(planter.store, "good", "bad")
    page = markdown(compared)
    buffer = io.StringIO()
    Console(file=buffer, width=160).print(TerminalContrasts(compared))
    for text in (page, buffer.getvalue()):
        assert "protocol strict" in text
        assert "SMALL SUITE" in text
        assert "method_code" in text
        assert "good-1" in text
    assert page == markdown(contrast_methods(planter.store, "good", "bad"))


def test_the_same_options_are_compared_with_each_other(planter: Any, other: Any) -> None:
    chat = {"task": "outside/chat", "metric": "rating"}
    planter.run(6.0, **GOOD, **chat, options={"judge": "a", "repeats": 2})
    for judge, rating in (("a", 7.0), ("b", 8.0)):
        other.run(rating, **GOOD, **chat, options={"judge": judge, "repeats": 2})
    compared = contrast_stores(planter.store, other.store)
    assert [(one.task, one.mean_a, one.mean_b) for one in compared.contrasts] == [
        ('outside/chat (judge="a")', 6.0, 7.0)  # which the first store, having no other, calls by its task alone
    ]
    assert any('Only other has a score of good on outside/chat (judge="b")' in note for note in compared.notes)


def test_a_pair_has_the_verdict_of_its_leaderboard(planter: Any) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        for seed in range(4):
            score = round(0.80 - 0.02 * number + 0.005 * float(rng.normal()), 2)
            planter.run(score, "accuracy", task="glue/rte", method=f"m{number}", seed=seed, task_code="rte-1")
    (board,) = leaderboards(read_frame(planter.store))
    pairs = board.ranking.columns["glue/rte", "accuracy"].comparisons
    assert len(pairs) == 15
    for pair in pairs[::5]:
        for names in ((pair.a, pair.b), (pair.b, pair.a)):
            (contrast,) = contrast_methods(planter.store, *names).contrasts
            assert contrast.comparison.adjusted_p_value == pair.adjusted_p_value
            assert contrast.comparison.better() == pair.better()
    assert any(pair.p_value != pair.adjusted_p_value for pair in pairs)


def test_shares_of_the_training_split_are_families_of_their_own(planter: Any) -> None:
    for share in (0.1, 1.0):
        planter.seeds([0.80, 0.81, 0.82], **GOOD, train_fraction=share)
        planter.seeds([0.75, 0.78, 0.75], **BAD, train_fraction=share)
    planter.seeds([0.80, 0.81, 0.82], **GOOD, **RTE, train_fraction=0.1)
    planter.seeds([0.60, 0.62, 0.61], **BAD, **RTE, train_fraction=0.1)
    compared = contrast_methods(planter.store, "good", "bad")
    assert [(one.task, one.share) for one in compared.contrasts] == [
        ("glue/cola", 1.0),
        ("glue/cola", 0.1),
        ("glue/rte", 0.1),
    ]
    whole, tenth, rte = (one.comparison for one in compared.contrasts)
    assert whole.adjusted_p_value == whole.p_value == tenth.p_value
    assert rte.p_value is not None
    assert tenth.p_value is not None
    assert rte.p_value < tenth.p_value
    # The only pair on its leaderboard's task.
    assert (rte.adjusted_p_value, tenth.adjusted_p_value) == (rte.p_value, tenth.p_value)
    assert compared.notes[-1].endswith("for all pairs of methods on a task, as on the leaderboard.")
