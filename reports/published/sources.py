"""The printed numbers: one CSV file per paper, and ``sources.yaml``, which gives their origin and protocol."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

# Methods of papers whose tables could not be read; their rows report that, beside what others measured.
UNAVAILABLE = {
    "loca": "Du et al., ICLR 2025 (arXiv 2502.06820)",
    "replora": "Truong et al., ICML 2025 (arXiv 2502.03044)",
}


# Costs that papers print, by the name of the metric: the column of the frame, and its units in one of the printed.
COSTS = {"train_hours": ("cost/train_seconds", 3600.0), "peak_device_gb": ("cost/peak_device_bytes", 1e9)}


class PublishedTable(BaseModel):
    """A table of a paper, or a part of it with uniform provenance.

    Attributes:
        paper: authors, venue, year.
        table: number of the table.
        own: whether the authors ran it themselves instead of quoting earlier work.
        measured_by_others: whether they are not the authors of the method; ``False`` also where that is not known.
        statistic: statistic over the seeds; ``None`` if not stated.
        seeds: number of seeds; ``None`` if not stated.
        epoch: reported epoch of a run: the ``best`` on the printed split, the ``last``, or not stated.
        warm_start: tasks that start from an MNLI checkpoint.
        counts_head: whether printed parameter counts include the task head; ``None`` if not stated.
        preset: whether the settings behind it are those of the paper's preset in ``methods.presets``, if it has one.
        setting: hyper-parameters of the method that are the same in all rows.
        training: likewise of the training.
        notes: further remarks.
        not_joined: numbers of the paper that stand beside nothing here, and why; a sentence for each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    table: str
    own: bool
    measured_by_others: bool = False
    statistic: Literal["mean", "median"] | None = None
    seeds: int | None = None
    epoch: Literal["best", "last"] | None = None
    warm_start: tuple[str, ...] = ()
    counts_head: bool | None = None
    preset: bool = True
    setting: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    not_joined: tuple[str, ...] = ()

    def __str__(self) -> str:
        origin = ("" if self.own else ", quoted there") + (", measured by others" if self.measured_by_others else "")
        return f"{self.paper}, {self.table}{origin}"


@dataclass(frozen=True)
class PublishedNumber:
    """One printed number.

    Attributes:
        method: registered name of the method.
        base_model: name of the base model.
        base_bits: of a weight of the base model, if it is quantised; ``None`` of one that is not.
        task: name of the task.
        metric: name of the metric; on a subset of a task ``METRIC_SUBSET``; or of a cost, see `COSTS`.
        value: as printed.
        spread: the number printed after ±, if any; a standard deviation unless the source's notes state otherwise.
        unit: what ``value`` is: ``percent`` of a fraction, or the metric ``as is``.
        decimals: how many are printed, at least one.
        parameters: trainable parameters, as printed; empty if not printed.
        setting: hyper-parameters that the table prints, with those of the source.
        training: likewise of the training.
        source: the table.
        note: a remark on this number.
    """

    method: str
    base_model: str
    base_bits: int | None
    task: str
    metric: str
    value: float
    spread: float | None
    unit: Literal["percent", "as is"]
    decimals: int
    parameters: str
    setting: dict[str, Any]
    training: dict[str, Any]
    source: PublishedTable
    note: str

    @property
    def factor(self) -> int:
        """Factor from the measured to the printed unit."""
        return 100 if self.unit == "percent" else 1

    @property
    def base(self) -> str:
        """The base model in words."""
        return self.base_model if self.base_bits is None else f"{self.base_model} in {self.base_bits} bits"


@cache
def published() -> tuple[PublishedNumber, ...]:
    """Return all printed numbers, by paper and in the order of its tables."""
    folder = files("parbench.reports.published")
    blocks = yaml.safe_load((folder / "sources.yaml").read_text(encoding="utf-8"))
    sources = TypeAdapter(dict[str, PublishedTable]).validate_python(blocks)
    tables = sorted((file for file in folder.iterdir() if file.name.endswith(".csv")), key=lambda file: file.name)
    return tuple(
        _number(row, sources[row["source"]])
        for table in tables
        for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    )


def _number(row: dict[str, str], source: PublishedTable) -> PublishedNumber:
    setting, training = (_pairs(row.get(name) or "") for name in ("setting", "training"))
    unit: Literal["percent", "as is"] = "percent" if row["unit"] == "percent" else "as is"
    return PublishedNumber(
        method=row["method"],
        base_model=row["base_model"],
        base_bits=int(row["base_bits"]) if row.get("base_bits") else None,
        task=row["task"],
        metric=row["metric"],
        value=float(row["value"]),
        spread=float(row["spread"]) if row["spread"] else None,
        unit=unit,
        decimals=max(1, len(row["value"].partition(".")[2])),
        parameters=row["parameters"],
        setting={**source.setting, **setting},
        training={**source.training, **training},
        source=source,
        note=row["note"],
    )


def _pairs(text: str) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in (pair.split("=") for pair in text.split())}
