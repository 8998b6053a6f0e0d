"""Converts a trained RepLoRA adapter to the equivalent LoRA adapter."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from parbench.methods.adapter_files import save_config

from .config import RepLoraConfig
from .layer import RepLoraLayer


@torch.no_grad()
def export_lora(
    peft_model: PeftModel, directory: str | Path | None = None, adapter_name: str = "default"
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Evaluate the generators and return their outputs as a LoRA adapter.

    The result computes the same function and has ``r * (d_in + d_out)`` parameters per module, as any LoRA of rank r.
    Modules trained whole (`modules_to_save`) are included.

    Args:
        peft_model: the trained model, which is not changed.
        directory: folder for ``adapter_config.json`` and ``adapter_model.safetensors``, which
            ``PeftModel.from_pretrained`` loads without this package; `None` writes nothing.
        adapter_name: the adapter to export.

    Returns:
        The configuration of the LoRA, and its state dict with the keys and values of the file.

    Raises:
        ValueError: the adapter does not exist, or is not a RepLoRA.
    """
    config = peft_model.peft_config.get(adapter_name)
    if not isinstance(config, RepLoraConfig):
        known = ", ".join(name for name, c in peft_model.peft_config.items() if isinstance(c, RepLoraConfig))
        raise ValueError(f"{adapter_name!r} is not a RepLoRA adapter of this model; choose one of: {known or 'none'}")

    # What peft saves beside the adapter, such as the task head.
    own = tuple(f"base_model.{name}." for name in RepLoraLayer.adapter_layer_names)
    saved = get_peft_model_state_dict(peft_model, adapter_name=adapter_name, save_embedding_layers=False)
    tensors = {key: value for key, value in saved.items() if not key.startswith(own)}
    on_conv1d = False
    for name, module in peft_model.named_modules():
        if isinstance(module, RepLoraLayer) and adapter_name in module.replora_generators:
            a, b = module.get_factors(adapter_name)
            tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
            on_conv1d = on_conv1d or module.is_conv1d
    # Copies, so that tensors are not shared and do not change in later training.
    tensors = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}

    lora_config = LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.dropout,
        fan_in_fan_out=on_conv1d,
        target_modules=_listed(config.target_modules),
        exclude_modules=_listed(config.exclude_modules),
        layers_to_transform=config.layers_to_transform,
        layers_pattern=config.layers_pattern,
        modules_to_save=config.modules_to_save,
        task_type=config.task_type,
        base_model_name_or_path=config.base_model_name_or_path,
        revision=config.revision,
        inference_mode=True,
    )
    if directory is not None:
        save_config(lora_config, Path(directory))
        save_file(tensors, Path(directory) / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    return lora_config, tensors


def _listed(names: list[str] | set[str] | str | None) -> list[str] | str | None:
    return names if names is None or isinstance(names, str) else sorted(names)
