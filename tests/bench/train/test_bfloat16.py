"""Every registered method trains on a CPU under ``train.precision=bfloat16``, as in float32 but for rounding."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from parbench.bench.train.movement import FEW_STEPS, Movement
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.train import Job, train
from parbench.methods import METHODS, find_method
from parbench.methods.from_peft.catalogue import KNOWN
from parbench.methods.from_peft.known import KnownTuner
from parbench.methods.testing.check import make_subject
from parbench.methods.testing.models import TINY_MODELS, WIDER_MODELS, as_batch, loss
from parbench.methods.testing.subject import Subject

STEPS = FEW_STEPS + 2
# Eight bits of mantissa, through the few layers of the model, in a loss of about one, or five for a language model.
ROUNDING = 0.05
TRAINED = [name for name in METHODS if not KNOWN.get(name, KnownTuner()).refused]


def subject_of(name: str, workspace: Path) -> Subject:
    """The method on the first tiny model that it can be applied to."""
    method = find_method(name).method
    subjects = (
        make_subject(method, None, [TINY_MODELS[tiny], WIDER_MODELS[tiny]], workspace)
        for tiny in ("bert", "llama", "vit")
    )
    return next(subject for subject in subjects if subject.obstacle is None)


def losses(subject: Subject, precision: str, workspace: Path) -> list[float]:
    """The loss of every step, after a check that the adapter has moved."""
    adapted = subject.adapt()
    movement = Movement(adapted.model, adapted.groups)
    seen: list[float] = []
    job = Job(
        model=adapted.model,
        # At their own rates some methods diverge on so small a model, and rounding then shows.
        groups=[replace(group, learning_rate=group.learning_rate / 10) for group in adapted.groups],
        callbacks=copy.deepcopy(subject.method.callbacks(subject.setting)),
        task=SimpleNamespace(loss=lambda logits, labels, label_smoothing: loss(logits, labels)),  # type: ignore[arg-type]
        data=subject.rows,  # type: ignore[arg-type]
        collate=as_batch,
        settings=TrainingSettings(max_steps=STEPS, batch_size=4, warmup_ratio=0.0, precision=precision),  # type: ignore[arg-type]
        seed=1,
        device=torch.device("cpu"),
        workspace=workspace,
        on_step=lambda done, total, value: seen.append(value),
        rows_are_independent=False,
    )
    train(job)
    movement.check(STEPS, may_rest=("",))
    assert all(parameter.dtype == torch.float32 for group in adapted.groups for parameter in group.parameters)
    return seen


def in_time(name: str) -> Any:
    """All methods together take minutes."""
    return pytest.param(name, marks=() if name in ("lora", "loca", "fourierft_fast") else pytest.mark.slow)


@pytest.mark.parametrize("name", map(in_time, TRAINED))
def test_every_method_trains_in_bfloat16(name: str, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    subject = subject_of(name, tmp_path)
    for precision in ("float32", "bfloat16"):
        found[precision] = losses(subject, precision, tmp_path / precision)
    assert len(found["bfloat16"]) == STEPS
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=ROUNDING)
