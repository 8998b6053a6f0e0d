"""The page is whole, well formed, accessible and harmless, and holds everything that it shows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.util.errors import UserError
from parbench.reports.figures import History, Picture, Reason
from parbench.reports.frame import read_frame
from parbench.reports.html import Page, render_page, write_html
from parbench.reports.html.runs import (
    MOST_CHARACTERS,
    MOST_POINTS,
    MOST_PREDICTIONS,
    extras_json,
    runs_json,
    script_json,
)
from parbench.reports.leaderboard import leaderboards
from parbench.reports.profile.costs import match_profiles
from parbench.reports.published import reproduction
from parbench.reports.render import one_line
from parbench.reports.tables import MINI_LABEL, summarise
from parbench.tasks.averages import Average
from tests.support.paths import ROOT
from tests.support.profiles import profile_of, subject

HOSTILE = [
    "<script>document.title='taken'</script>",
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "\"' onmouseover=alert(1) x='",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "]]>&lt;b&gt;",
    "javascript:alert(1)",
    "\u202eesrever\u2028\x1b[2J\n",
    "$&\\u003c/script>",
]
PICTURE = Picture(b"\x89PNG", b"<svg/>", 1.0)
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta"}


class Parsed(HTMLParser):
    """A page as a list of elements, whose nesting is checked while it is read."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} comes twice"
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def shown(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("script", "style")).split())


def page_of(planter: Any, **parts: Any) -> str:
    frame = read_frame(planter.store)
    return render_page(Page(frame, leaderboards(frame), reproduced=reproduction(frame.runs), **parts))


def block(text: str, name: str) -> str:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return found[1]


def runs_of(text: str) -> list[dict[str, Any]]:
    data = json.loads(block(text, "runs-data"))
    columns = list(zip(data["columns"], data["values"], data["places"], strict=True))
    return [
        {name: values[places[run] if places else 0] for name, values, places in columns} for run in range(data["count"])
    ]


def extras_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in block(text, "extras-data").strip().split("\n")]


@pytest.fixture
def hostile(planter: Any) -> Any:
    """Hostile texts everywhere that a record has room for one."""
    for number, text in enumerate(HOSTILE):
        notes = replace(planter.provenance, notes=(text,), hardware={text: text})
        spec = {"method": text, "task": text, "base_model": text, "suite": text, "data_source": text}
        rows = pd.DataFrame({text: [text], "example": [text], "label": [text], "prediction": [text], "subset": [text]})
        planter.run(
            0.5,
            metric=text,
            provenance=notes,
            setting={text: text, "rank": text},
            training={text: [text]},
            rows=rows,
            seed=number,
            others={f"{text}{other}": 0.5 for other in ("_subset", " other")},
            measured={"before": -2.0, "after": -3.0},
            **spec,
        )
        planter.run(status=Status.ERROR, reason=text, seed=100 + number, small=True, **spec)
    return planter


def test_everything_is_on_the_page(planted: Any) -> None:
    parsed = Parsed(page_of(planted, pictures={"heat_map": Reason("There is nothing to draw.")}))
    shown = parsed.shown()
    assert "roberta-base, protocol strict" in shown
    assert "The loss was not finite at step 12." in shown
    assert "Difference to a baseline, task by task: not drawn. There is nothing to draw." in shown
    assert "Hu et al., 2021 (arXiv 2106.09685), Table 2" in shown
    assert "13 runs 11 with a score 2 without a score 0 refused records" in shown
    assert MINI_LABEL not in shown
    cells = [text for tag, text in parsed.texts if tag in ("td", "th", "strong")]
    for board in leaderboards(read_frame(planted.store)):
        for table in (board.scores, board.costs):
            assert {text for row in table.rows for text in row} <= set(cells)


def test_the_label_of_a_miniature_stands_at_the_top_and_at_its_board(planter: Any) -> None:
    planter.run(0.5, small=True)
    text = page_of(planter, pictures={"heat_map": PICTURE})
    assert Parsed(text).shown().count(MINI_LABEL) == 4  # page, board, published numbers, figure
    assert "where so marked" not in text
    planter.run(0.5, seed=1)
    assert "where so marked" in page_of(planter)


def test_runs_and_their_extras_are_in_the_page(planted: Any) -> None:
    runs = read_frame(planted.store).runs
    history = History(tuple(range(1, 1001)), tuple(1.0 / step for step in range(1, 1001)))
    text = page_of(planted, store=planted.store, histories={runs["run_id"].iloc[0]: history})
    listed = runs_of(text)
    assert [run["run_id"] for run in listed] == runs["run_id"].tolist()
    assert listed[0]["setting"] == {"rank": 8, "learning_rate": 0.001}
    assert listed[0]["ledger/reported"] == 294_912
    assert {run["ended"] for run in listed} == {"ok", "diverged", "out of memory"}
    extras = extras_of(text)
    assert len(extras) == len(listed)
    assert extras[0]["curve"]["steps"][:2] == [1, 18]
    assert len(extras[0]["curve"]["steps"]) <= MOST_POINTS
    assert extras[1]["curve"] is None
    sample = extras[0]["predictions"]
    whole = pd.read_parquet(planted.store.runs / listed[0]["run_id"] / PREDICTIONS)
    assert sample["total"] == len(whole)
    assert sample["rows"] == whole.head(MOST_PREDICTIONS)[sample["columns"]].to_numpy().tolist()
    assert extras[[run["ended"] for run in listed].index("diverged")]["predictions"] is None


def test_samples_are_capped(planter: Any) -> None:
    rows = pd.DataFrame(
        {"example": ["x" * 1000] * 50, "label": [0] * 50, "prediction": [0] * 50, "logits": [[0.1]] * 50}
    )
    planter.run(0.5, task="outside/texts", metric="bleu", rows=rows.assign(subset=""))
    (extra,) = extras_of(page_of(planter, store=planter.store))
    assert "logits" not in extra["predictions"]["columns"]
    assert len(extra["predictions"]["rows"]) == MOST_PREDICTIONS
    assert len(extra["predictions"]["rows"][0][0]) == MOST_CHARACTERS + 1
    many = read_frame(planter.store).runs.loc[[0] * 5_000]
    assert len(runs_json(many)) < 10_000  # what is the same in all runs is there once
    some = many.assign(seed=range(5_000), run_id=[f"{number:016x}" for number in range(5_000)])
    assert len(runs_json(some)) < 200_000


def test_lists_of_texts_are_shown_shortened(planter: Any) -> None:
    texts = ["a\nb", "x" * 1000, "c", "d"]
    rows = pd.DataFrame({"example": ["1"], "subset": "", "references": [texts], "steps": [[1, 2]]})
    planter.run(0.5, task="outside/task", rows=rows)
    (extra,) = extras_of(page_of(planter, store=planter.store))
    assert extra["predictions"]["columns"] == ["example", "subset", "references"]
    assert extra["predictions"]["rows"][0][2] == ["a\\nb", "x" * MOST_CHARACTERS + "…", "c", "…"]


def test_a_sample_that_cannot_be_read_is_left_out(planter: Any) -> None:
    run = planter.run(0.5)
    runs = read_frame(planter.store).runs
    (planter.store.runs / run.run_id / PREDICTIONS).write_bytes(b"PAR1 no")
    assert json.loads(extras_json(planter.store, runs, {})) == {"curve": None, "predictions": None}


def test_hostile_texts_are_only_ever_text(hostile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    averages = {text.partition("/")[0]: (Average(text, (text,), fmean),) for text in HOSTILE}
    monkeypatch.setattr("parbench.reports.averages.AVERAGES", averages)
    cells = summarise(read_frame(hostile.store).runs)
    profiled = match_profiles(cells, [profile_of(subject(text, {"rank": text}), model=text) for text in HOSTILE[::2]])
    assert len(profiled.tables) == len(HOSTILE[::2])
    text = page_of(hostile, store=hostile.store, profiled=profiled)
    parsed = Parsed(text)
    captions = " ".join(" ".join(words for tag, words in parsed.texts if tag == "span").split())
    heads = " ".join(" ".join(words for tag, words in parsed.texts if tag == "button").split())
    for named in (" ".join(one_line(hostile_text).split()) for hostile_text in HOSTILE):
        assert f"Other metrics of {named}" in captions
        assert f"Subsets of {named}" in captions
        assert f"{named.partition('/')[0]}: {named}" in heads
        assert f"{named} other" in heads
    assert "Profiled costs" in parsed.shown()
    assert len(parsed.all("script")) == 3
    assert all(tag != "img" for tag, _ in parsed.elements)
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in parsed.shown()
    shown = parsed.shown()
    assert all(" ".join(one_line(hostile_text).split()) in shown for hostile_text in HOSTILE)
    assert not set("\u202e\u2028\x1b") & set(text)
    for name in ("runs-data", "extras-data"):
        assert not re.search(r"[<>&]", block(text, name))
    assert {run["reason"] for run in runs_of(text)} >= {one_line(hostile_text) for hostile_text in HOSTILE}


@pytest.mark.parametrize("value", [*HOSTILE, {"a": ["</script>", None, 1.5]}, "\ud800", "漢字"])
def test_json_in_the_page_reads_back_and_closes_nothing(value: Any) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029\n")


def test_numbers_that_json_lacks_are_words() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))
    runs = pd.DataFrame(
        {"status": ["ok"], "score": [float("nan")], "run_id": ["a"], "x": [float("inf")], "seed": [2**70]}
    )
    data = json.loads(runs_json(runs))
    assert dict(zip(data["columns"], data["values"], strict=True)) == {
        "status": ["ok"],
        "score": [None],
        "run_id": ["a"],
        "x": ["inf"],
        "seed": [str(2**70)],
        "ended": ["ok without a score"],
    }


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


def test_a_directory_that_cannot_be_made_is_said_so(planted: Any, tmp_path: Path) -> None:
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


def test_refused_records_are_told(planted: Any, damage: Any) -> None:
    run_id = read_frame(planted.store).runs["run_id"].iloc[0]
    damage(run_id, "half")
    shown = Parsed(page_of(planted)).shown()
    assert "1 refused records" in shown
    assert "record.json is not whole JSON" in shown
