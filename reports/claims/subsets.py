"""Runs scored on some subsets of their tasks alone, such as the sets that a training did not see."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from parbench.reports.examples import Examples
from parbench.reports.frame import Frame
from parbench.reports.jackknife import LeftOut


def on_subsets(frame: Frame, subsets: Collection[str]) -> Frame:
    """Return a frame whose scores are the means of the primary metric over these subsets.

    A run without one of them, or without per-example rows, has no score and says why in its ``reason``. What repeated
    runs of a seed differ by is not known of parts of a task, so that nothing is left aside.

    Args:
        frame: of a store.
        subsets: by name; a task's score is the mean of its subsets' already.
    """
    parts: dict[int, Examples] = {}
    left_out = {run_id: _part(entry, subsets, parts) for run_id, entry in frame.left_out.items()}
    runs = frame.runs.copy()
    found = [
        left_out.get(run_id) if pd.isna(unchecked) else "the scores could not be recomputed from the per-example rows"
        for run_id, unchecked in zip(runs["run_id"], runs["unchecked"], strict=True)
    ]
    runs["score"] = [entry.by_subset.mean() if isinstance(entry, LeftOut) else np.nan for entry in found]
    unknown = pd.Series([entry if isinstance(entry, str) else None for entry in found], runs.index, dtype="object")
    runs["reason"] = runs["reason"].fillna(unknown)
    return replace(frame, runs=runs, left_out=left_out, aside=frame.aside.iloc[:0])


def _part(entry: LeftOut | str, subsets: Collection[str], parts: dict[int, Examples]) -> LeftOut | str:
    """Return what of a run belongs to the subsets; the same examples have the same part, kept in ``parts``."""
    if isinstance(entry, str):
        return entry
    whole = entry.examples
    names = [whole.names[whole.subsets[places[0]]] for places in whole.strata]
    if lacking := [name for name in subsets if name not in names]:
        return f"not scored on {', '.join(lacking)}"
    kept = np.isin(whole.subsets, [whole.names.index(name) for name in subsets])
    if id(whole) not in parts:
        labels = None if whole.labels is None else whole.labels[kept]
        parts[id(whole)] = Examples(whole.subsets[kept], labels, whole.names)
    chosen = [name in subsets for name in names]
    return LeftOut(parts[id(whole)], entry.by_subset[chosen], entry.scores, entry.kinds[kept])
