"""The Python API: what `bench run` and `bench report` do, with pandas objects as results.

    import parbench

    results = parbench.run(methods=["lora", "loca"], tasks=["glue/sst2"], seeds=[1, 2, 3], out="results/mine")
    parbench.leaderboard(results)

The functions build the option groups of the command line and call the functions that it calls. A mistake in an argument
raises `UserError` with one sentence.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from parbench.bench.cli.options import (
    AUTO,
    DEFAULT_STORE,
    ClusterOptions,
    ComparisonOptions,
    ExecutionOptions,
    RerunOptions,
    ScoringOptions,
)
from parbench.bench.cli.python_values import option_values
from parbench.bench.cli.run import RunRequest, run_comparison
from parbench.bench.cli.unknown_option import advice
from parbench.bench.store.rows import read_rows
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.reports.frame import Frame, read_frame
from parbench.reports.jackknife import LeftOut
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.plotting import import_matplotlib
from parbench.reports.rows import BOARD, CURVE
from parbench.reports.suites import read_suites
from parbench.reports.tidy_frames import cells_frame

_GROUPS: dict[str, type] = {
    "comparison": ComparisonOptions,
    "scoring": ScoringOptions,
    "rerun": RerunOptions,
    "execution": ExecutionOptions,
    "cluster": ClusterOptions,
}
# `run` returns results, and a dry run has none.
_NOT_IN_PYTHON = {"dry_run"}
_SHOWN = ["row", "task", "base_model", "seed", "budget", "status", "metric", "score", "reason"]


class Results(pd.DataFrame):
    """Runs as a pandas frame, one row per run; the columns are those of `parbench.reports.frame.Frame.runs`.

    Selections of rows keep what `examples` and `leaderboard` need. A notebook shows the main columns.

    Attributes:
        folder: the store that the runs were read from.
        left_out: see `parbench.reports.frame.Frame`.
    """

    folder: Path
    left_out: Mapping[str, LeftOut | str]

    _metadata = ["folder", "left_out"]  # noqa: RUF012 -- the name and type that pandas asks for

    @property
    def _constructor(self) -> type[Results]:
        return Results

    @classmethod
    def of(cls, frame: Frame, folder: Path) -> Results:
        """Return the runs of a frame that was read from a folder."""
        results = cls(frame.runs)
        results.folder = folder
        results.left_out = frame.left_out
        return results

    def examples(self) -> pd.DataFrame:
        """Return the per-example rows of the runs with a score, with the columns run_id, task, row and seed in front.

        Raises:
            UserError: the frame was not made by `run` or `load`, or lacks these columns.
        """
        store, _ = _origin(self, "examples")
        names = ["run_id", "task", "row", "seed"]
        if missing := [name for name in (*names, "status") if name not in self]:
            raise UserError(f"examples() needs the columns {', '.join(missing)}; select rows only, and columns later")
        scored = self[self["status"] == "ok"].drop_duplicates("run_id")
        parts = []
        for run in scored[names].itertuples(index=False):
            rows = read_rows(store.runs / str(run.run_id))
            for place, name in enumerate(names):
                rows.insert(place, name if name not in rows else f"run_{name}", getattr(run, name))
            parts.append(rows)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)

    def _repr_html_(self) -> str | None:
        if set(_SHOWN).issubset(self.columns):
            return pd.DataFrame(self)[_SHOWN].rename(columns={"row": "method"})._repr_html_()  # type: ignore[operator]
        return super()._repr_html_()  # type: ignore[misc]


class Leaderboards(pd.DataFrame):
    """The numbers of leaderboards as a pandas frame, one row per method, budget and task.

    A notebook shows the leaderboards instead: verdict, forest plot and scores.

    Attributes:
        boards: the leaderboards; selections of the numbers have none.
    """

    boards: Sequence[Leaderboard] = ()

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str | None:
        if not self.boards:
            return super()._repr_html_()  # type: ignore[misc]
        import_matplotlib()
        from parbench.reports.notebook import boards_html

        return boards_html(self.boards)


def run(
    *,
    methods: str | Sequence[str] | None = None,
    tasks: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    suite: str | PathLike[str] = AUTO,
    model: str | PathLike[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    budget: int | str | Sequence[int | str] | None = None,
    sets: Mapping[str, Any] | Sequence[str] | None = None,
    out: str | PathLike[str] = DEFAULT_STORE,
    **options: Any,
) -> Results:
    """Train and evaluate methods on tasks, as `bench run` does, and return the runs that this call is about.

    Runs that are in the store already are not repeated. A failed run is a row with its ``status`` and ``reason``.

    Args:
        methods: method expressions, such as ``["lora", "lora(r=4)+rslora"]``; the suite's by default.
        tasks: tasks, task groups or YAML files; the suite's by default.
        suite: a suite's name or YAML file.
        model: a base model's name, hub id or local folder; the suite's by default.
        seeds: the suite's by default.
        budget: limits on adapter parameters, such as ``24000``, ``"24k"`` or ``"match:lora(r=8)"``.
        sets: hyper-parameters, such as ``{"lora.r": 4, "train.max_steps": 200}``, or ``{"lora": {"r": 4}}``.
        out: folder of the store.
        **options: any other option of `bench run`, with underscores: ``workers=2``, ``trials=8``, ``limit=100``.

    Raises:
        UserError: an argument cannot be used.
        KeyboardInterrupt: the same call resumes.
    """
    named = {"methods": methods, "tasks": tasks, "suite": suite, "model": model, "seeds": seeds}
    values = {**named, "budget": budget, "sets": sets, "out": out, **options}
    request = RunRequest(**{name: _group(group, values) for name, group in _GROUPS.items()})
    if values:
        known = {entry.name for group in _GROUPS.values() for entry in fields(group)} - _NOT_IN_PYTHON
        unknown = next(iter(values))
        hint = advice(unknown, known, lambda name: name, lambda key: f'sets={{"{key}": VALUE}}')
        raise UserError(f'parbench.run has no option "{unknown}"{hint}')
    outcome = run_comparison(request)
    if outcome.untuned:
        raise UserError("; ".join(outcome.untuned))
    results = load(request.comparison.out)
    return results[results["run_id"].isin(outcome.run_ids)].reset_index(drop=True)


def load(folder: str | PathLike[str]) -> Results:
    """Return the runs of a store, checked against their per-example rows; a warning names refused records.

    Raises:
        UserError: the folder does not exist, or holds no runs.
    """
    if not isinstance(folder, str | PathLike):
        raise UserError(f"load needs the folder of a store, and not {folder!r}")
    path = Path(folder).expanduser()
    frame = read_frame(Store(path))
    if frame.unreadable:
        refused = "; ".join(map(str, frame.unreadable))
        warnings.warn(f"left out: {refused}", stacklevel=2)
    return Results.of(frame, path)


def leaderboard(results: Results, baseline: str | None = None) -> Leaderboards:
    """Return the numbers of the leaderboards of runs, one row per method, budget and task; a notebook shows the tables.

    Args:
        results: what `run` or `load` returned, or a selection of its rows.
        baseline: the method that the others are compared with; LoRA, or else the first method, by default.

    Raises:
        UserError: the frame is another one, or has no score of the baseline.
    """
    store, left_out = _origin(results, "leaderboard")
    if "row_order" not in results or "run_id" not in results:
        raise UserError("leaderboard needs all columns of the frame; select rows, and not columns")
    runs = pd.DataFrame(results).reset_index(drop=True)
    kept = {run_id: left_out[run_id] for run_id in runs["run_id"] if run_id in left_out}
    suites = read_suites(sorted(runs["suite"].unique()), store.root)
    boards = leaderboards(Frame(runs, (), kept, suites=suites), baseline)
    numbers = Leaderboards(cells_frame(runs, boards).drop(columns=[*BOARD, *CURVE, "row_order"]))
    numbers.boards = [board for board in boards if board.in_full]
    return numbers


def _origin(results: pd.DataFrame, wanted_by: str) -> tuple[Store, Mapping[str, LeftOut | str]]:
    folder, left_out = getattr(results, "folder", None), getattr(results, "left_out", None)
    if folder is None or left_out is None:
        raise UserError(f"{wanted_by} needs a frame of parbench.run or parbench.load, or a selection of its rows")
    return Store(folder), left_out


def _group(group: type, values: dict[str, Any]) -> Any:
    """Return an option group, and take what it has from the values."""
    names = [entry.name for entry in fields(group) if entry.name not in _NOT_IN_PYTHON]
    return group(**option_values(group, {name: values.pop(name) for name in names if name in values}))
