"""The data in the page: complete, capped, and harmless whatever texts are in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import PREDICTIONS
from parbench.reports.figures import History
from parbench.reports.frame import read_frame
from parbench.reports.html.runs import (
    MOST_CHARACTERS,
    MOST_POINTS,
    MOST_PREDICTIONS,
    extras_json,
    runs_json,
    script_json,
)
from parbench.reports.profile.costs import match_profiles
from parbench.reports.render import one_line
from parbench.reports.tables import summarise
from parbench.tasks import TASKS
from parbench.tasks.averages import Average
from tests.support.pages import Parsed, page_of
from tests.support.profiles import candidate, profile_of

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
    # Classes by their names, and no subset where there are none.
    assert sample["columns"] == ["example", "label", "prediction"]
    names = TASKS["glue/cola"].head.labels
    first = whole.head(MOST_PREDICTIONS)[sample["columns"]].to_numpy().tolist()
    assert sample["rows"] == [[example, names[label], names[prediction]] for example, label, prediction in first]
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
    rows = pd.DataFrame({"example": ["1"], "subset": "part", "references": [texts], "steps": [[1, 2]]})
    planter.run(0.5, task="outside/task", rows=rows)
    (extra,) = extras_of(page_of(planter, store=planter.store))
    assert extra["predictions"]["columns"] == ["example", "subset", "references"]
    assert extra["predictions"]["rows"][0][2] == ["a\\nb", "x" * MOST_CHARACTERS + "…", "c", "…"]


def test_a_sample_that_cannot_be_read_is_left_out(planter: Any) -> None:
    run = planter.run(0.5)
    runs = read_frame(planter.store).runs
    (planter.store.runs / run.run_id / PREDICTIONS).write_bytes(b"PAR1 no")
    assert json.loads(extras_json(planter.store, runs, {})) == {"curve": None, "predictions": None}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_hostile_texts_are_only_ever_text(hostile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    averages = {text.partition("/")[0]: (Average(text, (text,), fmean),) for text in HOSTILE}
    monkeypatch.setattr("parbench.reports.averages.AVERAGES", averages)
    cells = summarise(read_frame(hostile.store).runs)
    profiled = match_profiles(cells, [profile_of(candidate(text, {"rank": text}), model=text) for text in HOSTILE[::2]])
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
    assert len(parsed.all("script")) == 4
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
