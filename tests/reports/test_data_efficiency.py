"""Runs on shares of the training split make curves; they clutter no leaderboard, and none is lost."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from parbench.bench.record.run_record import Status
from parbench.reports.data_efficiency import efficiency_tables, in_full
from parbench.reports.figures import CAPTIONS, Reason, all_figures, data_efficiency
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import leaderboards
from parbench.reports.published import reproduction
from parbench.reports.report import write_report
from parbench.reports.tables import SMALL_LABEL, summarise
from parbench.reports.tidy_frames import cells_frame

RTE = {"task": "glue/rte", "metric": "accuracy", "task_code": "rte-1"}
SHARES = {0.01: [0.5, 0.52, 0.54], 0.1: [0.6, 0.62, 0.64], 1.0: [0.7, 0.72, 0.74]}


@pytest.fixture
def shares(planter: Any) -> Any:
    for share, scores in SHARES.items():
        planter.seeds(scores, train_fraction=share, **RTE)
        if share > 0.01:
            planter.seeds([score + 0.05 for score in scores], train_fraction=share, method="vera", **RTE)
    return planter


def drawn(figure: Figure | Reason) -> Figure:
    assert isinstance(figure, Figure)
    return figure


@pytest.mark.usefixtures("_no_figures")
def test_each_share_has_a_leaderboard_of_its_own_and_one_is_shown_in_full(shares: Any) -> None:
    boards = leaderboards(read_frame(shares.store))
    assert [board.title.removeprefix("roberta-base, protocol strict, all examples, no budget") for board in boards] == [
        "",
        ", 10 % of the training split",
        ", 1 % of the training split",
    ]
    assert [board.in_full for board in boards] == [True, False, False]
    assert [[row[0] for row in board.scores.rows] for board in boards] == [["lora", "vera"], ["lora", "vera"], ["lora"]]
    assert list(boards[0].cells["mean"]) == pytest.approx([0.72, 0.77])
    report = write_report(shares.store)
    assert [board.title for board in report.boards] == [boards[0].title]


def test_the_numbers_of_the_curves(shares: Any) -> None:
    frame = read_frame(shares.store)
    boards = leaderboards(frame)
    (one,) = efficiency_tables(cells_frame(frame.runs, boards))
    assert one.table.caption == "glue/rte (accuracy)"
    assert one.table.head == ("method", "1 %", "10 %", "100 %")
    lora, vera = one.table.rows
    assert vera[:2] == ("vera", "not run")
    # The cell of a leaderboard, without its ranks.
    expected = [board.scores.rows[0][2].split(" [")[0] for board in boards[::-1]]
    assert [text.removesuffix(" (n=3)") for text in lora[1:]] == [text.removesuffix(" (n=3)") for text in expected]
    assert all(
        re.fullmatch(r"\d+\.\d (± \d+\.\d|-\d+\.\d/\+\d+\.\d) \(n=3(, did not learn)?\)", text) for text in lora[1:]
    )


def test_a_score_that_is_on_no_curve_is_shown_on_its_leaderboard(shares: Any) -> None:
    shares.run(0.4, train_fraction=0.1, task="glue/cola")
    boards = leaderboards(read_frame(shares.store))
    assert [board.in_full for board in boards] == [True, True, False]
    shares.run(status=Status.DIVERGED, reason="It rose.", train_fraction=0.01, task="glue/cola", method="x")
    assert [board.in_full for board in leaderboards(read_frame(shares.store))] == [True, True, False]


@pytest.mark.usefixtures("_no_figures")
def test_shares_alone_without_the_whole(planter: Any) -> None:
    for share in (0.1, 0.5):
        planter.run(share, train_fraction=share)
    runs = read_frame(planter.store).runs
    assert runs.loc[in_full(runs, "score"), "train_fraction"].tolist() == [0.5]
    (board,) = write_report(planter.store).boards
    assert board.title.endswith("50 % of the training split")


def test_without_two_shares_there_is_no_curve(planter: Any) -> None:
    planter.run(0.5, train_fraction=0.1)
    planter.run(0.5, method="vera")
    planter.run(0.5, train_fraction=0.1, task="glue/rte", metric="accuracy", base_model="another")
    cells = summarise(read_frame(planter.store).runs)
    assert efficiency_tables(cells.assign(low=np.nan, high=np.nan)) == ()
    assert isinstance(data_efficiency(cells), Reason)
    assert in_full(cells).all()


def test_the_lines_of_the_figure(shares: Any) -> None:
    frame = read_frame(shares.store)
    figure = drawn(data_efficiency(cells_frame(frame.runs, leaderboards(frame))))
    (axes,) = figure.axes
    lora, vera = (container.lines for container in axes.containers)
    assert lora[0].get_ydata() == pytest.approx([52, 62, 72])
    assert vera[0].get_ydata() == pytest.approx([67, 77])
    # Logarithmic, side by side around the share.
    assert (lora[0].get_xdata()[1:] + vera[0].get_xdata()) / 2 == pytest.approx([-1, 0])
    assert 0 < vera[0].get_xdata()[0] - lora[0].get_xdata()[1] < 0.1
    cells = cells_frame(frame.runs, leaderboards(frame)).set_index(["method", "train_fraction"])
    ends = np.array([bar[:, 1] for bar in lora[2][0].get_segments()])
    assert ends == pytest.approx(100 * cells.loc["lora", ["low", "high"]].sort_index().to_numpy())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    # Without colour, too.
    assert len({(line[0].get_marker(), line[0].get_linestyle()) for line in (lora, vera)}) == 2
    assert axes.get_ylabel() == "accuracy x100"


def test_what_is_on_the_curves_is_drawn_nowhere_else(shares: Any) -> None:
    shares.run(0.6, base_model="another", **RTE)
    figures = all_figures(read_frame(shares.store))
    assert list(figures) == list(CAPTIONS)
    assert len(drawn(figures["score_vs_parameters"]).axes) == 2
    assert len(drawn(figures["score_vs_memory"]).axes) == 2
    assert len(drawn(figures["data_efficiency"]).axes) == 1


def test_a_miniature_is_labelled(planter: Any) -> None:
    for share in (0.1, 1.0):
        planter.run(0.5, train_fraction=share, small=True)
    frame = read_frame(planter.store)
    cells = cells_frame(frame.runs, leaderboards(frame))
    (one,) = efficiency_tables(cells)
    assert one.label == SMALL_LABEL
    *areas, foot = drawn(data_efficiency(cells)).subfigs
    assert [area.get_suptitle().endswith("(small suite)") for area in areas] == [True]
    assert SMALL_LABEL in " ".join(foot.get_supxlabel().split())


def test_the_report_shows_the_table_and_folds_the_rest_up(shares: Any) -> None:
    shares.run(0.5, train_fraction=0.1, data_revision="data-2", seed=9, **RTE)
    report = write_report(shares.store)
    page, html = report.files[0].read_text(encoding="utf-8"), report.page.read_text(encoding="utf-8")
    assert page.count("## roberta-base, protocol strict") == 1
    assert "### glue/rte (accuracy): roberta-base, protocol strict, all examples, no budget" in page
    assert "10 % of the training split: mixed revisions: data of glue/rte: data-1 (6 runs), data-2 (1 run)." in page
    assert html.count('<details class="folded">') == 2
    assert "1 warnings" in html
    assert 'id="figure-data-efficiency"' in html
    assert {"data_efficiency.png", "data_efficiency.svg"} <= {path.name for path in report.files}
    cells = pd.read_csv(next(path for path in report.files if path.name == "leaderboard.csv"))
    assert sorted(cells["train_fraction"]) == [0.01, 0.1, 0.1, 1.0, 1.0]
    assert "MINI" not in html


def test_a_published_number_is_not_set_beside_a_point_of_a_curve(shares: Any) -> None:
    rows = reproduction(read_frame(shares.store).runs)
    assert [row.mean for row in rows if row.row == "lora"] == [pytest.approx(0.72)] * 2
    assert not any("of the training split" in text for row in rows for text in row.differences)
    shares.run(0.6, train_fraction=0.1, base_model="roberta-large", **RTE)
    large = [row for row in reproduction(read_frame(shares.store).runs) if row.base_model == "roberta-large"]
    assert len(large) > 0
    assert all("10 % of the training split" in row.differences for row in large)
