"""Scores a model: after its epochs where one is chosen, and on the splits of a run once training has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from parbench.bench.train.best_epoch import FOLDER, BestEpoch
from parbench.bench.train.build import AdaptedModel
from parbench.bench.train.prepare import PreparedData
from parbench.bench.train.protocol import Protocol, Purpose, ReportedSplit, SplitData
from parbench.bench.train.resolved_run import ResolvedRun
from parbench.bench.train.train import Trained
from parbench.tasks.base import Evaluation

# Called with the name of a split, the metric that decides and all metrics, when an epoch is scored on that split.
OnEpoch = Callable[[str, str, Mapping[str, float]], None]


@dataclass
class Scorer:
    """Applies an adapted model to splits.

    Attributes:
        adapted: the model.
        seconds: wall clock of all scoring so far.
    """

    adapted: AdaptedModel
    seconds: float = 0.0

    def predict(self, by: Evaluation, split: SplitData) -> pd.DataFrame:
        """Return the per-example rows of a split, each under its system prompt where the method reads them."""
        began = time.perf_counter()
        predictor, prompts = self.adapted.predictor, self.adapted.prompts
        if prompts:
            rows = prompts.predicted(by, predictor, split.rows, split.inputs)
        else:
            rows = by.predict(predictor, split.rows, split.inputs)
        self.seconds += time.perf_counter() - began
        return rows


@dataclass(frozen=True)
class EvaluationScores:
    """The metrics of a run.

    Attributes:
        predictions: per-example rows of the reported split; of the selection split in a run whose purpose is selection.
        metrics: on the reported split; empty in a run whose purpose is selection.
        selection_metrics: on the selection split.
        seconds: wall clock of scoring the split of ``predictions``.
    """

    predictions: pd.DataFrame
    metrics: dict[str, float]
    selection_metrics: dict[str, float]
    seconds: float


def epoch_chosen_on(run: ResolvedRun) -> str | None:
    """Return the split on which the protocol or the training chooses an epoch, or ``None`` if the last one is kept."""
    if run.spec.purpose == Purpose.REPORT and run.spec.protocol == Protocol.PAPER_BEST_EPOCH:
        return "reported"
    return "selection" if run.training.select_epoch else None


def best_epoch(
    run: ResolvedRun,
    scorer: Scorer,
    data: PreparedData,
    reported: ReportedSplit,
    workspace: Path,
    on_epoch: OnEpoch,
) -> BestEpoch | None:
    """Return what scores every epoch and keeps the best one, or ``None`` if the run keeps the last epoch.

    Args:
        run: the run.
        scorer: applies the model.
        data: the data of the run.
        reported: the reported split of the run.
        workspace: folder for the weights of the best epoch.
        on_epoch: called when an epoch is scored.
    """
    chosen_on = epoch_chosen_on(run)
    if chosen_on is None:
        return None
    adapted, on_reported = scorer.adapted, chosen_on == "reported"
    split = reported.every_epoch() if on_reported else data.selection
    by: Evaluation = adapted.task if on_reported else adapted.task.selected_by

    def score() -> Mapping[str, float]:
        scores = by.score(scorer.predict(by, split))
        on_epoch(chosen_on, by.primary, scores)
        return scores

    return BestEpoch(
        split=chosen_on,
        primary=by.primary,
        score=score,
        model=adapted.model,
        parameters=[parameter for group in adapted.groups for parameter in group.parameters],
        folder=workspace / FOLDER,
        schedule_share=run.method.schedule_share(run.setting),
        patience=None if on_reported else run.training.patience,
    )


def evaluate(
    run: ResolvedRun, scorer: Scorer, data: PreparedData, reported: ReportedSplit, trained: Trained
) -> EvaluationScores:
    """Score the trained model on the selection split and, unless the run chooses settings, on the reported split."""
    task = scorer.adapted.task
    predictions, seconds = _timed(scorer, task.selected_by, data.selection)
    selection_metrics = dict(task.selected_by.score(predictions))
    if run.spec.purpose == Purpose.SELECTION:
        return EvaluationScores(predictions, {}, selection_metrics, seconds)
    predictions, seconds = _timed(scorer, task, reported.after(trained))
    return EvaluationScores(predictions, dict(task.score(predictions)), selection_metrics, seconds)


def _timed(scorer: Scorer, by: Evaluation, split: SplitData) -> tuple[pd.DataFrame, float]:
    before = scorer.seconds
    return scorer.predict(by, split), scorer.seconds - before


def save_adapter(run: ResolvedRun, adapted: AdaptedModel, folder: Path) -> None:
    """Write the adapter of a trained model with the weights that were scored."""
    run.method.save(adapted.model, folder)
    run.method.deliver(adapted.model, folder)
