"""The command that runs a recommended option: exactly the setting that it is recommended with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from parbench.bench.models.catalogue import registered_name
from parbench.bench.plan.overrides import NO_BUDGET, TRAINING, Overrides
from parbench.bench.plan.planner import choose_suite_for
from parbench.bench.plan.resolve import Resolver
from parbench.bench.plan.suite import AUTO, Suite, load_suite, suite_names
from parbench.bench.record.run_spec import Json
from parbench.bench.store.store import Store
from parbench.bench.train.protocol import Protocol
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.reports.recommend.options import Option, rate_to_begin
from parbench.reports.recommend.quality import Quality
from parbench.reports.suites import plain_name
from parbench.tasks import find_task
from parbench.tasks.base import Task
from parbench.tasks.data.lock import RevisionLock

SEEDS = "1,2,3"
# Of a document in YAML that is one scalar.
_END = "...\n"


@dataclass(frozen=True)
class Asked:
    """What a recommendation was asked for, as far as the command repeats it.

    Attributes:
        task: a name, or the file that defines it.
        model: a name, a hub id or a folder.
        batch: examples per step, in place of the records'.
        length: tokens per example, in place of the records'.
        most_length: what the base model takes, where that is limited.
        data_root: folder of the data.
        stores: folders of records.
    """

    task: str
    model: str
    batch: int | None = None
    length: int | None = None
    most_length: int | None = None
    data_root: Path | None = None
    stores: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Command:
    """Its words, and a sentence on what it cannot say of the recommended runs; empty where it says all."""

    words: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True)
class _Usual:
    """What a suite gives a method on a task where the command sets nothing."""

    setting: Json
    training: Json
    options: Json


def begin(option: Option, found: Quality, asked: Asked) -> Command:
    """Return the command that runs an option.

    Of what was measured on the task itself it plans the recommended runs, with seeds of its own: the same setting,
    training, limits, budget and options. From other tasks it takes the setting, the training, the protocol and the
    precision. What the suite gives anyway is left out.
    """
    evidence, cell = found.cell_of(option.row)
    is_own, task = found.basis == "measured", find_task(asked.task)
    named = _shipped_suite(cell) if is_own else None
    overrides = Overrides(
        methods=(option.method,),
        tasks=(asked.task,),
        base_model=registered_name(asked.model),
        data_root=asked.data_root,
        protocol=Protocol(str(cell["protocol"])),
    )
    suite = load_suite(named) if named else choose_suite_for(AUTO, overrides).suite
    usual = _usual(Resolver(suite, overrides, RevisionLock(Store(Path(evidence.store)).lock_file)), option, task)
    words = ["bench", "run", "--methods", option.method, "--tasks", asked.task, "--model", asked.model]
    words += ["--seeds", SEEDS, *(["--suite", named] if named else [])]
    words += _conditions(cell, suite, task) if is_own else _no_budget(suite)
    if overrides.protocol not in (None, suite.protocol):
        words += ["--protocol", str(cell["protocol"])]
    if (option.precision,) != suite.base_precisions:
        words += ["--base-precision", option.precision]
    setting = _setting(option, is_own)
    if is_own and pd.notna(cell["budget"]):
        setting = _before_the_budget(option.method, setting, usual.setting)
    values = {option.method: _differing(setting, usual.setting)}
    values[TRAINING] = _differing(_training(option, asked, is_own), usual.training)
    values[task.name] = _differing(_json(cell["options"]), usual.options) if is_own else {}
    words += [part for owner, given in values.items() for one in _sets(owner, given) for part in ("--set", one)]
    words += ["--data-root", str(asked.data_root)] if asked.data_root else []
    words += ["--out", str(_store(asked, evidence.store))] if asked.stores else []
    return Command(tuple(words), _unsaid(cell, suite, task) if is_own else "")


def _shipped_suite(cell: pd.Series[Any]) -> str | None:
    """Return the suite of the recommended runs, where it comes with parbench."""
    names = map(plain_name, str(cell["suites"]).split("; "))
    return next((name for name in names if name in suite_names()), None)


def _usual(resolver: Resolver, option: Option, task: Task) -> _Usual:
    try:
        setting, training = resolver.resolved(option.method, task)
        options = resolver.configured(task).options.deciding()
    except UserError:  # the suite alone does not make a run of it: the command gives every value
        return _Usual({}, {}, {})
    return _Usual(setting.model_dump(mode="json"), training.deciding(), options)


def _conditions(cell: pd.Series[Any], suite: Suite, task: Task) -> list[str]:
    """Return the options that give the limits, the share of the training split and the budget of runs."""
    words = []
    for name in ("limit", "evaluation_limit"):
        if pd.notna(cell[name]) and cell[name] != suite.on(task, name):
            words += [f"--{name.replace('_', '-')}", str(cell[name])]
    if cell["train_fraction"] != 1:
        words += ["--train-fraction", f"{cell['train_fraction']:g}"]
    if pd.notna(cell["retention_before"]):
        words += ["--retention"]
    if pd.isna(cell["budget"]):
        return words + _no_budget(suite)
    # As `parbench.reports.frame.budget_text` writes it.
    asked, _, limit = str(cell["budget"]).rpartition(": at most ")
    mode = limit.partition("(")[2].rstrip(")")
    return [*words, "--budget", asked, *(["--budget-mode", mode] if mode != Overrides.budget_mode else [])]


def _no_budget(suite: Suite) -> list[str]:
    return ["--budget", NO_BUDGET] if suite.budget else []


def _setting(option: Option, is_own: bool) -> Json:
    """Return the hyper-parameters: those of the runs, from other tasks with the mean of their learning rates."""
    rate = rate_to_begin(option)
    return dict(option.setting) if is_own or rate is None else {**option.setting, "learning_rate": float(f"{rate:.3g}")}


def _before_the_budget(method: str, setting: Json, usual: Json) -> Json:
    """Return a setting at the usual size, from which the budget makes its own, with all that goes with a size."""
    found = find_method(method).method
    if found.size_knob is None or found.size_knob.field not in usual:
        return setting
    size = usual[found.size_knob.field]
    return dict(found.with_size(found.setting_type.model_validate(setting), size).model_dump(mode="json"))


def _training(option: Option, asked: Asked, is_own: bool) -> Json:
    training = dict(option.training)
    if asked.batch:
        training["batch_size"] = asked.batch
    if asked.length:
        training["max_length"] = asked.length
    elif not is_own and asked.most_length and training.get("max_length", 0) > asked.most_length:
        training["max_length"] = asked.most_length
    return training


def _json(value: Any) -> Json:
    return {} if pd.isna(value) else dict(json.loads(str(value)))


def _differing(wanted: Mapping[str, Any], usual: Mapping[str, Any]) -> Json:
    return {name: value for name, value in wanted.items() if name not in usual or usual[name] != value}


def _sets(owner: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
        yield f"{owner}.{name}={text.removesuffix(_END).strip()}"


def _store(asked: Asked, evidence: str) -> Path:
    """Return where the records are to go: to those that the option is from, unless these are a published study."""
    return next((folder for folder in asked.stores if str(folder) == evidence), asked.stores[0])


def _unsaid(cell: pd.Series[Any], suite: Suite, task: Task) -> str:
    """Return which limit of the suite cannot be lifted by the command, where the runs had none."""
    limits = [name for name in ("limit", "evaluation_limit") if pd.isna(cell[name]) and suite.on(task, name)]
    if not limits:
        return ""
    names = " and ".join(name.replace("_", " ") for name in limits)
    return (
        f"The recommended runs had no {names}, and the suite {suite.name} has one: give the file of their own suite, "
        f'"{cell["suites"]}", with --suite'
    )
