"""Which runs of a method share a row of a table, and what the row is called.

A row never holds two settings of a method on one task. But a method may have another setting on each task
(published recipes and tuned learning rates do), and then its runs still belong in one row. So a row is fixed
by as few hyper-parameters as tell the settings *within every task* apart, and named by them, unless that tears a row
that a method would have without the further settings of some tasks, see `parbench.reports.main_row`. Base weights of
several precisions are always several rows, and those that are not in float32 are named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from parbench.bench.record.run_spec import Json, canonical, digest
from parbench.bench.util.base_precision import FLOAT32
from parbench.reports.main_row import Column, main_row

# What the cells of one column hold fixed. Everything else that differs between their runs is a row or a warning. The
# suite is not part of it: a run belongs to every suite that asks for it, and is done once.
CONDITION = ["small", "base_model", "protocol", "limit", "evaluation_limit", "budget", "train_fraction"]
# A leaderboard, which has the tasks of several base models; see `board_labels`.
BOARD = ["board"]
COLUMN = ["column", "metric"]
# Between a task and the base model in the label of a column.
WITH_MODEL = " with "
# Leaderboards that differ in the share of the training split alone make a curve.
CURVE = ["curve"]

# In a row's name, the precision of the base weights where it is not float32.
PRECISION = "base"

Flat = Mapping[str, str]


def at_same(table: pd.DataFrame, row: Any, names: Iterable[str]) -> pd.Series[bool]:
    """Return which rows of a table equal one row in these columns; missing values equal each other."""
    same = pd.Series(True, index=table.index)
    for name in names:
        same &= table[name].isna() if pd.isna(row[name]) else (table[name] == row[name]).fillna(False)
    return same


def flatten(setting: Json, training: Json) -> dict[str, str]:
    """Return all hyper-parameters of a run by name, as JSON; the training's are ``training.NAME``."""
    named = {**setting, **{f"training.{name}": value for name, value in training.items()}}
    return {name: canonical(value) for name, value in named.items()}


def board_labels(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard and the curve of each run, as the text of what it holds fixed.

    A leaderboard has one protocol and one share of the training split. It holds the tasks of all base models together,
    each base model at the budget and each task at the limits that it was run with. Where one base model was run at
    several budgets, or one task at several limits, each of them makes a leaderboard. So a column never mixes two
    conditions, and runs with and without a budget never share a leaderboard.

    Args:
        runs: one row per run, with the columns of `CONDITION` and ``column``.
    """
    keyed = runs[["small", "protocol", "train_fraction"]].astype("object")
    keyed["budget"] = runs["budget"].map(_asked_budget, na_action="ignore").astype("object").fillna("none")
    for name in ("limit", "evaluation_limit"):
        keyed[name] = runs[name].astype("object").where(runs[name].notna(), "none")
    for _, group in runs.groupby(["small", "protocol"], sort=False):
        own = keyed.loc[group.index]
        if _is_single(own["budget"], group["base_model"]):
            keyed.loc[group.index, "budget"] = own["budget"].where(own["budget"] == "none", "any")
        for name in ("limit", "evaluation_limit"):
            if _is_single(own[name], group["base_model"] + "\n" + group["column"]):
                keyed.loc[group.index, name] = "any"
    fixed = keyed.to_dict("records")
    curves = [{name: value for name, value in record.items() if name != "train_fraction"} for record in fixed]
    labels = {"board": [canonical(record) for record in fixed], "curve": [canonical(record) for record in curves]}
    return pd.DataFrame(labels, index=runs.index, dtype="str")


def _asked_budget(text: str) -> str:
    """Return a budget as it was asked for: what it amounts to depends on the base model."""
    return re.sub(r": at most [\d,]+", "", text)


def _is_single(values: pd.Series[Any], groups: pd.Series[Any]) -> bool:
    """Return whether each group has one value."""
    pairs = pd.DataFrame({"value": values, "group": groups}).drop_duplicates()
    return not bool(pairs["group"].duplicated().any())


def column_labels(runs: pd.DataFrame) -> pd.Series[str]:
    """Return the label of each run's column: the task, and what distinguishes it from the task's other columns.

    Runs of a task share a column only if the task's options are the same, and its definition, if it is not registered.
    Where there are several base models each column names its own.

    Args:
        runs: one row per run, with ``task``, ``base_model`` and, as JSON or missing, ``options`` and ``definition``.
    """
    labels: dict[Hashable, str] = {}
    for task, group in runs.groupby("task", sort=False):
        forms = group[["options", "definition"]].fillna("{}")
        used = list(forms.drop_duplicates().itertuples(index=False, name=None))
        flat = [_flat_form(options, definition) for options, definition in used]
        told = [name for name in sorted({name for form in flat for name in form}) if _varies(flat, name)]
        names = {
            form: f"{task} ({_told(values, told)})" if told else str(task)
            for form, values in zip(used, flat, strict=True)
        }
        chosen = (names[form] for form in forms.itertuples(index=False, name=None))
        labels |= dict(zip(group.index, chosen, strict=True))
    found = pd.Series(labels, index=runs.index, dtype="str")
    if len(runs["base_model"].unique()) > 1:
        found = found + WITH_MODEL + runs["base_model"].astype("str")
    return found


def _flat_form(options: str, definition: str) -> dict[str, str]:
    flat = {name: canonical(value) for name, value in json.loads(options).items()}
    # A definition is too long for a label.
    return flat if definition == "{}" else {**flat, "definition": digest(json.loads(definition))[:8]}


def _told(values: Flat, names: list[str]) -> str:
    return ", ".join(f"{name}={values[name]}" if name in values else f"{name} unset" for name in names)


def row_labels(runs: pd.DataFrame) -> pd.Series[str]:
    """Return the label of each run's row: the method, and what distinguishes it from the method's other rows.

    Args:
        runs: one row per run, with ``curve``, the columns of `COLUMN`, ``train_fraction``, ``method``, ``setting_id``,
            ``base_precision``, ``seed``, ``started``, and as JSON ``setting`` and ``training``. A method has the same
            rows whatever the share of the training split.
    """
    labels: dict[Hashable, str] = {}
    for key, group in runs.groupby([*CURVE, "method"], dropna=False, sort=False):
        used = group.drop_duplicates("setting_id")
        places = used[["setting_id", "setting", "training", "base_precision"]].itertuples(index=False, name=None)
        settings = {
            setting_id: {PRECISION: precision, **flatten(json.loads(setting), json.loads(training))}
            for setting_id, setting, training, precision in places
        }
        parts = [part for _, part in group.groupby([*COLUMN, "train_fraction"])]
        names = _row_names(settings, [Column.of(part) for part in parts])
        for part, of_setting in zip(parts, names, strict=True):
            labels |= {index: f"{key[-1]}{of_setting[setting]}" for index, setting in part["setting_id"].items()}
    return pd.Series(labels, index=runs.index, dtype="str")


def _row_names(settings: Mapping[str, Flat], columns: list[Column]) -> list[dict[str, str]]:
    """Return for each column what follows the method's name for each setting: ``" (rank=4)"``, or nothing."""
    ids = [list(column) for column in columns]
    keys = _telling_keys(settings, ids)
    keys += [PRECISION] if PRECISION not in keys else []
    places = {setting_id: (flat[PRECISION], _values(flat, keys)) for setting_id, flat in settings.items()}
    main = main_row(columns, places)
    rows: dict[Hashable, list[Flat]] = {}
    for number, column in enumerate(columns):
        for setting_id in column:
            if (number, setting_id) not in main:
                rows.setdefault(places[setting_id], []).append(settings[setting_id])
    mixed = _varies(settings.values(), PRECISION)
    # A key that happens to be the same all along each row, and not between rows of one column, belongs in the name
    # too: without it the difference between two rows would be laid to the wrong cause.
    shown = [
        key
        for key in dict.fromkeys([*_varying_keys(settings, ids), *([PRECISION] if mixed else [])])
        if len(rows) + bool(main) > 1 and not any(_varies(members, key) for members in rows.values())
    ]

    def name(number: int, setting_id: str) -> str:
        flat = settings[setting_id]
        told = [key for key in shown if key == PRECISION or (number, setting_id) not in main]
        told = told if flat[PRECISION] == FLOAT32 else list(dict.fromkeys([*told, PRECISION]))
        return f" ({_told(flat, told)})" if told else ""

    return [{setting_id: name(number, setting_id) for setting_id in column} for number, column in enumerate(columns)]


def _telling_keys(settings: Mapping[str, Flat], columns: list[list[str]]) -> list[str]:
    """Return keys that tell the settings of every column apart, none of which can be spared."""
    keys = _varying_keys(settings, columns)
    # Those with the most values are given up first, so that a rank of two values makes the rows rather than a
    # learning rate tuned for every task.
    most_values_first = sorted(keys, key=lambda key: (-_count_values(settings.values(), key), key))
    for key in most_values_first:
        fewer = [other for other in keys if other != key]
        if all(len({_values(settings[i], fewer) for i in ids}) == len(ids) for ids in columns):
            keys = fewer
    return keys


def _varying_keys(settings: Mapping[str, Flat], columns: list[list[str]]) -> list[str]:
    """Return the keys in which two settings of one column differ."""
    return [
        key for key in _all_keys(settings.values()) if any(_varies([settings[i] for i in ids], key) for ids in columns)
    ]


def _all_keys(settings: Iterable[Flat]) -> list[str]:
    keys = {key for flat in settings for key in flat}
    return sorted(keys, key=lambda key: (key.startswith("training."), key))


def _values(flat: Flat, keys: list[str]) -> tuple[str | None, ...]:
    return tuple(flat.get(key) for key in keys)


def _count_values(settings: Iterable[Flat], key: str) -> int:
    return len({flat.get(key) for flat in settings})


def _varies(settings: Iterable[Flat], key: str) -> bool:
    return _count_values(settings, key) > 1
