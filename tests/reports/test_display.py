"""Names, order and baseline of a report, as its reader asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parbench.bench.util.errors import UserError
from parbench.reports.display import Display, displayed, read_names
from parbench.reports.frame import read_frame
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.report import write_report
from tests.support.shares import plant_shares


def board_of(planter: Any, display: Display) -> Leaderboard:
    (board,) = leaderboards(displayed(read_frame(planter.store), display), display.baseline, display.by_rank)
    return board


@pytest.fixture
def shown(planter: Any) -> Any:
    plant_shares(planter, {"lora": 0.25, "loca": 0.1, "vera": 0.3}, ("glue/rte",), seeds=[1, 2, 3])
    return planter


def test_methods_and_tasks_have_their_display_names(shown: Any) -> None:
    names = {"lora": "LoRA", "loca": "LoCA (ours)", "glue/rte": "RTE"}
    board = board_of(shown, Display(names))
    assert [row[0] for row in board.scores.rows] == ["LoCA (ours)", "LoRA", "vera"]
    assert board.scores.head[2] == "RTE (accuracy)"
    assert board.baseline == "LoRA"
    assert board.verdict[0].startswith("RTE: LoCA (ours) is better than")


def test_a_row_of_several_keeps_what_distinguishes_it(planter: Any) -> None:
    for rank in (4, 8):
        planter.run(0.5, setting={"rank": rank})
    rows = [row[0] for row in board_of(planter, Display({"lora": "LoRA"})).scores.rows]
    assert rows == ["LoRA (rank=4)", "LoRA (rank=8)"]
    rows = [row[0] for row in board_of(planter, Display({"lora (rank=4)": "small"})).scores.rows]
    assert rows == ["small", "lora (rank=8)"]


def test_rows_stand_in_the_order_that_was_asked_for(shown: Any) -> None:
    def rows(*order: str) -> list[str]:
        return [row[0] for row in board_of(shown, Display(order=order)).scores.rows]

    assert rows() == ["loca", "lora", "vera"]
    assert rows("vera", "loca") == ["vera", "loca", "lora"]
    assert rows("rank") == ["loca", "lora", "vera"]
    plant_shares(shown, {"bitfit": 0.4, "zeta": 0.05}, seeds=[1, 2, 3])
    assert rows("rank") == ["zeta", "loca", "lora", "vera", "bitfit"]


@pytest.mark.parametrize(
    ("display", "complaint"),
    [
        (Display({"lorra": "x"}), '--names: there is no method or task "lorra" in this store; did you mean "lora"'),
        (Display(order=("lorra",)), '--order: there is no method or task "lorra"'),
        (Display({"lora": "x", "loca": "x"}), 'several rows of a leaderboard would be called "x"'),
        (Display(baseline="lorra"), 'there is no score of the baseline "lorra"'),
    ],
)
def test_what_is_not_there_or_not_unique_is_refused(shown: Any, display: Display, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        board_of(shown, display)


def test_names_are_pairs_or_a_file(tmp_path: Path) -> None:
    assert read_names("lora=LoRA, glue/rte = RTE") == {"lora": "LoRA", "glue/rte": "RTE"}
    file = tmp_path / "names.yaml"
    file.write_text("lora: LoRA\nloca: 'a=b, c'\n", encoding="utf-8")
    assert read_names(str(file)) == {"lora": "LoRA", "loca": "a=b, c"}
    for bad in ("lora", "lora=", "", str(tmp_path / "no.yaml")):
        with pytest.raises(UserError, match="--names"):
            read_names(bad)
    file.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(UserError, match="is not a mapping"):
        read_names(str(file))


@pytest.mark.usefixtures("_no_figures")
def test_every_file_has_the_display_names(shown: Any) -> None:
    written = write_report(shown.store, display=Display({"loca": "=Our <b>method</b>"}))
    files = {path.name: path.read_text(encoding="utf-8") for path in written.files if path.suffix != ".parquet"}
    assert "=Our &lt;b&gt;method&lt;/b&gt;" in files["index.html"]
    assert "=Our \\<b\\>method" in files["leaderboard.md"]
    assert "=Our \\textless{}b" in files["leaderboard.tex"]
    assert ",'=Our <b>method</b>," in files["leaderboard.csv"]
