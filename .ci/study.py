"""Publishes the result of a store as a study: tables, overview figure, suites, claims and the records behind them.

.venv/bin/python .ci/study.py results/claims reports/studies/2026-11-28-claims "What a reader must know of these runs."
.venv/bin/python .ci/study.py reports/studies/*/

The records have neither adapters nor logits. From them bench import and bench report make the same tables. The second
form makes the tables of published studies again, from their records, where what a report says has changed.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml

from parbench.bench.plan.suite import load_suite, suite_names, suite_text
from parbench.bench.record.run_record import RunRecord
from parbench.bench.record.serialization import to_json
from parbench.bench.store.archive import export, take_in
from parbench.bench.store.declarations import Declaration, read_declarations
from parbench.bench.store.layout import ADAPTER, DECLARATIONS, LOGITS, RECORD, RUNS, TUNED
from parbench.bench.store.store import Store
from parbench.bench.tune.tuned_suite import read_tuned
from parbench.reports.claims.tables import claim_lines
from parbench.reports.every_budget import once
from parbench.reports.render import escape
from parbench.reports.report import Report, write_report

RECORDS = "records.tar.gz"
MOST_BYTES = 10_000_000
VERSIONS = ("torch", "transformers", "peft")
TABLES = ("claims.csv", "comparisons.csv", "leaderboard.csv")


def publish(source: Store, folder: Path, notes: Sequence[str]) -> None:
    """Write the folder of a study; one that is there is replaced."""
    with tempfile.TemporaryDirectory() as scratch:
        store = _without_paths(source, Path(scratch, "store"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        done = export(store, folder / RECORDS, adapters=False, logits=False)
        report = _write_tables(store, folder, notes)
        _write_inputs(store, report, folder)
        if (tuned := read_tuned(source.root / TUNED)) is not None:
            (folder / f"suite-{tuned.name}.yaml").write_text(suite_text(tuned), "utf-8")
    if done.left_out:
        raise SystemExit("\n".join(done.left_out))
    if (size := (folder / RECORDS).stat().st_size) > MOST_BYTES:
        raise SystemExit(f"the records take {size:,} bytes; a study has at most {MOST_BYTES:,}")


def make_again(folder: Path) -> None:
    """Write the tables, figures and page of a published study again, from its records; its notes stay."""
    first, _, _ = (folder / "README.md").read_text("utf-8").partition("\n## ")
    notes = [line.removeprefix("- ") for line in first.splitlines() if line.startswith("- ")]
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch, "store"))
        take_in(folder / RECORDS, store)
        for figure in folder.glob("*.svg"):
            figure.unlink()
        _write_tables(store, folder, notes)


def _write_tables(store: Store, folder: Path, notes: Sequence[str]) -> Report:
    with tempfile.TemporaryDirectory() as scratch:
        report = write_report(store, Path(scratch))
        made = {path.name: path for path in report.files}
        page = made["leaderboard.md"].read_text("utf-8")
        (folder / "leaderboard.md").write_text(_with_own_figures(page, made, folder), "utf-8")
        for name in TABLES:
            if name in made:
                shutil.copy(made[name], folder)
    (folder / "README.md").write_text("\n\n".join(_readme(report, folder, notes)) + "\n", "utf-8")
    return report


def _without_paths(source: Store, folder: Path) -> Store:
    """Copy a store; of the absolute paths in its records' commands the last part is kept, which says what they are."""
    left_out = shutil.ignore_patterns(ADAPTER, LOGITS)
    for name in (RUNS, DECLARATIONS):
        if (source.root / name).is_dir():
            shutil.copytree(source.root / name, folder / name, ignore=left_out)
    store = Store(folder)
    for record in list(store.scan()):
        if isinstance(record, RunRecord):
            command = re.sub(r"(?<=[\s='\"])/\S*/(?=[^/\s]+)", "", record.provenance.command)
            changed = replace(record, provenance=replace(record.provenance, command=command))
            (store.runs / record.run_id / RECORD).write_text(to_json(changed), "utf-8")
    return store


def _with_own_figures(page: str, made: dict[str, Path], folder: Path) -> str:
    """Copy the overview figures into the folder, and return the page with these alone, without the others' headings."""
    lines: list[str] = []
    for line in page.splitlines():
        name = line.rpartition("(figures/")[2].removesuffix(".png)") if line.startswith("![") else ""
        if name.startswith("differences"):
            shutil.copy(made[f"{name}.svg"], folder)
            lines.append(line.replace(f"(figures/{name}.png)", f"({name}.svg)"))
        elif not name:
            lines.append(line)
    text = "\n".join(_without_empty_sections(lines))
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _without_empty_sections(lines: Sequence[str]) -> list[str]:
    kept: list[str] = []
    # The level of the heading that follows: 0 at the end, None where text does.
    below: int | None = 0
    for line in reversed(lines):
        level = len(line) - len(line.lstrip("#")) if line.startswith("#") else None
        if level is not None and below is not None and below <= level:
            continue
        if line.strip():
            below = level
        kept.insert(0, line)
    return kept


def _write_inputs(store: Store, report: Report, folder: Path) -> None:
    """Write the suites as they are now, the tasks of the study's own, and the claims as they were declared."""
    for name in sorted(set(report.frame.runs["suite"]) & set(suite_names())):
        (folder / f"suite-{name}.yaml").write_text(suite_text(load_suite(name)), "utf-8")
    own = {record.spec.task: record.spec.definition for record in store.scan() if isinstance(record, RunRecord)}
    for name, definition in own.items():
        if definition:
            text = yaml.safe_dump(definition, sort_keys=False, width=120)
            (folder / f"task-{name.replace('/', '-')}.yaml").write_text(text, "utf-8")
    claims = folder / "claims"
    for made in read_declarations(store):
        if isinstance(made, Declaration):
            claims.mkdir(exist_ok=True)
            (claims / f"{made.name}.yaml").write_text(yaml.safe_dump(made.content, sort_keys=False, width=120), "utf-8")


def _readme(report: Report, folder: Path, notes: Sequence[str]) -> Iterator[str]:
    yield f"# {folder.name}"
    yield "\n".join(f"- {note}" for note in notes)
    # What it would take to tell is a line of its own, indented, behind its claim.
    if claims := "\n".join(claim_lines(report.claims)).replace("\n    ", "; "):
        yield "## Claims, judged from the records alone"
        yield "\n".join(f"- {escape(line)}" for line in claims.splitlines())
    yield "## Scores"
    yield "\n".join(f"- {escape(' '.join([f'{board.title}.', *board.conditions]))}" for board in report.boards)
    made = _made(once(report.frame.runs), len(report.frame.aside))
    yield f"Tables, differences and figures: `leaderboard.md`. {made} The same from the records:"
    out = f"--out results/{folder.name}"
    yield f"```bash\nbench import {RECORDS} {out}\nbench report {out}\n```"


def _made(runs: pd.DataFrame, aside: int) -> str:
    days = sorted({str(day)[:10] for day in runs["finished"].dropna()})
    versions = [f"{name} {_distinct(runs[column])}" for name in VERSIONS if (column := f"version/{name}") in runs]
    more = f" and {aside} of searches or repeats" if aside else ""
    return f"{len(runs)} runs{more}, {' to '.join(dict.fromkeys((days[0], days[-1])))}, {', '.join(versions)}."


def _distinct(column: pd.Series) -> str:
    return "/".join(sorted(set(column.dropna().astype(str))))


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    if all((path / RECORDS).is_file() for path in paths):
        for path in paths:
            make_again(path)
    else:
        publish(Store(paths[0]), paths[1], sys.argv[3:])
