"""Differences between a measured row and a printed one as short phrases, derived from the record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pandas as pd

from parbench.bench.util.base_precision import FLOAT32
from parbench.methods.presets import Preset, presets_of
from parbench.reports.published.sources import PublishedNumber
from parbench.reports.tables import percent

# Bits of a quantised weight of the base model, by precision.
QUANTISED_BITS = {"int8": 8, "nf4": 4}


def differences(runs: pd.DataFrame, printed: PublishedNumber) -> Iterator[str]:
    """Yield every part of the protocol that differs, or is not known to be the same.

    Args:
        runs: the runs of the measured row, which all have one setting.
        printed: the printed number.
    """
    run, source = runs.iloc[0], printed.source
    if run["base_model"] != printed.base_model:
        yield f"base model {run['base_model']}, not {printed.base_model}"
    yield from _base_weights(str(run["base_precision"]), printed)
    if run["small"]:
        yield "small suite: small data, few steps"
    if pd.notna(run["limit"]):
        yield f"at most {int(run['limit'])} examples of each split"
    if pd.notna(run["evaluation_limit"]):
        yield f"at most {int(run['evaluation_limit'])} reported examples of each subset"
    if run["train_fraction"] < 1:
        yield f"{percent(run['train_fraction'])} of the training split"
    if run["budget"] is not None and pd.notna(run["budget"]):
        yield f"size fitted to a budget: {run['budget']}"
    epoch = "best" if run["protocol"] == "paper:best_epoch" else "last"
    here = f"here the {epoch}, by protocol {run['protocol']}"
    if source.epoch is None:
        yield f"the paper does not state which epoch it reports; {here}"
    elif source.epoch == "best" != epoch:
        yield f"the paper reports the best epoch of each run on the reported split; {here}"
    yield from _seeds(runs, printed)
    if run["task"] in source.warm_start:
        yield "the paper starts from its MNLI checkpoint; here from the pretrained model"
    if "examples/selection" in runs and (held_out := runs["examples/selection"].max()) > 0:
        yield f"{held_out:,} training examples are held out here for selection"
    if _without_strict(printed.method) == run["method"] != printed.method:
        yield "learning rates are not grouped as in the authors' code (modifier without strict)"
    yield from _settings(run, printed)
    if source.counts_head:
        yield "the paper's parameter count includes the task head"
    yield from source.notes
    if printed.note:
        yield printed.note


def _base_weights(precision: str, printed: PublishedNumber) -> Iterator[str]:
    """Yield how the weights of the base model differ in precision, or in how they were quantised."""
    if printed.base_bits is None:
        if precision != FLOAT32:
            yield f"base weights in {precision}"
    elif QUANTISED_BITS.get(precision) == printed.base_bits:
        yield f"base weights in {precision}; the paper's have {printed.base_bits} bits, too"
    else:
        yield f"base weights in {precision}, not in {printed.base_bits} bits"


def names_it(method: str, printed: PublishedNumber) -> bool:
    """Return whether a measured method is the printed one, with or without the authors' parameter grouping."""
    return method in (printed.method, _without_strict(printed.method))


def _without_strict(method: str) -> str:
    return method.replace(",strict)", ")")


def _seeds(runs: pd.DataFrame, printed: PublishedNumber) -> Iterator[str]:
    there = printed.source.seeds
    here = f"the mean of {runs['seed'].nunique()}"
    statistic = printed.source.statistic
    if there is None:
        yield f"the paper does not state the number of seeds; here {here}"
    elif there != runs["seed"].nunique() or statistic != "mean":
        yield f"{statistic or 'statistic not stated'} of {there} seeds; here {here}"


def _settings(run: Any, printed: PublishedNumber) -> Iterator[str]:
    """Yield the hyper-parameters whose printed value differs."""
    preset = _preset(printed)
    on_task = preset.on(printed.task) if preset else None
    for kind, theirs in (
        ("setting", {**(on_task.setting if on_task else {}), **printed.setting}),
        ("training", {**(on_task.training if on_task else {}), **printed.training}),
    ):
        ours: Mapping[str, Any] = json.loads(run[kind])
        for name, value in sorted(theirs.items()):
            if name not in ours or ours[name] != value:
                here = _shown(ours[name]) if name in ours else "unset"
                yield f"{name} {here}, not {_shown(value)}"
        if kind == "training" and ours.get("max_steps") is not None and "max_steps" not in theirs:
            yield f"stops after {ours['max_steps']} steps"
    if preset and preset.not_published:
        yield f"not stated in the paper: {' '.join(preset.not_published.split())}"


# Each table has many numbers of one method, whose file would be parsed for each.
_presets_of = cache(presets_of)


def _preset(printed: PublishedNumber) -> Preset | None:
    """Return the paper's settings behind a printed number, if it states them and there is a preset of them."""
    arxiv = re.search(r"arXiv [\d.]+\d", printed.source.paper)
    found = [
        preset
        for preset in _presets_of(printed.method)
        if printed.source.preset
        and printed.source.own
        and arxiv is not None
        and arxiv.group() in preset.source
        and preset.base_model == printed.base_model
        and printed.task in preset.tasks
        and all(preset.on(printed.task).setting.get(name, value) == value for name, value in printed.setting.items())
    ]
    return found[0] if found else None


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
