"""The effects that a claim is about: differences of scores, or ratios of costs, each with its tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from parbench.reports.claims.claim import Claim, Measure
from parbench.reports.constant import DID_NOT_LEARN, has_learnt
from parbench.reports.frame import Frame
from parbench.reports.repeats import average_floor, floors, repeats
from parbench.reports.scored import LEVEL, Scored, score_column
from parbench.reports.statistics import Interval, NoiseFloor, Scores, difference_by_seed, estimate
from parbench.reports.statistics.margins import MarginTest, Question, exact_ratio, margin_test, ratio_test
from parbench.reports.statistics.power import NoiseSources, noise_sources
from parbench.reports.tables import unit_of, waited_for_cores
from parbench.tasks.metrics.units import Unit

QUESTIONS: Mapping[str, Question] = {
    "better": "above",
    "not_worse": "not_below",
    "reaches": "not_below",
    "equivalent": "within",
}
_COLUMNS: Mapping[Measure, str] = {
    "evaluation_seconds": "cost/evaluation_seconds",
    "parameters": "ledger/reported",
}


@dataclass(frozen=True)
class Effect:
    """A difference of mean scores, or a ratio of costs, of the row and one that it is compared with.

    Attributes:
        against: the other.
        where: a task, or the tasks that it is the mean of.
        value: ``None`` where ``reason`` says why.
        interval: of the value; ``None`` where it is exact, or there is none.
        unit: of the metric; ``None`` for a ratio.
        holds: p-value of the hypothesis that the claim does not hold here; 0 or 1 where the value is exact.
        fails: p-value of the hypothesis that it does.
        reason: why there are no p-values, or ``None``.
        sources: of the noise of a difference, for what it would take to see one.
        seeds: number of seeds.
        is_exact: whether the value is counted, not estimated.
    """

    against: str
    where: str
    value: float | None
    interval: Interval | None = None
    unit: Unit | None = None
    holds: float | None = None
    fails: float | None = None
    reason: str | None = None
    sources: NoiseSources | None = None
    seeds: int = 0
    is_exact: bool = False


# By task, the runs of the row and of the one that it is compared with.
Pairs = Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]


def score_effects(claim: Claim, against: str, pairs: Pairs, frame: Frame) -> Iterator[Effect]:
    """Yield the differences of scores, over the mean of the tasks or on each of them.

    Args:
        claim: of a kind that is about scores.
        against: the row that it is compared with.
        pairs: of both sides.
        frame: that the runs are from.
    """
    scored = {task: _scored(row, other, frame) for task, (row, other) in pairs.items()}
    units = {task: unit_of(row) for task, (row, _) in pairs.items()}
    noise = {task: _floor(row, frame) for task, (row, _) in pairs.items()}
    unlearnt = {task: _unlearnt(claim.row.method, against, sides, units[task]) for task, sides in scored.items()}
    if claim.over == "each" or len(pairs) == 1:
        for task, (row, other) in scored.items():
            both = (row.scores, other.scores)
            yield _difference(claim, against, task, both, units[task], noise[task], unlearnt[task])
        return
    where = f"the mean of {', '.join(pairs)}"
    if len(set(units.values())) > 1:
        yield Effect(against, where, None, reason="the tasks have metrics of different units, which have no mean")
        return
    sides = [_mean([pair[side].scores for pair in scored.values()]) for side in (0, 1)]
    known = {(task, ""): floor for task, floor in noise.items() if floor is not None}
    floor = average_floor(known, [(task, "") for task in pairs])
    reason = "; ".join(filter(None, unlearnt.values()))
    yield _difference(claim, against, where, (sides[0], sides[1]), next(iter(units.values())), floor, reason)


def cost_effects(claim: Claim, against: str, pairs: Pairs, measure: Measure, most: float) -> Iterator[Effect]:
    """Yield the ratios of costs, over the geometric mean of the tasks or on each of them.

    Args:
        claim: of the kind ``cheaper``.
        against: the row that it is compared with.
        pairs: of both sides.
        measure: what is compared.
        most: the largest ratio for which the claim holds.
    """
    found = {task: _ratios(row, other, measure) for task, (row, other) in pairs.items()}
    if claim.over == "each" or len(pairs) == 1:
        parts = dict(found)
    else:
        usable = [part for part in found.values() if isinstance(part, np.ndarray)]
        reason = next((part for part in found.values() if isinstance(part, str)), "")
        parts = {f"the mean of {', '.join(pairs)}": reason or np.exp(np.mean(np.log(usable), axis=0))}
    for where, ratios in parts.items():
        if isinstance(ratios, str):
            yield Effect(against, where, None, reason=ratios)
        else:
            counted = measure == "parameters"
            tested = exact_ratio(float(ratios.max()), most) if counted else ratio_test(ratios.tolist(), most)
            effect = _of_test(against, where, None, tested, len(ratios))
            if tested.interval is None:
                yield replace(effect, is_exact=tested.reason is None)
            else:
                yield replace(effect, sources=NoiseSources(float(np.log(ratios).var(ddof=1)), 0.0, 0.0, 1))


def _ratios(row: pd.DataFrame, other: pd.DataFrame, measure: Measure) -> np.ndarray | str:
    """Return the ratio of the costs for each seed, or why there is none."""
    sides = [runs.sort_values("seed") for runs in (row, other)]
    if measure.endswith("_seconds"):
        if any((runs["cost/shared_device"] == 1).any() for runs in sides):
            return "the runs shared an accelerator with others, so that their times measure no speed"
        if any(waited_for_cores(runs).any() for runs in sides):
            return "the runs waited for cores that other processes used, so that their times measure no speed"
        hardware = [name for name in row.columns if str(name).startswith("hardware/")]
        both = pd.concat(sides)[hardware]
        if any(len(both[name].unique()) > 1 for name in hardware):
            return "the runs were done on different hardware"
    costs = [np.asarray(cost, dtype="float64") for cost in _costs(sides, measure)]
    if any(not (np.isfinite(cost) & (cost > 0)).all() for cost in costs):
        return f"the {measure.replace('_', ' ')} of some run is not known, or is 0"
    return np.asarray(costs[0] / costs[1])


def _costs(sides: Sequence[pd.DataFrame], measure: Measure) -> list[pd.Series[float]]:
    """Return the costs of the runs of each side; memory is the accelerator's where every run has it."""
    if measure == "step_seconds":
        return [
            runs["cost/train_seconds"] / runs["cost/train_steps"].astype("float64").where(runs["cost/train_steps"] > 0)
            for runs in sides
        ]
    if measure == "memory":
        on_device = all(runs["cost/peak_device_bytes"].notna().all() for runs in sides)
        column = "cost/peak_device_bytes" if on_device else "cost/peak_process_bytes"
    else:
        column = _COLUMNS[measure]
    return [runs[column].astype("float64") for runs in sides]


def _scored(row: pd.DataFrame, other: pd.DataFrame, frame: Frame) -> tuple[Scored, Scored]:
    runs = pd.concat([row.assign(row="row"), other.assign(row="other")], ignore_index=True)
    found = score_column(runs, frame.left_out, ["row", "other"])
    first, second = found["row"], found["other"]
    if first.scores.reason is None and second.scores.reason is None and first.examples != second.examples:
        scores = first.scores
        empty = np.empty((0, len(scores.seeds)))
        first = replace(first, scores=replace(scores, deviations=empty, reason="not scored on the same examples"))
    return first, second


def _unlearnt(row: str, against: str, sides: tuple[Scored, Scored], unit: Unit) -> str:
    """Return which side did not learn, as on a leaderboard, where such a row is compared with nothing."""
    bounds = (unit.low, unit.high)
    names = [
        name
        for name, side in zip((row, against), sides, strict=True)
        if not has_learnt(estimate(side.scores, LEVEL, bounds), side.constant)
    ]
    return f"{' and '.join(names)} {DID_NOT_LEARN}: not better with confidence than a constant" if names else ""


def _floor(row: pd.DataFrame, frame: Frame) -> NoiseFloor | None:
    if frame.aside.empty:
        return None
    repeated = repeats(frame)
    first = row.iloc[0]
    same = repeated[(repeated["task"] == first["task"]) & (repeated["base_model"] == first["base_model"])]
    found = floors(same).values()
    return next(iter(found), None) if len(found) == 1 else None


def _mean(scores: Sequence[Scores]) -> Scores:
    """Return the mean of several tasks' scores, which have the same seeds and share no examples."""
    reason = next((one.reason for one in scores if one.reason), None)
    by_seed = np.mean([one.by_seed for one in scores], axis=0)
    deviations = np.empty((0, len(by_seed)))
    if reason is None:
        deviations = np.concatenate([one.deviations for one in scores]) / len(scores)
    return Scores("", scores[0].seeds, by_seed, deviations, sum(one.degrees for one in scores), reason)


def _difference(
    claim: Claim,
    against: str,
    where: str,
    scores: tuple[Scores, Scores],
    unit: Unit,
    floor: NoiseFloor | None,
    unlearnt: str,
) -> Effect:
    tested = margin_test(*scores, QUESTIONS[claim.kind], (claim.margin or 0.0) / unit.factor)
    effect = _of_test(against, where, unit, tested, len(scores[0].seeds))
    if tested.reason is None:
        effect = replace(effect, sources=noise_sources(difference_by_seed(*scores)))
    reason = unlearnt
    if not reason and floor is not None and claim.kind == "better":
        least = floor.smallest_difference(len(scores[0].seeds), len(scores[1].seeds))
        if least is not None and abs(tested.difference) < least:
            reason = "within the noise floor: repeated runs of the same seed differ by as much"
    return replace(effect, holds=None, fails=None, reason=reason) if reason else effect


def _of_test(against: str, where: str, unit: Unit | None, tested: MarginTest, seeds: int) -> Effect:
    return Effect(
        against, where, tested.difference, tested.interval, unit, tested.holds, tested.fails, tested.reason, seeds=seeds
    )


def effects_of(claim: Claim, against: str, pairs: Pairs, frame: Frame) -> list[Effect]:
    """Return the effects of a claim against one row.

    Args:
        claim: the claim.
        against: the row that it is compared with.
        pairs: the runs of both sides by task, one per seed of the set-up.
        frame: that the runs are from.
    """
    if claim.measure is not None and claim.factor is not None:
        return list(cost_effects(claim, against, pairs, claim.measure, claim.factor))
    return list(score_effects(claim, against, pairs, frame))
