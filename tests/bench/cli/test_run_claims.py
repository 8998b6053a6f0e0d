"""`bench run --claims`: exactly the runs of the claims, declared in the store, and judged by `bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import parbench
from parbench.bench.store.declarations import Declaration, read_declarations
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from tests.support.claims import claim


@pytest.fixture
def claim_file(tmp_path: Path, tiny_model: Path) -> Any:
    """Write a claim about the tiny model, and return its path and content."""

    def write(**changes: Any) -> tuple[Path, dict[str, Any]]:
        here = {
            "tasks": ["glue/sst2"],
            "base_model": str(tiny_model),
            "budget": "none",
            "seeds": [1, 2, 3],
            "steps": 4,
            "sets": ["train.max_length=32"],
        }
        content = claim(name="tiny", row="bitfit", against=["linear_probe"], here=here, **changes).content
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path, content

    return write


def test_claims_are_run_declared_and_judged(
    bench: Any, claim_file: Any, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = claim_file()
    out = tmp_path / "store"
    arguments = ("run", "--claims", path, "--data-root", tiny_data, "--out", out, "--no-isolate")
    planned = bench(*arguments, "--dry-run")
    assert planned.code == 0, planned.err
    assert "claim tiny, 6 runs: bitfit is better than linear_probe" in planned.out
    assert planned.out.count("to do") == 6
    assert not out.exists()

    done = bench(*arguments)
    assert done.code == 0, done.err
    records = list(Store(out).scan())
    assert sorted((one.spec.method, one.spec.seed) for one in records) == [
        (method, seed) for method in ("bitfit", "linear_probe") for seed in (1, 2, 3)
    ]
    (made,) = read_declarations(Store(out))
    assert isinstance(made, Declaration)
    assert made.content == content
    assert {run for runs in made.runs.values() for run in runs} == {one.run_id for one in records}
    assert "6 of 6 runs are done already" in bench(*arguments).out

    monkeypatch.setattr("parbench.reports.report.all_figures", lambda *arguments: {})
    monkeypatch.setattr("parbench.reports.report.forests", lambda boards: [])
    told = bench("report", "--out", out)
    assert told.code == 0, told.err
    assert "claim tiny: " in told.out
    assert f"declared before its runs, {made.time:%Y-%m-%d %H:%M:%S} UTC" in told.out
    path.write_text(yaml.safe_dump({**content, "margin": 5.0}), encoding="utf-8")
    edited = bench("report", "--out", out, "--claims", path).out
    assert "(edited after the runs)" in edited
    # Of this version nothing was planned: its runs are found by what the planner makes of it.
    assert "not run" not in edited


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"metric": "f1"}, "judged by the primary metric of glue/sst2, accuracy, and not by f1; leave metric out"),
        ({"subsets": ["no_such"]}, "glue/sst2 has no subset no_such"),
    ],
)
def test_a_claim_that_no_run_could_be_judged_by_is_not_planned(
    bench: Any, claim_file: Any, tiny_data: Path, changes: dict[str, Any], complaint: str
) -> None:
    result = bench("run", "--claims", claim_file(**changes)[0], "--data-root", tiny_data, "--dry-run")
    assert result.code == 2
    assert complaint in result.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--seeds", "1"], "--seeds does not go with --claims: a claim's file declares what is run"),
        (["--set", "lora.r=4"], "--set does not go with --claims"),
        (["--trials", "8"], "--trials does not go with --claims"),
        (["--budget", "24k"], "--budget does not go with --claims"),
        (["--suite", "mini"], "--suite does not go with --claims"),
    ],
)
def test_nothing_of_what_a_claim_declares_can_be_changed(
    bench: Any, claim_file: Any, options: list[str], complaint: str
) -> None:
    result = bench("run", "--claims", claim_file()[0], *options)
    assert result.code == 2
    assert complaint in result.err


def test_what_cannot_be_run_is_a_sentence(bench: Any, tmp_path: Path) -> None:
    untestable = claim(name="untestable", here=None, not_testable="there is no such option").content
    (tmp_path / "untestable.yaml").write_text(yaml.safe_dump(untestable), encoding="utf-8")
    for name, complaint in (
        (str(tmp_path / "untestable.yaml"), '"untestable" cannot be tested here: there is no such option'),
        ("no_such", 'there is no claim called "no_such"'),
        ("", "--claims is empty"),
    ):
        result = bench("run", "--claims", name, "--dry-run", "--out", tmp_path / "store")
        assert result.code == 2
        assert complaint in result.err
    with pytest.raises(UserError, match="--methods does not go with --claims"):
        parbench.run(claims="loca_step_time", methods=["lora"], out=tmp_path / "store")
