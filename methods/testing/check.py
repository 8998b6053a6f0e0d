"""Runs the checks on one method."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers.utils import logging as transformers_logging

from parbench.methods.base import Method, Setting
from parbench.methods.declaration import declaration_fault
from parbench.methods.testing import after_training, before_training, quantised, robustness
from parbench.methods.testing.findings import FaultError, NotApplicableError
from parbench.methods.testing.models import TINY_MODELS, WIDER_MODELS, TinyModel
from parbench.methods.testing.report import Check, CheckOutcome, ConformanceReport
from parbench.methods.testing.subject import REFUSALS, Subject, first_line, size_candidates, with_size


@dataclass(frozen=True)
class Rule:
    """A check by name.

    Attributes:
        run: raises `FaultError` or `NotApplicableError`.
        needs: checks that must have passed, or this one would repeat their finding with another reason.
        everywhere: whether it is done on every kind of base model, or on one.
    """

    name: str
    run: Callable[[Subject], None]
    needs: tuple[str, ...] = ()
    everywhere: bool = False


# What would be found again on quantised weights.
ON_FULL_PRECISION = ("start", "gradients", "training", "save")

RULES: tuple[Rule, ...] = (
    Rule("adapt", before_training.check_adapt, everywhere=True),
    Rule("start", before_training.check_start, ("adapt",), everywhere=True),
    Rule("groups", before_training.check_groups, ("adapt",), everywhere=True),
    Rule("count", before_training.check_count, ("groups",)),
    Rule("size", before_training.check_size, ("count",)),
    Rule("rates", robustness.check_rates, ("groups",)),
    Rule("selection", robustness.check_selection, ("adapt",)),
    Rule("skeleton", before_training.check_skeleton, ("adapt",)),
    Rule("gradients", before_training.check_gradients, ("groups",), everywhere=True),
    Rule("training", after_training.check_training, ("groups",), everywhere=True),
    Rule("determinism", after_training.check_determinism, ("training",)),
    Rule("resume", after_training.check_resume, ("determinism",)),
    Rule("merge", after_training.check_merge, ("training",), everywhere=True),
    Rule("save", after_training.check_save, ("training",), everywhere=True),
    Rule("disable", after_training.check_disable, ("training",), everywhere=True),
    Rule("cast", robustness.check_cast, ("training",)),
    Rule("epoch", robustness.check_chosen_epoch, ("save",)),
    Rule("vocabulary", robustness.check_vocabulary, ("save",)),
    Rule("recompute", robustness.check_checkpointing, ("gradients", "determinism")),
    Rule("bfloat16", before_training.check_bfloat16, ("adapt",)),
    Rule("int8", quantised.check_int8, ON_FULL_PRECISION),
    Rule("nf4", quantised.check_nf4, ON_FULL_PRECISION),
)
ON_EVERY_MODEL: tuple[Rule, ...] = tuple(rule for rule in RULES if rule.everywhere)


def check_method(
    method: Method[Any], setting: Setting | None = None, *, model: TinyModel | None = None
) -> ConformanceReport:
    """Check that a method keeps the contract of `parbench.methods.base.Method`.

    All checks are done on the first of `TINY_MODELS` that the method can be applied to; those of the adapter are also
    done on the others, which the method may refuse with a `ValueError` in `Method.adapt`.

    Args:
        setting: its hyper-parameters; default: those of its setting type, with another size for a tiny model that
            refuses the default size.
        model: the only model to check; default: all of `TINY_MODELS`.

    Raises:
        ValueError: no setting is given, and the method's setting type lacks a default.
    """
    if declared := declaration_fault(method):
        name = getattr(method, "name", None) or getattr(method, "__name__", type(method).__name__)
        return ConformanceReport(str(name), "no model", (Check("declaration", CheckOutcome.FAILED, declared),))
    with quiet_workspace() as workspace:
        models = [[model]] if model is not None else [[TINY_MODELS[name], WIDER_MODELS[name]] for name in TINY_MODELS]
        subjects = [make_subject(method, setting, widths, workspace) for widths in models]
        main = next((subject for subject in subjects if subject.obstacle is None), None)
        if main is None:
            reasons = "; ".join(f"{s.tiny.name}: {first_line(s.obstacle)}" for s in subjects if s.obstacle)
            refused = f"the method can be applied to no tiny model ({reasons})"
            fault = Check("adapt", CheckOutcome.FAILED, refused, subjects[0].obstacle)
            return ConformanceReport(method.name, " or ".join(s.tiny.name for s in subjects), (fault,))
        checks = [*run_rules(RULES, main), *(check_elsewhere(subject) for subject in subjects if subject is not main)]
    return ConformanceReport(method.name, main.tiny.name, tuple(checks))


@contextmanager
def quiet_workspace() -> Iterator[Path]:
    """Yield a temporary folder, with warnings and progress bars of libraries off."""
    bars = transformers_logging.is_progress_bar_enabled()
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers_logging.disable_progress_bar()
        try:
            yield Path(folder)
        finally:
            if bars:
                transformers_logging.enable_progress_bar()


def make_subject(method: Method[Any], setting: Setting | None, widths: Sequence[TinyModel], workspace: Path) -> Subject:
    """Return a method on the first width of a model that it accepts, or on the first width if it refuses all.

    Without a setting, the default setting is used, or the first size that the model accepts.

    Raises:
        ValueError: no setting is given, and the method's setting type lacks a default.
    """
    settings = [setting] if setting is not None else list(_settings(method))
    subjects = [Subject(method, chosen, tiny, workspace / tiny.name) for tiny in widths for chosen in settings]
    # Any other error than a refusal is a fault of the method, which the checks report.
    return next((subject for subject in subjects if not isinstance(subject.obstacle, REFUSALS)), subjects[0])


def _settings(method: Method[Any]) -> Iterator[Setting]:
    try:
        default = method.setting_type()
    except ValidationError as error:
        needed = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise ValueError(f'the setting of the method "{method.name}" has no default for {needed}; give one') from error
    yield default
    for size in size_candidates(method):
        # Values that the setting refuses are skipped.
        with suppress(ValueError):
            yield with_size(method, default, size)


def run_rules(rules: tuple[Rule, ...], subject: Subject) -> Iterator[Check]:
    """Run the checks in order, without those whose required checks did not pass."""
    passed: set[str] = set()
    for rule in rules:
        check = _run(rule, subject, [name for name in rule.needs if name not in passed])
        if check.outcome is CheckOutcome.PASSED:
            passed.add(rule.name)
        yield check


def check_elsewhere(subject: Subject) -> Check:
    """Run the checks for every tiny model, as one check with the model's name."""
    checks = list(run_rules(ON_EVERY_MODEL, subject))
    adapt = checks[0]
    faults = [check for check in checks if check.outcome is CheckOutcome.FAILED]
    if faults:
        reason = "; ".join(str(fault) for fault in faults)
        return Check(subject.tiny.name, CheckOutcome.FAILED, reason, faults[0].cause)
    return Check(subject.tiny.name, adapt.outcome, adapt.reason)


def _run(rule: Rule, subject: Subject, not_passed: list[str]) -> Check:
    if not_passed:
        return Check(rule.name, CheckOutcome.NOT_APPLICABLE, f"not done, since {not_passed[0]} did not pass")
    try:
        rule.run(subject)
    except NotApplicableError as reason:
        return Check(rule.name, CheckOutcome.NOT_APPLICABLE, str(reason))
    except FaultError as fault:
        return Check(rule.name, CheckOutcome.FAILED, str(fault), fault)
    except Exception as error:  # any error of a method is a finding, and the other checks continue
        return Check(rule.name, CheckOutcome.FAILED, f"raises {type(error).__name__} ({first_line(error)})", error)
    return Check(rule.name, CheckOutcome.PASSED)
