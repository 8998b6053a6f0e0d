"""The names of the files in a store."""

from __future__ import annotations

RECORD = "record.json"
PREDICTIONS = "predictions.parquet"
SELECTION_PREDICTIONS = "selection.parquet"
HISTORY = "history.jsonl"
ERROR = "error.txt"
ADAPTER = "adapter"
