"""Checks of use: wrong options, casts, chosen epochs, vocabulary matrices and recomputed activations.

Each check raises its finding as one sentence.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from transformers import set_seed

from parbench.methods.testing.findings import (
    EQUAL,
    FaultError,
    NotApplicableError,
    difference,
    loaded,
    several,
    stored_tensors,
)
from parbench.methods.testing.models import TIED_MODEL, loss
from parbench.methods.testing.subject import REFUSALS, SEED, AdaptedTinyModel, Subject, first_line

# Relative to the change of the outputs by training; rounding to bfloat16 is far below.
EQUAL_CAST = 0.1
EQUAL_GRADIENTS = 1e-4

NO_MODULE = "no_such_module"
NO_LAYER = 99


def check_selection(subject: Subject) -> None:
    """A module or a layer that the model does not have is refused, also beside others that it has."""
    names = subject.fresh.names
    for option, value in (("target_modules", (*names.query_value, NO_MODULE)), ("layers", (0, NO_LAYER))):
        try:
            setting = type(subject.setting).model_validate({**subject.setting.model_dump(), option: value})
            subject.adapt(setting)
        except REFUSALS:
            continue
        raise FaultError(
            f"{option}={list(value)} is accepted, although {value[-1]} matches nothing, and would be left out in "
            "silence; use parbench.methods.selection in adapt"
        )


def check_rates(subject: Subject) -> None:
    """Every learning rate that is searched changes that of a parameter group."""
    fields = {dimension.field for dimension in subject.method.search_space}
    searched = {"learning_rate" if field == "update_step" else field for field in fields}
    for field in sorted(name for name in searched if name.endswith("learning_rate")):
        if field == "head_learning_rate" and not subject.fresh.names.head:
            continue
        doubled = subject.setting.model_copy(update={field: 2 * getattr(subject.setting, field)})
        groups = subject.method.parameter_groups(subject.fresh.model, subject.fresh.names, doubled)
        before = {group.name: group.learning_rate for group in subject.fresh.groups if group.parameters}
        if {group.name: group.learning_rate for group in groups if group.parameters} == before:
            raise FaultError(
                f"{field} is in the search space, but no parameter group follows setting.{field}: every trial would be "
                "the same"
            )
    if "update_step" in fields and subject.method.atom_norm(subject.setting, (64, 64)) is None:
        raise FaultError("update_step is in the search space, but atom_norm is None; search learning_rate instead")


def check_cast(subject: Subject) -> None:
    """The adapter computes the same after the whole model was cast to bfloat16 and back."""
    trained = subject.trained
    adapter = {id(p) for p in trained.adapter}
    if not adapter or all(name in trained.of_base for name, p in trained.tensors() if id(p) in adapter):
        raise NotApplicableError("nothing is trained apart from the base model and its head")
    own = {name for name, tensor in trained.tensors() if id(tensor) in adapter}
    expected, state = subject.outputs(trained.model), trained.state()
    with _values(trained.model, {name: trained.start[name] for name in own}):
        effect = float((expected - subject.outputs(trained.model)).norm())
    rest = {name: tensor for name, tensor in state.items() if name in trained.of_base or trained.names.in_head(name)}
    # Base model and head are restored in full precision, so that only the adapter has been cast.
    cast = copy.deepcopy(trained.model).bfloat16().float()
    with _values(cast, rest):
        error = float((subject.outputs(cast) - expected).norm())
    if not error <= EQUAL_CAST * effect:
        raise FaultError(
            f"a cast of the model to bfloat16 and back changes the outputs by {error / effect:.0%} of the change by "
            "training: keep in float32 what 16 bits cannot hold (see FullPrecisionParameterDict)"
        )


def check_chosen_epoch(subject: Subject) -> None:
    """Weights from the end of the method's schedule, as a chosen epoch has them, are saved and loaded as they are."""
    trained = subject.trained
    folder = subject.workspace / "chosen"
    with _values(trained.model, subject.after_schedule):
        expected = subject.outputs(trained.model)
        subject.method.save(trained.model, folder)
    change = difference(subject.outputs(loaded(subject, folder)), expected)
    if not change <= EQUAL:
        share = subject.method.schedule_share(subject.setting)
        raise FaultError(
            f"an epoch after {share:.0%} of the steps, saved when training has ended, changes the outputs by "
            f"{change:.2g}: schedule_share must be the share after which the weights have their final form"
        )


def check_vocabulary(subject: Subject) -> None:
    """An adapter on the vocabulary's matrices, tied or not, can be saved, without the frozen matrices."""
    refusals = []
    for targets in (("lm_head",), ("embed_tokens", "lm_head")):
        try:
            setting = type(subject.setting).model_validate({**subject.setting.model_dump(), "target_modules": targets})
            on_vocabulary = Subject(subject.method, setting, TIED_MODEL, subject.workspace / "-".join(targets))
            adapted = on_vocabulary.adapt()
        except Exception as error:  # of any type: it ends a run before its training
            refusals.append(first_line(error))
            continue
        for batch in on_vocabulary.batches(1):
            on_vocabulary.step(adapted, batch, adapted.optimiser())
        where = f"with target_modules={list(targets)} on a model whose vocabulary matrices are tied"
        try:
            save(subject.method.adapter_state(adapted.model, adapted.names))
            subject.method.save(adapted.model, on_vocabulary.workspace / "saved")
        except Exception as error:
            raise FaultError(f"{where}, a trained adapter cannot be saved ({first_line(error)})") from error
        raise_for_frozen(adapted, stored_tensors(on_vocabulary.workspace / "saved"), where)
        change = difference(
            on_vocabulary.outputs(loaded(on_vocabulary, on_vocabulary.workspace / "saved")),
            on_vocabulary.outputs(adapted.model),
        )
        if not change <= EQUAL:
            raise FaultError(f"{where}, the saved adapter changes the outputs by {change:.2g} when it is loaded")
    if len(refusals) == 2:
        raise NotApplicableError(f"the method does not adapt vocabulary matrices ({refusals[0]})")


def raise_for_frozen(adapted: AdaptedTinyModel, stored: dict[str, Tensor], where: str = "") -> None:
    """Raise where a file holds a matrix of the base model that is not trained."""
    frozen = [
        tensor
        for name, tensor in adapted.tensors()
        if name in adapted.of_base and id(tensor) not in adapted.optimised and tensor.ndim > 1
    ]
    held = [
        name
        for name, tensor in stored.items()
        if any(tensor.shape == base.shape and torch.equal(tensor, base) for base in frozen)
    ]
    if held:
        prefix = f"{where}, " if where else ""
        raise FaultError(f"{prefix}{several(held, 'tensor')} in the file, but of the frozen base model")


def check_checkpointing(subject: Subject) -> None:
    """Gradients are the same when activations are recomputed in the backward pass, unless that is ruled out."""
    method = subject.method
    if not method.allows_checkpointing:
        raise NotApplicableError("allows_checkpointing = False is declared")
    expected, found = _gradients(subject, False), _gradients(subject, True)
    for name, gradient in expected.items():
        scale = float(gradient.norm())
        if scale and not float((found[name] - gradient).norm()) <= EQUAL_GRADIENTS * scale:
            raise FaultError(
                f"with gradient checkpointing, the gradient of {name} is another one: compute the same when a layer's "
                "forward pass is repeated, or declare allows_checkpointing = False"
            )


def _gradients(subject: Subject, recompute: bool) -> dict[str, Tensor]:
    adapted = subject.adapt()
    model: Any = adapted.model.train()
    if recompute:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    optimiser = adapted.optimiser()
    # The second step: some factors have no gradient in the first.
    for batch in subject.batches(2):
        set_seed(SEED)
        optimiser.zero_grad()
        inputs = {name: tensor[:1] for name, tensor in batch.items()}
        loss(model(**{n: t for n, t in inputs.items() if n != "labels"}).logits, inputs["labels"]).backward()
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in model.named_parameters()
            if id(p) in adapted.optimised
        }
        optimiser.step()
    return gradients


@contextmanager
def _values(model: nn.Module, values: dict[str, Tensor]) -> Iterator[None]:
    """Give some parameters and buffers of a model other values inside the block."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    before = {name: tensors[name].detach().clone() for name in values}
    with torch.no_grad():
        for name, value in values.items():
            tensors[name].copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                tensors[name].copy_(value)
