"""Merging of settings: presets, suites and the command line, one over the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parbench.bench.util.errors import UserError
from parbench.methods.expression import ResolvedMethod

# Pairs of exclusive settings: one of them in a later layer replaces the other in an earlier layer.
_EITHER_OR = (("max_steps", "epochs"), ("epochs", "max_steps"), ("warmup_ratio", "warmup_steps"))


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers, later over earlier; a length in steps replaces one in epochs, and the reverse."""
    values: dict[str, Any] = {}
    for layer in layers:
        for given, replaced in _EITHER_OR:
            if given in layer:
                values.pop(replaced, None)
        values.update(layer)
    return values


def by_hand(choice: ResolvedMethod, sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the expression of a method and the command line's ``--set`` give its options.

    Raises:
        UserError: they give one option different values.
    """
    values: dict[str, Any] = {}
    for name in choice.setting_names:
        for field, value in sets.get(name, {}).items():
            if field in choice.values and choice.values[field] != value:
                raise UserError(
                    f'"--set {name}.{field}={value}": {choice.method.name} has {field}={choice.values[field]} in '
                    "--methods; give one of the two"
                )
            values[field] = value
    return {**choice.values, **values}
