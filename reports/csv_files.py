"""CSV files that a spreadsheet shows and does not run."""

from __future__ import annotations

from typing import Any

import pandas as pd

# What a spreadsheet takes for the beginning of a formula, also behind white space that it drops.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV in which every text that a spreadsheet would take for a formula begins with an apostrophe.

    Records come from anywhere: a store may be imported, and names in it are chosen by others. Numbers stay as they are.
    """
    safe = table.apply(lambda column: column if _is_numeric(column) else column.map(_inert, na_action="ignore"))
    return str(safe.rename(columns=_inert).to_csv(index=False, lineterminator="\n"))


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)  # includes booleans


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
