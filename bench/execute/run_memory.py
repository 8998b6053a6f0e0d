"""How much memory a run's process will take on a CPU, until a run of the same configuration was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.profile.prediction import PredictedMemory, predicted_or_why
from parbench.bench.profile.workload import Candidate, Workload, kind_of
from parbench.bench.record.run_spec import canonical
from parbench.bench.util.base_precision import BasePrecision

# Of a process before it has a model; and what scoring takes, whose batches are larger and keep nothing.
START_BYTES = 2**30
SCORING_BYTES = 2**30
# Copies of the weights at most: while they are loaded, or with the gradients and both moments of AdamW.
WEIGHT_COPIES = 4


@dataclass
class MemoryEstimates:
    """Estimates the memory of runs; each method on each workload is predicted once, which takes seconds."""

    _predicted: dict[str, PredictedMemory | str] = field(default_factory=dict)

    def of(self, run: PlannedRun) -> int | None:
        """Return the most bytes that a run's process may take; ``None`` if nothing is known.

        They are predicted, see `parbench.bench.profile.prediction`, or where that is not possible four times the size
        of the weights, if these are local.
        """
        training = self._training(run)
        if training is None:
            training = from_weights(run)
        return None if training is None else START_BYTES + SCORING_BYTES + training

    def _training(self, run: PlannedRun) -> int | None:
        if not is_predictable(run):
            return None
        spec = run.spec
        work = Workload.of_training(run.asked.base_model, spec.training, cast(BasePrecision, spec.base_precision))
        key = canonical([spec.method, spec.setting, asdict(work)])
        if key not in self._predicted:
            candidate = Candidate(spec.method, run.asked.method, spec.setting, method=spec.method)
            self._predicted[key] = predicted_or_why(candidate, work)
        found = self._predicted[key]
        return None if isinstance(found, str) else found.process


def is_predictable(run: PlannedRun) -> bool:
    """Return whether a training step has the form that is predicted: the base model under the head that is its own."""
    kind, head = kind_of(run.base_model), run.task.head
    same = head.auto_class == kind.auto_class and run.task.modality.value == kind.modality
    return same and kind.modality in ("text", "image") and not run.method.reads_system_prompt


def from_weights(run: PlannedRun) -> int | None:
    """Return a bound from the size of the weights; ``None`` if they are not local."""
    folder = Path(run.base_model.weights.location())
    sizes = [file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern)]
    return WEIGHT_COPIES * sum(sizes) if sizes else None
