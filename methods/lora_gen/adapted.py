"""LoRA-Gen as one causal language model that takes the edge's inputs and system prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .generator import Generated
from .model import LoraGen


@dataclass
class AdaptedOutput(ModelOutput):
    """Output of a forward pass with a system prompt for each sample.

    Attributes:
        logits: shape (batch, tokens, vocabulary).
        auxiliary_loss: L_cv (equation 9), which training adds to its own loss.
    """

    logits: Tensor | None = None
    auxiliary_loss: Tensor | None = None


class AdaptedEdge(nn.Module):
    """A `LoraGen` with the interface of a causal language model.

    In training every batch has the tokens of its system prompts. In `specialised` the cloud reads one system prompt
    once for many questions. Without either, the system prompt is empty.

    Its ``state_dict`` is `LoraGen.trainable_state`: the trained parameters and the statistics of BatchNorm, without the
    weights of the two models.

    Attributes:
        lora_gen: cloud, generator and edge.
        prompts: tokens of the named system prompts it was specialised with, by name.
    """

    def __init__(self, lora_gen: LoraGen) -> None:
        super().__init__()
        self.lora_gen = lora_gen
        self.prompts: dict[str, list[int]] = {}
        # The LoRA of one system prompt for all inputs: applied, or merged.
        self._applied: Generated | None = None
        self._merged = False

    @property
    def config(self) -> PreTrainedConfig:
        """That of the edge."""
        return self.lora_gen.edge.config

    @property
    def reader_config(self) -> PreTrainedConfig:
        """That of the cloud."""
        return cast(PreTrainedConfig, self.lora_gen.encoder.cloud.config)

    @property
    def device(self) -> torch.device:
        """That of the edge."""
        return self.lora_gen.edge.device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        system_prompt_ids: Tensor | None = None,
        system_prompt_mask: Tensor | None = None,
        **edge_inputs: Any,
    ) -> ModelOutput:
        """Run the edge on ``input_ids``, with the LoRA of each sample's system prompt.

        Args:
            input_ids: tokens of the edge's vocabulary, shape (batch, tokens).
            attention_mask: 0 for padding.
            system_prompt_ids: tokens of the cloud's vocabulary, shape (batch, tokens).
            system_prompt_mask: 0 for padding, on either side.
            edge_inputs: further inputs of the edge's forward pass.

        Raises:
            ValueError: system prompts are given, but the model is specialised or merged with another one.
        """
        if self._applied is not None or self._merged:
            if system_prompt_ids is not None:
                raise ValueError("the model has one LoRA for all inputs; leave the system prompts of the batch out")
            output = self.lora_gen.edge(
                input_ids=input_ids, attention_mask=attention_mask, **{"use_cache": False, **edge_inputs}
            )
            return cast(ModelOutput, output)
        if system_prompt_ids is None:
            system_prompt_ids = input_ids.new_zeros(1, 0)
        found = self.lora_gen(
            system_prompt_ids, system_prompt_mask, input_ids=input_ids, attention_mask=attention_mask, **edge_inputs
        )
        return AdaptedOutput(logits=found.logits, auxiliary_loss=found.cv_loss)

    def generate(self, **arguments: Any) -> Any:
        """Call ``generate`` of the edge with the LoRA that the model is specialised with."""
        if self._applied is not None or self._merged:
            return self._edge().generate(**arguments)
        with self.specialised([]):
            return self._edge().generate(**arguments)

    @contextmanager
    def specialised(self, system_prompt: Sequence[int], name: str | None = None) -> Iterator[None]:
        """Give the edge the LoRA of one system prompt inside the block.

        Args:
            system_prompt: tokens of the cloud's vocabulary.
            name: key of the system prompt in `prompts`, if it is to be kept.
        """
        if self._applied is not None or self._merged:
            raise ValueError("the model has the LoRA of a system prompt already")
        if name is not None:
            self.prompts[name] = list(system_prompt)
        self._applied = self.lora_gen.read(system_prompt)
        try:
            with self.lora_gen.using(self._applied):
                yield
        finally:
            self._applied = None

    def merge_adapter(self, system_prompt: Sequence[int] = ()) -> None:
        """Add the LoRA of a system prompt to the edge's weights."""
        self.lora_gen.merge(self.lora_gen.read(system_prompt))
        self._merged = True

    def unmerge_adapter(self) -> None:
        """Restore the weights of the edge."""
        self.lora_gen.unmerge()
        self._merged = False

    def merge_and_unload(self, system_prompt: Sequence[int] = ()) -> PreTrainedModel:
        """Return the plain edge model with the LoRA of a system prompt merged; this module is unusable afterwards."""
        self.merge_adapter(system_prompt)
        return self.lora_gen.release_edge()

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recompute the activations of all layers of both models in the backward pass.

        Args:
            activation_checkpointing_kwargs: as in transformers; only ``use_reentrant=False`` is supported.
            every_n_layers: only 1 is supported.
            offload: not supported.

        Raises:
            ValueError: another value is given.
        """
        asked = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if asked != {"use_reentrant": False} or every_n_layers != 1 or offload:
            raise ValueError(
                "LoRA-Gen recomputes the activations of all layers; give use_reentrant=False and nothing else"
            )
        self.lora_gen.gradient_checkpointing_enable()

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return the trained parameters and BatchNorm's statistics."""
        found = {} if destination is None else destination
        found.update({prefix + name: tensor for name, tensor in self.lora_gen.trainable_state().items()})
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what `state_dict` returned.

        Raises:
            ValueError: it is from other models or options; nothing is changed.
        """
        self.lora_gen.load_trainable_state(state_dict)
        return _IncompatibleKeys([], [])

    def _edge(self) -> Any:
        return self.lora_gen.edge
