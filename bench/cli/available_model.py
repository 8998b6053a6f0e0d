"""Checks, before anything is loaded, that a base model is available and can be adapted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.models.base_model import BaseModel


def find_available_model(name: str, weights: bool) -> BaseModel:
    """Return a base model that is available locally or on the hub, and whose architecture is described.

    Args:
        weights: whether the weights are needed; without, a model whose shape is registered needs no files.

    Raises:
        UserError: the model does not exist, is not available, or cannot be adapted.
    """
    from parbench.bench.models.catalogue import find_model
    from parbench.tasks.data.hub import obstacle

    found = find_model(name)
    if found.weights.on_hub and (weights or found.shape is None):
        reason = obstacle(found.weights.location())
        if reason is not None:
            raise UserError(f"{reason}; correct the name, connect to the network, or give a local folder to --model")
    found.check_described(found.config())
    return found
