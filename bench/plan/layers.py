"""Merging of settings: presets, suites and the command line, one over the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def given(choice: ResolvedMethod, sets: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the options of a method that its expression or the command line sets."""
    return frozenset((*choice.values, *(field for name in choice.setting_names for field in sets.get(name, ()))))
