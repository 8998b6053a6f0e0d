"""Converts a trained adapter to a LoRA, which serving engines load."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, convert_to_lora, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers.pytorch_utils import Conv1D

_PREFIX = "base_model.model."


class CannotConvertError(ValueError):
    """An adapter is not the sum of a weight and an update, or not of this rank."""


@dataclass(frozen=True)
class ConvertedLora:
    """A LoRA that stands for another adapter.

    Attributes:
        config: of peft.
        tensors: by name in the adapter file, those of the task head included.
        error: Frobenius norm of what is lost of the weight updates, as a share of theirs.
    """

    config: LoraConfig
    tensors: dict[str, Tensor]
    error: float

    @property
    def numbers(self) -> int:
        """The numbers in the factors."""
        return sum(tensor.numel() for name, tensor in self.tensors.items() if ".lora_" in name)

    @property
    def ranks(self) -> list[int]:
        """The ranks of the modules, ascending."""
        return sorted(tensor.shape[0] for name, tensor in self.tensors.items() if name.endswith("lora_A.weight"))


@torch.no_grad()
def to_lora(model: PeftModel, size: int | float) -> ConvertedLora:
    """Convert the adapter of a model on weights in full precision to a LoRA; the model is not changed.

    By peft's `convert_to_lora`, a truncated singular value decomposition of each update, where peft can. Where the
    update depends on the weight, as DoRA's does, the difference that merging makes is decomposed instead.

    Args:
        model: with one adapter.
        size: a rank; or, between 0 and 1, the share of each update's energy (sum of squares) that is kept.

    Raises:
        CannotConvertError: the adapter cannot be merged, changes more than weights of linear layers, or has no update
            of this rank.
    """
    updates = weight_updates(model)
    config = model.peft_config["default"]
    try:
        if _is_sum(model) and not getattr(config, "use_dora", False):
            _, tensors = convert_to_lora(model, size)
            factors = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
        else:
            factors = _decomposed(updates, size)
    except (TypeError, ValueError) as error:
        raise CannotConvertError(str(error)) from error
    heads = {name: tensor for name, tensor in _saved(model).items() if _in_saved_modules(name, config)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in {**factors, **heads}.items()}
    return ConvertedLora(_config(model, updates, tensors), tensors, _lost(updates, tensors))


@torch.no_grad()
def weight_updates(model: PeftModel) -> dict[str, Tensor]:
    """Return what merging the adapter adds to each weight (out, in), in float32, by name of the module.

    Raises:
        CannotConvertError: it cannot be merged, or changes a bias.
    """
    merged: Any = copy.deepcopy(model)
    try:
        merged = merged.merge_and_unload()
    except Exception as error:  # whatever a tuner raises
        raise CannotConvertError(f"it cannot be merged ({(str(error).splitlines() or [''])[0]})") from error
    found = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        own = name.removeprefix(_PREFIX)
        base: Any = layer.get_base_layer()
        after: Any = merged.get_submodule(own)
        bias, before = getattr(after, "bias", None), getattr(base, "bias", None)
        if bias is not None and (before is None or not torch.equal(bias, before)):
            raise CannotConvertError(f"it changes the bias of {own}")
        update = after.weight.detach().float() - base.weight.detach().float()
        found[own] = update.T if isinstance(base, Conv1D) else update
    if not found:
        raise CannotConvertError("it has no layers that could be merged")
    return found


def _is_sum(model: PeftModel) -> bool:
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return all(layer.supports_lora_conversion("default") for layer in layers)


def _decomposed(updates: dict[str, Tensor], size: int | float) -> dict[str, Tensor]:
    """Return the factors of the updates."""
    found = {}
    for name, update in updates.items():
        if update.ndim != 2:
            raise ValueError(f"{name} is no linear layer")
        left, values, right = torch.linalg.svd(update, full_matrices=False)
        if isinstance(size, int):
            rank = size
        else:
            kept = values.square().cumsum(0)
            rank = min(len(values), int(torch.searchsorted(kept, size * kept[-1])) + 1)
        if rank > len(values):
            raise ValueError(f"rank {rank} is larger than the shorter side of {name}, {len(values)}")
        found[f"{_PREFIX}{name}.lora_A.weight"] = right[:rank]
        found[f"{_PREFIX}{name}.lora_B.weight"] = left[:, :rank] * values[:rank]
    return found


def _saved(model: PeftModel) -> dict[str, Tensor]:
    state: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return state


def _in_saved_modules(name: str, config: Any) -> bool:
    return not set(config.modules_to_save or ()).isdisjoint(name.split("."))


def _config(model: PeftModel, updates: dict[str, Tensor], tensors: dict[str, Tensor]) -> LoraConfig:
    """Return a configuration that selects exactly the converted modules, by their last names where that does."""
    own = model.peft_config["default"]
    ranks = {name: tensors[f"{_PREFIX}{name}.lora_A.weight"].shape[0] for name in updates}
    most = max(ranks.values())
    last = {name.rpartition(".")[2] for name in ranks}
    names = [name.removeprefix(_PREFIX) for name, module in model.named_modules() if name.startswith(_PREFIX)]
    ambiguous = any(name.rpartition(".")[2] in last and name not in ranks for name in names)
    others = {name: rank for name, rank in ranks.items() if rank != most}
    transposed = any(isinstance(layer.get_base_layer(), Conv1D) for layer in _layers(model))
    return LoraConfig(
        r=most,
        lora_alpha=most,  # the scale is part of the factors
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(ranks) if ambiguous else sorted(last),
        modules_to_save=list(getattr(own, "modules_to_save", None) or ()) or None,
        fan_in_fan_out=transposed,
        base_model_name_or_path=own.base_model_name_or_path,
        inference_mode=True,
    )


def _layers(model: PeftModel) -> list[BaseTunerLayer]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _lost(updates: dict[str, Tensor], tensors: dict[str, Tensor]) -> float:
    lost = whole = 0.0
    for name, update in updates.items():
        a, b = (tensors[f"{_PREFIX}{name}.lora_{factor}.weight"].float() for factor in "AB")
        error = update.cpu() - b @ a
        lost, whole = lost + float(error.square().sum()), whole + float(update.square().sum())
    return (lost / whole) ** 0.5 if whole else 0.0
