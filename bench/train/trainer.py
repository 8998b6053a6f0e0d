"""The trainer: the loss, the optimiser step and the order of a task's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from parbench.bench.train.counted_logits import KEPT, counted_alone
from parbench.bench.train.length_groups import split_by_length
from parbench.bench.train.packing import check_packing, pack
from parbench.bench.util.errors import DivergedError
from parbench.tasks.inference import IGNORED


class Unlogged(NamedTuple):
    """The losses of the steps since the history was last written to.

    Attributes:
        loss: their sum.
        since: the step of its last entry.
    """

    loss: float
    since: int


class TaskTrainer(Trainer):
    """A `Trainer` with the task's own loss.

    transformers' classification heads ignore the number of items of an accumulated batch, while `Trainer` relies on
    them to divide by it: loss and gradients come out multiplied by the accumulation steps for some architectures and
    not for others. With the loss computed here, as a mean over the labels of all forward passes of an optimiser step,
    all agree, whether a batch is accumulated or not, and however its labels are spread over the forward passes.
    """

    loss_is_scaled_for_ga = True
    task_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    # Forward passes that a batch may be split into, see `length_groups`.
    most_groups: int = 1
    # Whether the texts of a batch are packed into rows, see `packing`.
    packing: bool = False
    # Whether logits are computed only where a label counts, see `counted_logits`.
    some_logits: bool = False
    # Whether a batch was found to be computed packed as it is padded, and one whose texts share rows.
    _checked: bool = False
    _checked_sharing: bool = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Kept on the device, so that checking the loss costs no synchronisation.
        self._first_bad_step = torch.full((), -1, device=self.args.device)

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Go forward and backward for a batch, in one pass per group of rows of similar length; return its loss."""
        step = super().training_step
        if num_items_in_batch and not _count_labels(inputs["labels"]):
            # The mean over no labels is not a number; this part of an accumulated batch has no share in its loss.
            return torch.zeros((), device=self.args.device)
        if self.packing:
            packed = pack(inputs)
            shares = len(packed["input_ids"]) < len(inputs["input_ids"])
            # Texts of equal lengths have a row each, and would pass whatever the model does with a row of several.
            if not self._checked or (shares and not self._checked_sharing):
                check_packing(model, self._prepare_inputs(inputs))
                self._checked, self._checked_sharing = True, shares
            return step(model, packed, num_items_in_batch)
        groups = list(split_by_length(inputs, self.most_groups))
        if len(groups) > 1:
            # Likewise rows of a batch.
            groups = [group for group in groups if _count_labels(group["labels"])] or [inputs]
        return torch.stack([step(model, group, num_items_in_batch) for group in groups]).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the task's loss over the forward pass's labels, as a share of that over all ``num_items_in_batch``.

        To it comes the method's own loss, if the outputs have one (see `parbench.methods.base.Method`).
        """
        labels = wanted = inputs["labels"]
        given = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        if self.some_logits:
            given, wanted = counted_alone(given, labels)
        outputs = model(**given)
        loss = self.task_loss(outputs.logits[None] if KEPT in given else outputs.logits, wanted)
        if (auxiliary := getattr(outputs, "auxiliary_loss", None)) is not None:
            loss = loss + auxiliary.to(loss.device)
        if num_items_in_batch is not None:
            loss = loss * (_count_labels(labels).to(loss.dtype) / num_items_in_batch)
        bad = ~torch.isfinite(loss.detach()) & (self._first_bad_step < 0)
        self._first_bad_step = torch.where(bad, self.state.global_step + 1, self._first_bad_step)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """Return the batches of one optimiser step: none if a training is resumed after its last step.

        `Trainer` would do one step too many before it stops.
        """
        if self.state.global_step >= self.state.max_steps:
            return [], None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        # transformers counts only for models that accept the count, and otherwise divides by the number of passes.
        return torch.stack([_count_labels(batch["labels"]) for batch in batch_samples]).sum().to(device)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save a checkpoint under the parameter names by which it is loaded.

        ``save_pretrained`` writes some architectures (ViT, DINOv2) under the names of older versions, for
        compatibility; `Trainer` resumes by the present names and only warns of parameters that it does not find.
        """
        if isinstance(self.model, PreTrainedModel):
            save = self.model.save_pretrained
            self.model.save_pretrained = partial(save, save_original_format=False)  # type: ignore[method-assign]
            try:
                super()._save(output_dir, state_dict)
            finally:
                del self.model.save_pretrained
        else:
            super()._save(output_dir, state_dict)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and stop a run whose loss is not finite."""
        self.raise_if_diverged()
        super().log(logs, start_time)

    def unlogged(self) -> Unlogged:
        """Return the losses that were not logged yet.

        Raises:
            DivergedError: one is not finite.
        """
        self.raise_if_diverged()
        return Unlogged(float(self._tr_loss), self._globalstep_last_logged)

    def go_on_from(self, unlogged: Unlogged) -> None:
        """Log next as if the training had not been interrupted: `Trainer` forgets the losses since it last did."""
        self._tr_loss += unlogged.loss
        self._globalstep_last_logged = unlogged.since

    def raise_if_diverged(self) -> None:
        """Raise if a loss was not finite.

        Raises:
            DivergedError: names the optimiser step.
        """
        step = int(self._first_bad_step)
        if step >= 0:
            raise DivergedError(f"the loss was not finite at step {step}")


def _count_labels(labels: torch.Tensor) -> torch.Tensor:
    """Return the number of labels that the loss counts.

    The first token of a sequence is not predicted. A number to be predicted always counts, whatever it is: the mark of
    what is ignored is a class or token that there cannot be.
    """
    if labels.is_floating_point():
        return torch.tensor(labels.numel(), device=labels.device)
    return ((labels if labels.dim() == 1 else labels[:, 1:]) != IGNORED).sum()
