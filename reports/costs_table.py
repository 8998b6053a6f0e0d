"""Methods against parameter counts, time and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from parbench.reports.tables import NOTHING, Table


def costs_table(rows: list[pd.DataFrame], budgeted: bool) -> Table:
    """Return methods against parameter counts, time and memory.

    Args:
        rows: the cells of each row of a leaderboard.
        budgeted: whether the leaderboard has a budget, of which the share used is shown.
    """
    share = [("of budget", "of_budget", _share)] if budgeted else []
    shown: list[tuple[str, str, Callable[[Any], str]]] = [
        ("reported", "ledger/reported", _count),
        *share,
        ("trainable", "ledger/trainable", _count),
        ("optimised", "ledger/optimised", _count),
        ("frozen", "ledger/frozen", _count),
        ("stored (bytes)", "ledger/stored_bytes", _count),
        ("head", "ledger/head", _count),
        ("train (s/step)", "train_seconds_per_step", lambda value: f"{value:.3g}"),
        ("process memory (GiB)", "peak_process_bytes", _gibibytes),
        ("device memory (GiB)", "peak_device_bytes", _gibibytes),
    ]
    # Earlier records do not have it.
    if any(row["ledger/base_bytes"].notna().any() for row in rows):
        shown.append(("base model (bytes)", "ledger/base_bytes", _count))
    body = tuple((str(row["row"].iloc[0]), *(_span(row[column], form) for _, column, form in shown)) for row in rows)
    return Table(("method", *(head for head, _, _ in shown)), body)


def _span(values: pd.Series[Any], form: Callable[[Any], str]) -> str:
    """Return the lowest and highest value over the tasks, or the one there is."""
    known = [value for value in values.tolist() if not pd.isna(value)]
    if not known:
        return NOTHING
    low, high = form(min(known)), form(max(known))
    return low if low == high else f"{low} to {high}"


def _count(value: Any) -> str:
    return f"{int(value):,}"


def _share(value: Any) -> str:
    return f"{value:.1%}{' OVER' if value > 1 else ''}"


def _gibibytes(value: Any) -> str:
    return f"{int(value) / 2**30:.2f}"


def count_range(counts: pd.Series[Any]) -> str:
    """Return the lowest and highest of some parameter counts."""
    return _span(counts, _count)
