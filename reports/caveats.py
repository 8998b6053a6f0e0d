"""What is fixed within a leaderboard, and what should have been fixed and was not."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from parbench.reports.frame import LIBRARIES
from parbench.reports.rows import COLUMN
from parbench.reports.tables import distinct, is_counted, limit_sentences, waited_for_cores


def facts(runs: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence for each thing that the runs of one leaderboard share.

    Args:
        runs: the frame's runs of one leaderboard.
    """
    suites = distinct(runs["suite"])
    yield f"{'Suite' if len(suites) == 1 else 'Suites'}: {', '.join(suites)}."
    for model, part in runs.groupby("base_model"):
        yield f"Base model {model} at revision {' and '.join(distinct(part['model_revision']))}."
    yield from limit_sentences(runs)
    for (source, revision), part in runs.groupby(["data_source", "data_revision"]):
        yield f"Data of {', '.join(distinct(part['task']))}: {source}, revision {revision}."


def warnings(runs: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence for everything that should be the same in the runs of one leaderboard and is not.

    Args:
        runs: the frame's runs of one leaderboard.
    """
    yield from _mixed(runs, "mixed revisions", "data of", "data_revision", "task")
    yield from _mixed(runs, "mixed revisions", "base model", "model_revision", "base_model")
    measured = runs[runs["retention"].notna()]
    if len(measured):
        yield from _mixed(measured, "mixed revisions", "general text of", "retention", "base_model")
    yield from _mixed(runs, "mixed sources", "data of", "data_source", "task")
    yield from _mixed(runs, "mixed code", "method", "method_code", "method")
    yield from _mixed(runs, "mixed code", "task", "task_code", "task")
    yield from _mixed(runs, "mixed code", "harness with", "harness_code", "base_model")
    for library in LIBRARIES:
        yield from _mixed(runs, "mixed versions", f"{library} with", f"version/{library}", "base_model")
    for column in sorted(name for name in runs.columns if name.startswith("hardware/")):
        what = f"{column.removeprefix('hardware/')} with"
        yield from _mixed(runs, "mixed hardware, times and memory do not compare", what, column, "base_model")
    counted = runs[is_counted(runs)]
    if len(shared := counted[counted["cost/shared_device"] == 1]):
        yield (
            f"shared accelerator: other runs were at work beside {_rows(shared)}; "
            "their times are no measurement of speed, and are left out."
        )
    if len(waited := counted[waited_for_cores(counted)]):
        yield (
            f"other work on the machine: {_rows(waited)} waited up to "
            f"{100 * waited['cost/core_wait_share'].max():.0f} % of the training for cores that other processes used; "
            "their times are no measurement of speed, and are left out."
        )
    again = counted[counted.duplicated([*COLUMN, "method", "row", "seed"])]
    for (task, _, _, row), part in again.groupby([*COLUMN, "method", "row"]):
        seeds = ", ".join(str(seed) for seed in sorted(part["seed"].unique()))
        yield f"repeated seeds: {row} on {task} has several runs of seed {seeds}; n counts runs."
    for (task, reason), part in counted.groupby(["column", "unchecked"]):
        yield f"not recomputed: the scores of {task} ({_runs(len(part))}) are those of the records, because {reason}."


def _mixed(runs: pd.DataFrame, flag: str, what: str, column: str, per: str) -> Iterator[str]:
    if len(runs[column].unique()) == 1:
        return
    for name, part in runs.groupby(per):
        counts = part[column].astype("object").fillna("unknown").astype("str").value_counts()
        if len(counts) > 1:
            listed = ", ".join(f"{value} ({_runs(counts[value])})" for value in sorted(counts.index))
            yield f"{flag}: {what} {name}: {listed}."


def _rows(runs: pd.DataFrame) -> str:
    """Return the rows that runs are of, with their number, as ``dora (3 runs) and lora (1 run)``."""
    *others, last = [f"{name} ({_runs(len(part))})" for name, part in runs.groupby("row")]
    return f"{', '.join(others)} and {last}" if others else last


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
