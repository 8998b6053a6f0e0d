"""Scores a model after every epoch of its training, and keeps the weights of the best one."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FOLDER = "epochs"
_CURVE, _WEIGHTS = "curve.json", "best.safetensors"


@dataclass(frozen=True)
class Epoch:
    """The scores after one epoch.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the training split; the last one may be cut short.
        metrics: by name.
    """

    step: int
    epoch: float
    metrics: dict[str, float]


@dataclass
class BestEpoch:
    """Keeps the epoch with the highest score, the first of equals; NaN is below all other scores.

    Everything is kept in one folder, of which every checkpoint has a copy: a resumed training chooses among the same
    epochs as an uninterrupted one.

    Attributes:
        split: name of the split that is scored.
        primary: the metric that decides.
        score: scores the model on that split.
        model: what is trained.
        parameters: all that the optimiser may change. Buffers, such as BatchNorm's statistics, are kept with them.
        folder: where the best is kept.
        schedule_share: share of all steps taken by the method's own schedule, see
            `parbench.methods.base.Method.schedule_share`. An epoch that ends before is scored, but never chosen.
        patience: stop after this many epochs in a row without a new best score; ``None`` never stops early. Computed
            from the curve alone, so that a resumed training stops where an uninterrupted one does.
    """

    split: str
    primary: str
    score: Callable[[], Mapping[str, float]]
    model: nn.Module
    parameters: Iterable[nn.Parameter]
    folder: Path
    schedule_share: float = 0.0
    patience: int | None = None
    curve: list[Epoch] = field(default_factory=list, init=False)
    _first_step: int = field(default=0, init=False)

    @property
    def best(self) -> Epoch:
        """The best epoch."""
        return max(self._candidates, key=self._rank)  # the first of equals

    @property
    def last(self) -> Epoch:
        """The scores when training ended."""
        return self.curve[-1]

    @property
    def is_over(self) -> bool:
        """Whether the best epoch is too long ago."""
        if self.patience is None or not self._candidates:
            return False
        return len(self.curve) - 1 - self.curve.index(self.best) >= self.patience

    @property
    def history(self) -> list[dict[str, float]]:
        """The curve as entries of a run's history, metrics named ``split/metric``."""
        return [
            {
                "step": at.step,
                "epoch": at.epoch,
                **{f"{self.split}/{name}": value for name, value in at.metrics.items()},
            }
            for at in self.curve
        ]

    def begin(self, checkpoint: Path | None, steps: int) -> None:
        """Start a training of so many steps with what a checkpoint holds, or with nothing."""
        self._first_step = math.ceil(self.schedule_share * steps)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.curve = []
        if checkpoint is not None and (checkpoint / FOLDER).is_dir():
            shutil.copytree(checkpoint / FOLDER, self.folder)
            self.curve = [Epoch(**entry) for entry in json.loads((self.folder / _CURVE).read_text(encoding="utf-8"))]

    def after_epoch(self, step: int, epoch: float) -> None:
        """Score the model, and keep its weights if the score is the best so far."""
        self.curve.append(Epoch(step, epoch, dict(self.score())))
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._candidates and self.best is self.last:
            save_file({name: p.detach().cpu().contiguous() for name, p in self._kept()}, self.folder / _WEIGHTS)
        entries = [vars(entry) for entry in self.curve]
        (self.folder / _CURVE).write_text(json.dumps(entries), encoding="utf-8")

    def into_checkpoint(self, checkpoint: Path) -> None:
        """Copy the curve and the best epoch into a checkpoint."""
        if self.curve:
            shutil.copytree(self.folder, checkpoint / FOLDER, dirs_exist_ok=True)

    def restore(self) -> None:
        """Give the model the weights of its best epoch."""
        weights = load_file(self.folder / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in self._kept():
                parameter.copy_(weights[name])

    @property
    def _candidates(self) -> list[Epoch]:
        return [epoch for epoch in self.curve if epoch.step >= self._first_step]

    def _kept(self) -> list[tuple[str, torch.Tensor]]:
        known = {id(parameter) for parameter in self.parameters}
        # Not the model's own state_dict, which may omit or rename entries.
        persistent = nn.Module.state_dict(self.model).keys()
        buffers = [(name, buffer) for name, buffer in self.model.named_buffers() if name in persistent]
        return [(name, p) for name, p in self.model.named_parameters() if id(p) in known] + buffers

    def _rank(self, epoch: Epoch) -> float:
        value = epoch.metrics[self.primary]
        return -math.inf if math.isnan(value) else value
