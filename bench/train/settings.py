"""How a run trains: the settings that every method of a comparison shares."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from parbench.bench.util.elsewhere import Elsewhere

_RATES = "methods have learning rates of their own, as lora.learning_rate"
_LOGGED = "the loss is logged some fifty times in each run, in its history.jsonl"
_HALF = "give precision=bfloat16, the only one beside float32"
_ELSEWHERE = Elsewhere(
    renamed={
        "num_train_epochs": "epochs",
        "num_epochs": "epochs",
        "max_train_steps": "max_steps",
        "per_device_train_batch_size": "batch_size",
        "train_batch_size": "batch_size",
        "micro_batch_size": "batch_size",
        "per_device_eval_batch_size": "evaluation_batch_size",
        "eval_batch_size": "evaluation_batch_size",
        "gradient_accumulation_steps": "gradient_accumulation",
        "max_seq_length": "max_length",
        "cutoff_len": "max_length",
        "num_warmup_steps": "warmup_steps",
        "lr_scheduler_type": "schedule",
        "label_smoothing_factor": "label_smoothing",
        "max_grad_norm": "max_gradient_norm",
        "save_steps": "checkpoint_steps",
        "load_best_model_at_end": "select_epoch",
        "early_stopping_patience": "patience",
        "group_by_length": "length_groups",
    },
    explained={
        "lr": _RATES,
        "learning_rate": _RATES,
        "fp16": _HALF,
        "bf16": _HALF,
        "logging_steps": _LOGGED,
        "eval_steps": "select_epoch scores the selection split after every epoch",
        "seed": "seeds are given with --seeds",
        "optim": "every method is trained with AdamW",
        "num_fewshot": "it is an option of a task, as commonsense.num_fewshot",
    },
)

# A resumed training equals an uninterrupted one, so that the checkpoints do not decide.
_NOT_DECIDING = ("checkpoint_steps",)


class TrainingSettings(BaseModel):
    """Hyper-parameters of the training loop, the same for every method unless a paper's preset differs."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    elsewhere: ClassVar[Elsewhere] = _ELSEWHERE

    max_steps: NonNegativeInt | None = Field(
        default=None, description="optimiser steps; or give epochs; 0 scores the model as it is before training"
    )
    epochs: PositiveFloat | None = Field(default=None, description="passes over the training split; or give max_steps")
    batch_size: PositiveInt = Field(default=32, description="examples per forward pass")
    gradient_accumulation: PositiveInt = Field(default=1, description="forward passes per optimiser step")
    evaluation_batch_size: PositiveInt = 64
    max_length: PositiveInt = Field(default=128, description="tokens; longer inputs are truncated")
    warmup_ratio: float = Field(
        default=0.06, ge=0.0, le=1.0, description="share of the steps with rising learning rate"
    )
    warmup_steps: NonNegativeInt | None = Field(default=None, description="their number, in place of the share")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="of the learning rate after warm-up: falling to zero, or staying"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="share of the target that is spread evenly over all classes or tokens"
    )
    weight_decay: NonNegativeFloat = Field(default=0.0, description="AdamW's, on every trained parameter")
    max_gradient_norm: NonNegativeFloat = Field(default=1.0, description="gradients are clipped to it; 0 does not clip")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the forward pass (autocast)")
    length_groups: PositiveInt | None = Field(
        default=None,
        description="most passes that a batch is split into by length, with the same gradient; default: 4 on a CPU",
    )
    packing: bool = Field(
        default=False, description="several texts in a row instead of padding (language models); the same loss"
    )
    gradient_checkpointing: bool = False
    checkpoint_steps: PositiveInt = Field(default=50, description="optimiser steps between checkpoints to resume from")

    select_epoch: bool = Field(
        default=False, description="score the selection split after every epoch and keep the best epoch's weights"
    )
    patience: PositiveInt | None = Field(
        default=None, description="stop after so many epochs in a row that are not the best so far; needs select_epoch"
    )

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide the result of a training, as JSON values.

        A share of warm-up beside a number of steps decides nothing, and is the default: it makes no other run.
        """
        values = self.model_dump(mode="json", exclude=set(_NOT_DECIDING))
        if self.warmup_steps is not None:
            values["warmup_ratio"] = type(self).model_fields["warmup_ratio"].default
        return values

    def not_deciding(self) -> dict[str, Any]:
        """Return the settings that do not: those of how a training is carried out."""
        return self.model_dump(mode="json", include=set(_NOT_DECIDING))

    def steps(self, per_epoch: int) -> int:
        """Return the optimiser steps of a training.

        Args:
            per_epoch: those of a pass over the training split.
        """
        if self.max_steps is not None:
            return self.max_steps
        return max(1, round((self.epochs or 0.0) * per_epoch))

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give either max_steps or epochs")
        if self.patience is not None and not self.select_epoch:
            raise ValueError("patience stops by the epochs' scores; give select_epoch as well")
        if self.max_steps == 0 and self.select_epoch:
            raise ValueError("there is no epoch to select in 0 steps; leave select_epoch out")
        return self
