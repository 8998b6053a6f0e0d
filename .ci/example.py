"""Copies the result of a store into reports/example and the README: the figure, the verdict, the table, the versions.

.venv/bin/python .ci/example.py results/mini
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from parbench.bench.store.store import Store
from parbench.reports.brief import brief_table
from parbench.reports.leaderboard import Leaderboard
from parbench.reports.render import escape, markdown_table
from parbench.reports.report import Report, write_report

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "reports" / "example"
FIGURE = "differences.svg"
BEGIN, END = "<!-- begin: written by .ci/example.py -->", "<!-- end -->"
VERSIONS = ("torch", "transformers", "peft")


def main(store: Path) -> None:
    """Write the example from the one leaderboard of a store."""
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(Store(store), Path(folder))
        if len(report.boards) != 1:
            raise SystemExit(f"{store} has {len(report.boards)} leaderboards; the example is one")
        EXAMPLE.mkdir(exist_ok=True)
        (EXAMPLE / FIGURE).write_bytes((Path(folder) / "figures" / FIGURE).read_bytes())
        (EXAMPLE / "leaderboard.md").write_text(_own_figure(report.files[0].read_text("utf-8")), "utf-8")
    text = "\n\n".join(_shown(report, report.boards[0]))
    readme = ROOT / "README.md"
    whole = readme.read_text("utf-8")
    if whole.count(BEGIN) != 1 or whole.count(END) != 1:
        raise SystemExit(f"README.md has no place for the example between {BEGIN} and {END}")
    before, _, rest = whole.partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", "utf-8")


def _own_figure(text: str) -> str:
    """Return a page whose one figure is the one kept here."""
    kept = re.sub(r"!\[(.*?)\]\(figures/differences\.\w+\)", rf"![\1]({FIGURE})", text)
    return re.sub(r"\n*!\[[^\]]*\]\(figures/[^)]*\)", "", kept)


def _shown(report: Report, board: Leaderboard) -> Iterator[str]:
    yield f"![Differences to {board.baseline}, task by task, and cost]({(EXAMPLE / FIGURE).relative_to(ROOT)})"
    yield markdown_table(brief_table(board))
    yield "\n".join(f"- {escape(sentence)}" for sentence in board.verdict)
    runs = report.frame.runs
    versions = [f"{name} {runs[column].iloc[0]}" for name in VERSIONS if (column := f"version/{name}") in runs]
    finished = str(runs["finished"].max())[:10] if "finished" in runs else ""
    facts = [*board.conditions, f"{', '.join(filter(None, [*versions, finished]))}."]
    label = f"{board.label}. " if board.label else ""
    yield f"{label}{escape(board.title)}. {escape(' '.join(facts))} Whole: `reports/example/leaderboard.md`."


if __name__ == "__main__":
    main(Path(sys.argv[1]))
