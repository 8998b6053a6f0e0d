"""LoRA-Gen in the form of one causal language model: the edge's inputs go in, and system prompts beside them."""

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
    """What a forward pass with a system prompt for each sample gives.

    Attributes:
        logits: shape (batch, tokens, vocabulary).
        auxiliary_loss: L_cv (equation 9), which training adds to its own loss.
    """

    logits: Tensor | None = None
    auxiliary_loss: Tensor | None = None


class AdaptedEdge(nn.Module):
    """A `LoraGen` that is trained and asked as a plain causal language model is.

    In training every batch brings the tokens of its system prompts. For a question under a system prompt that many
    questions share there is `specialised`: the cloud reads it once. Without either, the system prompt is an empty one.

    Its ``state_dict`` is `LoraGen.trainable_state`: what is trained, and BatchNorm's statistics. The weights of both
    models are gigabytes, and are where they came from.

    Attributes:
        lora_gen: cloud, generator and edge.
        prompts: the system prompts, as tokens, that it was specialised with by name.
    """

    def __init__(self, lora_gen: LoraGen) -> None:
        super().__init__()
        self.lora_gen = lora_gen
        self.prompts: dict[str, list[int]] = {}
        # Of one system prompt, while there is one for all: applied as a LoRA, or merged.
        self._applied: Generated | None = None
        self._merged = False

    @property
    def config(self) -> PreTrainedConfig:
        """The edge's."""
        return self.lora_gen.edge.config

    @property
    def reader_config(self) -> PreTrainedConfig:
        """The cloud's."""
        return cast(PreTrainedConfig, self.lora_gen.encoder.cloud.config)

    @property
    def device(self) -> torch.device:
        """The edge's."""
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
            ValueError: there are system prompts, and the model is specialised, or merged, with another.
        """
        if self._applied is not None or self._merged:
            if system_prompt_ids is not None:
                raise ValueError("the model has the LoRA of one system prompt for all; leave the batch's own ones out")
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
        """Call the edge's ``generate``, with the LoRA that the model is specialised with."""
        if self._applied is not None or self._merged:
            return self._edge().generate(**arguments)
        with self.specialised([]):
            return self._edge().generate(**arguments)

    @contextmanager
    def specialised(self, system_prompt: Sequence[int], name: str | None = None) -> Iterator[None]:
        """Give the edge the LoRA of one system prompt, for all that is asked inside.

        Args:
            system_prompt: tokens of the cloud's vocabulary.
            name: what `prompts` shall remember it by, if at all.
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
        """Give the edge its own weights back."""
        self.lora_gen.unmerge()
        self._merged = False

    def merge_and_unload(self, system_prompt: Sequence[int] = ()) -> PreTrainedModel:
        """Return the plain edge model with the LoRA of a system prompt merged; this module is of no use afterwards."""
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
            activation_checkpointing_kwargs: as transformers has them; only ``use_reentrant=False`` will do.
            every_n_layers: 1, all of them.
            offload: not available.

        Raises:
            ValueError: anything else is asked for.
        """
        asked = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if asked != {"use_reentrant": False} or every_n_layers != 1 or offload:
            raise ValueError("LoRA-Gen recomputes the activations of all layers, with use_reentrant=False and no more")
        self.lora_gen.gradient_checkpointing_enable()

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return what is trained, and BatchNorm's statistics."""
        found = {} if destination is None else destination
        found.update({prefix + name: tensor for name, tensor in self.lora_gen.trainable_state().items()})
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Set what `state_dict` returned.

        Raises:
            ValueError: it is of other models or options; nothing is changed then.
        """
        self.lora_gen.load_trainable_state(state_dict)
        return _IncompatibleKeys([], [])

    def _edge(self) -> Any:
        return self.lora_gen.edge
