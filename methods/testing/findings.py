"""Exceptions and comparisons of the checks."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from parbench.methods.testing.subject import OTHER_SEED, State, Subject

# Relative to the largest logit.
EQUAL = 1e-5


class FaultError(Exception):
    """A violation of the contract, as one sentence with the measured value."""


class NotApplicableError(Exception):
    """Why a check does not apply to a method, as one sentence."""


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest expected number; infinite for different shapes."""
    if found.shape != expected.shape:
        return inf
    return float((found - expected).abs().max() / expected.abs().max())


def raise_unless_equal(expected: State, found: State, fault: str) -> None:
    """Raise a `FaultError` if two states are not bit-identical."""
    names = [
        name
        for name in {**expected, **found}
        if name not in expected or name not in found or not torch.equal(expected[name], found[name])
    ]
    if names:
        most = largest_change(names, expected, found)
        everything = len({**expected, **found})
        raise FaultError(f"{fault} {len(names)} of {everything} tensors, by up to {most:.2g} (the first: {names[0]})")


def largest_change(names: Iterable[str], before: State, after: State) -> float:
    """Return the largest absolute change of the named tensors; infinite for a missing or reshaped tensor."""
    return max(
        float((after[name].float() - before[name].float()).abs().max())
        if name in before and name in after and before[name].shape == after[name].shape
        else inf
        for name in names
    )


def raise_unless_finite(logits: Tensor, when: str) -> None:
    """Raise a `FaultError` if an output is infinite or NaN."""
    bad = int((~torch.isfinite(logits)).sum())
    if bad:
        raise FaultError(f"{bad} of {logits.numel()} outputs are not finite {when}")


def several(names: list[str], kind: str) -> str:
    """Return ``the parameter a.b is``, or ``3 parameters (a.b and others) are``."""
    return f"the {kind} {names[0]} is" if len(names) == 1 else f"{len(names)} {kind}s ({names[0]} and others) are"


def stored_tensors(folder: Path) -> State:
    """Return all tensors of a folder's safetensors files."""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise FaultError("save writes no safetensors file")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def loaded(subject: Subject, folder: Path, base: PreTrainedModel | None = None) -> nn.Module:
    """Load a saved adapter onto a base model, by default a fresh one, in another state of the random generators."""
    if isinstance(subject.fresh.model, PeftModel):
        base = base or subject.tiny.build()
        torch.manual_seed(OTHER_SEED)
        return PeftModel.from_pretrained(base, str(folder))
    model = subject.adapt(seed=OTHER_SEED, base=base).model
    unknown = model.load_state_dict(stored_tensors(folder), strict=False).unexpected_keys
    if unknown:
        raise FaultError(f"{several(unknown, 'tensor')} in the file, but not in the adapted model")
    return model
