"""What a paper gets: booktabs tables in which every name is text and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from parbench.reports.differences_table import differences_table
from parbench.reports.frame import read_frame
from parbench.reports.latex import escape, latex, latex_costs, latex_differences, latex_settings
from parbench.reports.leaderboard import leaderboards
from parbench.reports.report import write_report
from parbench.reports.tables import SMALL_LABEL
from tests.support.shares import plant_shares

HOSTILE = [
    r"50% & $x_1^2$ #1 {a} \input{/etc/passwd}",
    "~tilde^ <a|b> \"q\" 'q' `q`",
    "[optional] -- --- ?` !`",
    "naïve café Ångström Čapek 漢字 😀 ± —",
    "two\nlines % comment",
]


def page(planter: Any) -> str:
    return latex(leaderboards(read_frame(planter.store)))


def plant_hostile(planter: Any) -> None:
    budget = {"asked": "24k", "parameters": 24_000, "mode": "uniform"}
    for method in HOSTILE:
        for seed in range(3):
            planter.run(0.5 + seed / 100, method=method, seed=seed, small=True, budget=budget, protocol="a_b&c")


def test_protocol_budget_n_and_label_are_in_the_caption(planter: Any) -> None:
    planter.seeds([0.5, 0.6, 0.7], small=True, budget={"asked": "24k", "parameters": 24_000, "mode": "uniform"})
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", page(planter))
    for part in ("protocol strict", "budget 24k: at most 24,000 (uniform)", "n = 3 runs a cell", SMALL_LABEL):
        assert escape(part) in caption


def test_a_minus_is_not_a_hyphen(planter: Any) -> None:
    planter.seeds([-0.25, -0.35, -0.3])
    assert re.search(r" & \$-\$30\.0 \$_\{-\d+\.\d\}\^\{\+\d+\.\d\}\$ ", page(planter))


def test_bold_is_only_what_the_statistics_allow(planter: Any) -> None:
    planter.seeds([0.9, 0.91, 0.9, 0.92], method="good", task="glue/rte", metric="accuracy")
    planter.seeds([0.7, 0.71, 0.7, 0.72], method="bad", task="glue/rte", metric="accuracy")
    planter.seeds([0.8], method="single", task="glue/rte", metric="accuracy")
    bold = re.findall(r"\\textbf\{(.*?)\}", page(planter))
    assert len(bold) == 1
    assert bold[0].startswith("90.8 $_{-")
    # Above it stands a row that one seed cannot establish: nothing below it is bold.
    planter.seeds([0.99], method="outlier", task="glue/rte", metric="accuracy")
    assert "\\textbf" not in page(planter)


def test_the_tables_are_whole(planter: Any) -> None:
    plant_hostile(planter)
    text = page(planter)
    assert text.isascii()
    for begin in re.findall(r"\\begin\{(\w+)\}", text):
        assert text.count(f"\\begin{{{begin}}}") == text.count(f"\\end{{{begin}}}") == 1
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert len(lines) == 1 + len(HOSTILE)
    bare = re.sub(r"\\[\\{}&%$#_]", "", text.replace(r" \\", ""))  # without what is escaped
    assert bare.count("{") == bare.count("}")
    assert "%" not in bare.split("\n", 1)[1]
    assert {re.sub(r"\\&", "", line).count(" & ") for line in lines} == {len(columns) - 1}
    assert "input" in text
    assert "\\input" not in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b", r"a\_b"),
        ("\\", r"\textbackslash{}"),
        ("é ï Č", r"\'{e} \"{\i} \v {C}"),
        ("漢", "U+6F22"),
        ("--", "{-}{-}"),
        ("a\nb", r"a\textbackslash{}nb"),
        ("81.2 ± 0.4 [1-2]", r"81.2 $\pm$ 0.4 {[}1{-}2{]}"),
    ],
)
def test_escape(text: str, written: str) -> None:
    assert escape(text) == written


WRITERS = [latex, latex_differences, latex_costs, latex_settings]


@pytest.mark.parametrize("write", WRITERS)
def test_every_file_is_whole_tables_of_escaped_text(planter: Any, write: Any) -> None:
    plant_hostile(planter)
    text = write(leaderboards(read_frame(planter.store)))
    assert text.isascii()
    for begin in re.findall(r"\\begin\{(\w+)\}", text):
        assert text.count(f"\\begin{{{begin}}}") == text.count(f"\\end{{{begin}}}") == 1
    (columns,) = re.findall(r"\\begin\{tabular\}\{(.*)\}\n", text)
    width = len(re.sub(r"p\{.*?\}", "p", columns))
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert len(lines) > len(HOSTILE)
    assert {re.sub(r"\\&", "", line).count(" & ") for line in lines} == {width - 1}
    assert "\\input" not in text
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", text)
    for part in ("budget 24k", "Seeds: 0, 1, 2", "No trials", "Hardware: processor abacus", "n = 3 runs a cell"):
        assert escape(part) in caption


def test_differences_are_to_the_baseline_and_bold_where_they_are_shown(planter: Any) -> None:
    means = plant_shares(planter, {"lora": 0.25, "loca": 0.1, "same": 0.25})
    (board,) = leaderboards(read_frame(planter.store))
    table = differences_table(board)
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["lora"] == "—"
    for row in ("loca", "same"):
        assert rows[row].startswith(f"{100 * (means['glue/rte', row] - means['glue/rte', 'lora']):+.1f} [")
    assert [table.rows[place][0] for place, _ in table.bold] == ["loca"]


def test_hyper_parameters_stand_with_what_was_tried(planter: Any) -> None:
    planter.run(0.5, setting={"rank": 8, "learning_rate": 0.001})
    planter.run(0.5, "accuracy", task="glue/rte", setting={"rank": 8, "learning_rate": 0.01})
    for rate in (0.001, 0.0123, 0.1):
        planter.run(None, purpose="selection", seed=9, setting={"rank": 8, "learning_rate": rate})
    (board,) = leaderboards(read_frame(planter.store))
    assert board.settings.rows == (
        ("lora", "learning_rate", "0.001 on glue/cola; 0.01 on glue/rte", "0.001 to 0.1", "0 to 3"),
        ("lora", "rank", "8", "—", "0 to 3"),
    )


def test_a_long_table_is_cut_into_parts_with_whole_captions(planter: Any) -> None:
    for number in range(60):
        planter.run(0.5, method=f"method-{number}")
    text = page(planter)
    captions = re.findall(r"\\caption\{(.*)\}\n", text)
    assert len(captions) > 1
    for number, caption in enumerate(captions, start=1):
        for part in ("no budget", "No trials", "Hardware: processor abacus", f"Part {number} of {len(captions)}."):
            assert escape(part) in caption
    assert re.findall(r"^method\{-\}(\d+) &", text, re.MULTILINE) == sorted(str(number) for number in range(60))
    assert len(set(re.findall(r"\\label\{(.*)\}", text))) == len(captions)


def compiled(folder: Path, tables: dict[str, str]) -> str:
    """Return the log of a paper with these tables, each on a page of its own."""
    engine = shutil.which("pdflatex")
    if engine is None:
        pytest.skip("pdflatex is not installed")
    for name, text in tables.items():
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")
    inputs = "".join(f"\\input{{{name}}}\\clearpage " for name in tables)
    packages = "\\usepackage{booktabs,graphicx}"
    paper = f"\\documentclass{{article}}{packages}\\begin{{document}}{inputs}\\end{{document}}\n"
    (folder / "paper.tex").write_text(paper)
    options = ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "paper.tex"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "paper.pdf").exists()
    return (folder / "paper.log").read_text(encoding="latin-1")


def fits(log: str) -> bool:
    """Return whether no table is wider than the text or longer than the page."""
    return not re.search(r"Overfull \\hbox \((?!0\.)|Float too large", log)


@pytest.mark.parametrize("write", WRITERS)
def test_a_paper_compiles_with_hostile_names(planter: Any, tmp_path: Path, write: Any) -> None:
    plant_hostile(planter)
    text = write(leaderboards(read_frame(planter.store)))
    assert fits(compiled(tmp_path, {"tables": text}))


@pytest.mark.usefixtures("_no_figures")
def test_every_exported_table_compiles_and_fits(planter: Any, tmp_path: Path) -> None:
    plant_shares(
        planter, {f"method-{number:02}_x": 0.1 + number / 100 for number in range(40)}, ("glue/rte", "glue/sst2")
    )
    for budget in ("24k", "100%"):
        asked = {"asked": budget, "parameters": 24_000, "mode": "uniform"}
        for task in ("glue/cola", "glue/mrpc", "glue/qnli", "glue/rte", "glue/sst2"):
            for method in ("lora", "loca"):
                for seed in range(3):
                    setting = {f"a_parameter_{number}": number * len(task) for number in range(9)}
                    planter.run(0.5, "accuracy", task=task, method=method, seed=seed, budget=asked, setting=setting)
    written = [path for path in write_report(planter.store).files if path.suffix == ".tex"]
    assert {path.stem for path in written} == {"leaderboard", "differences", "costs", "settings"}
    tables = {path.stem: path.read_text(encoding="utf-8") for path in written}
    log = compiled(tmp_path, tables)
    assert fits(log), re.findall(r"(?:Overfull|.*Float too large).*", log)
