"""The cloud: a language model that encodes a system prompt into meta tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from parbench.methods.from_peft.tuner import keeping_precision
from parbench.methods.selection import Selection, adapted_modules

from .config import LoraGenConfig

# Rows of a vocabulary from which its mean and standard deviation are estimated.
_SAMPLED_EMBEDDINGS = 4096


class MetaTokenEncoder(nn.Module):
    """Turns a system prompt into one vector T_i for each layer i of the edge model (section 3.2).

    L meta tokens follow the prompt in one causal forward pass; T_i is the last hidden state, after the final norm, at
    the i-th of them. The meta tokens are embeddings of their own, passed as ``inputs_embeds``: the cloud's
    vocabulary and tokenizer do not change.

    Attributes:
        cloud: the causal language model, frozen, with a trainable LoRA on query and value.
        meta_embedding: shape (1, width), or (L, width) where each layer has its own.
        hidden: d_c, the width of T_i.
    """

    def __init__(self, cloud: PreTrainedModel, layers: int, config: LoraGenConfig) -> None:
        """Put a LoRA into ``cloud`` (changed in place) and make ``layers`` meta tokens.

        Raises:
            ValueError: the cloud is not a causal language model, has an adapter already, or lacks a target of the LoRA.
        """
        super().__init__()
        if isinstance(cloud, PeftModel) or getattr(cloud, "peft_config", None):
            raise ValueError("the cloud model has an adapter already; merge it first, or load the plain model")
        if not cloud.can_generate() or cloud.config.is_encoder_decoder:
            raise ValueError(
                f"the cloud model is a {type(cloud).__name__}; load it with AutoModelForCausalLM, since only a causal "
                "model's meta tokens see what precedes them"
            )
        self.hidden: int = cloud.get_output_embeddings().weight.shape[1]
        self.layers = layers
        self.meta_embedding = nn.Parameter(
            _like_vocabulary(cloud, layers if config.meta_embedding == "distinct" else 1)
        )
        lora = LoraConfig(
            r=config.cloud_r,
            lora_alpha=config.cloud_alpha,
            lora_dropout=config.cloud_dropout,
            target_modules=_query_and_value(cloud, config),
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in cloud.modules()),
            task_type="CAUSAL_LM",
        )
        selection = Selection(modules={"cloud_target_modules": config.cloud_target_modules or ()})
        selection.check_names(cloud)
        self.cloud = cast(PeftModel, get_peft_model(cloud, lora))
        selection.check_adapted(adapted_modules(self.cloud))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # The meta tokens stay in float32 when the whole model is cast to 16 bits; the cloud's own weights do not.
        for child in self.children() if recurse else ():
            child._apply(fn)
        return super()._apply(keeping_precision(fn), recurse=False)

    def forward(self, prompt_ids: Tensor, prompt_mask: Tensor | None = None) -> Tensor:
        """Return T, shape (batch, L, d_c), in the cloud's precision.

        Args:
            prompt_ids: tokens of the cloud's vocabulary, shape (batch, tokens).
            prompt_mask: 1 for a token, 0 for padding on either side; default: all are tokens.

        Raises:
            ValueError: prompt and meta tokens exceed the positions of the cloud.
        """
        device = self.meta_embedding.device
        ids = prompt_ids.to(device)
        real = torch.ones_like(ids, dtype=torch.bool) if prompt_mask is None else prompt_mask.to(device).bool()
        lengths = real.sum(dim=1)
        # Padding is moved behind the meta tokens: a causal mask hides it there, and positions start at 0 for any
        # architecture.
        order = torch.argsort((~real).int(), dim=1, stable=True)
        longest = ids.shape[1] if prompt_mask is None else int(lengths.max())
        self._check_length(longest)
        model = cast(PreTrainedModel, self.cloud.get_base_model())
        words = model.get_input_embeddings()(ids.gather(1, order)[:, :longest])
        count, width = len(ids), words.shape[2]
        positions = lengths[:, None] + torch.arange(self.layers, device=device)
        embeddings = torch.cat([words, words.new_zeros(count, self.layers, width)], dim=1).scatter(
            1,
            positions[:, :, None].expand(-1, -1, width),
            self.meta_embedding.to(words.dtype).expand(count, self.layers, width),
        )
        seen = torch.arange(longest + self.layers, device=device) < (lengths + self.layers)[:, None]
        # The model without its head: logits are not needed, and those of a long prompt are large.
        states = model.base_model(inputs_embeds=embeddings, attention_mask=seen.long(), use_cache=False)
        hidden: Tensor = states.last_hidden_state
        return hidden.gather(1, positions[:, :, None].to(hidden.device).expand(-1, -1, self.hidden))

    def _check_length(self, prompt: int) -> None:
        allowed = getattr(self.cloud.config.get_text_config(), "max_position_embeddings", None)
        if allowed is not None and prompt + self.layers > allowed:
            raise ValueError(
                f"a system prompt of {prompt} tokens and {self.layers} meta tokens exceed the cloud model's "
                f"{allowed} positions; shorten it to {allowed - self.layers} tokens"
            )


@torch.no_grad()
def _like_vocabulary(cloud: PreTrainedModel, count: int) -> Tensor:
    """Draw embeddings with the mean and standard deviation of the vocabulary, shape (count, width), at least float32.

    Statistics are those of the embedding module's output, since some modules scale their weight.
    """
    embedding = cloud.get_input_embeddings()
    weight = cast(Tensor, embedding.weight)
    size = len(weight)
    some = torch.linspace(0, size - 1, min(size, _SAMPLED_EMBEDDINGS), device=weight.device).long()
    words = embedding(some)
    words = words.to(torch.promote_types(words.dtype, torch.float32))
    return words.mean(dim=0) + words.std(dim=0) * words.new_empty(count, words.shape[1]).normal_()


def _query_and_value(cloud: PreTrainedModel, config: LoraGenConfig) -> list[str]:
    """Return the targets of the LoRA: from the options, else query and value, else peft's defaults."""
    if config.cloud_target_modules is not None:
        return list(config.cloud_target_modules)
    present = {name.rpartition(".")[2] for name, _ in cloud.named_modules()}
    if {"q_proj", "v_proj"} <= present:
        return ["q_proj", "v_proj"]
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(cloud.config.model_type)
    if not known:
        raise ValueError(
            f"the query and value projections of a {type(cloud).__name__} are not known here; name them in "
            "cloud_target_modules"
        )
    return list(known)
