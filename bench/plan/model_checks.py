"""What a run would be refused for because of its base model, method or training, found out when it is planned."""

from __future__ import annotations

from typing import Any

from parbench.bench.budget.count import Architecture, NeedsWeightsError
from parbench.bench.models.base_model import BaseModel
from parbench.bench.models.kind import OF_ANY_SIZE, fixed_image_size, frames_are_fixed, own_frames, positions
from parbench.bench.train.protocol import Protocol
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import QUANTISED, BasePrecision
from parbench.bench.util.errors import UserError
from parbench.methods.base import Method, Setting
from parbench.methods.probe import why_unsuited
from parbench.methods.quantisation import library
from parbench.tasks.base import Modality, Task


def check_model(model: BaseModel, revision: str, task: Task) -> int | None:
    """Check that a base model can be trained on a task; return the tokens that it takes, where they are limited.

    Of a model whose shape is known here nothing is downloaded. Otherwise its configuration, the names of its tensors
    and what prepares its inputs are read; its weights are not.

    Raises:
        UserError: its architecture is unknown or cannot have the task's head, its checkpoint does not fit, or its
            tokenizer or image processor is missing.
    """
    model.check(revision, task.head)
    config = model.config(revision)
    size = getattr(task.options, "image_size", None)
    fixed = fixed_image_size(config)
    if size is not None and fixed is not None and fixed != (size, size):
        raise UserError(
            f"image_size is {size}, and {model.name} takes images of {fixed[0]} x {fixed[1]} pixels only; leave "
            "image_size out"
        )
    frames, own = getattr(task.options, "frames", None), own_frames(config)
    if frames is not None and own is not None and frames_are_fixed(config) and frames != own:
        raise UserError(f"frames is {frames}, and {model.name} takes {own} frames only; leave frames out")
    tower = getattr(getattr(config, "vision_config", None), "model_type", None)
    if size is not None and task.modality is Modality.IMAGE_TEXT and tower not in OF_ANY_SIZE:
        raise UserError(
            f"image_size is {size}, and the vision tower of {model.name}, a {tower}, takes images as its own processor "
            f"makes them; use --set {task.name}.image_size=null"
        )
    if model.shape is not None:
        return positions(config) if task.modality.has_text else None
    model.skeleton(task.head)
    processor = model.processor(task.modality, revision)
    if not task.modality.has_text:
        return None
    return int(getattr(processor, "tokenizer", processor).model_max_length)


def refusal(method: Method[Any], setting: Setting, architecture: Architecture, chosen: bool) -> str | None:
    """Return why a method cannot be put on an architecture, tried without weights; ``None`` where nothing is known.

    Args:
        chosen: whether the user has set something of the method: then the command is refused, not the single run.

    Raises:
        UserError: it cannot, as the user has set it.
    """
    try:
        architecture.count(method, setting)
    except NeedsWeightsError:
        return None
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        if chosen:
            raise UserError(f"{method.name} on {architecture.base_model.name}: {reason}") from error
        return reason
    return None


def check_training(training: TrainingSettings, protocol: Protocol, method: Method[Any], task: Task) -> None:
    """Check that a method can be trained on a task with these settings.

    Raises:
        UserError: it cannot, or the protocol has another rule.
    """
    if training.select_epoch and protocol is Protocol.PAPER_BEST_EPOCH:
        raise UserError(
            f'protocol "{protocol}" chooses the epoch on the reported split and select_epoch on the selection '
            "split; use --set train.select_epoch=false, or --protocol strict"
        )
    if training.max_steps == 0 and protocol is Protocol.PAPER_BEST_EPOCH:
        raise UserError(
            f'protocol "{protocol}" chooses an epoch, and train.max_steps is 0; use --protocol strict to score the '
            "model as it is before training"
        )
    if training.gradient_checkpointing and not method.allows_checkpointing:
        raise UserError(
            f'"{method.name}" cannot be trained with recomputed activations; '
            "use --set train.gradient_checkpointing=false"
        )
    if training.packing and not (task.kind == "language_model" and method.rows_are_independent):
        raise UserError(
            f"train.packing puts several texts of a language model into a row, which {method.name} on "
            f"{task.name} cannot train on; use --set train.packing=false"
        )


def refused_precision(method: Method[Any], precision: BasePrecision, architecture: str, task: Task) -> str | None:
    """Return why a method does not work on quantised weights, tried on a tiny model; ``None`` where it does.

    Args:
        architecture: model type of the base model; the tiny model has its kind of layers, or else those of its head.

    Raises:
        UserError: what quantises is not installed.
    """
    if precision not in QUANTISED:
        return None
    library()
    by_head = "vit" if not task.modality.has_text else "bert" if task.head.is_new else "llama"
    reason = why_unsuited(method, precision, architecture, by_head)
    return f"{method.name}: {reason}" if reason else None
