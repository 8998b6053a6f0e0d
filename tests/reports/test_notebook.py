"""A notebook shows leaderboards as the page does."""

from __future__ import annotations

from typing import Any

import pytest

import parbench
from parbench.bench.util.errors import UserError
from tests.support.pages import Parsed
from tests.support.shares import plant_shares


def test_a_notebook_shows_the_verdict_the_figure_and_the_scores(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "<b>ours</b>": 0.1})
    results = parbench.load(planter.store.root)
    numbers = parbench.leaderboard(results)
    text = numbers._repr_html_()
    assert text is not None
    parsed = Parsed(text)
    shown = parsed.shown()
    assert "glue/rte: <b>ours</b> is better than lora by " in shown
    assert [attributes["src"][:26] for attributes in parsed.all("img")] == ["data:image/svg+xml;base64,"]
    cells = [content for tag, content in parsed.texts if tag in ("td", "th", "strong")]
    (board,) = numbers.boards
    assert {content for row in board.scores.rows for content in row} <= set(cells)
    assert {"board", "curve", "row_order"}.isdisjoint(numbers.columns)
    selected = numbers[numbers["method"] == "lora"]
    assert "<table" in selected._repr_html_()
    assert "better than" not in selected._repr_html_()


def test_the_baseline_can_be_chosen(planter: Any) -> None:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1, "vera": 0.3}, seeds=[1])
    results = parbench.load(planter.store.root)
    assert parbench.leaderboard(results).boards[0].baseline == "lora"
    assert parbench.leaderboard(results, baseline="vera").boards[0].baseline == "vera"
    with pytest.raises(UserError, match='no score of the baseline "none"'):
        parbench.leaderboard(results, baseline="none")
