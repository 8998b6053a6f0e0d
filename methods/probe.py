"""The abilities of methods, found by trying them and not from their declarations."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save

from parbench.bench.util.base_precision import QUANTISED, BasePrecision
from parbench.methods import find_method
from parbench.methods.base import Method, Setting
from parbench.methods.testing.after_training import try_merging
from parbench.methods.testing.before_training import starting_change
from parbench.methods.testing.check import RULES, make_subject, quiet_workspace, run_rules
from parbench.methods.testing.findings import EQUAL, FaultError, NotApplicableError
from parbench.methods.testing.models import TINY_MODELS, WIDER_MODELS
from parbench.methods.testing.quantised import check_on
from parbench.methods.testing.report import CheckOutcome
from parbench.methods.testing.subject import Subject, first_line

# The checks that a method must pass to work on a model; merging and start are reported separately.
WORKING = tuple(rule for rule in RULES if rule.name in ("adapt", "groups", "gradients", "training", "save"))
REASON_LENGTH = 120


@dataclass(frozen=True)
class Ability:
    """Whether a method has an ability.

    Attributes:
        reason: why it does not, in a few words; empty if it does.
    """

    able: bool
    reason: str = ""


@dataclass(frozen=True)
class AdapterSize:
    """The size of an adapter on a tiny model.

    Attributes:
        model: name of the tiny model.
        width: of the tiny model's hidden states; methods with wide blocks need a wider one.
        size: value of the size knob, e.g. ``r=8``; empty without a size knob.
        reported: parameters as the method's paper counts.
        optimised: parameters of the adapter that are optimised at any time.
        file_bytes: length of the adapter's safetensors file, without the task head.
    """

    model: str
    width: int
    size: str
    reported: int
    optimised: int
    file_bytes: int


@dataclass(frozen=True)
class Capabilities:
    """The abilities of one method on tiny models.

    Attributes:
        method: its name or expression.
        models: whether it can be applied, trained, saved and loaded, by name of `parbench.methods.testing.TINY_MODELS`;
            models that were not reached in time are missing.
        starts_at_base: whether the untrained adapter leaves the outputs as they are; ``None`` if it works on no model.
        merges: whether it can be merged and unmerged; ``None`` if it works on no model.
        quantised: whether it works on a base model with quantised weights, by precision.
        reason: why probing is missing or incomplete.
    """

    method: str
    models: Mapping[str, Ability] = field(default_factory=dict)
    starts_at_base: Ability | None = None
    merges: Ability | None = None
    counts: AdapterSize | None = None
    quantised: Mapping[str, Ability] = field(default_factory=dict)
    reason: str = ""


def capability_rows(names: Iterable[str]) -> list[Capabilities]:
    """Probe methods by name or expression; one that cannot be loaded has a row with the reason."""
    rows = []
    for name in names:
        try:
            choice = find_method(name)
            setting = choice.method.setting_type.model_validate(dict(choice.values)) if choice.values else None
        except Exception as error:  # an outside package may raise anything when it is imported
            rows.append(Capabilities(name, reason=shortened(first_line(error))))
        else:
            rows.append(probe(choice.method, setting))
    return rows


def probe(method: Method[Any], setting: Setting | None = None, seconds: float = 30.0) -> Capabilities:
    """Probe a method on every tiny model; never raises.

    Args:
        setting: its hyper-parameters; by default as `parbench.methods.testing.check_method` chooses them.
        seconds: no further model is started after this time. Most methods take a few seconds for all.
    """
    try:
        with quiet_workspace() as workspace:
            return _probe(method, setting, workspace, time.monotonic() + seconds)
    except Exception as error:  # errors outside the checks
        return Capabilities(method.name, reason=shortened(first_line(error)))


def _probe(method: Method[Any], setting: Setting | None, workspace: Path, deadline: float) -> Capabilities:
    models: dict[str, Ability] = {}
    main: Subject | None = None
    reason = ""
    for name, tiny in TINY_MODELS.items():
        if models and time.monotonic() > deadline:
            reason = f"out of time after {', '.join(models)}"
            break
        subject = make_subject(method, setting, (tiny, WIDER_MODELS[name]), workspace)
        models[name] = _works(subject)
        if main is None and models[name].able:
            main = subject
    if main is None:
        reasons = {ability.reason for ability in models.values()}
        common = reasons.pop() if len(reasons) == 1 else "works on no tiny model"
        return Capabilities(method.name, models, reason=reason or common)
    quantised: dict[str, Ability] = {precision: _on_quantised(main, precision) for precision in QUANTISED}
    return Capabilities(method.name, models, _start(main), _merge(main), _counts(main), quantised, reason)


def shortened(reason: str) -> str:
    """Return a reason cut to the width of a table."""
    return reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1].rstrip() + "…"


def _works(subject: Subject) -> Ability:
    if subject.obstacle is not None:
        return Ability(False, shortened(first_line(subject.obstacle)))
    for check in run_rules(WORKING, subject):
        if check.outcome is not CheckOutcome.PASSED:
            return Ability(False, shortened(str(check)))
    return Ability(True)


def _start(subject: Subject) -> Ability:
    change = starting_change(subject)
    return Ability(True) if change <= EQUAL else Ability(False, f"outputs change by {change:.2g}")


def _merge(subject: Subject) -> Ability:
    try:
        try_merging(subject)
    except FaultError as fault:
        return Ability(False, shortened(str(fault)))
    return Ability(True)


def why_unsuited(method: Method[Any], precision: BasePrecision, architecture: str, otherwise: str) -> str | None:
    """Return why a method does not work on quantised weights, tried on a tiny model; ``None`` where it does.

    Args:
        method: the method, with its default setting.
        precision: of the weights.
        architecture: name of the tiny model of `parbench.methods.testing.TINY_MODELS`.
        otherwise: name of the one that is tried where there is none of that name.
    """
    name = architecture if architecture in TINY_MODELS else otherwise
    with quiet_workspace() as workspace:
        subject = make_subject(method, None, (TINY_MODELS[name], WIDER_MODELS[name]), workspace)
        # Whether it is on the base model at all is checked apart.
        return None if subject.obstacle is not None else _on_quantised(subject, precision).reason or None


def _on_quantised(subject: Subject, precision: BasePrecision) -> Ability:
    try:
        check_on(precision, subject, merging=False)
    except (FaultError, NotApplicableError) as finding:
        return Ability(False, shortened(str(finding)))
    return Ability(True)


def _counts(subject: Subject) -> AdapterSize:
    method, adapted = subject.method, subject.fresh
    knob = method.size_knob
    return AdapterSize(
        model=subject.tiny.name,
        width=subject.tiny.build().config.hidden_size,
        size=f"{knob.field}={getattr(subject.setting, knob.field)}" if knob else "",
        reported=method.reported_parameters(adapted.model, adapted.names),
        optimised=adapted.adapter_numbers,
        file_bytes=len(save(method.adapter_state(adapted.model, adapted.names))),
    )
