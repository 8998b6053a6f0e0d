"""Write everything that a store says into a folder of files."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.store import Store, Unreadable, explained, write_atomically
from reports.figures import is_drawn, score_vs_parameters, to_bytes
from reports.frame import Frame, read_frame
from reports.latex import latex
from reports.leaderboard import Leaderboard, leaderboards
from reports.numbers import cell_numbers, comparison_numbers, over_tasks_numbers
from reports.render import escape, markdown, markdown_table
from reports.tables import MINI_LABEL, Table, how_ended, is_counted

FIGURE = "figures/score_vs_parameters"


@dataclass(frozen=True)
class Report:
    """What was written, and what it was made from.

    Attributes:
        files: every file, the leaderboard first.
        frame: the runs, and what could not be read.
        boards: the leaderboards, to be printed with `reports.render.TerminalLeaderboard`.
    """

    files: tuple[Path, ...]
    frame: Frame
    boards: tuple[Leaderboard, ...]


def write_report(store: Store, directory: Path | None = None) -> Report:
    """Write the tables and figures of everything in a store that its per-example rows bear out.

    ``leaderboard.{md,tex}`` are to be read; ``leaderboard.{csv,parquet}`` (a row a cell), ``over_tasks.csv`` (a row a
    method of a leaderboard), ``comparisons.csv`` (a row a pair of methods on a task) and ``runs.csv`` hold all numbers;
    ``figures/score_vs_parameters.{png,svg}`` is drawn where there is something to draw, else deleted.

    The same records give the same bytes, wherever store and directory are.

    Args:
        store: what to read.
        directory: where to write; ``report`` in the store's folder by default.

    Raises:
        UserError: there is nothing to read, or the directory cannot be written to.
    """
    frame = read_frame(store)
    boards = leaderboards(frame)
    figure = score_vs_parameters(frame.runs)
    cells = cell_numbers(frame.runs, boards)
    contents = {
        "leaderboard.md": "\n".join(_page(frame, boards, store.root, figure is not None)).encode(),
        "leaderboard.csv": _csv(cells),
        "leaderboard.tex": latex(boards).encode(),
        "leaderboard.parquet": _parquet(cells),
        "over_tasks.csv": _csv(over_tasks_numbers(boards)),
        "comparisons.csv": _csv(comparison_numbers(boards)),
        "runs.csv": _csv(_labelled(frame)),
        **{f"{FIGURE}.{kind}": to_bytes(figure, kind) if figure else None for kind in ("png", "svg")},
    }
    directory = directory or store.root / "report"
    with explained(directory):
        (directory / FIGURE).parent.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if content is None:
                (directory / name).unlink(missing_ok=True)
            else:
                write_atomically(directory / name, content)
    files = tuple(directory / name for name, content in contents.items() if content is not None)
    return Report(files, frame, tuple(boards))


def _page(frame: Frame, boards: Sequence[Leaderboard], root: Path, with_figure: bool) -> Iterator[str]:
    runs = frame.runs
    yield "# Leaderboard\n"
    if runs["small"].any():
        yield f"**{MINI_LABEL}**{'' if runs['small'].all() else ' (where so marked)'}\n"
    scored, unreadable = int(is_counted(runs).sum()), len(frame.unreadable)
    yield f"Runs: {len(runs)}, of which {scored} have a score. Refused records: {unreadable}.\n"
    if len(frame.aside):
        yield f"Runs that chose hyper-parameters or repeat others, and count in no table: {len(frame.aside)}.\n"
    yield from (markdown(board) for board in boards)
    if with_figure:
        yield "## Score against parameters\n"
        if left_out := int((is_counted(runs) & ~is_drawn(runs)).sum()):
            yield f"Not drawn, because their parameters were not counted: {left_out} of the runs with a score.\n"
        yield f"![Score against adapter parameters, one panel a task]({FIGURE}.png)\n"
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
