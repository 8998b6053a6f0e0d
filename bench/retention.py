"""What a run forgets of general text: measured on the base model once, and on every tuned one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.planned import PlannedRun
from bench.record import digest
from bench.store import write_atomically
from tasks.data.package import cache_folder
from tasks.retention import measure

if TYPE_CHECKING:
    from torch import nn

    from tasks.inference import Predictor


def retention_of(run: PlannedRun, predictor: Predictor) -> dict[str, float]:
    """Return the mean natural log-likelihood of a token of general text, ``before`` and ``after`` the training.

    Nothing where the run does not ask for it.
    """
    if run.spec.retention is None:
        return {}
    text = run.origin.general_text().read()
    return {"before": _of_base(run, predictor, text), "after": _likelihood(predictor.model, predictor, text)}


def _of_base(run: PlannedRun, predictor: Predictor, text: str) -> float:
    """Return the base model's, which is the same for every method and seed: worked out once, and kept."""
    what = {
        "model": run.spec.model_revision,
        "text": run.spec.retention,
        "precision": predictor.precision,
        "device": predictor.device.type,
        "code": run.spec.harness_code,
    }
    path = cache_folder() / "retention" / f"{digest(what)[:16]}.json"
    if path.is_file():
        return float(json.loads(path.read_text(encoding="utf-8"))["log_likelihood"])
    if predictor.base is None:
        raise ValueError("the predictor does not know its base model")
    value = _likelihood(predictor.base(), predictor, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({**what, "log_likelihood": value}))
    return value


def _likelihood(model: nn.Module, predictor: Predictor, text: str) -> float:
    return measure(model, predictor.processor, text, predictor.device, predictor.precision, predictor.batch_size)
