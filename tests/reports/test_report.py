"""The whole report: every file, complete, the same each time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parbench.bench.cli.report import report
from parbench.bench.record.run_record import Status
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.reports.report import write_report
from parbench.reports.tables import SMALL_LABEL

# Those that can be drawn of the runs planted here: one method and few tasks allow neither ranks nor differences.
FIGURES = ("score_vs_parameters", "score_vs_memory", "score_vs_step_time")
NAMES = {
    "leaderboard.md",
    "leaderboard.csv",
    "leaderboard.tex",
    "differences.tex",
    "costs.tex",
    "settings.tex",
    "leaderboard.parquet",
    "over_tasks.csv",
    "subsets.csv",
    "comparisons.csv",
    "runs.csv",
    "index.html",
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_these_files_and_no_others(planted: Any) -> None:
    before = contents(planted.store.runs)
    report = write_report(planted.store)
    folder = planted.store.root / "report"
    # The planted methods share tasks, so their differences can be drawn too.
    drawn = ("heat_map", "differences", "differences_narrow")
    names = NAMES | {f"figures/{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert {path.relative_to(folder).as_posix() for path in report.files} == names == set(contents(folder))
    assert contents(planted.store.runs) == before
    assert len(report.frame.runs) == 13
    assert [board.title for board in report.boards] == ["roberta-base, protocol strict, all examples, no budget"]


def test_same_records_same_bytes_wherever_they_lie_and_whichever_process_writes_them(
    planted: Any, tmp_path: Path, copied: Callable[[], Store]
) -> None:
    (planted.store.runs / "0123456789abcdef").mkdir()  # an unreadable one must not reveal where the store is
    write_report(planted.store)
    first = contents(planted.store.root / "report")
    program = (
        "import sys; from pathlib import Path; from parbench.bench.store.store import Store; "
        "from parbench.reports.report import write_report; "
        "write_report(Store(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    arguments = [str(copied().root), str(tmp_path / "another" / "place")]
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert contents(tmp_path / "another" / "place") == first
    assert str(tmp_path).encode() not in b"".join(first.values())


@pytest.mark.usefixtures("_no_figures")
def test_failures_are_listed_with_their_reasons(planted: Any) -> None:
    page = write_report(planted.store).files[0].read_text(encoding="utf-8")
    assert "Runs: 13, of which 11 have a score. Refused records: 0." in page
    assert "| lora | glue/rte | roberta-base | 2 | diverged | The loss was not finite at step 12. |" in page
    assert "| vera | glue/rte | roberta-base | 0 | out of memory | The device has 1 GiB. |" in page


@pytest.mark.usefixtures("_no_figures")
def test_the_terminal_states_why_runs_have_no_score(planter: Any, capsys: pytest.CaptureFixture[str]) -> None:
    record = planter.run(None, status=Status.OUT_OF_MEMORY, reason="The device has 1 GiB.")
    report(out=planter.store.root, profile=None)
    told = f"no score: lora on glue/cola, seed 0: out of memory, The device has 1 GiB. ({record.run_id})"
    assert told in capsys.readouterr().out.splitlines()
    for seed in range(1, 12):
        planter.run(None, seed=seed, status=Status.OUT_OF_MEMORY, reason="The device has 1 GiB.")
    report(out=planter.store.root, profile=None)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("no score: lora on") for line in lines) == 10
    assert "no score: 2 runs more; the report has all" in lines


@pytest.mark.usefixtures("_no_figures")
def test_warnings_of_runs_are_listed(planter: Any) -> None:
    for seed in range(2):
        planter.run(0.5, seed=seed, provenance=replace(planter.provenance, notes=("Beware | of it; always.",)))
    planter.run(0.5, seed=2)
    page = write_report(planter.store).files[0].read_text(encoding="utf-8")
    assert "## Warnings from runs\n\n- 2 x Beware \\| of it; always.\n" in page


def test_scores_that_cannot_be_drawn_are_counted(planter: Any) -> None:
    planter.run(0.5)
    planter.run(0.5, seed=1, ledger=None)  # of a setting whose size is known from another run
    assert "Not drawn" not in write_report(planter.store).files[0].read_text(encoding="utf-8")
    planter.run(0.5, method="vera", ledger=None)
    page = write_report(planter.store).files[0].read_text(encoding="utf-8")
    assert "Not drawn, because their parameters were not counted: 1 of the runs with a score." in page


@pytest.mark.usefixtures("_no_figures")
def test_runs_of_a_search_and_repeats_are_listed_and_count_nowhere(planter: Any) -> None:
    planter.seeds([0.5, 0.6])
    planter.run(0.9, repeat=1)
    planter.run(None, seed=7, purpose="selection", setting={"rank": 99})
    report = write_report(planter.store)
    assert report.boards[0].scores.rows == (("lora", "294,912", "55.0 (n=2)"),)
    page = report.files[0].read_text(encoding="utf-8")
    assert "Runs: 2, of which 2 have a score. Refused records: 0." in page
    assert "Runs that chose hyper-parameters or repeat others, and count in no table: 2." in page
    listed = pd.read_csv(next(path for path in report.files if path.name == "runs.csv"))
    assert sorted(zip(listed["purpose"], listed["repeat"], strict=True)) == [
        *[("report", 0), ("report", 0), ("report", 1)],
        ("selection", 0),
    ]


@pytest.mark.usefixtures("_no_figures")
def test_unreadable_records_are_listed(planted: Any, damage: Callable[[str, str], None]) -> None:
    half, edited = (planted.run(0.5, task=task).run_id for task in ("c", "d"))
    damage(half, "half")
    damage(edited, "edited")
    report = write_report(planted.store)
    page = report.files[0].read_text(encoding="utf-8")
    assert "Refused records: 2." in page
    assert f"- runs/{half}/record.json is not whole JSON" in page
    assert f"- runs/{edited}/record.json was changed after it was written" in page
    assert {entry.path.parent.name for entry in report.frame.unreadable} == {half, edited}
    assert half not in (planted.store.root / "report" / "runs.csv").read_text(encoding="utf-8")


def test_nothing_but_unreadable_records_is_a_report_too(planter: Any, damage: Callable[[str, str], None]) -> None:
    damage(planter.run(0.5).run_id, "half")
    report = write_report(planter.store)
    assert {path.name for path in report.files} == {name for name in NAMES if "/" not in name}
    assert report.boards == ()
    assert "Runs: 0, of which 0 have a score. Refused records: 1." in report.files[0].read_text()


def test_the_figure_of_an_earlier_report_does_not_stay(planter: Any, damage: Callable[[str, str], None]) -> None:
    run_id = planter.run(0.5).run_id
    planter.run(seed=1, status=Status.ERROR, reason="It broke.")
    assert len(write_report(planter.store).files) == len(NAMES)
    damage(run_id, "half")
    write_report(planter.store)
    assert not list((planter.store.root / "report" / "figures").iterdir())
    assert "score_vs_parameters" not in (planter.store.root / "report" / "leaderboard.md").read_text()


def test_every_file_of_a_small_suite_is_labelled(planter: Any) -> None:
    planter.run(0.5, small=True)
    files = {path.suffix + path.stem: path for path in write_report(planter.store).files}
    page = files[".mdleaderboard"].read_text(encoding="utf-8")
    assert page.count(SMALL_LABEL) == 1  # at the top
    for name in (".csvleaderboard", ".csvruns"):
        assert list(pd.read_csv(files[name])["label"]) == [SMALL_LABEL]
    drawn = files[".svgscore_vs_parameters"].read_text(encoding="utf-8")
    # Matplotlib notes every text beside its outline, a line at a time.
    assert SMALL_LABEL in " ".join(re.findall(r"<!-- (.*?) -->", drawn, re.DOTALL)).replace("\n", " ")


def test_a_full_suite_is_not_called_small(planted: Any) -> None:
    for path in write_report(planted.store).files:
        assert b"SMALL SUITE" not in path.read_bytes()


@pytest.mark.usefixtures("_no_figures")
def test_a_mixed_store_states_which_part_is_small(planter: Any) -> None:
    planter.run(0.5, small=True, suite="mini")
    planter.run(0.5, base_model="roberta-large")
    page = write_report(planter.store).files[0].read_text(encoding="utf-8")
    assert f"**{SMALL_LABEL}** (where so marked)" in page
    full = page[page.index("## roberta-large") : page.index("## roberta-base")]
    assert SMALL_LABEL not in full


@pytest.mark.usefixtures("_no_figures")
def test_csv_files_read_back(planter: Any) -> None:
    name = 'a "quoted", b|c\nnew line'
    planter.seeds([0.1, 0.2], method=name)
    planter.run(method=name, seed=2, status=Status.ERROR, reason=name)
    report = write_report(planter.store)
    files = {path.name: path for path in report.files}
    table = pd.read_csv(files["leaderboard.csv"])
    assert list(table["method"]) == [name]
    assert table.loc[0, "mean"] == pytest.approx(0.15)
    assert (table.loc[0, "n_ok"], table.loc[0, "n_failed"], table.loc[0, "failed"]) == (2, 1, "1 error")
    runs = pd.read_csv(files["runs.csv"])
    assert list(runs["run_id"]) == list(report.frame.runs["run_id"])
    assert list(runs["score"].dropna()) == [0.1, 0.2]
    assert runs.loc[2, "reason"] == name


def test_an_empty_store_and_a_place_that_cannot_be_written_to_are_reported(planter: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no runs in"):
        write_report(planter.store)
    planter.run(0.5)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to"):
        write_report(planter.store, tmp_path / "file")
