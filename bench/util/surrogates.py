r"""Lone surrogates: halves of characters, such as ``"\ud83d"`` in JSON, which no file in UTF-8 can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LONE = re.compile("[\ud800-\udfff]")


def lone_surrogate(value: Any) -> str | None:
    r"""Return the first lone surrogate in a text, or in the texts of a list or an object, as an escape ``\ud83d``."""
    if isinstance(value, str):
        half = _LONE.search(value)
        return f"\\u{ord(half[0]):04x}" if half else None
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = [*value, *value.values()]
    elif isinstance(value, list):
        inner = value
    return next((found for one in inner if (found := lone_surrogate(one))), None)
