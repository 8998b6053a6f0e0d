"""The page is whole, well formed, accessible, self-contained and the same for the same records."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from parbench.bench.util.errors import UserError
from parbench.reports.figures import Picture, Reason
from parbench.reports.frame import read_frame
from parbench.reports.html import Page, write_html
from parbench.reports.leaderboard import leaderboards
from parbench.reports.tables import SMALL_LABEL
from tests.support.pages import Parsed, page_of
from tests.support.paths import ROOT

PICTURE = Picture(b"\x89PNG", b"<svg/>", 1.0)


def test_everything_is_on_the_page(planted: Any) -> None:
    parsed = Parsed(page_of(planted, pictures={"heat_map": Reason("There is nothing to draw.")}))
    shown = parsed.shown()
    assert "roberta-base, protocol strict" in shown
    assert "The loss was not finite at step 12." in shown
    assert "Difference to a baseline, task by task: not drawn. There is nothing to draw." in shown
    assert "Hu et al., 2021 (arXiv 2106.09685), Table 2" in shown
    assert "13 runs 11 with a score 2 without a score 0 refused records" in shown
    assert SMALL_LABEL not in shown
    cells = [text for tag, text in parsed.texts if tag in ("td", "th", "strong")]
    for board in leaderboards(read_frame(planted.store)):
        for table in (board.scores, board.costs):
            assert {text for row in table.rows for text in row} <= set(cells)


def test_the_label_of_a_miniature_stands_at_its_board_only_where_there_are_others(planter: Any) -> None:
    planter.run(0.5, small=True)
    text = page_of(planter, pictures={"heat_map": PICTURE})
    assert Parsed(text).shown().count(SMALL_LABEL) == 1
    assert "where so marked" not in text
    planter.run(0.5, seed=1)
    mixed = Parsed(page_of(planter)).shown()
    assert mixed.count(SMALL_LABEL) == 2
    assert mixed.count(f"{SMALL_LABEL} (where so marked)") == 1


def test_the_page_needs_nothing_from_outside(planted: Any) -> None:
    text = page_of(planted, pictures={"heat_map": PICTURE})
    parsed = Parsed(text)
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"url\(|@import|import\(|fetch\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", text)
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            link = attributes.get(name)
            assert link is None or link.startswith(("#", "data:")), (tag, link)
        assert "style" not in attributes


def test_the_policy_allows_this_pages_own_script_and_style_alone(planted: Any) -> None:
    text = page_of(planted)
    (policy,) = [meta["content"] for meta in Parsed(text).all("meta") if meta.get("http-equiv")]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for rule, pattern in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        (own,) = re.findall(pattern, text, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'"


def test_tables_can_be_read_without_seeing_them(planted: Any) -> None:
    parsed = Parsed(page_of(planted, pictures={"heat_map": PICTURE}))
    assert all(cell.get("scope") in ("col", "row") for cell in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table")) > 3
    assert all(image.get("alt") for image in parsed.all("img"))
    assert parsed.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [
        attributes[name]
        for _, attributes in parsed.elements
        for name in ("aria-labelledby", "for")
        if name in attributes
    ]
    assert set(named) <= set(ids)
    links = {(link["href"] or "")[1:] for link in parsed.all("a")}
    assert {link for link in links if "=" not in link} <= set(ids)


def test_contrast_is_enough_in_light_and_dark() -> None:
    css = (ROOT / "reports/html/templates/page.css").read_text(encoding="utf-8")
    themes = [
        dict(re.findall(r"--([\w-]+): (#\w{6});", theme)) for theme in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    assert len(themes) == 2
    for theme in themes:
        for ink in ("ink", "soft", "link"):
            for back in ("back", "card", "stripe", "mark"):
                assert contrast(theme[ink], theme[back]) >= 4.5, (ink, back)
        assert contrast(theme["mini-ink"], theme["mini-back"]) >= 7


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    dark, light = sorted(_luminance(colour) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_same_records_are_the_same_bytes(planted: Any, tmp_path: Path) -> None:
    frame = read_frame(planted.store)
    boards = leaderboards(frame)
    page = Page(frame, boards, {"heat_map": Reason("None.")}, store=planted.store)
    files = [write_html(page, tmp_path / name) for name in ("one", "other/two")]
    one, other = (file.read_bytes() for file in files)
    assert files[0].name == "index.html"
    assert one == other


def test_a_directory_that_cannot_be_made_is_reported(planted: Any, tmp_path: Path) -> None:
    frame = read_frame(planted.store)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        write_html(Page(frame, leaderboards(frame)), tmp_path / "file")


def test_a_large_figure_is_a_png(planter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    planter.run(0.5)
    pictures = {"heat_map": PICTURE}
    assert "data:image/svg+xml;base64," in page_of(planter, pictures=pictures)
    monkeypatch.setattr("parbench.reports.html.page.MOST_SVG_BYTES", 5)
    assert "data:image/png;base64," in page_of(planter, pictures=pictures)


def test_refused_records_are_reported(planted: Any, damage: Any) -> None:
    run_id = read_frame(planted.store).runs["run_id"].iloc[0]
    damage(run_id, "half")
    shown = Parsed(page_of(planted)).shown()
    assert "1 refused records" in shown
    assert "record.json is not whole JSON" in shown
