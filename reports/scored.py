"""Scores of the rows of one column of a leaderboard, and comparisons of two of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.constant import constant_score
from parbench.reports.jackknife import LeftOut, score_methods
from parbench.reports.statistics import (
    Comparison,
    NoiseFloor,
    Scores,
    compare_scores,
    holm,
)
from parbench.tasks.metrics.units import RAW, Unit

LEVEL = 0.95


@dataclass(frozen=True)
class Scored:
    """The scores of a row in a column.

    Attributes:
        scores: by seed.
        examples: a token of the examples behind them: pairs of one token can be tested.
        constant: what a constant prediction scores on these examples; ``None`` where that is not known.
    """

    scores: Scores
    examples: Hashable
    constant: float | None = None


def score_column(runs: pd.DataFrame, left_out: Mapping[str, LeftOut | str], rows: Sequence[str]) -> dict[str, Scored]:
    """Return the scores of each row on one task.

    Args:
        runs: of one task and metric, all with a score.
        left_out: the frame's.
        rows: the order of the result.
    """
    found: dict[str, Scored] = {}
    usable: dict[int, dict[str, Mapping[int, LeftOut]]] = {}
    for row, part in runs.groupby("row"):
        known = _by_seed(part, left_out)
        if isinstance(known, str):
            found[str(row)] = _without_examples(str(row), part, known)
        else:
            token = id(next(iter(known.values())).examples)
            usable.setdefault(token, {})[str(row)] = known
    for token, methods in usable.items():
        scored = attempt(partial(score_methods, methods))
        if isinstance(scored, NotComputed):
            parts = {str(row): part for row, part in runs.groupby("row")}
            found |= {row: _without_examples(row, parts[row], scored.reason) for row in methods}
        else:
            shared = next(iter(next(iter(methods.values())).values())).examples
            constant = constant_score(str(runs["metric"].iloc[0]), shared)
            found |= {row: Scored(scores, token, constant) for row, scores in scored.items()}
    return {row: found[row] for row in rows if row in found}


def _by_seed(runs: pd.DataFrame, left_out: Mapping[str, LeftOut | str]) -> dict[int, LeftOut] | str:
    """Return by seed how the scores of one row on one task vary with the examples, or why that is not known."""
    if runs["seed"].duplicated().any():
        return "several runs of one seed"
    if runs["unchecked"].notna().any():
        return "the scores could not be recomputed from the per-example rows"
    known: dict[int, LeftOut] = {}
    for seed, run_id in zip(runs["seed"], runs["run_id"], strict=True):
        entry = left_out[run_id]
        if isinstance(entry, str):
            return entry
        known[int(seed)] = entry
    if len({id(entry.examples) for entry in known.values()}) > 1:
        return "the runs were not scored on the same examples"
    return known


def _without_examples(row: str, runs: pd.DataFrame, reason: str) -> Scored:
    part = runs.sort_values(["seed", "run_id"])
    seeds = tuple(int(seed) for seed in part["seed"])
    return Scored(Scores(row, seeds, part["score"].to_numpy(), np.empty((0, len(seeds))), 0, reason), None)


def compare_pair(a: Scored, b: Scored, floor: NoiseFloor | None = None, unit: Unit = RAW) -> Comparison:
    """Compare two rows on one task; not corrected.

    Args:
        a: the one.
        b: the other.
        floor: what chance alone changes, where it is known.
        unit: of their scores.
    """
    first = a.scores
    if first.reason is None and b.scores.reason is None and a.examples != b.examples:
        first = replace(first, deviations=np.empty((0, len(first.seeds))), reason="not scored on the same examples")
    found = attempt(lambda: compare_scores(first, b.scores, LEVEL, (unit.low, unit.high)))
    if isinstance(found, NotComputed):
        found = _uncompared(first, b.scores, found.reason)
    return found if floor is None else replace(found, noise_floor=floor.smallest_difference(found.n_a, found.n_b))


def _uncompared(a: Scores, b: Scores, reason: str) -> Comparison:
    difference = float(a.by_seed.mean() - b.by_seed.mean())
    numbers = (len(a.seeds), len(b.seeds), a.seeds == b.seeds)
    return Comparison(a.method, b.method, difference, *numbers, None, None, None, reason)


def corrected(pairs: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return comparisons with their p-values corrected by Holm as one family."""
    adjusted = holm([pair.p_value for pair in pairs])
    return tuple(replace(pair, adjusted_p_value=p_value) for pair, p_value in zip(pairs, adjusted, strict=True))
