"""Keeps the network that computes a prompt in the checkpoints of a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

STATE_FILE = "prompt_encoder.safetensors"


class PromptEncoderCheckpoint(TrainerCallback):
    """Saves the network that computes the prompt, and restores it when training is resumed.

    peft saves the computed prompt only. That suffices for inference, but P-tuning trains the network behind it.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the network's parameters into the checkpoint."""
        tensors = {name: tensor.contiguous() for name, tensor in _encoder(kwargs["model"]).state_dict().items()}
        save_file(tensors, _file(args, state))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the network's parameters when resuming from a checkpoint.

        Raises:
            ValueError: the checkpoint was cut off before they were in it.
        """
        if not state.global_step:
            return
        file = _file(args, state)
        if not file.is_file():
            raise ValueError(f"the checkpoint {file.parent} was cut off while being saved; delete it")
        _encoder(kwargs["model"]).load_state_dict(load_file(file))


def _encoder(model: nn.Module) -> nn.Module:
    return model.get_submodule("prompt_encoder")


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE
