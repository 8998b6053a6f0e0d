"""What adapters lose by conversion to LoRA: scores on the same examples, paired."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import t as student

from parbench.bench.record.deployment import AS_LOADED, Conversion, Deployment
from parbench.bench.record.run_record import RunRecord
from parbench.bench.store.deployments import folder_of, read_deployments
from parbench.bench.store.store import Store
from parbench.bench.util.base_precision import FLOAT32
from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.constant import EXACT_MATCH
from parbench.reports.examples import REFERENCES, KnownLayouts, layout_of, with_answers
from parbench.reports.frame import Frame
from parbench.reports.jackknife import LeftOut, leave_out, score_methods, to_frame
from parbench.reports.rows import BOARD, COLUMN
from parbench.reports.statistics import Interval
from parbench.tasks import find_task

LEVEL = 0.95


@dataclass(frozen=True)
class Loss:
    """What the adapters of a row lose on one task by a conversion.

    Attributes:
        target: see `parbench.bench.record.deployment.Conversion`.
        lost: mean score of the run minus that of the converted adapter, over the seeds; ``None`` where no adapter could
            be converted or scored.
        interval: of these adapters' loss, over the draw of the examples; ``None`` where it is not known.
        ranks: least and largest rank of a module.
        reason: why there is no loss.
    """

    target: str
    lost: float | None = None
    interval: Interval | None = None
    ranks: tuple[int, int] | None = None
    reason: str = ""


@dataclass(frozen=True)
class DeployedRow:
    """The adapters of one row of a leaderboard on one task, of one run for each seed.

    Attributes:
        row: label of the row.
        column: label of the column.
        metric: the primary one.
        task: name of the task.
        found: what was measured, by seed.
        losses: by target, in the order of the measurement.
        precision: of the base weights of the runs. What was measured is on a copy of them in float32.
        learnt: whether the row is above a constant prediction; else a conversion has nothing to lose.
    """

    row: str
    column: str
    metric: str
    task: str
    found: Mapping[int, Deployment]
    losses: tuple[Loss, ...]
    precision: str = FLOAT32
    learnt: bool = True

    def in_plain_peft(self, found: Deployment) -> str:
        """Return whether peft alone loads an adapter of these, as text: on which base weights, or why not."""
        if found.plain_peft:
            return f"no: {found.plain_peft}"
        return "yes" if self.precision == FLOAT32 else f"yes, on {self.precision} weights given back in float32"


def deployed_rows(
    store: Store, frame: Frame, cells: pd.DataFrame, known: KnownLayouts
) -> tuple[list[DeployedRow], list[str]]:
    """Return the measured adapters of the runs of a frame, and a sentence for each that could not be read.

    Args:
        store: what holds them.
        frame: its runs.
        cells: of `parbench.reports.tidy_frames.cells_frame`.
        known: the layouts with which the frame was read.
    """
    unlearnt = _unlearnt(cells)
    read = list(read_deployments(store))
    unread = [entry for entry in read if isinstance(entry, str)]
    measured = {entry.run_id: entry for entry in read if isinstance(entry, Deployment)}
    runs = frame.runs[frame.runs["run_id"].isin(measured) & frame.runs["score"].notna()]
    rows = []
    for key, part in runs.groupby([*BOARD, *COLUMN, "row"], sort=False):
        found = {int(seed): measured[run_id] for seed, run_id in zip(part["seed"], part["run_id"], strict=True)}
        losses = tuple(_losses(store, frame, part, found, known))
        task, precision = str(part["task"].iloc[0]), str(part["base_precision"].iloc[0])
        _, column, metric, row = map(str, key)
        rows.append(DeployedRow(row, column, metric, task, found, losses, precision, key not in unlearnt))
    return rows, unread


def _unlearnt(cells: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Return the rows, with their boards and columns, that are not above a constant prediction."""
    learnt = cells["learnt"].astype("boolean").fillna(True)
    return set(cells.loc[~learnt, [*BOARD, *COLUMN, "row"]].itertuples(index=False, name=None))


def _losses(
    store: Store, frame: Frame, runs: pd.DataFrame, found: Mapping[int, Deployment], known: KnownLayouts
) -> Iterator[Loss]:
    by_target: dict[str, dict[int, Conversion]] = {}
    for seed, deployment in found.items():
        for conversion in deployment.conversions:
            by_target.setdefault(conversion.target, {})[seed] = conversion
    for target, conversions in by_target.items():
        loss = attempt(partial(_loss, store, frame, runs, target, conversions, known))
        yield Loss(target, reason=loss.reason) if isinstance(loss, NotComputed) else loss


def _loss(
    store: Store,
    frame: Frame,
    runs: pd.DataFrame,
    target: str,
    conversions: Mapping[int, Conversion],
    known: KnownLayouts,
) -> Loss:
    before: dict[int, LeftOut | str] = {}
    after: dict[int, LeftOut | str] = {}
    differences = []
    for seed, run_id, score in zip(runs["seed"], runs["run_id"], runs["score"], strict=True):
        conversion = conversions.get(int(seed))
        if conversion is None or conversion.rows is None:
            continue
        record = store.load(str(run_id))
        if not isinstance(record, RunRecord):
            continue
        scored, left = _scored(store, record, conversion.rows, known)
        differences.append(float(score) - scored)
        before[int(seed)], after[int(seed)] = frame.left_out.get(str(run_id), "not checked"), left
    if not differences:
        reasons = sorted({one.reason for one in conversions.values() if one.reason})
        return Loss(target, reason="; ".join(reasons) or "no per-example rows")
    ranks = [one.ranks for one in conversions.values() if one.ranks is not None]
    span = (min(low for low, _ in ranks), max(high for _, high in ranks)) if ranks else None
    return Loss(target, float(np.mean(differences)), _interval(before, after), span)


def _scored(store: Store, record: RunRecord, file: str, known: KnownLayouts) -> tuple[float, LeftOut | str]:
    """Return the score of per-example rows, and how it varies with the examples."""
    spec = record.spec
    task = find_task(spec.task, spec.definition).configured(spec.options)
    table = pq.read_table(folder_of(store, record.run_id) / file)
    score = float(task.score(to_frame(table))[record.primary])
    of_texts = record.primary == EXACT_MATCH and REFERENCES in table.column_names
    labelled = with_answers(table, table[REFERENCES]) if of_texts else table
    return score, leave_out(task, table, layout_of(known, spec.task, labelled), record.primary, score)


def _interval(before: Mapping[int, LeftOut | str], after: Mapping[int, LeftOut | str]) -> Interval | None:
    """Return the interval of the mean loss over the draw of the examples, paired; ``None`` where it is not known."""
    first = {seed: entry for seed, entry in before.items() if isinstance(entry, LeftOut)}
    second = {seed: entry for seed, entry in after.items() if isinstance(entry, LeftOut)}
    examples = {id(entry.examples) for entry in (*first.values(), *second.values())}
    if len(first) < len(before) or len(second) < len(after) or len(examples) != 1:
        return None
    scores = score_methods({"before": first, "after": second})
    one, other = scores["before"], scores["after"]
    deviations = (one.deviations - other.deviations).mean(axis=1)
    difference = float(one.by_seed.mean() - other.by_seed.mean())
    half = float(student.ppf((1 + LEVEL) / 2, one.degrees)) * math.sqrt(float(deviations @ deviations))
    return Interval(difference - half, difference + half, LEVEL)


def reproduces(losses: Sequence[Loss]) -> bool | None:
    """Return whether adapters that were loaded again scored as the runs did; ``None`` where that is not known."""
    loaded = next((loss for loss in losses if loss.target == AS_LOADED), None)
    return None if loaded is None or loaded.lost is None else abs(loaded.lost) < 1e-6
