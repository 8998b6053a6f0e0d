"""Whether a claim was declared before its runs, and what a report shows of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from parbench.bench.cli.report import report
from parbench.bench.store.declarations import Declaration, declare, read_declarations
from parbench.bench.store.layout import DECLARATIONS
from parbench.bench.store.store import Unreadable
from parbench.reports.claims.judge import judge_store
from parbench.reports.frame import read_frame
from parbench.reports.report import write_report
from tests.support.claims import A_LOT, claim, plant_seeds, set_up


def plant_both(planter: Any, started: str) -> None:
    plant_seeds(planter, "loca", 1, A_LOT, started=started)
    plant_seeds(planter, "lora", 2, started=started)


def planned(planter: Any) -> dict[str, list[str]]:
    """Return the ids of all planted runs, by side of the claim."""
    runs = read_frame(planter.store).runs
    return {method: list(runs.loc[runs["method"] == method, "run_id"]) for method in ("loca", "lora")}


def at(**shift: float) -> str:
    return (datetime.now(UTC) + timedelta(**shift)).isoformat()


def declared(planter: Any, *asked: Any) -> str:
    (one,) = judge_store(planter.store, read_frame(planter.store), asked).judgments
    return one.declared


def test_a_claim_is_declared_before_its_runs(planter: Any) -> None:
    plant_both(planter, at(minutes=1))
    made = declare(planter.store, "loca_better", claim().content, planned(planter))
    assert declared(planter) == f"declared before its runs, {made.time:%Y-%m-%d %H:%M:%S} UTC"
    assert declared(planter, claim()) == declared(planter)
    again = declare(planter.store, "loca_better", claim().content, {"loca": ("0" * 16,)})
    assert (again.declared, again.runs) == (made.declared, {"loca": ("0" * 16,)})


def test_a_claim_that_was_edited_after_the_runs_shows_it(planter: Any) -> None:
    plant_both(planter, at(minutes=-1))
    declare(planter.store, "loca_better", claim().content, planned(planter))
    edited = claim(kind="not_worse", margin=5.0)
    assert declared(planter, edited) == "edited after the runs"
    declare(planter.store, "loca_better", edited.content, planned(planter))
    # Both versions were declared after the runs; the first of them did so without an edit.
    assert declared(planter, claim()) == "declared after 10 of its 10 runs"
    assert declared(planter, edited) == "edited after the runs"
    assert declared(planter) == "edited after the runs"


def test_a_claim_that_was_changed_before_any_run_is_not_edited_after_them(planter: Any) -> None:
    declare(planter.store, "loca_better", claim().content, {"loca": ("0" * 16,)})
    plant_seeds(planter, "vera", 1)
    more = claim(here=set_up(seeds=[7, 8, 9]))
    assert declared(planter, more) == "changed since it was declared, before any run"
    plant_both(planter, at(minutes=-1))
    done = read_frame(planter.store).runs["run_id"]
    declare(planter.store, "loca_better", claim().content, {"loca": list(done)})
    # The seeds that it names now were not run; those that it named before were.
    assert declared(planter, more) == "edited after the runs"


def test_a_version_that_was_declared_before_its_runs_is_not_edited(planter: Any) -> None:
    plant_both(planter, at(minutes=1))
    declare(planter.store, "loca_better", claim(kind="not_worse", margin=5.0).content, planned(planter))
    declare(planter.store, "loca_better", claim().content, planned(planter))
    assert declared(planter, claim()).startswith("declared before its runs")


def test_a_claim_that_is_asked_for_alone_was_not_declared(planter: Any) -> None:
    plant_both(planter, at(minutes=1))
    assert declared(planter, claim()) == "not declared before its runs"


def test_the_runs_planned_for_a_claim_are_those_judged(planter: Any) -> None:
    """And no others, however well they fit the claim's set-up: what was declared is not what was run later."""
    plant_seeds(planter, "loca", 1, A_LOT)
    for rate, mistakes in ((0.001, 2), (0.01, 0)):
        plant_seeds(planter, "lora", mistakes, setting={"learning_rate": rate})
    runs = read_frame(planter.store).runs
    low = runs[(runs["method"] == "lora") & runs["setting"].str.contains("0.001")]
    declare(planter.store, "loca_better", claim().content, {**planned(planter), "lora": list(low["run_id"])})
    (one,) = judge_store(planter.store, read_frame(planter.store)).judgments
    assert one.verdict == "supported"
    assert set(low["run_id"]) < set(one.runs["run_id"])
    plant_seeds(planter, "lora", 2)
    declare(planter.store, "loca_better", claim().content, {**planned(planter), "lora": ["0" * 16]})
    (one,) = judge_store(planter.store, read_frame(planter.store)).judgments
    assert (one.verdict, one.reason) == ("cannot tell", "lora on glue/rte was not run")


def test_a_spoilt_declaration_is_noted_and_costs_no_other(planter: Any) -> None:
    declare(planter.store, "loca_better", claim().content, {})
    declare(planter.store, "other", claim(name="other").content, {})
    plant_both(planter, at(minutes=1))
    path = next((planter.store.root / DECLARATIONS).glob("other-*"))
    content = json.loads(path.read_text())
    content["content"]["kind"] = "cheaper"
    path.write_text(json.dumps(content))
    (planter.store.root / DECLARATIONS / "nonsense.json").write_text("{")
    entries = list(read_declarations(planter.store))
    assert [type(entry) for entry in entries] == [Declaration, Unreadable, Unreadable]
    found = judge_store(planter.store, read_frame(planter.store))
    assert [one.claim.name for one in found.judgments] == ["loca_better"]
    assert found.notes == (
        "nonsense.json is not a declaration (JSONDecodeError)",
        f"{path.name} was changed after it was written",
    )


@pytest.mark.usefixtures("_no_figures")
def test_a_report_shows_claims_escaped_with_their_hash(planter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    one = claim(claim="<b>LoCA</b> | wins", paper={"base_model": "RoBERTa-large", "seeds": 3}, notes=["Of note."])
    plant_both(planter, at(minutes=1))
    declare(planter.store, "loca_better", one.content, planned(planter))
    files = {path.name: path for path in write_report(planter.store).files}
    page, markdown = (files[name].read_text(encoding="utf-8") for name in ("index.html", "leaderboard.md"))
    assert "&lt;b&gt;LoCA&lt;/b&gt; | wins" in page
    assert "<b>LoCA" not in page
    assert r"\<b\>LoCA\</b\> \| wins" in markdown
    for text in (page, markdown):
        assert f"Hash {one.sha256[:16]}." in text
        assert "supported" in text
        assert "base model: roberta-base (the paper: RoBERTa-large); seeds: 5 (the paper: 3)" in text
        assert "Of note." in text
    table = pd.read_csv(files["claims.csv"])
    assert table.loc[0, ["claim", "verdict", "sha256"]].tolist() == ["loca_better", "supported", one.sha256]
    report(out=planter.store.root, profile=None, claims=None)
    assert "claim loca_better: supported, +20.0 [" in capsys.readouterr().out


@pytest.mark.usefixtures("_no_figures")
def test_a_store_without_claims_has_no_section_of_them(planter: Any) -> None:
    plant_both(planter, at(minutes=1))
    files = {path.name: path for path in write_report(planter.store).files}
    assert "claims.csv" not in files
    assert 'id="claims"' not in files["index.html"].read_text(encoding="utf-8")
    assert "Claims of papers" not in files["leaderboard.md"].read_text(encoding="utf-8")
