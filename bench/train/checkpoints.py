"""Checkpoints of a training."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import TrainerState, TrainingArguments

# Written into a checkpoint after everything else: one without it was cut off while being saved.
COMPLETE = "complete.json"


def last_checkpoint(workspace: Path) -> Path | None:
    """Return the newest checkpoint that was saved to the end; delete those that were not."""
    complete: list[Path] = []
    for folder in workspace.glob("checkpoint-*"):
        if (folder / COMPLETE).is_file():
            complete.append(folder)
        else:
            shutil.rmtree(folder)
    return max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def _keep_to(device: torch.device, arguments: TrainingArguments) -> None:
    """Have the trainer use one accelerator; by itself it takes the first, and spreads the model over all it sees."""
    torch.cuda.set_device(device.index or 0)
    # What the arguments work out of the machine when they are first asked, and keep under this name.
    vars(arguments)["_setup_devices"] = torch.device("cuda", device.index or 0)
    arguments._n_gpu = 1


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
