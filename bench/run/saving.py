"""Tries to save an adapter before it is trained: what cannot be saved must not cost a training first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from parbench.methods.architecture import ModuleNames
from parbench.methods.base import Method


class NotSavableError(RuntimeError):
    """The adapter of a method on a model cannot be written to a file."""


def check_savable(method: Method[Any], model: nn.Module, names: ModuleNames, folder: Path) -> None:
    """Save the adapter into ``folder`` and delete it again.

    Raises:
        NotSavableError: it cannot be saved.
    """
    try:
        # Saving may compute (the prompt of p-tuning's encoder), and must not change what the training draws.
        with torch.random.fork_rng(devices=[]):
            save(method.adapter_state(model, names))
            method.save(model, folder)
    except (RuntimeError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise NotSavableError(f"the adapter of {method.name} cannot be saved: {reason}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
