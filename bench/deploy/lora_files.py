"""Writes a converted LoRA as a folder that peft and serving engines read."""

from __future__ import annotations

from pathlib import Path

from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file

from parbench.bench.deploy.conversion import ConvertedLora
from parbench.methods.adapter_files import save_config


def write_lora(lora: ConvertedLora, folder: Path) -> int:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; return the bytes of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    save_config(lora.config, folder)
    file = folder / SAFETENSORS_WEIGHTS_NAME
    save_file(lora.tensors, file, metadata={"format": "pt"})
    return file.stat().st_size
