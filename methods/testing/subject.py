"""One method on one tiny model: adapted, stepped and trained for the checks."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from parbench.methods.architecture import ModuleNames, module_names
from parbench.methods.base import Method, ParameterGroup, Setting
from parbench.methods.testing.models import TensorRow, TinyModel, as_batch, in_precision, loss, outputs

SEED = 11
OTHER_SEED = 12

STEPS = 6
INTERRUPTED_AFTER = 3
BATCH = 4
# Larger than in practice: parameters must move in six steps.
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 0.1

# Larger than any size that a tiny model accepts.
LARGEST_SIZE = 1024

# Exceptions of peft and torch for a layer, a width or an architecture that a method cannot be applied to.
REFUSALS = (ValueError, TypeError, NotImplementedError)

State = dict[str, Tensor]


@dataclass
class AdaptedTinyModel:
    """A base model that a method has adapted.

    Attributes:
        model: the adapted model.
        groups: the method's parameter groups.
        of_base: names in ``model`` of the parameters and buffers of the base model.
        start: a copy of all parameters and buffers before the first step.
    """

    model: nn.Module
    names: ModuleNames
    groups: list[ParameterGroup]
    of_base: frozenset[str] = frozenset()
    start: State = field(default_factory=dict)

    @property
    def adapter(self) -> list[nn.Parameter]:
        """All optimised parameters outside the task head."""
        return [p for group in self.groups if not group.is_head for p in group.parameters]

    @property
    def adapter_numbers(self) -> int:
        """Number of scalars in them."""
        return sum(p.numel() for p in self.adapter)

    @property
    def optimised(self) -> dict[int, nn.Parameter]:
        """All optimised parameters by identity."""
        return {id(p): p for group in self.groups for p in group.parameters}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all parameters and buffers, once per name."""
        yield from self.model.named_parameters(remove_duplicate=False)
        yield from self.model.named_buffers(remove_duplicate=False)

    def state(self) -> State:
        """Return a copy of all parameters and buffers, including those that are not saved."""
        return {name: tensor.detach().clone() for name, tensor in self.tensors()}

    def optimiser(self) -> torch.optim.Optimizer:
        """Return AdamW over all optimised parameters, with one learning rate at which a few steps move them."""
        return torch.optim.AdamW(self.optimised.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)


@dataclass
class Subject:
    """A method with a setting on a tiny model; expensive results are cached.

    Attributes:
        workspace: an empty folder for checkpoints and adapters.
        after_schedule: a copy of the tensors of `trained` at the end of the method's own schedule.
    """

    method: Method[Any]
    setting: Setting
    tiny: TinyModel
    workspace: Path
    after_schedule: State = field(default_factory=dict, init=False)

    @property
    def rows(self) -> list[TensorRow]:
        """The examples of all steps."""
        return _rows(self.tiny)

    def adapt(
        self,
        setting: Setting | None = None,
        seed: int = SEED,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        base: PreTrainedModel | None = None,
    ) -> AdaptedTinyModel:
        """Adapt a base model, by default a fresh one."""
        setting = setting or self.setting
        base = base or self.tiny.build(dtype, device)
        names = module_names(base)
        # The tensors are kept, since an identity may be reused after its object was freed.
        own = {id(tensor): tensor for tensor in [*base.parameters(), *base.buffers()]}
        set_seed(seed)
        with torch.device(device):
            model = self.method.adapt(base, names, setting)
        adapted = AdaptedTinyModel(model, names, self.method.parameter_groups(model, names, setting))
        adapted.of_base = frozenset(name for name, tensor in adapted.tensors() if id(tensor) in own)
        adapted.start = adapted.state()
        return adapted

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the logits of the tiny model's first examples."""
        return outputs(model, self.rows[:BATCH])

    @cached_property
    def base_outputs(self) -> Tensor:
        """The logits of the base model."""
        return self.outputs(self.tiny.build())

    @cached_property
    def obstacle(self) -> Exception | None:
        """The exception that adapting the model raises, or ``None``."""
        try:
            _ = self.fresh
        except Exception as error:  # of any type: it becomes a finding
            return error
        return None

    @cached_property
    def fresh(self) -> AdaptedTinyModel:
        """The adapted model before the first step; must not be changed."""
        return self.adapt()

    @cached_property
    def trained(self) -> AdaptedTinyModel:
        """The adapted model after all steps; must not be changed."""
        adapted = self.adapt()
        first = max(1, ceil(self.method.schedule_share(self.setting) * STEPS))

        def keep() -> None:
            self.after_schedule = adapted.state()

        self._train(adapted, self.workspace / "trained", callback=_AtStep(first, keep))
        return adapted

    @cached_property
    def trained_again(self) -> AdaptedTinyModel:
        """A second training with a checkpoint half way; must not be changed."""
        adapted = self.adapt()
        self._train(adapted, self.workspace / "trained again", save=True)
        return adapted

    def resume(self) -> AdaptedTinyModel:
        """Repeat the second half of the training from the checkpoint, as in a new process."""
        _ = self.trained_again
        # As after an interruption: the folder has the checkpoint and nothing later.
        folder, checkpoint = self.workspace / "resumed", f"checkpoint-{INTERRUPTED_AFTER}"
        shutil.copytree(self.workspace / "trained again" / checkpoint, folder / checkpoint)
        adapted = self.adapt()
        self._train(adapted, folder, resume_from=folder / checkpoint)
        return adapted

    def step(self, adapted: AdaptedTinyModel, batch: TensorRow, optimiser: torch.optim.Optimizer) -> None:
        """Take one optimiser step without the method's callbacks; the gradients are kept."""
        optimiser.zero_grad()
        inputs = {name: t for name, t in in_precision(batch, adapted.model).items() if name != "labels"}
        loss(adapted.model.train()(**inputs).logits, batch["labels"]).backward()
        optimiser.step()

    def batches(self, count: int) -> Iterator[TensorRow]:
        """Yield the first ``count`` batches."""
        for number in range(count):
            yield as_batch(self.rows[BATCH * number : BATCH * (number + 1)])

    def _train(
        self,
        adapted: AdaptedTinyModel,
        folder: Path,
        save: bool = False,
        resume_from: Path | None = None,
        callback: TrainerCallback | None = None,
    ) -> None:
        """Train in place with the method's callbacks, as in a run."""
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            seed=SEED,
            data_seed=SEED,
            save_strategy="steps" if save else "no",
            save_steps=INTERRUPTED_AFTER,
            logging_strategy="no",
            # The same arithmetic on every machine.
            use_cpu=True,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            label_names=["labels"],
        )
        trainer = _Trainer(
            model=adapted.model,
            args=arguments,
            train_dataset=self.rows,
            data_collator=as_batch,
            optimizers=(adapted.optimiser(), None),
            callbacks=[*self.method.callbacks(self.setting), *([callback] if callback else [])],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        with _cheap_garbage_collection():
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def size_candidates(method: Method[Any]) -> Iterator[int]:
    """Yield some values of the size knob, increasingly far apart, in ascending order of the parameter count."""
    knob = method.size_knob
    if knob is None:
        return
    values = knob.choices or range(knob.smallest, min(knob.ceiling, LARGEST_SIZE) + 1)
    at = 0
    while at < len(values):
        yield values[at]
        at = 2 * at + 1


def with_size(method: Method[Any], setting: Setting, value: int) -> Setting:
    """Return the setting with another value of the size knob.

    Raises:
        ValueError: the setting refuses the value.
    """
    # Validated again: `Method.with_size` copies without validation.
    return type(setting).model_validate(method.with_size(setting, value).model_dump())


@cache
def _rows(tiny: TinyModel) -> list[TensorRow]:
    return tiny.rows(STEPS * BATCH)


@dataclass
class _AtStep(TrainerCallback):
    """Calls back once, after a number of steps."""

    step: int
    call: Callable[[], None]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.call()


class _Trainer(Trainer):
    """A `Trainer` that computes the loss from the logits, independent of the model's own loss."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: TensorRow,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss of the batch."""
        result = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        value = loss(result.logits, inputs["labels"])
        return (value, result) if return_outputs else value


@contextmanager
def _cheap_garbage_collection() -> Iterator[None]:
    """Limit garbage collections inside the block to objects made inside it.

    `Trainer` collects at its end, which takes several times as long as a few steps of a tiny model.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
