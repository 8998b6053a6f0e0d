"""What a method costs on the base model that is asked about: predicted, counted, or taken from records and profiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from parbench.bench.budget.count import Architecture
from parbench.bench.models.base_model import BaseModel
from parbench.bench.profile.measurement import STEP
from parbench.bench.profile.prediction import PredictedMemory, predicted_or_why
from parbench.bench.profile.result import Profile
from parbench.bench.profile.workload import Candidate, Workload
from parbench.bench.record.run_spec import Json
from parbench.bench.util.base_precision import FLOAT32, BasePrecision
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.reports.cost_ratios import cost_ratios
from parbench.reports.hardware import machine_in_words
from parbench.reports.profile.summary import rows_of
from parbench.reports.recommend.options import Amount, Costs, StepTime
from parbench.reports.recommend.quality import Quality
from parbench.tasks.base import Head


@dataclass
class TargetCosts:
    """The costs of methods on one base model; each prediction is made once.

    Attributes:
        base_model: what is adapted.
        asked: how the user named it: a name, a hub id or a folder.
        head: of the task.
        batch: examples per step; ``None`` takes those of the records.
        length: tokens per example; ``None`` takes the most that the records allow.
        on_device: whether training is on an accelerator, whose memory has the tensors alone.
        start_bytes: resident memory of a process that has imported the libraries.
        steps: by row, see `steps`.
    """

    base_model: BaseModel
    asked: str
    head: Head
    batch: int | None = None
    length: int | None = None
    on_device: bool = False
    start_bytes: int = 0
    steps: Mapping[str, StepTime] = field(default_factory=dict)
    _architecture: Architecture | None = None
    _known: dict[str, PredictedMemory | str] = field(default_factory=dict)

    def of(self, row: str, method: str, setting: Json, training: Json, precision: BasePrecision = FLOAT32) -> Costs:
        """Return the costs of a method with a setting.

        Args:
            row: its row.
            method: its name.
            setting: its hyper-parameters, as JSON has them.
            training: settings of the training, likewise.
            precision: of the base model's weights.
        """
        found = self.memory(method, setting, training, precision)
        memory, why = (None, found) if isinstance(found, str) else (found, "")
        return Costs(memory, self.steps.get(row), self._adapter(method, setting), why)

    def memory(self, method: str, setting: Json, training: Json, precision: BasePrecision) -> Amount | str:
        """Return the memory of training, or why it is not known; the arguments are those of `of`."""
        predicted = self._memory(method, setting, self.workload(training, precision))
        return predicted if isinstance(predicted, str) else self._whole(predicted)

    def workload(self, training: Json, precision: BasePrecision) -> Workload:
        """Return the workload that memory is predicted of."""
        return Workload.of_training(self.asked, training, precision, self.batch, self.length)

    def _whole(self, predicted: PredictedMemory) -> Amount:
        value = predicted.peak if self.on_device else self.start_bytes + predicted.process
        return Amount(float(value), "predicted")

    def _memory(self, method: str, setting: Json, workload: Workload) -> PredictedMemory | str:
        key = repr((method, sorted(setting.items()), workload))
        if key not in self._known:
            self._known[key] = predicted_or_why(Candidate(method, method, setting, method=method), workload)
        return self._known[key]

    def _adapter(self, method: str, setting: Json) -> Amount | None:
        self._architecture = self._architecture or Architecture(self.base_model, self.head)
        try:
            found = find_method(method).method
            counts = self._architecture.count(found, found.setting_type.model_validate(setting))
        except (UserError, ValueError):  # of a method that is not installed here, or that this model refuses
            return None
        return Amount(float(counts.stored_bytes), "counted")


def steps(
    found: Quality, baseline: str, base_model: str, task: str, profiles: Sequence[Profile]
) -> Mapping[str, StepTime]:
    """Return for each row the time of a step.

    Args:
        found: the rows and their evidence.
        baseline: one of the rows.
        base_model: what is asked about; a profile of it comes before the records.
        task: likewise.
        profiles: measured costs.
    """
    known: dict[str, StepTime] = {}
    frame = pd.DataFrame([cell for one in found.evidence for cell in one.cells.values()])
    names = [one.name for one in found.evidence for _ in one.cells]
    own = [one for one in found.evidence if (one.task, one.base_model) == (task, base_model)]
    if baseline in set(frame["row"]):
        for row, ratio in cost_ratios(frame.assign(column=names), baseline).items():
            if ratio.time is not None:
                measured = (_seconds(own[0].cells[row]), own[0].hardware) if own else (None, "")
                known[row] = StepTime(Amount(ratio.time, "measured" if own else "extrapolated"), *measured)
    for profile in profiles:
        if profile.base_model == base_model:
            known |= _profiled(found, baseline, profile)
    return known


def _seconds(cell: pd.Series[Any]) -> float | None:
    value = cell["train_seconds_per_step"]
    return None if pd.isna(value) else float(value)


def _profiled(found: Quality, baseline: str, profile: Profile) -> Mapping[str, StepTime]:
    """Return the steps of a profile, of rows with the same method and size."""
    seconds: dict[str, float] = {}
    for row in found.rows:
        _, cell = found.cell_of(row)
        setting = json.loads(str(cell["setting"]))
        for candidate in rows_of(profile):
            name, _, size = candidate.size.partition("=")
            same = candidate.candidate.method == cell["method"] and (not name or str(setting.get(name)) == size)
            step = candidate.seconds(STEP)
            if same and step is not None:
                seconds.setdefault(row, step)
    if baseline not in seconds:
        return {}
    there = machine_in_words(profile.hardware)
    return {row: StepTime(Amount(step / seconds[baseline], "measured"), step, there) for row, step in seconds.items()}
