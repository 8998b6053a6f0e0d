"""What a run forgets of general text: measured on the base model once, and on every tuned one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import digest
from parbench.bench.util.files import write_atomically
from parbench.tasks.data.package import cache_folder
from parbench.tasks.retention import NEUTRAL_SYSTEM_PROMPT, measure

if TYPE_CHECKING:
    from torch import nn

    from parbench.tasks.inference import Predictor


def retention_of(run: PlannedRun, predictor: Predictor) -> dict[str, float]:
    """Return the mean natural log-likelihood of a token of general text, ``before`` and ``after`` the training.

    Nothing where the run does not ask for it. A method that reads a system prompt is told
    `parbench.tasks.retention.NEUTRAL_SYSTEM_PROMPT`, and the record has a note that says so.
    """
    if run.spec.retention is None:
        return {}
    general = run.origin.general_text()
    text, prompt = general.read(), None
    if run.method.reads_system_prompt:
        prompt = run.method.prompt_encoder(run.setting, predictor.processor)(NEUTRAL_SYSTEM_PROMPT)
        # A note of the record: the numbers of methods that read none were come to otherwise.
        warnings.warn(f"what is forgotten was measured on {general.describe(reads_system_prompt=True)}", stacklevel=2)
    after = _likelihood(predictor.model, predictor, text, prompt)
    return {"before": _of_base(run, predictor, text), "after": after}


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


def _likelihood(model: nn.Module, predictor: Predictor, text: str, system_prompt: Sequence[int] | None = None) -> float:
    return measure(
        model,
        predictor.processor,
        text,
        predictor.device,
        predictor.precision,
        predictor.batch_size,
        system_prompt,
    )
