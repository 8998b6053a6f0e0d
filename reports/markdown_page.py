"""The report as a Markdown page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from parbench.bench.store.store import Unreadable
from parbench.reports.claims.tables import claims_section
from parbench.reports.data_efficiency import NOTE, EfficiencyTable
from parbench.reports.every_budget import once
from parbench.reports.figures import CAPTIONS, Picture, is_drawn
from parbench.reports.html import Page
from parbench.reports.leaderboard_render import markdown
from parbench.reports.parameter_budgets import NOTE_ON_BUDGETS
from parbench.reports.profile.costs import NOTE as PROFILE_NOTE
from parbench.reports.published import not_joined, reproduction_table
from parbench.reports.render import escape, markdown_table
from parbench.reports.tables import SMALL_LABEL, Table, how_ended, is_counted

FIGURES = "figures"


def markdown_page(page: Page) -> str:
    """Return the whole report as Markdown; its figures are the files in `FIGURES`."""
    parts = [*_head(page), *_boards(page), *_claims(page), *_data_efficiency(page), *_budgets(page)]
    parts += [*_profiled(page), *_deployment(page)]
    if page.reproduced:
        parts += ["## Printed in papers and measured here\n", markdown_table(reproduction_table(page.reproduced))]
        parts += [f"* {escape(sentence)}\n" for sentence in not_joined(page.reproduced)]
    return "\n".join([*parts, *_figures(page), *_incidents(page)])


def _boards(page: Page) -> Iterator[str]:
    labelled = not bool(page.frame.runs["small"].all())
    drawn = [f"{FIGURES}/{one.name}.png" if isinstance(one.wide, Picture) else None for one in page.forests]
    for board, figure in zip(page.boards, [*drawn, *[None] * len(page.boards)], strict=False):
        yield markdown(board, labelled, figure)


def _claims(page: Page) -> Iterator[str]:
    section = claims_section(page.claims)
    if section is not None:
        yield f"## Claims of papers\n\n{escape(section.note)}\n"
        yield markdown_table(section.table, rule="---")
        yield "".join(f"- {escape(text)}\n" for text in section.sentences)


def failure_sentences(runs: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence for each run without a score."""
    for method, task, _, seed, status, reason, run_id in _failures(once(runs[~is_counted(runs)])).rows:
        yield f"{method} on {task}, seed {seed}: {status}, {reason} ({run_id})"


def _head(page: Page) -> Iterator[str]:
    frame, runs = page.frame, once(page.frame.runs)
    yield "# Leaderboard\n"
    if runs["small"].any():
        yield f"**{SMALL_LABEL}**{'' if runs['small'].all() else ' (where so marked)'}\n"
    scored, unreadable = int(is_counted(runs).sum()), len(frame.unreadable)
    yield f"Runs: {len(runs)}, of which {scored} have a score. Refused records: {unreadable}.\n"
    yield from (f"**Missing**: {escape(text)}\n" for text in page.not_computed)
    if len(frame.aside):
        yield f"Runs that chose hyper-parameters or repeat others, and count in no table: {len(frame.aside)}.\n"


def _profiled(page: Page) -> Iterator[str]:
    if page.profiled is None:
        return
    yield f"## Profiled costs\n\n{escape(PROFILE_NOTE)}\n"
    for table in page.profiled.tables:
        yield f"### {escape(table.caption)}\n"
        yield markdown_table(table)
    yield "".join(f"- {escape(remark)}\n" for remark in page.profiled.remarks)


def _deployment(page: Page) -> Iterator[str]:
    if page.deployment is None:
        return
    yield f"## Deployment\n\n{escape(page.deployment.note)}\n"
    for table in page.deployment.tables:
        yield f"### {escape(table.caption)}\n"
        yield markdown_table(table, rule="---")
    yield "".join(f"- {escape(remark)}\n" for remark in page.deployment.remarks)


def _figures(page: Page) -> Iterator[str]:
    runs = once(page.frame.runs)
    for name, picture in page.pictures.items():
        if not isinstance(picture, Picture):
            continue
        yield f"## {CAPTIONS[name]}\n"
        left_out = int((is_counted(runs) & ~is_drawn(runs)).sum())
        if name == "score_vs_parameters" and left_out:
            yield f"Not drawn, because their parameters were not counted: {left_out} of the runs with a score.\n"
        yield f"![{CAPTIONS[name]}]({FIGURES}/{name}.png)\n"


def _incidents(page: Page) -> Iterator[str]:
    """Yield the warnings of runs, the runs without a score, and the refused records."""
    frame, runs = page.frame, once(page.frame.runs)
    notes = Counter(note for noted in runs["notes"].dropna() for note in json.loads(noted))
    if notes:
        yield "## Warnings from runs\n"
        yield "".join(f"- {count} x {escape(note)}\n" for note, count in sorted(notes.items()))
    failed = runs[~is_counted(runs)]
    if len(failed):
        yield "## Runs without a score\n"
        yield markdown_table(_failures(failed), rule="---")
    if frame.unreadable:
        yield "## Refused records\n"
        yield (
            "They cannot be read, or their per-example rows contradict them, and count nowhere above. Restore them, "
            "or move the folders away and run again.\n"
        )
        root = page.store.root if page.store else Path()
        yield "".join(f"- {_unreadable(entry, root)}\n" for entry in frame.unreadable)


def _data_efficiency(page: Page) -> Iterator[str]:
    if not page.data_efficiency:
        return
    yield "## Scores by share of the training split\n"
    yield f"{escape(NOTE)}\n"
    yield from _titled(page, page.data_efficiency)
    warned = [(board, warning) for board in page.smaller for warning in board.warnings]
    if warned:
        yield "".join(f"- **Warning**: {escape(board.title)}: {escape(warning)}\n" for board, warning in warned)


def _titled(page: Page, tables: Sequence[EfficiencyTable]) -> Iterator[str]:
    for one in tables:
        yield f"### {escape(one.table.caption)}: {escape(one.title)}\n"
        if one.label and not page.frame.runs["small"].all():
            yield f"**{escape(one.label)}**\n"
        yield markdown_table(one.table)


def _budgets(page: Page) -> Iterator[str]:
    if page.by_budget:
        yield f"## Scores by parameter budget\n\n{escape(NOTE_ON_BUDGETS)}\n"
    yield from _titled(page, page.by_budget)


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
