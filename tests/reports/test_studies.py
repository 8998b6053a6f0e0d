"""The tables of the published studies are those that a report makes of their records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from parbench.bench.store.archive import take_in
from parbench.bench.store.store import Store
from parbench.reports.report import write_report
from tests.support.paths import ROOT

STUDIES = sorted(path.parent for path in ROOT.glob("reports/studies/*/records.tar.gz"))
# The others take longer.
QUICK = ("2026-11-29-alternation", "2026-11-29-lora-gen")


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(
    "study",
    [pytest.param(path, id=path.name, marks=() if path.name in QUICK else pytest.mark.slow) for path in STUDIES],
)
def test_the_records_of_a_study_make_its_tables(study: Path, tmp_path: Path) -> None:
    """After a change of what a report says: `.ci/study.py reports/studies/*/` makes them again."""
    store = Store(tmp_path / "store")
    done = take_in(study / "records.tar.gz", store)
    assert not done.refused
    made = {path.name: path for path in write_report(store, tmp_path / "report").files}
    published = sorted(study.glob("*.csv"))
    assert {path.name for path in published} == {"claims.csv", "comparisons.csv", "leaderboard.csv"} & made.keys()
    for path in published:
        pd.testing.assert_frame_equal(pd.read_csv(made[path.name]), pd.read_csv(path), rtol=1e-9)
