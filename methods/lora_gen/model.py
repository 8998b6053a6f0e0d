"""LoRA-Gen as one module: cloud, generator and edge, from the system prompt to the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from .cloud import MetaTokenEncoder
from .config import LoraGenConfig
from .edge import Edge
from .export import GeneratedAdapter, to_adapter
from .generator import Generated, LoraGenerator
from .loss import load_balance

WEIGHTS_FILE = "lora_gen.safetensors"
_CLOUD = "cloud_lora."
_GENERATOR = "generator."
_META = "meta_embedding"


@dataclass
class LoraGenOutput(ModelOutput):
    """Output of a forward pass of `LoraGen`.

    Attributes:
        loss: lm_loss + cv_loss (equation 10); ``None`` without labels.
        lm_loss: the edge's mean cross-entropy of the next token, over the tokens with a label.
        cv_loss: L_cv (equation 9), the coefficient included; 0 with ``routing="direct"``.
        logits: the edge's, shape (batch, tokens, vocabulary).
        gates: shape (prompts, L, n); ``None`` with ``routing="direct"``.
    """

    loss: Tensor | None = None
    lm_loss: Tensor | None = None
    cv_loss: Tensor | None = None
    logits: Tensor | None = None
    gates: Tensor | None = None


@dataclass(frozen=True)
class LoraGenParameterCounts:
    """Number of parameters of each part.

    Attributes:
        cloud_lora: the LoRA of the cloud model.
        meta_embedding: the meta tokens.
        routers: f1, f2 and BatchNorm of all layers.
        experts: the expert pools of all layers, or the networks in their place with ``routing="direct"``.
        delivered: the generated LoRA.
    """

    cloud_lora: int
    meta_embedding: int
    routers: int
    experts: int
    delivered: int

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return self.cloud_lora + self.meta_embedding + self.routers + self.experts


class LoraGen(nn.Module):
    """Trains and applies a generator of LoRAs for a small edge model from system prompts read by a cloud model.

    Attributes:
        config: the options.
        tokenizer: of the cloud, for prompts given as text.
        encoder: maps a system prompt to meta tokens; has the cloud model.
        generator: maps meta tokens to LoRAs.
        edge: the edge model, frozen, its feed-forward layers wrapped (see `release_edge`).
    """

    def __init__(
        self,
        cloud: PreTrainedModel,
        edge: PreTrainedModel,
        config: LoraGenConfig | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        """Adapt both models in place.

        Routers and experts have torch's default precision and are on the device of the edge model; the cloud's LoRA and
        the meta tokens are on that of the cloud, in float32 if it has half precision.

        Raises:
            ValueError: one of the models cannot be used, or both are the same object.
        """
        super().__init__()
        if cloud is edge:
            raise ValueError("cloud and edge are the same object; load the model twice, since both are changed")
        self.config = config or LoraGenConfig()
        self.tokenizer = tokenizer
        self._adapted = Edge(edge, self.config)
        shapes = self._adapted.shapes
        try:
            self.encoder = MetaTokenEncoder(cloud, len(shapes), self.config)
        except ValueError:
            self._adapted.release()
            raise
        with torch.device(edge.device):
            self.generator = LoraGenerator(self.encoder.hidden, shapes, self.config)
        self.edge = edge

    def forward(
        self,
        system_prompt_ids: Tensor,
        system_prompt_mask: Tensor | None = None,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **edge_inputs: Any,
    ) -> LoraGenOutput:
        """Generate a LoRA for each system prompt and run each on its own sample of the edge's batch.

        Args:
            system_prompt_ids: tokens of the cloud's vocabulary, shape (batch, tokens); or (1, tokens), one prompt for
                all samples.
            system_prompt_mask: 0 for padding, on either side.
            input_ids: tokens of the edge's vocabulary, shape (batch, tokens).
            attention_mask: 0 for padding.
            labels: as `input_ids`, -100 for tokens without a loss.
            edge_inputs: further inputs of the edge's forward pass.

        Raises:
            ValueError: the number of system prompts is neither 1 nor that of samples.
        """
        if len(system_prompt_ids) not in (1, len(input_ids)):
            raise ValueError(
                f"there are {len(system_prompt_ids)} system prompts for {len(input_ids)} samples; give one for each, "
                "or a single one for all"
            )
        self._adapted.check_checkpointing()
        generated = self.assemble(system_prompt_ids, system_prompt_mask)
        device = self.edge.device
        with self._adapted.using(generated):
            output = self.edge(
                input_ids=input_ids.to(device),
                attention_mask=None if attention_mask is None else attention_mask.to(device),
                labels=None if labels is None else labels.to(device),
                use_cache=False,
                **edge_inputs,
            )
        gates = generated.gates
        cv_loss = output.logits.new_zeros(()) if gates is None else load_balance(gates, self.config)
        return LoraGenOutput(
            loss=None if labels is None else output.loss + cv_loss.to(output.loss.device),
            lm_loss=output.loss,
            cv_loss=cv_loss,
            logits=output.logits,
            gates=gates,
        )

    def assemble(self, system_prompt_ids: Tensor, system_prompt_mask: Tensor | None = None) -> Generated:
        """Return the LoRAs of a batch of system prompts, with gradients; shapes as in `forward`."""
        generated: Generated = self.generator(self.encoder(system_prompt_ids, system_prompt_mask))
        return generated

    def using(self, generated: Generated) -> AbstractContextManager[None]:
        """Return a context in which `edge` has the LoRAs: one for all samples, or one for each.

        For example ``with lora_gen.using(lora_gen.assemble(prompt)): lora_gen.edge.generate(...)``. If there are
        several rows per LoRA, equally many consecutive rows share one, as the beams of a search. Outside of the context
        `edge` is the original model.

        Raises:
            ValueError: the edge model was released.
        """
        return self._adapted.using(generated)

    @torch.no_grad()
    def generate(self, system_prompt: str | Sequence[int] | Tensor) -> GeneratedAdapter:
        """Return the peft adapter of one system prompt, computed in evaluation mode.

        Args:
            system_prompt: text, which is tokenised with special tokens; or tokens of the cloud's vocabulary, shape
                (tokens,) or (1, tokens).

        Raises:
            ValueError: text was given without a tokenizer, or several prompts.
        """
        return to_adapter(self.read(system_prompt), self._adapted, self.config)

    @torch.no_grad()
    def read(self, system_prompt: str | Sequence[int] | Tensor) -> Generated:
        """Return the LoRA of one system prompt for `using`; arguments and errors as in `generate`.

        An empty system prompt is allowed: the cloud then reads the meta tokens only.
        """
        if isinstance(system_prompt, str):
            if self.tokenizer is None:
                raise ValueError("a system prompt given as text needs the cloud's tokenizer; give it to LoraGen")
            system_prompt = self.tokenizer(system_prompt)["input_ids"]
        ids = torch.as_tensor(system_prompt, dtype=torch.long)
        with _evaluating(self.encoder, self.generator):
            return self.assemble(ids[None] if ids.ndim == 1 else ids)

    def merge(self, generated: Generated) -> None:
        """Add the LoRA of one system prompt to `edge`'s weights, until `unmerge`; errors as in `generate`."""
        self._adapted.merge(generated)

    def unmerge(self) -> None:
        """Restore the weights of `edge`, bit for bit."""
        self._adapted.unmerge()

    def release_edge(self) -> PreTrainedModel:
        """Unwrap the edge model and return it, frozen; LoRAs can still be generated."""
        return self._adapted.release()

    def gradient_checkpointing_enable(self) -> None:
        """Recompute the activations of both models in the backward pass, to save memory."""
        self._adapted.enable_checkpointing()
        base = cast(PreTrainedModel, self.encoder.cloud.get_base_model())
        base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the trained parameters and BatchNorm's running statistics, without the weights of the two models."""
        cloud = get_peft_model_state_dict(self.encoder.cloud)
        state = {_META: self.encoder.meta_embedding.detach()}
        state |= {_CLOUD + name: tensor for name, tensor in cloud.items()}
        state |= {_GENERATOR + name: tensor for name, tensor in self.generator.state_dict().items()}
        return {name: tensor.detach().contiguous() for name, tensor in state.items()}

    @torch.no_grad()
    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trainable_state` returned.

        Raises:
            ValueError: it is from other models or options; nothing is changed.
        """
        here = self.trainable_state()
        for name in sorted(here.keys() | state.keys()):
            mine, theirs = (list(each[name].shape) if name in each else "missing" for each in (here, state))
            if mine != theirs:
                raise ValueError(
                    f"the weights are from other models or options: {name} is {theirs} there and {mine} here; "
                    "give the cloud and the edge model they were trained with"
                )
        self.encoder.meta_embedding.copy_(state[_META])
        self.generator.load_state_dict(_part(state, _GENERATOR))
        set_peft_model_state_dict(self.encoder.cloud, _part(state, _CLOUD))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write options and trained parts, without the cloud and edge models."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save(folder)
        save_file({name: tensor.cpu() for name, tensor in self.trainable_state().items()}, folder / WEIGHTS_FILE)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        cloud: PreTrainedModel,
        edge: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Self:
        """Load what `save_pretrained` wrote onto the models it was trained with, in evaluation mode.

        Raises:
            ValueError: the folder has other files, or was written for other models.
        """
        folder = Path(folder)
        config = LoraGenConfig.load(folder)
        if not (folder / WEIGHTS_FILE).is_file():
            raise ValueError(f"{folder} has no {WEIGHTS_FILE}; name a folder that LoraGen.save_pretrained wrote")
        model = cls(cloud, edge, config, tokenizer)
        model.load_trainable_state(load_file(folder / WEIGHTS_FILE))
        return model.eval()

    def parameter_counts(self) -> LoraGenParameterCounts:
        """Count the parameters of each part."""
        state = get_peft_model_state_dict(self.encoder.cloud)
        rank = self.config.delivered_rank
        return LoraGenParameterCounts(
            cloud_lora=sum(tensor.numel() for tensor in state.values()),
            meta_embedding=self.encoder.meta_embedding.numel(),
            routers=_numbers(self.generator.routers),
            experts=_numbers(self.generator.pools) + _numbers(self.generator.heads),
            delivered=sum(rank * sum(shape) for layer in self._adapted.shapes for shape in layer.values()),
        )


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


@contextmanager
def _evaluating(*roots: nn.Module) -> Iterator[None]:
    """Set modules to evaluation mode, and restore the mode of each afterwards."""
    before = [(module, module.training) for root in roots for module in root.modules()]
    for root in roots:
        root.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
