"""AdaLoRA's rank allocation (Zhang et al., 2023, section 3) as a callback of transformers' `Trainer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from peft import AdaLoraConfig, AdaLoraModel, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

STATE_FILE = "adalora_allocation.safetensors"


class AdaLoraCallback(TrainerCallback):
    """Prunes directions to the budget of each step, and keeps the factors nearly orthogonal.

    It equals `AdaLoraModel.update_and_allocate` except for three points:

    - The length of the training is taken from the trainer.
    - peft adds the orthogonality penalty to the model's own loss, which a trainer with another loss does not use. Here
      the gradient of the penalty is added after the gradient of the loss was clipped.
    - While ranks are being cut, peft saves only the remaining rows, from which training cannot be resumed. Here a
      checkpoint has all rows and the importance scores, and the final adapter has the remaining rows.

    Args:
        initial_share: share of all steps before the first cut.
        final_share: share of all steps after the last cut.
    """

    def __init__(self, initial_share: float, final_share: float) -> None:
        self.initial_share = initial_share
        self.final_share = final_share
        self._ranks: dict[str, list[bool]] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the schedule, and read the allocation when resuming from a checkpoint.

        Raises:
            ValueError: the training is too short to cut ranks, or the checkpoint has no allocation.
        """
        tuner = _tuner(kwargs["model"])
        config = _config(tuner)
        config.total_step = state.max_steps
        config.tinit = round(self.initial_share * state.max_steps)
        config.tfinal = round(self.final_share * state.max_steps)
        # At least two steps: the first one gives the scores for the cut of the second.
        if state.max_steps - config.tfinal < max(2, config.tinit + 1):
            raise ValueError(f"{state.max_steps} steps are too few for AdaLoRA to cut ranks in; train longer")
        if state.global_step:
            self._restore(tuner, _checkpoint(args, state))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the gradient of the orthogonality penalty."""
        tuner = _tuner(kwargs["model"])
        factors = {name: p for name, p in tuner.named_parameters() if "lora_A" in name or "lora_B" in name}
        penalty = _config(tuner).orth_reg_weight * orthogonality(
            [p if "lora_A" in name else p.T for name, p in factors.items()]
        )
        gradients = torch.autograd.grad(penalty, list(factors.values()))
        for factor, gradient in zip(factors.values(), gradients, strict=True):
            factor.grad = gradient if factor.grad is None else factor.grad + gradient

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the importance scores and cut to the step's budget."""
        tuner = _tuner(kwargs["model"])
        config = _config(tuner)
        allocator = tuner.rankallocator
        step, last_cut = state.global_step + 1, state.max_steps - config.tfinal
        if step <= last_cut:
            _, ranks = allocator.update_and_allocate(tuner.model, step, force_mask=step == last_cut)
            self._ranks = ranks or self._ranks
        else:
            allocator.mask_using_rank_pattern(tuner.model, self._ranks)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write scores and ranks into the checkpoint."""
        allocator = _tuner(kwargs["model"]).rankallocator
        tensors = {f"ranks:{name}": torch.tensor(kept) for name, kept in self._ranks.items()}
        for kind in ("exp_avg_ipt", "exp_avg_unc"):
            tensors |= {f"{kind}:{name}": value.contiguous() for name, value in getattr(allocator, kind).items()}
        save_file(tensors, _checkpoint(args, state) / STATE_FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let peft save the remaining directions only."""
        _config(_tuner(kwargs["model"])).rank_pattern = self._ranks

    def _restore(self, tuner: AdaLoraModel, checkpoint: Path) -> None:
        file = checkpoint / STATE_FILE
        if not file.is_file():
            raise ValueError(f"the checkpoint {checkpoint} was cut off while being saved; delete it")
        allocator = tuner.rankallocator
        for key, tensor in load_file(file).items():
            kind, _, name = key.partition(":")
            if kind == "ranks":
                self._ranks[name] = tensor.tolist()
            else:
                scores = getattr(allocator, kind)
                scores[name] = tensor.to(tuner.device)
                # The allocator knows the parameters it has seen by this entry, which the next step overwrites.
                allocator.ipt[name] = torch.zeros_like(scores[name])


def orthogonality(factors: list[Tensor]) -> Tensor:
    """Return the mean Frobenius norm of ``F F^T - I`` over factors F of shape (r, d): A, and B transposed."""
    norms = [
        torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))
        for rows in factors
    ]
    return torch.stack(norms).mean()


def _tuner(model: nn.Module) -> AdaLoraModel:
    if not isinstance(model, PeftModel) or not isinstance(model.base_model, AdaLoraModel):
        raise ValueError("AdaLoraCallback needs a model with an AdaLoRA adapter; adapt it with method adalora first")
    return model.base_model


def _config(tuner: AdaLoraModel) -> AdaLoraConfig:
    return cast(AdaLoraConfig, tuner.peft_config[tuner.trainable_adapter_name])


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
