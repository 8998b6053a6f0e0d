"""Defaults that depend on the base model: where a setting names them, they are left out, so that they make one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from parbench.bench.budget.count import Architecture, PredictedCounts
from parbench.methods.base import Method, Setting

S = TypeVar("S", bound=Setting)

# Fields of every setting whose default, ``None``, stands for what depends on the base model.
OF_THE_MODEL = ("target_modules", "layers")


def without_defaults(method: Method[Any], setting: S, architecture: Callable[[], Architecture]) -> S:
    """Return a setting without the names of modules and layers that a method adapts anyway.

    Runs that left the default out keep their ids; those that name it get the same.

    Args:
        method: the method.
        setting: of the method.
        architecture: returns the base model's, which is made only where the setting has such names.
    """
    for field in OF_THE_MODEL:
        if getattr(setting, field) is None:
            continue
        shorter = setting.model_copy(update={field: None})
        named, by_default = (_counted(architecture(), method, one) for one in (setting, shorter))
        # A method that adapts no modules may choose its parameters by these names: it keeps them.
        if named is not None and named.modules and named == by_default:
            setting = shorter
    return setting


def _counted(architecture: Architecture, method: Method[Any], setting: Setting) -> PredictedCounts | None:
    """Return the counts of a setting, or ``None`` where it is refused: the reason is given where it is planned."""
    try:
        return architecture.count(method, setting)
    except (ValueError, TypeError, NotImplementedError):
        return None
