"""Write everything that a store holds into a folder of files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from parbench.bench.profile.result import Profile
from parbench.bench.store.store import Store
from parbench.bench.util.files import explained, write_atomically
from parbench.reports.attempt import NotComputed, T, attempt
from parbench.reports.charts import charts_of
from parbench.reports.claims.claim import ClaimFile
from parbench.reports.claims.judge import Judged, judge_store
from parbench.reports.claims.tables import claims_frame
from parbench.reports.consistency import consistency_table
from parbench.reports.csv_files import csv_text
from parbench.reports.data_efficiency import efficiency_tables, in_full
from parbench.reports.deployment.losses import DeployedRow, deployed_rows
from parbench.reports.deployment.tables import deployed, deployment_frame
from parbench.reports.display import DEFAULT, Display, displayed
from parbench.reports.every_budget import once
from parbench.reports.examples import KnownLayouts
from parbench.reports.figures import Picture, all_figures, pictured, read_histories
from parbench.reports.figures.forest import forests
from parbench.reports.frame import Frame, read_frame
from parbench.reports.html import Page, write_html
from parbench.reports.latex import latex, latex_costs, latex_differences, latex_settings
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.markdown_page import FIGURES, failure_sentences, markdown_page
from parbench.reports.parameter_budgets import budget_tables
from parbench.reports.profile.costs import match_profiles
from parbench.reports.published import reproduction
from parbench.reports.rows import BOARD, CURVE, at_same
from parbench.reports.tables import SMALL_LABEL
from parbench.reports.tidy_frames import cells_frame, comparisons_frame, over_tasks_frame, subsets_frame

# Of adapters that were measured, and sentences on what could not be read.
DeployedRows = tuple[list[DeployedRow], list[str]]


@dataclass(frozen=True)
class Report:
    """What was written, and what it was made from.

    Attributes:
        page: the HTML page, which shows everything.
        files: every file, the leaderboard in Markdown first.
        frame: the runs, and what could not be read.
        boards: the leaderboards to be shown in full, with `parbench.reports.render.TerminalLeaderboard` in a terminal.
        remarks: how costs were profiled, and which of the leaderboards' rows have none.
        failures: the runs without a score and why they have none, a sentence each.
        claims: what the records show of claims of papers.
    """

    page: Path
    files: tuple[Path, ...]
    frame: Frame
    boards: tuple[Leaderboard, ...]
    remarks: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    claims: Judged = field(default_factory=Judged)


def write_report(
    store: Store,
    directory: Path | None = None,
    profiles: Sequence[Profile] = (),
    display: Display = DEFAULT,
    claims: Sequence[ClaimFile] = (),
) -> Report:
    """Write the tables and figures of everything in a store that its per-example rows bear out.

    ``index.html`` shows everything; ``leaderboard.{md,tex}`` and ``{differences,costs,settings}.tex`` are to be read
    and quoted. ``leaderboard.{csv,parquet}`` (one row per cell), ``subsets.csv`` (one row per cell and subset),
    ``over_tasks.csv`` (one row per method of a leaderboard), ``comparisons.csv`` (one row per pair of methods and
    task), ``claims.csv`` (one row per effect of a claim, if there are claims), ``deployment.csv`` (one row per run and
    conversion, if adapters were measured) and ``runs.csv`` hold all numbers. A figure, ``figures/NAME.{png,svg}``, is
    drawn where there is something to draw, else deleted.

    The same records and profiles give the same bytes, wherever store and directory are.

    Args:
        store: what to read.
        directory: where to write; ``report`` in the store's folder by default.
        display: names, order and baseline of the rows.
        profiles: what methods cost, of `parbench.reports.profile.costs.read_profiles`.
        claims: claims to judge beside those that the store has declarations of.

    Raises:
        UserError: there is nothing to read, a name to be displayed is not there, or the directory cannot be written to.
    """
    known: KnownLayouts = {}
    recorded = read_frame(store, known)
    frame = displayed(recorded, display)
    boards = [
        _with_consistency(board, store, frame) for board in leaderboards(frame, display.baseline, display.by_rank)
    ]
    cells = cells_frame(frame.runs, boards)
    found = attempt(lambda: judge_store(store, recorded, claims))
    judged = Judged(notes=(f"claims: {found.reason}",)) if isinstance(found, NotComputed) else found
    rows = attempt(lambda: deployed_rows(store, frame, cells, known))
    page = replace(_page_of(store, frame, boards, cells, profiles, display.baseline), claims=judged)
    page = _with_deployment(page, rows)
    contents = _contents(page, boards, cells) | _deployment_csv(rows)
    directory = directory or store.root / "report"
    with explained(directory):
        (directory / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if content is None:
                (directory / name).unlink(missing_ok=True)
            else:
                write_atomically(directory / name, content)
        for path in (directory / FIGURES).glob("differences*"):
            if f"{FIGURES}/{path.name}" not in contents:
                path.unlink()
    written = write_html(page, directory)
    files = tuple(directory / name for name, content in contents.items() if content is not None)
    remarks = page.profiled.remarks if page.profiled else ()
    failures = tuple(failure_sentences(frame.runs))
    return Report(written, (*files, written), frame, tuple(page.boards), remarks, failures, judged)


def _with_consistency(board: Leaderboard, store: Store, frame: Frame) -> Leaderboard:
    """Return a leaderboard with how many predictions differ between seeds, from the per-example rows."""
    runs = frame.runs[at_same(frame.runs, board.cells.iloc[0], BOARD)]
    rows = [row[0] for row in board.scores.rows]
    found = attempt(lambda: consistency_table(store, runs, rows))
    return board if isinstance(found, NotComputed) else replace(board, consistency=found)


def _page_of(
    store: Store,
    frame: Frame,
    boards: Sequence[Leaderboard],
    cells: pd.DataFrame,
    profiles: Sequence[Profile],
    baseline: str | None,
) -> Page:
    shown = [board for board in boards if board.in_full]
    histories = read_histories(store, frame.runs["run_id"])
    profiled = attempt(lambda: match_profiles(cells[in_full(cells)], profiles) if profiles else None)
    reproduced = attempt(lambda: reproduction(frame.runs, cells))
    efficiency = attempt(lambda: efficiency_tables(cells))
    budgets = attempt(lambda: budget_tables(cells))
    charts = attempt(lambda: charts_of(frame, shown))
    parts = {
        "profiled costs": profiled,
        "published numbers": reproduced,
        "data efficiency": efficiency,
        "scores by budget": budgets,
        "interactive figures": charts,
    }
    return Page(
        frame=frame,
        boards=shown,
        pictures=pictured(all_figures(frame, cells, histories, _or(profiled, None), baseline, shown)),
        reproduced=_or(reproduced, ()),
        histories=histories,
        store=store,
        forests=forests(shown),
        data_efficiency=_or(efficiency, ()),
        by_budget=_or(budgets, ()),
        smaller=[board for board in boards if not board.in_full],
        profiled=_or(profiled, None),
        charts=_or(charts, None),
        not_computed=tuple(f"{name}: {part.reason}" for name, part in parts.items() if isinstance(part, NotComputed)),
    )


def _with_deployment(page: Page, found: DeployedRows | NotComputed) -> Page:
    if isinstance(found, NotComputed):
        return replace(page, not_computed=(*page.not_computed, f"deployment: {found.reason}"))
    return replace(page, deployment=deployed(*found))


def _deployment_csv(found: DeployedRows | NotComputed) -> dict[str, bytes | None]:
    rows = [] if isinstance(found, NotComputed) else found[0]
    return {"deployment.csv": csv_text(deployment_frame(rows)).encode() if rows else None}


def _or(part: T | NotComputed, default: T) -> T:
    return default if isinstance(part, NotComputed) else part


def _contents(page: Page, boards: Sequence[Leaderboard], cells: pd.DataFrame) -> dict[str, bytes | None]:
    """Return by name what each file holds; ``None`` for a figure that cannot be drawn."""
    pictures = dict(page.pictures)
    for forest in page.forests:
        pictures |= {forest.name: forest.wide, f"{forest.name}_narrow": forest.narrow}
    drawn = {name: picture for name, picture in pictures.items() if isinstance(picture, Picture)}
    return {
        "leaderboard.md": markdown_page(page).encode(),
        "leaderboard.csv": csv_text(_without_labels(cells)).encode(),
        "leaderboard.tex": latex(page.boards).encode(),
        "differences.tex": latex_differences(page.boards).encode(),
        "costs.tex": latex_costs(page.boards).encode(),
        "settings.tex": latex_settings(page.boards).encode(),
        "leaderboard.parquet": _parquet(_without_labels(cells)),
        "subsets.csv": csv_text(subsets_frame(page.frame.runs)).encode(),
        "over_tasks.csv": csv_text(over_tasks_frame(boards)).encode(),
        "comparisons.csv": csv_text(comparisons_frame(boards)).encode(),
        "runs.csv": csv_text(_labelled(page.frame)).encode(),
        "claims.csv": csv_text(claims_frame(page.claims)).encode() if page.claims.judgments else None,
        **{
            f"{FIGURES}/{name}.{kind}": getattr(drawn[name], kind) if name in drawn else None
            for name in pictures
            for kind in ("png", "svg")
        },
    }


def _labelled(frame: Frame) -> pd.DataFrame:
    runs = once(pd.concat([frame.runs, frame.aside], ignore_index=True) if len(frame.aside) else frame.runs)
    labels = runs["small"].map({True: SMALL_LABEL, False: None})
    return pd.concat([labels.rename("label"), _without_labels(runs)], axis="columns")


def _without_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without what only says which rows are shown together."""
    return table.drop(columns=[*BOARD, *CURVE, "row_order"])


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
