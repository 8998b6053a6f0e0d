"""Whether a checkpoint fits its architecture, and the layers that must be newly initialised."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from parbench.bench.util.errors import UserError
from parbench.methods.architecture import module_names

# A layer between the backbone and a head, inside the backbone's module: pretraining without a sentence-level loss
# leaves it out.
POOLER = "pooler"

_SHOWN = 3
# Fewer tensors that end like others may do so by chance: many end with "dense.weight".
_LEAST_EXPLAINED = 3


@dataclass(frozen=True)
class LoadReport:
    """What transformers found when it matched a checkpoint with a model, as names of the model's tensors.

    Attributes:
        missing: tensors of the model that the checkpoint lacks.
        unexpected: tensors of the checkpoint that the model has no place for, under the checkpoint's names.
        mismatched: tensors of another shape in the checkpoint.
    """

    missing: frozenset[str]
    unexpected: frozenset[str]
    mismatched: frozenset[str]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> LoadReport:
        """Read the ``loading_info`` of ``from_pretrained``."""
        return cls(
            frozenset(info["missing_keys"]),
            frozenset(info["unexpected_keys"]),
            frozenset(name for name, *_ in info["mismatched_keys"]),
        )


def layers_for_head(model: PreTrainedModel, report: LoadReport, origin: str) -> tuple[str, ...]:
    """Return the leaf names of missing layers that belong to the head: poolers, and what lies outside the backbone.

    Args:
        model: the model under its head.
        report: of loading it.
        origin: name of the base model, for messages.

    Raises:
        UserError: the checkpoint lacks tensors of the backbone, or has them in another shape.
    """
    names = module_names(model)
    wrong_shape = sorted(name for name in report.mismatched if not names.in_head(name))
    if wrong_shape:
        raise UserError(
            f'the weights of "{origin}" do not fit its configuration: {_listed(wrong_shape)} '
            "has another shape; get the weights and the configuration from one place"
        )
    layers: dict[str, None] = {}
    lacking = []
    for name in sorted(report.missing):
        if names.in_head(name):
            continue
        layer = _head_layer(model, name)
        if layer is None:
            lacking.append(name)
        else:
            layers[layer] = None
    if lacking:
        raise UserError(_misfit(model, report, lacking, origin))
    return tuple(layers)


def unused_layers(model: PreTrainedModel, report: LoadReport) -> str | None:
    """Return a warning where a checkpoint has more layers of a kind than the configuration uses."""
    own = {_numbers.sub("#", name) for name in model.state_dict()}
    left_out = sorted(
        name
        for name in report.unexpected
        if not own.isdisjoint((_numbers.sub("#", name), _numbers.sub("#", f"{model.base_model_prefix}.{name}")))
    )
    if not left_out:
        return None
    return f"the checkpoint has layers that its configuration leaves out: {_listed(left_out)}"


_numbers = re.compile(r"\b\d+\b")


def redraw_head(model: PreTrainedModel, report: LoadReport) -> None:
    """Initialise from torch's generator what the checkpoint brought of a head (an ImageNet classifier, say)."""
    names = module_names(model)
    brought = {name for name, _ in model.named_parameters() if names.in_head(name)} - report.missing - report.mismatched
    for module in map(model.get_submodule, dict.fromkeys(name.rpartition(".")[0] for name in sorted(brought))):
        for parameter in module.parameters(recurse=False):
            # transformers does not initialise what it has read from a file.
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        model._init_weights(module)


def match(model: PreTrainedModel, shapes: Mapping[str, Collection[int]]) -> LoadReport:
    """Return what transformers finds when it loads a checkpoint with tensors of these shapes as a model like this.

    No weight is read.
    """
    empty = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    _, info = cast(Any, type(model)).from_pretrained(
        None,
        config=copy.deepcopy(model.config),
        state_dict=empty,
        device_map="meta",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return LoadReport.of(info)


def _head_layer(model: PreTrainedModel, tensor: str) -> str | None:
    """Return the leaf name of the layer of the head that a missing tensor is in, if it is in one."""
    parts = tensor.split(".")
    if POOLER in parts[:-1]:
        return POOLER
    outside = model.base_model is not model and parts[0] != model.base_model_prefix
    return parts[0] if outside and len(parts) > 1 else None


def _misfit(model: PreTrainedModel, report: LoadReport, lacking: list[str], origin: str) -> str:
    names = module_names(model)
    total = sum(not names.in_head(name) for name in model.state_dict())
    message = (
        f'the checkpoint of "{origin}" does not fit its configuration: it lacks {len(lacking)} of the {total} tensors '
        f"of the backbone, such as {_listed(lacking)}"
    )
    if prefixes := _prefixes(lacking, report.unexpected):
        found, expected = prefixes
        return (
            f'{message}; the prefix "{expected}" would fit, and its tensors have "{found}": rename them, or save the '
            "model without what wraps it"
        )
    return f"{message}; get the whole checkpoint, or the configuration that it was made with"


def _prefixes(lacking: Collection[str], unexpected: Collection[str]) -> tuple[str, str] | None:
    """Return the prefix that tensors of a checkpoint have, and the one that would fit, where that explains most."""
    by_end: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(unexpected):
        by_end.setdefault(_end(name), []).append(name)
    pairs: Counter[tuple[str, str]] = Counter()
    for name in lacking:
        common = {other: _common_end(name, other) for other in by_end.get(_end(name), ())}
        if common:
            other = max(common, key=lambda other: len(common[other]))
            pairs[_prefix_pair(name, other, common[other])] += 1
    prefixes, explained = pairs.most_common(1)[0] if pairs else (("", ""), 0)
    return prefixes if explained >= _LEAST_EXPLAINED and 2 * explained > len(lacking) else None


def _prefix_pair(lacking: str, other: str, common: str) -> tuple[str, str]:
    expected, found = lacking.removesuffix(common), other.removesuffix(common)
    # A prefix that must only be left out is shown with what follows it: "module.bert." for "bert.".
    following = "" if expected else f"{common.partition('.')[0]}."
    return found + following, expected + following


def _end(name: str) -> tuple[str, ...]:
    return tuple(name.split(".")[-2:])


def _common_end(one: str, other: str) -> str:
    """Return the longest common end of two dotted names, in whole parts."""
    parts: list[str] = []
    for first, second in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if first != second:
            break
        parts.append(first)
    return ".".join(reversed(parts))


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
