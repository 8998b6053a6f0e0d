"""What is measured: a base model, the size of its batches, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import BasePrecision
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.models.base_model import BaseModel
    from parbench.methods.base import Method, Setting

Dtype = BasePrecision
Precision = Literal["float32", "bfloat16"]
Part = Literal["training", "evaluation", "generation", "merging"]

ALL_PARTS: tuple[Part, ...] = ("training", "evaluation", "generation", "merging")
# The name of the reference that is not a method, see `parbench.bench.profile`.
FLOOR = "frozen floor"
# What LoRA-Gen's paper measures its latency with (arXiv:2506.11638, Table 13): 200 tokens of instruction.
SYSTEM_PROMPT_TOKENS = 200


@dataclass(frozen=True)
class Workload:
    """The conditions that all candidates share.

    Attributes:
        base_model: its name.
        batch_size: examples per step.
        length: tokens per example, with those of its image where it has one; of no meaning for images or videos alone.
        device: where.
        dtype: of the base weights; all that is optimised is in float32: adapters, heads, and weights of the base model
            that a method trains. For ``int8`` and ``nf4`` see `parbench.bench.util.base_precision`.
        random_weights: build the architecture without a download; its cost does not depend on the weights.
        padding: mean share of a batch's tokens that are padding.
        at: how far the training is, as a share, when it is measured: some methods train different things over time.
            At the default LoCA has placed its locations, and AdaLoRA still cuts ranks.
        seed: of batches, random weights and adapters.
        system_prompt_tokens: of each system prompt, for methods that read one beside an example: see
            `parbench.methods.base.Method.reads_system_prompt`.
        precision: of the forward pass, which in ``bfloat16`` runs under autocast; default: ``bfloat16`` where the base
            weights are, else ``float32``.
        gradient_checkpointing: the backward pass computes activations again instead of keeping them.
    """

    base_model: str
    batch_size: int
    length: int
    device: str
    dtype: Dtype = "float32"
    random_weights: bool = True
    padding: float = 0.0
    at: float = 0.4
    seed: int = 0
    system_prompt_tokens: int = SYSTEM_PROMPT_TOKENS
    precision: Precision | None = None
    gradient_checkpointing: bool = False

    @classmethod
    def of_training(
        cls,
        base_model: str,
        training: Mapping[str, Any],
        weights: BasePrecision,
        batch_size: int | None = None,
        length: int | None = None,
    ) -> Workload:
        """Return the workload of a run's training on a CPU.

        Args:
            base_model: its name.
            training: settings of the training, as JSON has them; what is missing is as by default.
            weights: precision of the base weights.
            batch_size: in place of the training's.
            length: likewise.
        """
        usual = TrainingSettings.model_fields
        given = {name: training.get(name, usual[name].default) for name in usual}
        return cls(
            base_model,
            batch_size or int(given["batch_size"]),
            length or int(given["max_length"]),
            "cpu",
            weights,
            precision=given["precision"],
            gradient_checkpointing=given["gradient_checkpointing"],
        )

    @property
    def forward_precision(self) -> Precision:
        """The precision of the forward pass."""
        return self.precision or ("bfloat16" if self.dtype == "bfloat16" else "float32")


@dataclass(frozen=True)
class Repetitions:
    """How often each part of a measurement is repeated.

    Attributes:
        steps: timed repetitions of a training step, an evaluated batch, an inference.
        warm_up: repetitions before them that are not timed.
        new_tokens: generated after each prompt.
        parts: what is measured at all.
    """

    steps: int = 10
    warm_up: int = 3
    new_tokens: int = 16
    parts: tuple[Part, ...] = ALL_PARTS


@dataclass(frozen=True)
class Candidate:
    """What is measured: a method with a setting, or the frozen floor.

    Attributes:
        name: what tables call it.
        expression: names the method, see `parbench.methods.expression`; ``None`` is the frozen floor.
        setting: the method's hyper-parameters, as JSON has them.
        size: the size in words, e.g. ``r=8``; empty where there is none.
        refusal: why it cannot be measured, where that is known beforehand (nothing of it fits the budget).
        method: the method's own name, as records have it; ``None`` of the frozen floor.
    """

    name: str
    expression: str | None
    setting: dict[str, Any] = field(default_factory=dict)
    size: str = ""
    refusal: str = ""
    method: str | None = None

    @classmethod
    def of(cls, expression: str, method: Method[Any], setting: Setting) -> Candidate:
        """Return a method with a setting as a candidate."""
        knob = method.size_knob
        size = f"{knob.field}={getattr(setting, knob.field)}" if knob else ""
        return cls(method.name, expression, setting.model_dump(mode="json"), size, method=method.name)


FROZEN_FLOOR = Candidate(FLOOR, None)


@dataclass(frozen=True)
class MeasurementJob:
    """One measurement to do: plain values, for another process.

    Attributes:
        counts: whether operations and saved tensors are counted, and energy is measured, too: once is enough.
        limit_bytes: memory that it may use: of an accelerator, or of the process.
        trace: file for a trace by `torch.profiler` of one training step.
    """

    candidate: Candidate
    workload: Workload
    effort: Repetitions = Repetitions()
    round: int = 0
    counts: bool = True
    limit_bytes: int | None = None
    trace: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the job as plain values."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> MeasurementJob:
        """Return the job that `as_json` gave."""
        parts = {"candidate": Candidate, "workload": Workload, "effort": Repetitions}
        return cls(**{name: parts[name](**value) if name in parts else value for name, value in values.items()})


@dataclass(frozen=True)
class ModelUse:
    """What a base model is used for.

    Attributes:
        auto_class: name of transformers' class for it.
        modality: what it reads.
        generates: whether it writes text.
    """

    auto_class: str
    modality: Literal["text", "image", "video", "image_text", "features_text"]
    generates: bool

    @property
    def has_text(self) -> bool:
        """Whether what it reads has a length in tokens."""
        return self.modality in ("text", "image_text", "features_text")


def kind_of(base_model: BaseModel) -> ModelUse:
    """Return what a base model is used for, by the head that it has by itself."""
    auto_class = base_model.auto_class
    if auto_class == "AutoModelForImageTextToText":
        return ModelUse(auto_class, "image_text", generates=True)
    if auto_class == "AutoModelForSeq2SeqLM":
        return ModelUse(auto_class, "features_text", generates=True)
    if auto_class == "AutoModelForVideoClassification":
        return ModelUse(auto_class, "video", generates=False)
    return ModelUse(auto_class, "image" if "Image" in auto_class else "text", "CausalLM" in auto_class)


def configuration(base_model: BaseModel) -> Any:
    """Return a base model's configuration; nothing is built.

    Raises:
        UserError: it is not known here and cannot be had.
    """
    return base_model.config()


def check_length(workload: Workload) -> None:
    """Check that the base model takes inputs so long.

    Raises:
        UserError: it does not.
    """
    # Here, since reports read workloads without torch.
    from parbench.bench.models.catalogue import find_model
    from parbench.bench.models.kind import positions

    base_model = find_model(workload.base_model)
    most = positions(configuration(base_model)) if kind_of(base_model).has_text else None
    if most is not None and workload.length > most:
        raise UserError(f"--seq is {workload.length}, and {workload.base_model} takes at most {most} tokens")
