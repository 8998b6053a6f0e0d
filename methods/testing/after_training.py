"""Checks of training and of the trained adapter: repeated, resumed, merged, saved and disabled.

Each check raises its finding as one sentence.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save

from parbench.methods.merging import unwrap_heads
from parbench.methods.testing.findings import (
    EQUAL,
    FaultError,
    NotApplicableError,
    difference,
    largest_change,
    loaded,
    raise_unless_equal,
    raise_unless_finite,
    several,
    stored_tensors,
)
from parbench.methods.testing.robustness import raise_for_frozen
from parbench.methods.testing.subject import (
    INTERRUPTED_AFTER,
    REFUSALS,
    STEPS,
    AdaptedTinyModel,
    Subject,
    first_line,
)

# Relative to the largest logit: merging rounds the weight once more.
EQUAL_MERGED = 1e-4

UNSAFE_FILES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def check_training(subject: Subject) -> None:
    """Training with the method's callbacks moves adapter and head and leaves the base model bit-identical."""
    trained = subject.trained
    before, after = trained.start, trained.state()
    raise_unless_finite(subject.outputs(trained.model), f"after {STEPS} steps")
    moved = {name for name in before if name not in after or not torch.equal(before[name], after[name])}
    optimised = {name for name, tensor in trained.tensors() if id(tensor) in trained.optimised}
    # Buffers of the adapter may change: they are not weights.
    frozen = trained.of_base | dict(trained.model.named_parameters()).keys() - optimised
    if drifted := sorted(moved & frozen - optimised):
        most = largest_change(drifted, before, after)
        raise FaultError(
            f"{several(drifted, 'tensor')} in no parameter group, but moved by up to {most:.2g} in training"
        )
    head = {name for name in optimised if trained.names.in_head(name)}
    if still := sorted(head - moved):
        raise FaultError(f"{several(still, 'parameter')} of the task head, but not moved by {STEPS} steps")
    if optimised - head and not moved & optimised - head:
        raise FaultError(
            f"{several(sorted(optimised - head), 'parameter')} of the adapter, and none is moved by {STEPS} steps"
        )
    if lost := _not_stored(subject, trained):
        raise FaultError(f"{several(lost, 'weight')} of the base model and trained, but not in adapter_state")


def check_determinism(subject: Subject) -> None:
    """The same seed gives the same initial and final values."""
    raise_unless_equal(subject.trained.start, subject.trained_again.start, "the same seed starts with other values in")
    again = subject.trained_again.state()
    raise_unless_equal(subject.trained.state(), again, "training again with the same seed ends with other values in")


def check_resume(subject: Subject) -> None:
    """An interrupted and resumed training has the same result as an uninterrupted one."""
    what = f"{STEPS} steps that were resumed after {INTERRUPTED_AFTER} end with other values than uninterrupted ones in"
    raise_unless_equal(subject.trained.state(), subject.resume().state(), what)


def check_merge(subject: Subject) -> None:
    """Merging and unmerging keep the outputs, unless ``mergeable = False`` is declared."""
    declared = subject.method.mergeable
    if _in_place(subject.trained):
        raise NotApplicableError(
            "nothing is trained apart from the base model and its head, so there is nothing to merge"
        )
    try:
        try_merging(subject)
    except FaultError as fault:
        if declared:
            raise
        raise NotApplicableError(f"mergeable = False is declared, and {fault}") from fault
    if not declared:
        raise FaultError("mergeable = False is declared, but merging keeps the outputs; declare mergeable = True")


def try_merging(subject: Subject) -> None:
    """Merge, unmerge and unload a copy of the trained model.

    Raises:
        FaultError: merging is not possible, is refused, or changes the outputs.
    """
    if not hasattr(subject.trained.model, "merge_and_unload"):
        raise FaultError("the adapted model has no merge_and_unload")
    expected = subject.outputs(subject.trained.model)
    model: Any = copy.deepcopy(subject.trained.model)
    try:
        model.merge_adapter()
        merged = subject.outputs(model)
        model.unmerge_adapter()
        unmerged = subject.outputs(model)
        unwrap_heads(model)
        unloaded = subject.outputs(model.merge_and_unload())
    except (*REFUSALS, AttributeError) as error:
        raise FaultError(f"merging raises {type(error).__name__} ({first_line(error)})") from error
    for found, fault in (
        (merged, "merging changes the outputs by {}: get_delta_weight or merge disagrees with forward"),
        (unmerged, "merging and unmerging changes the outputs by {}: unmerge does not undo merge"),
        (unloaded, "merge_and_unload changes the outputs by {}: what it returns is not the merged model"),
    ):
        change = difference(found, expected)
        if not change <= EQUAL_MERGED:
            raise FaultError(fault.format(f"{change:.2g} (allowed {EQUAL_MERGED:.0e} relative)"))


def check_save(subject: Subject) -> None:
    """`save` writes the adapter as safetensors, and loading it onto a fresh base model gives the same outputs."""
    trained, folder = subject.trained, subject.workspace / "saved"
    subject.method.save(trained.model, folder)
    unsafe = sorted(path.name for path in folder.rglob("*") if path.suffix in UNSAFE_FILES)
    if unsafe:
        raise FaultError(f"save writes {', '.join(unsafe)}, which loads by unpickling; write safetensors")
    stored = stored_tensors(folder)
    expected = subject.method.adapter_state(trained.model, trained.names)
    # As the size in a record is measured; raises for tensors that share memory.
    save(expected)
    raise_for_frozen(trained, stored)
    adapter = {name: tensor for name, tensor in stored.items() if not trained.names.in_head(name)}
    raise_unless_equal(expected, adapter, "the file and adapter_state differ in")
    change = difference(subject.outputs(loaded(subject, folder)), subject.outputs(trained.model))
    if not change <= EQUAL:
        raise FaultError(
            f"the saved adapter, loaded onto a fresh base model, changes the outputs by {change:.2g} (allowed "
            f"{EQUAL:.0e} relative): something that was trained or drawn is not in the file"
        )


def check_disable(subject: Subject) -> None:
    """With adapter and head disabled the trained model has the base model's outputs; enabled again, its own."""
    model = subject.trained.model
    if not isinstance(model, PeftModel):
        raise NotApplicableError("the adapted model is not a peft model, so there is not an adapter to disable")
    expected = subject.outputs(model)
    with model.disable_adapter():
        disabled = subject.outputs(model)
    change = difference(disabled, subject.base_outputs)
    if not change <= EQUAL:
        raise FaultError(
            f"with the adapter disabled, the outputs differ from the base model's by {change:.2g} (allowed "
            f"{EQUAL:.0e} relative)"
        )
    change = difference(subject.outputs(model), expected)
    if not change <= EQUAL:
        raise FaultError(f"disabling the adapter and enabling it again changes the outputs by {change:.2g}")


def _in_place(adapted: AdaptedTinyModel) -> bool:
    """Return whether the method trains parameters of the base model only."""
    own = {id(p) for name, p in adapted.model.named_parameters() if name in adapted.of_base}
    return all(id(p) in own for p in adapted.adapter)


def _not_stored(subject: Subject, trained: AdaptedTinyModel) -> list[str]:
    """Return the trained weights of the base model that are missing in the adapter's file."""
    stored = list(subject.method.adapter_state(trained.model, trained.names).values())
    return [
        name
        for name, p in trained.model.named_parameters()
        if id(p) in trained.optimised and name in trained.of_base and not trained.names.in_head(name)
        # By value, since the method chooses the names in the file.
        if not any(tensor.shape == p.shape and torch.equal(tensor, p) for tensor in stored)
    ]
