"""Finds out in seconds that a base model cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.models.base_model import BaseModel


def find_available_model(name: str, weights: bool) -> BaseModel:
    """Return a base model that is here, or that the hub has.

    Args:
        weights: whether more than its shape is needed, which is known of some without their files.

    Raises:
        UserError: there is no such model, or it cannot be had.
    """
    from parbench.bench.models.catalogue import find_model
    from parbench.tasks.data.hub import obstacle

    found = find_model(name)
    if found.weights.on_hub and (weights or found.shape is None):
        reason = obstacle(found.weights.location())
        if reason is not None:
            raise UserError(f"{reason}; mend the name, connect to the network, or give a local folder to --model")
    return found
