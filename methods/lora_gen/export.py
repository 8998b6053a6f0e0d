"""The LoRA of one system prompt in peft's format."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from parbench.methods.adapter_files import save_config
from parbench.methods.from_peft.tuner import check_mergeable

from .config import LoraGenConfig
from .edge import Edge, EdgeLinear, Projection
from .generator import Generated


@dataclass(frozen=True)
class GeneratedAdapter:
    """A plain LoRA adapter of the edge model, generated for one system prompt.

    It is used without the cloud model and this package.

    Attributes:
        config: the content of ``adapter_config.json``.
        tensors: the content of ``adapter_model.safetensors``: ``base_model.model.<module>.lora_A.weight``, shape
            (rank, d_in), and ``...lora_B.weight``, shape (d_out, rank).
    """

    config: LoraConfig
    tensors: Mapping[str, Tensor]

    @property
    def numbers(self) -> int:
        """Number of parameters."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def save(self, folder: str | Path) -> None:
        """Write a folder that ``PeftModel.from_pretrained(edge, folder)`` loads without this package."""
        save_config(self.config, Path(folder))
        save_file(dict(self.tensors), Path(folder) / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})

    def attach(self, model: PreTrainedModel) -> PeftModel:
        """Put the adapter on an edge model (changed in place).

        Raises:
            ValueError: the model is part of a `LoraGen`, or has another architecture.
        """
        if any(isinstance(module, EdgeLinear) for module in model.modules()):
            raise ValueError(
                "this edge model is part of a LoraGen; call its release_edge() first, or give another copy of the model"
            )
        adapted = cast(PeftModel, get_peft_model(model, copy.deepcopy(self.config)))
        places = {name: tensor.shape for name, tensor in get_peft_model_state_dict(adapted).items()}
        if places != {name: tensor.shape for name, tensor in self.tensors.items()}:
            adapted.unload()
            raise ValueError(
                f"the adapter is for another edge model: its tensors differ in number or shape from what this "
                f"{type(model).__name__} takes; give the model it was generated for"
            )
        set_peft_model_state_dict(adapted, dict(self.tensors))
        return adapted.eval()

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add the update to the weights of an edge model, which is then as fast as before (section 3.2).

        Raises:
            ValueError: as in `attach`; or the model is quantised.
        """
        adapted = self.attach(model)
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                try:
                    check_mergeable(module.get_base_layer().weight, "default")
                except ValueError:
                    adapted.unload()
                    raise
        return cast(PreTrainedModel, adapted.merge_and_unload())


def to_adapter(generated: Generated, edge: Edge, config: LoraGenConfig) -> GeneratedAdapter:
    """Convert the LoRA of one system prompt to a peft adapter.

    Raises:
        ValueError: several system prompts were given.
    """
    if generated.samples != 1:
        raise ValueError(f"an adapter is for one system prompt, not {generated.samples}; generate them one by one")
    tensors: dict[str, Tensor] = {}
    for layer, factors in zip(edge.layers, generated.layers, strict=True):
        for projection in layer:
            prefix = f"base_model.model.{projection.path}"
            tensors[f"{prefix}.lora_A.weight"] = factors[projection.name].a[0]
            tensors[f"{prefix}.lora_B.weight"] = factors[projection.name].b[0]
    # Copies, which later training does not change.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    lora = LoraConfig(
        r=config.delivered_rank,
        lora_alpha=config.delivered_alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=config.lora_dropout,
        target_modules=target_modules(edge),
        fan_in_fan_out=any(isinstance(projection.module, Conv1D) for layer in edge.layers for projection in layer),
        task_type="CAUSAL_LM",
        base_model_name_or_path=edge.model.name_or_path or None,
        inference_mode=True,
    )
    return GeneratedAdapter(lora, tensors)


def target_modules(edge: Edge) -> list[str]:
    """Return the shortest names that match the adapted modules and no others.

    ``up_proj``, but ``mlp.c_proj``, since GPT-2's attention has a ``c_proj`` too.
    """
    candidates = [name.replace(".base_layer", "") for name, module in edge.model.named_modules() if _is_linear(module)]
    return sorted(
        _shortest(name, [layer[number] for layer in edge.layers], candidates)
        for number, name in enumerate(projection.name for projection in edge.layers[0])
    )


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _shortest(name: str, projections: Sequence[Projection], candidates: Sequence[str]) -> str:
    parts = name.split(".")
    wanted = {projection.path for projection in projections}
    for start in range(len(parts) - 1, 0, -1):
        suffix = ".".join(parts[start:])
        if {path for path in candidates if path.endswith(f".{suffix}")} == wanted:
            return suffix
    return name
