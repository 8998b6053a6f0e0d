"""The options of the command line that change a suite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parbench.bench.budget import BudgetMode
from parbench.bench.train.protocol import Protocol, Purpose
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util.base_precision import BasePrecision
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.yaml import read_yaml

# The owner of the settings of the training, as in `--set train.max_steps=50`.
TRAINING = "train"
NO_BUDGET = "none"


@dataclass(frozen=True)
class Overrides:
    """The options of the command line that change a suite; ``None`` keeps the suite's value.

    Attributes:
        methods: method expressions, see `parbench.methods.expression`.
        sets: ``method.key=value`` or ``train.key=value``, in the order given.
        budgets: limits on the adapter's parameters, as `parbench.bench.budget.budget.parse_budgets` reads them, or
            `NO_BUDGET` for none where the suite has one.
        options: task options, for every task that has them.
        budget_mode: how to fill a budget that a uniform size misses.
        data_root: read the data from this folder instead of the suite's source.
        protocol: rules of selection and reporting.
        train_fractions: shares of the training split to train on, one run per share.
        base_precisions: of the frozen weights, one run per precision; ``None`` takes those of the suite.
        retention: whether to measure how much general text the runs forget.
        purpose: the purpose of the runs; not an option of the user.
    """

    methods: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    base_model: str | None = None
    seeds: tuple[int, ...] | None = None
    limit: int | None = None
    evaluation_limit: int | None = None
    sets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    data_root: Path | None = None
    budgets: str | None = None
    budget_mode: BudgetMode = "uniform"
    protocol: Protocol | None = None
    train_fractions: tuple[float, ...] = (1.0,)
    base_precisions: tuple[BasePrecision, ...] | None = None
    retention: bool = False
    purpose: Purpose = Purpose.REPORT


def read_sets(sets: Iterable[str], owners: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse ``owner.key=value`` texts with YAML values; ``owners`` are the methods and tasks of the comparison.

    Raises:
        UserError: a text is not of this form, names another owner, or gives a second value to what another has set.
    """
    allowed = [TRAINING, *owners]
    found: dict[str, dict[str, Any]] = {}
    for text in sets:
        match = re.fullmatch(r"(?P<owner>.+?)\.(?P<key>\w+)=(?P<value>.*)", text)
        if match is None:
            raise UserError(f'"--set {text}" is not of the form method.key=value, for example {_example(text)}')
        if match["owner"] not in allowed:
            raise UserError(
                f'"--set {text}": "{match["owner"]}" is not in this comparison{did_you_mean(match["owner"], allowed)}'
            )
        try:
            value = read_yaml(match["value"])
        except ValueError as error:
            raise UserError(f'"--set {text}": the value is neither a number, a word nor a [list]') from error
        first = found.setdefault(match["owner"], {}).setdefault(match["key"], value)
        if first is not value and first != value:
            raise UserError(f'"--set {text}": another --set makes it {first}; give one of the two')
    return found


def _example(text: str) -> str:
    """Return what was perhaps meant, where the owner of a known key is left out."""
    key, _, value = text.partition("=")
    known = TrainingSettings.elsewhere.known_as(key, TrainingSettings.model_fields)
    return f"{TRAINING}.{known}={value}" if known else "lora.r=4"
