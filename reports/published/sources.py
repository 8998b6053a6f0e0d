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

# Methods whose papers print tables that could not be read. Their rows say so, rather than nothing.
UNAVAILABLE = {
    "loca": "Du et al., ICLR 2025 (arXiv 2502.06820)",
    "replora": "Truong et al., ICML 2025 (arXiv 2502.03044)",
}


class PublishedTable(BaseModel):
    """A table of a paper, or the part of it that was made in one way.

    Attributes:
        paper: who, where, when.
        table: which.
        own: run by the paper's authors, not quoted from earlier work.
        statistic: of the seeds; ``None`` where it is not stated.
        seeds: how many; ``None`` where it is not stated.
        epoch: of a run that is reported: the ``best`` on the split that is printed, the ``last``, or not stated.
        warm_start: tasks that start from an MNLI checkpoint.
        counts_head: whether printed parameter counts hold the task head; ``None`` where it is not stated.
        preset: whether the settings behind it are those of the paper's preset in ``methods.presets``, if it has one.
        setting: the method's hyper-parameters that are the same in all rows.
        training: the training's.
        notes: what else a reader must know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    table: str
    own: bool
    statistic: Literal["mean", "median"] | None = None
    seeds: int | None = None
    epoch: Literal["best", "last"] | None = None
    warm_start: tuple[str, ...] = ()
    counts_head: bool | None = None
    preset: bool = True
    setting: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.paper}, {self.table}{'' if self.own else ', quoted there'}"


@dataclass(frozen=True)
class PublishedNumber:
    """One printed number.

    Attributes:
        method: the method's name here.
        base_model: the base model's.
        task: the task's.
        metric: the metric's; on the parts of a task ``METRIC_PART``.
        value: as printed.
        spread: what is printed behind the ±, if anything; standard deviation unless the source's notes say otherwise.
        unit: what ``value`` is: ``percent`` of a fraction, or the metric ``as is``.
        decimals: how many are printed, at least one.
        parameters: trainable parameters, as printed; empty where they are not.
        setting: hyper-parameters that the table prints, with those of the source.
        source: where it is printed.
        note: what a reader must know of this number.
    """

    method: str
    base_model: str
    task: str
    metric: str
    value: float
    spread: float | None
    unit: Literal["percent", "as is"]
    decimals: int
    parameters: str
    setting: dict[str, Any]
    source: PublishedTable
    note: str

    @property
    def factor(self) -> int:
        """What a measured value is multiplied by to be in the printed unit."""
        return 100 if self.unit == "percent" else 1


@cache
def published() -> tuple[PublishedNumber, ...]:
    """Return every printed number that is kept here, by paper and in the order of its tables."""
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
    pairs = (pair.split("=") for pair in row["setting"].split())
    unit: Literal["percent", "as is"] = "percent" if row["unit"] == "percent" else "as is"
    return PublishedNumber(
        method=row["method"],
        base_model=row["base_model"],
        task=row["task"],
        metric=row["metric"],
        value=float(row["value"]),
        spread=float(row["spread"]) if row["spread"] else None,
        unit=unit,
        decimals=max(1, len(row["value"].partition(".")[2])),
        parameters=row["parameters"],
        setting={**source.setting, **{name: json.loads(value) for name, value in pairs}},
        source=source,
        note=row["note"],
    )
