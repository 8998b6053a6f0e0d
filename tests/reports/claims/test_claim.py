"""Claim files: those that come with parbench, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parbench.bench.plan.names import expand_tasks
from parbench.bench.plan.suite import load_suite
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.reports.claims.claim import SetUp, Side, claim_names, load_claim, load_claims, parse_claim, sets_of
from parbench.reports.claims.planning import side_overrides
from tests.support.claims import claim, set_up


@pytest.mark.parametrize("name", claim_names())
def test_every_claim_that_comes_with_parbench_names_what_there_is(name: str) -> None:
    found = load_claim(name).claim
    assert found.name == name
    for side in (found.row, *found.against):
        find_method(side.method)
    if found.here:
        load_suite(found.here.suite)
        assert expand_tasks(found.here.tasks)
        assert len(found.here.seeds) >= 3


def test_the_hash_is_that_of_the_content_and_not_of_its_layout() -> None:
    text = "name: a\nclaim: b\nsource: {paper: c, where: d, read: paper}\nkind: better\nrow: lora\n"
    text += "against: [loca]\nnot_testable: e\n"
    first = parse_claim(text, "a")
    other = parse_claim(
        "# a comment\n" + text.replace("{paper: c, where: d, read: paper}", '{"paper": c, where: d, read: paper}'), "a"
    )
    assert first.sha256 == other.sha256
    assert parse_claim(text.replace("claim: b", "claim: b2"), "a").sha256 != first.sha256


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "worse"}, 'field "kind": input should be'),
        ({"kind": "not_worse"}, 'the kind "not_worse" needs a margin'),
        ({"kind": "equivalent", "margin": -1.0}, 'field "margin": input should be greater than 0'),
        ({"kind": "cheaper", "measure": "memory"}, "needs both"),
        ({"factor": 2.0}, "measure and factor belong to"),
        ({"kind": "reaches", "margin": 1.0}, "fewer steps or a smaller train_fraction than lora"),
        ({"not_testable": "why"}, "give either here"),
        ({"here": None}, "give either here"),
        ({"against": ["loca"]}, "two sides are the same"),
        ({"here": set_up(seeds=[1, 2])}, "at least 3 items"),
        ({"here": set_up(seeds=[1, 2, 2])}, "seeds has a seed twice"),
        ({"here": set_up(budget="24k,0.3M")}, 'the budget "24k,0.3M" is several'),
        ({"here": set_up(train_fraction=0)}, "greater than 0"),
        ({"row": {"methd": "loca"}}, 'field "row.method": field required'),
        ({"subsets": ["piqa", "piqa"]}, "subsets has a subset twice"),
        ({"subsets": ["piqa"], "metric": "f1"}, "by the primary metric of their task; leave metric out"),
        ({"subsets": ["piqa"], "kind": "cheaper", "measure": "memory", "factor": 1}, "do not belong to the kind"),
        ({"name": "../../x"}, 'field "name"'),
        ({"margin": float("inf")}, 'field "margin"'),
        ({"margins": 1}, 'there is no field "margins"; did you mean "margin"'),
    ],
)
def test_what_is_wrong_with_a_claim_is_a_sentence(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        claim(**changes)


def test_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='there is no claim called "loca_half", nor a file'):
        load_claim("loca_half")
    (tmp_path / "c.yaml").write_text("[]")
    with pytest.raises(UserError, match="is not a mapping"):
        load_claim(str(tmp_path / "c.yaml"))
    with pytest.raises(UserError, match='two of the claims are called "loca_step_time"'):
        load_claims(("loca_step_time", "loca_step_time"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "loca is better than lora"),
        ({"margin": 2.0}, "loca is better than lora by more than 2"),
        ({"kind": "equivalent", "margin": 2.0, "against": ["lora", "dora"]}, "loca is within 2 of lora and dora"),
        (
            {"kind": "cheaper", "measure": "step_seconds", "factor": 1.25},
            "loca takes at most 1.25 times the step seconds of lora",
        ),
        (
            {"kind": "reaches", "margin": 1.0, "row": {"method": "loca", "train_fraction": 0.3}},
            "loca (30 % of the training split) is not worse than lora by 1",
        ),
    ],
)
def test_the_comparison_in_words(changes: dict[str, Any], words: str) -> None:
    assert claim(**changes).claim.comparison == words


def test_what_a_side_sets_replaces_what_its_set_up_sets() -> None:
    here = SetUp(tasks=("glue/sst2",), budget="none", seeds=(1, 2, 3), sets=("lora.alpha=2", "train.max_length=32"))
    side = Side(method="lora", sets=("lora.alpha=4",))
    assert sets_of(side, here) == ("train.max_length=32", "lora.alpha=4")
    assert side_overrides(Side(method="lora", steps=5), here).sets == (*here.sets, "train.max_steps=5")
