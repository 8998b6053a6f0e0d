"""Write everything that a store says into a folder of files."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.files import explained, write_atomically
from parbench.reports.data_efficiency import NOTE, efficiencies, in_full
from parbench.reports.figures import CAPTIONS, Picture, all_figures, is_drawn, pictured, read_histories
from parbench.reports.frame import Frame, read_frame
from parbench.reports.html import Page, write_html
from parbench.reports.latex import latex
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.profile.costs import NOTE as PROFILE_NOTE
from parbench.reports.profile.costs import match
from parbench.reports.published import reproduction, reproduction_table
from parbench.reports.render import escape, markdown, markdown_table
from parbench.reports.tables import MINI_LABEL, Table, how_ended, is_counted
from parbench.reports.tidy_frames import cell_numbers, comparison_numbers, over_tasks_numbers, subset_numbers

if TYPE_CHECKING:
    from parbench.bench.profile.result import Profile

FIGURES = "figures"


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
    """

    page: Path
    files: tuple[Path, ...]
    frame: Frame
    boards: tuple[Leaderboard, ...]
    remarks: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def write_report(store: Store, directory: Path | None = None, profiles: Sequence[Profile] = ()) -> Report:
    """Write the tables and figures of everything in a store that its per-example rows bear out.

    ``index.html`` shows everything; ``leaderboard.{md,tex}`` are to be read and quoted. ``leaderboard.{csv,parquet}``
    (a row a cell), ``subsets.csv`` (a row a cell and subset), ``over_tasks.csv`` (a row a method of a leaderboard),
    ``comparisons.csv`` (a row a pair of methods on a task) and ``runs.csv`` hold all numbers. A figure,
    ``figures/NAME.{png,svg}``, is drawn where there is something to draw, else deleted.

    The same records and profiles give the same bytes, wherever store and directory are.

    Args:
        store: what to read.
        directory: where to write; ``report`` in the store's folder by default.
        profiles: what methods cost, of `parbench.reports.profile.costs.read_profiles`.

    Raises:
        UserError: there is nothing to read, or the directory cannot be written to.
    """
    frame = read_frame(store)
    boards = leaderboards(frame)
    cells = cell_numbers(frame.runs, boards)
    histories = read_histories(store, frame.runs["run_id"])
    profiled = match(cells[in_full(cells)], profiles) if profiles else None
    page = Page(
        frame=frame,
        boards=[board for board in boards if board.in_full],
        pictures=pictured(all_figures(frame, cells, histories, profiled)),
        reproduced=reproduction(frame.runs, cells),
        histories=histories,
        store=store,
        efficiencies=efficiencies(cells),
        smaller=[board for board in boards if not board.in_full],
        profiled=profiled,
    )
    drawn = {name: picture for name, picture in page.pictures.items() if isinstance(picture, Picture)}
    contents = {
        "leaderboard.md": "\n".join(_page(page, store.root)).encode(),
        "leaderboard.csv": _csv(cells),
        "leaderboard.tex": latex(page.boards).encode(),
        "leaderboard.parquet": _parquet(cells),
        "subsets.csv": _csv(subset_numbers(frame.runs)),
        "over_tasks.csv": _csv(over_tasks_numbers(boards)),
        "comparisons.csv": _csv(comparison_numbers(boards)),
        "runs.csv": _csv(_labelled(frame)),
        **{
            f"{FIGURES}/{name}.{kind}": getattr(drawn[name], kind) if name in drawn else None
            for name in page.pictures
            for kind in ("png", "svg")
        },
    }
    directory = directory or store.root / "report"
    with explained(directory):
        (directory / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if content is None:
                (directory / name).unlink(missing_ok=True)
            else:
                write_atomically(directory / name, content)
    written = write_html(page, directory)
    files = tuple(directory / name for name, content in contents.items() if content is not None)
    remarks = profiled.remarks if profiled else ()
    return Report(written, (*files, written), frame, tuple(page.boards), remarks, tuple(_told(frame.runs)))


def _page(page: Page, root: Path) -> Iterator[str]:
    frame, runs = page.frame, page.frame.runs
    yield "# Leaderboard\n"
    if runs["small"].any():
        yield f"**{MINI_LABEL}**{'' if runs['small'].all() else ' (where so marked)'}\n"
    scored, unreadable = int(is_counted(runs).sum()), len(frame.unreadable)
    yield f"Runs: {len(runs)}, of which {scored} have a score. Refused records: {unreadable}.\n"
    if len(frame.aside):
        yield f"Runs that chose hyper-parameters or repeat others, and count in no table: {len(frame.aside)}.\n"
    yield from (markdown(board) for board in page.boards)
    yield from _efficiencies(page)
    if page.profiled:
        yield f"## Profiled costs\n\n{escape(PROFILE_NOTE)}\n"
        for table in page.profiled.tables:
            yield f"### {escape(table.caption)}\n"
            yield markdown_table(table)
        yield "".join(f"- {escape(remark)}\n" for remark in page.profiled.remarks)
    if page.reproduced:
        yield "## Printed in papers and measured here\n"
        yield markdown_table(reproduction_table(page.reproduced))
    for name, picture in page.pictures.items():
        if not isinstance(picture, Picture):
            continue
        yield f"## {CAPTIONS[name]}\n"
        left_out = int((is_counted(runs) & ~is_drawn(runs)).sum())
        if name == "score_vs_parameters" and left_out:
            yield f"Not drawn, because their parameters were not counted: {left_out} of the runs with a score.\n"
        yield f"![{CAPTIONS[name]}]({FIGURES}/{name}.png)\n"
    notes = Counter(note for noted in runs["notes"].dropna() for note in json.loads(noted))
    if notes:
        yield "## Warnings that runs gave\n"
        yield "".join(f"- {count} x {escape(note)}\n" for note, count in sorted(notes.items()))
    failed = runs[~is_counted(runs)]
    if len(failed):
        yield "## Runs without a score\n"
        yield markdown_table(_failures(failed), rule="---")
    if frame.unreadable:
        yield "## Refused records\n"
        yield (
            "They cannot be read, or their per-example rows do not bear them out, and count nowhere above. Restore "
            "them, or move the folders away and run again.\n"
        )
        yield "".join(f"- {_unreadable(entry, root)}\n" for entry in frame.unreadable)


def _efficiencies(page: Page) -> Iterator[str]:
    if not page.efficiencies:
        return
    yield "## Scores by share of the training split\n"
    yield f"{escape(NOTE)}\n"
    for one in page.efficiencies:
        yield f"### {escape(one.table.caption)}: {escape(one.title)}\n"
        if one.label:
            yield f"**{escape(one.label)}**\n"
        yield markdown_table(one.table)
    warned = [(board, warning) for board in page.smaller for warning in board.warnings]
    if warned:
        yield "".join(f"- **Warning**: {escape(board.title)}: {escape(warning)}\n" for board, warning in warned)


def _told(runs: pd.DataFrame) -> Iterator[str]:
    for method, task, _, seed, status, reason, run_id in _failures(runs[~is_counted(runs)]).rows:
        yield f"{method} on {task}, seed {seed}: {status}, {reason} ({run_id})"


def _failures(failed: pd.DataFrame) -> Table:
    rows = zip(
        failed["row"],
        failed["task"],
        failed["base_model"],
        failed["seed"].astype("str"),
        how_ended(failed),
        failed["reason"].fillna("no reason was recorded"),
        failed["run_id"],
        strict=True,
    )
    return Table(("method", "task", "base model", "seed", "status", "reason", "run"), tuple(rows))


def _unreadable(entry: Unreadable, root: Path) -> str:
    return escape(f"{entry.path.relative_to(root).as_posix()} {entry.reason}")


def _labelled(frame: Frame) -> pd.DataFrame:
    runs = pd.concat([frame.runs, frame.aside], ignore_index=True) if len(frame.aside) else frame.runs
    labels = runs["small"].map({True: MINI_LABEL, False: None})
    return pd.concat([labels.rename("label"), runs], axis="columns")


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
