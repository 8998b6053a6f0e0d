"""How much general text a run forgets: its likelihood under the base model, measured once, and under the tuned one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

from torch import nn

from parbench.bench.record.run_spec import RunSpec, digest
from parbench.bench.train.resolved_run import ResolvedRun
from parbench.bench.util.files import write_atomically
from parbench.tasks.data.package import cache_folder
from parbench.tasks.inference import Predictor
from parbench.tasks.retention import NEUTRAL_SYSTEM_PROMPT, measure


def measure_retention(run: ResolvedRun, predictor: Predictor) -> dict[str, float]:
    """Return the mean natural log-likelihood of a token of general text, ``before`` and ``after`` the training.

    The result is empty if the run does not measure it. A method that reads a system prompt gets
    `parbench.tasks.retention.NEUTRAL_SYSTEM_PROMPT`, which is noted in the record.
    """
    general = run.general_text
    if general is None:
        return {}
    text, prompt = general.read(), None
    if run.method.reads_system_prompt:
        prompt = run.method.prompt_encoder(run.setting, predictor.processor)(NEUTRAL_SYSTEM_PROMPT)
        # A note of the record, because methods that read no system prompt are measured without one.
        warnings.warn(f"what is forgotten was measured on {general.describe(reads_system_prompt=True)}", stacklevel=2)
    after = _likelihood(predictor.model, predictor, text, prompt)
    return {"before": _of_base_model(run.spec, predictor, text), "after": after}


def _of_base_model(spec: RunSpec, predictor: Predictor, text: str) -> float:
    """Return the likelihood under the base model, which is cached: it is the same for every method and seed."""
    key = {
        "model": spec.model_revision,
        "text": spec.retention,
        "precision": predictor.precision,
        "device": predictor.device.type,
        "code": spec.harness_code,
    }
    path = cache_folder() / "retention" / f"{digest(key)[:16]}.json"
    if path.is_file():
        return float(json.loads(path.read_text(encoding="utf-8"))["log_likelihood"])
    if predictor.base is None:
        raise ValueError("the predictor does not know its base model")
    value = _likelihood(predictor.base(), predictor, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({**key, "log_likelihood": value}))
    return value


def _likelihood(model: nn.Module, predictor: Predictor, text: str, system_prompt: Sequence[int] | None = None) -> float:
    return measure(
        model,
        getattr(predictor.processor, "tokenizer", predictor.processor),
        text,
        predictor.device,
        predictor.precision,
        predictor.batch_size,
        system_prompt,
    )
