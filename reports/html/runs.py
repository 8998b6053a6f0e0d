"""The runs of a page: what its list and its panels show, as compact JSON that no content can break out of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.reports.figures import History
from parbench.reports.html.thumbnails import Thumbnails
from parbench.reports.render import one_line
from parbench.reports.rows import BOARD, CURVE
from parbench.reports.tables import how_ended
from parbench.tasks import TASKS, find_task

# Of each run, but of many runs fewer, so that a page of 5,000 runs still opens.
MOST_PREDICTIONS, LEAST_PREDICTIONS, PREDICTIONS_OF_ALL = 12, 2, 20_000
MOST_POINTS = 60  # of a curve
MOST_CHARACTERS = 300  # of a text in a prediction

# Of the frame's columns those that are JSON; they are shown name by name.
_JSON = {"setting", "training", "options", "definition", "notes"}
# Of tasks with images: a small JPEG of some examples, and what was asked about it.
PICTURE, QUESTION = "picture", "question"
# Empty for each example of a task without subsets.
SUBSET = "subset"
# Of classifications, columns of the places of classes.
_CLASS_IDS = {"label", "prediction"}
# Outputs that a reader cannot take in, such as logits.
_UNREADABLE = (pa.types.is_fixed_size_list, pa.types.is_binary)
MOST_TEXTS = 3  # of a list of them, such as the references of a text


def runs_json(runs: pd.DataFrame) -> str:
    """Return the frame's runs as JSON, column by column and every distinct value once.

    ``{"count": runs, "columns": [name, ...], "values": [[distinct values of a column], ...], "places": [[place of each
    run's value among them, ...], ...]}``; in place of the places of a column with one value there is ``null``.

    Args:
        runs: the frame's runs, all columns.
    """
    runs = runs.assign(ended=how_ended(runs)).drop(columns=[*BOARD, *CURVE, "row_order"], errors="ignore")
    values: list[list[Any]] = []
    places = []
    for name in runs.columns:
        kinds, distinct = pd.factorize(runs[name], use_na_sentinel=False)
        values.append([_plain(value, str(name)) for value in distinct])
        places.append(kinds.tolist() if len(distinct) > 1 else None)
    columns = [one_line(str(name)) for name in runs.columns]
    return script_json({"count": len(runs), "columns": columns, "values": values, "places": places})


def extras_json(
    store: Store | None, runs: pd.DataFrame, histories: Mapping[str, History], thumbnails: Thumbnails | None = None
) -> str:
    """Return one line of JSON a run, in the frame's order: its curve and a sample of its per-example rows.

    Args:
        store: where the per-example rows are; without it there is no sample.
        runs: the frame's runs.
        histories: training losses by run id.
        thumbnails: gets the pictures of the examples; without it there are none.
    """
    size = max(LEAST_PREDICTIONS, min(MOST_PREDICTIONS, PREDICTIONS_OF_ALL // max(1, len(runs))))
    found = zip(runs["run_id"], runs["task"], runs["definition"], strict=True)
    return "\n".join(
        script_json(
            {
                "curve": _curve(histories.get(run_id)),
                "predictions": _sample(store, run_id, size, thumbnails, _class_names(task, definition)),
            }
        )
        for run_id, task, definition in found
    )


def script_json(value: Any) -> str:
    """Return JSON, in one line, that is safe inside a script element: no markup can begin or end in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(value: Any, column: str = "") -> Any:
    """Return a cell of a frame as JSON; what is not a finite number, a truth or a text is text."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    if isinstance(value, str):
        return cleaned(json.loads(value)) if column in _JSON else one_line(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        # More than a browser's numbers hold.
        return int(value) if abs(int(value)) < 2**53 else str(int(value))
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(float(value))
    return _shortened(str(value))


def cleaned(value: Any) -> Any:
    """Return a JSON value with texts that can be shown."""
    if isinstance(value, dict):
        return {one_line(str(name)): cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [cleaned(inner) for inner in value]
    return _plain(value)


def _curve(history: History | None) -> dict[str, list[float]] | None:
    if history is None:
        return None
    every = -(-len(history.steps) // MOST_POINTS)
    return {"steps": list(history.steps[::every]), "losses": [float(f"{loss:.4g}") for loss in history.losses[::every]]}


@cache
def _class_names(task: str, definition: str | float | None) -> tuple[str, ...]:
    """Return what a task's class ids stand for; nothing where it has none, or is not known in this version."""
    if not isinstance(definition, str) and task not in TASKS:
        return ()
    try:
        return find_task(task, json.loads(definition) if isinstance(definition, str) else None).head.labels
    except (UserError, ImportError):
        return ()


def _sample(
    store: Store | None, run_id: str, size: int, thumbnails: Thumbnails | None, classes: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Return the first of a run's per-example rows, or ``None`` where it left none that can be read."""
    if store is None:
        return None
    path = store.runs / run_id / PREDICTIONS
    try:
        with pq.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow if _is_readable(field.type)]
            pictured = thumbnails is not None and _has_pictures(file.schema_arrow)
            if pictured:
                names.append(PICTURE)
            batch = next(file.iter_batches(batch_size=size, columns=names), None)
            total = file.metadata.num_rows
    except (OSError, pa.ArrowInvalid):  # the sample is an extra; the rows themselves are checked elsewhere
        return None
    if batch is None or not names:
        return None
    columns = batch.to_pydict()
    if SUBSET in columns and not any(columns[SUBSET]):
        del columns[SUBSET]
    for name in _CLASS_IDS & columns.keys():
        columns[name] = [_class_of(value, classes) for value in columns[name]]
    pictures = columns.pop(PICTURE) if pictured else []
    found = {name: [_cell(value) for value in values] for name, values in columns.items()}
    if thumbnails is not None and pictured:
        # Beside the question, where there is one.
        first = {name: found[name] for name in ("example", SUBSET, QUESTION) if name in found}
        found = {**first, PICTURE: [_picture(thumbnails.place(content)) for content in pictures], **found}
    rows = [list(row) for row in zip(*found.values(), strict=True)]
    return {"columns": [one_line(name) for name in found], "rows": rows, "total": total}


def _has_pictures(schema: pa.Schema) -> bool:
    return PICTURE in schema.names and pa.types.is_binary(schema.field(PICTURE).type)


def _class_of(value: Any, classes: Sequence[str]) -> Any:
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else value


def _cell(value: Any) -> Any:
    return _shortened(value if isinstance(value, list) else _plain(value))


def _picture(place: int | None) -> dict[str, int] | None:
    return None if place is None else {PICTURE: place}


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    return not any(test(kind) for test in _UNREADABLE)


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        return [_shortened(_plain(one)) for one in value[:MOST_TEXTS]] + (["…"] if len(value) > MOST_TEXTS else [])
    if isinstance(value, str):
        text = one_line(value)
        return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
    return value
